import type { DuckDBConnection } from '@duckdb/node-api'
import { limits } from '../../core/limits.ts'
import type { Aggregation, Statistic } from '../../core/ports.ts'
import { chunksOf, viewDoubles, viewUints } from './chunk.ts'
import { orderOf, type FewRows } from './few-rows.ts'
import type { Part, RangePlan } from './range-plan.ts'
import { union, type Sources } from './sources.ts'
import { stepOf, type Level } from './sql.ts'

/** What the statistics of a bucket are made from: rollup rows, and sums of rows, of which one bucket may have several. */
const partColumns = ['timeUs', 'n', 'sum', 'm2', 'min', 'max', 'first', 'firstUs', 'last', 'lastUs'] as const
type PartColumns = Record<(typeof partColumns)[number], Float64Array>

export interface FewBuckets {
  readonly rows: number
  readonly timeUs: Float64Array
  readonly rank: Uint32Array
  readonly columns: Readonly<Partial<Record<Aggregation, Float64Array>>>
}

/** Which columns of rollup rows an aggregate needs beside `n`. */
const needs: Readonly<Record<Statistic, readonly (keyof PartColumns)[]>> = {
  avg: ['sum'],
  sum: ['sum'],
  count: [],
  min: ['min'],
  max: ['max'],
  stddev: ['sum', 'm2'],
  first: ['first', 'firstUs'],
  last: ['last', 'lastUs'],
}

const selected: Readonly<Record<keyof PartColumns, string>> = {
  timeUs: 'epoch_us(bucket)::DOUBLE',
  n: 'n::DOUBLE',
  sum: 'sum',
  m2: 'm2',
  min: 'min',
  max: 'max',
  first: 'first',
  firstUs: 'epoch_us(first_ts)::DOUBLE',
  last: 'last',
  lastUs: 'epoch_us(last_ts)::DOUBLE',
}

/** Buckets of few series, added up from rollup rows and rows as range-sql.ts has the engine do it. */
export class BucketSums {
  readonly #plan: RangePlan
  readonly #ranks: ReadonlyMap<number, number>
  readonly #wanted: readonly (keyof PartColumns)[]
  #rows = 0
  #rank = new Uint32Array(256)
  #parts: PartColumns = emptyParts(256)

  constructor(plan: RangePlan, ranks: ReadonlyMap<number, number>) {
    this.#plan = plan
    this.#ranks = ranks
    const asked = new Set((plan.query.aggregations ?? ['avg']).flatMap((name) => (name in needs ? needs[name as Statistic] : [])))
    this.#wanted = partColumns.filter((name) => name === 'timeUs' || name === 'n' || asked.has(name))
  }

  /** Adds the rollup rows of a part. False: they may be too many to be put together here. */
  async addRollups(connection: DuckDBConnection, sources: Sources, part: Part, level: Level): Promise<boolean> {
    if (((part.toUs - part.fromUs) / stepOf[level]) * part.ids.length + this.#rows > limits.queryMergedRowsMax) return false
    const { rows } = sources.rollups(level, part.ids, part)
    const result = await connection.run(`SELECT series, ${this.#wanted.map((name) => selected[name]).join(', ')} FROM (${union(rows)})`)
    this.#reserve(result.rowCount)
    for (const chunk of chunksOf(result)) {
      const series = viewUints(chunk, 0)
      this.#wanted.forEach((name, i) => this.#parts[name].set(viewDoubles(chunk, 1 + i), this.#rows))
      const { timeUs } = this.#parts
      for (let i = 0; i < series.length; i++) {
        const at = this.#rows + i
        this.#rank[at] = this.#ranks.get(series[i]!)!
        timeUs[at] = this.#bucketOf(timeUs[at]!)
      }
      this.#rows += series.length
    }
    return true
  }

  /** Adds rows in the order of time; those without a number count nowhere. */
  addRows({ rows, timeUs, rank, value }: FewRows): void {
    const open = new Int32Array(this.#plan.ids.length).fill(-1)
    this.#reserve(0)
    let parts = this.#parts
    let endsUs = Number.NEGATIVE_INFINITY
    let bucketUs = 0
    for (let i = 0; i < rows; i++) {
      const v = value[i]!
      if (v !== v) continue
      const t = timeUs[i]!
      if (t >= endsUs) {
        bucketUs = this.#bucketOf(t)
        endsUs = this.#endOf(bucketUs)
        open.fill(-1)
      }
      const r = rank[i]!
      const at = open[r]!
      if (at < 0) {
        this.#reserve(1)
        parts = this.#parts
        const fresh = this.#rows++
        open[r] = fresh
        this.#rank[fresh] = r
        parts.timeUs[fresh] = bucketUs
        parts.n[fresh] = 1
        parts.m2[fresh] = 0
        parts.sum[fresh] = parts.min[fresh] = parts.max[fresh] = parts.first[fresh] = parts.last[fresh] = v
        parts.firstUs[fresh] = parts.lastUs[fresh] = t
        continue
      }
      // Welford's update of the deviations; sums of squares would cancel.
      const n = parts.n[at]! + 1
      const mean = parts.sum[at]! / (n - 1)
      const delta = v - mean
      parts.n[at] = n
      parts.sum[at] = parts.sum[at]! + v
      parts.m2[at] = parts.m2[at]! + (delta * delta * (n - 1)) / n
      if (v < parts.min[at]!) parts.min[at] = v
      if (v > parts.max[at]!) parts.max[at] = v
      parts.last[at] = v
      parts.lastUs[at] = t
    }
  }

  /** The buckets in the order of time and rank; with a grid all of it. */
  take(asked: readonly Aggregation[]): FewBuckets {
    const { grid, ids } = this.#plan
    const parts = this.#parts
    const rank = this.#rank
    const order = orderOf(parts.timeUs, rank, this.#rows)
    const at = (i: number): number => (order === undefined ? i : order[i]!)
    const size = grid === undefined ? this.#rows : (grid.length - 1) * ids.length
    const found = { rows: 0, timeUs: new Float64Array(size), rank: new Uint32Array(size), columns: {} as Partial<Record<Aggregation, Float64Array>> }
    for (const name of asked) found.columns[name] = new Float64Array(size)
    const columns = asked.map((name) => found.columns[name]!)
    const put = (bucketUs: number, place: number, from: number, to: number): void => {
      found.timeUs[found.rows] = bucketUs
      found.rank[found.rows] = place
      asked.forEach((name, i) => (columns[i]![found.rows] = statisticOf(name, parts, at, from, to)))
      found.rows++
    }
    let next = 0
    /** Up to where the parts are of the bucket that begins there. */
    const end = (): number => {
      const first = at(next)
      let to = next + 1
      while (to < this.#rows && parts.timeUs[at(to)] === parts.timeUs[first] && rank[at(to)] === rank[first]) to++
      return to
    }
    if (grid === undefined) {
      for (let to = 0; next < this.#rows; next = to) {
        to = end()
        put(parts.timeUs[at(next)]!, rank[at(next)]!, next, to)
      }
      return found
    }
    for (const bucketUs of grid.subarray(0, -1)) {
      for (let place = 0; place < ids.length; place++) {
        const there = next < this.#rows && parts.timeUs[at(next)] === bucketUs && rank[at(next)] === place
        const to = there ? end() : next
        put(bucketUs, place, next, to)
        next = to
      }
    }
    return found
  }

  /** The start of the bucket of a time. */
  #bucketOf(us: number): number {
    const { query, borders } = this.#plan
    return borders === undefined ? us - (us % query.stepUs!) : borders[borderAt(borders, us)]!
  }

  #endOf(bucketUs: number): number {
    const { query, borders } = this.#plan
    return borders === undefined ? bucketUs + query.stepUs! : (borders[borderAt(borders, bucketUs) + 1] ?? Number.POSITIVE_INFINITY)
  }

  #reserve(more: number): void {
    const wanted = this.#rows + more
    if (wanted <= this.#rank.length) return
    const size = Math.max(wanted, 2 * this.#rank.length)
    const larger = emptyParts(size)
    for (const name of partColumns) larger[name].set(this.#parts[name])
    const rank = new Uint32Array(size)
    rank.set(this.#rank)
    this.#parts = larger
    this.#rank = rank
  }
}

function emptyParts(size: number): PartColumns {
  const column = (): Float64Array => new Float64Array(size)
  return {
    timeUs: column(),
    n: column(),
    sum: column(),
    m2: column(),
    min: column(),
    max: column(),
    first: column(),
    firstUs: column(),
    last: column(),
    lastUs: column(),
  }
}

/** The last border at or before a time. */
function borderAt(borders: Float64Array, us: number): number {
  let [lo, hi] = [0, borders.length - 1]
  while (lo < hi) {
    const middle = (lo + hi + 1) >> 1
    if (borders[middle]! <= us) lo = middle
    else hi = middle - 1
  }
  return lo
}

/** Of the parts [from, to) of one bucket; of none a count of 0, and no number. */
function statisticOf(name: Aggregation, parts: PartColumns, at: (i: number) => number, from: number, to: number): number {
  const total = (column: Float64Array): number => {
    let sum = 0
    for (let i = from; i < to; i++) sum += column[at(i)]!
    return sum
  }
  if (name === 'count') return total(parts.n)
  if (from === to) return Number.NaN
  switch (name) {
    case 'avg':
      return total(parts.sum) / total(parts.n)
    case 'sum':
      return total(parts.sum)
    case 'min':
    case 'max': {
      let most = parts[name][at(from)]!
      for (let i = from + 1; i < to; i++) most = Math[name](most, parts[name][at(i)]!)
      return most
    }
    case 'stddev':
      return deviation(parts, at, from, to, total(parts.n), total(parts.sum))
    case 'first':
    case 'last': {
      const [times, sign] = name === 'first' ? [parts.firstUs, 1] : [parts.lastUs, -1]
      let found = at(from)
      for (let i = from + 1; i < to; i++) if (sign * times[at(i)]! < sign * times[found]!) found = at(i)
      return parts[name][found]!
    }
    default:
      throw new RangeError(`${name} is no statistic of rollup rows`)
  }
}

/** Of the sample, from those of the parts and how far their means lie from the whole's: in one pass sums of squares would cancel. */
function deviation(parts: PartColumns, at: (i: number) => number, from: number, to: number, n: number, sum: number): number {
  if (n < 2) return Number.NaN
  let m2 = 0
  for (let i = from; i < to; i++) {
    const part = at(i)
    m2 += parts.m2[part]! + parts.n[part]! * (parts.sum[part]! / parts.n[part]! - sum / n) ** 2
  }
  return Math.sqrt(Math.max(m2, 0) / (n - 1))
}
