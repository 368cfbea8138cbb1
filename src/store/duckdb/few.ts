import type { DuckDBConnection } from '@duckdb/node-api'
import { isBucketed } from '../../core/buckets.ts'
import { limits } from '../../core/limits.ts'
import { isQuantile, type Aggregation, type QueryPage } from '../../core/ports.ts'
import { compareKeys } from './dictionary.ts'
import { BucketSums } from './few-buckets.ts'
import { withRowsOfPart } from './few-rows.ts'
import type { RangePlan } from './range-plan.ts'
import { columnsOf } from './range-sql.ts'
import { fewMax } from './sealed/sources.ts'
import type { Sources } from './sources.ts'

/**
 * The answer for few series, when nothing came late or was corrected: rows are read as they lie and put together here, as for the engine a statement that
 * does it takes longer to parse and plan, and to sort, than to run. Undefined: range-sql.ts has to say it.
 */
export async function answerOfFew(
  connection: DuckDBConnection,
  plan: RangePlan,
  sources: Sources,
  limit: number,
): Promise<readonly QueryPage[] | undefined> {
  if (plan.ids.length > fewMax || plan.texts || plan.quantiles.length > 0 || plan.parts.some((part) => part.replaced.length > 0)) return undefined
  const ranks = new Map(Array.from(plan.ids, (id, rank) => [id, rank]))
  return isBucketed(plan.query) ? buckets(connection, plan, sources, ranks, limit) : raw(connection, plan, sources, ranks, limit)
}

async function raw(
  connection: DuckDBConnection,
  plan: RangePlan,
  sources: Sources,
  ranks: ReadonlyMap<number, number>,
  limit: number,
): Promise<readonly QueryPage[] | undefined> {
  return withRowsOfPart(connection, sources, plan.parts[0]!, ranks, (found) => {
    const { timeUs, rank, value, flags } = found
    return pagesOf(plan, found, limit, (at) => ({ columns: { value: at(value) }, flags: at(flags) }), [timeUs, rank])
  })
}

async function buckets(
  connection: DuckDBConnection,
  plan: RangePlan,
  sources: Sources,
  ranks: ReadonlyMap<number, number>,
  limit: number,
): Promise<readonly QueryPage[] | undefined> {
  const { grid, ids } = plan
  if (grid !== undefined && (grid.length - 1) * ids.length > limits.queryMergedRowsMax) return undefined
  const sums = new BucketSums(plan, ranks)
  for (const part of plan.parts) {
    if (part.from !== 'rows') {
      if (!(await sums.addRollups(connection, sources, part, part.from))) return undefined
      continue
    }
    const added = await withRowsOfPart(connection, sources, part, ranks, (rows) => {
      sums.addRows(rows)
      return true
    })
    if (added === undefined) return undefined
  }
  const asked = columnsOf(plan) as readonly Aggregation[]
  const found = sums.take(asked.filter((name) => !isQuantile(name)))
  return pagesOf(plan, found, limit, (at) => ({ columns: Object.fromEntries(asked.map((name) => [name, at(found.columns[name]!)])) }), [
    found.timeUs,
    found.rank,
  ])
}

type Take = <A extends Float64Array | Uint8Array | Uint32Array>(column: A) => A

/** Pages of what is in the order of time and rank: behind the query's position, in its order, at most `limit` rows. */
function pagesOf(
  plan: RangePlan,
  { rows }: { readonly rows: number },
  limit: number,
  more: (take: Take) => Pick<QueryPage, 'columns' | 'flags'>,
  [timeUs, rank]: readonly [Float64Array, Uint32Array],
): QueryPage[] {
  const [lo, hi] = behind(plan, timeUs, rank, rows)
  const asc = plan.query.order === 'asc'
  const [from, to] = asc ? [lo, Math.min(hi, lo + limit)] : [Math.max(lo, hi - limit), hi]
  const pages: QueryPage[] = []
  for (let done = 0; done < to - from; done += limits.queryPageRows) {
    const n = Math.min(limits.queryPageRows, to - from - done)
    const at = asc ? from + done : to - done - n
    // A copy: what a page has is handed to another thread.
    const take: Take = (column) => {
      const some = column.slice(at, at + n)
      return (asc ? some : some.reverse()) as typeof column
    }
    pages.push({ rows: n, keys: plan.keys, series: take(rank), timeUs: take(timeUs), ...more(take) })
  }
  return pages
}

/** Between which places the rows lie that are strictly behind the position of the query. */
function behind({ query, keys }: RangePlan, timeUs: Float64Array, rank: Uint32Array, rows: number): readonly [number, number] {
  const { after, order } = query
  if (after === undefined) return [0, rows]
  let below = 0
  while (below < keys.length && compareKeys(keys[below]!, after) < 0) below++
  const exact = below < keys.length && compareKeys(keys[below]!, after) === 0
  const least = order === 'asc' && exact ? below + 1 : below
  let [lo, hi] = [0, rows]
  while (lo < hi) {
    const at = (lo + hi) >> 1
    if (timeUs[at]! < after.timeUs || (timeUs[at] === after.timeUs && rank[at]! < least)) lo = at + 1
    else hi = at
  }
  return order === 'asc' ? [lo, rows] : [0, lo]
}
