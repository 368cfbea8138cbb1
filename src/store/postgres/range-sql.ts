import { borderFrom } from '../../core/buckets.ts'
import { isQuantile, quantiles, type Aggregation, type RangeQuery } from '../../core/ports.ts'
import { stepOf } from '../levels.ts'
import type { ColumnType } from './copy-out.ts'
import { deviceSql, wideSql } from './layout.ts'
import { bucketOf, ints, m2Of, moment, moments, sumOf } from './sql.ts'

/** Series of a query in the order of its answer: the place in it is the series' rank. */
export interface RangeScope {
  readonly query: RangeQuery
  readonly ids: Int32Array
  /** Of each of them: readings before it have gone. */
  readonly goneUs: Float64Array
  readonly fromUs: number
  readonly toUs: number
  /** At the time of `query.after` the answer goes on with this rank; downwards, with those below it. */
  readonly rank: number
  /** Of a calendar: where buckets begin, and where the last one ends. */
  readonly borders: Float64Array | undefined
}

export interface Statement {
  readonly sql: string
  readonly types: readonly ColumnType[]
}

/** Columns: rank, time, value, flags, text, meta. */
export function rawSql({ query, ids, fromUs, toUs, rank }: RangeScope, limit: number): Statement {
  const { after, order } = query
  const direction = order === 'asc' ? 'ASC' : 'DESC'
  // The position cuts the range of each series at its time: before it or behind it.
  let low = moment(fromUs)
  let high = moment(toUs)
  if (after !== undefined && order === 'asc' && after.timeUs >= fromUs)
    low = `CASE WHEN s.rank < ${rank} THEN ${moment(after.timeUs + 1)} ELSE ${moment(after.timeUs)} END`
  if (after !== undefined && order === 'desc' && after.timeUs < toUs)
    high = `CASE WHEN s.rank < ${rank} THEN ${moment(after.timeUs + 1)} ELSE ${moment(after.timeUs)} END`
  const wide = wideSql('s.id', 'm')
  const within = `time >= ${moment(fromUs)} AND time < ${moment(toUs)} AND time >= ${low} AND time < ${high}`
  const end = `ORDER BY time ${direction} LIMIT ${limit}`
  const rows = ofBoth(ids, {
    samples: `SELECT s.rank, r.* FROM s CROSS JOIN LATERAL (SELECT time, value, flags, text, meta FROM samples WHERE series = s.id AND ${within} ${end}) r`,
    messages: `SELECT s.rank, r.* FROM s CROSS JOIN LATERAL (SELECT time, ${wide.value} AS value, ${wide.flags} AS flags, ${wide.text} AS text,
      ${wide.meta} AS meta FROM messages m WHERE device = ${deviceSql('s.id')} AND ${within} AND ${wide.there} ${end}) r`,
    id: 's.id',
  })
  const sql = `WITH ${series(ids)} SELECT rank, time, value, flags, text, meta FROM (${rows}) r ORDER BY time ${direction}, rank ${direction} LIMIT ${limit}`
  return { sql, types: ['int4', 'time', 'float8', 'int2', 'text', 'text'] }
}

/**
 * Rows of series that are samples, and of those that are columns of messages: of what these ids are. Both without conditions (WHERE) of their own.
 */
function ofBoth(ids: Int32Array, { samples, messages, id }: { readonly samples: string; readonly messages: string; readonly id: string }): string {
  const both = [
    ...(ids.some((one) => one > 0) ? [`${samples} WHERE ${id} > 0`] : []),
    ...(ids.some((one) => one < 0) ? [`${messages} WHERE ${id} < 0`] : []),
  ]
  return both.join('\nUNION ALL ')
}

/** A table `s` of the series and their ranks. */
function series(ids: Int32Array): string {
  return `s AS MATERIALIZED (SELECT * FROM unnest(${ints(ids)}, ${ints(ids.map((_, i) => i))}) AS s (id, rank))`
}

/** Time of the first, or the last, reading of these series in a range; no row: there is none. */
export function edgeSql({ ids, fromUs, toUs }: Pick<RangeScope, 'ids' | 'fromUs' | 'toUs'>, edge: 'first' | 'last'): Statement {
  const [pick, direction] = edge === 'first' ? ['min', 'ASC'] : ['max', 'DESC']
  const within = `time >= ${moment(fromUs)} AND time < ${moment(toUs)}`
  const end = `ORDER BY time ${direction} LIMIT 1`
  const rows = ofBoth(ids, {
    samples: `SELECT r.time FROM s CROSS JOIN LATERAL (SELECT time FROM samples WHERE series = s.id AND ${within} ${end}) r`,
    messages: `SELECT r.time FROM s CROSS JOIN LATERAL (SELECT time FROM messages m WHERE device = ${deviceSql('s.id')} AND ${within}
      AND ${wideSql('s.id', 'm').there} ${end}) r`,
    id: 's.id',
  })
  return { sql: `WITH ${series(ids)} SELECT ${pick}(time) FROM (${rows}) r`, types: ['time'] }
}

/** What a statement of buckets answers after rank and bucket; the rest is worked out from these (`valueOf`). */
const parts = ['n', 'sum', 'm2', 'min', 'max', 'first', 'last'] as const
type Part = (typeof parts)[number]
const needed: Readonly<Record<string, readonly Part[]>> = {
  avg: ['sum'],
  sum: ['sum'],
  stddev: ['m2'],
  min: ['min'],
  max: ['max'],
  first: ['first'],
  last: ['last'],
}

export interface BucketStatement extends Statement {
  /** Names of the columns after rank and bucket: parts, then quantiles. */
  readonly names: readonly string[]
}

/**
 * Columns: rank; the bucket (its start, or its number in a calendar's borders, from 1); then `names`. Hours, minutes and rows together hold each
 * reading
 * once: the newest closed bucket of a series in the range says where its rollups end, as all rows before are in them. Quantiles are exact, from rows.
 */
export function bucketSql(scope: RangeScope, limit: number): BucketStatement {
  const { query, ids, fromUs, toUs, borders } = scope
  const aggregations = query.aggregations ?? ['avg']
  const asked = aggregations.filter(isQuantile)
  if (asked.length > 0 && scope.goneUs.some((us) => us > fromUs)) return partlyGone(scope, limit)
  const wanted = new Set<Part>(['n', ...aggregations.flatMap((name) => needed[name] ?? [])])
  const used = parts.filter((part) => wanted.has(part))
  const grain = asked.length > 0 ? 'rows' : grainOf(borders?.subarray(1, -1) ?? [query.stepUs ?? 1])
  const { tables, hours, minutes } = ranges(grain, fromUs, toUs)
  const bucket = (time: string): string =>
    borders === undefined ? bucketOf(query.stepUs ?? 1, time) : `width_bucket(${time}, (SELECT c.borders FROM c))`
  const within = (time: string): string => `${time} >= k.lo AND ${time} < k.hi AND ${time} >= ${moment(fromUs)} AND ${time} < ${moment(toUs)}`
  const wide = wideSql('k.id', 'm')
  const rows = ofBoth(ids, {
    samples: `SELECT k.rank, ${bucket('r.time')} AS b, r.time, r.value FROM raw k JOIN samples r ON r.series = k.id AND ${within('r.time')} AND r.value IS NOT NULL`,
    messages: `SELECT k.rank, ${bucket('m.time')} AS b, m.time, ${wide.value} AS value FROM raw k JOIN messages m ON m.device = ${deviceSql('k.id')}
      AND ${within('m.time')} AND ${wide.value} IS NOT NULL`,
    id: 'k.id',
  })
  const tail = tailOf(scope, limit)
  const heads = [
    series(ids),
    ...(borders === undefined ? [] : [`c AS MATERIALIZED (SELECT ${moments(borders.subarray(0, -1))} AS borders)`]),
    ...tables,
  ]
  const names = [...used, ...asked]
  const types: ColumnType[] = [
    'int4',
    borders === undefined ? 'time' : 'int4',
    ...names.map((name) => (name === 'n' ? 'int8' : 'float8') as ColumnType),
  ]
  if (hours === undefined && minutes === undefined) {
    const columns = [...used.map((part) => `${ofRows[part]} AS ${part}`), ...asked.map(quantileOf)].join(', ')
    const sql = `WITH ${heads.join(',\n')} SELECT * FROM (SELECT rank, b, ${columns} FROM (${rows}) x GROUP BY b, rank) g ${tail}`
    return { sql, types, names }
  }
  const need = new Set<string>([...used, 'n', ...(wanted.has('m2') ? ['sum'] : [])])
  const partials = [
    ...parts.filter((part) => need.has(part)),
    ...(need.has('first') ? ['first_time'] : []),
    ...(need.has('last') ? ['last_time'] : []),
  ]
  const rollups = [hours, minutes]
    .filter((one) => one !== undefined)
    .map(
      ({ table, level, from, to }) => `SELECT k.rank, ${bucket('r.bucket')} AS b, ${partials.map((name) => `r.${name}`).join(', ')}
      FROM ${table} k JOIN ${level} r ON r.series = k.id AND r.bucket >= k.lo AND r.bucket < k.hi AND r.bucket >= ${moment(from)} AND r.bucket < ${moment(to)}`,
    )
  const ofRaw = `SELECT rank, b, ${partials.map((name) => `${ofRows[name]} AS ${name}`).join(', ')} FROM (${rows}) x GROUP BY b, rank`
  const all = [...rollups, ofRaw].join('\nUNION ALL ')
  // Deviations of the parts from the whole's mean: sums of squares would cancel.
  const spread = wanted.has('m2')
    ? `(SELECT *, CASE WHEN abs(d) > 1e140 THEN 'infinity' WHEN abs(d) < 1e-140 THEN m2 ELSE m2 + n * d * d END AS spread FROM (
        SELECT *, ${quotient('sum', 'n')} - ${quotient('all_sum', 'all_n')} AS d FROM (
          SELECT *, sum(CASE WHEN abs(sum) < 1e280 THEN sum ELSE 0 END) OVER w AS all_sum, sum(n) OVER w AS all_n
          FROM (${all}) a WINDOW w AS (PARTITION BY b, rank)) a) a)`
    : `(${all})`
  const columns = used.map((part) => `${ofPartials[part]} AS ${part}`).join(', ')
  const sql = `WITH ${heads.join(',\n')} SELECT * FROM (SELECT rank, b, ${columns} FROM ${spread} p GROUP BY b, rank) g ${tail}`
  return { sql, types, names }
}

/** Rows have gone of which rollups are left: statistics from these, and quantiles of the buckets of which every row is there. */
function partlyGone(scope: RangeScope, limit: number): BucketStatement {
  const { query, fromUs, borders, goneUs } = scope
  const aggregations = query.aggregations ?? ['avg']
  const asked = aggregations.filter(isQuantile)
  const none = goneUs.map(() => 0)
  const of = (some: readonly Aggregation[]): BucketStatement =>
    bucketSql({ ...scope, goneUs: none, query: { ...query, aggregations: some } }, everything)
  const statistics = of(aggregations.filter((name) => !isQuantile(name)))
  const names = [...statistics.names, ...asked]
  const columns = (there: readonly string[]): string => names.map((name) => (there.includes(name) ? `"${name}"` : `NULL AS "${name}"`)).join(', ')
  const start = borders === undefined ? 'b' : `(${moments(borders.subarray(0, -1))})[b]`
  const whole = `greatest(${start}, ${moment(fromUs)}) >= (${moments(goneUs)})[rank + 1]`
  const merged = names.map((name) =>
    isQuantileName(name) ? `CASE WHEN ${whole} THEN max("${name}") END AS "${name}"` : `max("${name}") AS "${name}"`,
  )
  const sql = `SELECT * FROM (SELECT rank, b, ${merged.join(', ')} FROM (SELECT rank, b, ${columns(statistics.names)} FROM (${statistics.sql}) s
    UNION ALL SELECT rank, b, ${columns(asked)} FROM (${of(asked).sql}) q) u GROUP BY b, rank) g ${tailOf(scope, limit)}`
  return { sql, types: [...statistics.types, ...asked.map((): ColumnType => 'float8')], names }
}

const everything = Number.MAX_SAFE_INTEGER
const isQuantileName = (name: string): boolean => Object.hasOwn(quantiles, name)

function tailOf(scope: RangeScope, limit: number): string {
  const direction = scope.query.order === 'asc' ? 'ASC' : 'DESC'
  return `${afterClause(scope)} ORDER BY b ${direction}, rank ${direction} LIMIT ${limit}`
}

/** Of what is next to nothing 0: PostgreSQL fails where a quotient is too small for a double. */
const quotient = (sum: string, n: string): string => `(CASE WHEN abs(${sum}) < 1e-290 THEN 0 ELSE ${sum} / ${n} END)`

const firstOf = '(array_agg(value ORDER BY time))[1]'
const lastOf = '(array_agg(value ORDER BY time))[count(value)]'
const ofRows: Readonly<Record<string, string>> = {
  n: 'count(value)',
  sum: sumOf('value'),
  m2: m2Of('value'),
  min: 'min(value)',
  max: 'max(value)',
  first: firstOf,
  first_time: 'min(time)',
  last: lastOf,
  last_time: 'max(time)',
}
const ofPartials: Readonly<Record<Part, string>> = {
  n: 'sum(n)::int8',
  sum: sumOf('sum'),
  m2: 'sum(spread)',
  min: 'min(min)',
  max: 'max(max)',
  first: '(array_agg(first ORDER BY first_time))[1]',
  last: '(array_agg(last ORDER BY last_time DESC))[1]',
}

/** The value whose rank among the n of a bucket is floor(q (n - 1)). */
function quantileOf(name: Aggregation): string {
  const q = isQuantile(name) ? quantiles[name] : 0.5
  return `(array_agg(value ORDER BY value))[1 + floor(${q}::float8 * (count(value) - 1)::float8)::int] AS "${name}"`
}

type Grain = 'rows' | 'minute' | 'hour'

/** The widest rollups that borders, or multiples of a width, do not cut. */
function grainOf(borders: ArrayLike<number>): Grain {
  let grain: Grain = 'hour'
  for (let i = 0; i < borders.length; i++) {
    if (borders[i]! % stepOf.minute !== 0) return 'rows'
    if (borders[i]! % stepOf.hour !== 0) grain = 'minute'
  }
  return grain
}

interface Read {
  /** A table (id, rank, lo, hi). */
  readonly table: string
  readonly level: 'rollup_1h' | 'rollup_1m'
  readonly from: number
  readonly to: number
}

/** Tables of ranges by series: of hours, of minutes, and (`raw`) of rows. */
function ranges(grain: Grain, fromUs: number, toUs: number): { readonly tables: string[]; readonly hours?: Read; readonly minutes?: Read } {
  const [from, to] = [moment(fromUs), moment(toUs)]
  if (grain === 'rows') return { tables: [`raw AS (SELECT id, rank, ${from} AS lo, ${to} AS hi FROM s)`] }
  const tables: string[] = []
  let hours: Read | undefined
  const hourFrom = ceil(fromUs, stepOf.hour)
  const hourTo = floor(toUs, stepOf.hour)
  const pieces = [`SELECT id, rank, ${from} AS lo, ${to} AS hi FROM s`]
  if (grain === 'hour' && hourFrom < hourTo) {
    tables.push(`h AS MATERIALIZED (SELECT id, rank, ${moment(hourFrom)} AS lo, coalesce(${newest('rollup_1h', 's.id', moment(hourFrom), moment(hourTo))}
      + interval '1 hour', ${moment(hourFrom)}) AS hi FROM s)`)
    hours = { table: 'h', level: 'rollup_1h', from: hourFrom, to: hourTo }
    pieces[0] = `SELECT id, rank, hi AS lo, ${to} AS hi FROM h WHERE hi < ${to}`
    if (fromUs < hourFrom) pieces.push(`SELECT id, rank, ${from}, ${moment(hourFrom)} FROM s`)
  }
  // Of each piece what minutes hold: from where they are kept to the newest that is closed.
  const minuteFrom = `greatest(date_trunc('minute', k.lo + interval '59.999999 seconds'), x.minute_from)`
  tables.push(
    `pieces AS MATERIALIZED (SELECT k.*, CASE WHEN x.minute_from IS NULL THEN k.hi ELSE least(${minuteFrom}, k.hi) END AS mlo,
      ${newest('rollup_1m', 'k.id', minuteFrom, `date_trunc('minute', k.hi)`, 'x.minute_from IS NOT NULL')} + interval '1 minute' AS mhi
      FROM (${pieces.join(' UNION ALL ')}) k JOIN LATERAL (SELECT minute_from FROM series x WHERE x.id = k.id) x ON true)`,
    `m AS (SELECT id, rank, mlo AS lo, mhi AS hi FROM pieces WHERE mlo < mhi)`,
    `raw AS (SELECT id, rank, lo, hi FROM pieces WHERE mhi IS NULL OR mlo >= mhi
      UNION ALL SELECT id, rank, lo, mlo FROM pieces WHERE mlo < mhi AND lo < mlo
      UNION ALL SELECT id, rank, mhi, hi FROM pieces WHERE mlo < mhi AND mhi < hi)`,
  )
  const minutes = { table: 'm', level: 'rollup_1m', from: fromUs, to: toUs } as const
  return { tables, minutes, ...(hours === undefined ? {} : { hours }) }
}

function newest(table: string, id: string, from: string, to: string, where = 'true'): string {
  return `(SELECT bucket FROM ${table} r WHERE r.series = ${id} AND r.bucket >= ${from} AND r.bucket < ${to} AND ${where} ORDER BY bucket DESC LIMIT 1)`
}

/** Strictly behind the position, in the order of the query: by bucket, then rank. */
function afterClause({ query, rank, borders }: RangeScope): string {
  const { after, order } = query
  if (after === undefined) return ''
  const at = borders === undefined ? moment(after.timeUs) : String(indexOf(borders, after.timeUs))
  return order === 'asc' ? `WHERE b > ${at} OR (b = ${at} AND rank >= ${rank})` : `WHERE b < ${at} OR (b = ${at} AND rank < ${rank})`
}

/** The number of the bucket that begins at or before a moment, from 1. */
function indexOf(borders: Float64Array, us: number): number {
  let i = 0
  while (i < borders.length && borders[i]! <= us) i++
  return i
}

/** Where the range of a page begins or ends that goes on after a position. */
export function cutAtPosition(
  query: RangeQuery,
  fromUs: number,
  toUs: number,
  bucketed: boolean,
): { readonly fromUs: number; readonly toUs: number } {
  const { after, order } = query
  if (after === undefined) return { fromUs, toUs }
  if (order === 'asc') return { fromUs: Math.max(fromUs, after.timeUs), toUs }
  return { fromUs, toUs: Math.min(toUs, bucketed ? borderFrom(query, after.timeUs + 1) : after.timeUs + 1) }
}

function floor(us: number, step: number): number {
  return us - (us % step)
}

function ceil(us: number, step: number): number {
  return floor(us + step - 1, step)
}
