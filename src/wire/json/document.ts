import { Buffer, isUtf8 } from 'node:buffer'
import { KymoError } from '../../core/errors.ts'
import type { JsonArray, JsonNode, JsonNumber, JsonObject } from './nodes.ts'
import { boundedPointer, pointerOf } from './pointer.ts'
import { Byte, skipByteOrderMark, skipSpace } from './text.ts'
import { invalidUtf8At } from './utf8.ts'

export interface JsonDocument {
  readonly root: JsonNode
  /** The first key that stands twice in one object. JSON.parse would let the last one win. */
  readonly duplicate?: { readonly pointer: string; readonly key: string }
}

/** Keys that are met often, found by their bytes: saves making a string of each. */
export interface KnownKeys {
  /** The key whose unescaped bytes are bytes[start, end), or undefined when it is not known. */
  keyOf(bytes: Uint8Array, start: number, end: number): string | undefined
}

export interface JsonBounds {
  /** Objects and arrays within each other. */
  readonly depthMax: number
  /** Values of any kind, containers included. */
  readonly valuesMax: number
}

/**
 * Parses any JSON text (RFC 8259), of which it accepts exactly what JSON.parse accepts of valid UTF-8, plus a leading byte order
 * mark. Throws body_not_utf8, body_not_json, too_deep or too_many_fields, with a pointer to the value and the byte's position
 * counted from `start`. Recursion is as deep as `depthMax` at most.
 */
export function parseDocument(bytes: Uint8Array, start: number, end: number, bounds: JsonBounds, known?: KnownKeys): JsonDocument {
  const contents = bytes.subarray(start, end)
  if (!isUtf8(contents)) {
    const detail = `The body is not valid UTF-8: byte ${invalidUtf8At(contents)} is none that may stand there.`
    throw new KymoError('body_not_utf8', { detail, errors: [{ pointer: '', detail }] })
  }
  return new DocumentParser(bytes, start, end, bounds, known).document()
}

/** Its source is cut out of the message only when somebody asks. */
class NumberNode implements JsonNumber {
  readonly kind = 'number'
  readonly value: number
  readonly integer: boolean
  readonly start: number
  readonly end: number
  readonly #bytes: Buffer

  constructor(bytes: Buffer, value: number, integer: boolean, start: number, end: number) {
    this.#bytes = bytes
    this.value = value
    this.integer = integer
    this.start = start
    this.end = end
  }

  get source(): string {
    return this.#bytes.toString('latin1', this.start, this.end)
  }
}

class DocumentParser {
  readonly #bytes: Buffer
  readonly #start: number
  readonly #end: number
  readonly #bounds: JsonBounds
  readonly #known: KnownKeys | undefined
  readonly #path: (string | number)[] = []
  #duplicate: { pointer: string; key: string } | undefined
  #values = 0
  #at: number

  constructor(bytes: Uint8Array, start: number, end: number, bounds: JsonBounds, known: KnownKeys | undefined) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#known = known
    this.#start = start
    this.#end = end
    this.#bounds = bounds
    this.#at = skipByteOrderMark(bytes, start, end)
  }

  document(): JsonDocument {
    this.#space()
    const root = this.#value(0)
    this.#space()
    if (this.#at < this.#end) this.#fail('The document is over')
    return this.#duplicate === undefined ? { root } : { root, duplicate: this.#duplicate }
  }

  #value(depth: number): JsonNode {
    if (++this.#values > this.#bounds.valuesMax) {
      this.#refuse('too_many_fields', `More than ${this.#bounds.valuesMax} values in one message.`)
    }
    const start = this.#at
    const c = this.#bytes[start]
    if (start >= this.#end) this.#fail('A value is missing')
    if (c === Byte.quote) {
      const text = this.#string()
      return { kind: 'string', text, start, end: this.#at }
    }
    if (c === Byte.openBrace || c === Byte.openBracket) {
      if (depth >= this.#bounds.depthMax) this.#refuse('too_deep', `Nested deeper than ${this.#bounds.depthMax} levels.`)
      return c === Byte.openBrace ? this.#object(depth + 1) : this.#array(depth + 1)
    }
    if (c === Byte.minus || isDigit(c)) return this.#number()
    if (this.#literal('true')) return { kind: 'true', start, end: this.#at }
    if (this.#literal('false')) return { kind: 'false', start, end: this.#at }
    if (this.#literal('null')) return { kind: 'null', start, end: this.#at }
    this.#at = start
    return this.#fail(this.#literal('NaN') || this.#literal('Infinity') ? noNumber : 'No value begins here', start)
  }

  #object(depth: number): JsonObject {
    const node: JsonObject = { kind: 'object', keys: [], items: [], start: this.#at++, end: 0 }
    let seen: Set<string> | undefined
    this.#space()
    if (this.#bytes[this.#at] !== Byte.closeBrace || this.#at >= this.#end) {
      for (;;) {
        if (this.#byte() !== Byte.quote) this.#fail('A key in quotes is expected')
        const key = this.#string(this.#known)
        this.#path.push(key)
        if (node.keys.length === 8) seen = new Set(node.keys)
        if (this.#duplicate === undefined && (seen?.has(key) ?? node.keys.includes(key))) this.#duplicate = { pointer: pointerOf(this.#path), key }
        seen?.add(key)
        this.#space()
        if (this.#byte() !== Byte.colon) this.#fail('A colon is expected')
        this.#at++
        this.#space()
        node.keys.push(key)
        node.items.push(this.#value(depth))
        this.#path.pop()
        this.#space()
        if (this.#byte() !== Byte.comma) break
        this.#at++
        this.#space()
      }
      if (this.#byte() !== Byte.closeBrace) this.#fail('A comma or a closing brace is expected')
    }
    node.end = ++this.#at
    return node
  }

  #array(depth: number): JsonArray {
    const node: JsonArray = { kind: 'array', items: [], start: this.#at++, end: 0 }
    this.#space()
    if (this.#byte() !== Byte.closeBracket) {
      for (;;) {
        this.#path.push(node.items.length)
        node.items.push(this.#value(depth))
        this.#path.pop()
        this.#space()
        if (this.#byte() !== Byte.comma) break
        this.#at++
        this.#space()
      }
      if (this.#byte() !== Byte.closeBracket) this.#fail('A comma or a closing bracket is expected')
    }
    node.end = ++this.#at
    return node
  }

  #number(): JsonNumber {
    const bytes = this.#bytes
    const end = this.#end
    const start = this.#at
    const negative = bytes[start] === Byte.minus
    const whole = negative ? start + 1 : start
    let at = whole
    let significand = 0
    if (at < end && bytes[at] === Byte.zero) at++
    else {
      for (; at < end && isDigit(bytes[at]); at++) significand = significand * 10 + (bytes[at]! - Byte.zero)
      if (at === whole) this.#noDigit(start, at)
    }
    let point = 0
    if (at < end && bytes[at] === Byte.point) {
      point = ++at
      for (; at < end && isDigit(bytes[at]); at++) significand = significand * 10 + (bytes[at]! - Byte.zero)
      if (at === point) this.#noDigit(start, at)
    }
    const digitsEnd = at
    if (at < end && (bytes[at] === 0x65 || bytes[at] === 0x45)) {
      at++
      if (at < end && (bytes[at] === Byte.plus || bytes[at] === Byte.minus)) at++
      const from = at
      while (at < end && isDigit(bytes[at])) at++
      if (at === from) this.#noDigit(start, at)
    }
    this.#at = at
    // Up to 15 digits without an exponent: two exact doubles, one rounding (as in the flat scanner).
    const exact = digitsEnd === at && at - whole <= 16
    if (!exact) return new NumberNode(bytes, Number(bytes.toString('latin1', start, at)), point === 0 && digitsEnd === at, start, at)
    const value = point === 0 ? significand : significand / tenTo[at - point]!
    return significand <= Number.MAX_SAFE_INTEGER
      ? new NumberNode(bytes, negative ? -value : value, point === 0, start, at)
      : new NumberNode(bytes, Number(bytes.toString('latin1', start, at)), point === 0, start, at)
  }

  #noDigit(start: number, at: number): never {
    this.#at = at
    return this.#fail(at === start + 1 && this.#literal('Infinity') ? noNumber : 'A digit is expected', at)
  }

  /** Reads a string from its opening quote to behind its closing one. */
  #string(known?: KnownKeys): string {
    const bytes = this.#bytes
    const end = this.#end
    const from = this.#at + 1
    let at = from
    let ascii = true
    for (; ; at++) {
      if (at >= end) this.#fail('The string is not closed', end)
      const c = bytes[at]!
      if (c === Byte.quote) break
      if (c < Byte.space) this.#fail('A control character must be escaped', at)
      if (c === Byte.backslash) return bytes.toString('utf8', from, at) + this.#escaped(at)
      if (c > 0x7f) ascii = false
    }
    this.#at = at + 1
    if (from === at) return ''
    return known?.keyOf(bytes, from, at) ?? (ascii ? bytes.toString('latin1', from, at) : bytes.toString('utf8', from, at))
  }

  /** The rest of a string from its first escape on, unit by unit: a string of nothing but escapes takes 5 ns a byte. */
  #escaped(from: number): string {
    const bytes = this.#bytes
    const end = this.#end
    const units: number[] = []
    let text = ''
    let at = from
    for (;;) {
      if (at >= end) this.#fail('The string is not closed', end)
      const c = bytes[at]!
      if (c === Byte.quote) break
      if (c < Byte.space) this.#fail('A control character must be escaped', at)
      if (units.length >= unitsMax) {
        text += String.fromCharCode(...units)
        units.length = 0
      }
      if (c === Byte.backslash) {
        units.push(this.#escape(at))
        at += bytes[at + 1] === 0x75 ? 6 : 2
      } else if (c < 0x80) {
        units.push(c)
        at++
        // The document is valid UTF-8 (RFC 3629, section 3): a lead byte has all that follow it.
      } else if (c < 0xe0) {
        units.push(((c & 0x1f) << 6) | (bytes[at + 1]! & 0x3f))
        at += 2
      } else if (c < 0xf0) {
        units.push(((c & 0x0f) << 12) | ((bytes[at + 1]! & 0x3f) << 6) | (bytes[at + 2]! & 0x3f))
        at += 3
      } else {
        const beyond = (((c & 0x07) << 18) | ((bytes[at + 1]! & 0x3f) << 12) | ((bytes[at + 2]! & 0x3f) << 6) | (bytes[at + 3]! & 0x3f)) - 0x10000
        units.push(0xd800 | (beyond >> 10), 0xdc00 | (beyond & 0x3ff))
        at += 4
      }
    }
    this.#at = at + 1
    return text + String.fromCharCode(...units)
  }

  /** Its UTF-16 unit. */
  #escape(at: number): number {
    const letter = at + 1 < this.#end ? this.#bytes[at + 1]! : -1
    const simple = simpleEscapes.get(letter)
    if (simple !== undefined) return simple
    if (letter !== 0x75) this.#fail('No such escape', at)
    if (at + 6 > this.#end) this.#fail('The string is not closed', this.#end)
    let unit = 0
    for (let i = at + 2; i < at + 6; i++) {
      const digit = hexDigit(this.#bytes[i]!)
      if (digit < 0) this.#fail('Four hexadecimal digits are expected', i)
      unit = unit * 16 + digit
    }
    return unit
  }

  #literal(word: string): boolean {
    const at = this.#at
    if (at + word.length > this.#end) return false
    for (let i = 0; i < word.length; i++) if (this.#bytes[at + i] !== word.charCodeAt(i)) return false
    this.#at = at + word.length
    return true
  }

  #byte(): number {
    return this.#at < this.#end ? this.#bytes[this.#at]! : -1
  }

  #space(): void {
    this.#at = skipSpace(this.#bytes, this.#at, this.#end)
  }

  #fail(what: string, at = this.#at): never {
    const where = at >= this.#end ? 'at its end' : `at byte ${at - this.#start}`
    return this.#refuse('body_not_json', `The body is not valid JSON: ${what}, ${where}.`)
  }

  #refuse(code: 'body_not_json' | 'too_deep' | 'too_many_fields', detail: string): never {
    throw new KymoError(code, { detail, errors: [{ pointer: boundedPointer(pointerOf(this.#path)), detail }] })
  }
}

/** Units of a string that are put together at a time, as arguments of one call. */
const unitsMax = 4_096

const noNumber = 'NaN and Infinity are no JSON values; leave the field out or send null'

const tenTo = Float64Array.from({ length: 17 }, (_, i) => Number(`1e${i}`))

const simpleEscapes = new Map([
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x2f, 0x2f],
  [0x62, 0x08],
  [0x66, 0x0c],
  [0x6e, 0x0a],
  [0x72, 0x0d],
  [0x74, 0x09],
])

function isDigit(c: number | undefined): boolean {
  return c !== undefined && c >= Byte.zero && c <= Byte.nine
}

function hexDigit(c: number): number {
  if (c >= 0x30 && c <= 0x39) return c - 0x30
  const lower = c | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1
}
