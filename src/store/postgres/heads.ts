import { BatchBuilder } from '../../core/batch-builder.ts'
import { Flag, type Batch, type SeriesKey } from '../../core/batch.ts'
import { limits } from '../../core/limits.ts'
import type { SeriesInfo, SeriesMatch, SeriesPage } from '../../core/ports.ts'
import type { Postgres } from '../pg/client.ts'
import { place } from './series-cache.ts'
import { matched, matching, reading, type Reading } from './reading.ts'
import { ints, microseconds } from './sql.ts'

/** Series of one statement. */
const atOnce = 10_000

/** The last reading of each series: with a plausible time, else any. */
export async function latestOf(db: Postgres, match: SeriesMatch, signal: AbortSignal): Promise<Batch> {
  for await (const batch of reading(db, signal, (from) => latestIn(from, match))) return batch
  return new BatchBuilder([]).view()
}

async function* latestIn(from: Reading, match: SeriesMatch): AsyncGenerator<Batch, void, void> {
  const { ids, keys } = await matched(from.client, match, limits.seriesMax)
  const found: SeriesKey[] = []
  const builder = new BatchBuilder(found, Math.max(1, ids.length))
  for (let first = 0; first < ids.length; first += atOnce) {
    const some = ids.subarray(first, first + atOnce)
    const newest = (where: string): string =>
      `(SELECT time, value, flags, text FROM readings WHERE series = s.id AND ${where} ORDER BY time DESC LIMIT 1)`
    const sql = `SELECT s.rank, coalesce(r.time, a.time), CASE WHEN r.time IS NULL THEN a.value ELSE r.value END,
        coalesce(r.flags, a.flags), CASE WHEN r.time IS NULL THEN a.text ELSE r.text END
      FROM unnest(${ints(some)}) WITH ORDINALITY AS s (id, rank) LEFT JOIN LATERAL ${newest(`flags & ${Flag.clockAhead} = 0`)} r ON true
      LEFT JOIN LATERAL ${newest('r.time IS NULL')} a ON true WHERE coalesce(r.time, a.time) IS NOT NULL ORDER BY s.rank`
    for await (const { rows, numbers, texts } of from.pages({ sql, types: ['int8', 'time', 'float8', 'int2', 'text'] }, limits.queryPageRows)) {
      for (let i = 0; i < rows; i++) {
        const series = found.push(keys[first + numbers[0]![i]! - 1]!) - 1
        const text = texts[4]!.get(i)
        if (text === undefined) builder.add(series, numbers[1]![i]!, numbers[2]![i]!, numbers[3]![i]!)
        else builder.addText(series, numbers[1]![i]!, text, numbers[3]![i]!)
      }
    }
  }
  yield builder.view()
}

interface Info extends SeriesKey {
  readonly first: string
  readonly last: string
}

export async function seriesOf(db: Postgres, match: SeriesMatch, signal: AbortSignal, page: SeriesPage | undefined): Promise<readonly SeriesInfo[]> {
  const infos: SeriesInfo[] = []
  for await (const some of reading(db, signal, (from) => seriesIn(from, match, page))) infos.push(...some)
  return infos
}

/** By `place`, a few thousand at a time. */
async function* seriesIn({ client }: Reading, match: SeriesMatch, page: SeriesPage | undefined): AsyncGenerator<readonly SeriesInfo[], void, void> {
  const { where, values } = matching(match)
  let after = page?.after === undefined ? undefined : { place: place(page.after.device, page.after.metric), id: undefined as number | undefined }
  for (let left = page?.limit ?? Number.POSITIVE_INFINITY; left > 0;) {
    const behind =
      after === undefined
        ? 'true'
        : after.id === undefined
          ? `place > $${values.length + 1}`
          : `(place, id) > ($${values.length + 1}, $${values.length + 2})`
    const parameters = [...values, ...(after === undefined ? [] : after.id === undefined ? [after.place] : [after.place, after.id])]
    const { rows } = await client.query<Info & { readonly id: number; readonly place: Buffer }>(
      `SELECT s.id, s.place, s.tenant, s.device, s.metric, ${microseconds('s.first')} AS first, ${microseconds('r.time')} AS last
        FROM (SELECT * FROM series WHERE ${where} AND ${behind} ORDER BY place, id LIMIT ${Math.min(left, atOnce)}) s
        CROSS JOIN LATERAL (SELECT time FROM readings WHERE series = s.id ORDER BY time DESC LIMIT 1) r ORDER BY s.place, s.id`,
      parameters,
    )
    yield rows.map(({ tenant, device, metric, first, last }) => ({ key: { tenant, device, metric }, firstUs: Number(first), lastUs: Number(last) }))
    const end = rows.at(-1)
    if (end === undefined) return
    after = { place: end.place, id: end.id }
    left -= rows.length
  }
}
