import { isUtf8 } from 'node:buffer'
import { KymoError, type Code } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { boundedPointer, escapeStep } from '../json/pointer.ts'
import { asciiText, Byte, utf8Text } from '../json/text.ts'
import { stringEnd } from './lines.ts'
import { lineTimeUs, numberBytesMax } from './number.ts'

export interface LineField {
  readonly name: string
  /** Where its key stands, as written. */
  readonly start: number
  readonly end: number
  readonly kind: 'number' | 'boolean' | 'text' | 'bigInteger'
  /** Booleans as 0 and 1; NaN for text. */
  readonly value: number
  /** Of text and of integers beyond 2^53. */
  readonly text: string
}

export interface ParsedLine {
  readonly measurement: string
  /** In the line's order. */
  readonly tags: readonly (readonly [key: string, value: string])[]
  readonly fields: readonly LineField[]
  /** Measurement and tags as written are bytes[keyStart, keyEnd). */
  readonly keyStart: number
  readonly keyEnd: number
  /** Epoch microseconds; NaN when the line has no time. */
  readonly timeUs: number
}

const equals = 0x3d
const booleans: ReadonlyMap<string, number> = new Map([
  ...['t', 'T', 'true', 'True', 'TRUE'].map((text): [string, number] => [text, 1]),
  ...['f', 'F', 'false', 'False', 'FALSE'].map((text): [string, number] => [text, 0]),
])
const shownCharsMax = 40

/**
 * One line of InfluxDB line protocol (measurement[,tag=value…] field=value[,field=value…] [time]), as InfluxDB reads it: a backslash
 * escapes comma, space and equals sign in names and tag values, quote and backslash in strings, and is itself anywhere else. Throws
 * `line_invalid`, `body_not_utf8`, `duplicate_key`, `too_many_fields`, `value_invalid`, `value_not_finite` or `time_invalid`; the pointer is
 * /measurement, /tags/<key>, /fields/<key> or /timestamp. `unitUs`: see `lineUnitUs`.
 */
export function parseLine(bytes: Uint8Array, start: number, end: number, unitUs: number): ParsedLine {
  if (end - start > limits.lineBytesMax) throw fault('body_too_large', '', `The line is longer than ${limits.lineBytesMax} bytes.`)
  if (!isUtf8(bytes.subarray(start, end))) throw fault('body_not_utf8', '', 'The line is not valid UTF-8.')
  return new LineParser(bytes, start, end, unitUs).line()
}

class LineParser {
  readonly #bytes: Uint8Array
  readonly #end: number
  readonly #unitUs: number
  #at: number

  constructor(bytes: Uint8Array, start: number, end: number, unitUs: number) {
    this.#bytes = bytes
    this.#at = start
    this.#unitUs = unitUs
    let last = end
    while (last > start && isBlank(bytes[last - 1]!)) last--
    this.#end = last
  }

  line(): ParsedLine {
    this.#skipBlank()
    const keyStart = this.#at
    const measurement = this.#name(false)
    if (measurement === '') throw fault('line_invalid', '/measurement', 'The line begins without a measurement.')
    const tags = this.#tags()
    const keyEnd = this.#at
    this.#skipBlank()
    if (this.#at >= this.#end) throw fault('line_invalid', '/fields', 'The line has no field. Is a space missing, or one too many escaped?')
    const fields = this.#fields()
    this.#skipBlank()
    return { measurement, tags, fields, keyStart, keyEnd, timeUs: this.#time() }
  }

  #skipBlank(): void {
    while (this.#at < this.#end && isBlank(this.#bytes[this.#at]!)) this.#at++
  }

  /** Up to the next comma or space (or equals sign, when `key`) that is not escaped; without its escapes. */
  #name(key: boolean): string {
    const bytes = this.#bytes
    const from = this.#at
    let at = from
    let escaped = false
    for (; at < this.#end; at++) {
      const c = bytes[at]!
      if (c === Byte.backslash) escaped = true
      else if ((c === Byte.comma || c === Byte.space || (key && c === equals)) && (at === from || bytes[at - 1] !== Byte.backslash)) break
    }
    this.#at = at
    const text = utf8Text(bytes, from, at)
    if (!escaped) return text
    return key ? text.replace(/\\([, =])/g, '$1') : text.replace(/\\([, ])/g, '$1')
  }

  #tags(): [string, string][] {
    const bytes = this.#bytes
    const tags: [string, string][] = []
    const seen = new Set<string>()
    while (bytes[this.#at] === Byte.comma && this.#at < this.#end) {
      this.#at++
      const key = this.#name(true)
      const pointer = `/tags/${escapeStep(key)}`
      if (key === '') throw fault('line_invalid', '/tags', 'A tag has no key: two commas, or a comma before the space.')
      if (!this.#take(equals)) throw fault('line_invalid', pointer, `The tag ${shown(key)} has no value.`)
      const value = this.#name(true)
      if (value === '') throw fault('line_invalid', pointer, `The tag ${shown(key)} has an empty value. Leave the tag out.`)
      if (bytes[this.#at] === equals && this.#at < this.#end) {
        throw fault('line_invalid', pointer, `The value of the tag ${shown(key)} has an equals sign that is not escaped (\\=).`)
      }
      if (seen.has(key)) throw fault('duplicate_key', pointer, `The tag ${shown(key)} stands twice in the line.`)
      seen.add(key)
      tags.push([key, value])
    }
    return tags
  }

  #fields(): LineField[] {
    const fields: LineField[] = []
    const seen = new Set<string>()
    do {
      const start = this.#at
      const name = this.#name(true)
      const end = this.#at
      const pointer = `/fields/${escapeStep(name)}`
      if (name === '') throw fault('line_invalid', '/fields', 'A field has no key: two commas, or a comma before a space.')
      if (!this.#take(equals)) throw fault('line_invalid', pointer, `The field ${shown(name)} has no value.`)
      if (seen.has(name)) throw fault('duplicate_key', pointer, `The field ${shown(name)} stands twice in the line.`)
      seen.add(name)
      if (fields.length === limits.valuesPerMessageMax) {
        throw fault('too_many_fields', pointer, `The line has more than ${limits.valuesPerMessageMax} fields.`)
      }
      const value = this.#take(Byte.quote) ? this.#string(pointer, name) : this.#bare(pointer, name)
      fields.push({ name, start, end, ...value })
    } while (this.#take(Byte.comma))
    if (this.#at < this.#end && !isBlank(this.#bytes[this.#at]!)) {
      const name = fields.at(-1)!.name
      throw fault(
        'line_invalid',
        `/fields/${escapeStep(name)}`,
        `Something follows the string of the field ${shown(name)}: escape quotes in it (\\").`,
      )
    }
    return fields
  }

  #take(byte: number): boolean {
    if (this.#at >= this.#end || this.#bytes[this.#at] !== byte) return false
    this.#at++
    return true
  }

  #string(pointer: string, name: string): Omit<LineField, 'name' | 'start' | 'end'> {
    const from = this.#at
    const close = stringEnd(this.#bytes, from, this.#end)
    if (close < 0) throw fault('line_invalid', pointer, `The string of the field ${shown(name)} is not closed.`)
    this.#at = close + 1
    const text = utf8Text(this.#bytes, from, close).replace(/\\(["\\])/g, '$1')
    if (text.length > limits.textBytesMax || close - from > 2 * limits.textBytesMax || new TextEncoder().encode(text).length > limits.textBytesMax) {
      throw fault('value_invalid', pointer, `The text is longer than ${limits.textBytesMax} bytes.`)
    }
    if (text.includes('\0')) throw fault('value_invalid', pointer, 'The text has the character U+0000, which stores do not keep.')
    return { kind: 'text', value: Number.NaN, text }
  }

  #bare(pointer: string, name: string): Omit<LineField, 'name' | 'start' | 'end'> {
    const bytes = this.#bytes
    const from = this.#at
    let at = from
    while (at < this.#end && bytes[at] !== Byte.comma && !isBlank(bytes[at]!)) at++
    this.#at = at
    const text = asciiText(bytes, from, Math.min(at, from + numberBytesMax))
    const boolean = booleans.get(text)
    if (boolean !== undefined) return { kind: 'boolean', value: boolean, text: '' }
    if (at === from) throw fault('line_invalid', pointer, `The field ${shown(name)} has no value.`)
    if (at - from > numberBytesMax) throw fault('line_invalid', pointer, `The value of the field ${shown(name)} is too long for a number. ${advice}`)
    if (/^[+-]?\d+i$|^\+?\d+u$/.test(text)) return integer(text, pointer)
    if (/^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/.test(text)) {
      const value = Number(text)
      if (!Number.isFinite(value)) throw fault('value_not_finite', pointer, `${shown(text)} is beyond what a double can hold.`)
      // Adding 0 turns -0 into 0.
      return { kind: 'number', value: value + 0, text: '' }
    }
    if (/^[+-]?(?:nan|inf(?:inity)?)$/i.test(text)) throw fault('value_not_finite', pointer, `${text} is no value; leave the field out.`)
    throw fault('line_invalid', pointer, `${shown(utf8Text(bytes, from, at))} is neither a number nor a boolean. ${advice}`)
  }

  #time(): number {
    if (this.#at >= this.#end) return Number.NaN
    const bytes = this.#bytes
    const from = this.#at
    let at = from
    while (at < this.#end && !isBlank(bytes[at]!)) at++
    const text = utf8Text(bytes, from, Math.min(at, from + numberBytesMax))
    if (!/^-?\d+$/.test(text)) {
      throw fault('line_invalid', '/timestamp', `${shown(text)} is no time: an integer of the request's precision is. Escape spaces in names (\\ ).`)
    }
    const timeUs = lineTimeUs(bytes, from, at, this.#unitUs)
    if (Number.isNaN(timeUs)) {
      throw fault('time_invalid', '/timestamp', `${shown(text)} lies outside 1970 to 2255. Does the request's precision fit?`)
    }
    this.#at = at
    this.#skipBlank()
    if (this.#at < this.#end) throw fault('line_invalid', '/timestamp', 'Something follows the time.')
    return timeUs
  }
}

const advice = 'Text stands in double quotes; integers may end in i or u.'

function integer(text: string, pointer: string): Omit<LineField, 'name' | 'start' | 'end'> {
  const value = BigInt(text.slice(text.startsWith('+') ? 1 : 0, -1))
  const fits = text.endsWith('u') ? value < 1n << 64n : BigInt.asIntN(64, value) === value
  if (!fits) throw fault('value_invalid', pointer, `${shown(text)} is beyond 64 bits.`)
  const exact = value <= 1n << 53n && value >= -(1n << 53n)
  if (exact) return { kind: 'number', value: Number(value), text: '' }
  return { kind: 'bigInteger', value: Number.NaN, text: value.toString() }
}

function isBlank(c: number): boolean {
  return c === Byte.space || c === Byte.tab || c === Byte.carriageReturn
}

function shown(text: string): string {
  const cut = text.length > shownCharsMax ? `${text.slice(0, shownCharsMax).toWellFormed()}…` : text
  return JSON.stringify(cut).replace(/[\u007f-\u009f\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

function fault(code: Code, pointer: string, detail: string): KymoError {
  return new KymoError(code, { detail, errors: [{ pointer: boundedPointer(pointer), detail }] })
}
