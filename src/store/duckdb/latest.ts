import { BatchBuilder } from '../../core/batch-builder.ts'
import { Flag, type Batch, type SeriesKey } from '../../core/batch.ts'
import type { SeriesMatch } from '../../core/ports.ts'
import type { Dictionary } from './dictionary.ts'
import type { StoreFiles } from './files.ts'
import type { Ledger } from './ledger.ts'
import { field, stateWidth, type SeriesState } from './series-state.ts'

/** The last reading of each series that matches, from the series' state; only texts are read from files. To be called between two commits. */
export async function latestOf(
  parts: { readonly dictionary: Dictionary; readonly state: SeriesState; readonly files: StoreFiles; readonly ledger: Ledger },
  match: SeriesMatch,
): Promise<Batch> {
  const { dictionary, files, ledger } = parts
  const { cells } = parts.state
  const ids = dictionary.match(match)
  const keys: SeriesKey[] = []
  const builder = new BatchBuilder(keys, Math.max(1, ids.length))
  const withText: (readonly [id: number, timeUs: number])[] = []
  for (const id of ids) {
    const at = id * stateWidth
    const latest = at + (cells[at + field.last]! === Number.NEGATIVE_INFINITY ? field.aheadLast : field.last)
    if (cells[latest]! === Number.NEGATIVE_INFINITY) continue
    if ((cells[latest + 2]! & Flag.text) !== 0) withText.push([id, cells[latest]!])
    builder.add(keys.push(dictionary.keys[id]!) - 1, cells[latest]!, cells[latest + 1]!, cells[latest + 2]!)
  }
  const batch = builder.view()
  if (withText.length === 0) return batch
  const [series, times] = [withText.map(([id]) => id), withText.map(([, timeUs]) => timeUs)]
  const [fromUs, toUs] = [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b)) + 1]
  const lease = await files.lease([{ kind: 'raw', fromUs, toUs }], series)
  const texts = await ledger.texts(lease.sources, series, times).finally(() => lease.release())
  const text = new Map<number, string>()
  keys.forEach((key, row) => {
    const found = texts.get(dictionary.id(key))
    if (found !== undefined) text.set(row, found)
  })
  return { ...batch, text }
}
