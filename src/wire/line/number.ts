import type { LineShape } from '../../core/gate.ts'
import { limits } from '../../core/limits.ts'
import { Byte } from '../json/text.ts'

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
export const integerDigitsMax = 19

/** The longest that a value without quotes is read as a number: 300 digits and an exponent. */
export const numberBytesMax = 512

/** Digits in bytes[start, end) as epoch microseconds, nanoseconds cut to the microsecond exactly. NaN: no digits, too many, or after 2255. */
export function lineTimeUs(bytes: Uint8Array, start: number, end: number, unitUs: number): number {
  if (end === start || end - start > integerDigitsMax) return Number.NaN
  const last = unitUs === 0 ? end - 3 : end
  let time = 0
  for (let at = start; at < end; at++) {
    const digit = bytes[at]! - Byte.zero
    if (digit < 0 || digit > 9) return Number.NaN
    if (at < last) time = time * 10 + digit
  }
  // Beyond 2^53 the sum is not exact, and the time is refused.
  const us = unitUs === 0 ? time : time * unitUs
  return us <= limits.timeUsMax ? us : Number.NaN
}
