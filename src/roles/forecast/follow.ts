import type { ForecastMonitor } from '../../compute/forecast/monitor.ts'
import { ForecastMonitor as Monitor } from '../../compute/forecast/monitor.ts'
import { naiveContext } from '../../compute/forecast/naive-forecast.ts'
import type { SeriesKey } from '../../core/batch.ts'
import { asKymoError } from '../../core/errors.ts'
import type { IssuedForecast, MonitorState, StoredModel } from '../../core/forecast-store.ts'
import { limits } from '../../core/limits.ts'
import { inTime, lastTimes, means, nameOf, stepOf } from './history.ts'
import { walk } from './walk.ts'
import { cardNumber, modelShape, pieces, seriesUntil, usualShape, type Shape, type World } from './world.ts'

/** A series that is forecast on schedule. */
export interface Followed {
  readonly key: SeriesKey
  /** The champion; absent: seasonal naive. */
  readonly champion?: StoredModel
  readonly shape: Shape
  /** The end of what the champion was trained on. */
  readonly trainedToUs?: number
}

/** What is remembered of a followed series between two looks. */
export interface Watched {
  readonly version: number
  readonly atUs: number
  readonly lost: boolean
  /** Mean absolute error over that of seasonal naive, lately; NaN: nothing has matured. */
  readonly error: number
  readonly driftSinceUs: number | undefined
}

/** Why a series is to be trained again. */
export type TrainReason = 'drift' | 'age' | 'new'

export interface Wish {
  readonly key: SeriesKey
  readonly version: number
  readonly reason: TrainReason
}

/** Series of one query, and steps of one series in one go: 16 x (96 + 500) rows. */
const seriesAtOnce = 16
const stepsAtOnce = 96
/** Names of one question for last readings. */
const namesAtOnce = 200

/** The series that are followed now: those with a model, and those of the metrics that settings name. By tenant, device and metric. */
export async function followed({ forecasts, store, options }: World, tenants: readonly string[]): Promise<Followed[]> {
  const found = new Map<string, Followed>()
  const usual = usualShape(options)
  for (const tenant of tenants) {
    for (let after: string | undefined; ;) {
      const page = await forecasts.models(tenant, { limit: limits.forecastKeysPerCallMax, ...(after === undefined ? {} : { after }) })
      for (const model of page.items) found.set(nameOf(model.key), ofModel(model, options))
      after = page.next
      if (after === undefined || found.size >= limits.forecastSeriesMax) break
    }
    if (!options.anyMetric) continue
    for (let after: { device: string; metric: string } | undefined; ;) {
      const page = await store.series({ tenant }, inTime(), { limit: limits.queryRowsDefault, ...(after === undefined ? {} : { after }) })
      for (const { key } of page) if (options.follows(key.metric) && !found.has(nameOf(key))) found.set(nameOf(key), { key, shape: usual })
      after = page.at(-1)?.key
      if (page.length < limits.queryRowsDefault || after === undefined || found.size >= limits.forecastSeriesMax) break
    }
  }
  return [...found.values()].slice(0, limits.forecastSeriesMax)
}

function ofModel(model: StoredModel, options: World['options']): Followed {
  const trainedToUs = cardNumber(model, 'to_us')
  if (model.state !== 'champion') return { key: model.key, shape: usualShape(options) }
  return { key: model.key, champion: model, shape: modelShape(model, options), ...(trainedToUs === undefined ? {} : { trainedToUs }) }
}

export interface FollowedNow {
  /** How each series that has readings is, by `nameOf`. */
  readonly watched: Map<string, Watched>
  readonly wishes: Wish[]
  readonly issued: number
  /** Some have more steps to go on with. */
  readonly behind: boolean
}

interface Due extends Followed {
  readonly endUs: number
}

/** One look at all of them: each goes on by the steps that have ended since, of many steps by some. `known`: of the look before. */
export async function lookAt(world: World, all: readonly Followed[], known: ReadonlyMap<string, Watched>, signal: AbortSignal): Promise<FollowedNow> {
  const watched = new Map<string, Watched>()
  const wishes: Wish[] = []
  let [issued, behind] = [0, false]
  for (let i = 0; i < all.length && !signal.aborted; i += namesAtOnce) {
    const some = all.slice(i, i + namesAtOnce)
    const last = await lastTimes(
      world.store,
      some.map(({ key }) => key),
      inTime(signal),
    )
    const due: Due[] = []
    for (const one of some) {
      const name = nameOf(one.key)
      const lastUs = last.get(name)
      // Its readings are gone: erased, or too old.
      if (lastUs === undefined) continue
      const endUs = stepOf(lastUs, one.shape.stepUs)
      const before = known.get(name)
      if (before?.version === (one.champion?.version ?? 0) && before.atUs >= endUs) watched.set(name, before)
      else due.push({ ...one, endUs })
    }
    for (const group of groupsOf(due)) {
      if (signal.aborted) break
      const went = await world.turn.run(() => goOn(world, group, signal))
      issued += went.issued
      for (const [name, one] of went.watched) watched.set(name, one)
      wishes.push(...went.wishes)
      behind ||= went.behind
    }
  }
  return { watched, wishes, issued, behind }
}

/** Of one tenant and step, so that one query has them all. */
function groupsOf(due: readonly Due[]): Due[][] {
  const groups: Due[][] = []
  for (const alike of Map.groupBy(due, ({ key, shape }) => `${shape.stepUs} ${key.tenant}`).values())
    for (let i = 0; i < alike.length; i += seriesAtOnce) groups.push(alike.slice(i, i + seriesAtOnce))
  return groups
}

interface Going extends Due {
  readonly version: number
  readonly monitor: ForecastMonitor
  /** Where it goes on to in this turn. */
  readonly toUs: number
}

async function goOn(world: World, group: readonly Due[], signal: AbortSignal): Promise<FollowedNow> {
  const { forecasts, store, models, options, env } = world
  const states = new Map((await forecasts.states(group.map(({ key }) => key))).map((state) => [`${state.version} ${nameOf(state.key)}`, state]))
  const piece = pieces(env)
  const going: Going[] = []
  for (const one of group) {
    const version = one.champion?.version ?? 0
    const monitor = monitorOf(world, one, states.get(`${version} ${nameOf(one.key)}`))
    going.push({ ...one, version, monitor, toUs: Math.min(one.endUs, monitor.atUs + stepsAtOnce * one.shape.stepUs) })
    await piece()
  }
  const watched = new Map<string, Watched>()
  const wishes: Wish[] = []
  const written: { forecasts: IssuedForecast[]; states: MonitorState[] } = { forecasts: [], states: [] }
  let [issued, behind] = [0, false]
  const write = async (): Promise<void> => {
    if (written.states.length === 0) return
    await forecasts.write(written.forecasts, written.states)
    issued += written.forecasts.length
    written.forecasts = []
    written.states = []
  }
  const idle = (one: Going): boolean => one.endUs < one.monitor.atUs || (one.endUs === one.monitor.atUs && !one.monitor.isDue)
  for (const one of going.filter(idle)) watched.set(nameOf(one.key), watchedOf(one.version, one.monitor))
  for (const near of nearby(going.filter((one) => !idle(one)))) {
    const [first] = near
    if (first === undefined) continue
    const { stepUs } = first.shape
    const loaded = await Promise.all(near.map(async ({ key, version }) => (version === 0 ? undefined : models.load(key, version))))
    const context = Math.max(...near.map(({ shape }, i) => Math.max(loaded[i]?.context ?? 0, naiveContext(shape.horizon, shape.season))))
    const fromUs = Math.max(0, Math.min(...near.map(({ monitor, toUs }) => Math.min(monitor.atUs, toUs))) - context * stepUs)
    const toUs = Math.max(...near.map((one) => one.toUs))
    const values = await means(
      store,
      near.map(({ key }) => key),
      { fromUs, toUs, stepUs },
      inTime(signal),
    )
    for (const [i, one] of near.entries()) {
      const own = values.get(nameOf(one.key))?.subarray(0, Math.round((one.toUs - fromUs) / stepUs))
      if (own === undefined) continue
      const model = loaded[i]
      const series = seriesUntil(own, one.toUs, one.shape, options.timeZone)
      const steps = walk({ ...one, series, ...(model === undefined ? {} : { model }) })
      for (;;) {
        const step = steps.next()
        if (step.done === true) {
          written.forecasts.push(...step.value)
          break
        }
        await piece()
      }
      behind ||= one.toUs < one.endUs
      const wish = wishOf(one, options)
      if (wish !== undefined) wishes.push(wish)
      written.states.push({ key: one.key, version: one.version, atUs: one.monitor.atUs, bytes: one.monitor.snapshot() })
      watched.set(nameOf(one.key), watchedOf(one.version, one.monitor))
      if (isMuch(written)) await write()
      await piece()
    }
  }
  await write()
  return { watched, wishes, issued, behind }
}

/** Of one transaction: a half of what it may hold, as one series more is a tenth at most. */
function isMuch({ forecasts, states }: { readonly forecasts: readonly IssuedForecast[]; readonly states: readonly MonitorState[] }): boolean {
  const predictions = forecasts.reduce((sum, { mean }) => sum + mean.length, 0)
  const bytes = states.reduce((sum, one) => sum + one.bytes.length, 0)
  return predictions > limits.forecastWritePredictionsMax / 2 || bytes > limits.forecastWriteBytesMax / 2
}

/** Those whose steps lie near each other: one that is far behind is asked for by itself. */
function nearby(going: readonly Going[]): Going[][] {
  const groups: Going[][] = []
  for (const one of going.toSorted((a, b) => a.toUs - b.toUs)) {
    const group = groups.at(-1)
    const first = group?.[0]
    if (group === undefined || first === undefined || one.toUs - first.toUs > stepsAtOnce * one.shape.stepUs) groups.push([one])
    else group.push(one)
  }
  return groups
}

/** As it was left; a series that nobody has looked at yet begins with its present. */
export function monitorOf(
  { options, env }: World,
  { key, shape, endUs }: Pick<Due, 'key' | 'shape' | 'endUs'>,
  state: MonitorState | undefined,
): ForecastMonitor {
  const { horizon, stepUs } = shape
  if (state !== undefined) {
    try {
      const monitor = Monitor.restore(state.bytes)
      if (monitor.horizon === horizon && monitor.stepUs === stepUs) return monitor
    } catch (thrown) {
      env.logger.error('what was known of the errors of a forecast cannot be read and begins anew', {
        device: key.device,
        metric: key.metric,
        error: asKymoError(thrown).message,
      })
    }
  }
  return Monitor.begin({ horizon, stepUs, level: options.level, atUs: endUs })
}

export function watchedOf(version: number, monitor: ForecastMonitor): Watched {
  const { n, skill } = monitor.accuracy()
  return { version, atUs: monitor.atUs, lost: monitor.skillLost, error: n === 0 ? Number.NaN : 1 - skill, driftSinceUs: monitor.drift.sinceUs }
}

/** Trainings that an alarm may cost before it counts as answered: what has changed may take some days to be learned. */
const triesMost = 5

function wishOf({ key, version, monitor, trainedToUs, shape, toUs, endUs }: Going, options: World['options']): Wish | undefined {
  // Nothing is trained by itself; or what happened meanwhile is not known yet.
  if (!Number.isFinite(options.retrainUs) || toUs < endUs) return undefined
  const { atUs, count } = monitor.tries
  const since = Number.isNaN(atUs) ? Number.POSITIVE_INFINITY : monitor.atUs - atUs
  if (monitor.drift.sinceUs !== undefined && version > 0) {
    if (count >= triesMost) monitor.answered()
    else if (count === 0 || since >= 2 ** count * shape.horizon * shape.stepUs) return { key, version, reason: 'drift' }
  }
  if (version > 0 && trainedToUs !== undefined && monitor.atUs - trainedToUs >= options.retrainUs && since >= options.retrainUs)
    return { key, version, reason: 'age' }
  return version === 0 && options.follows(key.metric) && since >= options.retrainUs ? { key, version, reason: 'new' } : undefined
}
