import { durationUs } from '../../../core/duration.ts'
import { KymoError } from '../../../core/errors.ts'
import type { CrossingForecast, Forecast, ForecastAccuracy, ForecastModel, MaturedPrediction, SeriesName } from '../../../core/forecasts.ts'
import type { Page } from '../../../core/services.ts'
import { limits } from '../../../core/limits.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { decodeCursor, encodeCursor } from './cursor.ts'
import type { Units } from './units.ts'

/** A length of time in a query or a body, in microseconds. Throws `request_invalid` naming it. */
export function spanOf(parameter: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const us = durationUs(text)
  if (us === undefined) {
    const detail = 'must be a whole number above 0 and a unit: us, ms, s, m, h, d or w, as 6h; within 285 years'
    throw new KymoError('request_invalid', { detail: `${parameter} is not a length of time.`, errors: [{ pointer: `/${parameter}`, detail }] })
  }
  return us
}

/** Of a path: nothing else of it reaches the service. */
export function seriesOf({ device, metric }: SeriesName): SeriesName {
  return { device, metric }
}

/** A kind, or the number of a version. */
export function modelOf(text: string | undefined): string | number | undefined {
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : text
}

/** Only what is given: of optional members, undefined is not the same as absent. */
export function given<T extends object>(o: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(o).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> }
}

/** Where a page of a service begins, and how long it is. */
export function pageAsked(
  question: string,
  o: { readonly limit?: number; readonly cursor?: string },
): { readonly limit: number; readonly after?: string } {
  const { limit = limits.forecastsListedDefault, cursor } = o
  return { limit, ...(cursor === undefined ? {} : { after: String(decodeCursor(question, cursor)[0]) }) }
}

export function nextCursor(question: string, { next }: Page<unknown>): string | null {
  return next === undefined ? null : encodeCursor(question, [next])
}

/** Infinities and NaN are no JSON. */
function numberOf(value: number | undefined): number | null {
  return value === undefined || !Number.isFinite(value) ? null : value
}

function nameJson(series: SeriesName, units: Units): Record<string, unknown> {
  const { device, metric } = series
  const unit = units.of({ tenant: '', device, metric })
  return { device, metric, ...(unit === undefined ? {} : { unit }) }
}

export function forecastJson(forecast: Forecast, units: Units): Record<string, unknown> {
  return {
    ...nameJson(forecast, units),
    model: forecast.model,
    fallback: forecast.fallback ?? null,
    detail: forecast.detail ?? null,
    issued_at: formatRfc3339(forecast.issued_us),
    step_s: forecast.step_us / 1e6,
    level: forecast.level,
    points: forecast.points.map(({ time_us: us, mean, lower, upper }) => ({
      time: formatRfc3339(us),
      mean,
      lower: numberOf(lower),
      upper: numberOf(upper),
    })),
  }
}

export function crossingJson(crossing: CrossingForecast, units: Units): Record<string, unknown> {
  const { model, threshold, side, within_us: within, issued_us: issued, probability, reason, detail, calibration } = crossing
  const bins = calibration?.bins.map(({ n, said, came }) => ({ n, said: numberOf(said), came: numberOf(came) }))
  return {
    ...nameJson(crossing, units),
    model,
    threshold,
    side,
    within_s: within / 1e6,
    issued_at: formatRfc3339(issued),
    probability: numberOf(probability),
    reason: reason ?? null,
    detail: detail ?? null,
    calibration: calibration === undefined ? null : { ...calibration, skill: numberOf(calibration.skill), error: numberOf(calibration.error), bins },
  }
}

export function accuracyJson(accuracy: ForecastAccuracy, units: Units): Record<string, unknown> {
  const { version, n, mae, rmse, bias, naive_mae, skill, level, coverage, drift } = accuracy
  return {
    ...nameJson(accuracy, units),
    version,
    n,
    mae: numberOf(mae),
    rmse: numberOf(rmse),
    bias: numberOf(bias),
    naive_mae: numberOf(naive_mae),
    skill: numberOf(skill),
    level,
    coverage: numberOf(coverage),
    drift: { statistic: drift.statistic, threshold: drift.threshold, since: drift.since_us === undefined ? null : formatRfc3339(drift.since_us) },
  }
}

export function modelJson(model: ForecastModel, units: Units): Record<string, unknown> {
  const { version, kind, state, created_us: created, bytes, card, accuracy } = model
  return {
    ...nameJson(model, units),
    version,
    kind,
    state,
    created_at: formatRfc3339(created),
    bytes,
    card,
    accuracy: accuracy === undefined ? null : accuracyJson(accuracy, units),
  }
}

const predictionColumns = ['time', 'issued_at', 'version', 'mean', 'lower', 'upper', 'level', 'actual'] as const

export function predictionJson(prediction: MaturedPrediction): Record<(typeof predictionColumns)[number], string | number | null> {
  const { target_us: target, issue_us: issue, version, mean, lower, upper, level, actual } = prediction
  return {
    time: formatRfc3339(target),
    issued_at: formatRfc3339(issue),
    version,
    mean,
    lower: numberOf(lower),
    upper: numberOf(upper),
    level,
    actual: numberOf(actual),
  }
}

export const predictionsCsvHead = `${predictionColumns.join(',')}\r\n`

/** A row of the table; nothing in it needs quotes. */
export function predictionCsv(prediction: MaturedPrediction): string {
  const json = predictionJson(prediction)
  return `${predictionColumns.map((name) => json[name] ?? '').join(',')}\r\n`
}

/** `above` or `below`, and exactly one of them. */
export function sideOf(o: { readonly above?: number; readonly below?: number }): { readonly threshold: number; readonly side: 'above' | 'below' } {
  const { above, below } = o
  if (above !== undefined && below === undefined) return { threshold: above, side: 'above' }
  if (below !== undefined && above === undefined) return { threshold: below, side: 'below' }
  const detail = above === undefined ? 'is needed, or below: the threshold, as above=50' : 'must not stand beside below: one threshold at a time'
  throw new KymoError('request_invalid', {
    detail: 'One of the query parameters above and below is needed.',
    errors: [{ pointer: '/above', detail }],
  })
}
