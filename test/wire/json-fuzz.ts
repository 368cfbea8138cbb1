import assert from 'node:assert/strict'
import { Buffer, isUtf8 } from 'node:buffer'
import { KymoError } from '../../src/core/errors.ts'
import { hashBytes, ByteTable } from '../../src/wire/json/byte-table.ts'
import { parseDocument } from '../../src/wire/json/document.ts'
import { toValue } from '../../src/wire/json/nodes.ts'
import { FieldKind, FlatScanner } from '../../src/wire/json/flat.ts'
import { ItemSplitter } from '../../src/wire/payload/items.ts'

/** Random bytes that are JSON, nearly JSON, or not at all. */
export class JsonNoise {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 0
  }

  /** Uniform in [0, 1): mulberry32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }

  below(n: number): number {
    return Math.floor(this.next() * n)
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!
  }

  text(depth = 0): string {
    const roll = this.below(depth > 4 ? 5 : 8)
    if (roll < 2) return this.number()
    if (roll === 2) return this.pick(['true', 'false', 'null'])
    if (roll < 5) return this.string()
    if (roll === 5) return `[${this.#list(() => this.text(depth + 1))}]`
    return `{${this.#list(() => `${this.space()}${this.key()}${this.space()}:${this.space()}${this.text(depth + 1)}${this.space()}`)}}`
  }

  /** A flat object, as devices send it. */
  message(): string {
    if (this.below(3) === 0) {
      const plain = (): string =>
        `"${this.pick(knownKeys)}":${this.pick([() => String(this.number()), () => '"plain"', () => 'true', () => `${this.below(10 ** 6)}.${this.below(1000)}`])()}`
      return `{${this.#list(plain)}${this.pick(['', ',', ',"values":{}', `,"values":{${plain()}}`])}${this.pick(['', '', ` , ${plain()}`])}}`
    }
    const members = Array.from({ length: this.below(7) }, () => `${this.key()}:${this.below(9) === 0 ? this.text(3) : this.#scalar()}`)
    if (this.below(4) === 0) members.push(`"values":{${this.#list(() => `${this.key()}:${this.#scalar()}`)}}`)
    return `{${members.join(this.below(8) === 0 ? ' , ' : ',')}}`
  }

  number(): string {
    switch (this.below(9)) {
      case 0:
        return String(this.below(1000))
      case 1:
        return String((this.next() - 0.5) * 10 ** this.below(20))
      case 2:
        return (this.next() * 1000).toFixed(this.below(12))
      case 3:
        return `${this.below(100)}e${this.below(700) - 350}`
      case 4:
        return this.pick([
          '-0',
          '0',
          '0.0',
          '-0.0e-0',
          '1e999',
          '-1e999',
          '5e-324',
          '1.7976931348623157e308',
          '9007199254740991',
          '9007199254740992',
          '9007199254740993',
          '-9007199254740993',
        ])
      case 5:
        return Array.from({ length: 1 + this.below(25) }, (_, i) => String(i === 0 ? 1 + this.below(9) : this.below(10))).join('')
      case 6:
        return this.pick(['01', '-', '+1', '.5', '1.', '1e', '1e+', '0x10', 'NaN', 'Infinity', '-Infinity', '1_000', '00', '-01', '1.e5', '1.5.5'])
      case 7:
        return `${this.below(10 ** 9)}.${this.below(10 ** 9)}${this.below(10 ** 9)}`
      default:
        return `${this.pick(['', '-'])}${this.below(10)}.${this.below(100)}`
    }
  }

  string(): string {
    const parts = Array.from({ length: this.below(4) }, () =>
      this.pick([
        'a',
        'temp',
        ' ',
        '/',
        '~',
        '\\n',
        '\\"',
        '\\\\',
        '\\/',
        '\\u0041',
        '\\ud83d\\ude00',
        '\\ud83d',
        '\\udc00',
        'é',
        '☃',
        '😀',
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        '\u007f',
        '\u0085',
        '\\x',
        '\\u12g4',
        '\u0001',
      ]),
    )
    return `"${parts.join('')}"`
  }

  key(): string {
    return this.below(5) === 0 ? this.string() : `"${this.pick(knownKeys)}"`
  }

  space(): string {
    return this.below(6) === 0 ? this.pick([' ', '\n', '\t', '\r\n', '  ', '\v', '\u00a0']) : ''
  }

  /** A document, as bytes, mostly damaged in a place or two. */
  bytes(): Uint8Array {
    let bytes: Uint8Array = Buffer.from(this.below(3) === 0 ? this.text() : this.message())
    if (this.below(30) === 0) bytes = Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes])
    if (this.below(8) === 0) bytes = Buffer.from(`${this.space()}${Buffer.from(bytes).toString()}${this.space()}`)
    const damages = this.pick([0, 0, 1, 1, 2, 3])
    for (let i = 0; i < damages; i++) bytes = this.#damage(bytes)
    return bytes
  }

  #scalar(): string {
    return this.pick([() => this.number(), () => this.string(), () => this.pick(['true', 'false', 'null']), () => '"plain"'])()
  }

  #list(make: () => string): string {
    return Array.from({ length: this.below(4) }, make).join(',')
  }

  #damage(bytes: Uint8Array): Uint8Array {
    const at = this.below(bytes.length + 1)
    const rest = Buffer.from(bytes)
    switch (this.below(6)) {
      case 0:
        return rest.subarray(0, at)
      case 1:
        return Buffer.concat([rest.subarray(0, at), rest.subarray(at + 1 + this.below(3))])
      case 2:
        return Buffer.concat([
          rest.subarray(0, at),
          Buffer.from(this.pick(['"', '\\', '{', '}', '[', ']', ',', ':', 'null', '1', '.', 'e', '-', '\0', ' ', '"a":1,'])),
          rest.subarray(at),
        ])
      case 3: {
        const copy = Buffer.from(rest)
        if (copy.length > 0) copy[this.below(copy.length)] = this.below(256)
        return copy
      }
      case 4: {
        const copy = Buffer.from(rest)
        if (copy.length > 0) copy[this.below(copy.length)]! ^= 1 << this.below(8)
        return copy
      }
      default:
        return Buffer.concat([rest.subarray(0, at), rest.subarray(this.below(bytes.length + 1))])
    }
  }
}

const knownKeys = ['device_id', 'temperature', 'humidity', 'a', 'values', '__proto__', 'constructor', 'é', 'ts']

type Judged = { readonly ok: true; readonly value: unknown } | { readonly ok: false }

function judge(bytes: Uint8Array): Judged {
  if (!isUtf8(bytes)) return { ok: false }
  let text = Buffer.from(bytes).toString('utf8')
  if (text.startsWith('\ufeff')) text = text.slice(1)
  try {
    return { ok: true, value: valueOfJson(text) }
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw thrown
    return { ok: false }
  }
}

/**
 * JSON.parse, right. V8 13.6 (Node 24) gives wrong keys where a key is one escape: after JSON.parse('{"a":1,"\\\\":2}') the text
 * '{"a":1,"\\"":2}' has the keys a and backslash. So a text that JSON.parse takes is rewritten without keys, objects as arrays, and
 * parsed again.
 */
export function valueOfJson(text: string): unknown {
  const value = JSON.parse(text) as unknown
  return text.includes('\\') ? withoutKeys(text) : value
}

function withoutKeys(text: string): unknown {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s"{}[\]:,]+/g) ?? []
  const rewritten = tokens.map((token, i) => {
    const first = tokens[i + 1] === '}' || tokens[i + 1] === ']' ? '' : ','
    if (token === '{') return `["object"${first}`
    if (token === '[') return `["array"${first}`
    if (token === '}') return ']'
    return token === ':' ? ',' : token
  })
  return restored(JSON.parse(rewritten.join('')) as unknown)
}

function restored(value: unknown): unknown {
  if (!Array.isArray(value)) return value
  const items = (value as unknown[]).slice(1)
  if (value[0] === 'array') return items.map(restored)
  const entries: [string, unknown][] = []
  for (let i = 0; i < items.length; i += 2) entries.push([String(items[i]), restored(items[i + 1])])
  return Object.fromEntries(entries)
}

function checkDocument(bytes: Uint8Array, expected: Judged): boolean {
  try {
    const { root } = parseDocument(bytes, 0, bytes.length, { depthMax: 64, valuesMax: Infinity })
    assert.ok(expected.ok, 'the parser takes what JSON.parse refuses')
    assert.deepStrictEqual(toValue(root), expected.value)
    return true
  } catch (thrown) {
    if (!(thrown instanceof KymoError)) throw thrown
    assert.ok(!expected.ok, `the parser refuses what JSON.parse takes: ${thrown.message}`)
    return false
  }
}

/** True when the fast lane took it. What it took must be what JSON.parse gives. */
function checkFlat(scanner: FlatScanner, names: readonly string[], bytes: Uint8Array, start: number, end: number, expected: Judged): boolean {
  if (!scanner.scan(bytes, start, end)) return false
  assert.ok(expected.ok, 'the scanner takes what JSON.parse refuses')
  const own: [string, unknown][] = []
  let members = own
  for (let i = 0; i < scanner.count; i++) {
    const name = names[scanner.key[i]!]!
    const target = scanner.inner[i] === 1 ? members : own
    if (scanner.kind[i] === FieldKind.container) {
      members = []
      own.push([name, members])
    } else target.push([name, valueOf(scanner, bytes, i)])
  }
  const plain = (entries: readonly [string, unknown][]): unknown =>
    Object.fromEntries(entries.map(([k, v]) => [k, Array.isArray(v) ? plain(v as [string, unknown][]) : v]))
  assert.deepStrictEqual(plain(own), expected.value)
  return true
}

function valueOf(scanner: FlatScanner, bytes: Uint8Array, i: number): unknown {
  const source = (): string => Buffer.from(bytes.subarray(scanner.start[i], scanner.end[i])).toString('utf8')
  switch (scanner.kind[i]) {
    case FieldKind.null:
      return null
    case FieldKind.number:
      return scanner.number[i]
    case FieldKind.longInteger:
      return Number(source())
    case FieldKind.string:
      return source()
    default:
      return scanner.kind[i] === FieldKind.true
  }
}

function checkItems(bytes: Uint8Array, expected: Judged): void {
  const items = new ItemSplitter(bytes, 0, bytes.length, 'array')
  const found: unknown[] = []
  let last = 0
  while (items.next()) {
    assert.ok(items.start >= last && items.end >= items.start && items.end <= bytes.length, 'items lie in order within the body')
    last = items.end
    if (items.refusal !== undefined) {
      assert.ok(!(expected.ok && Array.isArray(expected.value)), `the splitter breaks an array that JSON.parse takes: ${items.refusal.message}`)
      continue
    }
    const item = judge(bytes.subarray(items.start, items.end))
    found.push(item.ok ? item.value : undefined)
  }
  if (expected.ok && Array.isArray(expected.value)) assert.deepStrictEqual(found, expected.value)
}

export interface FuzzResult {
  readonly cases: number
  readonly accepted: number
  readonly refused: number
  readonly fast: number
}

/**
 * Judges a document for each of `cases` by JSON.parse and by the parser, the flat scanner and the item splitter, and throws where they
 * differ. The error tells the seed, the case and its bytes.
 */
export function fuzz(cases: Iterable<number>, seed: number): FuzzResult {
  const noise = new JsonNoise(seed)
  const table = new ByteTable({ entriesMax: 1000, bytesMax: 100_000 })
  for (const name of knownKeys) {
    const bytes = Buffer.from(name)
    table.add(bytes, 0, bytes.length, hashBytes(bytes, 0, bytes.length))
  }
  const scanner = new FlatScanner(table)
  scanner.containerKey = knownKeys.indexOf('values')
  const result = { cases: 0, accepted: 0, refused: 0, fast: 0 }
  for (const i of cases) {
    result.cases++
    const bytes = noise.bytes()
    const expected = judge(bytes)
    // The scanner gets it amid other bytes, as in a read buffer that is shared.
    const before = noise.below(8)
    const shared = Buffer.concat([
      Buffer.from('{"a":1}}'.slice(0, before)),
      bytes,
      Buffer.from(noise.pick(['', '}', '1', '":1}', ' ', '99999999999999999999'])),
    ])
    try {
      if (checkDocument(bytes, expected)) result.accepted++
      else result.refused++
      if (checkFlat(scanner, knownKeys, shared, before, before + bytes.length, expected)) result.fast++
      checkItems(bytes, expected)
      const list = Buffer.concat([Buffer.from('['), bytes, Buffer.from(noise.pick([']', ',1]', '', ' ]', ',']))])
      checkItems(list, judge(list))
    } catch (cause) {
      const shown = JSON.stringify(Buffer.from(bytes).toString('latin1'))
      throw new Error(`seed ${seed}, case ${i}: ${shown} ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    }
  }
  return result
}
