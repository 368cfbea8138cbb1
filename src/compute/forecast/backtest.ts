import type { Model } from './model.ts'
import type { Refusal, Series } from './series.ts'
import { upTo } from './series.ts'

export interface BacktestOptions {
  readonly horizon: number
  /** Steps known at the first issue: the targets begin there. */
  readonly from: number
  /** Targets lie below this step. */
  readonly to: number
  /** Steps from one issue to the next. */
  readonly stride: number
}

/** Forecasts issued one after the other, each with what was known then, beside what came. */
export interface Backtest {
  readonly horizon: number
  /** Steps known at each issue: `origins[k]` is the step of its first target. */
  readonly origins: Int32Array
  /** One row per issue, one column per step ahead; NaN in the whole row: refused. */
  readonly means: Float64Array
  /** The same shape; NaN: nothing was measured. */
  readonly actuals: Float64Array
  readonly refusals: number
  readonly firstRefusal: Refusal | undefined
}

/** Issues whose targets all lie in [from, to). */
export function originsOf({ horizon, from, to, stride }: BacktestOptions): Int32Array {
  const n = Math.max(0, Math.floor((to - horizon - from) / stride) + 1)
  return Int32Array.from({ length: n }, (_, k) => from + k * stride)
}

/** So that there are at most `most` issues. */
export function strideFor({ horizon, from, to }: Omit<BacktestOptions, 'stride'>, most: number): number {
  return Math.max(1, Math.ceil((to - horizon - from + 1) / most))
}

const issuesPerPiece = 64

/**
 * Rolling-origin evaluation of one trained model. The model is handed nothing of the series from an issue on, nor does it learn from what it sees on
 * the way. Yields the share done.
 */
export function* backtest(model: Model, series: Series, options: BacktestOptions): Generator<number, Backtest, void> {
  const { horizon } = options
  const origins = originsOf(options)
  const means = new Float64Array(origins.length * horizon)
  const actuals = new Float64Array(origins.length * horizon)
  let refusals = 0
  let firstRefusal: Refusal | undefined
  for (let k = 0; k < origins.length; k++) {
    if (k % issuesPerPiece === 0) yield k / origins.length
    const at = origins[k]!
    const row = means.subarray(k * horizon, (k + 1) * horizon)
    const refused = model.predict(upTo(series, at, Math.max(0, at - model.context)), row)
    if (refused !== undefined) {
      refusals++
      firstRefusal ??= refused
      row.fill(Number.NaN)
    }
    for (let h = 0; h < horizon; h++) actuals[k * horizon + h] = series.values[at + h]!
  }
  return { horizon, origins, means, actuals, refusals, firstRefusal }
}

/** Forecast minus actual, one after the other; NaN where there is no such pair. */
export function errorsOf({ means, actuals }: Backtest): Float64Array {
  return means.map((mean, i) => mean - actuals[i]!)
}
