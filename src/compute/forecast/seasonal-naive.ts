import { limits } from '../../core/limits.ts'
import { beginState } from '../window/state-bytes.ts'
import { checkTuning } from './facts.ts'
import type { Forecaster, Model } from './model.ts'
import type { Series } from './series.ts'
import { measured, refuse } from './series.ts'

const letters = 'SNAI'
const version = 1

/** So many seasons back a value is looked for where the last one has a gap. */
const seasonsBack = 7

/**
 * What was measured one season before; where that is missing, seasons before it, and last of all the last value. The measure of all others: what
 * does not beat it is not served. With a season of 1 it is the last value.
 */
export const seasonalNaive: Forecaster = {
  kind: 'seasonal-naive',
  letters,
  version,
  // A generator as all trainings are, though there is nothing to do in pieces.
  *fit(series, { horizon, season, tuning }) {
    checkTuning('seasonal-naive', tuning ?? {}, [])
    yield 0
    if (measured(series.values) === 0) return refuse('no_values', 'The series has no values.', 1)
    return modelOf(horizon, season, series.stepUs)
  },
  restore(reader) {
    const [horizon, season, stepUs] = [reader.u32(), reader.u32(), reader.f64()]
    if (horizon < 1 || horizon > limits.forecastHorizonMax || season < 1 || season > limits.forecastSeasonMax || !(stepUs > 0)) {
      throw new Error('sizes out of range')
    }
    return modelOf(horizon, season, stepUs)
  },
}

function modelOf(horizon: number, season: number, stepUs: number): Model {
  return {
    kind: 'seasonal-naive',
    horizon,
    context: seasonsBack * season,
    stepUs,
    facts: { season },
    predict({ values }: Series, out) {
      const n = values.length
      const from = Math.max(0, n - seasonsBack * season)
      let last = n - 1
      while (last >= from && !Number.isFinite(values[last])) last--
      if (last < from) {
        return measured(values) === 0
          ? refuse('no_values', 'There is no value in the history.', 1)
          : refuse('no_recent_values', `There is no value in the last ${n - from} steps.`)
      }
      for (let h = 0; h < out.length; h++) {
        let at = n - season + (h % season)
        while (at >= from && !Number.isFinite(values[at])) at -= season
        out[h] = values[at >= from ? at : last]!
      }
      return undefined
    },
    body() {
      const writer = beginState(letters, version, 128)
      writer.u32(horizon)
      writer.u32(season)
      writer.f64(stepUs)
      return writer.finish()
    },
  }
}
