import type { Aggregation } from '../../core/ports.ts'
import { compareKeys } from './dictionary.ts'
import type { Part, RangePlan } from './range-plan.ts'
import { rollupValues, union, type Sources } from './sources.ts'
import { bucketOf, integers, rollupOfRows, timestamp } from './sql.ts'

/** Names of an answer's columns after place and time. */
export function columnsOf(plan: RangePlan): readonly string[] {
  return plan.query.stepUs === undefined ? ['value'] : aggregationsOf(plan)
}

/**
 * A plan as a statement whose columns are: place in `keys`, time (TIMESTAMP), then `columnsOf` as DOUBLE; raw ones end with flags, and text and
 * meta when the plan has texts. `sources` are those of the files that `needsOf` named.
 */
export function rangeSql(plan: RangePlan, sources: Sources, limit: number): string {
  return plan.query.stepUs === undefined ? rawSql(plan, sources, limit) : bucketSql(plan, sources, plan.query.stepUs, limit)
}

function aggregationsOf(plan: RangePlan): readonly Aggregation[] {
  return plan.query.aggregations ?? ['avg']
}

function rawSql(plan: RangePlan, sources: Sources, limit: number): string {
  const { ids, texts } = plan
  const direction = plan.query.order === 'asc' ? 'ASC' : 'DESC'
  const found = plan.parts.map((part) => rows(part, sources, texts)).join('\nUNION ALL\n')
  const limited = `SELECT r.series, m.rank, r.ts, r.v, r.flags${texts ? ', r.src, r.text, r.meta' : ''} FROM (${found}) r
    JOIN m ON m.series = r.series ${afterClause(plan, 'r.ts', 'm.rank')} ORDER BY r.ts ${direction}, m.rank ${direction} LIMIT ${limit}`
  if (!texts) return `WITH m AS (${ranks(ids)}) SELECT rank, ts, v, flags FROM (${limited}) ORDER BY ts ${direction}, rank ${direction}`
  const words = union(sources.rows(undefined, plan).texts)
  return `WITH m AS (${ranks(ids)}), q AS (${limited})
    SELECT q.rank, q.ts, q.v, q.flags, coalesce(q.text, x.text) AS text, coalesce(q.meta, x.meta) AS meta FROM q LEFT JOIN (
      SELECT series, ts, text, meta, 0 AS src FROM (${words})) x
    ON q.series = x.series AND q.ts = x.ts AND q.src = x.src ORDER BY q.ts ${direction}, q.rank ${direction}`
}

function bucketSql(plan: RangePlan, sources: Sources, stepUs: number, limit: number): string {
  const aggregations = aggregationsOf(plan)
  const direction = plan.query.order === 'asc' ? 'ASC' : 'DESC'
  const parts = plan.parts.map((part) => (part.from === 'rows' ? bucketsOfRows(part, sources, stepUs) : bucketsOfRollups(part, sources, stepUs)))
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
  return `WITH m AS (${ranks(plan.ids)}), p AS ${stddev ? 'MATERIALIZED ' : ''}(${union(parts)}),
    g AS (SELECT series, b, sum(n) AS n, sum(sum) AS sum, min(min) AS min, max(max) AS max,
      arg_min(first, first_ts) AS first, arg_max(last, last_ts) AS last
      FROM p GROUP BY series, b)${spread}
    SELECT m.rank, make_timestamp(g.b), ${aggregations.map((a) => `${column[a]} AS "${a}"`).join(', ')}
    FROM g JOIN m ON m.series = g.series ${stddev ? 'JOIN d ON d.series = g.series AND d.b = g.b' : ''}
    ${afterClause(plan, 'make_timestamp(g.b)', 'm.rank')}
    ORDER BY g.b ${direction}, m.rank ${direction} LIMIT ${limit}`
}

const bucketColumns = (alias: string): string => rollupValues.replaceAll(/\w+/g, `${alias}.$&`)

function bucketsOfRollups(part: Part, sources: Sources, stepUs: number): string {
  if (part.from === 'rows') throw new RangeError('Rows are no rollups.')
  const level = part.from
  const bucket = bucketOf(stepUs, 'r.bucket')
  const plain = (ids: Uint32Array): string =>
    `SELECT r.series, ${bucket} AS b, ${bucketColumns('r')} FROM (${union(sources.rollups(level, ids, part).rows)}) r`
  const { replaced } = part
  if (replaced.length === 0) return plain(part.ids)
  const others = without(part.ids, replaced)
  const corrected = union(sources.rollups(level, replaced, part).corrected)
  return union([
    ...(others.length === 0 ? [] : [plain(others)]),
    `${plain(replaced)} ANTI JOIN (SELECT series, bucket FROM (${corrected})) k ON r.series = k.series AND r.bucket = k.bucket`,
    `SELECT series, b, ${bucketColumns('x')} FROM (
      SELECT r.series, ${bucket} AS b, arg_max({${rollupValues.replaceAll(/\w+/g, "'$&': r.$&")}}, r.gen) AS x
      FROM (${corrected}) r GROUP BY r.series, r.bucket) WHERE x.n > 0`,
  ])
}

function bucketsOfRows(part: Part, sources: Sources, stepUs: number): string {
  return `SELECT series, ${bucketOf(stepUs)} AS b, ${rollupOfRows} FROM (${rows(part, sources, false)}) WHERE NOT isnan(v) GROUP BY 1, 2`
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
