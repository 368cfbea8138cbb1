import { limits } from '../../core/limits.ts'
import { beginState } from '../window/state-bytes.ts'
import { checkTuning } from './facts.ts'
import type { Bounds } from './fill.ts'
import { boundsOf, shortGap, silentSteps } from './fill.ts'
import { minimise } from './minimise.ts'
import type { Forecaster, Model } from './model.ts'
import { measured, refuse } from './series.ts'

const letters = 'HOLT'
const version = 1

/**
 * Smoothing constants of ETS(A,Ad,A), Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd ed., section 8.3 in error-correction
 * form.
 */
export interface Smoothing {
  /** 0 to 1: how far an error moves the level, */
  readonly alpha: number
  /** the trend, as a share of alpha, */
  readonly beta: number
  /** and the season, 0 to 1 - alpha. */
  readonly gamma: number
  /** What is left of the trend after a step. */
  readonly phi: number
}

/** Level, trend and season behind the last step. */
export interface SmoothedState {
  level: number
  trend: number
  /** One value per phase; `phase` is that of the next step. */
  readonly season: Float64Array
  phase: number
  /** Mean squared error one step ahead, over what was measured behind the first two seasons. */
  error: number
}

/** Seasons of history that the smoothing runs over for a forecast: with the usual constants the state before them has faded. */
const contextSeasons = 14
const contextStepsMin = 64
const callsMax = 400

/**
 * Holt and Winters' exponential smoothing, additive, with a damped trend. The constants minimise the squared error one step ahead. A step without a
 * value moves the state on as expected. With a season of 1 it is Holt's linear trend, damped. `tuning`: `alpha`, `beta`, `gamma`, `phi`: all four,
 * and nothing is sought.
 */
export const holtWinters: Forecaster = {
  kind: 'holt-winters',
  letters,
  version,
  *fit(series, { horizon, season, tuning = {} }) {
    checkTuning('holt-winters', tuning, ['alpha', 'beta', 'gamma', 'phi'])
    const there = measured(series.values)
    if (there === 0) return refuse('no_values', 'The series has no values.', 1)
    const least = Math.max(2 * season, 4)
    if (there < least || series.values.length < least) {
      return refuse('too_little_data', `Two seasons are needed, ${least} values, and there are ${there}.`, Math.max(1, least - there))
    }
    const bounds = boundsOf(series.values) ?? { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY }
    const { alpha, beta, gamma, phi } = tuning
    let smoothing: Smoothing
    if (alpha !== undefined && beta !== undefined && gamma !== undefined && phi !== undefined) smoothing = { alpha, beta, gamma, phi }
    else {
      const search = minimise(
        (x) => smooth(series.values, season, smoothingAt(x), bounds)?.error ?? Number.POSITIVE_INFINITY,
        [0, -3, -2, 2],
        1,
        callsMax,
      )
      let steps = 0
      let step = search.next()
      while (step.done !== true) {
        yield Math.min(0.99, steps++ / callsMax)
        step = search.next()
      }
      smoothing = smoothingAt(step.value.x)
    }
    if (smooth(series.values, season, smoothing, bounds) === undefined) {
      return refuse('too_little_data', `The first two seasons (${2 * season} steps) have no value at some phase.`)
    }
    return modelOf({ smoothing, horizon, season, stepUs: series.stepUs, bounds })
  },
  restore(reader) {
    const [horizon, season] = [reader.u32(), reader.u32()]
    const [stepUs, low, high] = [reader.f64(), reader.f64(), reader.f64()]
    const [alpha, beta, gamma, phi] = [reader.f64(), reader.f64(), reader.f64(), reader.f64()]
    const shares = [alpha, beta, gamma, phi].every((v) => v >= 0 && v <= 1)
    if (
      !shares ||
      horizon < 1 ||
      horizon > limits.forecastHorizonMax ||
      season < 1 ||
      season > limits.forecastSeasonMax ||
      !(low < high && stepUs > 0)
    ) {
      throw new Error('numbers out of range')
    }
    return modelOf({ smoothing: { alpha, beta, gamma, phi }, horizon, season, stepUs, bounds: { low, high } })
  },
}

const share = (x: number): number => 1 / (1 + Math.exp(-x))

/** Any four numbers as constants within their ranges. */
function smoothingAt(x: Float64Array): Smoothing {
  const alpha = share(x[0]!)
  return { alpha, beta: share(x[1]!), gamma: share(x[2]!) * (1 - alpha), phi: 0.8 + 0.198 * share(x[3]!) }
}

/**
 * Runs over the values. Begins with the means of the first two seasons: level, trend from one to the next, season around them. Undefined where they
 * have too few values for that.
 */
export function smooth(values: Float64Array, season: number, { alpha, beta, gamma, phi }: Smoothing, bounds: Bounds): SmoothedState | undefined {
  const state = begin(values, season, bounds)
  if (state === undefined) return undefined
  const { season: phases } = state
  let { level, trend } = state
  let [phase, squares, n] = [0, 0, 0]
  for (let i = 0; i < values.length; i++) {
    const expected = level + phi * trend + phases[phase]!
    const value = values[i]!
    trend *= phi
    level += trend
    if (value >= bounds.low && value <= bounds.high) {
      const off = value - expected
      level += alpha * off
      trend += alpha * beta * off
      if (season > 1) phases[phase]! += gamma * off
      if (i >= 2 * season) {
        squares += off * off
        n++
      }
    }
    if (++phase === season) phase = 0
  }
  return { level, trend, season: phases, phase, error: n === 0 ? 0 : squares / n }
}

function begin(values: Float64Array, season: number, { low, high }: Bounds): SmoothedState | undefined {
  const span = season === 1 ? 2 : season
  const means = [0, 0]
  const phases = new Float64Array(season)
  for (let k = 0; k < 2; k++) {
    let n = 0
    for (let i = k * span; i < Math.min(values.length, (k + 1) * span); i++) {
      const value = values[i]!
      if (value >= low && value <= high) means[k]! += (value - means[k]!) / ++n
    }
    if (n === 0) return undefined
  }
  for (let phase = 0; season > 1 && phase < season; phase++) {
    let n = 0
    for (let k = 0; k < 2; k++) {
      const value = values[k * season + phase]!
      if (value >= low && value <= high) phases[phase]! += (value - means[k]! - phases[phase]!) / ++n
    }
  }
  const trend = (means[1]! - means[0]!) / span
  return { level: means[0]! - (trend * (span + 1)) / 2, trend, season: phases, phase: 0, error: 0 }
}

interface Parts {
  readonly smoothing: Smoothing
  readonly horizon: number
  readonly season: number
  readonly stepUs: number
  readonly bounds: Bounds
}

function modelOf({ smoothing, horizon, season, stepUs, bounds }: Parts): Model {
  const context = Math.max(contextSeasons * season, contextStepsMin)
  const silentMax = Math.max(season, shortGap(season))
  return {
    kind: 'holt-winters',
    horizon,
    context,
    stepUs,
    facts: { ...smoothing },
    predict({ values }, out) {
      const silent = silentSteps(values)
      if (silent > silentMax) {
        return silent === Number.POSITIVE_INFINITY
          ? refuse('no_values', 'There is no value in the history.', 1)
          : refuse('no_recent_values', `The last value is ${silent} steps old; up to ${silentMax} are bridged.`)
      }
      if (values.length < 2 * season)
        return refuse('too_little_data', `Two seasons are needed, and there are ${values.length} steps.`, 2 * season - values.length)
      const state = smooth(values.subarray(Math.max(0, values.length - context)), season, smoothing, bounds)
      if (state === undefined) return refuse('too_little_data', 'The first seasons of the history have no values.')
      let { level, phase } = state
      let { trend } = state
      for (let h = 0; h < out.length; h++) {
        trend *= smoothing.phi
        level += trend
        out[h] = level + state.season[phase]!
        if (++phase === season) phase = 0
      }
      return out.every(Number.isFinite) ? undefined : refuse('not_solvable', 'The values are too large to be smoothed in doubles.')
    },
    body() {
      const writer = beginState(letters, version, 128)
      writer.u32(horizon)
      writer.u32(season)
      for (const number of [stepUs, bounds.low, bounds.high, smoothing.alpha, smoothing.beta, smoothing.gamma, smoothing.phi]) writer.f64(number)
      return writer.finish()
    },
  }
}
