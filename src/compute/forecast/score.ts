import { limits } from '../../core/limits.ts'
import type { Backtest } from './backtest.ts'
import { backtest, errorsOf } from './backtest.ts'
import { ResidualBands } from './conformal.ts'
import type { IntervalScores, PointScores } from './metrics.ts'
import { IntervalTally, naiveScaleOf, pointScores, skillOf } from './metrics.ts'
import type { Forecaster, Model } from './model.ts'
import { train } from './model.ts'
import { seasonalNaive } from './seasonal-naive.ts'
import type { Candidate } from './select.ts'
import { select, trainAlone } from './select.ts'
import type { Refusal, Series } from './series.ts'
import { isRefusal, upTo } from './series.ts'
import { issueOf, mature, type Issue } from './walk.ts'

export interface ScoreOptions {
  readonly horizon: number
  readonly season: number
  readonly seed: number
  /** One kind: that one. Several: what is best before the test rows is chosen, or the average of what is about as good. */
  readonly kinds: readonly Forecaster[]
  readonly measure: 'mae' | 'mse'
  /** Steps of the series, half-open: test targets lie in [testFrom, testTo); everything before is for training and choosing, */
  readonly testFrom: number
  readonly testTo: number
  /** of which the last part, from here on, decides on choices. */
  readonly validationFrom: number
  /** False: the model that is scored was trained below `validationFrom`; true: on everything before the test rows. */
  readonly refit: boolean
  /** Mean and deviation of these first steps scale errors. */
  readonly scaleTo: number
  readonly stride: number
  /** Levels of intervals, in (0, 1). None: they are not made, which is half of the work at long horizons. */
  readonly levels: readonly number[]
}

export interface SeriesScore {
  readonly model: Model
  readonly name: string
  readonly candidates: readonly Candidate[]
  readonly origins: number
  /** Origins at which the model had no answer, and seasonal naive was served. */
  readonly refusals: number
  /** In the units of the series. */
  readonly scores: PointScores
  /** In units of the deviation of the first `scaleTo` steps. */
  readonly mse: number
  readonly mae: number
  readonly naive: PointScores
  /** Of the squared and of the absolute error. */
  readonly skillMse: number
  readonly skillMae: number
  /** One per level, over all steps ahead. */
  readonly intervals: readonly IntervalScores[]
}

/** Residuals of a step ahead that intervals are made from. */
const residualsKept = 512

/**
 * Trains on what lies before the test rows, then forecasts from every test origin with what was known there. The model stays as it is; its intervals
 * go on learning from errors as they mature. Nothing is chosen on test rows. Yields the share done.
 */
export function* scoreSeries(series: Series, o: ScoreOptions): Generator<number, SeriesScore | Refusal, void> {
  const known = upTo(series, o.testFrom)
  const chosen = yield* halved(choose(known, o))
  if (isRefusal(chosen)) return chosen
  const { model, name, candidates, past } = chosen
  const test = { horizon: o.horizon, from: o.testFrom, to: o.testTo, stride: o.stride }
  const run = yield* halved(backtest(model, series, test), 0.5)
  const naiveModel = train(seasonalNaive.fit(known, o))
  if (naiveModel === undefined || isRefusal(naiveModel)) return naiveModel ?? { refused: 'no_values', detail: 'The series has no values.' }
  const naiveRun = yield* halved(backtest(naiveModel, series, test), 0.5)
  fallBack(run, naiveRun)
  const errors = errorsOf(run)
  const deviation = deviationOf(series.values.subarray(0, o.scaleTo))
  const naiveScale = naiveScaleOf(known.values, o.season)
  const naiveErrors = errorsOf(naiveRun)
  const [scores, naive] = [pointScores(errors, naiveScale), pointScores(naiveErrors, naiveScale)]
  const intervals = yield* walkIntervals(past, run, o)
  return {
    model,
    name,
    candidates,
    origins: run.origins.length,
    refusals: run.refusals,
    scores,
    mse: scores.mse / deviation ** 2,
    mae: scores.mae / deviation,
    naive,
    skillMse: skillOf(scores.mse, naive.mse),
    skillMae: skillOf(scores.mae, naive.mae),
    intervals,
  }
}

/** Where the model refused, seasonal naive is served. */
function fallBack({ means, horizon }: Backtest, naive: Backtest): void {
  for (let at = 0; at < means.length; at += horizon) if (means[at] !== means[at]) means.set(naive.means.subarray(at, at + horizon), at)
}

interface Chosen {
  readonly model: Model
  readonly name: string
  readonly candidates: readonly Candidate[]
  readonly past: Backtest
}

function* choose(known: Series, o: ScoreOptions): Generator<number, Chosen | Refusal, void> {
  const { horizon, season, seed, measure, refit, kinds } = o
  const options = { horizon, season, seed, measure, refit, holdout: o.testFrom - o.validationFrom }
  const [only] = kinds
  if (kinds.length === 1 && only !== undefined) {
    const alone = yield* trainAlone(known, only, options)
    return isRefusal(alone) ? alone : { ...alone, name: only.kind, candidates: [] }
  }
  const selection = yield* select(known, { ...options, kinds })
  return isRefusal(selection) ? selection : { ...selection, model: selection.champion }
}

function* halved<T>(work: Generator<number, T, void>, from = 0): Generator<number, T, void> {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
    yield from + step.value / 2
  }
}

/** Through the issues in the order of time: an interval is made with what had matured when it was issued. */
function* walkIntervals(past: Backtest, run: Backtest, { horizon, levels, stride }: ScoreOptions): Generator<number, IntervalScores[], void> {
  if (levels.length === 0) return []
  const issues = Math.min(limits.residualIssuesMax, residualsKept + Math.ceil(horizon / Math.min(stride, strideOf(past))))
  const bands = new ResidualBands({ horizon, issues })
  const tallies = levels.map((level) => new IntervalTally(level))
  const open: Issue[] = []
  const lower = new Float64Array(horizon)
  const upper = new Float64Array(horizon)
  for (const [b, one] of [past, run].entries()) {
    for (let k = 0; k < one.origins.length; k++) {
      const origin = one.origins[k]!
      mature(bands, open, origin)
      const issue = issueOf(one, k)
      for (let level = 0; b === 1 && level < levels.length; level++) {
        bands.interval(issue.means, levels[level]!, lower, upper)
        for (let h = 0; h < horizon; h++) if (lower[h] === lower[h]) tallies[level]!.add(lower[h]!, upper[h]!, issue.actuals[h]!)
      }
      bands.issue(origin)
      open.push(issue)
      if (k % 16 === 0) yield 0.99
    }
  }
  return tallies.map((tally) => tally.scores())
}

function strideOf({ origins }: Backtest): number {
  return origins.length < 2 ? 1 : origins[1]! - origins[0]!
}

function deviationOf(values: Float64Array): number {
  let [n, mean, m2] = [0, 0, 0]
  for (const v of values) {
    if (v !== v) continue
    const off = v - mean
    mean += off / ++n
    m2 += off * (v - mean)
  }
  return Math.sqrt(m2 / n)
}
