import { borderFrom, isBucketed } from '../../core/buckets.ts'
import { isQuantile, type Aggregation, type Quantile, type Statistic } from '../../core/ports.ts'
import { binOf, lowAndHigh, quantileColumn, quantilesOfBins } from './bins-sql.ts'
import { compareKeys } from './dictionary.ts'
import type { SourcesLease } from './files.ts'
import type { Part, QuantilePart, RangePlan } from './range-plan.ts'
import type { Between } from './source-types.ts'
import { rollupValues, union, type Sources } from './sources.ts'
import { bucketOf, integers, rollupOfRows, timestamp } from './sql.ts'

/** Of buckets: whether a last column says, as 1 or 0, that a bucket has numbers and yet no quantile. */
export function tellsPartial(plan: RangePlan): boolean {
  return plan.parts.length > 0 && plan.quantiles.length > 0
}

/** Names of an answer's columns after place and time. */
export function columnsOf(plan: RangePlan): readonly string[] {
  return isBucketed(plan.query) ? aggregationsOf(plan) : ['value']
}

/**
 * A plan as a statement whose columns are: place in `keys`, time (TIMESTAMP), then `columnsOf` as DOUBLE; raw ones end with flags, and text and
 * meta when the plan has texts; those of buckets with what `tellsPartial` is about. `lease` is that of the files that `needsOf` named.
 */
export function rangeSql(plan: RangePlan, lease: Pick<SourcesLease, 'sources' | 'rawFromUs'>, limit: number): string {
  return isBucketed(plan.query) ? bucketSql(plan, lease, limit) : rawSql(plan, lease.sources, limit)
}

function aggregationsOf(plan: RangePlan): readonly Aggregation[] {
  return plan.query.aggregations ?? ['avg']
}

function rawSql(plan: RangePlan, sources: Sources, limit: number): string {
  const { ids, texts } = plan
  const direction = plan.query.order === 'asc' ? 'ASC' : 'DESC'
  const found = plan.parts.map((part) => rows(part, sources, texts)).join('\nUNION ALL\n')
  const columns = texts ? 'r.series, m.rank, r.ts, r.v, r.flags, r.src, r.text, r.meta' : 'm.rank, r.ts, r.v, r.flags'
  const limited = `SELECT ${columns} FROM (${found}) r
    JOIN m ON m.series = r.series ${afterClause(plan, 'r.ts', 'm.rank')} ORDER BY r.ts ${direction}, m.rank ${direction} LIMIT ${limit}`
  if (!texts) return `WITH m AS (${ranks(ids)}) ${limited}`
  const words = union(sources.rows(undefined, plan).texts)
  return `WITH m AS (${ranks(ids)}), q AS (${limited})
    SELECT q.rank, q.ts, q.v, q.flags, coalesce(q.text, x.text) AS text, coalesce(q.meta, x.meta) AS meta FROM q LEFT JOIN (
      SELECT series, ts, text, meta, 0 AS src FROM (${words})) x
    ON q.series = x.series AND q.ts = x.ts AND q.src = x.src ORDER BY q.ts ${direction}, q.rank ${direction}`
}

/** What statistics are made from: partial rollups `p` of each bucket, their sums `g`, and deviations `d`. */
function statisticsSql(plan: RangePlan, sources: Sources, stddev: boolean): string[] {
  if (plan.parts.length === 0) return []
  const parts = plan.parts.map((part) => (part.from === 'rows' ? bucketsOfRows(plan, part, sources) : bucketsOfRollups(plan, part, sources)))
  // Deviations of the parts from the whole's mean, in a second pass: in one, sums of squares would cancel.
  const spread = `d AS (SELECT p.series, p.b, sum(p.m2 + p.n * pow(p.sum / p.n - g.sum / g.n, 2)) AS m2
        FROM p JOIN g ON p.series = g.series AND p.b = g.b GROUP BY 1, 2)`
  return [
    `p AS ${stddev ? 'MATERIALIZED ' : ''}(${union(parts)})`,
    `g AS (SELECT series, b, sum(n) AS n, sum(sum) AS sum, min(min) AS min, max(max) AS max,
      arg_min(first, first_ts) AS first, arg_max(last, last_ts) AS last
      FROM p GROUP BY series, b)`,
    ...(stddev ? [spread] : []),
  ]
}

/** What quantiles are made from: the bins of each bucket. Where nothing tells how many readings it had, those of buckets that are all there. */
function quantilesSql(plan: RangePlan, { sources, rawFromUs }: Pick<SourcesLease, 'sources' | 'rawFromUs'>): string[] {
  if (plan.quantiles.length === 0) return []
  const bins = plan.quantiles.flatMap((part) => {
    if (part.from === 'sketches') return binsOfSketches(plan, part, sources)
    const { ids, replaced, fromUs, toUs } = part
    const first = Math.max(rawFromUs, part.rawFromUs)
    const whole = fromUs >= first ? fromUs : Math.min(toUs, borderFrom(plan.query, first))
    return [binsOfRows(plan, { from: 'rows', ids, replaced, fromUs: whole, toUs }, sources)]
  })
  return quantilesOfBins(union(bins), aggregationsOf(plan))
}

function binsOfRows(plan: RangePlan, part: Part, sources: Sources): string {
  const { from, bucket } = intoBuckets(plan, rows(part, sources, false), 'ts')
  return `SELECT r.series, ${bucket} AS b, ${binOf('r.v')} AS bin, 1::UBIGINT AS n, r.v AS low, r.v AS high FROM ${from} WHERE NOT isnan(r.v)`
}

/** Hours that were computed again have all their bins in one row, unless a file in between does not know them: then rows are counted there. */
function binsOfSketches(plan: RangePlan, part: QuantilePart, sources: Sources): string[] {
  const { ids, replaced, fromUs, toUs } = part
  const added = (some: Uint32Array, between: Between): string => union(sources.bins(some, between).base)
  const bucketed = (hours: string): string => {
    const { from, bucket } = intoBuckets(plan, hours, 'bucket')
    return `SELECT r.series, ${bucket} AS b, r.bin, r.n, r.low, r.high FROM ${from}`
  }
  const corrected = (between: Between): string => {
    const found = union(sources.bins(replaced, between).corrected)
    return `SELECT h.* FROM (${added(replaced, between)}) h ANTI JOIN (SELECT series, bucket FROM (${found})) k ON h.series = k.series AND h.bucket = k.bucket
      UNION ALL SELECT series, bucket, x.bin, x.n, ${lowAndHigh('x.v')} FROM (
        SELECT series, bucket, unnest(x.bins) AS x FROM (
          SELECT r.series, r.bucket, arg_max({'n': r.n, 'bins': r.bins}, r.gen) AS x FROM (${found}) r GROUP BY r.series, r.bucket) WHERE x.n > 0)`
  }
  const others = without(ids, replaced)
  const span = replaced.length === 0 ? undefined : sources.unsketched(part)
  const known = [
    { fromUs, toUs: span?.fromUs ?? toUs },
    { fromUs: span?.toUs ?? toUs, toUs },
  ].filter((between) => replaced.length > 0 && between.fromUs < between.toUs)
  return [
    ...(others.length === 0 ? [] : [bucketed(added(others, part))]),
    ...known.map((between) => bucketed(corrected(between))),
    ...(span === undefined ? [] : [binsOfRows(plan, { from: 'rows', ids: replaced, replaced, fromUs: span.fromUs, toUs: span.toUs }, sources)]),
  ]
}

const statisticColumn: Record<Statistic, string> = {
  avg: 'g.sum / g.n',
  min: 'g.min',
  max: 'g.max',
  sum: 'g.sum',
  count: 'g.n::DOUBLE',
  stddev: `CASE WHEN g.n < 2 THEN 'nan'::DOUBLE ELSE sqrt(greatest(d.m2, 0) / (g.n - 1)) END`,
  first: 'g.first',
  last: 'g.last',
}

/** Where sketches are read there is none when they do not have all numbers of the bucket: readings went before there were any. */
function quantileOf(plan: RangePlan, name: Quantile): string {
  const value = quantileColumn(name)
  return hasSketches(plan) ? `CASE WHEN q.total = g.n THEN least(greatest(${value}, g.min), g.max) END` : value
}

const hasSketches = (plan: RangePlan): boolean => plan.quantiles.some((part) => part.from === 'sketches')

function bucketSql(plan: RangePlan, lease: Pick<SourcesLease, 'sources' | 'rawFromUs'>, limit: number): string {
  const aggregations = aggregationsOf(plan)
  const direction = plan.query.order === 'asc' ? 'ASC' : 'DESC'
  const stddev = aggregations.includes('stddev')
  const { borders, grid } = plan
  // Which buckets there are is said by `k`: the grid, or the statistics, or the quantiles.
  const key = grid !== undefined ? 'k' : plan.parts.length > 0 ? 'g' : 'q'
  const joined = [...(plan.parts.length > 0 ? ['g', ...(stddev ? ['d'] : [])] : []), ...(plan.quantiles.length === 0 ? [] : ['q'])]
    .filter((name) => name !== key)
    .map((name) => `${key === 'g' && name === 'd' ? 'JOIN' : 'LEFT JOIN'} ${name} ON ${name}.series = ${key}.series AND ${name}.b = ${key}.b`)
  const tables = [
    `m AS (${ranks(plan.ids)})`,
    ...(borders === undefined ? [] : [`c AS (${cells(borders)})`]),
    ...statisticsSql(plan, lease.sources, stddev),
    ...quantilesSql(plan, lease),
    ...(grid === undefined ? [] : [`k AS (SELECT m.series, t.b FROM m, (SELECT ${integers(grid.subarray(0, -1), 'BIGINT')} AS b) t)`]),
  ]
  const column = (name: Aggregation): string => {
    const value = isQuantile(name) ? quantileOf(plan, name) : statisticColumn[name]
    return `coalesce(${value}, ${name === 'count' ? '0' : `'nan'`}::DOUBLE) AS "${name}"`
  }
  const first = aggregations.find(isQuantile)
  const partial =
    first !== undefined && tellsPartial(plan) ? `, coalesce(g.n > 0 AND (${quantileOf(plan, first)}) IS NULL, false)::INTEGER::DOUBLE` : ''
  return `WITH ${tables.join(',\n')}
    SELECT m.rank, make_timestamp(${key}.b), ${aggregations.map(column).join(', ')} ${partial}
    FROM ${key} JOIN m ON m.series = ${key}.series ${joined.join('\n')}
    ${afterClause(plan, `make_timestamp(${key}.b)`, 'm.rank')}
    ORDER BY ${key}.b ${direction}, m.rank ${direction} LIMIT ${limit}`
}

/**
 * Cells no wider than the shortest whole bucket, so that no cell holds more than one border, and a row finds its bucket by a hash join. The borders are
 * told as runs of buckets of one width: one reading with a wrong clock makes 80,000 days, and as many numbers would take seconds to parse.
 */
function cells(borders: Float64Array): string {
  const starts: number[] = []
  const widths: number[] = []
  const counts: number[] = []
  for (let i = 0; i + 1 < borders.length; i++) {
    const widthUs = borders[i + 1]! - borders[i]!
    if (widthUs === widths.at(-1)) counts[counts.length - 1]!++
    else {
      starts.push(borders[i]!)
      widths.push(widthUs)
      counts.push(1)
    }
  }
  const widthUs = cellUs(borders)
  const count = Math.ceil((borders.at(-1)! - borders[0]!) / widthUs)
  const runs = `SELECT ${integers(starts, 'BIGINT')} AS start, ${integers(widths, 'BIGINT')} AS width, ${integers(counts, 'BIGINT')} AS n`
  return `SELECT k.cell, x.before, x.border FROM (SELECT range AS cell, ${borders[0]} + range * ${widthUs} AS at FROM range(${count})) k
    ASOF JOIN (SELECT start + i * width AS before, start + (i + 1) * width AS border FROM (SELECT start, width, unnest(range(n)) AS i FROM (${runs}))) x
    ON k.at >= x.before`
}

/** The first and the last bucket may be shorter: there is no border before the one and none after the other. */
function cellUs(borders: Float64Array): number {
  let widthUs = borders.at(-1)! - borders[0]!
  for (let i = 2; i + 1 < borders.length; i++) widthUs = Math.min(widthUs, borders[i]! - borders[i - 1]!)
  return widthUs
}

/** What to read rows of `statement` from, as `r`, and the start of a row's bucket there, in microseconds. */
function intoBuckets({ query, borders }: RangePlan, statement: string, time: 'ts' | 'bucket'): { readonly from: string; readonly bucket: string } {
  const at = `epoch_us(r.${time})`
  if (borders === undefined) return { from: `(${statement}) r`, bucket: bucketOf(query.stepUs!, `r.${time}`) }
  return {
    from: `(${statement}) r JOIN c ON c.cell = (${at} - ${borders[0]}) // ${cellUs(borders)}`,
    bucket: `(CASE WHEN ${at} < c.border THEN c.before ELSE c.border END)`,
  }
}

const bucketColumns = (alias: string): string => rollupValues.replaceAll(/\w+/g, `${alias}.$&`)

function bucketsOfRollups(plan: RangePlan, part: Part, sources: Sources): string {
  if (part.from === 'rows') throw new RangeError('Rows are no rollups.')
  const level = part.from
  const plain = (ids: Uint32Array, except = ''): string => {
    const { from, bucket } = intoBuckets(plan, `SELECT * FROM (${union(sources.rollups(level, ids, part).rows)}) r ${except}`, 'bucket')
    return `SELECT r.series, ${bucket} AS b, ${bucketColumns('r')} FROM ${from}`
  }
  const { replaced } = part
  if (replaced.length === 0) return plain(part.ids)
  const others = without(part.ids, replaced)
  const corrected = union(sources.rollups(level, replaced, part).corrected)
  const { from, bucket } = intoBuckets(
    plan,
    `SELECT r.series, r.bucket, arg_max({${rollupValues.replaceAll(/\w+/g, "'$&': r.$&")}}, r.gen) AS x
      FROM (${corrected}) r GROUP BY r.series, r.bucket`,
    'bucket',
  )
  return union([
    ...(others.length === 0 ? [] : [plain(others)]),
    plain(replaced, `ANTI JOIN (SELECT series, bucket FROM (${corrected})) k ON r.series = k.series AND r.bucket = k.bucket`),
    `SELECT r.series, ${bucket} AS b, ${bucketColumns('x')} FROM ${from} WHERE x.n > 0`,
  ])
}

function bucketsOfRows(plan: RangePlan, part: Part, sources: Sources): string {
  const { from, bucket } = intoBuckets(plan, rows(part, sources, false), 'ts')
  return `SELECT series, b, ${rollupOfRows} FROM (SELECT r.series, ${bucket} AS b, r.ts, r.v FROM ${from} WHERE NOT isnan(r.v)) GROUP BY 1, 2`
}

/** Deduplicated rows of a range. Only series that have late rows there pay for merging them. */
function rows(part: Part, sources: Sources, texts: boolean): string {
  const { ids, replaced } = part
  const columns = texts ? ', r.flags, 0 AS src, NULL::VARCHAR AS text, NULL::VARCHAR AS meta' : ', r.flags'
  const base = (some: Uint32Array): string => `SELECT r.series, r.ts, r.v${columns} FROM (${union(sources.rows(some, part).base)}) r`
  if (replaced.length === 0) return base(ids)
  const others = without(ids, replaced)
  const late = union(sources.rows(replaced, part).late)
  return union([
    ...(others.length === 0 ? [] : [base(others)]),
    `${base(replaced)} ANTI JOIN (SELECT series, ts FROM (${late})) l ON r.series = l.series AND r.ts = l.ts`,
    `SELECT series, ts, x.v AS v, x.flags AS flags${texts ? ', 1 AS src, x.text AS text, x.meta AS meta' : ''} FROM (
      SELECT r.series, r.ts, arg_max({'v': r.v, 'flags': r.flags, 'text': r.text, 'meta': r.meta}, r.seq) AS x FROM (${late}) r GROUP BY 1, 2)`,
  ])
}

function without(ids: Uint32Array, some: Uint32Array): Uint32Array {
  const set = new Set(some)
  return ids.filter((id) => !set.has(id))
}

/** The place of each series in the order of the answer. */
function ranks(ids: Uint32Array): string {
  return `SELECT ${integers(ids, 'UINTEGER')} AS series, ${integers(
    ids.map((_, i) => i),
    'UINTEGER',
  )} AS rank`
}

/** Strictly behind the position, in the order of the query: by time, then place. */
function afterClause(plan: RangePlan, time: string, rank: string): string {
  const { after, order } = plan.query
  if (after === undefined) return ''
  let below = 0
  while (below < plan.keys.length && compareKeys(plan.keys[below]!, after) < 0) below++
  const exact = below < plan.keys.length && compareKeys(plan.keys[below]!, after) === 0
  const at = timestamp(after.timeUs)
  return order === 'asc'
    ? `WHERE (${time} > ${at} OR (${time} = ${at} AND ${rank} >= ${exact ? below + 1 : below}))`
    : `WHERE (${time} < ${at} OR (${time} = ${at} AND ${rank} < ${below}))`
}
