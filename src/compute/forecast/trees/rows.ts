import type { Bounds } from '../fill.ts'
import { shortGap } from '../fill.ts'
import { calendarFeatures, pastFeatures } from '../features.ts'
import type { Series } from '../series.ts'
import { upTo } from '../series.ts'

/** What a row is made of: which features there are follows from this alone. */
export interface RowShape {
  readonly stepUs: number
  readonly season: number
  readonly covariates: readonly string[]
  /** Whether the calendar's slow cycles are features: weekdays, and months with days of the year. */
  readonly weekdays: boolean
  readonly months: boolean
}

/** Days a series must have for a cycle of the calendar: two turns of it. With one turn a month is a name for a piece of the past. */
const daysForWeekdays = 14
const daysForMonths = 730

const dayUs = 86_400e6

/** Same steps of so many earlier seasons are looked at. */
const seasonsBack = 7

export function shapeOf({ stepUs, values, covariates }: Series, season: number): RowShape {
  const days = (values.length * stepUs) / dayUs
  return {
    stepUs,
    season,
    covariates: covariates.map(({ name }) => name),
    weekdays: days >= daysForWeekdays,
    months: days >= daysForMonths,
  }
}

/** Features of a row, by name and by what they depend on: in this order. */
export interface RowPlan {
  readonly shape: RowShape
  /** On the present alone; of `pastFeatures`. */
  readonly past: readonly string[]
  /** Of each of these, whether it is a level of the series itself, to be taken relative to its last value. */
  readonly levels: readonly boolean[]
  /** On the step that is forecast; of `calendarFeatures`. */
  readonly calendar: readonly string[]
  /** On both. */
  readonly pair: readonly string[]
  /** How many features there are. */
  readonly width: number
}

const sameHour = ['same_hour_1', 'same_hour_2', 'same_hour_3', 'same_hour_mean', 'same_hour_change_1', 'same_hour_change_mean'] as const

export function planOf(shape: RowShape): RowPlan {
  const { stepUs, season, covariates, weekdays, months } = shape
  const none = new Float64Array(0)
  const names = (others: readonly string[]): string[] =>
    pastFeatures({ startUs: 0, stepUs, values: none, covariates: others.map((name) => ({ name, values: none })), timeZone: 'UTC' }).names.slice()
  // The value itself is what everything is relative to; its own changes are the lags with the other sign.
  const own = names([]).filter((name) => name !== 'value' && !name.startsWith('diff_'))
  const past = [...own, ...names(covariates).slice(names([]).length)]
  const calendar = calendarFeatures(0, stepUs, 0, 'UTC').names.filter(
    (name) => name.startsWith('hour') || (weekdays && name.startsWith('weekday')) || (months && /^(?:month|day_of_year)/.test(name)),
  )
  const pair = ['horizon', ...(season > 1 ? sameHour : [])]
  return {
    shape,
    past,
    levels: past.map((name, i) => i < own.length && (name.startsWith('lag_') || name.startsWith('rolling_mean_'))),
    calendar,
    pair,
    width: past.length + calendar.length + pair.length,
  }
}

/** Steps of the past that `pastFeatures` looks at, the present one included. */
function dayOf(stepUs: number): number {
  return Math.max(1, Math.floor(dayUs / stepUs)) + 1
}

/** Steps of history that rows up to `horizon` ahead are made from: changes over so many seasons begin that much earlier. */
export function contextOf({ stepUs, season }: RowShape, horizon: number): number {
  return Math.max(dayOf(stepUs), (Math.ceil(horizon / season) + seasonsBack) * season) + shortGap(season)
}

/** Values beyond the bounds as missing. */
export function believed(values: Float64Array, { low, high }: Bounds): Float64Array {
  return values.map((v) => (v >= low && v <= high ? v : Number.NaN))
}

/** The last value that was measured at or before a step, unless it is too old to go by: then NaN. */
export function baseAt(values: Float64Array, at: number, season: number): number {
  const oldest = Math.max(0, at - shortGap(season))
  for (let i = at; i >= oldest; i--) if (values[i]! === values[i]!) return values[i]!
  return Number.NaN
}

/** Where a row stands: `values` up to step `at`, of which `base` is the last one. */
export interface Present {
  readonly values: Float64Array
  readonly at: number
  readonly base: number
  readonly season: number
}

/** The features of `pair` for a step `ahead`, into `out`. Levels are relative to the base. */
export function pairFeatures({ values, at, base, season }: Present, ahead: number, out: Float64Array): void {
  out[0] = ahead
  if (season === 1) return
  const target = at + ahead
  const first = Math.ceil(ahead / season) * season
  let [n, sum, changes, change] = [0, 0, 0, 0]
  for (let k = 0; k < seasonsBack; k++) {
    const then = target - first - k * season
    const same = then >= 0 ? values[then]! - base : Number.NaN
    const before = at - first - k * season
    const since = before >= 0 ? values[then]! - values[before]! : Number.NaN
    if (k < 3) out[1 + k] = same
    if (k === 0) out[5] = since
    if (same === same) {
      n++
      sum += same
    }
    if (since === since) {
      changes++
      change += since
    }
  }
  out[4] = n === 0 ? Number.NaN : sum / n
  out[6] = changes === 0 ? Number.NaN : change / changes
}

/** Columns of `past`, each as long as the series; levels are as they are, not relative yet. A covariate that is not there is missing. */
export function pastColumns(series: Series, { past }: RowPlan): readonly Float64Array[] {
  const { names, columns } = pastFeatures(series)
  return past.map((name) => columns[names.indexOf(name)] ?? new Float64Array(series.values.length).fill(Number.NaN))
}

/** Columns of `calendar` for steps from `startUs` on. */
export function calendarOf(startUs: number, count: number, timeZone: string, { shape, calendar }: RowPlan): readonly Float64Array[] {
  const { names, columns } = calendarFeatures(startUs, shape.stepUs, count, timeZone)
  return calendar.map((name) => columns[names.indexOf(name)]!)
}

/** What `pastColumns` needs for its last row. */
export function lastDay(series: Series): Series {
  return upTo(series, series.values.length, Math.max(0, series.values.length - dayOf(series.stepUs)))
}

/** Steps before a piece of a series that its features need. */
export function leadIn(stepUs: number): number {
  return dayOf(stepUs) - 1
}
