import { limits } from '../../core/limits.ts'
import type { Backtest } from './backtest.ts'
import { backtest, errorsOf, strideFor } from './backtest.ts'
import { averageOf } from './ensemble.ts'
import { boundsOf } from './fill.ts'
import type { PointScores } from './metrics.ts'
import { naiveScaleOf, pointScores, skillOf } from './metrics.ts'
import type { FitOptions, Forecaster, Model } from './model.ts'
import { seasonalNaive } from './seasonal-naive.ts'
import type { Refusal, Series } from './series.ts'
import { isRefusal, measured, refuse, upTo } from './series.ts'
import { weightsOf } from './weights.ts'

export interface SelectOptions extends FitOptions {
  /** Kinds to choose from beside seasonal naive, which is always there. */
  readonly kinds: readonly Forecaster[]
  /** Steps at the end that decide; otherwise a fifth of the series. */
  readonly holdout?: number
  /** False: the champion is the model that was trained without the last part, as tables with a fixed split have it. */
  readonly refit?: boolean
  /** What is compared. `mae` is not ruled by a few outliers; `mse` is what most tables publish. */
  readonly measure: 'mae' | 'mse'
}

/** What a kind was worth on the last part of the series, of which it had seen nothing. */
export interface Candidate {
  /** A kind, or several joined by `+`: their average. */
  readonly name: string
  readonly refusal?: Refusal
  readonly scores?: PointScores
  /** Against seasonal naive over the same targets; above 0 is better. */
  readonly skill?: number
}

export interface Selection {
  /** Trained on the whole series. Seasonal naive, where nothing beats it. */
  readonly champion: Model
  readonly name: string
  readonly skill: number
  /** Those that refused, then seasonal naive, the others and the average of the good ones. */
  readonly candidates: readonly Candidate[]
  /** The champion's forecasts of the last part, made without it: what intervals and calibration can begin with. */
  readonly past: Backtest
}

/** The last part that decides: a fifth, but enough for twelve issues, and for targets of a whole season where that leaves two thirds for learning. */
const holdoutShare = 0.2
const issuesMin = 12

/** Steps of the part that decides. */
export function holdoutOf(steps: number, season: number, horizon: number): number {
  const least = Math.max(Math.floor(steps * holdoutShare), horizon + issuesMin - 1)
  const wholeSeason = season + horizon - 1
  return 3 * wholeSeason <= steps ? Math.max(least, wholeSeason) : least
}

/** Issues of the backtest: enough for a decision, and 24 steps of 400 issues take a ridge 5 ms. */
const issuesMost = 400

interface Tried {
  readonly name: string
  readonly members: readonly Forecaster[]
  /** Of the members, in an average. */
  readonly weights: readonly number[]
  /** Trained without the last part. */
  readonly models: readonly Model[]
  readonly past: Backtest
  readonly errors: Float64Array
}

/**
 * Trains every kind without the last part of the series, lets each forecast it from rolling origins, averages those that beat seasonal naive by more
 * than chance and are about as good as the best of them, and trains that on all of it. Nothing that loses to seasonal naive is ever chosen, and the order
 * of the kinds changes nothing. Refuses only where not even seasonal naive can answer. Yields the share done.
 */
export function* select(series: Series, options: SelectOptions): Generator<number, Selection | Refusal, void> {
  const { horizon, season, kinds, measure } = options
  const n = series.values.length
  const holdout = options.holdout ?? holdoutOf(n, options.season, horizon)
  const cut = n - holdout
  if (cut < season + 1 || measured(series.values.subarray(0, Math.max(0, cut))) === 0) {
    const least = horizon + issuesMin + season
    return refuse(
      'too_little_data',
      `To forecast ${horizon} steps and to know how well, ${least} steps are needed; there are ${n}.`,
      Math.max(1, least - n),
    )
  }
  const known = upTo(series, cut)
  const masked = withoutOutliers(series, known)
  const scale = naiveScaleOf(known.values, season)
  const window = { horizon, from: cut, to: n }
  const rolling = { ...window, stride: strideFor(window, issuesMost) }
  const candidates: Candidate[] = []
  const tried: Tried[] = []
  const all = [seasonalNaive, ...kinds.filter((kind) => kind.kind !== seasonalNaive.kind)]
  for (const [i, kind] of all.entries()) {
    const done = i / (all.length + 1)
    const model = yield* within(kind.fit(known, options), done, 0.5 / (all.length + 1))
    if (isRefusal(model)) {
      candidates.push({ name: kind.kind, refusal: model })
      continue
    }
    const past = yield* within(backtest(model, masked, rolling), done, 0.5 / (all.length + 1))
    if (past.refusals === past.origins.length && past.firstRefusal !== undefined) candidates.push({ name: kind.kind, refusal: past.firstRefusal })
    else tried.push({ name: kind.kind, members: [kind], weights: [1], models: [model], past, errors: errorsOf(past) })
  }
  const [naive] = tried
  if (naive === undefined || naive.name !== seasonalNaive.kind)
    return candidates[0]?.refusal ?? refuse('no_values', 'There is nothing to forecast from.')
  const judge = (one: Tried): number => (one === naive ? 0 : skillAgainst(one.errors, naive.errors, measure))
  const isBetter = (one: Tried): boolean => judge(one) > 0 && isBeyondChance(one, naive, measure)
  const ranked = tried
    .slice(1)
    .filter(isBetter)
    .toSorted((a, b) => judge(b) - judge(a) || (a.name < b.name ? -1 : 1))
  const joined = average(
    ranked.filter((one) => isNear(judge(one), judge(ranked[0]!), { past: one.past, measure })).slice(0, limits.ensembleMembersMax),
  )
  if (joined !== undefined) tried.push(joined)
  for (const one of tried) candidates.push({ name: one.name, scores: pointScores(one.errors, scale), skill: judge(one) })
  if (joined !== undefined && isBetter(joined)) ranked.unshift(joined)
  for (const best of [...ranked, naive]) {
    const champion = yield* trainAll(series, best, options)
    if (!isRefusal(champion)) return { champion, name: best.name, skill: judge(best), candidates, past: best.past }
  }
  return refuse('no_values', 'There is nothing to forecast from.')
}

function* within<T>(work: Generator<number, T, void>, from: number, share: number): Generator<number, T, void> {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
    yield from + share * step.value
  }
}

/** Values beyond belief decide nothing. What is believed is known from the first part alone. */
export function withoutOutliers(series: Series, known: Series): Series {
  const bounds = boundsOf(known.values)
  if (bounds === undefined) return series
  return { ...series, values: series.values.map((v) => (v >= bounds.low && v <= bounds.high ? v : Number.NaN)) }
}

/** Over targets that both have answered. */
function skillAgainst(errors: Float64Array, naive: Float64Array, measure: 'mae' | 'mse'): number {
  const both = errors.map((e, i) => (naive[i] === naive[i] ? e : Number.NaN))
  const own = pointScores(both, 1)
  const other = pointScores(
    naive.map((e, i) => (errors[i] === errors[i] ? e : Number.NaN)),
    1,
  )
  return own.n === 0 ? Number.NaN : skillOf(own[measure], other[measure])
}

/**
 * Whether what was gained over seasonal naive is more than one standard error of it. Forecasts whose targets overlap err together, so issues are
 * counted by blocks of a horizon: with one block there is no telling, and a fifth less error is asked for.
 */
function isBeyondChance({ errors, past }: Tried, naive: Tried, measure: 'mae' | 'mse'): boolean {
  const { horizon, origins } = past
  const gains: number[] = []
  let [begin, sum, n] = [origins[0]!, 0, 0]
  const close = (): void => {
    if (n > 0) gains.push(sum / n)
    ;[sum, n] = [0, 0]
  }
  for (let k = 0; k < origins.length; k++) {
    if (origins[k]! - begin >= horizon) {
      close()
      begin = origins[k]!
    }
    for (let at = k * horizon; at < (k + 1) * horizon; at++) {
      const gain = measure === 'mae' ? Math.abs(naive.errors[at]!) - Math.abs(errors[at]!) : naive.errors[at]! ** 2 - errors[at]! ** 2
      if (gain !== gain) continue
      sum += gain
      n++
    }
  }
  close()
  if (gains.length < 2) return skillAgainst(errors, naive.errors, measure) > 0.2
  const mean = gains.reduce((a, b) => a + b) / gains.length
  const variance = gains.reduce((sum, gain) => sum + (gain - mean) ** 2, 0) / (gains.length - 1)
  // Few blocks say little about their own deviation: Student's t at one standard deviation, 1.84 with two blocks, 1 with many.
  return mean > (1 + 0.84 / (gains.length - 1)) * Math.sqrt(variance / gains.length)
}

/**
 * Squared error this much above the best one's is as good as it, and more where few blocks have been seen: the difference is mostly chance, and what errs
 * otherwise is of use in an average. Chosen on 74 series and horizons, where .1 did the same (ADR 23).
 */
const nearShare = 0.08

/** Targets that do not overlap, in a row: how much a backtest can tell. */
function blocksOf({ origins, horizon }: Backtest): number {
  return (origins.at(-1)! - origins[0]! + horizon) / horizon
}

function isNear(skill: number, best: number, { past, measure }: { readonly past: Backtest; readonly measure: 'mae' | 'mse' }): boolean {
  const share = nearShare + 1 / blocksOf(past)
  return 1 - skill <= (1 + (measure === 'mse' ? share : share / 2)) * (1 - best)
}

/** The average of several, which stand in their rank, weighed by their errors as far as these can be relied on; undefined where it is one alone. */
function average(near: readonly Tried[]): Tried | undefined {
  const [first] = near
  if (first === undefined || near.length === 1) return undefined
  const weights = weightsOf(
    near.map(({ errors }) => errors),
    blocksOf(first.past),
  )
  const kept = near
    .map((one, i) => ({ one, weight: weights[i]! }))
    .filter(({ weight }) => weight > 0)
    .toSorted((a, b) => b.weight - a.weight)
  if (kept.length === 1) return undefined
  const means = first.past.means.map((_, i) => {
    let [sum, answered] = [0, 0]
    for (const { one, weight } of kept) {
      const mean = one.past.means[i]!
      if (mean !== mean) continue
      sum += weight * mean
      answered += weight
    }
    return sum / answered
  })
  const past = { ...first.past, means }
  return {
    name: kept.map(({ one }) => one.name).join('+'),
    members: kept.flatMap(({ one }) => one.members),
    weights: kept.map(({ weight }) => weight),
    models: kept.flatMap(({ one }) => one.models),
    past,
    errors: errorsOf(past),
  }
}

function* trainAll(series: Series, { members, weights, models: before }: Tried, options: SelectOptions): Generator<number, Model | Refusal, void> {
  if (options.refit === false) return before.length === 1 ? before[0]! : averageOf(before, weights)
  const models: Model[] = []
  for (const kind of members) {
    const model = yield* within(kind.fit(series, options), 0.95, 0.05)
    if (isRefusal(model)) return model
    models.push(model)
  }
  return models.length === 1 ? models[0]! : averageOf(models, weights)
}

/**
 * The same for one kind that is asked for by name, whatever it is worth: `past` are its forecasts of the last part, made without it, and the model is
 * trained on all.
 */
export function* trainAlone(
  series: Series,
  kind: Forecaster,
  options: Omit<SelectOptions, 'kinds'>,
): Generator<number, { model: Model; past: Backtest } | Refusal, void> {
  const n = series.values.length
  const { horizon } = options
  const cut = n - (options.holdout ?? holdoutOf(n, options.season, horizon))
  const known = upTo(series, Math.max(0, cut))
  const before = yield* within(kind.fit(known, options), 0, 0.4)
  if (isRefusal(before)) return before
  const window = { horizon, from: cut, to: n }
  const past = yield* within(backtest(before, withoutOutliers(series, known), { ...window, stride: strideFor(window, issuesMost) }), 0.4, 0.2)
  const model = options.refit === false ? before : yield* within(kind.fit(series, options), 0.6, 0.4)
  return isRefusal(model) ? model : { model, past }
}
