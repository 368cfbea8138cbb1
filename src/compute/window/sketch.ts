import { KymoError } from '../../core/errors.ts'

/** A quantile is answered with at most this relative error. */
export const relativeError = 0.01
/** Each bin is this many times as wide as the one below it (DDSketch, definition 4). */
export const gamma = (1 + relativeError) / (1 - relativeError)
export const logGamma = Math.log(gamma)
/** What is nearer to 0 counts as 0: the smallest normal double. */
export const leastMagnitude = 2 ** -1022
/** Added to the bin of a magnitude, so that a negative value's bin is the positive one's with the sign changed, and 0 is that of zero. */
export const keyOffset = 1 - Math.ceil(Math.log(leastMagnitude) / logGamma)
/** One below the bin of the most negative double. */
const belowKeys = -Math.ceil(Math.log(Number.MAX_VALUE) / logGamma) - keyOffset - 1
/** Of one sign they span a ratio of 6e17 between the greatest value and the smallest, beyond which the smallest are put together. */
export const sketchBinsMax = 2048
const version = 1

/** The bin of a value: (gamma^(i-1), gamma^i] is i + offset, in the order of the values. */
function keyOf(value: number): number {
  const magnitude = Math.abs(value)
  if (magnitude < leastMagnitude) return 0
  const key = Math.ceil(Math.log(Math.min(magnitude, Number.MAX_VALUE)) / logGamma) + keyOffset
  return value < 0 ? -key : key
}

/** The value of a bin that is at most `relativeError` from all of its values. */
function valueOf(key: number): number {
  if (key === 0) return 0
  const value = (2 * gamma ** (Math.abs(key) - keyOffset)) / (gamma + 1)
  return key < 0 ? -value : value
}

/**
 * Quantiles of a stream in bounded memory: DDSketch (Masson, Rim, Lee: "DDSketch: A fast and fully-mergeable quantile sketch with
 * relative-error guarantees", VLDB 2019). Merging sketches of parts gives the sketch of the whole, bit for bit. Above `sketchBinsMax` bins those of
 * the smallest magnitudes become one for each sign, and quantiles that fall there lose the bound. The bytes: docs/format/sketch.md.
 */
export class Sketch {
  readonly #bins = new Map<number, number>()
  #floor = 1
  #count = 0
  #min = Number.POSITIVE_INFINITY
  #max = Number.NEGATIVE_INFINITY

  get count(): number {
    return this.#count
  }

  get bins(): number {
    return this.#bins.size
  }

  /** NaN is no value. */
  add(value: number): void {
    if (Number.isNaN(value)) return
    this.#put(keyOf(value), 1)
    this.#min = Math.min(this.#min, value)
    this.#max = Math.max(this.#max, value)
    this.#shrink()
  }

  /** Adds what another one has seen. */
  merge(other: Sketch): void {
    this.#raise(other.#floor)
    for (const [key, count] of other.#bins) this.#put(key, count)
    this.#min = Math.min(this.#min, other.#min)
    this.#max = Math.max(this.#max, other.#max)
    this.#shrink()
  }

  /** The value of rank floor(q (n - 1)), within `relativeError`; 0 <= q <= 1. NaN when nothing was added. */
  quantile(q: number): number {
    if (this.#count === 0) return Number.NaN
    let rank = Math.floor(q * (this.#count - 1))
    for (const [key, count] of this.#sorted()) {
      if (rank < count) return Math.min(Math.max(valueOf(key), this.#min), this.#max)
      rank -= count
    }
    return this.#max
  }

  encode(): Uint8Array {
    const head = new DataView(new ArrayBuffer(17))
    head.setUint8(0, version)
    head.setFloat64(1, this.#min, true)
    head.setFloat64(9, this.#max, true)
    const bytes = [...new Uint8Array(head.buffer)]
    const varint = (value: number): void => {
      let left = value
      for (; left >= 128; left = Math.floor(left / 128)) bytes.push((left % 128) + 128)
      bytes.push(left)
    }
    varint(this.#floor)
    varint(this.#bins.size)
    let last = belowKeys
    for (const [key, count] of this.#sorted()) {
      varint(key - last)
      varint(count)
      last = key
    }
    return Uint8Array.from(bytes)
  }

  /** Throws `store_corrupt` for anything but what `encode` gave. */
  static decode(bytes: Uint8Array): Sketch {
    const corrupt = (): KymoError => new KymoError('store_corrupt', { detail: 'A sketch is not understood.' })
    if (bytes.length < 19 || bytes[0] !== version) throw corrupt()
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let at = 17
    const varint = (): number => {
      let value = 0
      for (let scale = 1; ; scale *= 128) {
        const byte = bytes[at++]
        if (byte === undefined || scale > 2 ** 49) throw corrupt()
        value += (byte % 128) * scale
        if (byte < 128) return value
      }
    }
    const sketch = new Sketch()
    sketch.#min = view.getFloat64(1, true)
    sketch.#max = view.getFloat64(9, true)
    sketch.#floor = varint()
    const bins = varint()
    if (bins > sketchBinsMax) throw corrupt()
    let key = belowKeys
    for (let i = 0; i < bins; i++) {
      const step = varint()
      const count = varint()
      key += step
      if (step === 0 || count === 0 || (key !== 0 && Math.abs(key) < sketch.#floor)) throw corrupt()
      sketch.#put(key, count)
    }
    if (at !== bytes.length) throw corrupt()
    return sketch
  }

  #sorted(): (readonly [key: number, count: number])[] {
    return [...this.#bins].sort((a, b) => a[0] - b[0])
  }

  #put(key: number, count: number): void {
    const kept = key === 0 ? 0 : Math.sign(key) * Math.max(Math.abs(key), this.#floor)
    this.#bins.set(kept, (this.#bins.get(kept) ?? 0) + count)
    this.#count += count
  }

  /**
   * Raises the floor to the lowest that leaves few enough bins. It depends on nothing but which bins there were, and those of a part are among those
   * of the whole: so merging does not depend on the order.
   */
  #shrink(): void {
    while (this.#bins.size > sketchBinsMax) {
      let next = Number.POSITIVE_INFINITY
      for (const key of this.#bins.keys()) if (Math.abs(key) > this.#floor) next = Math.min(next, Math.abs(key))
      this.#raise(next)
    }
  }

  #raise(floor: number): void {
    if (floor <= this.#floor) return
    this.#floor = floor
    const low = [...this.#bins].filter(([key]) => key !== 0 && Math.abs(key) < floor)
    for (const [key, count] of low) {
      this.#bins.delete(key)
      this.#count -= count
      this.#put(key, count)
    }
  }
}
