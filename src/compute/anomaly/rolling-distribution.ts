import { KymoError } from '../../core/errors.ts'
import type { StateReader, StateWriter } from '../window/state-bytes.ts'

/** Below so many values a probability says nothing, and is 1. */
const valuesMin = 32
/** The tail beyond what was seen is drawn from this share of the values, and at least so many. */
const tailShare = 0.02
const tailMin = 8
/** No probability is below this: what never happened in a few thousand values is not known to be rarer. */
const rarest = 1e-9
/** A tail is never taken to be heavier: from moments of a few dozen values more would be chance (a fourth moment ends here). */
const shapeMax = 0.25

const largest = 3.4028234663852886e38

/** As it is kept; what is too large for that is the largest. */
function single(value: number): number {
  return Math.fround(Math.min(largest, Math.max(-largest, value)))
}

/**
 * The latest values of a statistic in order, and how rare another one would be among them (a conformal p-value, ties counted half). In the
 * outermost part of them a fitted tail is finer than ranks, and goes on where they end. Single precision: 8 B a value. What is not finite is not taken.
 */
export class RollingDistribution {
  readonly #ring: Float32Array
  readonly #sorted: Float32Array
  #first = 0
  #size = 0

  constructor(capacity: number) {
    this.#ring = new Float32Array(capacity)
    this.#sorted = new Float32Array(capacity)
  }

  get size(): number {
    return this.#size
  }

  /** The value with this share (0 to 1) of the values below it; NaN of too few. */
  quantile(share: number): number {
    if (this.#size < valuesMin) return Number.NaN
    return this.#sorted[Math.min(this.#size - 1, Math.max(0, Math.round(share * (this.#size - 1))))]!
  }

  /** The probability of a value so far above, in (0, 1]. */
  above(given: number): number {
    const n = this.#size
    if (n < valuesMin || !Number.isFinite(given)) return 1
    const value = single(given)
    const from = this.#placeOf(value, false)
    const to = this.#placeOf(value, true)
    const tail = this.#tail()
    if (n - from > tail) return (n - to + (to - from + 1) / 2) / (n + 1)
    return this.#beyond(n - to + (to - from + 1) / 2, tail, 1, value - this.#sorted[n - 1 - tail]!)
  }

  /** The probability of a value so far below, in (0, 1]. */
  below(given: number): number {
    const n = this.#size
    if (n < valuesMin || !Number.isFinite(given)) return 1
    const value = single(given)
    const from = this.#placeOf(value, false)
    const to = this.#placeOf(value, true)
    const tail = this.#tail()
    if (to > tail) return (from + (to - from + 1) / 2) / (n + 1)
    return this.#beyond(from + (to - from + 1) / 2, tail, -1, this.#sorted[tail]! - value)
  }

  /** Two-sided. */
  rarity(value: number): number {
    return Math.min(1, 2 * Math.min(this.above(value), this.below(value)))
  }

  push(given: number): void {
    if (!Number.isFinite(given)) return
    const value = single(given)
    const capacity = this.#ring.length
    if (this.#size === capacity) {
      const oldest = this.#ring[this.#first]!
      this.#ring[this.#first] = value
      this.#first = (this.#first + 1) % capacity
      this.#replace(oldest, value)
      return
    }
    this.#ring[(this.#first + this.#size) % capacity] = value
    const place = this.#placeOf(value, true)
    this.#sorted.copyWithin(place + 1, place, this.#size++)
    this.#sorted[place] = value
  }

  write(writer: StateWriter): void {
    writer.f32s(Float32Array.from({ length: this.#size }, (_, k) => this.#ring[(this.#first + k) % this.#ring.length]!))
  }

  /** Throws store_format where there are more values than fit, or one is no number. */
  read(reader: StateReader): void {
    const values = reader.f32s()
    if (values.length > this.#ring.length || !values.every(Number.isFinite))
      throw new KymoError('store_format', { detail: 'A snapshot of a rolling distribution does not hold what it should.' })
    this.#first = 0
    this.#size = values.length
    this.#ring.set(values)
    this.#sorted.set(values.sort())
  }

  #tail(): number {
    return Math.max(tailMin, Math.floor(this.#size * tailShare))
  }

  /**
   * The tail beyond its first value, as a generalised Pareto distribution by the method of moments (Hosking and Wallis 1987), its shape held between
   * the exponential one and `shapeMax`. Ranks bound it: never more than twice what they say.
   */
  #beyond(rank: number, tail: number, side: 1 | -1, distance: number): number {
    const n = this.#size
    const ranked = rank / (n + 1)
    const from = this.#sorted[side === 1 ? n - 1 - tail : tail]!
    let [sum, squares] = [0, 0]
    for (let i = 0; i < tail; i++) {
      const excess = side * (this.#sorted[side === 1 ? n - 1 - i : i]! - from)
      sum += excess
      squares += excess * excess
    }
    // All of them are one value: what is beyond it never was, and how far it is tells nothing.
    if (!(sum > 0)) return Math.max(rarest, rank > 0.5 ? ranked : ranked / (n + 1))
    const mean = sum / tail
    const variance = squares / tail - mean * mean
    const shape = Math.min(shapeMax, Math.max(0, (1 - (mean * mean) / variance) / 2))
    const scale = mean * (1 - shape)
    const beyond = shape < 1e-6 ? Math.exp(-distance / scale) : (1 + (shape * distance) / scale) ** (-1 / shape)
    return Math.max(rarest, Math.min(2 * ranked, (tail / (n + 1)) * beyond))
  }

  #replace(oldest: number, value: number): void {
    const out = this.#placeOf(oldest, false)
    const place = this.#placeOf(value, true)
    if (place > out) {
      this.#sorted.copyWithin(out, out + 1, place)
      this.#sorted[place - 1] = value
    } else {
      this.#sorted.copyWithin(place + 1, place, out)
      this.#sorted[place] = value
    }
  }

  /** How many are smaller; with `through`, how many are not larger. */
  #placeOf(value: number, through: boolean): number {
    let [low, high] = [0, this.#size]
    while (low < high) {
      const middle = (low + high) >> 1
      const other = this.#sorted[middle]!
      if (other < value || (through && other === value)) low = middle + 1
      else high = middle
    }
    return low
  }
}
