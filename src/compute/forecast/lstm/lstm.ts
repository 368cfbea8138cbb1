import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { StateReader } from '../../window/state-bytes.ts'
import { beginState } from '../../window/state-bytes.ts'
import { checkTuning, readFacts } from '../facts.ts'
import type { Bounds } from '../fill.ts'
import { boundsOf, fill, shortGap } from '../fill.ts'
import type { Run } from '../lag-moments.ts'
import type { FitOptions, Forecaster, Model } from '../model.ts'
import { countOf, runsOf } from '../ridge-train.ts'
import { inputsOf } from '../ridge.ts'
import { seasonPhase } from '../season-waves.ts'
import type { Refusal, Series } from '../series.ts'
import { measured, refuse } from '../series.ts'
import type { Cut, Scales } from './inputs.ts'
import { shapeOf, writeInputs } from './inputs.ts'
import type { Kernels } from './kernels.ts'
import { borrow, giveBack } from './kernels.ts'
import type { Network } from './network.ts'
import { networkOf, weightCount } from './network.ts'
import type { Trained, Windows } from './train.ts'
import { trainNetwork } from './train.ts'

const letters = 'LSTM'
const version = 1

interface Parts {
  readonly cut: Cut
  readonly units: number
  readonly horizon: number
  readonly stepUs: number
  readonly season: number
  readonly timeZone: string
  readonly bounds: Bounds
  /** In the units of the series. */
  readonly scales: Scales
  readonly weights: Float32Array
  readonly facts: Readonly<Record<string, number | string>>
}

const unitsUsual = 32
const rows = 32
/** Batches at most: as many as 20 epochs have, and as multiplications allow, some 1.5 s. Few windows are gone through more often. */
const batchesMost = 1_200
const epochsMost = 20
const batchesFew = 300
const multiplicationsMost = 24e9
const rate = 0.0015
const decay = 0.3
/** The last windows, that say when to stop; so many of them, evenly spread. */
const judgedShare = 0.15
const judgedMost = 420
/** Windows to learn from: fewer teach nothing. */
const windowsMin = 36
/** Values of a step at most, where nothing else is asked for: half of a day of half-hours and more becomes several steps. */
const patchUsual = 48
const patchSeasonless = 8
const stepsUsual = 48
const phasesOfPiece = 16_384

/**
 * A long short-term memory of one layer that reads days: each step is a piece of the window (`patch` values, a day where a day has up to 48) relative to
 * the last value, with its place in the season; a linear head answers for all steps ahead at once. Adam, stopped by the last 15 % of the windows, then
 * once more over all of them for as long. The same series, options and seed give the same bits, with vectors or without. `tuning`: `steps`, `patch`,
 * `units` (a multiple of 8).
 */
export const lstm: Forecaster = {
  kind: 'lstm',
  letters,
  version,
  *fit(series, options) {
    const units = checked(options)
    const bounds = boundsOf(series.values)
    if (bounds === undefined) {
      return measured(series.values) > 0
        ? refuse('constant', 'The values hardly differ from each other, so a network has nothing to learn.')
        : refuse('no_values', 'The series has no values.')
    }
    const windows = yield* windowsOf(series, bounds, options)
    if ('refused' in windows) return windows
    const kernels = borrow()
    try {
      return yield* fitted(kernels, series, { ...windows, bounds, units, options })
    } finally {
      giveBack(kernels)
    }
  },
  restore(reader) {
    return modelOf(read(reader))
  },
}

function checked({ tuning = {} }: FitOptions): number {
  checkTuning('lstm', tuning, ['steps', 'patch', 'units'])
  const { steps = 1, patch = 1, units = unitsUsual } = tuning
  for (const [name, value, most] of [
    ['steps', steps, limits.lstmStepsMax],
    ['patch', patch, limits.lstmPatchMax],
    ['units', units, limits.lstmUnitsMax],
  ] as const) {
    if (!isSize(value, most) || (name === 'units' && value % 8 !== 0))
      throw new KymoError('usage', { detail: `lstm with ${name} ${value}; whole numbers up to ${most} are possible, of units multiples of 8` })
  }
  return units
}

function isSize(value: number, most: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= most
}

interface Chosen {
  readonly cut: Cut
  readonly windows: Windows
  /** Where all windows begin. */
  readonly all: Int32Array
  /** What values were divided by. */
  readonly unit: number
}

interface Work extends Chosen {
  readonly bounds: Bounds
  readonly units: number
  readonly options: FitOptions
}

function* fitted(
  kernels: Kernels,
  series: Series,
  { cut, windows, all, unit, bounds, units, options }: Work,
): Generator<number, Model | Refusal, void> {
  const { horizon, season, seed } = options
  const shape = shapeOf(cut, units, season, horizon)
  const cost = 3 * rows * (units + shape.inputs) * (4 * units * cut.steps + shape.outputs)
  const batches = Math.ceil(Math.min(batchesMost, Math.max(batchesFew, (epochsMost * all.length) / rows), multiplicationsMost / cost))
  const how = { cut, units, rows, batches, rate, decay, seed }
  const first = yield* part(trainNetwork(kernels, windows, how), 0, 0.5)
  const again = first && (yield* part(trainNetwork(kernels, { ...windows, learned: all }, { ...how, until: first.batches }), 0.5, 0.5))
  if (first?.error === undefined || again === undefined) return refuse('not_solvable', 'The network does not learn: its gradients are not finite.')
  const facts = { ...cut, units, windows: all.length, batches: first.batches, choice_error: first.error }
  const scales = { inputs: again.scales.inputs * unit, targets: again.scales.targets * unit }
  const { stepUs, timeZone } = series
  return modelOf({ cut, units, horizon, stepUs, season, timeZone, bounds, scales, weights: again.weights, facts })
}

function* part(work: Generator<number, Trained | undefined, void>, from: number, share: number): Generator<number, Trained | undefined, void> {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
    yield from + share * step.value
  }
}

/** Cuts to choose from, the longest last: two weeks, or less where the series is short. */
function cutsFor(season: number, { steps, patch: wanted }: Readonly<Record<string, number>>): Cut[] {
  const patch = wanted ?? (season > 1 ? Math.ceil(season / Math.ceil(season / patchUsual)) : patchSeasonless)
  if (steps !== undefined) return [{ steps, patch }]
  const each = Math.max(1, Math.round(season / patch))
  const days = season > 1 ? [2, 4, 7, 14] : [4, 8, 16, 32]
  return days.map((count) => ({ steps: Math.min(stepsUsual, count * each), patch }))
}

function* windowsOf(series: Series, bounds: Bounds, { horizon, season, tuning = {} }: FitOptions): Generator<number, Chosen | Refusal, void> {
  const n = series.values.length
  const filled = fill(series.values, season, bounds)
  if (filled === undefined) return refuse('no_values', 'The series has no values.')
  const unit = bounds.high - bounds.low
  if (!Number.isFinite(unit)) return refuse('not_solvable', 'The values are too large for differences between them.')
  yield 0
  const cuts = cutsFor(season, tuning)
  for (const cut of cuts.toReversed()) {
    const window = cut.steps * cut.patch
    if (cut !== cuts[0] && 4 * window > n - horizon) continue
    const all = startsOf(runsOf(filled.how, window, horizon))
    yield 0
    const judgedAt = Math.floor((1 - judgedShare) * all.length)
    // Targets of windows that are learned from end before the first target that is judged.
    const learned = all.filter((from) => from + horizon <= all[judgedAt]!)
    if (learned.length < windowsMin) continue
    const stride = Math.ceil((all.length - judgedAt) / judgedMost)
    const judged = all.subarray(judgedAt).filter((_, i) => i % stride === 0)
    const phaseAt = seasonPhase(series.stepUs, season, series.timeZone)
    const phases = new Float64Array(n)
    for (let i = 0; i < n; i++) {
      phases[i] = phaseAt(series.startUs + i * series.stepUs)
      if (i % phasesOfPiece === 0) yield 0
    }
    const values = filled.values.map((v) => v / unit)
    return { cut, unit, all, windows: { values, phases, learned, judged, horizon, season } }
  }
  const { steps, patch } = cuts[0]!
  const least = steps * patch + horizon - 1 + Math.ceil((windowsMin - 1 + horizon) / (1 - judgedShare))
  const there = measured(series.values)
  return refuse(
    'too_little_data',
    `For ${horizon} steps ahead a network needs some ${least} steps without long gaps; of ${n} there are ${there} measured.`,
    Math.max(1, least - there),
  )
}

function startsOf(runs: readonly Run[]): Int32Array {
  const starts = new Int32Array(countOf(runs))
  let n = 0
  for (const { from, to } of runs) for (let at = from; at < to; at++) starts[n++] = at
  return starts
}

/** Forecasts are made one at a time, so one memory does for all models; who comes again finds its weights there. */
let desk: { readonly kernels: Kernels; readonly owner: Parts; readonly net: Network } | undefined

function networkFor(parts: Parts): Network {
  if (desk?.owner === parts) return desk.net
  const kernels = desk?.kernels ?? borrow()
  const net = networkOf(kernels, shapeOf(parts.cut, parts.units, parts.season, parts.horizon), 1, false)
  net.floats.set(parts.weights, net.weights)
  desk = { kernels, owner: parts, net }
  return net
}

function modelOf(parts: Parts): Model {
  const { cut, horizon, stepUs, season, timeZone, bounds, scales } = parts
  const window = cut.steps * cut.patch
  const phaseAt = seasonPhase(stepUs, season, timeZone)
  // A gap that began before the window is filled with the season before it.
  const context = window + season + shortGap(season)
  const reading = { cut, season, scale: scales.inputs }
  return {
    kind: 'lstm',
    horizon,
    context,
    stepUs,
    facts: parts.facts,
    predict(history, out) {
      const inputs = inputsOf(history.values, { window, context, season, bounds })
      if ('refused' in inputs) return inputs
      const { values, from } = inputs
      const net = networkFor(parts)
      const phase = phaseAt(history.startUs + (history.values.length - 1) * stepUs)
      writeInputs(values, from, phase, reading, net.floats, (step) => net.inputAt(step, 0))
      for (let step = 0; step < cut.steps; step++) net.forward(step, 1)
      net.head(1)
      const [last, at] = [values[from + window - 1]!, net.outputAt(0)]
      for (let h = 0; h < out.length; h++) {
        const mean = last + scales.targets * net.floats[at + h]!
        if (!Number.isFinite(mean)) return refuse('not_solvable', 'The weights of the network are so large that it has no finite answer.')
        out[h] = Math.min(bounds.high, Math.max(bounds.low, mean))
      }
      return undefined
    },
    body() {
      return write(parts)
    },
  }
}

function write({ cut, units, horizon, stepUs, season, timeZone, bounds, scales, weights, facts }: Parts): Uint8Array {
  const writer = beginState(letters, version, 4 * weights.length + 512)
  for (const number of [horizon, season, cut.steps, cut.patch, units]) writer.u32(number)
  for (const number of [stepUs, bounds.low, bounds.high, scales.inputs, scales.targets]) writer.f64(number)
  writer.text(timeZone)
  writer.text(JSON.stringify(facts))
  writer.f32s(weights)
  return writer.finish()
}

function read(reader: StateReader): Parts {
  const [horizon, season, steps, patch, units] = [reader.u32(), reader.u32(), reader.u32(), reader.u32(), reader.u32()]
  const [stepUs, low, high, inputs, targets] = [reader.f64(), reader.f64(), reader.f64(), reader.f64(), reader.f64()]
  const timeZone = reader.text()
  const facts = readFacts(reader.text())
  const weights = reader.f32s()
  const sizes = isSize(horizon, limits.forecastHorizonMax) && isSize(season, limits.forecastSeasonMax) && isSize(units, limits.lstmUnitsMax)
  if (!sizes || !isSize(steps, limits.lstmStepsMax) || !isSize(patch, limits.lstmPatchMax) || units % 8 !== 0) throw new Error('sizes out of range')
  const cut = { steps, patch }
  if (weights.length !== weightCount(shapeOf(cut, units, season, horizon)) || !weights.every(Number.isFinite)) throw new Error('weights do not fit')
  if (!(low < high) || !(stepUs > 0) || ![inputs, targets].every((scale) => scale > 0 && scale < Number.POSITIVE_INFINITY)) {
    throw new Error('bounds, step or scales are not possible')
  }
  return { cut, units, horizon, stepUs, season, timeZone, bounds: { low, high }, scales: { inputs, targets }, weights, facts }
}
