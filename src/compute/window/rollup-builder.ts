import type { SeriesKey } from '../../core/batch.ts'
import type { RollupColumns } from '../../core/ports.ts'

const names = ['timeUs', 'count', 'mean', 'm2', 'min', 'max', 'first', 'firstUs', 'last', 'lastUs', 'sum'] as const

/** Gathers buckets of one width as columns. What `take` gives out is the receiver's to keep. */
export class RollupBuilder {
  readonly #stepUs: number
  readonly #keys: readonly SeriesKey[]
  #series = new Uint32Array(32)
  /** One after the other, `names.length` numbers a bucket. */
  #cells = new Float64Array(32 * names.length)
  #rows = 0

  constructor(stepUs: number, keys: readonly SeriesKey[]) {
    this.#stepUs = stepUs
    this.#keys = keys
  }

  /** Copies a bucket whose columns stand in the order of `names` from `at` on. */
  add(series: number, state: Float64Array, at: number): void {
    const cell = this.#next(series)
    for (let c = 0; c < names.length; c++) this.#cells[cell + c] = state[at + c]!
  }

  /** A bucket that is to be computed again from the rows. */
  again(series: number, startUs: number): void {
    const cell = this.#next(series)
    this.#cells.fill(0, cell, cell + names.length)
    this.#cells[cell] = startUs
  }

  take(): RollupColumns | undefined {
    const rows = this.#rows
    if (rows === 0) return undefined
    this.#rows = 0
    const columns = {} as Record<(typeof names)[number], Float64Array>
    names.forEach((name, c) => {
      const values = new Float64Array(rows)
      for (let i = 0; i < rows; i++) values[i] = this.#cells[i * names.length + c]!
      columns[name] = values
    })
    return { stepUs: this.#stepUs, rows, keys: this.#keys, series: this.#series.slice(0, rows), ...columns }
  }

  #next(series: number): number {
    if (this.#rows === this.#series.length) {
      const grown = new Uint32Array(this.#rows * 2)
      grown.set(this.#series)
      this.#series = grown
      const cells = new Float64Array(this.#cells.length * 2)
      cells.set(this.#cells)
      this.#cells = cells
    }
    this.#series[this.#rows] = series
    return this.#rows++ * names.length
  }
}
