import fs from 'node:fs'
import path from 'node:path'
import { ForecastMonitor } from '../../compute/forecast/monitor.ts'
import { readModel } from '../../compute/forecast/registry.ts'
import type { SeriesKey } from '../../core/batch.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import type { StoredModel } from '../../core/forecast-store.ts'
import type { SeriesName } from '../../core/forecasts.ts'
import { limits } from '../../core/limits.ts'
import type { InnerJob, OnEvent } from '../jobs/runner.ts'
import { followed } from './follow.ts'
import { firstTime, inTime, lastTimes, meansOf, nameOf, stepOf } from './history.ts'
import { backtestParameters, trainParameters, type TrainParameters } from './parameters.ts'
import type { Trainer } from './trainer.ts'
import type { BacktestTask, TaskResult, TrainedModel, TrainTask } from './training-task.ts'
import { walk } from './walk.ts'
import { cardNumber, makeAndKeep, modelShape, seriesUntil, shapeOf, type Shape, type World } from './world.ts'

/** What came of one series. */
export type Outcome = 'trained' | 'kept_naive' | 'refused'

export interface TrainingParts {
  readonly world: World
  readonly trainer: Trainer
  readonly onOutcome: (outcome: Outcome) => void
}

/** Refusals that the progress of a job names; the others are counted. */
const refusalsNamed = 20

/** What a job has done so far, in its folder: a restart goes on behind it. */
class Ledger {
  readonly series: readonly SeriesName[]
  readonly counts = { trained: 0, kept_naive: 0, refused: 0 }
  readonly refusals: Readonly<Record<string, string>>[] = []
  readonly #done = new Set<string>()
  readonly #file: string

  private constructor(dir: string, series: readonly SeriesName[]) {
    this.series = series
    this.#file = path.join(dir, 'done.ndjson')
    const text = fs.existsSync(this.#file) ? fs.readFileSync(this.#file, 'utf8') : ''
    for (const line of text.split('\n')) {
      // The last line may have been cut off: that series is trained again.
      const entry = line.endsWith('}') ? (JSON.parse(line) as SeriesName & { outcome: Outcome; reason?: string; detail?: string }) : undefined
      if (entry !== undefined) this.#count(entry, entry.outcome, entry)
    }
  }

  static async open(dir: string, list: () => Promise<readonly SeriesName[]>): Promise<Ledger> {
    const file = path.join(dir, 'series.json')
    if (fs.existsSync(file)) return new Ledger(dir, JSON.parse(fs.readFileSync(file, 'utf8')) as SeriesName[])
    const series = await list()
    fs.mkdirSync(dir, { recursive: true })
    fs.writeFileSync(`${file}.new`, JSON.stringify(series))
    fs.renameSync(`${file}.new`, file)
    return new Ledger(dir, series)
  }

  isDone(series: SeriesName): boolean {
    return this.#done.has(JSON.stringify([series.device, series.metric]))
  }

  add(series: SeriesName, outcome: Outcome, why?: { readonly reason: string; readonly detail: string }): void {
    fs.appendFileSync(this.#file, `${JSON.stringify({ ...series, outcome, ...why })}\n`)
    this.#count(series, outcome, why ?? {})
  }

  get progress(): Readonly<Record<string, unknown>> {
    return {
      series_total: this.series.length,
      series_done: this.#done.size,
      ...this.counts,
      ...(this.refusals.length === 0 ? {} : { refusals: this.refusals }),
    }
  }

  #count({ device, metric }: SeriesName, outcome: Outcome, { reason, detail }: { readonly reason?: string; readonly detail?: string }): void {
    this.#done.add(JSON.stringify([device, metric]))
    this.counts[outcome]++
    if (outcome === 'refused' && this.refusals.length < refusalsNamed)
      this.refusals.push({ device, metric, reason: reason ?? '', detail: detail ?? '' })
  }
}

function byName(a: SeriesName, b: SeriesName): number {
  if (a.device !== b.device) return a.device < b.device ? -1 : 1
  return a.metric < b.metric ? -1 : Number(a.metric > b.metric)
}

/** Trains series after series, each in the child; what was trained is kept at once. The last of its progress. */
export async function trainAll(
  parts: TrainingParts,
  job: InnerJob,
  signal: AbortSignal,
  onEvent: OnEvent,
): Promise<Readonly<Record<string, unknown>>> {
  const { world, onOutcome } = parts
  const request = trainParameters(job.parameters)
  const ledger = await Ledger.open(job.dir, async () => {
    const named = request.series ?? (await followed(world, [job.tenant])).map(({ key: { device, metric } }) => ({ device, metric }))
    return named.toSorted(byName)
  })
  const all = ledger.series.length
  const tell = (more: Readonly<Record<string, unknown>>): void => onEvent({ event: 'progress', ...ledger.progress, ...more })
  for (const name of ledger.series) {
    if (ledger.isDone(name)) continue
    signal.throwIfAborted()
    const done = Number(ledger.progress['series_done'])
    const onProgress = (share: number): void => tell({ ...name, share: (done + share) / all })
    onProgress(0)
    const key = { tenant: job.tenant, device: name.device, metric: name.metric }
    try {
      const [outcome, why] = await trainSeries(parts, key, { job, request, signal, onProgress })
      ledger.add(name, outcome, why)
      onOutcome(outcome)
    } catch (thrown) {
      signal.throwIfAborted()
      const error = asKymoError(thrown)
      if (error.code === 'series_not_found') {
        ledger.add(name, 'refused', { reason: error.code, detail: error.message })
        continue
      }
      throw new KymoError(error.code, { detail: `${name.device} ${name.metric}: ${error.message}`, cause: thrown })
    }
  }
  return { ...ledger.progress, share: 1 }
}

interface TrainContext {
  readonly job: InnerJob
  readonly request: TrainParameters
  readonly signal: AbortSignal
  readonly onProgress: (share: number) => void
}

type Why = { readonly reason: string; readonly detail: string }

async function trainSeries({ world, trainer }: TrainingParts, key: SeriesKey, c: TrainContext): Promise<[Outcome, Why?]> {
  const make = async (): Promise<Made | Outcome> => {
    const asked = await taskOf(world, key, c)
    return typeof asked === 'string' ? asked : { ...asked, result: await trainer.run(asked.task, c) }
  }
  return makeAndKeep(world, key, make, async (made) => {
    if (made === 'refused') return ['refused', { reason: 'too_little_data', detail: 'No step with readings has ended.' }]
    return typeof made === 'string' ? [made] : keep(world, key, made)
  })
}

/** What the child is to do; or what came of it already, where there is nothing to do. */
async function taskOf(world: World, key: SeriesKey, { job, request, signal }: TrainContext): Promise<Omit<Made, 'result'> | Outcome> {
  const { forecasts, options } = world
  const versions = await forecasts.versions(key)
  const states = await forecasts.states([key])
  // A restart came between the model and the word that it is done.
  const ours = versions.find(({ card }) => card['job'] === job.id)
  if (ours !== undefined && states.some(({ version }) => version === ours.version)) return 'trained'
  const champion = versions.find(({ state }) => state === 'champion')
  const shape =
    champion !== undefined && request.reason !== undefined
      ? modelShape(champion, options)
      : shapeOf(request.step_us ?? options.stepUs, request.horizon_us ?? options.horizonUs)
  const history = await historyOf(world, key, shape, signal)
  if (history === undefined) return 'refused'
  const monitor = states.find(({ version }) => version === champion?.version)
  const file = champion === undefined ? undefined : await forecasts.file(key, champion.version)
  const { drift, ...learns } = afterDrift(monitor?.bytes, history, shape)
  const task: TrainTask = {
    type: 'train',
    ...history,
    ...shape,
    timeZone: options.timeZone,
    level: options.level,
    kinds: request.kinds ?? options.kinds,
    seed: request.seed ?? 1,
    alone: request.kinds?.length === 1,
    ...learns,
    ...(champion === undefined || file === undefined
      ? {}
      : { champion: { version: champion.version, file, trainedToUs: cardNumber(champion, 'to_us') ?? history.startUs } }),
    about: { job: job.id, reason: request.reason ?? 'asked', ...drift },
  }
  return { shape, task, champion }
}

interface History {
  readonly startUs: number
  readonly values: Float64Array
}

/** What a series is trained on: the steps that have ended in its own time, as far back as settings and limits go. Undefined: there is none. */
export async function historyOf({ store, options }: World, key: SeriesKey, { stepUs }: Shape, signal: AbortSignal): Promise<History | undefined> {
  const lastUs = (await lastTimes(store, [key], inTime(signal))).get(nameOf(key))
  const firstUs = lastUs === undefined ? undefined : await firstTime(store, key, inTime(signal))
  if (lastUs === undefined || firstUs === undefined) return undefined
  const toUs = stepOf(lastUs, stepUs)
  const most = Math.min(Math.floor(options.historyUs / stepUs), limits.forecastStepsMax)
  const fromUs = Math.max(stepOf(firstUs, stepUs), toUs - most * stepUs)
  if (fromUs >= toUs) return undefined
  return { startUs: fromUs, values: await meansOf(store, key, { fromUs, toUs, stepUs }, inTime(signal)) }
}

/** Of the steps since a change the last third decides, when that is enough to tell; */
const driftHoldout = 1 / 3
/** and a model can be made of those before them when they are so many horizons and seasons. */
const driftLeast = { horizons: 4, seasons: 2 }

/**
 * After a change, what came before it may teach the wrong thing: what is learned from begins there as well, and the steps since decide. Nothing where
 * there is no alarm, or too little has come since.
 */
function afterDrift(
  state: Uint8Array | undefined,
  { startUs, values }: History,
  { stepUs, horizon, season }: Shape,
): Pick<TrainTask, 'starts' | 'holdout'> & { readonly drift?: { readonly drift_since_us: number } } {
  const sinceUs = state === undefined ? undefined : restored(state)?.drift.sinceUs
  if (sinceUs === undefined) return { starts: [0] }
  const drift = { drift_since_us: sinceUs }
  const since = Math.max(0, Math.round((sinceUs - startUs) / stepUs))
  const steps = values.length - since
  const holdout = Math.max(2 * horizon, Math.floor(driftHoldout * steps))
  if (steps - holdout < driftLeast.horizons * horizon + driftLeast.seasons * season) return { starts: [0], drift }
  return { starts: since > 0 ? [0, since] : [0], holdout, drift }
}

/** A state that cannot be read hinders no training: with it all begins anew. */
function restored(state: Uint8Array): ForecastMonitor | undefined {
  try {
    return ForecastMonitor.restore(state)
  } catch {
    return undefined
  }
}

interface Made {
  readonly shape: Shape
  readonly task: TrainTask
  readonly result: TaskResult
  readonly champion: StoredModel | undefined
}

/** Makes durable what training has come to. Alone: nobody else changes the series meanwhile. */
async function keep(world: World, key: SeriesKey, made: Made): Promise<[Outcome, Why?]> {
  const { result, champion } = made
  switch (result.outcome) {
    case 'model':
      await keepModel(world, key, made, result)
      return ['trained']
    case 'naive':
      if (champion !== undefined && result.championLost) await world.forecasts.retire(key)
      return ['kept_naive']
    case 'refused':
      return ['refused', { reason: result.refusal.refused, detail: result.refusal.detail }]
    default:
      throw new KymoError('bug', { detail: 'a training answered with a backtest' })
  }
}

async function keepModel(
  world: World,
  key: SeriesKey,
  { shape, task }: Made,
  { kind, card, file, wins, monitor: bytes }: TrainedModel,
): Promise<void> {
  const { forecasts, options, env } = world
  const state = wins ? 'champion' : 'challenger'
  const added = await forecasts.addModel({ key, kind, state, createdUs: env.clock.nowUs(), card, file })
  const monitor = ForecastMonitor.restore(bytes)
  const issued = []
  if (wins) {
    const series = seriesUntil(task.values, monitor.atUs, shape, options.timeZone)
    const first = walk({ key, version: added.version, model: readModel(file).model, monitor, shape, series }).next()
    if (first.done === true) issued.push(...first.value)
  }
  await forecasts.write(issued, [{ key, version: added.version, atUs: monitor.atUs, bytes: monitor.snapshot() }])
}

/** What each kind would have been worth on the last part of the series. Keeps nothing but the job's file. */
export async function backtestOnce(
  { world, trainer }: Pick<TrainingParts, 'world' | 'trainer'>,
  job: InnerJob,
  signal: AbortSignal,
  onEvent: OnEvent,
): Promise<Readonly<Record<string, unknown>>> {
  const request = backtestParameters(job.parameters)
  if (request === undefined) throw new KymoError('bug', { detail: 'a backtest names no series' })
  const { options } = world
  const shape = shapeOf(request.step_us ?? options.stepUs, request.horizon_us ?? options.horizonUs)
  const key = { tenant: job.tenant, device: request.device, metric: request.metric }
  const history = await historyOf(world, key, shape, signal)
  if (history === undefined) throw new KymoError('too_little_data', { detail: 'No step with readings has ended.', facts: { missing: 1 } })
  const task: BacktestTask = {
    type: 'backtest',
    ...history,
    ...shape,
    timeZone: options.timeZone,
    level: options.level,
    kinds: request.kinds ?? options.kinds,
    seed: request.seed ?? 1,
  }
  const result = await trainer.run(task, { signal, onProgress: (share) => onEvent({ event: 'progress', share }) })
  if (result.outcome === 'refused')
    throw new KymoError('too_little_data', { detail: result.refusal.detail, facts: { missing: result.refusal.missing ?? 1 } })
  if (result.outcome !== 'backtest') throw new KymoError('bug', { detail: 'a backtest answered with a model' })
  await fs.promises.writeFile(path.join(job.dir, 'result.json'), result.result)
  return { share: 1 }
}
