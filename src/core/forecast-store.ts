import type { SeriesKey } from './batch.ts'
import type { Page } from './services.ts'

/** Where a prediction belongs: it is one number for one (series, version, issue, target), and never overwritten. Times: epoch microseconds. */
export interface Prediction {
  /** Of the model that made it, as `StoredModel.version`; 0: seasonal naive, which nobody trained. */
  readonly version: number
  /** The end of what was known: the start of the first step that is forecast. */
  readonly issue_us: number
  /** Start of the step that the prediction is of. */
  readonly target_us: number
  readonly mean: number
  /** Ends of the interval of `level`; NaN: too few errors were known for an interval. */
  readonly lower: number
  readonly upper: number
  /** In (0, 1), such as 0.9. */
  readonly level: number
}

/** What one issue says: targets follow one another by `stepUs` from `issueUs` on. */
export interface IssuedForecast {
  readonly key: SeriesKey
  readonly version: number
  readonly issueUs: number
  readonly stepUs: number
  readonly level: number
  /** Of one length. NaN in lower and upper: no interval. */
  readonly mean: Float64Array
  readonly lower: Float64Array
  readonly upper: Float64Array
}

export interface PredictionQuery {
  readonly key: SeriesKey
  /** Targets in [fromUs, toUs). */
  readonly fromUs: number
  readonly toUs: number
  readonly version?: number
  /** Only predictions of this issue. */
  readonly issueUs?: number
  /**
   * Of each target only the prediction that was issued last, whichever version made it. `leadUs`: that was issued at least so long before the end of
   * its target's step.
   */
  readonly newest?: { readonly leadUs?: number }
  /** Ordered by (target, issue, version); strictly after this one. */
  readonly after?: Pick<Prediction, 'target_us' | 'issue_us' | 'version'>
  readonly limit: number
}

export type ModelState = 'champion' | 'challenger' | 'retired'

/** A version of the model of one series, without its file. */
export interface StoredModel {
  readonly key: SeriesKey
  /** Grows from 1 with each model of the series. */
  readonly version: number
  /** As `Model.kind`. */
  readonly kind: string
  readonly state: ModelState
  readonly created_us: number
  /** The model card, as in its file. */
  readonly card: Readonly<Record<string, unknown>>
  readonly bytes: number
}

/** What the role knows of a series between two issues: of one version. Bytes as `ForecastMonitor.snapshot` makes them. */
export interface MonitorState {
  readonly key: SeriesKey
  readonly version: number
  /** All steps that begin before this have been looked at, and the forecast of this moment was issued. */
  readonly atUs: number
  readonly bytes: Uint8Array
}

/**
 * Predictions, the models that made them and what is known of their errors: `src/store/forecasts/`. A store of its own, in the data directory or in a
 * database that nobody but forecasts uses. Everything is durable when its promise resolves.
 */
export interface ForecastStore {
  /**
   * Forecasts and states in one transaction. A prediction that exists stays as it is, so that the same work done twice changes nothing; states
   * replace those of their series and version.
   */
  write(forecasts: readonly IssuedForecast[], states: readonly MonitorState[]): Promise<void>
  /** A page of at most `limit`; fewer: it was the last. */
  predictions(q: PredictionQuery): Promise<readonly Prediction[]>
  /** The whole of the latest issue of each of these series; nothing for a series without any. */
  latest(keys: readonly SeriesKey[]): Promise<readonly { readonly key: SeriesKey; readonly predictions: readonly Prediction[] }[]>
  states(keys: readonly SeriesKey[]): Promise<readonly MonitorState[]>
  /** Keeps a model's file under the next version of its series. `champion`: the one before is retired with the same transaction. */
  addModel(model: {
    readonly key: SeriesKey
    readonly kind: string
    readonly state: 'champion' | 'challenger'
    readonly createdUs: number
    readonly card: Readonly<Record<string, unknown>>
    readonly file: Uint8Array
  }): Promise<StoredModel>
  /** Makes a version the champion, and retires the one before. Rejects with model_not_found. */
  promote(key: SeriesKey, version: number): Promise<StoredModel>
  /** No version is champion any more: seasonal naive serves the series. */
  retire(key: SeriesKey): Promise<void>
  /** Newest version first. */
  versions(key: SeriesKey): Promise<readonly StoredModel[]>
  /** Champions, or the newest version where there is none, by device and metric (UTF-16 units). `after` is a page's `next`. */
  models(tenant: string, o: { readonly after?: string; readonly limit: number; readonly device?: string }): Promise<Page<StoredModel>>
  /** A model's file; undefined: there is no such version, or its file was dropped. */
  file(key: SeriesKey, version: number): Promise<Uint8Array | undefined>
  /** Everything of one device. */
  erase(tenant: string, device: string): Promise<void>
  /**
   * Predictions whose target lies before `predictionsBeforeUs` go, and of each series the files of all but the champion and the newest `versions`;
   * what they were trained on and how well they did stays on their cards. How many predictions went.
   */
  expire(o: { readonly predictionsBeforeUs?: number; readonly versions: number }): Promise<number>
  stats(): Promise<{ readonly predictions: number; readonly models: number; readonly bytes: number }>
  close(): Promise<void>
}
