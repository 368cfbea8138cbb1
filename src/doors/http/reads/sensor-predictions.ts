import { asKymoError } from '../../../core/errors.ts'
import type { Forecast, MaturedPrediction } from '../../../core/forecasts.ts'
import { limits } from '../../../core/limits.ts'
import type { Page } from '../../../core/services.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import type { HttpContext } from '../options.ts'
import { decodeCursor, encodeCursor, questionOf } from './cursor.ts'
import type { Listing } from './listing.ts'
import { parameterInvalid } from './range.ts'
import { firstOf, temperatures } from './sensor-models.ts'
import { parseMoment } from './time.ts'

/* S4 has one document for each sensor and target, with temperature and humidity: two series here. */

/** One metric's part of such a document. */
interface Part {
  readonly targetUs: number
  readonly issueUs: number
  readonly version: number
  readonly mean: number
  readonly lower: number | undefined
  readonly upper: number | undefined
  readonly actual: number | undefined
}

function finite(value: number | undefined): number | null {
  return value === undefined || !Number.isFinite(value) ? null : value
}

function documentOf(sensor: string, temperature: Part | undefined, humidity: Part | undefined): Record<string, unknown> {
  const known = temperature ?? humidity
  return {
    sensor_id: sensor,
    target_time: formatRfc3339(known?.targetUs ?? 0),
    predicted_temperature: finite(temperature?.mean),
    predicted_humidity: finite(humidity?.mean),
    temperature_lower: finite(temperature?.lower),
    temperature_upper: finite(temperature?.upper),
    humidity_lower: finite(humidity?.lower),
    humidity_upper: finite(humidity?.upper),
    actual_temperature: finite(temperature?.actual),
    actual_humidity: finite(humidity?.actual),
    model_version: known?.version ?? 0,
    created_at: formatRfc3339(known?.issueUs ?? 0),
  }
}

/** By target, up to and with `untilUs`. */
function joined(sensor: string, temperature: readonly Part[], humidity: readonly Part[], untilUs = Infinity): readonly [number, unknown][] {
  const others = new Map(humidity.map((part) => [part.targetUs, part]))
  const own = new Map(temperature.map((part) => [part.targetUs, part]))
  return [...new Set([...own.keys(), ...others.keys()])]
    .filter((us) => us <= untilUs)
    .sort((a, b) => a - b)
    .map((us) => [us, documentOf(sensor, own.get(us), others.get(us))])
}

function partsOf(forecast: Forecast | undefined): Part[] {
  if (forecast === undefined) return []
  const { issued_us: issueUs, model, points } = forecast
  return points.map(({ time_us: targetUs, mean, lower, upper }) => ({
    targetUs,
    issueUs,
    version: model.version,
    mean,
    lower,
    upper,
    actual: undefined,
  }))
}

function storedParts(page: Page<MaturedPrediction> | undefined): Part[] {
  return (page?.items ?? []).map(({ target_us: targetUs, issue_us: issueUs, version, mean, lower, upper, actual }) => ({
    targetUs,
    issueUs,
    version,
    mean,
    lower,
    upper,
    actual,
  }))
}

/** Asks for both metrics. One that the sensor has not, or too little of, is undefined; where that is so of both, rejects with what is nearest to an answer. */
async function both<T>(ask: (metric: string) => Promise<T>): Promise<readonly [T | undefined, T | undefined]> {
  const [temperature, humidity] = await Promise.allSettled([firstOf(temperatures, ask), ask('humidity')])
  const refusals = [temperature, humidity].flatMap((one) => (one.status === 'rejected' ? [asKymoError(one.reason)] : []))
  const hard = refusals.find(({ code }) => code !== 'series_not_found' && code !== 'too_little_data')
  const nearest = hard ?? refusals.find(({ code }) => code === 'too_little_data') ?? refusals[0]
  if (nearest !== undefined && (hard !== undefined || refusals.length === 2)) throw nearest
  const valueOf = (one: PromiseSettledResult<T>): T | undefined => (one.status === 'fulfilled' ? one.value : undefined)
  return [valueOf(temperature), valueOf(humidity)]
}

/** Predicts from what is known now, and stores it. `hours`: how far ahead. */
export async function predictedNow(
  context: HttpContext,
  tenant: string,
  device: string,
  hours: number,
): Promise<{ readonly models: Readonly<Record<string, string | null>>; readonly items: readonly unknown[] }> {
  const o = { horizonUs: hours * 3600e6, store: true }
  const ask = (metric: string): Promise<Forecast> => context.forecasts.forecast(tenant, { device, metric }, o)
  const [temperature, humidity] = await both(ask)
  return {
    models: { temperature: temperature?.model.kind ?? null, humidity: humidity?.model.kind ?? null },
    items: joined(device, partsOf(temperature), partsOf(humidity)).map(([, item]) => item),
  }
}

interface AskedPredictions {
  readonly sensor_id: string
  readonly from?: string
  readonly to?: string
  readonly limit?: number
  readonly cursor?: string
}

/** A page of what was predicted last of each target of a sensor. */
export async function predictionsOf(context: HttpContext, tenant: string, asked: AskedPredictions): Promise<Listing<unknown>> {
  const { sensor_id: device, from = '-24h', to, limit = limits.seedListRowsDefault, cursor } = asked
  const question = questionOf('sensor-predictions', device, from, to)
  const nowUs = context.env.clock.nowUs()
  // Relative times are fixed by the first page.
  const [fromUs, toUs] =
    cursor === undefined
      ? [parseMoment('from', from, nowUs), to === undefined ? limits.timeUsMax : parseMoment('to', to, nowUs)]
      : decodeCursor(question, cursor).map(Number)
  if (fromUs === undefined || toUs === undefined || fromUs > toUs) throw parameterInvalid('to', 'must not lie before from')
  const [temperature, humidity] = await both((metric) =>
    context.forecasts.predictions(tenant, { device, metric }, { fromUs, toUs, newest: {}, limit }),
  )
  // Beyond the end of a page that was cut, the other metric would stand alone.
  const ends = [temperature, humidity].flatMap((page) => (page?.next === undefined ? [] : [page.items.at(-1)?.target_us ?? fromUs]))
  const untilUs = Math.min(...ends)
  const found = joined(device, storedParts(temperature), storedParts(humidity), untilUs)
  const page = found.slice(0, limit)
  const last = page.at(-1)?.[0]
  const more = last !== undefined && (ends.length > 0 || found.length > limit)
  return { items: page.map(([, item]) => item), cursor: more ? encodeCursor(question, [last + 1, toUs]) : undefined }
}

/** A page of the newest predictions of sensors; `limit` counts series. A sensor is never cut in two. */
export async function latestOfSensors(
  context: HttpContext,
  tenant: string,
  asked: { readonly sensor_id?: string; readonly limit?: number; readonly cursor?: string },
): Promise<Listing<unknown>> {
  const { sensor_id: sensor, limit = limits.forecastsListedDefault, cursor } = asked
  const question = questionOf('sensor-predictions-latest', sensor)
  const [after, said] = cursor === undefined ? [] : decodeCursor(question, cursor).map(String)
  const device = sensor === undefined ? {} : { device: sensor }
  const page = await context.forecasts.latest(tenant, { limit, ...device, ...(after === undefined ? {} : { after }) })
  const bySensor = new Map<string, Forecast[]>()
  for (const forecast of page.items) {
    if (forecast.device !== said) bySensor.set(forecast.device, [...(bySensor.get(forecast.device) ?? []), forecast])
  }
  const last = page.items.at(-1)?.device
  if (page.next !== undefined && last !== undefined && last !== said) bySensor.set(last, await allOf(context, tenant, last))
  const items = [...bySensor].flatMap(([id, forecasts]) => {
    const of = (...names: readonly string[]): Forecast | undefined => forecasts.find(({ metric }) => names.includes(metric))
    return joined(id, partsOf(of('temperature') ?? of('temperature_c')), partsOf(of('humidity'))).map(([, item]) => item)
  })
  return { items, cursor: page.next === undefined ? undefined : encodeCursor(question, [page.next, last ?? said ?? '']) }
}

/** The latest forecasts of one device: metrics are few. */
async function allOf(context: HttpContext, tenant: string, device: string): Promise<Forecast[]> {
  const found: Forecast[] = []
  let after: string | undefined
  do {
    const page: Page<Forecast> = await context.forecasts.latest(tenant, {
      device,
      limit: limits.forecastsListedMax,
      ...(after === undefined ? {} : { after }),
    })
    found.push(...page.items)
    after = page.next
  } while (after !== undefined)
  return found
}
