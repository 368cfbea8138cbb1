import type { SeriesKey } from '../../core/batch.ts'
import { limits } from '../../core/limits.ts'
import type { Aggregation, RangeQuery } from '../../core/ports.ts'
import { compareKeys } from './dictionary.ts'
import { hot, rollupTables } from './schema.ts'
import { field, levelWidth, stateWidth } from './series-state.ts'
import { bucketOf, integers, rollupOfRows, timestamp } from './sql.ts'

const minuteUs = 60e6
const hourUs = 3600e6
/** Series whose rollups end this much before those of the others are read apart, so that they do not make all others read rows. */
const behindUs = 2 * hourUs

/** Statements whose columns are: place in `keys`, time (TIMESTAMP), then `columns` as DOUBLE; raw ones end with flags, text and meta. */
export interface RangePlan {
  /** To be run one after the other until there are enough rows; each is told how many are still wanted. */
  readonly statements: readonly ((limit: number) => string)[]
  readonly keys: readonly SeriesKey[]
  readonly columns: readonly string[]
  readonly raw: boolean
  /** Raw: whether the columns text and meta are there. */
  readonly texts: boolean
}

const firstWindowUs = 10 * minuteUs
const widerWindow = 8
/** Up to this many rows are looked for window by window; more are streamed from the whole range. */
export const windowedRowsMax = limits.queryRowsMax + 1

interface Scope {
  readonly query: RangeQuery
  /** Ids in the order of their keys. */
  readonly ids: Uint32Array
  readonly keys: readonly SeriesKey[]
  readonly cells: Float64Array
  readonly fromUs: number
  readonly toUs: number
}

/** Undefined: nothing can match. `ids` in the order of (device, metric); `cells` as of the transaction that will run the plan. */
export function planRange(query: RangeQuery, ids: Uint32Array, allKeys: readonly SeriesKey[], cells: Float64Array): RangePlan | undefined {
  const keys = Array.from(ids, (id) => allKeys[id]!)
  const { stepUs, after, order } = query
  let fromUs = Math.ceil(query.fromUs)
  let toUs = Math.ceil(query.toUs)
  // Nothing lies outside of what the series have; a page starts where the one before it ended.
  let first = Number.POSITIVE_INFINITY
  let last = Number.NEGATIVE_INFINITY
  for (const id of ids) {
    const at = id * stateWidth
    first = Math.min(first, cells[at + field.first]!)
    last = Math.max(last, cells[at + field.last]!, cells[at + field.lateLast]!)
  }
  fromUs = Math.max(fromUs, first)
  toUs = Math.min(toUs, last + 1)
  if (after !== undefined) {
    if (order === 'asc') fromUs = Math.max(fromUs, after.timeUs)
    else toUs = Math.min(toUs, after.timeUs + (stepUs ?? 1))
  }
  if (ids.length === 0 || fromUs >= toUs || query.limit <= 0) return undefined
  const scope: Scope = { query, ids, keys, cells, fromUs, toUs }
  return stepUs === undefined ? planRaw(scope) : planBuckets(scope, stepUs)
}

function planRaw(scope: Scope): RangePlan {
  const { query, ids, cells, fromUs, toUs } = scope
  const direction = query.order === 'asc' ? 'ASC' : 'DESC'
  const places = ranks(ids)
  const after = afterClause(scope, 'r.ts', 'm.rank')
  let traits = 0
  for (const id of ids) traits |= cells[id * stateWidth + field.traits]!
  const texts = traits !== 0 || lateIds(scope, fromUs, toUs).length > 0
  const statement = (from: number, to: number): ((limit: number) => string) => {
    const found = rows(ids, from, to, lateIds(scope, from, to), texts)
    return (limit) => {
      const limited = `SELECT r.series, m.rank, r.ts, r.v, r.flags${texts ? ', r.src, r.text, r.meta' : ''} FROM (${found}) r
        JOIN m ON m.series = r.series ${after} ORDER BY r.ts ${direction}, m.rank ${direction} LIMIT ${limit}`
      if (!texts) return `WITH m AS (${places}) SELECT rank, ts, v, flags FROM (${limited}) ORDER BY ts ${direction}, rank ${direction}`
      return `WITH m AS (${places}), q AS (${limited})
        SELECT q.rank, q.ts, q.v, q.flags, coalesce(q.text, x.text) AS text, coalesce(q.meta, x.meta) AS meta FROM q LEFT JOIN (
          SELECT series, ts, text, meta, 0 AS src FROM ${hot}.texts WHERE ts >= ${timestamp(from)} AND ts < ${timestamp(to)}) x
        ON q.series = x.series AND q.ts = x.ts AND q.src = x.src ORDER BY q.ts ${direction}, q.rank ${direction}`
    }
  }
  const ranges = query.limit > windowedRowsMax ? [[fromUs, toUs] as const] : windows(fromUs, toUs, query.order)
  return { statements: ranges.map(([from, to]) => statement(from, to)), keys: scope.keys, columns: ['value'], raw: true, texts }
}

/**
 * A page of the newest rows is mostly found in the last minutes, while the engine, left alone, would read from the oldest on: so
 * the range is read in windows, each this much wider than the one before.
 */
function windows(fromUs: number, toUs: number, order: RangeQuery['order']): (readonly [fromUs: number, toUs: number])[] {
  const list: (readonly [fromUs: number, toUs: number])[] = []
  let width = firstWindowUs
  for (let from = fromUs, to = toUs; from < to; width *= widerWindow) {
    if (to - from <= 2 * width) {
      list.push([from, to])
      break
    }
    list.push(order === 'asc' ? [from, from + width] : [to - width, to])
    if (order === 'asc') from += width
    else to -= width
  }
  return list
}

function planBuckets(scope: Scope, stepUs: number): RangePlan {
  const { query, ids } = scope
  const aggregations: readonly Aggregation[] = query.aggregations ?? ['avg']
  const direction = query.order === 'asc' ? 'ASC' : 'DESC'
  const parts = groups(scope, stepUs).flatMap((group) => partials(scope, group, stepUs))
  const stddev = aggregations.includes('stddev')
  // Deviations of the parts from the whole's mean, in a second pass: in one, sums of squares would cancel.
  const spread = stddev
    ? `, d AS (SELECT p.series, p.b, sum(p.m2 + p.n * pow(p.sum / p.n - g.sum / g.n, 2)) AS m2
        FROM p JOIN g ON p.series = g.series AND p.b = g.b GROUP BY 1, 2)`
    : ''
  const column: Record<Aggregation, string> = {
    avg: 'g.sum / g.n',
    min: 'g.min',
    max: 'g.max',
    sum: 'g.sum',
    count: 'g.n::DOUBLE',
    stddev: `CASE WHEN g.n < 2 THEN 'nan'::DOUBLE ELSE sqrt(greatest(d.m2, 0) / (g.n - 1)) END`,
    first: 'g.first',
    last: 'g.last',
  }
  const sql = (limit: number): string => `WITH m AS (${ranks(ids)}), p AS ${stddev ? 'MATERIALIZED ' : ''}(${parts.join('\nUNION ALL\n')}),
    g AS (SELECT series, b, sum(n) AS n, sum(sum) AS sum, min(min) AS min, max(max) AS max,
      arg_min(first, first_ts) AS first, arg_max(last, last_ts) AS last
      FROM p GROUP BY series, b)${spread}
    SELECT m.rank, make_timestamp(g.b), ${aggregations.map((a) => `${column[a]} AS "${a}"`).join(', ')}
    FROM g JOIN m ON m.series = g.series ${stddev ? 'JOIN d ON d.series = g.series AND d.b = g.b' : ''}
    ${afterClause(scope, 'make_timestamp(g.b)', 'm.rank')}
    ORDER BY g.b ${direction}, m.rank ${direction} LIMIT ${limit}`
  return { statements: [sql], keys: scope.keys, columns: aggregations, raw: false, texts: false }
}

interface Group {
  readonly ids: Uint32Array
  /** All rows before it are in rollup rows of that width. */
  readonly minutesTo: number
  readonly hoursTo: number
}

/** Series that read rollups up to the same time: nearly always one group. */
function groups(scope: Scope, stepUs: number): Group[] {
  const { ids, cells, toUs } = scope
  if (stepUs % minuteUs !== 0) return [{ ids, minutesTo: Number.NEGATIVE_INFINITY, hoursTo: Number.NEGATIVE_INFINITY }]
  let newest = Number.NEGATIVE_INFINITY
  for (const id of ids) newest = Math.max(newest, Math.min(toUs, cells[id * stateWidth + field.open]!))
  const current = ids.filter((id) => cells[id * stateWidth + field.open]! >= newest - behindUs)
  const behind = ids.filter((id) => cells[id * stateWidth + field.open]! < newest - behindUs)
  return [current, behind]
    .filter((some) => some.length > 0)
    .map((some) => {
      let minute = Number.POSITIVE_INFINITY
      let hour = Number.POSITIVE_INFINITY
      for (const id of some) {
        minute = Math.min(minute, cells[id * stateWidth + field.open]!)
        hour = Math.min(hour, cells[id * stateWidth + levelWidth + field.open]!)
      }
      return { ids: some, minutesTo: floor(minute, minuteUs), hoursTo: floor(Math.min(hour, minute), hourUs) }
    })
}

/** Hours, minutes and rows that together hold each reading of [from, to) once. */
function partials(scope: Scope, group: Group, stepUs: number): string[] {
  const { fromUs, toUs } = scope
  const parts: string[] = []
  const minuteFrom = ceil(fromUs, minuteUs)
  const minuteTo = Math.min(floor(toUs, minuteUs), group.minutesTo)
  if (minuteFrom >= minuteTo) return [rowPart(scope, group.ids, fromUs, toUs, stepUs)]
  if (fromUs < minuteFrom) parts.push(rowPart(scope, group.ids, fromUs, minuteFrom, stepUs))
  const hourFrom = ceil(minuteFrom, hourUs)
  const hourTo = Math.min(floor(minuteTo, hourUs), group.hoursTo)
  if (stepUs % hourUs === 0 && hourFrom < hourTo) {
    if (minuteFrom < hourFrom) parts.push(rollupPart(group.ids, 'minute', minuteFrom, hourFrom, stepUs))
    parts.push(rollupPart(group.ids, 'hour', hourFrom, hourTo, stepUs))
    if (hourTo < minuteTo) parts.push(rollupPart(group.ids, 'minute', hourTo, minuteTo, stepUs))
  } else parts.push(rollupPart(group.ids, 'minute', minuteFrom, minuteTo, stepUs))
  if (minuteTo < toUs) parts.push(rowPart(scope, group.ids, minuteTo, toUs, stepUs))
  return parts
}

function rollupPart(ids: Uint32Array, level: 'minute' | 'hour', from: number, to: number, stepUs: number): string {
  return `SELECT r.series, ${bucketOf(stepUs, 'r.bucket')} AS b, r.n, r.sum, r.m2, r.min, r.max, r.first, r.first_ts, r.last, r.last_ts
    FROM ${rollupTables[level]} r ${only(ids, 'r')} r.bucket >= ${timestamp(from)} AND r.bucket < ${timestamp(to)}`
}

function rowPart(scope: Scope, ids: Uint32Array, from: number, to: number, stepUs: number): string {
  return `SELECT series, ${bucketOf(stepUs)} AS b, ${rollupOfRows} FROM (${rows(ids, from, to, lateIds(scope, from, to, ids), false)})
    WHERE NOT isnan(v) GROUP BY 1, 2`
}

/** Deduplicated rows of a range. Only series that have late rows there pay for merging them. */
function rows(ids: Uint32Array, from: number, to: number, late: readonly number[], texts: boolean): string {
  const inRange = `r.ts >= ${timestamp(from)} AND r.ts < ${timestamp(to)}`
  const columns = texts ? ', r.flags, 0 AS src, NULL::VARCHAR AS text, NULL::VARCHAR AS meta' : ', r.flags'
  if (late.length === 0) return `SELECT r.series, r.ts, r.v${columns} FROM ${hot}.readings r ${only(ids, 'r')} ${inRange}`
  const lateSet = Uint32Array.from(late)
  const latest = `SELECT r.series, r.ts, arg_max({'v': r.v, 'flags': r.flags, 'text': r.text, 'meta': r.meta}, r.seq) AS x
    FROM ${hot}.late r ${only(lateSet, 'r')} ${inRange} GROUP BY 1, 2`
  const lateColumns = texts ? ', x.flags AS flags, 1 AS src, x.text AS text, x.meta AS meta' : ', x.flags AS flags'
  const inLate = new Set(late)
  const without = ids.filter((id) => !inLate.has(id))
  return [
    ...(without.length === 0 ? [] : [`SELECT r.series, r.ts, r.v${columns} FROM ${hot}.readings r ${only(without, 'r')} ${inRange}`]),
    `SELECT r.series, r.ts, r.v${columns} FROM ${hot}.readings r ANTI JOIN
      (SELECT r.series, r.ts FROM ${hot}.late r ${only(lateSet, 'r')} ${inRange}) l
      ON r.series = l.series AND r.ts = l.ts ${onlyWhere(lateSet, 'r')} ${inRange}`,
    `SELECT series, ts, x.v AS v${lateColumns} FROM (${latest})`,
  ].join('\nUNION ALL\n')
}

function lateIds(scope: Scope, from: number, to: number, ids: Uint32Array = scope.ids): number[] {
  const found: number[] = []
  for (const id of ids) {
    const at = id * stateWidth
    if (scope.cells[at + field.lateFirst]! < to && scope.cells[at + field.lateLast]! >= from) found.push(id)
  }
  return found
}

/** Up to this many series a list of constants in the scan is quicker than a join (measured: 57 ms against 119 of 20 million rows). */
const listedMax = 8

function only(ids: Uint32Array, alias: string): string {
  return ids.length <= listedMax
    ? onlyWhere(ids, alias)
    : `JOIN (SELECT ${integers(ids, 'UINTEGER')} AS series) w ON w.series = ${alias}.series WHERE`
}

function onlyWhere(ids: Uint32Array, alias: string): string {
  if (ids.length === 1) return `WHERE ${alias}.series = ${ids[0]} AND`
  return ids.length <= listedMax
    ? `WHERE ${alias}.series IN (${ids.join(',')}) AND`
    : `WHERE ${alias}.series IN (SELECT ${integers(ids, 'UINTEGER')}) AND`
}

/** The place of each series in the order of the answer. */
function ranks(ids: Uint32Array): string {
  return `SELECT ${integers(ids, 'UINTEGER')} AS series, ${integers(
    ids.map((_, i) => i),
    'UINTEGER',
  )} AS rank`
}

/** Strictly behind the position, in the order of the query: by time, then place. */
function afterClause(scope: Scope, time: string, rank: string): string {
  const { after, order } = scope.query
  if (after === undefined) return ''
  let below = 0
  while (below < scope.keys.length && compareKeys(scope.keys[below]!, after) < 0) below++
  const exact = below < scope.keys.length && compareKeys(scope.keys[below]!, after) === 0
  const at = timestamp(after.timeUs)
  return order === 'asc'
    ? `WHERE (${time} > ${at} OR (${time} = ${at} AND ${rank} >= ${exact ? below + 1 : below}))`
    : `WHERE (${time} < ${at} OR (${time} = ${at} AND ${rank} < ${below}))`
}

function floor(us: number, step: number): number {
  return Number.isFinite(us) ? us - (us % step) : us
}

function ceil(us: number, step: number): number {
  return floor(us + step - 1, step)
}
