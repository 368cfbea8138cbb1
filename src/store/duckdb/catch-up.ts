import type { DuckDBConnection } from '@duckdb/node-api'
import type { SourcesLease, StoreFiles } from './files.ts'
import { firstLate, recompute } from './recompute.ts'
import { field, levelWidth, stateWidth, type SeriesState } from './series-state.ts'
import { lastTimeUs } from './sql.ts'
import type { Stage } from './stage.ts'

/**
 * What the staged rows of a commit ask for once they are in its open transaction: buckets are computed again, and late rows looked up that wait for
 * the next ones. Leases go to `leases`, to be released when the transaction has ended.
 */
export async function catchUp(
  parts: {
    readonly writer: DuckDBConnection
    readonly stage: Stage
    readonly state: SeriesState
    readonly files: StoreFiles
    readonly leases: SourcesLease[]
  },
  gen: number,
): Promise<void> {
  const { writer, stage, state, files, leases } = parts
  if (!stage.ranges.empty) {
    const lease = await files.lease([{ kind: 'raw', ...stage.ranges.span }], stage.ranges.series)
    leases.push(lease)
    await recompute(writer, lease.sources, stage.ranges, gen)
  }
  for (const level of ['minute', 'hour'] as const) {
    const ids = [...stage.refine].filter(([, levels]) => levels.has(level)).map(([id]) => id)
    if (ids.length === 0) continue
    const closed = field.closed + (level === 'hour' ? levelWidth : 0)
    const fromUs = ids.map((id) => state.cells[id * stateWidth + closed]!)
    const need = { kind: 'raw', fromUs: fromUs.reduce((a, b) => Math.min(a, b)), toUs: lastTimeUs } as const
    const lease = await files.lease([need], ids)
    leases.push(lease)
    const found = await firstLate(writer, lease.sources, ids, fromUs)
    for (const id of ids) stage.refined(id, level, found.get(id))
  }
}
