import type { SeededRandom } from '../../../core/seeded-random.ts'
import type { Bounds } from '../fill.ts'
import type { Series } from '../series.ts'
import { upTo } from '../series.ts'
import { binEdges, binOf } from './bins.ts'
import type { BinnedRows } from './grow.ts'
import type { RowPlan } from './rows.ts'
import { baseAt, believed, calendarOf, leadIn, pairFeatures, pastColumns } from './rows.ts'

/** Rows to learn from, in the order of their presents. */
export interface Sample extends BinnedRows {
  readonly edges: readonly Float64Array[]
  /** Targets are value minus last value, in units of this: none is beyond 1. */
  readonly scale: number
  /** The step of the present, and how far ahead its target lies. */
  readonly presents: Int32Array
  readonly aheads: Int32Array
}

export interface SampleOptions {
  readonly horizon: number
  readonly rowsMost: number
  /** Rows of one present, at most. */
  readonly perPresent: number
  readonly bins: number
}

/** Steps of which features are made between two yields, where a day is 24 of them; fewer where it is longer, as windows are. */
const stepsPerPiece = 8_192

/**
 * Draws presents and steps ahead, and makes binned features of them. Steps ahead are drawn from as many equal parts of the horizon as a present has
 * rows. Undefined: there are none whose last value and target are known, or none of these differ.
 */
export function* sampleRows(
  series: Series,
  bounds: Bounds,
  plan: RowPlan,
  o: SampleOptions,
  random: SeededRandom,
): Generator<undefined, Sample | undefined, void> {
  const { season } = plan.shape
  const values = believed(series.values, bounds)
  const { presents, aheads, targets, bases } = draw(values, season, o, random)
  const rows = presents.length
  let scale = 0
  for (const target of targets) scale = Math.max(scale, Math.abs(target))
  if (rows === 0 || scale === 0) return undefined
  for (let r = 0; r < rows; r++) targets[r]! /= scale
  yield
  const { past, calendar } = yield* wholeColumns({ ...series, values }, plan)
  const columns: Uint8Array[] = []
  const edges: Float64Array[] = []
  const raw = new Float64Array(rows)
  const add = (): void => {
    const ends = binEdges(raw, o.bins)
    edges.push(ends)
    columns.push(Uint8Array.from(raw, (v) => binOf(ends, v)))
  }
  for (const [f, column] of past.entries()) {
    for (let r = 0; r < rows; r++) raw[r] = plan.levels[f]! ? column[presents[r]!]! - bases[r]! : column[presents[r]!]!
    add()
    yield
  }
  for (const column of calendar) {
    for (let r = 0; r < rows; r++) raw[r] = column[presents[r]! + aheads[r]!]!
    add()
    yield
  }
  const pairs = plan.pair.map(() => new Float64Array(rows))
  const one = new Float64Array(plan.pair.length)
  for (let r = 0; r < rows; r++) {
    pairFeatures({ values, at: presents[r]!, base: bases[r]!, season }, aheads[r]!, one)
    for (let k = 0; k < one.length; k++) pairs[k]![r] = one[k]!
    if (r % stepsPerPiece === stepsPerPiece - 1) yield
  }
  for (const column of pairs) {
    raw.set(column)
    add()
    yield
  }
  return { columns, bins: edges.map((ends) => ends.length + 2), edges, targets, scale, presents, aheads }
}

interface Drawn {
  readonly presents: Int32Array
  readonly aheads: Int32Array
  readonly targets: Float64Array
  readonly bases: Float64Array
}

function draw(values: Float64Array, season: number, { horizon, rowsMost, perPresent }: SampleOptions, random: SeededRandom): Drawn {
  const per = Math.min(perPresent, horizon)
  const last = values.length - 1
  // Of long series each present is taken with the same chance.
  const share = Math.min(1, rowsMost / (per * Math.max(1, last)))
  const [presents, aheads, targets, bases]: [number[], number[], number[], number[]] = [[], [], [], []]
  for (let at = 0; at < last && presents.length < rowsMost; at++) {
    if (share < 1 && random.next() >= share) continue
    const base = baseAt(values, at, season)
    for (let k = 0; k < per; k++) {
      const ahead = 1 + Math.floor(((k + random.next()) * horizon) / per)
      const target = at + ahead <= last ? values[at + ahead]! - base : Number.NaN
      if (!Number.isFinite(target) || presents.length >= rowsMost) continue
      presents.push(at)
      aheads.push(ahead)
      targets.push(target)
      bases.push(base)
    }
  }
  return {
    presents: Int32Array.from(presents),
    aheads: Int32Array.from(aheads),
    targets: Float64Array.from(targets),
    bases: Float64Array.from(bases),
  }
}

/** Features of every step of the series, made piece by piece, each with the day before it. */
function* wholeColumns(
  series: Series,
  plan: RowPlan,
): Generator<undefined, { readonly past: readonly Float64Array[]; readonly calendar: readonly Float64Array[] }, void> {
  const { startUs, stepUs, values, timeZone } = series
  const n = values.length
  const past = plan.past.map(() => new Float64Array(n))
  const calendar = plan.calendar.map(() => new Float64Array(n))
  const lead = leadIn(stepUs)
  const piece = Math.max(lead, Math.min(stepsPerPiece, Math.floor((24 * stepsPerPiece) / lead)))
  for (let from = 0; from < n; from += piece) {
    const to = Math.min(n, from + piece)
    const begin = Math.max(0, from - lead)
    for (const [f, column] of pastColumns(upTo(series, to, begin), plan).entries()) past[f]!.set(column.subarray(from - begin), from)
    for (const [f, column] of calendarOf(startUs + from * stepUs, to - from, timeZone, plan).entries()) calendar[f]!.set(column, from)
    yield
  }
  return { past, calendar }
}
