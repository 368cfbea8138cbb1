import { Flag } from '../../core/batch.ts'
import type { BatchBuilder } from '../../core/batch-builder.ts'
import { limits } from '../../core/limits.ts'
import type { SeriesTable } from '../../core/series-table.ts'
import { asciiText, Byte, utf8Text } from '../json/text.ts'
import { unescapedText } from './bytes.ts'
import type { Heads } from './heads.ts'
import { booleanLength, exactDecimal, lineTimeUs, longInteger, numberBytesMax } from './number.ts'

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
    if (!this.#mayBegin(bytes, keyEnd + 1, head)) return false
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

  /** False: the first field is none of the beginning's. A look that spares the rest to lines whose field is new. */
  #mayBegin(bytes: Uint8Array, at: number, head: number): boolean {
    const { field: fields } = this.#heads
    const { arena, offset, length } = this.#heads.fields
    const first = this.#heads.first[head]!
    for (let i = first, tries = Math.min(this.#heads.count[head]!, lookAhead); tries > 0; tries--, i++) {
      const known = fields[i]!
      const end = length[known]!
      if (bytes[at + end] === equals && arena[offset[known]! + end - 1] === bytes[at + end - 1]) return true
    }
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
        const knownLength = length[field]!
        if (bytes[at + knownLength] !== equals) continue
        // From the end on: names of one beginning that differ do so there, most often.
        const known = offset[field]!
        let j = knownLength - 1
        while (j >= 0 && arena[known + j] === bytes[at + j]) j--
        if (j >= 0) continue
        at += knownLength + 1
        index = i
        break
      }
      if (index < 0 || at >= last || met[index] === line) return false
      met[index] = line
      next = index + 1
      const id = series[first + index]!
      let c = bytes[at]!
      if (isDigit(c) || c === Byte.minus || c === Byte.point || c === Byte.plus) {
        if (numeric[id] !== 1) return false
        const begin = at
        const negative = c === Byte.minus
        if (negative || c === Byte.plus) at++
        const firstDigit = at
        let significand = 0
        let digits = 0
        let scale = 0
        let isLong = false
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
          isLong = significand > Number.MAX_SAFE_INTEGER
          at++
        }
        if (isLong) {
          const text = longInteger(bytes, firstDigit, at, significand, negative)
          if (text === '') return false
          out.addText(id, timeUs, text, flags | Flag.text | Flag.bigInteger)
        } else {
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
            value = Number(asciiText(bytes, firstDigit, at))
            if (!Number.isFinite(value)) return false
          }
          out.add(id, timeUs, negative ? 0 - value : value, flags)
        }
        if (at - begin > numberBytesMax) return false
      } else if (c === Byte.quote) {
        if (numeric[id] === 1) return false
        const opened = ++at
        let bits = 0
        let escapes = 0
        for (c = bytes[at]!; c !== Byte.quote; c = bytes[++at]!) {
          if (c === Byte.backslash && (bytes[at + 1] === Byte.quote || bytes[at + 1] === Byte.backslash)) {
            escapes++
            at++
          } else if (c === 0) return false
          if (at >= last) return false
          bits |= c
        }
        if (at - opened - escapes > limits.textBytesMax || at >= last) return false
        const text = escapes > 0 ? unescapedText(bytes, opened, at) : utf8Text(bytes, opened, at)
        // What is no UTF-8 is read as U+FFFD.
        if (bits > 0x7f && text.includes('\ufffd')) return false
        out.addText(id, timeUs, text, flags | Flag.text)
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
