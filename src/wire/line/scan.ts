import { isUtf8 } from 'node:buffer'
import type { Code, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { escapeStep } from '../json/pointer.ts'
import { fnvPrime, fnvStart } from '../json/byte-table.ts'
import { asciiText, Byte, utf8Text } from '../json/text.ts'
import { fault, shown, tagFault, timeFault, valueFault } from './faults.ts'
import { isBlank, isMark, isSame, isSecond, nameText, skipBlank, unescapedText } from './bytes.ts'
import { booleanLength, exactDecimal, integerOf, lineTimeUs, longInteger, numberBytesMax, ValueKind } from './number.ts'

const equals = 0x3d
/** Of bytes of a tag: 1 of those that may mean something else than themselves, or that get a backslash in a metric's name. */
const isSpecial = Uint8Array.from({ length: 256 }, (_, c) => (c === equals || c === Byte.comma || isMark(c) ? 1 : 0))
/** So many keys are compared one with another; of more, a set is made. */
const comparedMax = 32

/**
 * Reads one line of InfluxDB line protocol (measurement[,tag=value…] field=value[,field=value…] [time]), as InfluxDB reads it: a backslash
 * escapes comma, space and equals sign in names and tag values, quote and backslash in strings, and is itself anywhere else.
 *
 *     scan.begin(bytes, start, end, seed) && scan.tags(bytes) && scan.fields(bytes, unitUs)
 *
 * The result is columns of positions, overwritten by the next line: no text is made of what nobody asks for, and nothing is kept of the bytes.
 * `tags` may be left out, or come last, for a beginning that was read before. False: `fault` says why, as `line_invalid`, `body_too_large`,
 * `body_not_utf8`, `duplicate_key`, `too_many_fields`, `value_invalid`, `value_not_finite` or `time_invalid`; its pointer is /measurement, /tags/<key>,
 * /fields/<key> or /timestamp.
 */
export class LineScanner {
  fault: KymoError | undefined = undefined
  /** Measurement and tags as written are bytes[keyStart, keyEnd). `keyHash`: FNV-1a of them, from the seed on. */
  keyStart = 0
  keyEnd = 0
  keyHash = 0
  /** Where the line ends, without white space. */
  last = 0
  /** The measurement is bytes[keyStart, measurementEnd). */
  measurementEnd = 0
  /** -1 while `tags` has not read them. */
  tagCount = -1
  /** The i-th tag, in the line's order: key bytes[tagStart[i], tagEquals[i]), value bytes[tagEquals[i] + 1, tagEnd[i]). */
  readonly tagStart: number[] = []
  readonly tagEquals: number[] = []
  readonly tagEnd: number[] = []
  /** Hashes of the measurement and of the i-th tag as they are written. */
  measurementHash = 0
  readonly tagHash: number[] = []
  /** Measurement and tags are ASCII without backslashes and braces: they mean what they look like. */
  plain = false
  fieldCount = 0
  /** The i-th field's key is bytes[fieldStart[i], fieldEnd[i]); `fieldHash`: its FNV-1a. */
  readonly fieldStart = new Int32Array(limits.valuesPerMessageMax)
  readonly fieldEnd = new Int32Array(limits.valuesPerMessageMax)
  readonly fieldHash = new Int32Array(limits.valuesPerMessageMax)
  readonly kind = new Uint8Array(limits.valuesPerMessageMax)
  readonly value = new Float64Array(limits.valuesPerMessageMax)
  /** Epoch microseconds; NaN when the line has no time. */
  timeUs = Number.NaN
  /** Contents of strings, and how many backslashes in them escape something. */
  readonly #textStart = new Int32Array(limits.valuesPerMessageMax)
  readonly #textEnd = new Int32Array(limits.valuesPerMessageMax)
  readonly #escapes = new Int32Array(limits.valuesPerMessageMax)
  readonly #bigIntegers: string[] = []
  #start = 0
  #end = 0
  /** All bytes of the beginning, or-ed; 0 while `tags` has not read it. */
  #keyBits = 0
  /** Those of the last string. */
  #stringBits = 0

  /** Finds measurement and tags without looking into them. */
  begin(bytes: Uint8Array, start: number, end: number, seed: number): boolean {
    if (end - start > limits.lineBytesMax) {
      this.fault = fault('body_too_large', '', `The line is longer than ${limits.lineBytesMax} bytes.`)
      return false
    }
    let last = end
    while (last > start && isBlank(bytes[last - 1]!)) last--
    let at = start
    while (at < last && isBlank(bytes[at]!)) at++
    this.keyStart = at
    let hash = seed
    for (; at < last; at++) {
      const c = bytes[at]!
      if (c === Byte.space && bytes[at - 1] !== Byte.backslash) break
      hash = Math.imul(hash ^ c, fnvPrime)
    }
    this.keyEnd = at
    this.keyHash = hash
    this.last = last
    this.#start = start
    this.#end = end
    this.tagCount = -1
    this.#keyBits = 0
    return true
  }

  tags(bytes: Uint8Array): boolean {
    const { keyStart, keyEnd, tagStart, tagEquals, tagEnd, tagHash } = this
    let bits = 0
    let plain = true
    let at = keyStart
    let hash = fnvStart
    for (; at < keyEnd; at++) {
      const c = bytes[at]!
      if (c === Byte.comma && (at === keyStart || bytes[at - 1] !== Byte.backslash)) break
      bits |= c
      hash = Math.imul(hash ^ c, fnvPrime)
      if (isMark(c)) plain = false
    }
    if (at === keyStart) return this.#refuse(bytes, fault('line_invalid', '/measurement', 'The line begins without a measurement.'))
    this.measurementEnd = at
    this.measurementHash = hash
    let count = 0
    let seen: Set<string> | undefined
    while (at < keyEnd) {
      const from = ++at
      let sign = -1
      hash = fnvStart
      for (; at < keyEnd; at++) {
        const c = bytes[at]!
        bits |= c
        if (isSpecial[c] === 1) {
          if (c === equals) {
            if (bytes[at - 1] !== Byte.backslash) {
              // With nothing before it, or as a second one, it is refused below.
              if (at === from || sign >= 0) break
              sign = at
            }
          } else if (c === Byte.comma) {
            if (bytes[at - 1] !== Byte.backslash) break
          } else plain = false
        }
        hash = Math.imul(hash ^ c, fnvPrime)
      }
      if (sign < 0 || at === sign + 1 || (at < keyEnd && bytes[at] === equals)) {
        return this.#refuse(bytes, tagFault(nameText(bytes, from, sign < 0 ? at : sign), sign >= 0, at > sign + 1))
      }
      seen = count < comparedMax ? undefined : (seen ?? new Set(tagStart.slice(0, count).map((start, i) => asciiText(bytes, start, tagEquals[i]!))))
      if (seen === undefined ? this.#hasTag(bytes, from, sign, count) : isSecond(seen, asciiText(bytes, from, sign))) {
        const name = nameText(bytes, from, sign)
        return this.#refuse(bytes, fault('duplicate_key', `/tags/${escapeStep(name)}`, `The tag ${shown(name)} stands twice in the line.`))
      }
      tagStart[count] = from
      tagEquals[count] = sign
      tagHash[count] = hash
      tagEnd[count++] = at
    }
    this.tagCount = count
    this.#keyBits = bits
    this.plain = plain && bits < 0x80
    return true
  }

  /** Fields and time. `unitUs`: see `lineUnitUs`. */
  fields(bytes: Uint8Array, unitUs: number): boolean {
    const { last, fieldStart, fieldEnd, fieldHash } = this
    let at = skipBlank(bytes, this.keyEnd, last)
    if (at >= last)
      return this.#refuse(bytes, fault('line_invalid', '/fields', 'The line has no field. Is a space missing, or one too many escaped?'))
    let bits = this.#keyBits
    let count = 0
    let seen: Set<string> | undefined
    for (;;) {
      const from = at
      let hash = fnvStart
      for (; at < last; at++) {
        const c = bytes[at]!
        if (c <= equals && (c === equals || c === Byte.comma || c === Byte.space) && (at === from || bytes[at - 1] !== Byte.backslash)) break
        hash = Math.imul(hash ^ c, fnvPrime)
        bits |= c
      }
      if (at === from) return this.#refuse(bytes, fault('line_invalid', '/fields', 'A field has no key: two commas, or a comma before a space.'))
      if (at >= last || bytes[at] !== equals) return this.#refuseField(bytes, from, at, 'line_invalid', (name) => `The field ${name} has no value.`)
      seen = count < comparedMax ? undefined : (seen ?? this.#fieldKeys(bytes, count))
      if (seen === undefined ? this.#hasField(bytes, from, at, hash, count) : isSecond(seen, asciiText(bytes, from, at))) {
        return this.#refuseField(bytes, from, at, 'duplicate_key', (name) => `The field ${name} stands twice in the line.`)
      }
      if (count === limits.valuesPerMessageMax) {
        return this.#refuseField(bytes, from, at, 'too_many_fields', () => `The line has more than ${limits.valuesPerMessageMax} fields.`)
      }
      fieldStart[count] = from
      fieldEnd[count] = at
      fieldHash[count] = hash
      if (bytes[++at] === Byte.quote && at < last) {
        at = this.#string(bytes, at + 1, count)
        bits |= this.#stringBits
      } else at = this.#bare(bytes, at, count)
      if (at < 0) return false
      count++
      if (at >= last || bytes[at] !== Byte.comma) break
      at++
    }
    if (at < last && !isBlank(bytes[at]!)) {
      const i = count - 1
      const detail = (name: string): string => `Something follows the string of the field ${name}: escape quotes in it (\\").`
      return this.#refuseField(bytes, fieldStart[i]!, fieldEnd[i]!, 'line_invalid', detail)
    }
    this.fieldCount = count
    return this.#time(bytes, skipBlank(bytes, at, last), unitUs) && (bits < 0x80 || this.#isUtf8(bytes))
  }

  /** The key of the i-th field, without its escapes. */
  fieldName(bytes: Uint8Array, i: number): string {
    return nameText(bytes, this.fieldStart[i]!, this.fieldEnd[i]!)
  }

  /** The i-th field's text, without its escapes, or its digits; '' of other kinds. */
  text(bytes: Uint8Array, i: number): string {
    const kind = this.kind[i]
    if (kind === ValueKind.bigInteger) return this.#bigIntegers[i]!
    if (kind !== ValueKind.text) return ''
    const start = this.#textStart[i]!
    const end = this.#textEnd[i]!
    return this.#escapes[i] === 0 ? utf8Text(bytes, start, end) : unescapedText(bytes, start, end)
  }

  #hasTag(bytes: Uint8Array, from: number, to: number, count: number): boolean {
    for (let i = 0; i < count; i++)
      if (this.tagEquals[i]! - this.tagStart[i]! === to - from && isSame(bytes, this.tagStart[i]!, bytes, from, to)) return true
    return false
  }

  #hasField(bytes: Uint8Array, from: number, to: number, hash: number, count: number): boolean {
    const { fieldStart, fieldEnd, fieldHash } = this
    for (let i = 0; i < count; i++) {
      if (fieldHash[i] === hash && fieldEnd[i]! - fieldStart[i]! === to - from && isSame(bytes, fieldStart[i]!, bytes, from, to)) return true
    }
    return false
  }

  #fieldKeys(bytes: Uint8Array, count: number): Set<string> {
    const keys = new Set<string>()
    for (let i = 0; i < count; i++) keys.add(asciiText(bytes, this.fieldStart[i]!, this.fieldEnd[i]!))
    return keys
  }

  /** A string whose contents begin at `from`: the index behind its closing quote, or -1. */
  #string(bytes: Uint8Array, from: number, n: number): number {
    const { last } = this
    let bits = 0
    let escapes = 0
    let hasNul = false
    let at = from
    for (; at < last; at++) {
      const c = bytes[at]!
      if (c === Byte.quote) break
      if (c === Byte.backslash) {
        const next = bytes[at + 1]
        if (next === Byte.quote || next === Byte.backslash) {
          escapes++
          at++
        }
      } else if (c === 0) hasNul = true
      bits |= c
    }
    if (at >= last) return this.#refuseValue(bytes, n, 'line_invalid', (name) => `The string of the field ${name} is not closed.`)
    if (at - from - escapes > limits.textBytesMax) {
      return this.#refuseValue(bytes, n, 'value_invalid', () => `The text is longer than ${limits.textBytesMax} bytes.`)
    }
    if (hasNul) return this.#refuseValue(bytes, n, 'value_invalid', () => 'The text has the character U+0000, which stores do not keep.')
    this.#stringBits = bits
    this.#textStart[n] = from
    this.#textEnd[n] = at
    this.#escapes[n] = escapes
    this.kind[n] = ValueKind.text
    this.value[n] = Number.NaN
    return at + 1
  }

  /** A value without quotes: the index behind it, or -1. */
  #bare(bytes: Uint8Array, from: number, n: number): number {
    const { last } = this
    let at = from
    let c = at < last ? bytes[at]! : 0
    const negative = c === Byte.minus
    if (negative || c === Byte.plus) at++
    let significand = 0
    const first = at
    for (let digit; at < last && (digit = bytes[at]! - Byte.zero) >>> 0 < 10; at++) significand = significand * 10 + digit
    let digits = at - first
    let scale = 0
    c = at < last ? bytes[at]! : 0
    if (digits > 0 && (c === 0x69 || (c === 0x75 && !negative))) {
      if (!this.#ends(bytes, ++at) || at - from > numberBytesMax) return this.#refuseBare(bytes, from, n)
      if (significand > Number.MAX_SAFE_INTEGER) {
        const digits = longInteger(bytes, first, at, significand, negative)
        return digits === '' ? this.#longInteger(bytes, from, at, n) : this.#bigInteger(digits, at, n)
      }
    } else {
      if (c === Byte.point) {
        const point = at++
        for (let digit; at < last && (digit = bytes[at]! - Byte.zero) >>> 0 < 10; at++) significand = significand * 10 + digit
        scale = at - point - 1
        digits += scale
        c = at < last ? bytes[at]! : 0
      }
      if (digits === 0) return this.#word(bytes, from, n)
      if ((c | 0x20) === 0x65) {
        c = ++at < last ? bytes[at]! : 0
        const down = c === Byte.minus
        if (down || c === Byte.plus) at++
        const begin = at
        let exponent = 0
        for (let digit; at < last && (digit = bytes[at]! - Byte.zero) >>> 0 < 10; at++) if (exponent < 10_000) exponent = exponent * 10 + digit
        if (at === begin) return this.#refuseBare(bytes, from, n)
        scale += down ? exponent : 0 - exponent
      }
      if (!this.#ends(bytes, at) || at - from > numberBytesMax) return this.#refuseBare(bytes, from, n)
    }
    let value = exactDecimal(significand, scale)
    if (Number.isNaN(value)) {
      value = Number(asciiText(bytes, first, at))
      if (value === Infinity) return this.#refuseBare(bytes, from, n)
    }
    this.kind[n] = ValueKind.number
    // Taken from 0, so that -0 is 0.
    this.value[n] = negative ? 0 - value : value
    return at
  }

  /** May a value without quotes end before `at`? */
  #ends(bytes: Uint8Array, at: number): boolean {
    return at >= this.last || bytes[at] === Byte.comma || isBlank(bytes[at]!)
  }

  #word(bytes: Uint8Array, from: number, n: number): number {
    const length = booleanLength(bytes, from, this.last)
    if (length === 0 || !this.#ends(bytes, from + length)) return this.#refuseBare(bytes, from, n)
    this.kind[n] = ValueKind.boolean
    this.value[n] = (bytes[from]! | 0x20) === 0x74 ? 1 : 0
    return from + length
  }

  /** bytes[from, to) is an integer with its suffix that may be beyond 2^53. */
  #longInteger(bytes: Uint8Array, from: number, to: number, n: number): number {
    const text = asciiText(bytes, from, to)
    const integer = integerOf(text)
    if (integer === undefined) return this.#refuseValue(bytes, n, 'value_invalid', () => `${shown(text)} is beyond 64 bits.`)
    if (integer > 1n << 53n || integer < -(1n << 53n)) return this.#bigInteger(integer.toString(), to, n)
    this.kind[n] = ValueKind.number
    this.value[n] = Number(integer)
    return to
  }

  #bigInteger(digits: string, to: number, n: number): number {
    this.kind[n] = ValueKind.bigInteger
    this.value[n] = Number.NaN
    this.#bigIntegers[n] = digits
    return to
  }

  #time(bytes: Uint8Array, from: number, unitUs: number): boolean {
    const { last } = this
    this.timeUs = Number.NaN
    if (from >= last) return true
    this.timeUs = lineTimeUs(bytes, from, last, unitUs)
    if (!Number.isNaN(this.timeUs)) return true
    let at = from
    while (at < last && !isBlank(bytes[at]!)) at++
    if (Number.isNaN(lineTimeUs(bytes, from, at, unitUs)))
      return this.#refuse(bytes, timeFault(utf8Text(bytes, from, Math.min(at, from + numberBytesMax))))
    return this.#refuse(bytes, fault('line_invalid', '/timestamp', 'Something follows the time.'))
  }

  #isUtf8(bytes: Uint8Array): boolean {
    if (isUtf8(bytes.subarray(this.#start, this.#end))) return true
    this.fault = fault('body_not_utf8', '', 'The line is not valid UTF-8.')
    return false
  }

  /** Bytes from `from` to the next comma or blank are no value of the n-th field. */
  #refuseBare(bytes: Uint8Array, from: number, n: number): -1 {
    let at = from
    while (!this.#ends(bytes, at)) at++
    const text = utf8Text(bytes, from, Math.min(at, from + numberBytesMax))
    this.#refuse(bytes, valueFault(text, at - from > numberBytesMax, this.fieldName(bytes, n)))
    return -1
  }

  #refuseValue(bytes: Uint8Array, n: number, code: Code, detail: (name: string) => string): -1 {
    this.#refuseField(bytes, this.fieldStart[n]!, this.fieldEnd[n]!, code, detail)
    return -1
  }

  #refuseField(bytes: Uint8Array, from: number, to: number, code: Code, detail: (name: string) => string): false {
    const name = nameText(bytes, from, to)
    return this.#refuse(bytes, fault(code, `/fields/${escapeStep(name)}`, detail(shown(name))))
  }

  /** A line that is no UTF-8 is refused for that, whatever else is wrong with it. */
  #refuse(bytes: Uint8Array, error: KymoError): false {
    if (this.#isUtf8(bytes)) this.fault = error
    return false
  }
}
