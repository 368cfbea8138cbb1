import assert from 'node:assert/strict'
import { field, hex, packet } from './client-packets.ts'

/*
 * What a client of MQTT 5 sends, and what it is sent, in words: written from the standard and not from our codec. What the server may not send at all
 * fails here: flags, reason codes and properties that are not of the packet.
 */

type Kind = 'byte' | 'uint16' | 'uint32' | 'variable' | 'text' | 'binary' | 'pair'

/** Table 2-4. */
const table = {
  payloadFormat: [0x01, 'byte'],
  messageExpiry: [0x02, 'uint32'],
  contentType: [0x03, 'text'],
  responseTopic: [0x08, 'text'],
  correlation: [0x09, 'binary'],
  identifier: [0x0b, 'variable'],
  sessionExpiry: [0x11, 'uint32'],
  assignedClientId: [0x12, 'text'],
  serverKeepAlive: [0x13, 'uint16'],
  authMethod: [0x15, 'text'],
  authData: [0x16, 'binary'],
  problemInformation: [0x17, 'byte'],
  willDelay: [0x18, 'uint32'],
  requestResponse: [0x19, 'byte'],
  responseInformation: [0x1a, 'text'],
  serverReference: [0x1c, 'text'],
  reason: [0x1f, 'text'],
  receiveMaximum: [0x21, 'uint16'],
  aliasMaximum: [0x22, 'uint16'],
  alias: [0x23, 'uint16'],
  maximumQos: [0x24, 'byte'],
  retainAvailable: [0x25, 'byte'],
  user: [0x26, 'pair'],
  maximumPacket: [0x27, 'uint32'],
  wildcards: [0x28, 'byte'],
  identifiers: [0x29, 'byte'],
  shared: [0x2a, 'byte'],
} as const satisfies Readonly<Record<string, readonly [number, Kind]>>

type Name = keyof typeof table
export type Property = readonly [Name, number | string | readonly [string, string]]

function variable(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  do {
    const digit = rest % 128
    rest = Math.floor(rest / 128)
    bytes.push(rest > 0 ? digit + 128 : digit)
  } while (rest > 0)
  return bytes
}

function value(kind: Kind, given: Property[1]): Uint8Array | number[] {
  if (typeof given === 'object') return Buffer.concat([field(given[0]), field(given[1])])
  if (kind === 'text') return field(String(given))
  if (kind === 'binary') return field(Buffer.from(String(given), 'latin1'))
  const n = Number(given)
  if (kind === 'variable') return variable(n)
  if (kind === 'byte') return [n]
  return kind === 'uint16' ? [n >> 8, n & 255] : [n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255]
}

/** A property length and properties, in the order given. */
export function section(properties: readonly Property[] = []): Uint8Array {
  const content = Buffer.concat(
    properties.map(([name, given]) => Buffer.concat([Uint8Array.of(table[name][0]), Uint8Array.from(value(table[name][1], given))])),
  )
  return Buffer.concat([Uint8Array.from(variable(content.length)), content])
}

export interface Will {
  readonly topic: string
  readonly payload: string
  readonly qos?: number
  readonly retain?: boolean
  readonly properties?: readonly Property[]
}

export interface Hello {
  readonly clean?: boolean
  readonly keepAlive?: number
  readonly properties?: readonly Property[]
  readonly will?: Will
  readonly username?: string
  readonly password?: string
}

export function connect5(clientId: string, { clean = true, keepAlive = 0, properties, will, username, password }: Hello = {}): Uint8Array {
  let flags = clean ? 2 : 0
  if (will !== undefined) flags |= 4 | ((will.qos ?? 0) << 3) | (will.retain === true ? 0x20 : 0)
  if (password !== undefined) flags |= 0x40
  if (username !== undefined) flags |= 0x80
  return packet(
    0x10,
    field('MQTT'),
    [5, flags, keepAlive >> 8, keepAlive & 255],
    section(properties),
    field(clientId),
    ...(will === undefined ? [] : [section(will.properties), field(will.topic), field(will.payload)]),
    ...(username === undefined ? [] : [field(username)]),
    ...(password === undefined ? [] : [field(password)]),
  )
}

export interface Say {
  readonly qos?: number
  readonly id?: number
  readonly dup?: boolean
  readonly retain?: boolean
  readonly properties?: readonly Property[]
}

export function publish5(
  topic: string,
  payload: string | Uint8Array,
  { qos = 0, id = 1, dup = false, retain = false, properties }: Say = {},
): Uint8Array {
  const first = 0x30 | (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0)
  return packet(first, field(topic), qos > 0 ? [id >> 8, id & 255] : [], section(properties), Buffer.from(payload))
}

/** Each filter with its subscription options. */
export function subscribe5(id: number, filters: Readonly<Record<string, number>>, properties?: readonly Property[]): Uint8Array {
  return packet(0x82, [id >> 8, id & 255], section(properties), ...Object.entries(filters).flatMap(([filter, options]) => [field(filter), [options]]))
}

export function unsubscribe5(id: number, ...filters: readonly string[]): Uint8Array {
  return packet(0xa2, [id >> 8, id & 255], [0], ...filters.map((filter) => field(filter)))
}

const firsts = { puback: 0x40, pubrec: 0x50, pubrel: 0x62, pubcomp: 0x70 } as const
export function ack5(type: keyof typeof firsts, id: number, code = 0): Uint8Array {
  return packet(firsts[type], [id >> 8, id & 255], code === 0 ? [] : [code])
}

export function disconnect5(code = 0, properties: readonly Property[] = []): Uint8Array {
  return packet(0xe0, [code], section(properties))
}

/** A packet of the server. `said`: in words, without its properties. */
export interface Received {
  readonly said: string
  readonly bytes: Buffer
  readonly properties: ReadonlyMap<Name, readonly unknown[]>
  /** Of a PUBLISH. */
  readonly topic: string
  readonly payload: Buffer
}

class Cursor {
  readonly bytes: Buffer
  at = 0
  constructor(bytes: Buffer) {
    this.bytes = bytes
  }
  byte(): number {
    assert.ok(this.at < this.bytes.length, `a packet of the server ends early: ${hex(this.bytes)}`)
    return this.bytes[this.at++]!
  }
  uint16(): number {
    return this.byte() * 256 + this.byte()
  }
  variable(): number {
    let value = 0
    let scale = 1
    let byte: number
    let bytes = 0
    do {
      byte = this.byte()
      value += (byte & 127) * scale
      scale *= 128
      bytes++
    } while (byte >= 128)
    assert.ok(bytes <= 4 && (bytes === 1 || byte > 0), '[MQTT-1.5.5-1] the server wastes bytes of a variable byte integer')
    return value
  }
  take(): Buffer {
    const length = this.uint16()
    this.at += length
    assert.ok(this.at <= this.bytes.length, `a field of the server ends early: ${hex(this.bytes)}`)
    return this.bytes.subarray(this.at - length, this.at)
  }
  properties(): Map<Name, unknown[]> {
    const found = new Map<Name, unknown[]>()
    const length = this.variable()
    const end = this.at + length
    assert.ok(end <= this.bytes.length, `properties of the server end early: ${hex(this.bytes)}`)
    while (this.at < end) {
      const id = this.byte()
      const entry = Object.entries(table).find(([, [known]]) => known === id)
      assert.ok(entry !== undefined, `the server sent property ${id.toString(16)}`)
      const name = entry[0] as Name
      found.set(name, [...(found.get(name) ?? []), this.#value(entry[1][1])])
    }
    assert.equal(this.at, end)
    return found
  }
  #value(kind: Kind): unknown {
    if (kind === 'byte') return this.byte()
    if (kind === 'uint16') return this.uint16()
    if (kind === 'uint32') return this.uint16() * 65_536 + this.uint16()
    if (kind === 'variable') return this.variable()
    if (kind === 'text') return this.take().toString('utf8')
    if (kind === 'binary') return this.take().toString('latin1')
    return [this.take().toString('utf8'), this.take().toString('utf8')]
  }
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const receivedCodes = [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]
/** Reason codes that a server may send, by packet type (sections 3.2.2.2, 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1, 3.9.3, 3.11.3, 3.14.2.1, 3.15.2.1). */
const codes: Readonly<Record<number, readonly number[]>> = {
  2: [0, ...range(0x80, 0x8a), 0x8c, 0x90, 0x95, 0x97, ...range(0x99, 0x9d), 0x9f],
  4: receivedCodes,
  5: receivedCodes,
  6: [0, 0x92],
  7: [0, 0x92],
  9: [0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2],
  11: [0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91],
  14: [0, ...range(0x80, 0x83), 0x87, 0x89, 0x8b, ...range(0x8d, 0x90), ...range(0x93, 0xa2)],
  15: [0, 0x18],
}

const names = [
  '',
  '',
  'connack',
  'publish',
  'puback',
  'pubrec',
  'pubrel',
  'pubcomp',
  '',
  'suback',
  '',
  'unsuback',
  '',
  'pingresp',
  'disconnect',
  'auth',
]
const none: ReadonlyMap<Name, readonly unknown[]> = new Map()

/** The packet `bytes`, whose content begins at `head`. */
export function read(bytes: Buffer, head: number): Received {
  const cursor = new Cursor(bytes)
  cursor.at = head
  const first = bytes[0]!
  const type = first >> 4
  const name = names[type]!
  const rest = (): number => bytes.length - cursor.at
  const code = (): number => {
    const one = cursor.byte()
    assert.ok(codes[type]?.includes(one), `reason code ${one.toString(16)} in a ${name} of the server`)
    return one
  }
  const hexCode = (one: number): string => (one === 0 ? '' : ` ${one.toString(16)}`)
  let said = name
  let properties: ReadonlyMap<Name, readonly unknown[]> = none
  let topic = ''
  let payload = bytes.subarray(0, 0)
  if (type === 3) {
    topic = cursor.take().toString('utf8')
    const qos = (first >> 1) & 3
    const id = qos === 0 ? '' : `/${cursor.uint16()}`
    properties = cursor.properties()
    payload = bytes.subarray(cursor.at)
    said = `publish ${topic} ${payload.toString('utf8')} ${qos}${id}${(first & 8) === 0 ? '' : ' dup'}${(first & 1) === 0 ? '' : ' retain'}`
    return { said, bytes, properties, topic, payload }
  }
  assert.equal(first & 15, type === 6 ? 2 : 0, `[MQTT-2.1.3-1] flags of ${hex(bytes)}`)
  if (type === 2) {
    const flags = cursor.byte()
    assert.equal(flags & 0xfe, 0, '[MQTT-3.2.2-1]')
    said += ` ${code().toString(16)}${flags === 1 ? ' present' : ''}`
    properties = cursor.properties()
  } else if (type >= 4 && type <= 7) {
    said += ` ${cursor.uint16()}`
    if (rest() > 0) said += hexCode(code())
    if (rest() > 0) properties = cursor.properties()
  } else if (type === 9 || type === 11) {
    said += ` ${cursor.uint16()}`
    properties = cursor.properties()
    while (rest() > 0) said += ` ${code().toString(16)}`
  } else if (type === 14 || type === 15) {
    said += ` ${(rest() > 0 ? code() : 0).toString(16)}`
    if (rest() > 0) properties = cursor.properties()
  } else assert.equal(type, 13, `the server sent ${hex(bytes)}`)
  assert.equal(rest(), 0, `bytes behind the last field of ${hex(bytes)}`)
  return { said, bytes, properties, topic, payload }
}
