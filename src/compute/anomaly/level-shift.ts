import { KymoError } from '../../core/errors.ts'
import type { StateReader, StateWriter } from '../window/state-bytes.ts'
import type { Anomaly } from './anomaly.ts'
import type { Check } from './checks.ts'
import { RollingDistribution } from './rolling-distribution.ts'

const memory = 1_024

/**
 * A level that moved and stays: the means of two windows of `window` readings that follow on each other, their difference in units of what it would
 * scatter by (Welch's t) at least `threshold`, and rarer than `rate` among the differences that this series had before, so that its usual tides do not
 * count. After an alarm there is none until both windows lie behind it.
 */
export class LevelShiftCheck implements Check {
  readonly #window: number
  readonly #threshold: number
  readonly #rate: number
  readonly #ring: Float64Array
  readonly #differences = new RollingDistribution(memory)
  #count = 0
  #quietUntil = 0
  #score = 0

  constructor({ window = 30, threshold = 6, rate = 0.005 }: { readonly window?: number; readonly threshold?: number; readonly rate?: number } = {}) {
    if (!(Number.isInteger(window) && window >= 4 && window <= 512 && threshold > 0 && rate > 0 && rate <= 1))
      throw new KymoError('bug', { detail: `level shifts by windows of ${window}, threshold ${threshold}, rate ${rate}` })
    this.#window = window
    this.#threshold = threshold
    this.#rate = rate
    this.#ring = new Float64Array(2 * window)
  }

  /** Of the last reading: Welch's t where the difference was rare, 0 elsewhere. */
  get score(): number {
    return this.#score
  }

  observe(timeUs: number, value: number): Anomaly | undefined {
    this.#score = 0
    if (!Number.isFinite(timeUs) || !Number.isFinite(value)) return undefined
    const size = this.#ring.length
    this.#ring[this.#count++ % size] = Math.min(1e100, Math.max(-1e100, value))
    if (this.#count < size) return undefined
    const before = this.#moments(0)
    const after = this.#moments(this.#window)
    const difference = after.mean - before.mean
    const error = Math.sqrt((before.variance + after.variance) / this.#window)
    const rarity = this.#differences.rarity(difference)
    this.#differences.push(difference)
    // Two windows without scatter: any difference beyond rounding is as large as can be said.
    const noise = Math.max(error, 1e-9 * Math.max(Math.abs(before.mean), Math.abs(after.mean)))
    const t = noise > 0 ? Math.abs(difference) / noise : 0
    if (rarity < this.#rate) this.#score = t
    if (rarity >= this.#rate || t < this.#threshold || this.#count < this.#quietUntil) return undefined
    this.#quietUntil = this.#count + size
    const reach = this.#threshold * noise
    const interval = { expected: before.mean, lower: before.mean - reach, upper: before.mean + reach }
    return { kind: 'level_shift', timeUs, value, ...interval, statistic: "Welch's t of two windows", size: t, threshold: this.#threshold, rarity }
  }

  write(writer: StateWriter): void {
    writer.f64s(Float64Array.of(this.#count, this.#quietUntil))
    writer.f64s(this.#ring)
    this.#differences.write(writer)
  }

  read(reader: StateReader): void {
    const [count, quietUntil] = reader.f64s()
    const ring = reader.f64s()
    if (count === undefined || quietUntil === undefined || ring.length !== this.#ring.length)
      throw new KymoError('store_format', { detail: 'A snapshot of level shifts is of another window.' })
    this.#count = count
    this.#quietUntil = quietUntil
    this.#ring.set(ring)
    this.#differences.read(reader)
  }

  /** Of one of both windows, which begins so many readings after the oldest. */
  #moments(after: number): { readonly mean: number; readonly variance: number } {
    const [window, size] = [this.#window, this.#ring.length]
    let sum = 0
    for (let i = 0; i < window; i++) sum += this.#ring[(this.#count + after + i) % size]!
    const mean = sum / window
    let squares = 0
    for (let i = 0; i < window; i++) squares += (this.#ring[(this.#count + after + i) % size]! - mean) ** 2
    return { mean, variance: squares / (window - 1) }
  }
}
