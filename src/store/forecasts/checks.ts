import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import type { IssuedForecast, MonitorState, PredictionQuery } from '../../core/forecast-store.ts'
import { limits } from '../../core/limits.ts'

/** A series' models are counted in 31 bits. */
const versionMax = 2 ** 31 - 1

function refuse(detail: string): never {
  throw new KymoError('request_invalid', { detail })
}

const isTime = (us: number): boolean => Number.isSafeInteger(us) && us >= 0 && us <= limits.timeUsMax
const isVersion = (version: number): boolean => Number.isSafeInteger(version) && version >= 0 && version <= versionMax

/** What cannot be kept as it is, is not there either. */
export function isStorable({ tenant, device, metric }: SeriesKey): boolean {
  return [tenant, device, metric].every((name) => name.isWellFormed() && !name.includes('\0'))
}

/** Throws request_invalid for a name that could not be kept as it is. */
export function checkKey(key: SeriesKey): void {
  if (!isStorable(key)) refuse('A series is named by well-formed text without U+0000.')
}

/** Throws request_invalid for what no adapter could hold, or that is too much for one transaction. */
export function checkWrite(forecasts: readonly IssuedForecast[], states: readonly MonitorState[]): void {
  let predictions = 0
  for (const { key, version, issueUs, stepUs, level, mean, lower, upper } of forecasts) {
    checkKey(key)
    predictions += mean.length
    if (!isVersion(version)) refuse('The version of a model is a whole number from 0 on.')
    if (!Number.isSafeInteger(stepUs) || stepUs < 1 || !isTime(issueUs) || !isTime(issueUs + stepUs * mean.length))
      refuse('Issues and targets are whole microseconds since 1970 that a double holds exactly.')
    if (!(level > 0 && level < 1)) refuse('A level is a share between 0 and 1.')
    if (lower.length !== mean.length || upper.length !== mean.length) refuse('Mean, lower and upper are of one length.')
    if (mean.length > limits.forecastHorizonMax) refuse(`A forecast has at most ${limits.forecastHorizonMax} steps.`)
    if (!mean.every((value) => Number.isFinite(value))) refuse('A prediction is a finite number.')
  }
  let bytes = 0
  for (const { key, version, atUs, bytes: state } of states) {
    checkKey(key)
    if (!isVersion(version) || !isTime(atUs)) refuse('A state has a version and a time.')
    bytes += state.length
  }
  if (predictions > limits.forecastWritePredictionsMax)
    refuse(`One transaction holds at most ${limits.forecastWritePredictionsMax} predictions, not ${predictions}.`)
  if (bytes > limits.forecastWriteBytesMax) refuse(`One transaction holds at most ${limits.forecastWriteBytesMax} bytes of states, not ${bytes}.`)
}

export function checkQuery({ limit, fromUs, toUs, issueUs = 0, newest }: PredictionQuery): void {
  if (!Number.isInteger(limit) || limit < 1 || limit > limits.forecastPageMax) refuse(`A page holds 1 to ${limits.forecastPageMax} predictions.`)
  if (![fromUs, toUs, issueUs, newest?.leadUs ?? 0].every(Number.isSafeInteger)) refuse('Times are whole microseconds.')
}

/** In lists as large as one question may be. */
export function* chunksOf<T>(list: readonly T[]): Generator<readonly T[], void, void> {
  for (let i = 0; i < list.length; i += limits.forecastKeysPerCallMax) yield list.slice(i, i + limits.forecastKeysPerCallMax)
}
