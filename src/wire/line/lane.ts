import { Flag } from '../../core/batch.ts'
import type { BatchBuilder } from '../../core/batch-builder.ts'
import { limits } from '../../core/limits.ts'
import type { SeriesTable } from '../../core/series-table.ts'
import { asciiText, Byte, utf8Text } from '../json/text.ts'
import type { Heads } from './heads.ts'
import { booleanLength, exactDecimal, lineTimeUs, numberBytesMax } from './number.ts'

const equals = 0x3d
/** How far ahead of its usual place a field is looked for: lines leave fields out, or say them in another order. */
const lookAhead = 32

/**
 * The fast lane of line protocol: lines whose beginning is known, with fields that, byte for byte, its lines had before. It changes nothing but
 * the batch, allocates nothing unless a value is text or has more than 15 digits, and knows no errors: whatever it does not take, the general lane
 * judges.
 */
export class LineLane {
  /** Of the line that was taken last: had it a time? */
  ownTime = false
  readonly #series: SeriesTable
  readonly #heads: Heads
  /** Number of the line in which a field of a beginning was last met: two of a kind are the general lane's to refuse. */
  readonly #met = new Int32Array(limits.metricsPerDeviceMax)
  #line = 0

  constructor(series: SeriesTable, heads: Heads) {
    this.#series = series
    this.#heads = heads
  }

  /**
   * True: taken, its rows are in `out`. False: nothing happened. `head`: the line's beginning, which ends at `keyEnd`; the line
   * ends at `end`, without white space. `unitUs`: see `lineUnitUs`.
   */
  take(
    bytes: Uint8Array,
    keyEnd: number,
    end: number,
    head: number,
    unitUs: number,
    receivedUs: number,
    oldestUs: number,
    out: BatchBuilder,
  ): boolean {
    // The time first, as rows need it: the digits behind the last space. What is wrong with this shows where the fields end.
    let last = end
    let from = last
    while (isDigit(bytes[from - 1]!)) from--
    let timeUs = receivedUs
    let flags: number = Flag.arrivalTime
    const ownTime = from < last && bytes[from - 1] === Byte.space
    if (ownTime) {
      timeUs = lineTimeUs(bytes, from, last, unitUs)
      if (Number.isNaN(timeUs)) return false
      flags = timeUs > receivedUs + limits.clockAheadMaxUs ? Flag.clockAhead : 0
      last = from - 1
    }
    if (timeUs < oldestUs) return false
    const mark = out.rows
    if (this.#rows(bytes, keyEnd + 1, last, head, timeUs, flags, out)) {
      this.ownTime = ownTime
      return true
    }
    if (out.rows > mark) out.rollback(mark)
    return false
  }

  /** One long loop on purpose, as in the fast lane of JSON: calls for keys and numbers would cost a third of it. */
  #rows(bytes: Uint8Array, from: number, last: number, head: number, timeUs: number, flags: number, out: BatchBuilder): boolean {
    const { field: fields, series } = this.#heads
    const { arena, offset, length } = this.#heads.fields
    const first = this.#heads.first[head]!
    const count = this.#heads.count[head]!
    const { numeric } = this.#series
    const met = this.#met
    const line = (this.#line = (this.#line + 1) | 0)
    let at = from
    let next = 0
    for (;;) {
      // Lines resemble each other: the field that followed the last one most likely follows it again.
      let index = -1
      for (let tries = Math.min(count, lookAhead), i = next; tries > 0; tries--, i++) {
        if (i >= count) i = 0
        const field = fields[first + i]!
        const known = offset[field]!
        const knownLength = length[field]!
        let j = 0
        while (j < knownLength && arena[known + j] === bytes[at + j]) j++
        if (j < knownLength || bytes[at + j] !== equals) continue
        at += j + 1
        index = i
        break
      }
      if (index < 0 || at >= last || met[index] === line) return false
      met[index] = line
      next = index + 1
      const id = series[first + index]!
      let c = bytes[at]!
      if (c === Byte.minus || c === Byte.point || isDigit(c)) {
        if (numeric[id] !== 1) return false
        const begin = at
        const negative = c === Byte.minus
        if (negative) at++
        let significand = 0
        let digits = 0
        let scale = 0
        for (c = bytes[at]!; isDigit(c); c = bytes[++at]!) {
          significand = significand * 10 + (c - Byte.zero)
          digits++
        }
        if (c === Byte.point) {
          const point = at
          for (c = bytes[++at]!; isDigit(c); c = bytes[++at]!) significand = significand * 10 + (c - Byte.zero)
          scale = at - point - 1
          digits += scale
          if (digits === 0) return false
        } else if (digits === 0) return false
        else if ((c === 0x69 || (c === 0x75 && !negative)) && at < last) {
          // Integers beyond 2^53 are kept as text: not here.
          if (significand > Number.MAX_SAFE_INTEGER) return false
          at++
        }
        let value = (c | 0x20) === 0x65 && at < last ? Number.NaN : exactDecimal(significand, scale)
        if (Number.isNaN(value)) {
          // An exponent, or digits that one rounding cannot take in: as the runtime reads it. Both were checked for what may stand here.
          if (at < last && (c | 0x20) === 0x65) {
            c = bytes[++at]!
            if (c === Byte.minus || c === Byte.plus) c = bytes[++at]!
            const exponent = at
            while (isDigit(c)) c = bytes[++at]!
            if (at === exponent || at > last) return false
          }
          if (at - begin > numberBytesMax) return false
          value = Number(asciiText(bytes, negative ? begin + 1 : begin, at))
          if (!Number.isFinite(value)) return false
        }
        out.add(id, timeUs, negative ? 0 - value : value, flags)
      } else if (c === Byte.quote) {
        const opened = ++at
        for (c = bytes[at]!; c !== Byte.quote; c = bytes[++at]!) {
          if (c === Byte.backslash || c === 0 || c > 0x7f || at >= last) return false
        }
        if (numeric[id] === 1 || at - opened > limits.textBytesMax || at >= last) return false
        out.addText(id, timeUs, utf8Text(bytes, opened, at), flags | Flag.text)
        at++
      } else {
        if (numeric[id] !== 1) return false
        const word = booleanLength(bytes, at, last)
        if (word === 0) return false
        out.add(id, timeUs, (c | 0x20) === 0x74 ? 1 : 0, flags | Flag.boolean)
        at += word
      }
      if (at >= last) return at === last
      if (bytes[at] !== Byte.comma) return false
      at++
    }
  }
}

/** False beyond the buffer's end, too. */
function isDigit(c: number): boolean {
  return c >= Byte.zero && c <= Byte.nine
}
