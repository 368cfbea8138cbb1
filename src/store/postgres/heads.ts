import { BatchBuilder } from '../../core/batch-builder.ts'
import { Flag, type Batch, type SeriesKey } from '../../core/batch.ts'
import { limits } from '../../core/limits.ts'
import type { SeriesInfo, SeriesMatch, SeriesPage } from '../../core/ports.ts'
import type { Postgres } from '../pg/client.ts'
import { place } from './adopt.ts'
import { deviceSql, wideSql } from './layout.ts'
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
    const sql = `SELECT * FROM (${[
      ...(some.some((id) => id > 0) ? [latestSamples(some)] : []),
      ...(some.some((id) => id < 0) ? [latestMessages(some)] : []),
    ].join(' UNION ALL ')}) r ORDER BY rank`
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

const listed = (ids: Int32Array): string => `unnest(${ints(ids)}) WITH ORDINALITY AS s (id, rank)`

function latestSamples(ids: Int32Array): string {
  const newest = (where: string): string =>
    `(SELECT time, value, flags, text FROM samples WHERE series = s.id AND ${where} ORDER BY time DESC LIMIT 1)`
  return `SELECT s.rank, ${firstOf(['r', 'a', 'h'])} FROM ${listed(ids)} LEFT JOIN LATERAL ${newest(`flags & ${Flag.clockAhead} = 0`)} r ON true
    LEFT JOIN LATERAL ${newest('r.time IS NULL')} a ON true ${ofHours('r.time IS NULL AND a.time IS NULL')}
    WHERE s.id > 0 AND coalesce(r.time, a.time, h.time) IS NOT NULL`
}

/** Columns of the first of these rows that is there. */
function firstOf(names: readonly string[]): string {
  const of = (column: string): string =>
    `CASE ${names.map((name) => `WHEN ${name}.time IS NOT NULL THEN ${name}.${column}`).join(' ')} END AS ${column}`
  return ['time', 'value', 'flags', 'text'].map(of).join(', ')
}

/** Where retention has taken the readings, the last number is still known. */
function ofHours(where: string): string {
  return `LEFT JOIN LATERAL (SELECT last_time AS time, last AS value, 0::int2 AS flags, NULL::text AS text FROM rollup_1h
    WHERE series = s.id AND ${where} ORDER BY bucket DESC LIMIT 1) h ON true`
}

/** In the hour that `series` says, and only where nothing is left of it, in all: a device may have sent much since it last sent this. */
function latestMessages(ids: Int32Array): string {
  const { value, flags, text, there } = wideSql('s.id', 'm')
  const newest = (where: string): string => `(SELECT m.time, ${value} AS value, ${flags} AS flags, ${text} AS text
    FROM messages m WHERE m.device = ${deviceSql('s.id')} AND ${there} AND ${where} ORDER BY m.time DESC LIMIT 1)`
  const plausible = `${flags} & ${Flag.clockAhead} = 0`
  return `SELECT s.rank, ${firstOf(['r', 'o', 'a', 'h'])} FROM ${listed(ids)} JOIN series x ON x.id = s.id
    LEFT JOIN LATERAL ${newest(`${plausible} AND m.time >= x.seen AND m.time < x.seen + interval '1 hour'`)} r ON true
    LEFT JOIN LATERAL ${newest(`r.time IS NULL AND m.time < x.seen AND ${plausible}`)} o ON true
    LEFT JOIN LATERAL ${newest('r.time IS NULL AND o.time IS NULL')} a ON true ${ofHours('r.time IS NULL AND o.time IS NULL AND a.time IS NULL')}
    WHERE s.id < 0 AND coalesce(r.time, o.time, a.time, h.time) IS NOT NULL`
}

/** The newest reading of series `s`, whatever its clock. */
function lastTime(): string {
  const { there } = wideSql('s.id', 'm')
  const newest = (where: string): string =>
    `(SELECT m.time FROM messages m WHERE s.id < 0 AND m.device = ${deviceSql('s.id')} AND ${there} AND ${where} ORDER BY m.time DESC LIMIT 1)`
  return `coalesce((SELECT time FROM samples WHERE series = s.id AND s.id > 0 ORDER BY time DESC LIMIT 1),
    ${newest(`m.time >= greatest(s.seen, s.ahead) AND m.time < greatest(s.seen, s.ahead) + interval '1 hour'`)}, ${newest('true')},
    (SELECT last_time FROM rollup_1h WHERE series = s.id ORDER BY bucket DESC LIMIT 1))`
}

interface Info extends SeriesKey {
  readonly first: string
  /** NULL: all its readings have gone. */
  readonly last: string | null
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
        CROSS JOIN LATERAL (SELECT ${lastTime()} AS time OFFSET 0) r ORDER BY s.place, s.id`,
      parameters,
    )
    const infos = rows.flatMap(({ tenant, device, metric, first, last }) =>
      last === null ? [] : [{ key: { tenant, device, metric }, firstUs: Number(first), lastUs: Number(last) }],
    )
    if (infos.length > 0) yield infos
    const end = rows.at(-1)
    if (end === undefined) return
    after = { place: end.place, id: end.id }
    left -= infos.length
  }
}
