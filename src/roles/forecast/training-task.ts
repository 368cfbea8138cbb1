import process from 'node:process'
import type { Backtest } from '../../compute/forecast/backtest.ts'
import { ResidualBands } from '../../compute/forecast/conformal.ts'
import { contest, type Contest } from '../../compute/forecast/contest.ts'
import { boundsOf } from '../../compute/forecast/fill.ts'
import { naiveScaleOf } from '../../compute/forecast/metrics.ts'
import type { Forecaster, Model } from '../../compute/forecast/model.ts'
import { ForecastMonitor } from '../../compute/forecast/monitor.ts'
import { forecasterOf, readModel, writeModel } from '../../compute/forecast/registry.ts'
import type { Candidate } from '../../compute/forecast/select.ts'
import { select } from '../../compute/forecast/select.ts'
import type { Refusal } from '../../compute/forecast/series.ts'
import { isRefusal, measured } from '../../compute/forecast/series.ts'
import { learnFrom } from '../../compute/forecast/walk.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { CardValue } from '../../wire/model-file.ts'

/** The series that a task is about, and how it is to be looked at. */
interface TaskSeries {
  readonly startUs: number
  readonly stepUs: number
  readonly values: Float64Array
  readonly timeZone: string
  readonly horizon: number
  readonly season: number
  readonly kinds: readonly string[]
  readonly seed: number
  /** Of intervals. */
  readonly level: number
}

export interface TrainTask extends TaskSeries {
  readonly type: 'train'
  readonly alone: boolean
  readonly starts: readonly number[]
  readonly holdout?: number
  /** What serves now: its file, and the end of what it was trained on. */
  readonly champion?: { readonly version: number; readonly file: Uint8Array; readonly trainedToUs: number }
  /** For the card: the job, and why it trains. */
  readonly about: Readonly<Record<string, string | number>>
}

export interface BacktestTask extends TaskSeries {
  readonly type: 'backtest'
}

export type Task = TrainTask | BacktestTask

/** Seasonal naive is not beaten; `championLost`: neither by what serves now. */
export interface KeptNaive {
  readonly outcome: 'naive'
  readonly championLost: boolean
}

export interface TrainedModel {
  readonly outcome: 'model'
  readonly kind: string
  readonly wins: boolean
  readonly file: Uint8Array
  readonly card: Readonly<Record<string, CardValue>>
  /** `ForecastMonitor.snapshot`, at the end of the series. */
  readonly monitor: Uint8Array
}

export interface Backtested {
  readonly outcome: 'backtest'
  /** JSON, UTF-8. */
  readonly result: Uint8Array
}

export type TaskResult = KeptNaive | TrainedModel | Backtested | { readonly outcome: 'refused'; readonly refusal: Refusal }

/** Does a task from beginning to end, wherever it runs. Yields the share done. Throws usage for a kind that is not known. */
export function* runTask(task: Task): Generator<number, TaskResult, void> {
  return task.type === 'train' ? yield* trainOne(task) : yield* backtestOne(task)
}

function kindsOf(names: readonly string[]): Forecaster[] {
  return names.map((name) => {
    const kind = forecasterOf(name)
    if (kind === undefined) throw new KymoError('usage', { detail: `"${name}" is no kind of model that can be trained` })
    return kind
  })
}

function seriesOf({ startUs, stepUs, values, timeZone }: TaskSeries): Parameters<typeof contest>[0] {
  return { startUs, stepUs, values, covariates: [], timeZone }
}

/** Processor time of this process, in seconds. */
function cpuS(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

function* trainOne(task: TrainTask): Generator<number, TaskResult, void> {
  const { horizon, season, seed, level, alone, starts, champion, startUs, stepUs } = task
  const series = seriesOf(task)
  const begun = cpuS()
  const before = champion === undefined ? undefined : championOf(champion, task)
  const ended = yield* contest(series, {
    horizon,
    season,
    seed,
    alone,
    starts,
    measure: 'mae',
    kinds: kindsOf(task.kinds),
    ...(task.holdout === undefined ? {} : { holdout: task.holdout }),
    ...(before === undefined ? {} : { champion: before }),
  })
  if (isRefusal(ended)) return { outcome: 'refused', refusal: ended }
  const { model } = ended
  if (model === undefined) return { outcome: 'naive', championLost: ended.champion !== undefined && ended.champion.mae >= ended.champion.naive }
  const card = cardOf(task, ended, cpuS() - begun)
  const bounds = boundsOf(series.values.subarray(ended.start))
  const atUs = startUs + series.values.length * stepUs
  const monitor = ForecastMonitor.begin({
    horizon,
    stepUs,
    level,
    atUs,
    past: { backtest: ended.past, startUs },
    ...(bounds === undefined ? {} : { bounds }),
  })
  return {
    outcome: 'model',
    kind: model.kind,
    wins: ended.wins,
    file: writeModel(model, card),
    card: fullCard(card, model),
    monitor: monitor.snapshot(),
  }
}

/** Undefined: its steps are others, or its file is damaged, and the new one takes its place by beating seasonal naive. */
function championOf(
  { file, trainedToUs }: NonNullable<TrainTask['champion']>,
  { startUs, stepUs }: TaskSeries,
): { readonly model: Model; readonly trainedTo: number } | undefined {
  try {
    const { model } = readModel(file)
    return model.stepUs === stepUs ? { model, trainedTo: Math.round((trainedToUs - startUs) / stepUs) } : undefined
  } catch (thrown) {
    if (thrown instanceof KymoError && thrown.kind === 'corrupt') return undefined
    throw thrown
  }
}

/** With what `writeModel` adds. */
function fullCard(card: Readonly<Record<string, CardValue>>, model: NonNullable<Contest['model']>): Readonly<Record<string, CardValue>> {
  const { kind, horizon, context, stepUs, facts } = model
  return { ...card, kind, horizon, context, step_us: stepUs, facts: { ...facts } }
}

/** What is no number is none. */
function number(value: number): number | null {
  return Number.isFinite(value) ? value : null
}

function candidatesOf(candidates: readonly Candidate[]): CardValue[] {
  return candidates.map(({ name, refusal, scores, skill }) => ({
    name,
    ...(refusal === undefined ? {} : { refused: refusal.refused, detail: refusal.detail }),
    ...(scores === undefined
      ? {}
      : {
          n: scores.n,
          mae: number(scores.mae),
          rmse: number(scores.rmse),
          bias: number(scores.bias),
          mase: number(scores.mase),
          skill: number(skill ?? Number.NaN),
        }),
  }))
}

function cardOf(
  task: TrainTask,
  { name, start, cut, skill, wins, candidates, past, champion }: Contest,
  cpu: number,
): Readonly<Record<string, CardValue>> {
  const { startUs, stepUs, values, season, seed, timeZone, level } = task
  const timeOf = (step: number): number => startUs + step * stepUs
  const learned = values.subarray(start)
  return {
    name,
    from_us: timeOf(start),
    to_us: timeOf(values.length),
    steps: learned.length,
    missing: learned.length - measured(learned),
    season,
    time_zone: timeZone,
    seed,
    level,
    cpu_s: Math.round(cpu * 1e3) / 1e3,
    naive_scale: number(naiveScaleOf(learned, season)),
    skill: number(skill),
    beats_all: wins,
    holdout: { from_us: timeOf(cut), to_us: timeOf(values.length), issues: past.origins.length, variance: number(varianceOf(values.subarray(cut))) },
    candidates: candidatesOf(candidates),
    ...(champion === undefined || task.champion === undefined
      ? {}
      : { champion: { version: task.champion.version, mae: number(champion.mae), own_mae: number(champion.own), unseen: champion.unseen } }),
    ...task.about,
  }
}

/** Of what was measured; NaN: less than two values. */
function varianceOf(values: Float64Array): number {
  let [n, mean, m2] = [0, 0, 0]
  for (const v of values) {
    if (v !== v) continue
    const off = v - mean
    mean += off / ++n
    m2 += off * (v - mean)
  }
  return n < 2 ? Number.NaN : m2 / n
}

/** Points of forecasts that a result of a backtest holds: 20,000 x 100 B of JSON are 2 MB. The latest issues are kept. */
const pointsMost = 20_000

function* backtestOne(task: BacktestTask): Generator<number, TaskResult, void> {
  const { horizon, season, seed, level, startUs, stepUs, values, timeZone } = task
  const begun = cpuS()
  const chosen = yield* select(seriesOf(task), { horizon, season, seed, measure: 'mae', kinds: kindsOf(task.kinds) })
  if (isRefusal(chosen)) return { outcome: 'refused', refusal: chosen }
  const { past } = chosen
  const timeOf = (step: number): number => startUs + step * stepUs
  const issues = Math.min(limits.residualIssuesMax, Math.max(1, past.origins.length))
  const intervals = learnFrom(new ResidualBands({ horizon, issues }), past, { level, end: values.length, timeOf: (origin) => origin })
  const result = {
    name: chosen.name,
    skill: number(chosen.skill),
    step_s: stepUs / 1e6,
    horizon,
    season,
    time_zone: timeZone,
    seed,
    from: isoOf(startUs),
    to: isoOf(timeOf(values.length)),
    steps: values.length,
    missing: values.length - measured(values),
    level,
    coverage: number(intervals.coverage),
    interval_width: number(intervals.width),
    candidates: candidatesOf(chosen.candidates),
    cpu_s: Math.round((cpuS() - begun) * 1e3) / 1e3,
    issues: past.origins.length,
    forecasts: issuesOf(past, timeOf),
  }
  return { outcome: 'backtest', result: new TextEncoder().encode(JSON.stringify(result)) }
}

function isoOf(us: number): string {
  return new Date(us / 1e3).toISOString()
}

function issuesOf({ horizon, origins, means, actuals }: Backtest, timeOf: (step: number) => number): unknown[] {
  const first = Math.max(0, origins.length - Math.max(1, Math.floor(pointsMost / horizon)))
  return Array.from({ length: origins.length - first }, (_, i) => {
    const k = first + i
    const row = (of: Float64Array): (number | null)[] => Array.from(of.subarray(k * horizon, (k + 1) * horizon), number)
    return { issued_at: isoOf(timeOf(origins[k]!)), mean: row(means), actual: row(actuals) }
  })
}
