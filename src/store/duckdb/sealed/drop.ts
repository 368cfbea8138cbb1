import type { DuckDBConnection } from '@duckdb/node-api'
import { integers } from '../sql.ts'
import type { Kind } from './format.ts'
import { rangeOf, type Partition } from './partition.ts'
import { rowsOf } from './scan.ts'

/** Series whose rows are left out where a file is written: they were erased, or a rule of retention ends them before the others. */
export interface Drop {
  readonly ids: readonly number[]
  /** Of each kind: in partitions that end at or before it; microseconds. Absent: in none. */
  readonly beforeUs: Readonly<Partial<Record<Kind, number>>>
}

/** Of all partitions; infinity is no JSON. */
const everUs = Number.MAX_SAFE_INTEGER

/** What drops all that series ever had. */
export function dropAll(ids: readonly number[]): Drop {
  return { ids, beforeUs: { raw: everUs, '1m': everUs, '1h': everUs } }
}

/** The series that a file of this kind and partition is to be without. */
export function droppedOf(drops: readonly Drop[], partition: Partition, kind: Kind): readonly number[] {
  const { toUs } = rangeOf(partition)
  const due = drops.filter(({ ids, beforeUs }) => ids.length > 0 && toUs <= (beforeUs[kind] ?? 0))
  return due.length === 1 ? due[0]!.ids : [...new Set(due.flatMap(({ ids }) => ids))]
}

/**
 * Names the dropped series in a temporary table of the connection, and returns the condition that leaves them out (it begins with AND), or '' when
 * there are none. The table stands until the next call for this kind.
 */
export async function leaveOut(c: DuckDBConnection, ids: readonly number[], kind: Kind): Promise<string> {
  if (ids.length === 0) return ''
  await c.run(`CREATE OR REPLACE TEMP TABLE gone_${kind} AS SELECT ${integers(ids, 'UINTEGER')} AS series`)
  return `AND series NOT IN (SELECT series FROM gone_${kind})`
}

/** Whether an attached file has rows of the series that `leaveOut` was last called with. */
export async function holdsDropped(c: DuckDBConnection, catalog: string, kind: Kind): Promise<boolean> {
  const tables = kind === 'raw' ? ['columns', 'late', 'texts'] : ['packed', 'plain', 'corrected', 'bins']
  // Files of earlier versions have no bins.
  const present = await rowsOf(c, `SELECT table_name FROM duckdb_tables() WHERE database_name = '${catalog}'`)
  for (const table of tables) {
    if (!present.some(([name]) => name === table)) continue
    const found = await rowsOf(c, `SELECT 1 FROM ${catalog}.${table} WHERE series IN (SELECT series FROM gone_${kind}) LIMIT 1`)
    if (found.length > 0) return true
  }
  return false
}
