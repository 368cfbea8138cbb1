import type { DuckDBConnection } from '@duckdb/node-api'
import { limits } from '../../core/limits.ts'
import { chunksOf, readValidity, viewBytes, viewDoubles, viewUints } from './chunk.ts'
import type { Part } from './range-plan.ts'
import type { GroupScan } from './sealed/scan.ts'
import { union, type FewSources, type Sources } from './sources.ts'

/** Rows as columns, `rows` of them; the arrays may be longer. `rank`: the place of the series in the answer's order. */
export interface FewRows {
  readonly rows: number
  readonly timeUs: Float64Array
  readonly rank: Uint32Array
  readonly value: Float64Array
  readonly flags: Uint8Array
}

/**
 * The rows of a part of few series, none of them late, in the order of time and place, as `use` is given them: their arrays are used again afterwards. Undefined: they
 * are too many to be put together here, where they have to be in memory.
 */
export async function withRowsOfPart<T>(
  connection: DuckDBConnection,
  sources: Sources,
  part: Pick<Part, 'ids' | 'fromUs' | 'toUs'>,
  ranks: ReadonlyMap<number, number>,
  use: (rows: FewRows) => T,
): Promise<T | undefined> {
  const few = sources.few(part.ids, part)
  if (few.count > limits.queryMergedRowsMax) return undefined
  const all = spare ?? new Rows(4096)
  spare = undefined
  all.rows = 0
  try {
    if (!all.reserve(few.count) || !(await addGroups(connection, few, ranks, all)) || !(await addNarrow(connection, few, ranks, all)))
      return undefined
    const order = orderOf(all.timeUs, all.rank, all.rows)
    if (order !== undefined) all.arrange(order)
    return use(all)
  } finally {
    spare = all
  }
}

/** What a query has no use for any more: with new arrays for each, collecting them takes longer than filling them. At most 5.5 MB. */
let spare: Rows | undefined

class Rows implements FewRows {
  rows = 0
  timeUs: Float64Array
  rank: Uint32Array
  value: Float64Array
  flags: Uint8Array

  constructor(capacity: number) {
    this.timeUs = new Float64Array(capacity)
    this.rank = new Uint32Array(capacity)
    this.value = new Float64Array(capacity)
    this.flags = new Uint8Array(capacity)
  }

  /** Room for so many more; false when that is more than may be in memory. */
  reserve(more: number): boolean {
    const wanted = this.rows + more
    if (wanted > limits.queryMergedRowsMax) return false
    if (wanted <= this.timeUs.length) return true
    const larger = new Rows(Math.min(limits.queryMergedRowsMax, Math.max(wanted, 2 * this.timeUs.length)))
    larger.timeUs.set(this.timeUs)
    larger.rank.set(this.rank)
    larger.value.set(this.value)
    larger.flags.set(this.flags)
    ;({ timeUs: this.timeUs, rank: this.rank, value: this.value, flags: this.flags } = larger)
    return true
  }

  /** Puts the rows into this order, of which the beginning mostly is as it was. */
  arrange(order: Uint32Array): void {
    let from = 0
    while (from < order.length && order[from] === from) from++
    for (const column of [this.timeUs, this.rank, this.value, this.flags]) {
      const before = column.slice(from, order.length)
      for (let i = from; i < order.length; i++) column[i] = before[order[i]! - from]!
    }
  }
}

async function addNarrow(connection: DuckDBConnection, few: FewSources, ranks: ReadonlyMap<number, number>, to: Rows): Promise<boolean> {
  if (few.narrow.length === 0) return true
  const result = await connection.run(
    `SELECT series, epoch_us(ts)::DOUBLE, v, flags FROM (${union(few.narrow)}) LIMIT ${limits.queryMergedRowsMax + 1}`,
  )
  if (!to.reserve(result.rowCount)) return false
  for (const chunk of chunksOf(result)) {
    const series = viewUints(chunk, 0)
    to.timeUs.set(viewDoubles(chunk, 1), to.rows)
    to.value.set(viewDoubles(chunk, 2), to.rows)
    to.flags.set(viewBytes(chunk, 3), to.rows)
    for (let i = 0; i < series.length; i++) to.rank[to.rows + i] = ranks.get(series[i]!)!
    to.rows += series.length
  }
  return true
}

/** All groups with one statement; those with fewer series than the largest have columns without readings. */
async function addGroups(connection: DuckDBConnection, few: FewSources, ranks: ReadonlyMap<number, number>, to: Rows): Promise<boolean> {
  const { groups } = few
  if (groups.length === 0) return true
  const width = Math.max(...groups.map(({ series }) => series.length))
  const columns = Array.from({ length: width }, (_, i) => i)
  const scans = groups.map(
    ({ sql, series }, k) =>
      `SELECT us, flags, ${columns.map((i) => (i < series.length ? `v${i}` : 'NULL::DOUBLE')).join(', ')}, ${k}::UINTEGER AS k FROM (${sql})`,
  )
  const result = await connection.run(scans.length === 1 ? scans[0]! : `SELECT * FROM (${union(scans)}) LIMIT ${limits.queryMergedRowsMax + 1}`)
  if (result.rowCount > limits.queryMergedRowsMax) return false
  const inRank = groups.map(({ series, bits }: GroupScan) =>
    series.map((id, column) => ({ column, rank: ranks.get(id)!, bits: bits[column]! })).sort((a, b) => a.rank - b.rank),
  )
  for (const chunk of chunksOf(result)) {
    const rows = chunk.rowCount
    if (!to.reserve(rows * width)) return false
    const [us, flags, of] = [viewDoubles(chunk, 0), viewBytes(chunk, 1), viewUints(chunk, 2 + width)]
    const values = columns.map((i) => viewDoubles(chunk, 2 + i))
    const valid = columns.map((i) => readValidity(chunk, 2 + i))
    const { timeUs, rank, value, flags: kept } = to
    let n = to.rows
    for (let i = 0; i < rows; i++) {
      const members = inRank[of[i]!]!
      for (let m = 0; m < members.length; m++) {
        const member = members[m]!
        const mask = valid[member.column]
        if (mask !== undefined && ((mask[i >> 3]! >> (i & 7)) & 1) === 0) continue
        timeUs[n] = us[i]!
        rank[n] = member.rank
        value[n] = values[member.column]![i]!
        kept[n] = flags[i]! | member.bits
        n++
      }
    }
    to.rows = n
  }
  return true
}

/** The order of time and rank, as places; undefined: it is that already. Sorted stretches are found and merged: rows mostly are in order. */
export function orderOf(timeUs: Float64Array, rank: Uint32Array, rows: number): Uint32Array | undefined {
  let ends: number[] = []
  for (let i = 1; i < rows; i++) if (timeUs[i]! < timeUs[i - 1]! || (timeUs[i] === timeUs[i - 1] && rank[i]! < rank[i - 1]!)) ends.push(i)
  if (ends.length === 0) return undefined
  ends.push(rows)
  const order = new Uint32Array(rows)
  for (let i = 0; i < rows; i++) order[i] = i
  const before = (x: number, y: number): boolean => timeUs[x]! < timeUs[y]! || (timeUs[x] === timeUs[y] && rank[x]! < rank[y]!)
  const aside = new Uint32Array(rows)
  while (ends.length > 1) {
    const merged: number[] = []
    for (let k = 0, begin = 0; k < ends.length; k += 2) {
      const end = ends[k + 1] ?? ends[k]!
      if (k + 1 < ends.length) mergeStretches(order, aside, begin, ends[k]!, end, before)
      merged.push(end)
      begin = end
    }
    ends = merged
  }
  return order
}

/** Merges [begin, middle) and [middle, end), both in order; what is in its place already costs nothing. */
function mergeStretches(
  order: Uint32Array,
  aside: Uint32Array,
  begin: number,
  middle: number,
  end: number,
  before: (x: number, y: number) => boolean,
): void {
  let [from, to] = [begin, middle]
  while (from < to) {
    const at = (from + to) >> 1
    if (before(order[middle]!, order[at]!)) to = at
    else from = at + 1
  }
  aside.set(order.subarray(from, middle))
  const left = middle - from
  for (let a = 0, b = middle, i = from; a < left; i++) {
    if (b < end && before(order[b]!, aside[a]!)) order[i] = order[b++]!
    else order[i] = aside[a++]!
  }
}
