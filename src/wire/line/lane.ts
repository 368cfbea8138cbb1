import { Flag } from '../../core/batch.ts'
import type { BatchBuilder } from '../../core/batch-builder.ts'
import { limits } from '../../core/limits.ts'
import type { SeriesTable } from '../../core/series-table.ts'
import { ByteTable } from '../json/byte-table.ts'
import { asciiText, Byte, utf8Text } from '../json/text.ts'
import { lineTimeUs, numberBytesMax } from './number.ts'
import type { ParsedLine } from './parse.ts'

const equals = 0x3d
const fnvStart = 0x811c9dc5 | 0
const fnvPrime = 0x01000193
/** How far ahead of its usual place a field is looked for: lines leave fields out, or say them in another order. */
const lookAhead = 32

/** What is known of a line by its beginning: the series of its fields, in the order in which they were first seen. */
interface KnownLine {
  readonly tenant: string
  /** Entries in the table of field keys. */
  readonly fields: number[]
  readonly series: number[]
}

/**
 * The fast lane of line protocol: lines whose measurement, tags and fields are, byte for byte, those of lines that were taken before. It
 * changes nothing but the batch, allocates nothing unless a value is text or has more than 15 digits, and knows no errors: whatever it does not
 * take, the parser judges.
 */
export class LineLane {
  /** Of the line that was taken last: had it a time? */
  ownTime = false
  readonly #series: SeriesTable
  readonly #keys = new ByteTable({ entriesMax: limits.lineKeysMax, bytesMax: limits.lineKeyBytesMax })
  #known: KnownLine[] = []
  readonly #fields = new ByteTable({ entriesMax: limits.payloadKeysMax, bytesMax: limits.payloadKeyBytesMax })
  readonly #tenants = new Map<string, number>()
  /** Number of the line in which a field of a KnownLine was last met: two of a kind are the parser's to refuse. */
  readonly #met = new Int32Array(limits.metricsPerDeviceMax)
  #line = 0

  constructor(series: SeriesTable) {
    this.#series = series
  }

  /** True: taken, its rows are in `out`. False: nothing happened. `unitUs`: see `lineUnitUs`. */
  take(
    bytes: Uint8Array,
    start: number,
    end: number,
    tenant: string,
    unitUs: number,
    receivedUs: number,
    oldestUs: number,
    out: BatchBuilder,
  ): boolean {
    let hash = this.#seed(tenant)
    let at = start
    for (; ; at++) {
      if (at >= end) return false
      const c = bytes[at]!
      if (c === Byte.space && bytes[at - 1] !== Byte.backslash) break
      hash = Math.imul(hash ^ c, fnvPrime)
    }
    const entry = this.#keys.find(bytes, start, at, hash)
    if (entry < 0) return false
    const known = this.#known[entry]!
    if (known.tenant !== tenant) return false
    // The time first, as rows need it: the digits behind the last space. What is wrong with this shows where the fields end.
    let last = end
    while (bytes[last - 1] === Byte.space) last--
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
    if (this.#rows(bytes, at + 1, last, known, timeUs, flags, out)) {
      this.ownTime = ownTime
      return true
    }
    if (out.rows > mark) out.rollback(mark)
    return false
  }

  /** Remembers a line that the parser took, and the series of its fields. */
  learn(bytes: Uint8Array, line: ParsedLine, tenant: string, series: readonly number[]): void {
    const known = this.#entry(bytes, line.keyStart, line.keyEnd, tenant)
    if (known === undefined) return
    for (let i = 0; i < line.fields.length; i++) {
      const { start, end } = line.fields[i]!
      const field = this.#field(bytes, start, end)
      if (field < 0 || known.fields.includes(field) || known.fields.length >= limits.metricsPerDeviceMax) continue
      known.fields.push(field)
      known.series.push(series[i]!)
    }
  }

  #entry(bytes: Uint8Array, start: number, end: number, tenant: string): KnownLine | undefined {
    if (this.#keys.isFull(end - start) || this.#fields.isFull(limits.nameBytesMax)) this.#forget()
    const hash = hashFrom(this.#seed(tenant), bytes, start, end)
    let entry = this.#keys.find(bytes, start, end, hash)
    if (entry < 0) {
      entry = this.#keys.add(bytes, start, end, hash)
      if (entry < 0) return undefined
      this.#known[entry] = { tenant, fields: [], series: [] }
    }
    const known = this.#known[entry]!
    return known.tenant === tenant ? known : undefined
  }

  #field(bytes: Uint8Array, start: number, end: number): number {
    const hash = hashFrom(fnvStart, bytes, start, end)
    const entry = this.#fields.find(bytes, start, end, hash)
    return entry < 0 ? this.#fields.add(bytes, start, end, hash) : entry
  }

  #forget(): void {
    this.#keys.clear()
    this.#fields.clear()
    this.#known = []
  }

  /** Lines of two tenants may be alike: the tenant is part of the hash. */
  #seed(tenant: string): number {
    let seed = this.#tenants.get(tenant)
    if (seed === undefined) {
      if (this.#tenants.size >= 65_536) {
        this.#tenants.clear()
        this.#forget()
      }
      seed = Math.imul(fnvStart ^ (this.#tenants.size + 1), fnvPrime)
      this.#tenants.set(tenant, seed)
    }
    return seed
  }

  /** One long loop on purpose, as in the fast lane of JSON: calls for keys and numbers would cost a third of it. */
  #rows(bytes: Uint8Array, from: number, last: number, known: KnownLine, timeUs: number, flags: number, out: BatchBuilder): boolean {
    const { arena, offset, length } = this.#fields
    const { fields, series } = known
    const { numeric } = this.#series
    const met = this.#met
    const line = (this.#line = (this.#line + 1) | 0)
    const count = fields.length
    let at = from
    let next = 0
    for (;;) {
      // Lines resemble each other: the field that followed the last one most likely follows it again.
      let index = -1
      for (let tries = Math.min(count, lookAhead), i = next; tries > 0; tries--, i++) {
        if (i >= count) i = 0
        const field = fields[i]!
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
      const id = series[index]!
      let c = bytes[at]!
      if (c === Byte.minus || c === Byte.point || isDigit(c)) {
        if (numeric[id] !== 1) return false
        const first = at
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
        let value: number
        // Clinger's fast path, see json/flat.ts; digits and scale are bounded where it is exact.
        if (significand <= Number.MAX_SAFE_INTEGER && scale <= 22 && (at >= last || (c | 0x20) !== 0x65)) value = significand / powersOfTen[scale]!
        else {
          // An exponent, or digits that one rounding cannot take in: as the runtime reads it. Both were checked for what may stand here.
          if (at < last && (c | 0x20) === 0x65) {
            c = bytes[++at]!
            if (c === Byte.minus || c === Byte.plus) c = bytes[++at]!
            const exponent = at
            while (isDigit(c)) c = bytes[++at]!
            if (at === exponent || at > last) return false
          }
          if (at - first > numberBytesMax) return false
          value = Number(asciiText(bytes, negative ? first + 1 : first, at))
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
        const word = wordLength(bytes, at, last)
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

/** Length of the boolean at `at` in one of its spellings (t, T, true, True, TRUE, f, F, false, False, FALSE), or 0. */
function wordLength(bytes: Uint8Array, at: number, last: number): number {
  const first = bytes[at]!
  let end = at
  while (end < last && bytes[end] !== Byte.comma) end++
  if (end - at === 1) return first === 0x74 || first === 0x54 || first === 0x66 || first === 0x46 ? 1 : 0
  if (end - at === 4) {
    const word = four(bytes, at)
    return word === 0x74727565 || word === 0x54727565 || word === 0x54525545 ? 4 : 0
  }
  if (end - at !== 5) return 0
  const rest = four(bytes, at + 1)
  if (first === 0x66) return rest === 0x616c7365 ? 5 : 0
  return first === 0x46 && (rest === 0x616c7365 || rest === 0x414c5345) ? 5 : 0
}

function four(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
}

const powersOfTen = Float64Array.from({ length: 23 }, (_, i) => Number(`1e${i}`))

function hashFrom(start: number, bytes: Uint8Array, from: number, to: number): number {
  let hash = start
  for (let at = from; at < to; at++) hash = Math.imul(hash ^ bytes[at]!, fnvPrime)
  return hash
}
