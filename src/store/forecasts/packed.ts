import type { SeriesKey } from '../../core/batch.ts'
import type { IssuedForecast, Prediction } from '../../core/forecast-store.ts'

/** Forecasts as they cross to another thread: few objects, and the numbers without a copy. */
export interface PackedForecasts {
  /** Tenant, device and metric of each. */
  readonly names: readonly string[]
  /** Of each: version, issue, step, level, steps, rows of numbers (1: means; 3: lower and upper ends, too), then these rows. */
  readonly numbers: Float64Array<ArrayBuffer>
}

const headLength = 6

export function packForecasts(forecasts: readonly IssuedForecast[]): PackedForecasts {
  const rowsOf = ({ lower, upper }: IssuedForecast): number => (hasNumber(lower) || hasNumber(upper) ? 3 : 1)
  const numbers = new Float64Array(forecasts.reduce((sum, one) => sum + headLength + one.mean.length * rowsOf(one), 0))
  const names: string[] = []
  let at = 0
  for (const one of forecasts) {
    const { key, version, issueUs, stepUs, level, mean, lower, upper } = one
    const rows = rowsOf(one)
    names.push(key.tenant, key.device, key.metric)
    numbers.set([version, issueUs, stepUs, level, mean.length, rows], at)
    at += headLength
    for (const row of [mean, lower, upper].slice(0, rows)) {
      numbers.set(row, at)
      at += row.length
    }
  }
  return { names, numbers }
}

const hasNumber = (row: Float64Array): boolean => row.some((value) => value === value)

/** One of them; `rows` is a view: `rows.length / count` rows of `count` numbers. */
export interface PackedForecast {
  readonly key: SeriesKey
  readonly version: number
  readonly issueUs: number
  readonly stepUs: number
  readonly level: number
  readonly count: number
  readonly rows: Float64Array<ArrayBuffer>
}

export function* unpackForecasts({ names, numbers }: PackedForecasts): Generator<PackedForecast, void, void> {
  let at = 0
  for (let i = 0; i < names.length; i += 3) {
    const [version = 0, issueUs = 0, stepUs = 0, level = 0, count = 0, rows = 0] = numbers.subarray(at, at + headLength)
    at += headLength
    const key = { tenant: names[i] ?? '', device: names[i + 1] ?? '', metric: names[i + 2] ?? '' }
    yield { key, version, issueUs, stepUs, level, count, rows: numbers.subarray(at, at + count * rows) }
    at += count * rows
  }
}

const width = 7

/** Predictions as they cross back. */
export function packPredictions(predictions: readonly Prediction[]): Float64Array<ArrayBuffer> {
  const packed = new Float64Array(predictions.length * width)
  let at = 0
  for (const { version, issue_us, target_us, mean, lower, upper, level } of predictions) {
    packed[at] = version
    packed[at + 1] = issue_us
    packed[at + 2] = target_us
    packed[at + 3] = mean
    packed[at + 4] = lower
    packed[at + 5] = upper
    packed[at + 6] = level
    at += width
  }
  return packed
}

export function unpackPredictions(packed: Float64Array, from = 0, count = packed.length / width): Prediction[] {
  return Array.from({ length: count }, (_, i) => {
    const at = (from + i) * width
    const number = (n: number): number => packed[at + n] ?? Number.NaN
    return {
      version: number(0),
      issue_us: number(1),
      target_us: number(2),
      mean: number(3),
      lower: number(4),
      upper: number(5),
      level: number(6),
    }
  })
}
