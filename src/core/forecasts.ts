import type { ModelState, Prediction } from './forecast-store.ts'
import type { Job, Page } from './services.ts'

/** Names a series within a tenant. */
export interface SeriesName {
  readonly device: string
  readonly metric: string
}

/** Why seasonal naive answers where a trained model could be expected. */
export type FallbackReason =
  /** Nobody trained one. */
  | 'untrained'
  /** The champion's matured errors are no better than those of seasonal naive. */
  | 'skill_lost'
  /** The champion refused this history; `detail` of the forecast says why. */
  | 'refused'

/** A forecast of one series. Times: epoch microseconds; values in the metric's unit. */
export interface Forecast extends SeriesName {
  readonly model: { readonly kind: string; readonly version: number }
  readonly fallback?: FallbackReason
  readonly detail?: string
  /** The end of what was known, on the step's grid: the first point is of the step that begins here. */
  readonly issued_us: number
  readonly step_us: number
  readonly level: number
  /** Lower and upper are absent where too few errors are known for an interval. */
  readonly points: readonly { readonly time_us: number; readonly mean: number; readonly lower?: number; readonly upper?: number }[]
}

/** A stored prediction beside what was measured in its step. */
export interface MaturedPrediction extends SeriesName, Prediction {
  /** Mean of the readings in the target's step; absent: the step has not ended, or nothing was measured. */
  readonly actual?: number
}

/** The answer to "will it cross?". */
export interface CrossingForecast extends SeriesName {
  readonly model: { readonly kind: string; readonly version: number }
  readonly threshold: number
  readonly side: 'above' | 'below'
  readonly within_us: number
  readonly issued_us: number
  /** Absent: there is no number to be given, and `reason` and `detail` say why. */
  readonly probability?: number
  readonly reason?: 'no_skill' | 'too_little_data' | 'across_already'
  readonly detail?: string
  readonly calibration?: {
    readonly n: number
    readonly rate: number
    readonly brier: number
    readonly skill: number
    readonly error: number
    readonly bins: readonly { readonly n: number; readonly said: number; readonly came: number }[]
  }
}

/** How well the forecasts of a version have done on what was measured after they were stored. Absent numbers: nothing has matured. */
export interface ForecastAccuracy extends SeriesName {
  readonly version: number
  /** Predictions that have matured. */
  readonly n: number
  readonly mae?: number
  readonly rmse?: number
  readonly bias?: number
  /** MAE of seasonal naive, issued at the same moments for the same targets; */
  readonly naive_mae?: number
  /** and 1 - mae / naive_mae, over the last of them as far as they are remembered: above 0 is better than doing nothing. */
  readonly skill?: number
  /** Promised against delivered: `level`, and the share of measured values within the intervals. */
  readonly level: number
  readonly coverage?: number
  /** Page-Hinkley on scaled absolute errors: alarms at `threshold`; `since_us`: event time of an alarm that no retraining has answered yet. */
  readonly drift: { readonly statistic: number; readonly threshold: number; readonly since_us?: number }
}

/** A version of a series' model as the API shows it. */
export interface ForecastModel extends SeriesName {
  readonly version: number
  readonly kind: string
  readonly state: ModelState
  readonly created_us: number
  readonly bytes: number
  /** Data span, seed, CPU, candidates and their scores: docs/format/model.md. */
  readonly card: Readonly<Record<string, unknown>>
  /** Absent until it has issued something. */
  readonly accuracy?: ForecastAccuracy
}

export interface TrainRequest {
  /** Series to train; absent: all that the settings have forecast. */
  readonly series?: readonly SeriesName[]
  /** Kinds to choose from; absent: all. Exactly one, as S0 asks for an algorithm: it is trained whatever it is worth, as a challenger unless it wins. */
  readonly kinds?: readonly string[]
  readonly step_us?: number
  readonly horizon_us?: number
  /** Draws all that is chance; absent: 1. */
  readonly seed?: number
}

export interface BacktestRequest extends SeriesName {
  readonly kinds?: readonly string[]
  readonly step_us?: number
  readonly horizon_us?: number
  readonly seed?: number
}

/**
 * Forecasts: `src/roles/forecast/`. All methods reject with series_not_found for a series that has no readings, and with too_little_data (409; its
 * facts say `missing`, how many steps) where not even seasonal naive can answer.
 */
export interface ForecastService {
  /**
   * From what is known now (or was at `atUs`). `horizonUs`: at most what the model was trained for. `model`: a kind or a version that is used whatever
   * it is worth; rejects with model_not_found. `store`: the forecast is kept as one that was issued on schedule.
   */
  forecast(
    tenant: string,
    series: SeriesName,
    o: {
      readonly horizonUs?: number
      readonly level?: number
      readonly model?: string | number
      readonly atUs?: number
      readonly store?: boolean
    },
  ): Promise<Forecast>
  crossing(
    tenant: string,
    series: SeriesName,
    o: { readonly threshold: number; readonly side: 'above' | 'below'; readonly withinUs: number },
  ): Promise<CrossingForecast>
  /** Stored predictions, targets in [fromUs, toUs), ordered by target, issue and version, each with what was measured. */
  predictions(
    tenant: string,
    series: SeriesName,
    o: {
      readonly fromUs: number
      readonly toUs: number
      readonly version?: number
      readonly newest?: { readonly leadUs?: number }
      readonly after?: string
      readonly limit: number
    },
  ): Promise<Page<MaturedPrediction>>
  /** The latest stored issue of each series that has one, by device and metric. */
  latest(tenant: string, o: { readonly device?: string; readonly after?: string; readonly limit: number }): Promise<Page<Forecast>>
  /** The champion of each series, or its newest version where there is none. */
  models(tenant: string, o: { readonly device?: string; readonly after?: string; readonly limit: number }): Promise<Page<ForecastModel>>
  /** Newest first. Empty: nobody trained one. */
  versions(tenant: string, series: SeriesName): Promise<readonly ForecastModel[]>
  /** Rejects with model_not_found. */
  promote(tenant: string, series: SeriesName, version: number): Promise<ForecastModel>
  accuracy(tenant: string, series: SeriesName): Promise<ForecastAccuracy>
  /** A model's file as docs/format/model.md has it. Rejects with model_not_found. */
  file(tenant: string, series: SeriesName, version: number): Promise<Uint8Array>
  /**
   * A job of the kind `train`; its progress: series_total, series_done, trained, kept_naive, refused, device, metric, share.
   */
  train(tenant: string, request: TrainRequest): Promise<Job>
  /** A job of the kind `backtest`; its file `result` is JSON: candidates with scores, skill, coverage, and the forecasts of the best one. */
  backtest(tenant: string, request: BacktestRequest): Promise<Job>
  /** The newest job of the kind `train`, of all series or of one. */
  latestTraining(tenant: string, series?: SeriesName): Job | undefined
}
