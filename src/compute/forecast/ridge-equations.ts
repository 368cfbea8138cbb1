import type { LagMoments } from './lag-moments.ts'
import { choleskyRows, dot, solveCholesky } from './linear.ts'

/** What is subtracted from a window before it is looked at, and added to the forecast again. */
export type Level = 'last' | 'mean'

export interface RidgeShape {
  /** Inputs: the last so many steps. */
  readonly window: number
  readonly level: Level
  /** Columns of the calendar beside them, of the moments' first ones; 0: none. */
  readonly extras: number
  /** Relative to the mean square of the inputs. */
  readonly penalty: number
}

/** Normal equations of all horizons asked for: gram w = cross, where `square` is the sum of squared targets. One row of `cross` per horizon. */
interface Equations {
  readonly size: number
  readonly gram: Float64Array
  readonly cross: Float64Array
  readonly square: Float64Array
}

/** Extra columns are hardly held back: there are seven of them. */
const extrasPenalty = 0.01
/**
 * Weights of old inputs are held back more: by their age to this power, 1.5 at the oldest, so that the mean is 1. Chosen on ETTh1's validation rows.
 */
const ageExponent = 0.5

/** Steps ahead, 1 to `horizon`, at most `count`, spread evenly: choices are made on them. */
export function sampleHorizons(horizon: number, count: number): Int32Array {
  const n = Math.min(horizon, count)
  return Int32Array.from({ length: n }, (_, k) => Math.round(((k + 1) * horizon) / n))
}

/** `inputs`: how many of the moments' steps are inputs; the window is the last of them. Horizon 1 is the step behind. */
function equationsOf(m: LagMoments, inputs: number, { window, level, extras }: RidgeShape, horizons: Int32Array): Equations {
  const { width, products, withExtras, ofExtras } = m
  const all = ofExtras.length === 0 ? 0 : Math.sqrt(ofExtras.length)
  const offset = inputs - window
  const size = window + extras
  // The level is a weighted sum of the window: `last` has one weight.
  const first = level === 'last' ? inputs - 1 : offset
  const share = 1 / (inputs - first)
  const leveled = new Float64Array(width)
  for (let i = first; i < inputs; i++) for (let j = 0; j < width; j++) leveled[j]! += share * products[i * width + j]!
  let squared = 0
  for (let i = first; i < inputs; i++) squared += share * leveled[i]!
  const gram = new Float64Array(size * size)
  for (let i = 0; i < window; i++) {
    const row = (offset + i) * width + offset
    const own = squared - leveled[offset + i]!
    for (let j = 0; j <= i; j++) gram[i * size + j] = products[row + j]! + own - leveled[offset + j]!
  }
  const cross = new Float64Array(horizons.length * size)
  const square = new Float64Array(horizons.length)
  for (let h = 0; h < horizons.length; h++) {
    const y = inputs - 1 + horizons[h]!
    const own = squared - leveled[y]!
    for (let i = 0; i < window; i++) cross[h * size + i] = products[(offset + i) * width + y]! + own - leveled[offset + i]!
    square[h] = products[y * width + y]! - 2 * leveled[y]! + squared
  }
  for (let k = 0; k < extras; k++) {
    let level = 0
    for (let i = first; i < inputs; i++) level += share * withExtras[k * width + i]!
    const row = (window + k) * size
    for (let i = 0; i < window; i++) gram[row + i] = withExtras[k * width + offset + i]! - level
    for (let other = 0; other <= k; other++) gram[row + window + other] = ofExtras[k * all + other]!
    for (let h = 0; h < horizons.length; h++) cross[h * size + window + k] = withExtras[k * width + inputs - 1 + horizons[h]!]! - level
  }
  return { size, gram, cross, square }
}

const flopsPerPiece = 8_000_000

/**
 * Weights of each horizon, one row of window + extras each, in closed form: (XᵀX + penalty) w = XᵀY by Cholesky (Hoerl and Kennard 1970). Undefined
 * where the equations have no solution in doubles. Yields after pieces of about 10 ms.
 */
export function* solveRidge(
  m: LagMoments,
  inputs: number,
  shape: RidgeShape,
  horizons: Int32Array,
): Generator<undefined, Float64Array | undefined, void> {
  const { size, gram, cross } = equationsOf(m, inputs, shape, horizons)
  const { window } = shape
  let mean = 0
  for (let i = 0; i < window; i++) mean += gram[i * size + i]! / window
  for (let i = 0; i < window; i++) {
    gram[i * size + i]! += shape.penalty * mean * (1 + ageExponent) * ((window - i) / window) ** ageExponent
  }
  for (let k = window; k < size; k++) gram[k * size + k]! += extrasPenalty * mean
  for (let row = 0; row < size;) {
    const to = Math.min(size, row + Math.max(1, Math.ceil(flopsPerPiece / (row + 1) ** 2)))
    if (!choleskyRows(gram, size, row, to)) return undefined
    row = to
    yield
  }
  let done = 0
  for (let h = 0; h < horizons.length; h++) {
    solveCholesky(gram, size, cross.subarray(h * size, (h + 1) * size))
    done += 2 * size * size
    if (done >= flopsPerPiece) {
      done = 0
      yield
    }
  }
  return cross.every(Number.isFinite) ? cross : undefined
}

/** Mean squared error that weights have over other windows, from their moments: no window is looked at again. */
export function errorOf(m: LagMoments, inputs: number, shape: RidgeShape, horizons: Int32Array, weights: Float64Array): number {
  const { size, gram, cross, square } = equationsOf(m, inputs, shape, horizons)
  for (let i = 0; i < size; i++) for (let j = 0; j < i; j++) gram[j * size + i] = gram[i * size + j]!
  let sum = 0
  for (let h = 0; h < horizons.length; h++) {
    const at = h * size
    sum += square[h]! - 2 * dot(weights, at, cross, at, size)
    for (let i = 0; i < size; i++) sum += weights[at + i]! * dot(gram, i * size, weights, at, size)
  }
  return sum / (m.count * horizons.length)
}

/**
 * One regression that answers with the mean of what several answer: over the longest of their windows, relative to the last value. Weights relative
 * to a mean are brought to that form first: level + w (x - level) is a sum of the window whose weights add up to 1. Extras are the first columns of
 * the calendar in all.
 */
export function joinRidges(
  parts: readonly { readonly shape: RidgeShape; readonly weights: Float64Array }[],
  horizon: number,
): { readonly shape: RidgeShape; readonly weights: Float64Array } {
  const [first] = parts
  if (first !== undefined && parts.length === 1) return first
  const window = Math.max(...parts.map(({ shape }) => shape.window))
  const extras = Math.max(...parts.map(({ shape }) => shape.extras))
  const size = window + extras
  const joined = new Float64Array(horizon * size)
  for (const { shape, weights } of parts) {
    const own = shape.window + shape.extras
    for (let h = 0; h < horizon; h++) {
      let sum = 0
      for (let i = 0; i < shape.window; i++) sum += weights[h * own + i]!
      const rest = shape.level === 'mean' ? (1 - sum) / shape.window : 0
      const at = h * size + window
      for (let i = 0; i < shape.window; i++) joined[at - shape.window + i]! += (weights[h * own + i]! + rest) / parts.length
      for (let k = 0; k < shape.extras; k++) joined[at + k]! += weights[h * own + shape.window + k]! / parts.length
    }
  }
  return { shape: { window, level: 'last', extras, penalty: first!.shape.penalty }, weights: joined }
}
