import { isTimeZone } from './calendar.ts'
import { ageUs, durationUs } from './duration.ts'
import type { FieldError } from './errors.ts'
import { limits } from './limits.ts'
import { metricMatcher } from './retention-rules.ts'
import { age, fraction, span, text, whole, type ValuesOf } from './setting.ts'

const hourUs = 3600e6
const dayUs = 24 * hourUs

/** Kinds of models that can be trained beside seasonal naive, which is always there; each is a line of compute/forecast/registry.ts. */
export const trainableKinds = ['holt-winters', 'ridge', 'random-forest', 'gradient-boosting', 'lstm'] as const

/** `forecast`: what is forecast, how far, and where predictions and models are kept. */
export const forecastSettings = {
  url: text({
    description:
      'Predictions and models. sqlite:<file> is the embedded store; absent: <data_dir>/forecasts.sqlite, made when the first forecast is kept. ' +
      'postgres://… as store.url. Several processes that forecast need one that all of them reach.',
    default: '',
  }),
  metrics: text({
    description:
      'Metrics that are forecast for each device, separated by commas; * stands for any characters. Series that somebody trained a model for are ' +
      'forecast without being named. Empty: only those.',
    default: '',
  }),
  step: span({
    description: 'Width of a step: readings are averaged over it. A day must be whole steps.',
    default: '1h',
    leastUs: 60e6,
    mostUs: 12 * hourUs,
  }),
  horizon: span({ description: 'How far ahead, in whole steps.', default: '24h', leastUs: 60e6, mostUs: 90 * dayUs }),
  level: fraction({ description: 'Share of what comes that intervals shall hold.', default: 0.9, minimum: 0.5, maximum: 0.99 }),
  time_zone: text({ description: 'IANA name of the zone whose clock days follow, such as Europe/Berlin.', default: 'UTC' }),
  kinds: text({
    description: `Kinds of models that are trained and compared, separated by commas: ${trainableKinds.join(', ')}. What does not beat seasonal naive serves nobody.`,
    default: 'holt-winters,ridge,lstm',
  }),
  history: span({ description: 'The most that a model is trained on, back from now.', default: '365d', leastUs: dayUs, mostUs: 3650 * dayUs }),
  retrain: span({
    description: 'Models are trained again at this age, and earlier when their errors have changed. 0: only when somebody asks.',
    default: '7d',
    leastUs: hourUs,
    mostUs: 3650 * dayUs,
    zero: true,
  }),
  retention: age({
    description: 'How long predictions are kept after the time that they are of; models are kept as long as their device. Empty: for ever.',
    default: '90d',
    reload: true,
  }),
  poll_s: whole({
    description: 'How often is looked for steps that have ended. A forecast is issued no earlier.',
    default: 15,
    minimum: 1,
    maximum: 3600,
    unit: 's',
  }),
}

interface Settings {
  readonly forecast: ValuesOf<typeof forecastSettings>
}

/** The settings as the forecasting role takes them. Lengths of time in microseconds; Infinity: never, or for ever. */
export interface ForecastOptions {
  readonly stepUs: number
  readonly horizonUs: number
  readonly level: number
  readonly timeZone: string
  readonly kinds: readonly string[]
  readonly historyUs: number
  readonly retrainUs: number
  readonly retentionUs: number
  readonly pollMs: number
  /** Whether `forecast.metrics` names any. */
  readonly anyMetric: boolean
  /** Whether `forecast.metrics` names this one. */
  readonly follows: (metric: string) => boolean
}

const listOf = (value: string): readonly string[] =>
  value
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')

export function forecastOptionsOf({ forecast }: Settings): ForecastOptions {
  const { step, horizon, level, time_zone, kinds, history, retrain, retention, poll_s, metrics } = forecast
  const named = listOf(metrics)
  return {
    stepUs: durationUs(step) ?? hourUs,
    horizonUs: durationUs(horizon) ?? dayUs,
    level,
    timeZone: time_zone,
    kinds: listOf(kinds),
    historyUs: durationUs(history) ?? 365 * dayUs,
    // `0` is no length of time.
    retrainUs: durationUs(retrain) ?? Number.POSITIVE_INFINITY,
    retentionUs: ageUs(retention) ?? Number.POSITIVE_INFINITY,
    pollMs: poll_s * 1000,
    anyMetric: named.length > 0,
    follows: metricMatcher(named),
  }
}

/** What the settings must be together. Empty: nothing is wrong. */
export function forecastErrors({ forecast }: Settings): FieldError[] {
  const { stepUs, horizonUs, historyUs, kinds } = forecastOptionsOf({ forecast })
  const errors: FieldError[] = []
  const wrong = (pointer: string, detail: string): void => void errors.push({ pointer, detail })
  if (dayUs % stepUs !== 0) wrong('forecast.step', `is ${forecast.step}, and a day is not whole steps of it; use one such as 15m, 30m, 1h or 6h`)
  if (horizonUs % stepUs !== 0) wrong('forecast.horizon', `is ${forecast.horizon}, which is not whole steps of forecast.step, ${forecast.step}`)
  else if (horizonUs / stepUs > limits.forecastHorizonMax)
    wrong('forecast.horizon', `has ${horizonUs / stepUs} steps of ${forecast.step}; at most ${limits.forecastHorizonMax} can be forecast`)
  if (historyUs / stepUs > limits.forecastStepsMax)
    wrong('forecast.history', `has ${Math.ceil(historyUs / stepUs)} steps of ${forecast.step}; at most ${limits.forecastStepsMax} are trained on`)
  if (!isTimeZone(forecast.time_zone))
    wrong('forecast.time_zone', `is ${forecast.time_zone.slice(0, 100)}, which is no time zone; use a name such as Europe/Berlin`)
  const known: readonly string[] = trainableKinds
  for (const kind of kinds)
    if (!known.includes(kind)) wrong('forecast.kinds', `"${kind.slice(0, 100)}" is no kind of model; it takes some of ${known.join(', ')}`)
  return errors
}
