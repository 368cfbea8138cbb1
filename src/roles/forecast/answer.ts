import type { ResidualBands } from '../../compute/forecast/conformal.ts'
import type { Model } from '../../compute/forecast/model.ts'
import type { ForecastMonitor } from '../../compute/forecast/monitor.ts'
import { naiveContext, naiveForecast } from '../../compute/forecast/naive-forecast.ts'
import type { Refusal, Series } from '../../compute/forecast/series.ts'
import { isRefusal } from '../../compute/forecast/series.ts'
import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import type { StoredModel } from '../../core/forecast-store.ts'
import type { FallbackReason, Forecast } from '../../core/forecasts.ts'
import { limits } from '../../core/limits.ts'
import { monitorOf } from './follow.ts'
import { inTime, lastTimes, meansOf, nameOf, stepOf } from './history.ts'
import { modelShape, seriesUntil, usualShape, type Shape, type World } from './world.ts'

export interface AskOptions {
  readonly horizonUs?: number
  readonly level?: number
  readonly model?: string | number
  readonly atUs?: number
  /** What the request calls the horizon. */
  readonly horizonName?: string
}

/** A forecast that was made for one question, and what it was made with. */
export interface Answer {
  readonly key: SeriesKey
  readonly kind: string
  /** 0: seasonal naive. */
  readonly version: number
  readonly fallback?: FallbackReason
  readonly detail?: string
  readonly issueUs: number
  readonly shape: Shape
  readonly level: number
  readonly mean: Float64Array
  readonly lower: Float64Array
  readonly upper: Float64Array
  /** What was known. */
  readonly history: Series
  /** Of the model that answers; absent for seasonal naive. */
  readonly monitor?: ForecastMonitor
  readonly stored?: StoredModel
}

/** The time of the last reading. Rejects with series_not_found. */
export async function lastReading({ store }: World, key: SeriesKey): Promise<number> {
  const lastUs = (await lastTimes(store, [key], inTime())).get(nameOf(key))
  if (lastUs === undefined)
    throw new KymoError('series_not_found', {
      detail: `No readings of ${key.metric} of the device ${key.device} are stored.`,
      facts: { device: key.device, metric: key.metric },
    })
  return lastUs
}

const naiveKind = 'seasonal-naive'

/** Which version is asked for: the champion where nothing is said; undefined: seasonal naive. */
function chosen(versions: readonly StoredModel[], model: string | number | undefined): StoredModel | undefined {
  if (model === undefined) return versions.find(({ state }) => state === 'champion')
  if (model === 0 || model === naiveKind) return undefined
  const found = versions.find(({ version, kind, card }) => (typeof model === 'number' ? version === model : kind === model || card['name'] === model))
  if (found !== undefined) return found
  const known = versions.length === 0 ? 'it has none yet' : `it has ${versions.map(({ version, kind }) => `${version} (${kind})`).join(', ')}`
  throw new KymoError('model_not_found', { detail: `The series has no model "${model}": ${known}. Train one, or leave model out.` })
}

/** Forecasts from what is known now, or was at a moment. */
export async function answer(world: World, key: SeriesKey, o: AskOptions): Promise<Answer> {
  const { forecasts, store, models, options } = world
  const lastUs = await lastReading(world, key)
  const stored = chosen(await forecasts.versions(key), o.model)
  const own = stored === undefined ? usualShape(options) : modelShape(stored, options)
  const horizon = o.horizonUs === undefined ? own.horizon : Math.ceil(o.horizonUs / own.stepUs)
  const most = stored === undefined ? limits.forecastHorizonMax : own.horizon
  if (horizon < 1 || horizon > most) {
    const name = o.horizonName ?? 'horizon'
    const detail = `${name} has ${horizon} steps of ${own.stepUs / 1e6} s, and ${stored === undefined ? 'at most' : 'the model was trained for'} ${most}. Ask for less, or train a model for more.`
    throw new KymoError('request_invalid', { detail, errors: [{ pointer: `/${name}`, detail }] })
  }
  const shape = { ...own, horizon }
  const issueUs = stepOf(o.atUs ?? lastUs, shape.stepUs)
  const level = o.level ?? options.level
  const model = stored === undefined ? undefined : await models.load(key, stored.version)
  const context = Math.max(model?.context ?? 0, naiveContext(horizon, shape.season))
  const fromUs = Math.max(0, issueUs - context * shape.stepUs)
  const values = await meansOf(store, key, { fromUs, toUs: issueUs, stepUs: shape.stepUs }, inTime())
  const history = seriesUntil(values, issueUs, shape, options.timeZone)
  const head = { key, issueUs, shape, level, history }
  if (stored === undefined) return { ...head, ...naive(history, shape, level), ...(o.model === undefined ? { fallback: 'untrained' as const } : {}) }
  const state = (await forecasts.states([key])).find(({ version }) => version === stored.version)
  const monitor = monitorOf(world, { key, shape: own, endUs: issueUs }, state)
  if (o.model === undefined && monitor.skillLost) return { ...head, ...naive(history, shape, level), fallback: 'skill_lost', monitor, stored }
  const said = means(model, history, horizon)
  if (isRefusal(said)) return { ...head, ...naive(history, shape, level), fallback: 'refused', detail: said.detail, monitor, stored }
  const ends = intervals(monitor.bands, said, level)
  return { ...head, ...ends, kind: stored.kind, version: stored.version, mean: said, monitor, stored }
}

function means(model: Model | undefined, history: Series, horizon: number): Float64Array | Refusal {
  if (model === undefined) return { refused: 'no_values', detail: 'The file of the model is not there, or cannot be read. Train it again.' }
  const mean = new Float64Array(horizon)
  const refused = model.predict(history, mean)
  if (refused !== undefined) return refused
  return mean.every(Number.isFinite) ? mean : { refused: 'not_solvable', detail: 'The model answers with something that is no number.' }
}

function intervals(bands: ResidualBands, mean: Float64Array, level: number): Pick<Answer, 'lower' | 'upper'> {
  const [lower, upper] = [new Float64Array(mean.length), new Float64Array(mean.length)]
  bands.interval(mean, level, lower, upper)
  return { lower, upper }
}

function naive(history: Series, { horizon, season }: Shape, level: number): Pick<Answer, 'kind' | 'version' | 'mean' | 'lower' | 'upper'> {
  const said = naiveForecast(history, { horizon, season, level })
  if (isRefusal(said)) {
    const missing = said.missing ?? 1
    throw new KymoError('too_little_data', {
      detail: `${said.detail} Seasonal naive needs ${missing === 1 ? 'one step' : `${missing} steps`} with readings.`,
      facts: { missing },
    })
  }
  return { kind: naiveKind, version: 0, ...said }
}

/** As the API gives it: an interval that is not known is absent. */
export function forecastOf({
  key: { device, metric },
  kind,
  version,
  fallback,
  detail,
  issueUs,
  shape,
  level,
  mean,
  lower,
  upper,
}: Answer): Forecast {
  return {
    device,
    metric,
    model: { kind, version },
    ...(fallback === undefined ? {} : { fallback }),
    ...(detail === undefined ? {} : { detail }),
    issued_us: issueUs,
    step_us: shape.stepUs,
    level,
    points: Array.from(mean, (value, h) => pointOf(issueUs + h * shape.stepUs, value, lower[h]!, upper[h]!)),
  }
}

export function pointOf(time_us: number, mean: number, lower: number, upper: number): Forecast['points'][number] {
  return Number.isFinite(lower) && Number.isFinite(upper) ? { time_us, mean, lower, upper } : { time_us, mean }
}
