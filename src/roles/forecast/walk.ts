import type { Model } from '../../compute/forecast/model.ts'
import type { ForecastMonitor } from '../../compute/forecast/monitor.ts'
import { believed, naiveForecast, naiveModel } from '../../compute/forecast/naive-forecast.ts'
import type { Series } from '../../compute/forecast/series.ts'
import { isRefusal, upTo } from '../../compute/forecast/series.ts'
import type { SeriesKey } from '../../core/batch.ts'
import type { IssuedForecast } from '../../core/forecast-store.ts'
import type { Shape } from './world.ts'

export interface Walked {
  readonly key: SeriesKey
  /** 0: seasonal naive, without a model. */
  readonly version: number
  /** Absent: there is none, or its file cannot be read. */
  readonly model?: Model
  readonly monitor: ForecastMonitor
  readonly shape: Shape
  /** Up to where time goes on at most. */
  readonly series: Series
}

/**
 * Goes on in a series' own time, step by step: what was measured is held against what was said, and the next forecast is issued, with what was known
 * then. Where the model has no answer, or its skill is lost, what is served is seasonal naive. Yields between steps.
 */
export function* walk(walked: Walked): Generator<void, IssuedForecast[], void> {
  const { monitor, series } = walked
  const { stepUs } = walked.shape
  const end = series.startUs + series.values.length * stepUs
  const issued: IssuedForecast[] = []
  const say = (): void => {
    const forecast = issueAt(walked)
    if (forecast !== undefined) issued.push(forecast)
  }
  say()
  while (monitor.atUs < end) {
    monitor.observe(series.values[Math.round((monitor.atUs - series.startUs) / stepUs)] ?? Number.NaN)
    say()
    yield
  }
  return issued
}

/** The forecast of the monitor's moment as it is served; undefined: none is due, or not even seasonal naive has an answer. */
function issueAt({ key, version, model, monitor, shape, series }: Walked): IssuedForecast | undefined {
  if (!monitor.isDue) return undefined
  const { horizon, season, stepUs } = shape
  const { atUs: issueUs, level } = monitor
  const history = upTo(series, Math.round((issueUs - series.startUs) / stepUs))
  const [mean, naive, lower, upper] = [0, 0, 0, 0].map(() => new Float64Array(horizon).fill(Number.NaN)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ]
  const plain = believed(history)
  const doing = naiveModel(plain, horizon, season)
  if (isRefusal(doing) || doing.predict(plain, naive) !== undefined) naive.fill(Number.NaN)
  if (version === 0) mean.set(naive)
  else if (model === undefined || model.predict(history, mean) !== undefined || !mean.every(Number.isFinite)) mean.fill(Number.NaN)
  monitor.issue(mean, naive, lower, upper)
  const head = { key, issueUs, stepUs, level }
  // Without a model it has learned from no backtest: at first, intervals are made from the history.
  const ready = version > 0 ? !monitor.skillLost : Number.isFinite(lower[0]!)
  if (Number.isFinite(mean[0]!) && ready) return { ...head, version, mean, lower, upper }
  const fallback = naiveForecast(history, { horizon, season, level })
  return isRefusal(fallback) ? undefined : { ...head, version: 0, ...fallback }
}
