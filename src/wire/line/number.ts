import type { LineShape } from '../../core/gate.ts'
import { limits } from '../../core/limits.ts'
import { asciiText, Byte } from '../json/text.ts'

/** What `LineScanner.kind` says of a field. */
export const ValueKind = {
  number: 0,
  /** `value` is 0 or 1. */
  boolean: 1,
  /** `text` has it; `value` is NaN. */
  text: 2,
  /** An integer beyond 2^53, which `text` has digit by digit; `value` is NaN. */
  bigInteger: 3,
} as const

/** Microseconds of one unit of a line's time; 0: nanoseconds. */
export const lineUnitUs: Readonly<Record<LineShape, number>> = {
  'line-ns': 0,
  'line-us': 1,
  'line-ms': 1e3,
  'line-s': 1e6,
  'line-m': 60e6,
  'line-h': 3600e6,
}

/** A 64-bit integer has as many digits at most. */
const integerDigitsMax = 19

/** The longest that a value without quotes is read as a number: 300 digits and an exponent. */
export const numberBytesMax = 512

/** Digits in bytes[start, end) as epoch microseconds, nanoseconds cut to the microsecond exactly. NaN: no digits, too many, or after 2255. */
export function lineTimeUs(bytes: Uint8Array, start: number, end: number, unitUs: number): number {
  if (end === start || end - start > integerDigitsMax) return Number.NaN
  const last = unitUs === 0 ? end - 3 : end
  // The last nine digits apart: as many are summed up in integers, which is half the work.
  let high = 0
  let low = 0
  let at = start
  for (let digit; at < last - 9; at++) {
    if ((digit = bytes[at]! - Byte.zero) >>> 0 > 9) return Number.NaN
    high = high * 10 + digit
  }
  for (let digit; at < last; at++) {
    if ((digit = bytes[at]! - Byte.zero) >>> 0 > 9) return Number.NaN
    low = (low * 10 + digit) | 0
  }
  for (; at < end; at++) if ((bytes[at]! - Byte.zero) >>> 0 > 9) return Number.NaN
  const time = high * 1e9 + low
  // Beyond 2^53 the sum is not exact, and the time is refused.
  const us = unitUs === 0 ? time : time * unitUs
  return us <= limits.timeUsMax ? us : Number.NaN
}

const powersOfTen = Float64Array.from({ length: 23 }, (_, i) => Number(`1e${i}`))

/**
 * significand / 10^digits, rounded once, or NaN where that takes more than one rounding. A significand below 2^53 and a power of ten up to 22 are
 * both exact doubles (Clinger's fast path, see json/flat.ts). A significand that was summed up digit by digit and passed 2^53 is above it still.
 */
export function exactDecimal(significand: number, digits: number): number {
  if (significand > Number.MAX_SAFE_INTEGER || digits > 22 || digits < -22) return Number.NaN
  return digits >= 0 ? significand / powersOfTen[digits]! : significand * powersOfTen[0 - digits]!
}

/** The largest of 64 bits: signed, signed and negative, unsigned. */
const longest = ['9223372036854775807', '9223372036854775808', '18446744073709551615'] as const

/**
 * An integer beyond 2^53 as it is written: bytes[start, end) are its digits, at least one, and its suffix, i or u; `significand` is their sum, which is 2^53 or more. ''
 * where that takes more than a look: it may be 2^53 itself, begins with a zero, or is beyond 64 bits.
 */
export function longInteger(bytes: Uint8Array, start: number, end: number, significand: number, negative: boolean): string {
  if (significand === 2 ** 53 || bytes[start] === Byte.zero) return ''
  const most = longest[bytes[end - 1] === 0x75 ? 2 : negative ? 1 : 0]
  const digits = end - 1 - start
  if (digits > most.length) return ''
  const text = asciiText(bytes, start, end - 1)
  if (digits === most.length && text > most) return ''
  return negative ? `-${text}` : text
}

/** The integer of a text that ends in i (64 bits, signed) or u (unsigned), or undefined when it is beyond them. */
export function integerOf(text: string): bigint | undefined {
  const integer = BigInt(text.slice(text.startsWith('+') ? 1 : 0, -1))
  const fits = text.endsWith('u') ? integer < 1n << 64n : BigInt.asIntN(64, integer) === integer
  return fits ? integer : undefined
}

export function isDecimal(text: string): boolean {
  return /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/.test(text)
}

/** Length of the boolean at `at` in one of its spellings (t, T, true, True, TRUE, f, F, false, False, FALSE), or 0. It ends at a comma, a blank or `last`. */
export function booleanLength(bytes: Uint8Array, at: number, last: number): number {
  let end = at
  while (end < last && bytes[end] !== Byte.comma && bytes[end]! > Byte.space) end++
  const first = bytes[at]!
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
