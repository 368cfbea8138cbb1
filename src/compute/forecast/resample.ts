import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'

/** Readings of one metric, in any order; NaN values are none. */
export interface Readings {
  /** Epoch microseconds. */
  readonly timesUs: Float64Array
  readonly values: Float64Array
}

/** The grid that readings are put on. Steps are cut in UTC. */
export interface Grid {
  readonly stepUs: number
  /** The first step begins here; undefined: at the first reading's step, counted from 1970. */
  readonly startUs?: number
  /** Steps begin before this; undefined: with the last reading's. */
  readonly endUs?: number
  /**
   * `interval`: the value of a step is the mean of the readings in [time, time + step). `nearest`: of those in [time - step / 2, time + step / 2),
   * for readings that were taken on the grid and came with some seconds of jitter.
   */
  readonly place: 'interval' | 'nearest'
}

export interface Resampled {
  readonly startUs: number
  readonly stepUs: number
  /** NaN: there was no reading in that step. Nothing is filled in. */
  readonly values: Float64Array
  /** Readings of the same time as a later one in the order given: that one counts, as it does in the store. */
  readonly duplicates: number
  /** Readings that are no finite number. */
  readonly missing: number
}

/**
 * Irregular readings as a regular series: each step is the mean of its readings, and a step without one stays empty. Throws query_too_large for a
 * grid of more than `forecastStepsMax` steps.
 */
export function resample({ timesUs, values }: Readings, grid: Grid): Resampled {
  const { stepUs } = grid
  const order = inOrder(timesUs)
  const kept: number[] = []
  let [duplicates, missing] = [0, 0]
  for (let k = 0; k < order.length; k++) {
    const i = order[k]!
    if (!Number.isFinite(values[i]!)) missing++
    else if (kept.length > 0 && timesUs[kept.at(-1)!] === timesUs[i]) {
      kept[kept.length - 1] = i
      duplicates++
    } else kept.push(i)
  }
  const shift = grid.place === 'nearest' ? stepUs / 2 : 0
  const firstUs = kept.length === 0 ? 0 : timesUs[kept[0]!]!
  const startUs = grid.startUs ?? Math.floor((firstUs + shift) / stepUs) * stepUs
  const lastUs = kept.length === 0 ? startUs : timesUs[kept.at(-1)!]!
  const steps = kept.length === 0 && grid.endUs === undefined ? 0 : Math.max(0, stepsBetween(startUs, grid.endUs ?? lastUs + shift + 1, stepUs))
  if (steps > limits.forecastStepsMax) {
    throw new KymoError('query_too_large', {
      detail: `${steps} steps of ${stepUs / 1e6} s; at most ${limits.forecastStepsMax} are used. Ask for a longer step or less time.`,
    })
  }
  const means = new Float64Array(steps)
  const counts = new Uint32Array(steps)
  for (const i of kept) {
    const at = Math.floor((timesUs[i]! + shift - startUs) / stepUs)
    if (at < 0 || at >= steps) continue
    const n = ++counts[at]!
    means[at]! += (values[i]! - means[at]!) / n
  }
  for (let at = 0; at < steps; at++) if (counts[at] === 0) means[at] = Number.NaN
  return { startUs, stepUs, values: means, duplicates, missing }
}

function stepsBetween(startUs: number, endUs: number, stepUs: number): number {
  return Math.ceil((endUs - startUs) / stepUs)
}

/** Positions by time; of equal times in the order given. */
function inOrder(timesUs: Float64Array): Uint32Array {
  const order = Uint32Array.from({ length: timesUs.length }, (_, i) => i)
  let sorted = true
  for (let i = 1; i < timesUs.length && sorted; i++) sorted = timesUs[i - 1]! <= timesUs[i]!
  return sorted ? order : order.sort((a, b) => timesUs[a]! - timesUs[b]! || a - b)
}

/**
 * The step that most readings have from one to the next: the median difference, rounded to a whole second where it is longer than one. NaN: fewer
 * than two.
 */
export function usualStepUs(timesUs: Float64Array): number {
  const sorted = timesUs.toSorted()
  const steps: number[] = []
  for (let i = 1; i < sorted.length; i++) if (sorted[i]! > sorted[i - 1]!) steps.push(sorted[i]! - sorted[i - 1]!)
  if (steps.length === 0) return Number.NaN
  const median = steps.toSorted((a, b) => a - b)[steps.length >> 1]!
  return nearStepUs(median)
}

/** Clocks drift: 59.8 s and 60.2 s are a minute. Steps of a day's length divided are preferred where they are within 2 %. */
function nearStepUs(us: number): number {
  const usual = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_200, 1_800, 3_600, 7_200, 10_800, 14_400, 21_600, 43_200, 86_400]
  const found = usual.map((s) => s * 1e6).find((step) => Math.abs(us - step) <= step * 0.02)
  if (found !== undefined) return found
  return us > 1e6 ? Math.round(us / 1e6) * 1e6 : Math.max(1, Math.round(us))
}
