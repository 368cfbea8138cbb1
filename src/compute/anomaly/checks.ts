import { KymoError } from '../../core/errors.ts'
import type { StateReader, StateWriter } from '../window/state-bytes.ts'
import type { Anomaly } from './anomaly.ts'

/**
 * Checks against limits that a person set, or that follow from how the sensor sends: each takes the readings of one series in the order of their
 * times and looks at each once. They say when something begins, not again with every reading while it lasts. A value that is no number changes nothing.
 * `write` and `read` are their state, as part of another; limits are not part of it.
 */
export interface Check {
  observe(timeUs: number, value: number): Anomaly | undefined
  write(writer: StateWriter): void
  /** Throws store_format where the state is of another check. */
  read(reader: StateReader): void
}

const usable = (timeUs: number, value: number): boolean => Number.isFinite(timeUs) && Number.isFinite(value)

function numbersOf(reader: StateReader, count: number): Float64Array {
  const numbers = reader.f64s()
  if (numbers.length !== count) throw new KymoError('store_format', { detail: 'A snapshot of a check does not hold what it should.' })
  return numbers
}

function written(writer: StateWriter, ...numbers: readonly number[]): void {
  writer.f64s(Float64Array.from(numbers))
}

/** Values outside of [min, max] (either may be left out). */
export class RangeCheck implements Check {
  readonly #min: number
  readonly #max: number
  #isOutside = false

  constructor({ min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY }: { readonly min?: number; readonly max?: number }) {
    if (!(min <= max)) throw new KymoError('bug', { detail: `a range from ${min} to ${max}` })
    this.#min = min
    this.#max = max
  }

  observe(timeUs: number, value: number): Anomaly | undefined {
    if (!usable(timeUs, value)) return undefined
    const was = this.#isOutside
    this.#isOutside = value < this.#min || value > this.#max
    if (!this.#isOutside || was) return undefined
    const [lower, upper] = [Number.isFinite(this.#min) ? this.#min : undefined, Number.isFinite(this.#max) ? this.#max : undefined]
    const threshold = value < this.#min ? this.#min : this.#max
    return { kind: 'range', timeUs, value, expected: threshold, lower, upper, statistic: 'value', size: value, threshold, rarity: undefined }
  }

  write(writer: StateWriter): void {
    written(writer, this.#isOutside ? 1 : 0)
  }

  read(reader: StateReader): void {
    this.#isOutside = numbersOf(reader, 1)[0] === 1
  }
}

/** Changes faster than `perSecond`, up or down. Readings of the same time have no rate. */
export class RateCheck implements Check {
  readonly #perSecond: number
  #lastUs = Number.NaN
  #last = Number.NaN
  #isFast = false

  constructor({ perSecond }: { readonly perSecond: number }) {
    if (!(perSecond > 0)) throw new KymoError('bug', { detail: `a rate of ${perSecond} a second` })
    this.#perSecond = perSecond
  }

  observe(timeUs: number, value: number): Anomaly | undefined {
    if (!usable(timeUs, value) || timeUs <= this.#lastUs) return undefined
    const [last, seconds] = [this.#last, (timeUs - this.#lastUs) / 1e6]
    this.#lastUs = timeUs
    this.#last = value
    const rate = Math.abs(value - last) / seconds
    const was = this.#isFast
    this.#isFast = rate > this.#perSecond && Number.isFinite(rate)
    if (!this.#isFast || was) return undefined
    const [reach, threshold] = [this.#perSecond * seconds, this.#perSecond]
    const interval = { expected: last, lower: last - reach, upper: last + reach }
    return { kind: 'rate', timeUs, value, ...interval, statistic: 'change a second', size: rate, threshold, rarity: undefined }
  }

  write(writer: StateWriter): void {
    written(writer, this.#lastUs, this.#last, this.#isFast ? 1 : 0)
  }

  read(reader: StateReader): void {
    const [lastUs, last, isFast] = numbersOf(reader, 3)
    this.#lastUs = lastUs!
    this.#last = last!
    this.#isFast = isFast === 1
  }
}

/** The same value, give or take `tolerance`, for `forUs` and at least `readings` readings: a sensor that hangs, or is frozen. */
export class StuckCheck implements Check {
  readonly #forUs: number
  readonly #readings: number
  readonly #tolerance: number
  #sinceUs = Number.NaN
  #value = Number.NaN
  #count = 0
  #isTold = false

  constructor({ forUs, readings = 8, tolerance = 0 }: { readonly forUs: number; readonly readings?: number; readonly tolerance?: number }) {
    if (!(forUs > 0 && readings >= 2 && tolerance >= 0)) throw new KymoError('bug', { detail: `stuck for ${forUs} us, ${readings} readings` })
    this.#forUs = forUs
    this.#readings = readings
    this.#tolerance = tolerance
  }

  observe(timeUs: number, value: number): Anomaly | undefined {
    if (!usable(timeUs, value)) return undefined
    if (!(Math.abs(value - this.#value) <= this.#tolerance)) {
      this.#sinceUs = timeUs
      this.#value = value
      this.#count = 1
      this.#isTold = false
      return undefined
    }
    this.#count++
    const lasts = timeUs - this.#sinceUs
    if (this.#isTold || lasts < this.#forUs || this.#count < this.#readings) return undefined
    this.#isTold = true
    const seconds = { size: lasts / 1e6, threshold: this.#forUs / 1e6 }
    const unknown = { expected: undefined, lower: undefined, upper: undefined, rarity: undefined }
    return { kind: 'stuck', timeUs, value, ...unknown, statistic: 'seconds without a change', ...seconds }
  }

  write(writer: StateWriter): void {
    written(writer, this.#sinceUs, this.#value, this.#count, this.#isTold ? 1 : 0)
  }

  read(reader: StateReader): void {
    const [sinceUs, value, count, isTold] = numbersOf(reader, 4)
    this.#sinceUs = sinceUs!
    this.#value = value!
    this.#count = count!
    this.#isTold = isTold === 1
  }
}

const intervalsKept = 32

/**
 * Longer silence than `factor` times the usual interval: the median of the latest 32, or `everyUs` where it is known. `observe` finds a gap when it
 * ends; `overdue` one that goes on, for which a clock has to ask.
 */
export class GapCheck implements Check {
  readonly #factor: number
  readonly #everyUs: number | undefined
  #intervals = new Float64Array(0)
  #lastUs = Number.NaN
  #value = Number.NaN
  #isTold = false

  constructor({ factor = 5, everyUs }: { readonly factor?: number; readonly everyUs?: number } = {}) {
    if (!(factor > 1 && (everyUs ?? 1) > 0)) throw new KymoError('bug', { detail: `a gap of ${factor} times ${everyUs} us` })
    this.#factor = factor
    this.#everyUs = everyUs
  }

  observe(timeUs: number, value: number): Anomaly | undefined {
    if (!usable(timeUs, value) || timeUs <= this.#lastUs) return undefined
    const interval = timeUs - this.#lastUs
    const found = this.#isTold ? undefined : this.#gap(timeUs, value)
    if (Number.isFinite(interval))
      this.#intervals = Float64Array.of(...this.#intervals.subarray(this.#intervals.length < intervalsKept ? 0 : 1), interval)
    this.#lastUs = timeUs
    this.#value = value
    this.#isTold = false
    return found
  }

  /** Whether the next reading is overdue at this moment; said once for each silence. The value is the last that came. */
  overdue(nowUs: number): Anomaly | undefined {
    if (this.#isTold) return undefined
    const found = this.#gap(nowUs, this.#value)
    this.#isTold = found !== undefined
    return found
  }

  write(writer: StateWriter): void {
    written(writer, this.#lastUs, this.#value, this.#isTold ? 1 : 0)
    writer.f64s(this.#intervals)
  }

  read(reader: StateReader): void {
    const [lastUs, value, isTold] = numbersOf(reader, 3)
    this.#lastUs = lastUs!
    this.#value = value!
    this.#isTold = isTold === 1
    this.#intervals = reader.f64s().slice(-intervalsKept)
  }

  #gap(timeUs: number, value: number): Anomaly | undefined {
    const usualUs = this.#everyUs ?? this.#median()
    const silence = timeUs - this.#lastUs
    if (!(silence > this.#factor * usualUs)) return undefined
    const seconds = { size: silence / 1e6, threshold: (this.#factor * usualUs) / 1e6 }
    const unknown = { expected: undefined, lower: undefined, upper: undefined, rarity: undefined }
    return { kind: 'gap', timeUs, value, ...unknown, statistic: 'seconds of silence', ...seconds }
  }

  /** NaN of fewer than four intervals: one that was long would be taken for the usual. */
  #median(): number {
    return this.#intervals.length < 4 ? Number.NaN : this.#intervals.toSorted()[this.#intervals.length >> 1]!
  }
}
