import { KymoError } from '../../core/errors.ts'
import type { StateReader, StateWriter } from '../window/state-bytes.ts'
import type { Anomaly } from './anomaly.ts'
import type { Check } from './checks.ts'

const buckets = 96

/**
 * The seed's rule (S1) reading by reading: further than `threshold` sample deviations from the mean of the last 24 h, itself included. The time that is
 * covered moves in steps of a 96th of it (a quarter of an hour), and so the state has a bound. The endpoint `/analytics/anomalies` asks the store for
 * the same over whole hours. Every reading that is so far away is told, as there.
 */
export class ZScoreCheck implements Check {
  readonly #bucketUs: number
  readonly #threshold: number
  /** By bucket: which one it is, how many readings, their mean and sum of squared deviations. */
  readonly #numbers = new Float64Array(buckets).fill(Number.NaN)
  readonly #counts = new Float64Array(buckets)
  readonly #means = new Float64Array(buckets)
  readonly #squares = new Float64Array(buckets)
  #score = 0

  constructor({ hours = 24, threshold = 2 }: { readonly hours?: number; readonly threshold?: number } = {}) {
    if (!(hours > 0 && hours <= 24 * 366 && threshold > 0)) throw new KymoError('bug', { detail: `z-scores of ${hours} h, threshold ${threshold}` })
    this.#bucketUs = (hours * 3600e6) / buckets
    this.#threshold = threshold
  }

  /** Of the last reading; 0 where there is no deviation. */
  get score(): number {
    return this.#score
  }

  observe(timeUs: number, reading: number): Anomaly | undefined {
    this.#score = 0
    if (!Number.isFinite(timeUs) || !Number.isFinite(reading)) return undefined
    const value = Math.min(1e100, Math.max(-1e100, reading))
    const number = Math.floor(timeUs / this.#bucketUs)
    const place = ((number % buckets) + buckets) % buckets
    if (this.#numbers[place]! > number) return undefined
    if (this.#numbers[place] !== number) {
      this.#numbers[place] = number
      this.#counts[place] = 0
      this.#means[place] = 0
      this.#squares[place] = 0
    }
    const away = value - this.#means[place]!
    this.#means[place]! += away / ++this.#counts[place]!
    this.#squares[place]! += away * (value - this.#means[place]!)
    const { count, mean, squares } = this.#merged(number)
    const deviation = count < 2 ? 0 : Math.sqrt(squares / (count - 1))
    if (!(deviation > 0)) return undefined
    this.#score = Math.abs(value - mean) / deviation
    if (this.#score <= this.#threshold) return undefined
    const reach = this.#threshold * deviation
    const interval = { expected: mean, lower: mean - reach, upper: mean + reach }
    const evidence = { statistic: 'deviations from the mean', size: this.#score, threshold: this.#threshold, rarity: undefined }
    return { kind: 'z_score', timeUs, value: reading, ...interval, ...evidence }
  }

  write(writer: StateWriter): void {
    for (const values of [this.#numbers, this.#counts, this.#means, this.#squares]) writer.f64s(values)
  }

  read(reader: StateReader): void {
    for (const values of [this.#numbers, this.#counts, this.#means, this.#squares]) {
      const kept = reader.f64s()
      if (kept.length !== buckets) throw new KymoError('store_format', { detail: 'A snapshot of z-scores does not hold what it should.' })
      values.set(kept)
    }
  }

  /** All buckets of the time that ends with this one (Chan, Golub and LeVeque 1979). */
  #merged(number: number): { readonly count: number; readonly mean: number; readonly squares: number } {
    let [count, mean, squares] = [0, 0, 0]
    for (let k = 0; k < buckets; k++) {
      const added = this.#counts[k]!
      if (!(this.#numbers[k]! > number - buckets && this.#numbers[k]! <= number && added > 0)) continue
      const away = this.#means[k]! - mean
      const all = count + added
      squares += this.#squares[k]! + (away * away * count * added) / all
      mean += (away * added) / all
      count = all
    }
    return { count, mean, squares }
  }
}
