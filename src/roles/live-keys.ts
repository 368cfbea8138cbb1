import type { Batch, SeriesKey } from '../core/batch.ts'

const unknown = -1

/**
 * What a consumer calls the series of a batch, by their place in the batch's `keys`: filled when a series is first met, so
 * that a row costs one array access. A reader's `keys` only grow and keep their order, so the map lives as long as the reader.
 */
export class KeyNumbers {
  readonly #resolve: (key: SeriesKey) => number
  #keys: readonly SeriesKey[] | undefined
  #numbers = new Int32Array(1024).fill(unknown)

  /** `resolve` may give -1: not to be kept; it is asked again at the series' next row. */
  constructor(resolve: (key: SeriesKey) => number) {
    this.#resolve = resolve
  }

  /** The device was erased: its series are asked for again when they are met again. */
  forget(tenant: string, device: string): void {
    this.#keys?.forEach((key, i) => {
      if (i < this.#numbers.length && key.device === device && key.tenant === tenant) this.#numbers[i] = unknown
    })
  }

  /** The consumer's numbers for this batch's keys; entries that rows of the batch refer to are filled. */
  of(batch: Batch): Int32Array {
    const { keys, series, rows } = batch
    if (keys !== this.#keys) {
      this.#numbers.fill(unknown, 0, this.#keys?.length ?? 0)
      this.#keys = keys
    }
    if (keys.length > this.#numbers.length) {
      const grown = new Int32Array(Math.max(keys.length, this.#numbers.length * 2)).fill(unknown)
      grown.set(this.#numbers)
      this.#numbers = grown
    }
    const numbers = this.#numbers
    for (let row = 0; row < rows; row++) {
      const at = series[row]!
      if (numbers[at]! < 0) numbers[at] = this.#resolve(keys[at]!)
    }
    return numbers
  }
}
