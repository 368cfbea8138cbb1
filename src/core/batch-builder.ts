import type { Batch, SeriesKey } from './batch.ts'

/**
 * Columns that grow. A message is written row by row and rolled back as a whole when it turns out to be bad:
 * `const mark = builder.rows; …; if (bad) builder.rollback(mark)`.
 */
export class BatchBuilder {
  rows = 0
  keys: readonly SeriesKey[]
  series: Uint32Array
  timeUs: Float64Array
  value: Float64Array
  flags: Uint8Array
  #anyFlags = false
  #text: Map<number, string> | undefined
  #meta: Map<number, string> | undefined
  #origins = 0
  #originRow = new Uint32Array(64)
  #originHigh = new Uint32Array(64)
  #originLow = new Uint32Array(64)

  constructor(keys: readonly SeriesKey[], capacity = 1024) {
    this.keys = keys
    this.series = new Uint32Array(capacity)
    this.timeUs = new Float64Array(capacity)
    this.value = new Float64Array(capacity)
    this.flags = new Uint8Array(capacity)
  }

  add(series: number, timeUs: number, value: number, flags: number): void {
    const row = this.rows
    if (row === this.series.length) this.#grow()
    this.series[row] = series
    this.timeUs[row] = timeUs
    this.value[row] = value
    this.flags[row] = flags
    if (flags !== 0) this.#anyFlags = true
    this.rows = row + 1
  }

  addText(series: number, timeUs: number, text: string, flags: number): void {
    this.#text ??= new Map()
    this.#text.set(this.rows, text)
    this.add(series, timeUs, Number.NaN, flags)
  }

  /** Free metadata of the message whose first row is `row`. */
  addMeta(row: number, json: string): void {
    this.#meta ??= new Map()
    this.#meta.set(row, json)
  }

  /** The message whose rows start at `row` has no time of its own; this is how a redelivery is known. */
  addOrigin(row: number, hashHigh: number, hashLow: number): void {
    const n = this.#origins
    if (n === this.#originRow.length) {
      this.#originRow = doubled(this.#originRow)
      this.#originHigh = doubled(this.#originHigh)
      this.#originLow = doubled(this.#originLow)
    }
    this.#originRow[n] = row
    this.#originHigh[n] = hashHigh
    this.#originLow[n] = hashLow
    this.#origins = n + 1
  }

  /** Adds bits to the flags of all rows from `row` on. */
  mark(row: number, flag: number): void {
    for (let i = row; i < this.rows; i++) this.flags[i]! |= flag
    if (this.rows > row) this.#anyFlags = true
  }

  rollback(rows: number): void {
    if (this.#text !== undefined) for (const row of this.#text.keys()) if (row >= rows) this.#text.delete(row)
    if (this.#meta !== undefined) for (const row of this.#meta.keys()) if (row >= rows) this.#meta.delete(row)
    while (this.#origins > 0 && this.#originRow[this.#origins - 1]! >= rows) this.#origins--
    this.rows = rows
  }

  /** What was built, as views on this builder's arrays: valid until `reset`. */
  view(): Batch {
    const rows = this.rows
    return {
      rows,
      keys: this.keys,
      series: this.series.subarray(0, rows),
      timeUs: this.timeUs.subarray(0, rows),
      value: this.value.subarray(0, rows),
      ...(this.#anyFlags ? { flags: this.flags.subarray(0, rows) } : {}),
      ...(this.#text !== undefined && this.#text.size > 0 ? { text: this.#text } : {}),
      ...(this.#meta !== undefined && this.#meta.size > 0 ? { meta: this.#meta } : {}),
      ...(this.#origins > 0
        ? {
            origin: {
              count: this.#origins,
              firstRow: this.#originRow.subarray(0, this.#origins),
              hashHigh: this.#originHigh.subarray(0, this.#origins),
              hashLow: this.#originLow.subarray(0, this.#origins),
            },
          }
        : {}),
    }
  }

  reset(): void {
    this.rows = 0
    this.#anyFlags = false
    this.#text = undefined
    this.#meta = undefined
    this.#origins = 0
  }

  #grow(): void {
    const capacity = this.series.length * 2
    const series = new Uint32Array(capacity)
    series.set(this.series)
    this.series = series
    const timeUs = new Float64Array(capacity)
    timeUs.set(this.timeUs)
    this.timeUs = timeUs
    const value = new Float64Array(capacity)
    value.set(this.value)
    this.value = value
    const flags = new Uint8Array(capacity)
    flags.set(this.flags)
    this.flags = flags
  }
}

function doubled(a: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const b = new Uint32Array(a.length * 2)
  b.set(a)
  return b
}
