import type { Forecast, ForecastModel, ForecastService, MaturedPrediction } from '../../src/core/forecasts.ts'
import type { Job } from '../../src/core/services.ts'
import { noForecasts } from './support.ts'

/* A ForecastService with fixed answers that keeps what it was asked: for what the routes make of them. */

export const issued = Date.UTC(2026, 0, 2) * 1e3
export const hour = 3600e6

export const forecast: Forecast = {
  device: 'hall/1',
  metric: 'temperature',
  model: { kind: 'ridge', version: 3 },
  issued_us: issued,
  step_us: hour,
  level: 0.9,
  points: [
    { time_us: issued, mean: 20.5, lower: 19, upper: 22 },
    { time_us: issued + hour, mean: 21 },
  ],
}

export const prediction = (i: number, actual?: number): MaturedPrediction => ({
  device: 'a',
  metric: 'temperature',
  version: 1,
  issue_us: issued,
  target_us: issued + i * hour,
  mean: 20 + i,
  lower: Number.NaN,
  upper: Number.NaN,
  level: 0.9,
  ...(actual === undefined ? {} : { actual }),
})

export const model: ForecastModel = {
  device: 'a',
  metric: 'temperature',
  version: 2,
  kind: 'ridge',
  state: 'champion',
  created_us: issued,
  bytes: 1000,
  card: {
    name: 'ridge',
    steps: 730,
    missing: 10,
    context: 48,
    step_us: hour,
    season: 24,
    holdout: { variance: 2.5 },
    candidates: [
      { name: 'seasonal-naive', mae: 1, rmse: 1.2 },
      { name: 'ridge', mae: 0.4, rmse: 0.5 },
    ],
  },
  accuracy: {
    device: 'a',
    metric: 'temperature',
    version: 2,
    n: 24,
    mae: 0.5,
    rmse: 0.7,
    bias: -0.1,
    naive_mae: 1,
    skill: 0.5,
    level: 0.9,
    coverage: 0.875,
    drift: { statistic: 12, threshold: 10, since_us: issued + hour },
  },
}

export const job: Job = {
  id: '00000000-0000-7000-8000-000000000001',
  kind: 'train',
  state: 'waiting',
  parameters: {},
  created_us: issued,
  attempts: 0,
  progress: { series_total: 1, share: 0 },
  files: {},
}

export interface Fake {
  readonly forecasts: ForecastService
  /** What was asked of which method, in order. */
  readonly asked: [string, ...unknown[]][]
}

export function fake(o: Partial<ForecastService> = {}): Fake {
  const asked: Fake['asked'] = []
  const noting =
    <A extends unknown[], R>(name: string, answer: (...args: A) => R) =>
    (...args: A): R => {
      asked.push([name, ...args])
      return answer(...args)
    }
  const forecasts: ForecastService = {
    ...noForecasts,
    forecast: async (_tenant, { device, metric }) => ({ ...forecast, device, metric }),
    latest: async (_tenant, { after, limit }) =>
      after === undefined && limit === 1 ? { items: [forecast], next: 'page 2' } : { items: [{ ...forecast, device: 'z' }] },
    models: async () => ({ items: [model] }),
    versions: async () => [model],
    accuracy: async () => model.accuracy!,
    promote: async () => model,
    file: async () => new Uint8Array([75, 89, 77, 79]),
    train: async () => job,
    backtest: async () => ({ ...job, kind: 'backtest' }),
    ...o,
  }
  return {
    asked,
    forecasts: {
      forecast: noting('forecast', forecasts.forecast),
      crossing: noting('crossing', forecasts.crossing),
      predictions: noting('predictions', forecasts.predictions),
      latest: noting('latest', forecasts.latest),
      models: noting('models', forecasts.models),
      versions: noting('versions', forecasts.versions),
      promote: noting('promote', forecasts.promote),
      accuracy: noting('accuracy', forecasts.accuracy),
      file: noting('file', forecasts.file),
      train: noting('train', forecasts.train),
      backtest: noting('backtest', forecasts.backtest),
      latestTraining: noting('latestTraining', forecasts.latestTraining),
    },
  }
}
