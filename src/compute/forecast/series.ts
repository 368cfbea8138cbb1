import { limits } from '../../core/limits.ts'

/** A second series on the grid of the first, such as humidity beside temperature. Its future is not known. */
export interface Covariate {
  readonly name: string
  /** As long as the series' own values; NaN where there is none. */
  readonly values: Float64Array
}

/**
 * Values at a regular step. `values[i]` is of the time `startUs + i * stepUs` (epoch microseconds, UTC: a day when clocks are changed has as many
 * steps as any other) and is known by the time of `values[i + 1]`. NaN: nothing was measured. The end of the array is the present: what a model is
 * handed is all it may know. Borrowed for the call.
 */
export interface Series {
  readonly startUs: number
  readonly stepUs: number
  readonly values: Float64Array
  readonly covariates: readonly Covariate[]
  /** Of the IANA database: where hours, weekdays and months are read off. */
  readonly timeZone: string
}

/** Why there is no model, or no forecast. */
export type RefusalReason =
  /** Fewer values than the model needs; `missing` says how many more. */
  | 'too_little_data'
  /** The last values are missing, for longer than the model bridges: the sensor has stopped. */
  | 'no_recent_values'
  /** All values are the same, so there is nothing to be learned; seasonal naive serves it. */
  | 'constant'
  /** Nothing but missing values. */
  | 'no_values'
  /** The equations have no solution in doubles. */
  | 'not_solvable'

export interface Refusal {
  readonly refused: RefusalReason
  /** A sentence with the facts. */
  readonly detail: string
  /** Values that would have to be added, where that is the reason. */
  readonly missing?: number
}

export function refuse(refused: RefusalReason, detail: string, missing?: number): Refusal {
  return missing === undefined ? { refused, detail } : { refused, detail, missing }
}

export function isRefusal(value: object): value is Refusal {
  return 'refused' in value
}

/** The series as it was when it had `end` steps, `from` steps left out before. A view: nothing is copied, and nothing behind `end` can be read. */
export function upTo(series: Series, end: number, from = 0): Series {
  return {
    startUs: series.startUs + from * series.stepUs,
    stepUs: series.stepUs,
    values: viewOf(series.values, from, end),
    covariates: series.covariates.map(({ name, values }) => ({ name, values: viewOf(values, from, end) })),
    timeZone: series.timeZone,
  }
}

/** A view whose buffer could be reached around would be no wall against reading the future: models use the array, never its buffer. */
function viewOf(values: Float64Array, from: number, end: number): Float64Array {
  return values.subarray(from, Math.max(from, end))
}

/** How many values are there. */
export function measured(values: Float64Array): number {
  let n = 0
  for (let i = 0; i < values.length; i++) if (values[i]! === values[i]!) n++
  return n
}

const dayUs = 86_400e6

/**
 * Steps after which a series is expected to be like itself: a day where a day is a whole number of steps, 2 to `forecastSeasonMax`; else 1 (the last
 * value).
 */
export function seasonOf(stepUs: number): number {
  const steps = dayUs / stepUs
  return Number.isInteger(steps) && steps >= 2 && steps <= limits.forecastSeasonMax ? steps : 1
}
