import { KymoError } from '../../core/errors.ts'
import type { KeepMinutes } from '../levels.ts'

export type { KeepMinutes }

const none = Number.POSITIVE_INFINITY
const never = Number.NEGATIVE_INFINITY

/**
 * What the store knows of each series without asking the engine, as one row of numbers per series (times in microseconds):
 * latest values and bounds, and up to where the rollups speak for the rows. `closed`: all rows before it are in a rollup row of
 * that width. `open`: the first row that may not be. `pending`: the first row at or after `closed` that the bucket which is
 * still to come will not contain (late, or reordered across a border), so that it must be computed from rows when it closes.
 */
export const field = {
  first: 0,
  last: 1,
  lastValue: 2,
  lastFlags: 3,
  /** Rows with their clock ahead: known as latest only when there is nothing else. */
  aheadLast: 4,
  aheadValue: 5,
  aheadFlags: 6,
  /** Between these times lie the rows of the late table. */
  lateFirst: 7,
  lateLast: 8,
  /** Bits of `trait`. */
  traits: 9,
  /** Of the minute level; the hour's follow `levelWidth` further on. */
  closed: 10,
  open: 11,
  pending: 12,
  /** The last row that waits for its bucket to close and is not in the late table. */
  pendingLast: 13,
  /** Minute rows are kept from here on; what lies before is only in rows (and hours). Infinity: none ever were. */
  minuteFrom: 18,
  /** Sparse minutes in a row; Infinity: minutes are not kept. */
  sparse: 19,
  /** Between these times lie the buckets of either width that were computed again. */
  correctedFirst: 20,
  correctedLast: 21,
  /** Readings before it have been removed, of this series before those of others: no bucket before it is computed again. */
  rawFrom: 22,
} as const
export const levelWidth = 4
export const stateWidth = 23

/** In `minutes_kept`: from here on minutes are not kept. No bucket begins there. */
export const notKept = 1

/** A minute row costs as much as five readings, on disk and to write, and is quicker to read only where it stands for more. */
export const keepMinutes: KeepMinutes = { dense: 6, sparse: 2, minutes: 60 }

/** Of formats 1 and 2, whose columns are the first of ours. */
const format1Width = 18
const format2Width = 22

export const trait = { text: 1, meta: 2 } as const

const fresh = new Float64Array(stateWidth)
fresh[field.first] = none
fresh[field.last] = never
fresh[field.aheadLast] = never
fresh[field.lateFirst] = none
fresh[field.lateLast] = never
fresh[field.minuteFrom] = none
fresh[field.sparse] = none
fresh[field.correctedFirst] = none
fresh[field.correctedLast] = never
for (const level of [0, levelWidth]) {
  fresh[field.closed + level] = never
  fresh[field.open + level] = none
  fresh[field.pending + level] = none
  fresh[field.pendingLast + level] = never
}

export class SeriesState {
  /** `cells[id * stateWidth + field.x]`. Replaced when it grows: fetch it anew after `reserve`. */
  cells = new Float64Array(0)
  #size = 0

  get size(): number {
    return this.#size
  }

  reserve(size: number): void {
    if (size <= this.#size) return
    if (size * stateWidth > this.cells.length) {
      const cells = new Float64Array(Math.max(256, size, this.#size * 2) * stateWidth)
      cells.set(this.cells.subarray(0, this.#size * stateWidth))
      this.cells = cells
    }
    for (let id = this.#size; id < size; id++) this.cells.set(fresh, id * stateWidth)
    this.#size = size
  }

  clear(): void {
    this.#size = 0
  }

  /** A series of which nothing is known, as one that has never spoken. */
  forget(id: number): void {
    this.cells.set(fresh, id * stateWidth)
  }

  /** Readings of a series before this time have been removed, or are about to be. Returns whether that is news. */
  expireRaw(id: number, rawUs: number): boolean {
    const at = id * stateWidth + field.rawFrom
    if (this.cells[at]! >= rawUs) return false
    this.cells[at] = rawUs
    return true
  }

  /** Minutes and hours of a series before these times have been removed: what is asked for from now on lies after them. Returns whether that is news. */
  expire(id: number, minutesUs: number, hoursUs: number): boolean {
    const { cells } = this
    const at = id * stateWidth
    // One that has been silent for so long keeps its last value, and says when that was.
    const firstUs = Math.min(hoursUs, Math.max(cells[at + field.last]!, cells[at + field.lateLast]!))
    const news = cells[at + field.minuteFrom]! < minutesUs || cells[at + field.first]! < firstUs
    if (cells[at + field.minuteFrom]! < minutesUs) cells[at + field.minuteFrom] = minutesUs
    if (cells[at + field.first]! < firstUs) cells[at + field.first] = firstUs
    return news
  }

  /** Little-endian doubles, `stateWidth` a series in order of id, after one that says `stateWidth`. */
  encode(): Uint8Array {
    const bytes = new Float64Array(1 + this.#size * stateWidth)
    bytes[0] = stateWidth
    bytes.set(this.cells.subarray(0, this.#size * stateWidth), 1)
    return new Uint8Array(bytes.buffer)
  }

  restore(bytes: Uint8Array): void {
    const numbers = new Float64Array(new Uint8Array(bytes).buffer)
    if (numbers[0] === format1Width || numbers[0] === format2Width) {
      this.#restoreNarrower(numbers.subarray(1), numbers[0])
      return
    }
    if (numbers[0] !== stateWidth || (numbers.length - 1) % stateWidth !== 0) {
      throw new KymoError('store_format', { detail: `The state of the series has ${numbers[0]} numbers each; this version knows ${stateWidth}.` })
    }
    this.clear()
    this.reserve((numbers.length - 1) / stateWidth)
    this.cells.set(numbers.subarray(1))
  }

  /** Format 1 kept all minutes of all series. */
  #restoreNarrower(numbers: Float64Array, width: number): void {
    this.clear()
    this.reserve(numbers.length / width)
    for (let id = 0; id < this.#size; id++) {
      const at = id * stateWidth
      this.cells.set(numbers.subarray(id * width, (id + 1) * width), at)
      if (width !== format1Width) continue
      if (this.cells[at + field.closed] === never) continue
      this.cells[at + field.minuteFrom] = never
      this.cells[at + field.sparse] = 0
    }
  }
}
