/**
 * Measures of forecasts against what was measured afterwards. Errors are forecast minus actual; NaN where either is missing, and left out. A mean
 * over nothing is NaN.
 */
export interface PointScores {
  /** Pairs of forecast and actual. */
  readonly n: number
  readonly mae: number
  readonly mse: number
  readonly rmse: number
  /** Mean error: above 0 the forecasts are too high. */
  readonly bias: number
  /** MAE over that of seasonal naive within the training values, one season ahead (Hyndman and Koehler 2006). */
  readonly mase: number
}

export function pointScores(errors: Float64Array, naiveScale: number): PointScores {
  let [n, absolute, squared, sum] = [0, 0, 0, 0]
  for (let i = 0; i < errors.length; i++) {
    const e = errors[i]!
    if (e !== e) continue
    n++
    absolute += Math.abs(e)
    squared += e * e
    sum += e
  }
  const mse = squared / n
  return { n, mae: absolute / n, mse, rmse: Math.sqrt(mse), bias: sum / n, mase: absolute / n / naiveScale }
}

/** Mean absolute difference of values a season apart: what MASE divides by. NaN: no such pair; 0: a series that repeats itself. */
export function naiveScaleOf(values: Float64Array, season: number): number {
  let [n, sum] = [0, 0]
  for (let i = season; i < values.length; i++) {
    const off = Math.abs(values[i]! - values[i - season]!)
    if (off !== off) continue
    n++
    sum += off
  }
  return sum / n
}

/** 1: no error at all; 0: as good as the other; below: worse. Both over the same targets. NaN where the other has no error and this one has. */
export function skillOf(error: number, other: number): number {
  if (other === 0) return error === 0 ? 0 : Number.NaN
  return 1 - error / other
}

/** Quantile loss (Koenker and Bassett 1978): `quantile` in (0, 1) forecast as `value`. */
export function pinball(quantile: number, value: number, actual: number): number {
  return actual >= value ? quantile * (actual - value) : (1 - quantile) * (value - actual)
}

export interface IntervalScores {
  readonly n: number
  /** Share of actuals within [lower, upper]. */
  readonly coverage: number
  readonly below: number
  readonly above: number
  /** Mean of upper - lower. */
  readonly width: number
  /** Mean pinball loss of both ends. */
  readonly pinball: number
}

/** Adds up intervals of one level, in any order. */
export class IntervalTally {
  readonly #tail: number
  #n = 0
  #below = 0
  #above = 0
  #width = 0
  #loss = 0

  constructor(level: number) {
    this.#tail = (1 - level) / 2
  }

  /** A missing actual counts for nothing. */
  add(lower: number, upper: number, actual: number): void {
    if (!Number.isFinite(actual)) return
    this.#n++
    if (actual < lower) this.#below++
    if (actual > upper) this.#above++
    this.#width += upper - lower
    this.#loss += (pinball(this.#tail, lower, actual) + pinball(1 - this.#tail, upper, actual)) / 2
  }

  scores(): IntervalScores {
    const n = this.#n
    return {
      n,
      coverage: 1 - (this.#below + this.#above) / n,
      below: this.#below / n,
      above: this.#above / n,
      width: this.#width / n,
      pinball: this.#loss / n,
    }
  }
}
