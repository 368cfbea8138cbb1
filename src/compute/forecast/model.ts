import type { StateReader } from '../window/state-bytes.ts'
import type { Refusal, Series } from './series.ts'

/** What a model is trained for. */
export interface FitOptions {
  /** Steps ahead that it must be able to forecast, at least 1 and at most `forecastHorizonMax`. */
  readonly horizon: number
  /** Steps of a season (`seasonOf`); 1: none. */
  readonly season: number
  /** A model with chance in it draws all of it from here: the same series, options and seed give the same bits, in any process. */
  readonly seed: number
  /** Numbers by name, as the kind documents them; a name that it does not know is refused with `usage`. */
  readonly tuning?: Readonly<Record<string, number>>
}

/**
 * Something trained. Immutable and pure: a forecast depends on the model and the history alone. Reads the last `context` steps of a history
 * and nothing else, so that is all that needs to be loaded; it may be handed less, and answers then with what it has, or refuses.
 */
export interface Model {
  readonly kind: string
  /** Steps ahead it can forecast. */
  readonly horizon: number
  /** Steps of history it reads. */
  readonly context: number
  /** Step of the series it was trained on: a history of another step is a mistake of the caller's. */
  readonly stepUs: number
  /**
   * Writes the expected values of the next `out.length` (at most `horizon`) steps after the end of `history`: `out[0]` is of one step after the
   * last value. All of them finite, or a refusal and `out` is worth nothing. Allocates little: it is called for every sensor at every issue, and
   * thousands of times in a backtest.
   */
  predict(history: Series, out: Float64Array): Refusal | undefined
  /** What was learned and chosen, by name, for the model card: window, penalty, smoothing constants. */
  readonly facts: Readonly<Record<string, number | string>>
  /**
   * The body of the model's file (docs/format/model.md): letters and version of its kind (`beginState`), then what `ModelKind.restore` reads back to
   * a model that answers in the same bits.
   */
  body(): Uint8Array
}

/**
 * Training, cut into pieces of at most some 20 ms: each `next()` does one and yields the share that is done, from 0 to 1. Who wants to cancel stops
 * calling, and calls `return()`. Never sees a clock.
 */
export type Training = Generator<number, Model | Refusal, void>

/** A kind of model, as files name it. Kinds stand in `registry.ts`. */
export interface ModelKind {
  /** As in files, cards and APIs: `seasonal-naive`, `holt-winters`, `ridge`, `random-forest`, `gradient-boosting`, `lstm`, `ensemble`. */
  readonly kind: string
  /** Four letters that begin the body of its files, */
  readonly letters: string
  /** and the version of its layout. */
  readonly version: number
  /**
   * `reader` stands behind letters and version. Throws (any error): the file is damaged. Numbers that are read must be checked, sizes before anything
   * is allocated.
   */
  restore(reader: StateReader): Model
}

/** A kind that is trained on a series. */
export interface Forecaster extends ModelKind {
  fit(series: Series, options: FitOptions): Training
}

/** Trains to the end, for callers that have the thread to themselves. `onProgress` returns false: cancelled, and the result is undefined. */
export function train(training: Training, onProgress?: (share: number) => boolean): Model | Refusal | undefined {
  for (;;) {
    const step = training.next()
    if (step.done === true) return step.value
    if (onProgress?.(step.value) === false) {
      training.return({ refused: 'too_little_data', detail: 'cancelled' })
      return undefined
    }
  }
}
