import { calendarColumns } from './calendar.ts'
import type { Series } from './series.ts'

/**
 * Columns by name, each as long as the series. Row i is what is known at the end of step i: its values and those before it; NaN where one is missing.
 */
export interface FeatureTable {
  readonly names: readonly string[]
  readonly columns: readonly Float64Array[]
}

const hourUs = 3_600e6
const lagHours = [1, 2, 3, 6, 12, 24] as const
const rollingHours = [3, 6, 12, 24] as const

/** What the calendar says of steps, also of those to come: `hour`, `weekday`, `month`, `day_of_year` and the sines and cosines of each. */
export function calendarFeatures(startUs: number, stepUs: number, count: number, timeZone: string): FeatureTable {
  const { hour, weekday, month, dayOfYear } = calendarColumns(startUs, stepUs, count, timeZone)
  const cycles: readonly (readonly [string, Float64Array, number])[] = [
    ['hour', hour, 24],
    ['weekday', weekday, 7],
    ['month', month, 12],
    ['day_of_year', dayOfYear, 365.25],
  ]
  return {
    names: cycles.flatMap(([name]) => [name, `${name}_sin`, `${name}_cos`]),
    columns: cycles.flatMap(([, column, period]) => [
      column,
      column.map((v) => Math.sin((2 * Math.PI * v) / period)),
      column.map((v) => Math.cos((2 * Math.PI * v) / period)),
    ]),
  }
}

/**
 * What the past says: `value`; `lag_1h` to `lag_24h` (1, 2, 3, 6, 12, 24); `rolling_mean_3h` and `rolling_std_3h` (3, 6, 12, 24); `diff_1h` and
 * `diff_24h`; and of each covariate its value, its change over an hour and over a day (`humidity`, `humidity_diff_1h`, `humidity_diff_24h`). Lags
 * that are no whole number of steps are left out. Means and deviations are over the values that are there, at least half of the window; deviations
 * divide by n.
 */
export function pastFeatures({ stepUs, values, covariates }: Series): FeatureTable {
  const names: string[] = ['value']
  const columns: Float64Array[] = [values]
  const add = (name: string, column: Float64Array): void => {
    names.push(name)
    columns.push(column)
  }
  const stepsOf = (hours: number): number => (hours * hourUs) / stepUs
  for (const hours of lagHours) if (isSteps(stepsOf(hours))) add(`lag_${hours}h`, shifted(values, stepsOf(hours)))
  for (const hours of rollingHours) {
    const steps = Math.floor(stepsOf(hours))
    if (steps < 2) continue
    const { means, deviations } = rolling(values, steps)
    add(`rolling_mean_${hours}h`, means)
    add(`rolling_std_${hours}h`, deviations)
  }
  for (const hours of [1, 24]) if (isSteps(stepsOf(hours))) add(`diff_${hours}h`, change(values, stepsOf(hours)))
  for (const covariate of covariates) {
    add(covariate.name, covariate.values)
    for (const hours of [1, 24]) if (isSteps(stepsOf(hours))) add(`${covariate.name}_diff_${hours}h`, change(covariate.values, stepsOf(hours)))
  }
  return { names, columns }
}

function isSteps(steps: number): boolean {
  return Number.isInteger(steps) && steps >= 1
}

function shifted(values: Float64Array, by: number): Float64Array {
  const out = new Float64Array(values.length).fill(Number.NaN)
  for (let i = by; i < values.length; i++) out[i] = values[i - by]!
  return out
}

function change(values: Float64Array, over: number): Float64Array {
  const before = shifted(values, over)
  return values.map((v, i) => v - before[i]!)
}

/** Sums are made anew for each window: running sums would carry an outlier's rounding along for ever. */
function rolling(values: Float64Array, steps: number): { readonly means: Float64Array; readonly deviations: Float64Array } {
  const means = new Float64Array(values.length).fill(Number.NaN)
  const deviations = new Float64Array(values.length).fill(Number.NaN)
  for (let i = 0; i < values.length; i++) {
    let [n, mean, m2] = [0, 0, 0]
    for (let k = Math.max(0, i - steps + 1); k <= i; k++) {
      const v = values[k]!
      if (v !== v) continue
      const off = v - mean
      mean += off / ++n
      m2 += off * (v - mean)
    }
    if (2 * n < steps) continue
    means[i] = mean
    deviations[i] = Math.sqrt(m2 / n)
  }
  return { means, deviations }
}
