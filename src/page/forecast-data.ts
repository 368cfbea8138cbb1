import type { Buckets } from './plot-data.ts'

/** A predicted step: its start (RFC 3339) and mean; without the ends where too few errors are known for an interval. */
export interface Predicted {
  readonly time: string
  readonly mean: number
  readonly lower: number | null
  readonly upper: number | null
}

/** What the plot and the table of a forecast are made of: a row a step, null for what is not known. Times are epoch milliseconds. */
export interface ForecastColumns {
  readonly time: readonly number[]
  readonly lower: readonly (number | null)[]
  readonly upper: readonly (number | null)[]
  readonly mean: readonly (number | null)[]
  readonly actual: readonly (number | null)[]
}

/** More steps than this are not drawn: the time that is looked back on is shortened to as many. */
export const stepsMax = 2_000

/** Where a look back begins: at the start of a step, and no longer ago than can be drawn. */
export function lookbackMs(issuedMs: number, backMs: number, stepMs: number): number {
  const steps = Math.min(stepsMax, Math.max(1, Math.ceil(backMs / stepMs)))
  return issuedMs - steps * stepMs
}

/**
 * Predictions beside what was measured, on the grid of steps that goes from `fromMs` to before `toMs`. Of two predictions of a step the later one in
 * `predicted` counts; what lies between two steps is left out. A step without readings, or without a prediction, stays empty: nothing is drawn across.
 */
export function forecastColumns(
  actual: Buckets,
  predicted: readonly Predicted[],
  o: { readonly fromMs: number; readonly toMs: number; readonly stepMs: number },
): ForecastColumns {
  const { fromMs, toMs, stepMs } = o
  const n = Math.max(0, Math.ceil((toMs - fromMs) / stepMs))
  const empty = (): (number | null)[] => Array.from({ length: n }, () => null)
  const columns = { time: Array.from({ length: n }, (_, i) => fromMs + i * stepMs), lower: empty(), upper: empty(), mean: empty(), actual: empty() }
  const rowOf = (ms: number): number | undefined => {
    const row = (ms - fromMs) / stepMs
    return Number.isInteger(row) && row >= 0 && row < n ? row : undefined
  }
  for (const { time, mean, lower, upper } of predicted) {
    const row = rowOf(Date.parse(time))
    if (row === undefined) continue
    columns.mean[row] = mean
    // Half an interval is none.
    const whole = lower !== null && upper !== null
    columns.lower[row] = whole ? lower : null
    columns.upper[row] = whole ? upper : null
  }
  for (const [i, time] of actual.time.entries()) {
    const row = rowOf(time)
    if (row !== undefined) columns.actual[row] = actual.mean[i] ?? null
  }
  return columns
}

/** Of the steps before `untilMs` that were measured and had an interval: how many lay within it. */
export function withinBand({ time, lower, upper, actual }: ForecastColumns, untilMs: number): { readonly n: number; readonly inside: number } {
  let [n, inside] = [0, 0]
  for (const [i, value] of actual.entries()) {
    const [low, high] = [lower[i] ?? null, upper[i] ?? null]
    if (!(time[i]! < untilMs) || value === null || low === null || high === null) continue
    n++
    if (value >= low && value <= high) inside++
  }
  return { n, inside }
}

/** Whether a job that trains is of this series: of it among others, or of all. */
export function isTrainingOf(parameters: Readonly<Record<string, unknown>> | undefined, device: string, metric: string): boolean {
  const series: unknown = parameters?.['series']
  if (!Array.isArray(series)) return true
  return series.some(
    (one: unknown) => typeof one === 'object' && one !== null && 'device' in one && 'metric' in one && one.device === device && one.metric === metric,
  )
}
