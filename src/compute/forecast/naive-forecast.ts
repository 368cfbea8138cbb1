import { backtest, strideFor } from './backtest.ts'
import { ResidualBands } from './conformal.ts'
import { boundsOf } from './fill.ts'
import type { Model } from './model.ts'
import { train } from './model.ts'
import { seasonalNaive } from './seasonal-naive.ts'
import type { Refusal, Series } from './series.ts'
import { isRefusal, refuse } from './series.ts'
import { learnFrom } from './walk.ts'

/** Past issues that intervals are made from; of long horizons fewer, so that it stays a matter of milliseconds. */
const issuesMost = 128
const residualsMost = 16_384
/** Intervals need twenty errors of a step ahead. */
const issuesLeast = 24

function issuesOf(horizon: number): number {
  return Math.max(issuesLeast, Math.min(issuesMost, Math.floor(residualsMost / horizon)))
}

/** Steps of history that `naiveForecast` looks at: what is older changes nothing. */
export function naiveContext(horizon: number, season: number): number {
  return 7 * season + issuesOf(horizon) + horizon
}

/** Seasonal naive as a model; a refusal: there is no value at all. */
export function naiveModel(series: Series, horizon: number, season: number): Model | Refusal {
  return train(seasonalNaive.fit(series, { horizon, season, seed: 1 })) ?? refuse('no_values', 'There is nothing to forecast from.')
}

/** The series with values beyond belief left out, so that none is repeated as a forecast. */
export function believed(series: Series): Series {
  const bounds = boundsOf(series.values)
  if (bounds === undefined) return series
  return { ...series, values: series.values.map((v) => (v >= bounds.low && v <= bounds.high ? v : Number.NaN)) }
}

/** Bands of the errors that seasonal naive would have made over the last part of this history. */
export function naiveBands(model: Model, series: Series, season: number, level: number): ResidualBands {
  const { horizon } = model
  const bands = new ResidualBands({ horizon, issues: issuesOf(horizon) })
  const n = series.values.length
  const window = { horizon, from: Math.max(season, n - horizon - issuesOf(horizon)), to: n }
  if (window.to - horizon < window.from) return bands
  const past = run(backtest(model, series, { ...window, stride: strideFor(window, issuesOf(horizon)) }))
  learnFrom(bands, past, { level, end: n, timeOf: (origin) => origin })
  return bands
}

/** What seasonal naive says after the end of a history, with intervals from its own errors there; NaN: too few. */
export function naiveForecast(
  history: Series,
  o: { readonly horizon: number; readonly season: number; readonly level: number },
): { readonly mean: Float64Array; readonly lower: Float64Array; readonly upper: Float64Array } | Refusal {
  const series = believed(history)
  const model = naiveModel(series, o.horizon, o.season)
  if (isRefusal(model)) return model
  const [mean, lower, upper] = [new Float64Array(o.horizon), new Float64Array(o.horizon), new Float64Array(o.horizon)]
  const refused = model.predict(series, mean)
  if (refused !== undefined) return refused
  naiveBands(model, series, o.season, o.level).interval(mean, o.level, lower, upper)
  return { mean, lower, upper }
}

function run<T>(work: Generator<number, T, void>): T {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}
