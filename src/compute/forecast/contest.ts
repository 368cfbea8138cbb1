import type { Backtest } from './backtest.ts'
import { backtest, errorsOf } from './backtest.ts'
import { pointScores } from './metrics.ts'
import type { Forecaster, Model } from './model.ts'
import { seasonalNaive } from './seasonal-naive.ts'
import type { Candidate, SelectOptions } from './select.ts'
import { holdoutOf, select, trainAlone, withoutOutliers } from './select.ts'
import type { Refusal, Series } from './series.ts'
import { isRefusal, refuse, upTo } from './series.ts'

export interface ContestOptions extends Omit<SelectOptions, 'refit'> {
  /** The only one of `kinds` is trained whatever it is worth. */
  readonly alone: boolean
  /** Steps at which what is learned from may begin: 0, or after a change of the series. */
  readonly starts: readonly number[]
  /** What serves the series now, and the step at which what it was trained on ends. */
  readonly champion?: { readonly model: Model; readonly trainedTo: number }
}

/** What training has come to. */
export interface Contest {
  /** Trained on the whole series; absent: seasonal naive is not beaten. */
  readonly model?: Model
  readonly name: string
  /** Better than seasonal naive by more than chance, and than the champion. */
  readonly wins: boolean
  /** Where what it learned from begins, and the first step that decided. */
  readonly start: number
  readonly cut: number
  readonly skill: number
  readonly candidates: readonly Candidate[]
  /** Its forecasts of the part that decides, made without that; origins are steps of the whole series. */
  readonly past: Backtest
  /** The champion over the same targets: those after the end of its own training, where they are enough. Absent: there is none. */
  readonly champion?: { readonly mae: number; readonly own: number; readonly naive: number; readonly unseen: boolean }
}

/** Fewer issues that the champion has not learned from decide nothing. */
const issuesMin = 12

/**
 * Trains a series anew and holds the result against what serves it: on the last part of the series, which the new one has not seen. Where the champion
 * has seen some of it, and the rest is too little, that is to its advantage. Yields the share done.
 */
export function* contest(series: Series, o: ContestOptions): Generator<number, Contest | Refusal, void> {
  const n = series.values.length
  const holdout = o.holdout ?? holdoutOf(n, o.season, o.horizon)
  const starts = o.starts.filter((start) => start === 0 || n - start - holdout > o.season)
  let best: Contest | undefined
  let refusal: Refusal | undefined
  for (const [i, start] of starts.entries()) {
    const from = yield* within(trained(upTo(series, n, start), { ...o, holdout }), i / (starts.length + 1), 1 / (starts.length + 1))
    if (isRefusal(from)) {
      refusal ??= from
      continue
    }
    const one = { ...from, start, cut: n - holdout, past: { ...from.past, origins: from.past.origins.map((origin) => origin + start) } }
    if (best === undefined || (one.model !== undefined && (best.model === undefined || isBetter(one.past, best.past)))) best = one
  }
  if (best === undefined) return refusal ?? refuse('no_values', 'There is nothing to forecast from.')
  if (o.champion === undefined) return best
  const champion = yield* within(against(best, series, o.champion, o), starts.length / (starts.length + 1), 1 / (starts.length + 1))
  // Where they share no target, nothing speaks against the one that serves.
  return { ...best, wins: best.wins && champion.own < champion.mae, champion }
}

function* within<T>(work: Generator<number, T, void>, from: number, share: number): Generator<number, T, void> {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
    yield from + share * step.value
  }
}

type Trained = Omit<Contest, 'start' | 'cut' | 'champion'>

function* trained(series: Series, o: ContestOptions): Generator<number, Trained | Refusal, void> {
  const chosen = yield* within(select(series, o), 0, o.alone ? 0.5 : 1)
  const found = !isRefusal(chosen) && chosen.name !== seasonalNaive.kind
  const [only] = o.kinds
  if (found) return { model: chosen.champion, name: chosen.name, wins: true, skill: chosen.skill, candidates: chosen.candidates, past: chosen.past }
  if (o.alone && only !== undefined) return yield* within(whatever(series, only, o, isRefusal(chosen) ? [] : chosen.candidates), 0.5, 0.5)
  if (isRefusal(chosen)) return chosen
  return { name: chosen.name, wins: false, skill: 0, candidates: chosen.candidates, past: chosen.past }
}

function* whatever(
  series: Series,
  kind: Forecaster,
  o: ContestOptions,
  candidates: readonly Candidate[],
): Generator<number, Trained | Refusal, void> {
  const alone = yield* trainAlone(series, kind, o)
  if (isRefusal(alone)) return alone
  const skill = candidates.find(({ name }) => name === kind.kind)?.skill ?? Number.NaN
  return { ...alone, name: kind.kind, wins: false, skill, candidates }
}

/** Over the targets that both have answered. */
function isBetter(one: Backtest, other: Backtest): boolean {
  const [own, others] = pairs(errorsOf(one), errorsOf(other))
  return own < others
}

function pairs(a: Float64Array, b: Float64Array): [number, number] {
  const both = a.map((e, i) => (b[i] === b[i] ? e : Number.NaN))
  const others = b.map((e, i) => (a[i] === a[i] ? e : Number.NaN))
  return [pointScores(both, 1).mae, pointScores(others, 1).mae]
}

function* against(
  { past, cut }: Contest,
  series: Series,
  { model, trainedTo }: NonNullable<ContestOptions['champion']>,
  o: ContestOptions,
): Generator<number, NonNullable<Contest['champion']>, void> {
  const { horizon, origins } = past
  const masked = withoutOutliers(series, upTo(series, cut))
  const stride = origins.length < 2 ? 1 : origins[1]! - origins[0]!
  const window = { horizon: Math.min(horizon, model.horizon), from: origins[0] ?? cut, to: series.values.length, stride }
  const before = yield* within(backtest(model, masked, window), 0, 0.5)
  const naive = yield* within(seasonalNaive.fit(upTo(series, cut), o), 0.5, 0.1)
  const unseenFrom = origins.findIndex((origin) => origin >= trainedTo)
  const unseen = unseenFrom >= 0 && origins.length - unseenFrom >= issuesMin
  const from = unseen ? unseenFrom : 0
  // A champion of a shorter horizon answers for no more than that.
  const errorsBefore = spread(errorsOf(before), before.horizon, past, from)
  const [own, mae] = pairs(errorsOf(past).subarray(from * horizon), errorsBefore)
  if (isRefusal(naive)) return { mae, own, naive: Number.NaN, unseen }
  const doing = yield* within(backtest(naive, masked, { ...window, horizon }), 0.6, 0.4)
  const [, ofNaive] = pairs(errorsBefore, errorsOf(doing).subarray(from * horizon))
  return { mae, own, naive: ofNaive, unseen }
}

/** Errors of a shorter horizon on the places of a longer one. */
function spread(errors: Float64Array, own: number, { horizon, origins }: Backtest, from: number): Float64Array {
  const out = new Float64Array((origins.length - from) * horizon).fill(Number.NaN)
  for (let k = from; k < origins.length; k++) for (let h = 0; h < own; h++) out[(k - from) * horizon + h] = errors[k * own + h] ?? Number.NaN
  return out
}
