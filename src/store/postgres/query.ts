import type { SeriesKey } from '../../core/batch.ts'
import { bordersWithin, isBucketed } from '../../core/buckets.ts'
import { calendarBorders } from '../../core/calendar.ts'
import { limits } from '../../core/limits.ts'
import type { QueryPage, RangeQuery } from '../../core/ports.ts'
import { compareKeys } from '../dictionary.ts'
import type { Postgres } from '../pg/client.ts'
import { checkQuery } from '../query-checks.ts'
import { bucketPages } from './buckets.ts'
import type { Columns } from './copy-out.ts'
import { bucketSql, cutAtPosition, edgeSql, rawSql, type RangeScope } from './range-sql.ts'
import { matched, reading, type Reading } from './reading.ts'

/** Rows of few series are found by so many walks along the index, each of which ends at the limit. */
const walkedSeriesMax = 16
const walkedRowsMax = limits.queryRowsMax + 1
/** Those of many are looked for in windows, as all of a window are sorted: wider where there is little, narrower where there is much. */
const firstWindowUs = 600e6
const fewRows = 10_000
const manyRows = 200_000
const widerBy = 8

/**
 * Runs one range query, in pages of `queryPageRows`, over one moment of the store. What a door can ask for (`queryRowsMax`) is read as a whole before
 * the first
 * page is given: however slow its reader, the connection is free again.
 */
export async function* runRange(db: Postgres, query: RangeQuery, signal: AbortSignal): AsyncGenerator<QueryPage, void, void> {
  checkQuery(query)
  if (query.limit <= 0) return
  const pages = reading(db, signal, (from) => pagesOf(from, query))
  if (query.limit > walkedRowsMax) {
    yield* pages
    return
  }
  const all: QueryPage[] = []
  for await (const page of pages) all.push(page)
  yield* all
}

async function* pagesOf(from: Reading, query: RangeQuery): AsyncGenerator<QueryPage, void, void> {
  const { ids, keys, goneUs } = await matched(from.client, query.match, limits.querySeriesMax)
  const bucketed = isBucketed(query)
  const times = { fromUs: Math.max(0, Math.ceil(query.fromUs)), toUs: Math.min(limits.timeUsMax, Math.ceil(query.toUs)) }
  const cut = cutAtPosition(query, times.fromUs, times.toUs, bucketed)
  const scope: RangeScope = { query, ids, goneUs, ...cut, rank: rankAfter(query, keys), borders: undefined }
  if (ids.length === 0 || scope.fromUs >= scope.toUs) return
  if (bucketed) yield* buckets(from, scope, keys)
  else if (ids.length <= walkedSeriesMax && query.limit <= walkedRowsMax) yield* rawPages(from, scope, keys, query.limit)
  else yield* windows(from, scope, keys)
}

/** With which rank an answer goes on at the time of its position. */
function rankAfter({ after, order }: RangeQuery, keys: readonly SeriesKey[]): number {
  if (after === undefined) return 0
  const below = keys.findIndex((key) => compareKeys(key, after) >= 0)
  if (below < 0) return keys.length
  return order === 'asc' && compareKeys(keys[below]!, after) === 0 ? below + 1 : below
}

async function* buckets(from: Reading, scope: RangeScope, keys: readonly SeriesKey[]): AsyncGenerator<QueryPage, void, void> {
  const { query, ids } = scope
  let { fromUs, toUs } = scope
  let grid: Float64Array | undefined
  if (query.gaps !== undefined) {
    // Every bucket has a row for every series: one that a page begins in the middle of, and as many as the rest of it takes.
    grid = bordersWithin(query, fromUs, toUs, 1 + Math.ceil(query.limit / ids.length))
    ;[fromUs, toUs] = [Math.max(fromUs, grid[0]!), Math.min(toUs, grid.at(-1)!)]
  } else if (query.calendar !== undefined) {
    // A calendar without an end has as many borders as it has days.
    const first = await edge(from, { ids, fromUs, toUs }, 'first')
    if (first === undefined) return
    const last = (await edge(from, { ids, fromUs: first, toUs }, 'last')) ?? first
    // By whole buckets; the position's own among them.
    const whole = calendarBorders(query.calendar, first, last + 1)
    ;[fromUs, toUs] = [Math.max(fromUs, whole[0]!), Math.min(toUs, whole.at(-1)!)]
  }
  const borders = query.calendar === undefined ? undefined : (grid ?? calendarBorders(query.calendar, fromUs, toUs))
  const narrowed: RangeScope = { ...scope, fromUs, toUs, borders }
  const statement = bucketSql(narrowed, grid === undefined ? query.limit : (grid.length - 1) * ids.length)
  yield* bucketPages(from.pages(statement, limits.queryPageRows), statement, narrowed, keys, grid)
}

async function edge(from: Reading, scope: Pick<RangeScope, 'ids' | 'fromUs' | 'toUs'>, which: 'first' | 'last'): Promise<number | undefined> {
  let found: number | undefined
  for await (const page of from.pages(edgeSql(scope, which), 1)) found = page.numbers[0]![0]!
  return found === undefined || Number.isNaN(found) ? undefined : found
}

/** Window by window. Where one has nothing, the next begins at the next reading. */
async function* windows(from: Reading, scope: RangeScope, keys: readonly SeriesKey[]): AsyncGenerator<QueryPage, void, void> {
  const up = scope.query.order === 'asc'
  let { fromUs, toUs } = scope
  let left = scope.query.limit
  let found = 0
  for (let widthUs = firstWindowUs; left > 0 && fromUs < toUs;) {
    if (found === 0) {
      const next = await edge(from, { ids: scope.ids, fromUs, toUs }, up ? 'first' : 'last')
      if (next === undefined) return
      if (up) fromUs = next
      else toUs = next + 1
    }
    const window = up ? { fromUs, toUs: Math.min(toUs, fromUs + widthUs) } : { fromUs: Math.max(fromUs, toUs - widthUs), toUs }
    found = 0
    for await (const page of rawPages(from, { ...scope, ...window }, keys, left)) {
      found += page.rows
      yield page
    }
    left -= found
    if (up) fromUs = window.toUs
    else toUs = window.fromUs
    if (found < fewRows) widthUs *= widerBy
    else if (found > manyRows) widthUs = Math.max(1e6, Math.floor(widthUs / widerBy))
  }
}

async function* rawPages(from: Reading, scope: RangeScope, keys: readonly SeriesKey[], limit: number): AsyncGenerator<QueryPage, void, void> {
  for await (const page of from.pages(rawSql(scope, limit), limits.queryPageRows)) yield rawPage(page, keys)
}

function rawPage({ rows, numbers, texts }: Columns, keys: readonly SeriesKey[]): QueryPage {
  const [rank, time, value, flags] = numbers
  const [text, meta] = [texts[4]!, texts[5]!]
  return {
    rows,
    keys,
    series: Uint32Array.from(rank!),
    timeUs: time!,
    columns: { value: value! },
    flags: Uint8Array.from(flags!),
    ...(text.size === 0 ? {} : { text }),
    ...(meta.size === 0 ? {} : { meta }),
  }
}
