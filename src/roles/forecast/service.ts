import type { ForecastMonitor } from '../../compute/forecast/monitor.ts'
import { ForecastMonitor as Monitor } from '../../compute/forecast/monitor.ts'
import { forecasterOf, forecasters } from '../../compute/forecast/registry.ts'
import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import type { MonitorState, Prediction, StoredModel } from '../../core/forecast-store.ts'
import type {
  BacktestRequest,
  FallbackReason,
  Forecast,
  ForecastAccuracy,
  ForecastModel,
  ForecastService,
  MaturedPrediction,
  SeriesName,
  TrainRequest,
} from '../../core/forecasts.ts'
import { limits } from '../../core/limits.ts'
import type { Page } from '../../core/services.ts'
import type { Jobs } from '../jobs/jobs.ts'
import { answer, forecastOf, lastReading, pointOf } from './answer.ts'
import { crossingOf } from './crossing.ts'
import { inTime, meansOf, nameOf, stepOf } from './history.ts'
import { makeAndKeep, modelShape, seriesUntil, usualShape, type World } from './world.ts'
import { walk } from './walk.ts'

/** Series that one call of `latest` looks through for some that have a forecast. */
const lookedThrough = 1_000

export function openForecastService(world: World, jobs: Pick<Jobs, 'createInner'>): Omit<ForecastService, 'latestTraining'> {
  const { forecasts, store, options } = world
  const keyOf = (tenant: string, { device, metric }: SeriesName): SeriesKey => ({ tenant, device, metric })

  return {
    async forecast(tenant, series, { store: kept, ...o }) {
      const key = keyOf(tenant, series)
      if (kept !== true) return forecastOf(await answer(world, key, o))
      const keep = async (said: Awaited<ReturnType<typeof answer>>): Promise<Forecast> => {
        const { version, issueUs, shape, level, mean, lower, upper } = said
        await forecasts.write([{ key, version, issueUs, stepUs: shape.stepUs, level, mean, lower, upper }], [])
        return forecastOf(said)
      }
      return makeAndKeep(world, key, () => answer(world, key, o), keep)
    },
    crossing: (tenant, series, o) => crossingOf(world, keyOf(tenant, series), o),
    predictions: (tenant, series, o) => matured(world, keyOf(tenant, series), o),
    async latest(tenant, { device, after, limit }) {
      let from = after === undefined ? undefined : seriesAfter(after)
      const match = { tenant, ...(device === undefined ? {} : { devices: [device] }) }
      const found = await store.series(match, inTime(), { limit: lookedThrough, ...(from === undefined ? {} : { after: from }) })
      const keys = found.map(({ key }) => key)
      const issues = new Map((await forecasts.latest(keys)).map((one) => [nameOf(one.key), one.predictions]))
      const items: Forecast[] = []
      for (const key of keys) {
        const predictions = issues.get(nameOf(key))
        if (predictions !== undefined && predictions.length > 0) {
          if (items.length === limit) return { items, next: textOf(from) }
          items.push(await latestOf(world, key, predictions))
        }
        from = key
      }
      return found.length < lookedThrough || from === undefined ? { items } : { items, next: textOf(from) }
    },
    async models(tenant, o) {
      const page = await forecasts.models(tenant, o)
      const states = await forecasts.states(page.items.map(({ key }) => key))
      const items = page.items.map((model) => modelOf(model, stateOf(states, model), options.level))
      return page.next === undefined ? { items } : { items, next: page.next }
    },
    async versions(tenant, series) {
      const key = keyOf(tenant, series)
      await lastReading(world, key)
      const [versions, states] = await Promise.all([forecasts.versions(key), forecasts.states([key])])
      return versions.map((model) => modelOf(model, stateOf(states, model), options.level))
    },
    async promote(tenant, series, version) {
      const key = keyOf(tenant, series)
      const lastUs = await lastReading(world, key)
      return world.turn.run(() => promote(world, key, version, lastUs))
    },
    async accuracy(tenant, series) {
      const key = keyOf(tenant, series)
      await lastReading(world, key)
      const [versions, states] = await Promise.all([forecasts.versions(key), forecasts.states([key])])
      const version = versions.find(({ state }) => state === 'champion')?.version ?? 0
      const state = states.find((one) => one.version === version)
      return accuracyOf(series, version, state === undefined ? undefined : Monitor.restore(state.bytes), options.level)
    },
    async file(tenant, { device, metric }, version) {
      const bytes = await forecasts.file({ tenant, device, metric }, version)
      if (bytes !== undefined) return bytes
      throw new KymoError('model_not_found', { detail: `There is no file of version ${version} of the model of ${device} ${metric}.` })
    },
    async train(tenant, request) {
      check(request, options.stepUs)
      // A series that does not exist is told at once; the job would only count it.
      for (const series of request.series ?? []) await lastReading(world, keyOf(tenant, series))
      if (request.series === undefined) return jobs.createInner(tenant, 'train', asParameters(request))
      return jobs.createInner(tenant, 'train', asParameters({ ...request, series: request.series.map(({ device, metric }) => ({ device, metric })) }))
    },
    async backtest(tenant, { device, metric, ...request }: BacktestRequest) {
      check(request, options.stepUs)
      await lastReading(world, { tenant, device, metric })
      return jobs.createInner(tenant, 'backtest', asParameters({ device, metric, ...request }))
    },
  }
}

function asParameters(request: object): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined))
}

const dayUs = 86_400e6

/** Throws request_invalid, with the field. */
function check({ kinds, step_us: stepUs, horizon_us: horizonUs, series }: TrainRequest, usualStepUs: number): void {
  const refuse = (pointer: string, detail: string): never => {
    throw new KymoError('request_invalid', { detail: `${pointer.slice(1)} ${detail}`, errors: [{ pointer, detail }] })
  }
  const known = forecasters.map(({ kind }) => kind).join(', ')
  if (kinds?.length === 0) refuse('/kinds', `is empty; it takes some of ${known}`)
  for (const [i, kind] of (kinds ?? []).entries()) if (forecasterOf(kind) === undefined) refuse(`/kinds/${i}`, `is none of ${known}`)
  if (series?.length === 0) refuse('/series', 'is empty; leave it out to train all that are forecast')
  if (series !== undefined && series.length > limits.trainSeriesMax)
    refuse('/series', `has ${series.length} series; at most ${limits.trainSeriesMax} are trained by one job`)
  if (stepUs !== undefined && !(stepUs >= 60e6 && stepUs <= dayUs / 2 && dayUs % stepUs === 0))
    refuse('/step', 'must be a minute to 12 hours, and a day whole steps of it')
  if (horizonUs !== undefined && horizonUs / (stepUs ?? usualStepUs) > limits.forecastHorizonMax)
    refuse('/horizon', `has ${Math.ceil(horizonUs / (stepUs ?? usualStepUs))} steps; at most ${limits.forecastHorizonMax} can be forecast`)
}

function stateOf(states: readonly MonitorState[], { key, version }: StoredModel): ForecastMonitor | undefined {
  const name = nameOf(key)
  const state = states.find((one) => one.version === version && nameOf(one.key) === name)
  return state === undefined ? undefined : Monitor.restore(state.bytes)
}

function accuracyOf({ device, metric }: SeriesName, version: number, monitor: ForecastMonitor | undefined, level: number): ForecastAccuracy {
  const known = monitor ?? Monitor.begin({ horizon: 1, stepUs: 1, level, atUs: 0 })
  const { n, mae, rmse, bias, naiveMae, skill, coverage } = known.accuracy()
  const { statistic, threshold, sinceUs } = known.drift
  const numbers = Object.entries({ mae, rmse, bias, naive_mae: naiveMae, skill: n === 0 ? Number.NaN : skill, coverage })
  return {
    device,
    metric,
    version,
    n,
    ...Object.fromEntries(numbers.filter(([, value]) => Number.isFinite(value))),
    level: known.level,
    drift: { statistic, threshold, ...(sinceUs === undefined ? {} : { since_us: sinceUs }) },
  }
}

function modelOf(
  { key: { device, metric }, version, kind, state, created_us, bytes, card }: StoredModel,
  monitor: ForecastMonitor | undefined,
  level: number,
): ForecastModel {
  const accuracy = monitor === undefined || monitor.accuracy().n === 0 ? {} : { accuracy: accuracyOf({ device, metric }, version, monitor, level) }
  return { device, metric, version, kind, state, created_us, bytes, card, ...accuracy }
}

/** The one that is made champion goes on from the present: what it would have said before was not said. */
async function promote(world: World, key: SeriesKey, version: number, lastUs: number): Promise<ForecastModel> {
  const { forecasts, models, options, store } = world
  const promoted = await forecasts.promote(key, version)
  const shape = modelShape(promoted, options)
  const atUs = stepOf(lastUs, shape.stepUs)
  const before = (await forecasts.states([key])).find((one) => one.version === version)
  const monitor =
    before === undefined ? Monitor.begin({ horizon: shape.horizon, stepUs: shape.stepUs, level: options.level, atUs }) : Monitor.restore(before.bytes)
  monitor.jump(atUs)
  const model = await models.load(key, version)
  if (model !== undefined) {
    const fromUs = Math.max(0, atUs - (model.context + 8 * shape.season) * shape.stepUs)
    const values = await meansOf(store, key, { fromUs, toUs: atUs, stepUs: shape.stepUs }, inTime())
    const first = walk({ key, version, model, monitor, shape, series: seriesUntil(values, atUs, shape, options.timeZone) }).next()
    await forecasts.write(first.done === true ? first.value : [], [{ key, version, atUs, bytes: monitor.snapshot() }])
  }
  return modelOf(promoted, monitor, options.level)
}

const separator = '\u0000'

function textOf(key: Pick<SeriesKey, 'device' | 'metric'> | undefined): string {
  return key === undefined ? '' : `${key.device}${separator}${key.metric}`
}

function seriesAfter(text: string): Pick<SeriesKey, 'device' | 'metric'> {
  const [device = '', metric = ''] = text.split(separator)
  return { device, metric }
}

/** Why an issue is seasonal naive's: the champion has lost its skill, or had no answer. */
async function whyNaive(forecasts: World['forecasts'], champion: StoredModel | undefined): Promise<FallbackReason> {
  if (champion === undefined) return 'untrained'
  return stateOf(await forecasts.states([champion.key]), champion)?.skillLost === true ? 'skill_lost' : 'refused'
}

/** What the newest issue says, as a forecast: of the version that serves, where several have issued at that moment. */
async function latestOf({ forecasts, options }: World, key: SeriesKey, predictions: readonly Prediction[]): Promise<Forecast> {
  const versions = await forecasts.versions(key)
  const champion = versions.find(({ state }) => state === 'champion')
  const issued = new Set(predictions.map(({ version }) => version))
  const version = champion !== undefined && issued.has(champion.version) ? champion.version : Math.max(...issued)
  const own = predictions.filter((one) => one.version === version)
  const [first] = own
  const model = versions.find((one) => one.version === version)
  const stepUs =
    own.length > 1 ? own[1]!.target_us - own[0]!.target_us : (model === undefined ? usualShape(options) : modelShape(model, options)).stepUs
  const fallback = version > 0 ? {} : { fallback: await whyNaive(forecasts, champion) }
  return {
    device: key.device,
    metric: key.metric,
    model: { kind: model?.kind ?? 'seasonal-naive', version },
    ...fallback,
    issued_us: first?.issue_us ?? 0,
    step_us: stepUs,
    level: first?.level ?? options.level,
    points: own.map(({ target_us: us, mean, lower, upper }) => pointOf(us, mean, lower, upper)),
  }
}

/** Stored predictions, each with what was measured in its step when that has ended. */
async function matured(
  world: World,
  key: SeriesKey,
  { fromUs, toUs, version, newest, after, limit }: Parameters<ForecastService['predictions']>[2],
): Promise<Page<MaturedPrediction>> {
  const { forecasts, store, options } = world
  const lastUs = await lastReading(world, key)
  const versions = await forecasts.versions(key)
  const rows = await forecasts.predictions({
    key,
    fromUs,
    toUs,
    limit: limit + 1,
    ...(version === undefined ? {} : { version }),
    ...(newest === undefined ? {} : { newest }),
    ...(after === undefined ? {} : { after: placeAfter(after) }),
  })
  const page = rows.slice(0, limit)
  const last = page.at(-1)
  const usual = usualShape(options).stepUs
  const steps = new Map(versions.map((model) => [model.version, modelShape(model, options).stepUs]))
  const actuals = new Map<number, (us: number) => number | undefined>()
  for (const [stepUs, own] of Map.groupBy(page, (one) => steps.get(one.version) ?? usual)) {
    const window = { fromUs: stepOf(own[0]!.target_us, stepUs), toUs: Math.min(stepOf(lastUs, stepUs), own.at(-1)!.target_us + stepUs), stepUs }
    const values = window.toUs > window.fromUs ? await meansOf(store, key, window, inTime()) : new Float64Array(0)
    actuals.set(stepUs, (us) => {
      const value = values[Math.round((us - window.fromUs) / stepUs)]
      return value !== undefined && Number.isFinite(value) ? value : undefined
    })
  }
  const items = page.map((one): MaturedPrediction => {
    const actual = actuals.get(steps.get(one.version) ?? usual)?.(one.target_us)
    return { device: key.device, metric: key.metric, ...one, ...(actual === undefined ? {} : { actual }) }
  })
  if (rows.length <= limit || last === undefined) return { items }
  return { items, next: `${last.target_us} ${last.issue_us} ${last.version}` }
}

function placeAfter(text: string): Pick<Prediction, 'target_us' | 'issue_us' | 'version'> {
  const [target = Number.NaN, issue = Number.NaN, version = Number.NaN] = text.split(' ').map(Number)
  if (![target, issue, version].every(Number.isSafeInteger))
    throw new KymoError('request_invalid', {
      detail: 'The cursor is not valid here.',
      errors: [{ pointer: '/cursor', detail: 'was not given out by this server' }],
    })
  return { target_us: target, issue_us: issue, version }
}
