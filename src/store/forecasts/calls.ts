import type { SeriesKey } from '../../core/batch.ts'
import type { ModelState, MonitorState, PredictionQuery, StoredModel } from '../../core/forecast-store.ts'
import type { PackedForecasts } from './packed.ts'

export interface NewModel {
  readonly key: SeriesKey
  readonly kind: string
  readonly state: ModelState
  readonly createdUs: number
  readonly card: Readonly<Record<string, unknown>>
  readonly file: Uint8Array
}

export interface ModelQuery {
  readonly tenant: string
  readonly after?: string
  readonly limit: number
  readonly device?: string
}

/** Models of an answer that was cut at `metaAnswerBytesMax`; `more`: go on after the last. */
export interface ModelsAnswer {
  readonly models: readonly StoredModel[]
  readonly more: boolean
}

export interface Expiry {
  readonly predictionsBeforeUs?: number
  readonly versions: number
  /** Where the call before ended. */
  readonly afterSeries: number
}

/** `afterSeries` absent: all is done. */
export interface Expired {
  readonly gone: number
  readonly afterSeries?: number
}

/** Predictions of several series: `counts` of each key, then all of them, packed. */
export interface LatestAnswer {
  readonly counts: readonly number[]
  readonly packed: Float64Array<ArrayBuffer>
}

export interface Stats {
  readonly predictions: number
  readonly models: number
  readonly bytes: number
}

/** What is asked of the thread. `open` comes first. */
export type ForecastsRequest =
  | { readonly op: 'open'; readonly path: string }
  | { readonly op: 'write'; readonly forecasts: PackedForecasts; readonly states: readonly MonitorState[] }
  | { readonly op: 'predictions'; readonly query: PredictionQuery }
  | { readonly op: 'latest'; readonly keys: readonly SeriesKey[] }
  | { readonly op: 'states'; readonly keys: readonly SeriesKey[] }
  | { readonly op: 'addModel'; readonly model: NewModel }
  | { readonly op: 'promote'; readonly key: SeriesKey; readonly version: number }
  | { readonly op: 'retire'; readonly key: SeriesKey }
  | { readonly op: 'versions'; readonly key: SeriesKey; readonly before?: number }
  | { readonly op: 'models'; readonly query: ModelQuery }
  | { readonly op: 'file'; readonly key: SeriesKey; readonly version: number }
  | { readonly op: 'erase'; readonly tenant: string; readonly device: string }
  | { readonly op: 'expire'; readonly expiry: Expiry }
  | { readonly op: 'stats' }
  | { readonly op: 'close' }
