import type { SeriesKey } from '../../core/batch.ts'
import { limits } from '../../core/limits.ts'
import { isQuantile, type Aggregation, type QueryPage } from '../../core/ports.ts'
import type { Columns } from './copy-out.ts'
import type { BucketStatement, RangeScope } from './range-sql.ts'

/** Rows of `bucketSql` as pages; with a grid also those of its buckets that have no readings. */
export async function* bucketPages(
  pages: AsyncIterable<Columns>,
  statement: BucketStatement,
  scope: RangeScope,
  keys: readonly SeriesKey[],
  grid: Float64Array | undefined,
): AsyncGenerator<QueryPage, void, void> {
  const to = new Pages(statement, scope, keys)
  if (grid === undefined) {
    for await (const page of pages) {
      for (let i = 0; i < page.rows; i++) to.add(page, i)
      yield to.take()
    }
    return
  }
  const cells = cellsOf(scope, grid)
  let cell = cells.next()
  for await (const page of pages) {
    for (let i = 0; i < page.rows; i++) {
      for (; cell.done !== true && !to.isAt(page, i, cell.value); cell = cells.next()) to.empty(cell.value)
      if (cell.done === true) break
      to.add(page, i)
      cell = cells.next()
      if (to.full) yield to.take()
    }
  }
  for (; cell.done !== true; cell = cells.next()) {
    to.empty(cell.value)
    if (to.full) yield to.take()
  }
  if (to.rows > 0) yield to.take()
}

interface Cell {
  readonly rank: number
  readonly timeUs: number
}

/** Buckets and series behind the query's position, in its order, at most as many as it asks for. */
function* cellsOf({ query, ids, rank }: RangeScope, grid: Float64Array): Generator<Cell, void, void> {
  const up = query.order === 'asc'
  const starts = up ? grid.subarray(0, -1) : grid.slice(0, -1).reverse()
  let left = query.limit
  for (const timeUs of starts) {
    const { after } = query
    if (after !== undefined && (up ? timeUs < after.timeUs : timeUs > after.timeUs)) continue
    const at = after?.timeUs === timeUs
    const ranks = up ? range(at ? rank : 0, ids.length) : range(0, at ? rank : ids.length).reverse()
    for (const one of ranks) {
      if (left-- <= 0) return
      yield { rank: one, timeUs }
    }
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i)
}

class Pages {
  rows = 0
  readonly #statement: BucketStatement
  readonly #scope: RangeScope
  readonly #keys: readonly SeriesKey[]
  readonly #aggregations: readonly Aggregation[]
  readonly #place: ReadonlyMap<string, number>
  /** A bucket has numbers and yet no quantile. */
  #partial = false
  #series: number[] = []
  #times: number[] = []
  #columns: number[][]

  constructor(statement: BucketStatement, scope: RangeScope, keys: readonly SeriesKey[]) {
    this.#statement = statement
    this.#scope = scope
    this.#keys = keys
    this.#aggregations = scope.query.aggregations ?? ['avg']
    this.#place = new Map(this.#statement.names.map((name, i) => [name, i + 2]))
    this.#columns = this.#aggregations.map(() => [])
  }

  get full(): boolean {
    return this.rows >= limits.queryPageRows
  }

  isAt(page: Columns, i: number, { rank, timeUs }: Cell): boolean {
    return page.numbers[0]![i] === rank && this.#timeOf(page, i) === timeUs
  }

  add(page: Columns, i: number): void {
    this.#series.push(page.numbers[0]![i]!)
    this.#times.push(this.#timeOf(page, i))
    this.#aggregations.forEach((name, c) => {
      const value = this.#value(name, page, i)
      this.#columns[c]!.push(value)
      if (value !== value && isQuantile(name)) this.#partial = true
    })
    this.rows++
  }

  empty({ rank, timeUs }: Cell): void {
    this.#series.push(rank)
    this.#times.push(timeUs)
    this.#aggregations.forEach((name, c) => this.#columns[c]!.push(name === 'count' ? 0 : Number.NaN))
    this.rows++
  }

  take(): QueryPage {
    const columns = Object.fromEntries(this.#aggregations.map((name, c) => [name, Float64Array.from(this.#columns[c]!)]))
    const whole = { rows: this.rows, keys: this.#keys, series: Uint32Array.from(this.#series), timeUs: Float64Array.from(this.#times), columns }
    const page: QueryPage = this.#partial ? { ...whole, partial: true } : whole
    this.#partial = false
    this.rows = 0
    this.#series = []
    this.#times = []
    this.#columns = this.#aggregations.map(() => [])
    return page
  }

  #timeOf(page: Columns, i: number): number {
    const bucket = page.numbers[1]![i]!
    return this.#scope.borders === undefined ? bucket : this.#scope.borders[bucket - 1]!
  }

  #value(name: Aggregation, page: Columns, i: number): number {
    const of = (part: string): number => page.numbers[this.#place.get(part)!]![i]!
    if (isQuantile(name)) return of(name)
    const n = of('n')
    if (name === 'count') return n
    if (name === 'avg') return of('sum') / n
    if (name === 'stddev') return n < 2 ? Number.NaN : Math.sqrt(Math.max(of('m2'), 0) / (n - 1))
    return of(name)
  }
}
