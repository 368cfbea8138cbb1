import type { SeriesKey } from '../../core/batch.ts'
import type { Aggregation, RangeQuery } from '../../core/ports.ts'
import { compareKeys } from './dictionary.ts'
import { hot, rollupTables } from './schema.ts'
import { field, levelWidth, stateWidth, trait } from './series-state.ts'
import { bucketOf, integers, rollupOfRows } from './sql.ts'

const minuteUs = 60e6
const hourUs = 3600e6
/** Series whose rollups end this much before those of the others are read apart, so that they do not make all others read rows. */
const behindUs = 2 * hourUs

/** A statement whose columns are: place in `keys`, time (TIMESTAMP), then `columns` as DOUBLE; raw ones end with flags, text and meta. */
export interface RangePlan {
  readonly sql: string
  readonly params: readonly bigint[]
  readonly keys: readonly SeriesKey[]
  readonly columns: readonly string[]
  readonly raw: boolean
  /** Raw: whether the columns text and meta are there. */
  readonly texts: boolean
}

interface Scope {
  readonly query: RangeQuery
  /** Ids in the order of their keys. */
  readonly ids: Uint32Array
  readonly keys: readonly SeriesKey[]
  readonly cells: Float64Array
  readonly fromUs: number
  readonly toUs: number
  readonly params: Params
}

/** Numbers bound to a statement. */
class Params {
  readonly values: bigint[] = []

  time(us: number): string {
    this.values.push(BigInt(us))
    return `make_timestamp($${this.values.length}::BIGINT)`
  }

  number(value: number): string {
    this.values.push(BigInt(value))
    return `$${this.values.length}::BIGINT`
  }
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
  const scope: Scope = { query, ids, keys, cells, fromUs, toUs, params: new Params() }
  return stepUs === undefined ? planRaw(scope) : planBuckets(scope, stepUs)
}

function planRaw(scope: Scope): RangePlan {
  const { query, ids, cells, params } = scope
  const late = lateIds(scope, scope.fromUs, scope.toUs)
  let traits = 0
  for (const id of ids) traits |= cells[id * stateWidth + field.traits]!
  const texts = traits !== 0 || late.length > 0
  const direction = query.order === 'asc' ? 'ASC' : 'DESC'
  const limited = `SELECT r.series, m.rank, r.ts, r.v, r.flags${texts ? ', r.src, r.text, r.meta' : ''} FROM (${rows(scope, ids, scope.fromUs, scope.toUs, late, texts)}) r
    JOIN m ON m.series = r.series ${afterClause(scope, 'r.ts', 'm.rank')}
    ORDER BY r.ts ${direction}, m.rank ${direction} LIMIT ${params.number(query.limit)}`
  const sql = !texts
    ? `WITH m AS (${ranks(ids)}) SELECT rank, ts, v, flags FROM (${limited}) ORDER BY ts ${direction}, rank ${direction}`
    : `WITH m AS (${ranks(ids)}), q AS (${limited})
      SELECT q.rank, q.ts, q.v, q.flags, coalesce(q.text, x.text) AS text, coalesce(q.meta, x.meta) AS meta FROM q LEFT JOIN (
        SELECT series, ts, text, meta, 0 AS src FROM ${hot}.texts WHERE ts >= ${params.time(scope.fromUs)} AND ts < ${params.time(scope.toUs)}) x
      ON q.series = x.series AND q.ts = x.ts AND q.src = x.src ORDER BY q.ts ${direction}, q.rank ${direction}`
  return { sql, params: params.values, keys: scope.keys, columns: ['value'], raw: true, texts }
}

function planBuckets(scope: Scope, stepUs: number): RangePlan {
  const { query, ids, params } = scope
  const aggregations: readonly Aggregation[] = query.aggregations ?? ['avg']
  const direction = query.order === 'asc' ? 'ASC' : 'DESC'
  const parts = groups(scope, stepUs).flatMap((group) => partials(scope, group, stepUs))
  const stddev = aggregations.includes('stddev')
  // Deviations of the parts from the whole's mean, in a second pass: in one, sums of squares would cancel.
  const spread = stddev
    ? `, d AS (SELECT p.series, p.b, sum(p.m2 + p.n * pow(p.sum / p.n - g.sum / g.n, 2)) AS m2 FROM p JOIN g ON p.series = g.series AND p.b = g.b GROUP BY 1, 2)`
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
  const sql = `WITH m AS (${ranks(ids)}), p AS ${stddev ? 'MATERIALIZED ' : ''}(${parts.join('\nUNION ALL\n')}),
    g AS (SELECT series, b, sum(n) AS n, sum(sum) AS sum, min(min) AS min, max(max) AS max, arg_min(first, first_ts) AS first, arg_max(last, last_ts) AS last
      FROM p GROUP BY series, b)${spread}
    SELECT m.rank, make_timestamp(g.b), ${aggregations.map((a) => `${column[a]} AS "${a}"`).join(', ')}
    FROM g JOIN m ON m.series = g.series ${stddev ? 'JOIN d ON d.series = g.series AND d.b = g.b' : ''} ${afterClause(scope, 'make_timestamp(g.b)', 'm.rank')}
    ORDER BY g.b ${direction}, m.rank ${direction} LIMIT ${params.number(query.limit)}`
  return { sql, params: params.values, keys: scope.keys, columns: aggregations, raw: false, texts: false }
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
    if (minuteFrom < hourFrom) parts.push(rollupPart(scope, group.ids, 'minute', minuteFrom, hourFrom, stepUs))
    parts.push(rollupPart(scope, group.ids, 'hour', hourFrom, hourTo, stepUs))
    if (hourTo < minuteTo) parts.push(rollupPart(scope, group.ids, 'minute', hourTo, minuteTo, stepUs))
  } else parts.push(rollupPart(scope, group.ids, 'minute', minuteFrom, minuteTo, stepUs))
  if (minuteTo < toUs) parts.push(rowPart(scope, group.ids, minuteTo, toUs, stepUs))
  return parts
}

function rollupPart(scope: Scope, ids: Uint32Array, level: 'minute' | 'hour', from: number, to: number, stepUs: number): string {
  return `SELECT r.series, ${bucketOf(stepUs, 'r.bucket')} AS b, r.n, r.sum, r.m2, r.min, r.max, r.first, r.first_ts, r.last, r.last_ts
    FROM ${rollupTables[level]} r ${only(ids, 'r')} r.bucket >= ${scope.params.time(from)} AND r.bucket < ${scope.params.time(to)}`
}

function rowPart(scope: Scope, ids: Uint32Array, from: number, to: number, stepUs: number): string {
  return `SELECT series, ${bucketOf(stepUs)} AS b, ${rollupOfRows} FROM (${rows(scope, ids, from, to, lateIds(scope, from, to, ids), false)}) WHERE NOT isnan(v) GROUP BY 1, 2`
}

/** Deduplicated rows of [from, to). Only series that have late rows there pay for merging them. */
function rows(scope: Scope, ids: Uint32Array, from: number, to: number, late: readonly number[], texts: boolean): string {
  const { params } = scope
  const range = (alias: string): string => `${alias}.ts >= ${params.time(from)} AND ${alias}.ts < ${params.time(to)}`
  const columns = texts ? ', r.flags, 0 AS src, NULL::VARCHAR AS text, NULL::VARCHAR AS meta' : ', r.flags'
  if (late.length === 0) return `SELECT r.series, r.ts, r.v${columns} FROM ${hot}.readings r ${only(ids, 'r')} ${range('r')}`
  const lateSet = Uint32Array.from(late)
  const latest = `SELECT r.series, r.ts, arg_max({'v': r.v, 'flags': r.flags, 'text': r.text, 'meta': r.meta}, r.seq) AS x
    FROM ${hot}.late r ${only(lateSet, 'r')} ${range('r')} GROUP BY 1, 2`
  const lateColumns = texts ? ', x.flags AS flags, 1 AS src, x.text AS text, x.meta AS meta' : ', x.flags AS flags'
  const inLate = new Set(late)
  const without = ids.filter((id) => !inLate.has(id))
  return [
    ...(without.length === 0 ? [] : [`SELECT r.series, r.ts, r.v${columns} FROM ${hot}.readings r ${only(without, 'r')} ${range('r')}`]),
    `SELECT r.series, r.ts, r.v${columns} FROM ${hot}.readings r ANTI JOIN (SELECT r.series, r.ts FROM ${hot}.late r ${only(lateSet, 'r')} ${range('r')}) l
      ON r.series = l.series AND r.ts = l.ts ${onlyWhere(lateSet, 'r')} ${range('r')}`,
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
  return ids.length <= listedMax ? onlyWhere(ids, alias) : `JOIN (SELECT ${integers(ids, 'UINTEGER')} AS series) w ON w.series = ${alias}.series WHERE`
}

function onlyWhere(ids: Uint32Array, alias: string): string {
  if (ids.length === 1) return `WHERE ${alias}.series = ${ids[0]} AND`
  return ids.length <= listedMax ? `WHERE ${alias}.series IN (${ids.join(',')}) AND` : `WHERE ${alias}.series IN (SELECT ${integers(ids, 'UINTEGER')}) AND`
}

/** The place of each series in the order of the answer. */
function ranks(ids: Uint32Array): string {
  return `SELECT ${integers(ids, 'UINTEGER')} AS series, ${integers(ids.map((_, i) => i), 'UINTEGER')} AS rank`
}

/** Strictly behind the position, in the order of the query: by time, then place. */
function afterClause(scope: Scope, time: string, rank: string): string {
  const { after, order } = scope.query
  if (after === undefined) return ''
  let below = 0
  while (below < scope.keys.length && compareKeys(scope.keys[below]!, after) < 0) below++
  const exact = below < scope.keys.length && compareKeys(scope.keys[below]!, after) === 0
  const at = scope.params.time(after.timeUs)
  return order === 'asc'
    ? `WHERE (${time} > ${at} OR (${time} = ${at} AND ${rank} >= ${scope.params.number(exact ? below + 1 : below)}))`
    : `WHERE (${time} < ${at} OR (${time} = ${at} AND ${rank} < ${scope.params.number(below)}))`
}

function floor(us: number, step: number): number {
  return Number.isFinite(us) ? us - (us % step) : us
}

function ceil(us: number, step: number): number {
  return floor(us + step - 1, step)
}
