import { limits } from '../../core/limits.ts'
import type { StateReader } from '../window/state-bytes.ts'
import { beginState } from '../window/state-bytes.ts'
import type { Bounds } from './fill.ts'
import { readFacts } from './facts.ts'
import { boundsOf, fill, isWhole, shortGap, silentSteps } from './fill.ts'
import type { Forecaster, Model } from './model.ts'
import type { RidgeShape } from './ridge-equations.ts'
import { trainRidge } from './ridge-train.ts'
import { seasonPhase, waveAt, waveCount } from './season-waves.ts'
import type { Refusal } from './series.ts'
import { refuse } from './series.ts'

const letters = 'RIDG'
const version = 1

interface Parts {
  readonly shape: RidgeShape
  readonly horizon: number
  readonly stepUs: number
  readonly season: number
  readonly timeZone: string
  readonly bounds: Bounds
  /** One row of window + extras per horizon. */
  readonly weights: Float32Array
  readonly facts: Readonly<Record<string, number | string>>
}

/**
 * Linear regression of every step ahead on a window of the past, each horizon with weights of its own (direct, not rolled forward), with a quadratic
 * penalty. Window and targets are taken relative to the last value or the mean of the window, so a level never seen before is no difficulty; beside
 * the window stand waves of the season (season-waves.ts). Window, penalty, level and waves are chosen by the errors on three parts of the series,
 * each forecast with weights that the other two teach; then all of it is trained on, and
 * the weights of the two best windows are averaged. `tuning`: `window`, `penalty`, `level` (0 last, 1 mean), `waves`
 * (0, 1): fixes them.
 */
export const ridge: Forecaster = {
  kind: 'ridge',
  letters,
  version,
  *fit(series, options) {
    const { horizon, season } = options
    const bounds = boundsOf(series.values)
    if (bounds === undefined) {
      return series.values.some((v) => v === v)
        ? refuse('constant', 'The values hardly differ from each other, so a regression has nothing to learn.')
        : refuse('no_values', 'The series has no values.')
    }
    const trained = yield* trainRidge(series, bounds, options)
    if ('refused' in trained) return trained
    const { shape, shapes, weights, windows, error } = trained
    const [best = shape, second] = shapes
    const facts = {
      window: best.window,
      ...(second === undefined ? {} : { second_window: second.window }),
      level: best.level,
      penalty: best.penalty,
      waves: best.extras,
      windows,
      ...(error === undefined ? {} : { choice_mse: error }),
    }
    return modelOf({
      shape,
      horizon,
      stepUs: series.stepUs,
      season,
      timeZone: series.timeZone,
      bounds,
      weights: Float32Array.from(weights),
      facts,
    })
  },
  restore(reader) {
    return modelOf(read(reader))
  },
}

function modelOf(parts: Parts): Model {
  const { shape, horizon, stepUs, season, timeZone, bounds, weights } = parts
  const { window, extras, level } = shape
  const size = window + extras
  const phaseAt = seasonPhase(stepUs, season, timeZone)
  const row = new Float64Array(size)
  // A gap that began before the window is filled with the season before it.
  const context = window + season + shortGap(season)
  return {
    kind: 'ridge',
    horizon,
    context,
    stepUs,
    facts: parts.facts,
    predict(history, out) {
      const inputs = inputsOf(history.values, { window, context, season, bounds })
      if ('refused' in inputs) return inputs
      const { values, from } = inputs
      let base = values[from + window - 1]!
      if (level === 'mean') {
        base = 0
        for (let i = 0; i < window; i++) base += values[from + i]! / window
      }
      for (let i = 0; i < window; i++) row[i] = values[from + i]! - base
      if (extras > 0) {
        const phase = phaseAt(history.startUs + (history.values.length - 1) * stepUs)
        for (let k = 0; k < extras; k++) row[window + k] = waveAt(phase, k)
      }
      for (let h = 0; h < out.length; h++) {
        const mean = base + weigh(weights, h * size, row)
        // Weights are finite and so are inputs within their bounds; a window unlike all others still may throw the line far off.
        out[h] = Math.min(bounds.high, Math.max(bounds.low, mean))
      }
      return undefined
    },
    body() {
      return write(parts)
    },
  }
}

/** At most so much of a window may be made up. */
const madeUpMax = 0.25

interface Needs {
  readonly window: number
  readonly context: number
  readonly season: number
  readonly bounds: Bounds
}

export function inputsOf(values: Float64Array, { window, context, season, bounds }: Needs): { values: Float64Array; from: number } | Refusal {
  const from = values.length - window
  if (from >= 0 && isWhole(values, from, bounds)) return { values, from }
  if (from < 0) return refuse('too_little_data', `The model looks at ${window} steps, and there are ${values.length}.`, -from)
  const silent = silentSteps(values)
  if (silent > shortGap(season)) {
    return silent === Number.POSITIVE_INFINITY
      ? refuse('no_values', 'There is no value in the history.')
      : refuse('no_recent_values', `The last value is ${silent} steps old; up to ${shortGap(season)} are bridged.`)
  }
  const filled = fill(values.subarray(Math.max(0, values.length - context)), season, bounds)
  if (filled === undefined) return refuse('no_values', 'No value of the history lies within the range that the model was trained on.')
  const start = filled.values.length - window
  let madeUp = 0
  for (let i = start; i < filled.how.length; i++) if (filled.how[i] === 2) madeUp++
  if (madeUp > madeUpMax * window || filled.how.at(-1) === 2) {
    return refuse(
      'no_recent_values',
      `Of the last ${window} steps ${madeUp} lie in long gaps, or beyond the range that the model was trained on.`,
      madeUp - Math.floor(madeUpMax * window),
    )
  }
  return { values: filled.values, from: start }
}

/** Weights in single precision, sums in double. */
function weigh(weights: Float32Array, at: number, row: Float64Array): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0]
  const n = row.length
  let i = 0
  for (; i + 3 < n; i += 4) {
    s0 += weights[at + i]! * row[i]!
    s1 += weights[at + i + 1]! * row[i + 1]!
    s2 += weights[at + i + 2]! * row[i + 2]!
    s3 += weights[at + i + 3]! * row[i + 3]!
  }
  for (; i < n; i++) s0 += weights[at + i]! * row[i]!
  return s0 + s1 + (s2 + s3)
}

function write({ shape, horizon, stepUs, season, timeZone, bounds, weights, facts }: Parts): Uint8Array {
  const writer = beginState(letters, version, 4 * weights.length + 512)
  for (const number of [horizon, shape.window, season, shape.extras]) writer.u32(number)
  writer.u8(shape.level === 'last' ? 0 : 1)
  for (const number of [stepUs, bounds.low, bounds.high, shape.penalty]) writer.f64(number)
  writer.text(timeZone)
  writer.text(JSON.stringify(facts))
  writer.f32s(weights)
  return writer.finish()
}

function read(reader: StateReader): Parts {
  const [horizon, window, season, extras] = [reader.u32(), reader.u32(), reader.u32(), reader.u32()]
  const level = reader.u8() === 0 ? 'last' : 'mean'
  const [stepUs, low, high, penalty] = [reader.f64(), reader.f64(), reader.f64(), reader.f64()]
  const timeZone = reader.text()
  const facts = readFacts(reader.text())
  const weights = reader.f32s()
  const sizes = horizon >= 1 && horizon <= limits.forecastHorizonMax && window >= 1 && window <= limits.forecastWindowMax
  if (!sizes || season < 1 || season > limits.forecastSeasonMax || (extras !== 0 && extras !== waveCount(season)))
    throw new Error('sizes out of range')
  if (weights.length !== horizon * (window + extras) || !weights.every(Number.isFinite)) throw new Error('weights do not fit')
  if (!(low < high) || !(stepUs > 0)) throw new Error('bounds or step are not possible')
  return { shape: { window, level, extras, penalty }, horizon, stepUs, season, timeZone, bounds: { low, high }, weights, facts }
}
