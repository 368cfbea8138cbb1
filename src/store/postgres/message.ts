import type { CopyRows } from './copy-in.ts'
import { columnsMax } from './layout.ts'

/** One row of `messages` while its readings are gathered. */
export class Message {
  empty = true
  /** It has text or metadata. */
  worded = false
  #device = 0
  #timeUs = 0
  #flagsHigh = 0
  #flagsLow = 0
  readonly #values = new Float64Array(columnsMax).fill(Number.NaN)
  readonly #texts: (string | undefined)[] = Array.from({ length: 2 * columnsMax }, () => undefined)

  /** Columns count from 1. */
  add(device: number, timeUs: number, column: number, value: number, flags: number, text: string | undefined, meta: string | undefined): void {
    this.empty = false
    this.#device = device
    this.#timeUs = timeUs
    this.#values[column - 1] = value
    if (column <= 4) this.#flagsLow |= flags << (8 * (column - 1))
    else this.#flagsHigh |= flags << (8 * (column - 5))
    if (text === undefined && meta === undefined) return
    this.worded = true
    this.#texts[2 * column - 2] = text
    this.#texts[2 * column - 1] = meta
  }

  /** As the columns time, device, v1 to v`columns`, flags, and, where it is worded, extra. Begins the next one. */
  write(to: CopyRows, columns: number): void {
    to.row((this.worded ? 4 : 3) + columns)
    to.time(this.#timeUs)
    to.int4(this.#device)
    for (let column = 0; column < columns; column++) to.float8(this.#values[column]!)
    to.bits(this.#flagsHigh, this.#flagsLow)
    if (this.worded) to.texts(this.#texts)
    this.#values.fill(Number.NaN)
    this.#texts.fill(undefined)
    this.#flagsHigh = 0
    this.#flagsLow = 0
    this.empty = true
    this.worded = false
  }
}
