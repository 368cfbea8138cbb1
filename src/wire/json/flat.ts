import { isUtf8 } from 'node:buffer'
import type { ByteTable } from './byte-table.ts'
import { asciiText, Byte, skipSpace } from './text.ts'

/** What `FlatScanner.kind` says of a field. */
export const FieldKind = {
  null: 0,
  number: 1,
  /** Contents in bytes[start, end), without escapes. */
  string: 2,
  true: 3,
  false: 4,
  /** An integer beyond 2^53 - 1, as written in bytes[start, end); `number` is not set. */
  longInteger: 5,
  /** The object whose members are the fields with `inner` 1. */
  container: 6,
} as const

/** Fields of one message that the fast lane takes; longer messages take the general one. */
export const flatFieldsMax = 1024

const powersOfTen = new Float64Array(23)
for (let i = 0; i < powersOfTen.length; i++) powersOfTen[i] = Number(`1e${i}`)

const fnvStart = 0x811c9dc5 | 0
const fnvPrime = 0x01000193

/**
 * The fast lane of JSON: one pass over a flat object of numbers, booleans, nulls and strings without escapes, whose keys are
 * all known to `keys`; one member may be an object itself (`containerKey`). The result is columns, overwritten by the next scan.
 *
 * `scan` answers true only for text that JSON.parse accepts, with the same values. False means "not for this lane", never "wrong":
 * the general parser then decides. Duplicate keys are the caller's to notice (equal entries in `key` with equal `inner`).
 */
export class FlatScanner {
  count = 0
  readonly key = new Int32Array(flatFieldsMax)
  readonly kind = new Uint8Array(flatFieldsMax)
  readonly inner = new Uint8Array(flatFieldsMax)
  readonly number = new Float64Array(flatFieldsMax)
  readonly start = new Int32Array(flatFieldsMax)
  readonly end = new Int32Array(flatFieldsMax)
  /** Entry of the key whose value may be an object, or -1. */
  containerKey = -1
  readonly #keys: ByteTable
  #nonAscii = false

  constructor(keys: ByteTable) {
    this.#keys = keys
  }

  scan(bytes: Uint8Array, start: number, end: number): boolean {
    // The last byte is known to be a brace: numbers, literals and white space stop there without asking for the end.
    let last = end - 1
    while (last > start && bytes[last]! <= Byte.space) last--
    if (skipSpace(bytes, last + 1, end) !== end || bytes[last] !== Byte.closeBrace) return false
    let at = skipSpace(bytes, start, last)
    if (bytes[at] !== Byte.openBrace || at === last) return false
    this.#nonAscii = false
    this.count = 0
    at = this.#members(bytes, at + 1, last)
    if (at !== last) return false
    return !this.#nonAscii || isUtf8(bytes.subarray(start, end))
  }

  /**
   * Returns the index of the closing brace, or -1. One long loop on purpose: keys, strings and short numbers are read in place, since
   * calls and reloaded fields cost a third of the whole scan.
   */
  #members(bytes: Uint8Array, from: number, last: number): number {
    const { key, kind, inner, number, start, end } = this
    const { arena, offset, length, count } = this.#keys
    let depth = 0
    let n = 0
    let at = bytes[from]! > Byte.space ? from : skipSpace(bytes, from, last)
    if (bytes[at] === Byte.closeBrace) return at
    for (;;) {
      if (n === flatFieldsMax || bytes[at] !== Byte.quote) return -1
      at++
      // Messages resemble each other: the key that stood here last time most likely stands here again.
      const guess = key[n]!
      const known = guess < count ? offset[guess]! : 0
      const knownEnd = guess < count ? known + length[guess]! : -1
      let i = known
      for (let j = at; i < knownEnd && arena[i] === bytes[j]; i++) j++
      if (i === knownEnd && at + i - known < last && bytes[at + i - known] === Byte.quote) at += i - known + 1
      else if ((at = this.#key(bytes, at, last, n)) < 0) return -1
      inner[n] = depth
      if (bytes[at]! <= Byte.space) at = skipSpace(bytes, at, last)
      if (bytes[at] !== Byte.colon) return -1
      let c = bytes[++at]!
      if (c <= Byte.space) c = bytes[(at = skipSpace(bytes, at, last))]!
      if (c === Byte.quote) {
        start[n] = ++at
        for (c = bytes[at]!; c !== Byte.quote; c = bytes[++at]!) {
          if (c === Byte.backslash || c < Byte.space || at >= last) return -1
          if (c > 0x7f) this.#nonAscii = true
        }
        kind[n] = FieldKind.string
        end[n++] = at++
      } else if (c >= Byte.minus && c <= Byte.nine) {
        // The commonest numbers in place: up to nine digits in all, or an integer below 2^53.
        start[n] = at
        const negative = c === Byte.minus
        if (negative) at++
        const first = at
        let digit = bytes[at]! - Byte.zero
        let short = 0
        for (; digit >>> 0 < 10 && at - first < 9; digit = bytes[++at]! - Byte.zero) short = (short * 10 + digit) | 0
        let value = short
        let whole = at - first
        if (digit >>> 0 < 10) {
          for (; digit >>> 0 < 10; digit = bytes[++at]! - Byte.zero) value = value * 10 + digit
          whole = 10
        } else if (digit === Byte.point - Byte.zero && whole > 0) {
          const point = at
          digit = bytes[++at]! - Byte.zero
          for (; digit >>> 0 < 10 && at - first < 10; digit = bytes[++at]! - Byte.zero) short = (short * 10 + digit) | 0
          value = at - point > 1 ? short / powersOfTen[at - point - 1]! : -1
        }
        const follows = digit + Byte.zero
        const leadingZero = whole > 1 && bytes[first] === Byte.zero
        if (
          whole === 0 ||
          leadingZero ||
          value < 0 ||
          value > Number.MAX_SAFE_INTEGER ||
          digit >>> 0 < 10 ||
          follows === Byte.point ||
          (follows | 0x20) === 0x65
        ) {
          at = this.#number(bytes, start[n]!, n)
          if (at < 0) return -1
        } else {
          kind[n] = FieldKind.number
          number[n] = negative ? -value : value
          end[n] = at
        }
        n++
      } else if (c === Byte.openBrace) {
        if (depth === 1 || key[n] !== this.containerKey) return -1
        kind[n++] = FieldKind.container
        depth = 1
        at = skipSpace(bytes, at + 1, last)
        if (bytes[at] !== Byte.closeBrace) continue
      } else if ((at = this.#literal(bytes, at, last, n++)) < 0) return -1
      if (bytes[at]! <= Byte.space) at = skipSpace(bytes, at, last)
      if (bytes[at] === Byte.closeBrace && depth === 1) {
        if (at === last) return -1
        depth = 0
        at = skipSpace(bytes, at + 1, last)
      }
      if (bytes[at] !== Byte.comma) break
      if (bytes[++at]! <= Byte.space) at = skipSpace(bytes, at, last)
    }
    this.count = n
    return bytes[at] === Byte.closeBrace && depth === 0 ? at : -1
  }

  /** Reads a key that was not guessed; returns the index behind its closing quote, or -1 when it is not known. */
  #key(bytes: Uint8Array, from: number, last: number, n: number): number {
    let hash = fnvStart
    let at = from
    for (; ; at++) {
      if (at >= last) return -1
      const c = bytes[at]!
      if (c === Byte.quote) break
      if (c === Byte.backslash || c < Byte.space) return -1
      hash = Math.imul(hash ^ c, fnvPrime)
    }
    const entry = this.#keys.find(bytes, from, at, hash)
    if (entry < 0) return -1
    this.key[n] = entry
    return at + 1
  }

  /** Reads true, false or null; returns the index behind it, or -1. */
  #literal(bytes: Uint8Array, from: number, last: number, n: number): number {
    // 0x74727565 = 'true', 0x616c7365 = 'alse', 0x6e756c6c = 'null'
    if (bytes[from] === 0x66) {
      if (from + 5 > last || word(bytes, from + 1) !== 0x616c7365) return -1
      this.kind[n] = FieldKind.false
      return from + 5
    }
    if (from + 4 > last) return -1
    const literal = word(bytes, from)
    if (literal === 0x74727565) this.kind[n] = FieldKind.true
    else if (literal === 0x6e756c6c) this.kind[n] = FieldKind.null
    else return -1
    return from + 4
  }

  /**
   * A number by hand. Exact by Clinger's fast path: a significand below 2^53 and a power of ten up to 22 are both exact doubles,
   * so that their product or quotient is rounded once, correctly. (W. Clinger, "How to read floating point numbers
   * accurately", PLDI 1990.) Anything else is given to Number().
   */
  #number(bytes: Uint8Array, from: number, n: number): number {
    let at = from
    let c = bytes[at]!
    const negative = c === Byte.minus
    if (negative) c = bytes[++at]!
    let significand = 0
    let exact = true
    let scale = 0
    if (c === Byte.zero) {
      c = bytes[++at]!
      if (c >= Byte.zero && c <= Byte.nine) return -1
    } else {
      if (c < Byte.zero || c > Byte.nine) return -1
      do {
        significand = significand * 10 + (c - Byte.zero)
        if (significand > Number.MAX_SAFE_INTEGER) exact = false
        c = bytes[++at]!
      } while (c >= Byte.zero && c <= Byte.nine)
    }
    let integer = true
    if (c === Byte.point) {
      integer = false
      c = bytes[++at]!
      if (c < Byte.zero || c > Byte.nine) return -1
      do {
        significand = significand * 10 + (c - Byte.zero)
        if (significand > Number.MAX_SAFE_INTEGER) exact = false
        scale--
        c = bytes[++at]!
      } while (c >= Byte.zero && c <= Byte.nine)
    }
    if (c === 0x65 || c === 0x45) {
      integer = false
      c = bytes[++at]!
      const down = c === Byte.minus
      if (down || c === Byte.plus) c = bytes[++at]!
      if (c < Byte.zero || c > Byte.nine) return -1
      let exponent = 0
      do {
        if (exponent < 10_000) exponent = exponent * 10 + (c - Byte.zero)
        c = bytes[++at]!
      } while (c >= Byte.zero && c <= Byte.nine)
      scale += down ? -exponent : exponent
    }
    this.start[n] = from
    this.end[n] = at
    this.kind[n] = FieldKind.number
    if (exact && scale >= -22 && scale <= 22) {
      const value = scale < 0 ? significand / powersOfTen[-scale]! : significand * powersOfTen[scale]!
      this.number[n] = negative ? -value : value
      return at
    }
    if (integer) {
      this.kind[n] = FieldKind.longInteger
      return at
    }
    const value = Number(asciiText(bytes, from, at))
    if (!Number.isFinite(value)) return -1
    this.number[n] = value
    return at
  }
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
}
