import { Buffer, isUtf8 } from 'node:buffer'
import { JsonNoise } from './json-fuzz.ts'

/** Random lines of line protocol: right, nearly right, or mutated. */
export class LineNoise {
  readonly random: JsonNoise

  constructor(seed: number) {
    this.random = new JsonNoise(seed)
  }

  line(): string {
    const r = this.random
    const tags = Array.from({ length: r.below(4) }, () => `,${this.name()}=${this.name()}`).join('')
    const fields = Array.from({ length: 1 + r.below(5) }, () => `${this.name()}=${this.value()}`).join(',')
    return `${this.name()}${tags} ${fields}${r.pick(['', '', ' ', '  '])}${r.pick(['', ` ${this.time()}`, ` ${this.time()}`, ` ${this.time()} `])}`
  }

  /** The line with a few bytes changed, left out, doubled or swapped. */
  mutated(line: string): Buffer {
    const r = this.random
    let bytes = Buffer.from(line)
    for (let n = r.below(4); n > 0; n--) {
      const at = r.below(bytes.length + 1)
      const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)]
      const insert = Buffer.from(r.pick([',', ' ', '=', '"', '\\', '\\\\', 'i', '1', '\t', '\r', '-', '.', 'é', '\u0000', 'e9', 't', 'NaN']))
      bytes = r.pick([
        () => Buffer.concat([before, insert, after]),
        () => Buffer.concat([before, after.subarray(1)]),
        () => Buffer.concat([before, after.subarray(0, 3), after]),
        () => Buffer.concat([before, Buffer.of(r.below(256)), after.subarray(1)]),
        () => before,
      ])()
    }
    return bytes
  }

  name(): string {
    return this.random.pick([
      'cpu',
      'usage',
      'host',
      'device',
      'a',
      'b',
      'a\\ b',
      'c\\,d',
      'e\\=f',
      'g\\h',
      'i\\\\',
      '\\',
      'tür',
      '1',
      '-',
      'x"y',
      't',
    ])
  }

  value(): string {
    const r = this.random
    switch (r.below(10)) {
      case 0:
        return r.pick(['t', 'T', 'true', 'True', 'TRUE', 'f', 'F', 'false', 'False', 'FALSE', 'tRUE', 'yes', 'tr'])
      case 1:
        return `"${r.pick(['', 'on', 'a b', 'a,b=c', 'q\\"q', 'b\\\\b', 'x\\y', 'é', 'l1\nl2', '\\\\', '\\"'])}"`
      case 2:
        return `${r.pick(['', '-', '+'])}${r.below(10 ** r.below(10))}${r.pick(['i', 'u'])}`
      case 3:
        return r.pick(['9007199254740992i', '9007199254740993i', '-9223372036854775808i', '9223372036854775808i', '18446744073709551615u', '007i'])
      case 4:
        return r.pick(['1.', '.5', '-.5', '.', '-', '+1', '1e5', '1E-7', '1e', '1e999', '1.5i', '0x10', '-0', '1_0', 'inf', '123456789012345678'])
      case 5:
        return String(r.next() * 10 ** r.below(20))
      default:
        return `${r.pick(['', '-'])}${r.below(1000)}.${r.below(1000)}`
    }
  }

  time(): string {
    return this.random.pick([
      '1700000000123456789',
      '1700000000000000000',
      '0',
      '1',
      '999',
      '-1',
      '9223372036854775807',
      '99999999999999999999',
      '1.5',
      '17e8',
    ])
  }
}

export function goodLine(noise: LineNoise): string {
  for (;;) {
    const line = noise.line()
    if (referenceParse(Buffer.from(line)) !== undefined) return line
  }
}

/** The same fields in the same place with other values: what the next line of a sender looks like. */
export function withOtherValues(line: string, noise: LineNoise): string {
  const value = (): string => (noise.random.below(8) === 0 ? noise.value() : String(noise.random.next() * 10 ** noise.random.below(8)))
  return line.replaceAll(/(?<==)-?\d+\.\d+/g, value).replace(/ \d{10,}$/, () => ` ${noise.time()}`)
}

export interface ReferenceLine {
  readonly measurement: string
  readonly tags: (readonly [string, string])[]
  readonly fields: { readonly name: string; readonly kind: string; readonly value: number; readonly text: string }[]
  readonly timeUs: number
}

/** The same as parseLine, by regular expressions over text and BigInt; undefined: refused. Nanoseconds. */
export function referenceParse(bytes: Uint8Array): ReferenceLine | undefined {
  if (!isUtf8(bytes)) return undefined
  const text = Buffer.from(bytes)
    .toString()
    .replace(/^[ \t\r]+|[ \t\r]+$/g, '')
  const keyEnd = text.search(/(?<!\\) /)
  if (keyEnd < 0) return undefined
  const [measurement, ...tagParts] = text.slice(0, keyEnd).split(/(?<!\\),/)
  if (measurement === undefined || measurement === '') return undefined
  const tags = tagParts.map((part) => part.split(/(?<!\\)=/))
  if (tags.some((parts) => parts.length !== 2 || parts.includes(''))) return undefined
  const pairs = tags.map(([key, value]) => [unescape(key!), unescape(value!)] as const)
  if (new Set(pairs.map(([key]) => key)).size !== pairs.length) return undefined
  let rest = text.slice(keyEnd).replace(/^[ \t\r]+/, '')
  const fields: ReferenceLine['fields'] = []
  for (;;) {
    const stop = rest.search(/(?<!\\)[=, ]/)
    if (stop < 1 || rest[stop] !== '=') return undefined
    const name = unescape(rest.slice(0, stop))
    rest = rest.slice(stop + 1)
    const quoted = /^"((?:\\["\\]|\\(?!["\\])|[^"\\])*)"/.exec(rest)
    const raw = quoted?.[0] ?? /^[^, \t\r]*/.exec(rest)![0]
    if (quoted === null && raw.startsWith('"')) return undefined
    const value = quoted === null ? bare(raw) : { kind: 'text', value: Number.NaN, text: quoted[1]!.replaceAll(/\\(["\\])/g, '$1') }
    if (value === undefined || value.text.includes('\0') || fields.some((field) => field.name === name)) return undefined
    fields.push({ name, ...value })
    rest = rest.slice(raw.length)
    if (!rest.startsWith(',')) break
    rest = rest.slice(1)
  }
  if (rest !== '' && !/^[ \t\r]/.test(rest)) return undefined
  const time = rest.replace(/^[ \t\r]+/, '')
  if (time === '') return { measurement: measurement.replaceAll(/\\([, ])/g, '$1'), tags: pairs, fields, timeUs: Number.NaN }
  if (!/^\d{1,19}$/.test(time)) return undefined
  const us = BigInt(time) / 1000n
  if (us > 9_007_199_254_740_991n) return undefined
  return { measurement: measurement.replaceAll(/\\([, ])/g, '$1'), tags: pairs, fields, timeUs: Number(us) }
}

function unescape(name: string): string {
  return name.replaceAll(/\\([, =])/g, '$1')
}

function bare(raw: string): { kind: string; value: number; text: string } | undefined {
  if (/^(t|true|T|True|TRUE)$/.test(raw)) return { kind: 'boolean', value: 1, text: '' }
  if (/^(f|false|F|False|FALSE)$/.test(raw)) return { kind: 'boolean', value: 0, text: '' }
  if (raw.length > 512) return undefined
  const whole = /^([+-]?)(\d+)([iu])$/.exec(raw)
  if (whole !== null) {
    const size = BigInt(whole[2]!)
    const value = whole[1] === '-' ? -size : size
    if (
      whole[3] === 'u'
        ? whole[1] === '-' || value > 18_446_744_073_709_551_615n
        : value > 9_223_372_036_854_775_807n || value < -9_223_372_036_854_775_808n
    )
      return undefined
    if (size > 9_007_199_254_740_992n) return { kind: 'bigInteger', value: Number.NaN, text: String(value) }
    return { kind: 'number', value: Number(value), text: '' }
  }
  const parts = /^[+-]?(\d*)(\.?)(\d*)(?:[eE][+-]?\d+)?$/.exec(raw)
  if (parts === null || parts[1] + parts[3]! === '') return undefined
  const value = Number.parseFloat(raw)
  return Number.isFinite(value) ? { kind: 'number', value: value === 0 ? 0 : value, text: '' } : undefined
}
