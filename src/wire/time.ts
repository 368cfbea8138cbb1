import { limits } from '../core/limits.ts'

/*
 * Times on the wire become epoch microseconds UTC, an integer in a double. NaN stands for "not a time that can be kept":
 * hot paths test for it without an exception.
 */

const usMax = limits.timeUsMax
/** Microseconds of a fraction's last digit, by how many of six digits are missing. */
const fractionUnit = [1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6]

/**
 * An epoch number by its magnitude: below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds.
 * Fractions are kept to the microsecond. NaN when negative, not finite or after 2255.
 */
export function epochToUs(value: number): number {
  if (!(value >= 0)) return Number.NaN
  let us: number
  if (value < 1e11) us = Math.round(value * 1e6)
  else if (value < 1e14) us = Math.round(value * 1e3)
  else if (value < 1e17) us = Math.floor(value)
  else us = Math.floor(value / 1e3)
  // Adding 0 turns -0 into 0.
  return us <= usMax ? us + 0 : Number.NaN
}

/** An unsigned integer beyond 2^53 as written in ASCII digits: microseconds or nanoseconds, cut to the microsecond exactly. */
export function epochDigitsToUs(bytes: Uint8Array, start: number, end: number): number {
  let last = end
  // 1e17 has 18 digits: from there on they are nanoseconds.
  if (end - start >= 18) last = end - 3
  if (last - start > 16) return Number.NaN
  let us = 0
  for (let at = start; at < last; at++) {
    const digit = bytes[at]! - 0x30
    if (digit < 0 || digit > 9) return Number.NaN
    us = us * 10 + digit
  }
  return us <= usMax ? us : Number.NaN
}

/**
 * RFC 3339 section 5.6 in ASCII bytes[start, end): `2026-11-20T17:25:00.123456Z`. Also taken: a space for the `T` (the RFC's own
 * note), lower case, offsets as +hhmm and +hh (Python, PostgreSQL), and no offset at all, which means UTC. Digits of a fraction beyond the
 * sixth are cut. A leap second (23:59:60) is the first moment of the next day. NaN when it is none, or outside 1970 to 2255.
 */
export function rfc3339ToUs(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < 19 || end - start > timeBytesMax) return Number.NaN
  const year = two(bytes, start) * 100 + two(bytes, start + 2)
  const month = two(bytes, start + 5)
  const day = two(bytes, start + 8)
  const hour = two(bytes, start + 11)
  const minute = two(bytes, start + 14)
  const second = two(bytes, start + 17)
  const separator = bytes[start + 10]!
  if (bytes[start + 4] !== 0x2d || bytes[start + 7] !== 0x2d || bytes[start + 13] !== 0x3a || bytes[start + 16] !== 0x3a) return Number.NaN
  if (separator !== 0x54 && separator !== 0x74 && separator !== 0x20) return Number.NaN
  // Comparisons with NaN are false: parts that are no digits fail here too.
  if (!(month >= 1 && month <= 12 && day >= 1 && day <= daysIn(year, month) && hour <= 23 && minute <= 59)) return Number.NaN
  if (!(second <= 59 || (second === 60 && minute === 59))) return Number.NaN
  let at = start + 19
  let fractionUs = 0
  if (at < end && bytes[at] === 0x2e) {
    const from = ++at
    let digits = 0
    while (at < end && bytes[at]! >= 0x30 && bytes[at]! <= 0x39) {
      if (digits < 6) {
        fractionUs = fractionUs * 10 + (bytes[at]! - 0x30)
        digits++
      }
      at++
    }
    if (at === from) return Number.NaN
    fractionUs *= fractionUnit[6 - digits]!
  }
  const offsetMinutes = at === end ? 0 : zone(bytes, at, end)
  const seconds = daysFromCivil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offsetMinutes * 60
  const us = seconds * 1e6 + fractionUs
  return us >= 0 && us <= usMax ? us : Number.NaN
}

/** The same for text; undefined when it is no such time. */
export function parseRfc3339(text: string): number | undefined {
  if (text.length > timeBytesMax) return undefined
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) bytes[i] = Math.min(text.charCodeAt(i), 0xff)
  const us = rfc3339ToUs(bytes, 0, bytes.length)
  return Number.isNaN(us) ? undefined : us
}

/** `2026-11-20T17:25:00.123Z`; with six digits of fraction where milliseconds do not suffice. */
export function formatRfc3339(us: number): string {
  const ms = Math.floor(us / 1e3)
  const rest = us - ms * 1e3
  const text = new Date(ms).toISOString()
  return rest === 0 ? text : text.slice(0, -1) + String(rest).padStart(3, '0') + 'Z'
}

/** Nine digits of fraction and an offset are 35 bytes; nobody needs twice that. */
const timeBytesMax = 64

function two(bytes: Uint8Array, at: number): number {
  const tens = bytes[at]! - 0x30
  const ones = bytes[at + 1]! - 0x30
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : Number.NaN
}

/** Minutes east of UTC; NaN when it is no offset. */
function zone(bytes: Uint8Array, at: number, end: number): number {
  const sign = bytes[at]!
  if (sign === 0x5a || sign === 0x7a) return at + 1 === end ? 0 : Number.NaN
  if (sign !== 0x2b && sign !== 0x2d) return Number.NaN
  const length = end - at
  const colon = bytes[at + 3] === 0x3a
  if (length !== 3 && !(length === 5 && !colon) && !(length === 6 && colon)) return Number.NaN
  const hours = two(bytes, at + 1)
  const minutes = length === 3 ? 0 : two(bytes, length === 6 ? at + 4 : at + 3)
  if (!(hours <= 23 && minutes <= 59)) return Number.NaN
  return sign === 0x2b ? hours * 60 + minutes : -(hours * 60 + minutes)
}

const monthDays = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

function daysIn(year: number, month: number): number {
  if (month === 2 && year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)) return 29
  return monthDays[month] ?? 0
}

/** Days since 1970-01-01 in the Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil). */
function daysFromCivil(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year
  const era = Math.floor(y / 400)
  const yearOfEra = y - era * 400
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return era * 146_097 + dayOfEra - 719_468
}
