import { lengthBytesOf, writeLength } from '../encode.ts'
import { encodeText } from '../text.ts'
import type { Properties, PropertyOwner } from './properties.ts'
import { PropertyId, propertiesOf } from './properties.ts'

/** Fixed header: one byte, and a remaining length of one to four. */
const headerBytesMax = 5

/** Gathers the bytes of one packet. Throws RangeError for what its fields cannot hold. */
class Writer {
  #bytes: Uint8Array
  #length: number

  constructor(reserved: number) {
    this.#bytes = new Uint8Array(64)
    this.#length = reserved
  }

  byte(value: number): void {
    this.#room(1)
    this.#bytes[this.#length++] = value
  }

  uint16(value: number): void {
    this.#check(value, 65_535)
    this.byte(value >> 8)
    this.byte(value & 0xff)
  }

  uint32(value: number): void {
    this.#check(value, 0xffff_ffff)
    this.uint16(Math.floor(value / 65_536))
    this.uint16(value % 65_536)
  }

  variable(value: number): void {
    this.#check(value, variableMax)
    this.#room(4)
    this.#length = writeLength(this.#bytes, this.#length, value)
  }

  raw(bytes: Uint8Array): void {
    this.#room(bytes.length)
    this.#bytes.set(bytes, this.#length)
    this.#length += bytes.length
  }

  binary(bytes: Uint8Array): void {
    this.uint16(bytes.length)
    this.raw(bytes)
  }

  text(text: string): void {
    this.binary(encodeText(text))
  }

  /** Property length and properties (section 2.2.2); members that are no property of `owner` are an error of the caller's. */
  properties(properties: Properties, owner: PropertyOwner): void {
    const section = encodeProperties(properties, owner)
    this.variable(section.length)
    this.raw(section)
  }

  taken(from = 0): Uint8Array {
    return this.#bytes.subarray(from, this.#length)
  }

  /** The packet whose content was written behind the reserved header. */
  finish(first: number): Uint8Array {
    const length = this.#length - headerBytesMax
    this.#check(length, variableMax)
    const start = headerBytesMax - 1 - lengthBytesOf(length)
    this.#bytes[start] = first
    writeLength(this.#bytes, start + 1, length)
    return this.taken(start)
  }

  #check(value: number, max: number): void {
    if (!Number.isInteger(value) || value < 0 || value > max) throw new RangeError(`${value} is no whole number from 0 to ${max}.`)
  }

  #room(more: number): void {
    const length = this.#length + more
    if (length <= this.#bytes.length) return
    const grown = new Uint8Array(Math.max(length, this.#bytes.length * 2))
    grown.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = grown
  }
}

export type { Writer }

export const variableMax = 268_435_455

/** A packet: `content` writes what stands behind the fixed header. */
export function packet(first: number, content: (writer: Writer) => void): Uint8Array {
  const writer = new Writer(headerBytesMax)
  content(writer)
  return writer.finish(first)
}

/** The properties, in the table's order, without their length. Throws RangeError for what the packet or the property may not have. */
export function encodeProperties(properties: Properties, owner: PropertyOwner): Uint8Array {
  const writer = new Writer(0)
  let written = 0
  for (const p of propertiesOf(owner)) {
    if (properties[p.name] === undefined) continue
    written++
    if (p.type === 'pairs') {
      for (const [name, value] of properties[p.name] ?? []) {
        writer.byte(p.id)
        writer.text(name)
        writer.text(value)
      }
      continue
    }
    if (p.type === 'identifiers') {
      for (const identifier of properties[p.name] ?? []) {
        writer.byte(PropertyId.subscriptionIdentifier)
        writer.variable(identifier)
      }
      continue
    }
    writer.byte(p.id)
    if (p.type === 'flag') writer.byte(properties[p.name] === true ? 1 : 0)
    else if (p.type === 'qos') writer.byte(properties[p.name] ?? 0)
    else if (p.type === 'uint16') writer.uint16(properties[p.name] ?? 0)
    else if (p.type === 'uint32') writer.uint32(properties[p.name] ?? 0)
    else if (p.type === 'binary') writer.binary(properties[p.name] ?? nothing)
    else writer.text(properties[p.name] ?? '')
  }
  const given = Object.values(properties).filter((value) => value !== undefined).length
  if (given !== written) throw new RangeError(`A packet cannot have all of the properties ${Object.keys(properties).join(', ')}.`)
  return writer.taken()
}

const nothing = new Uint8Array(0)

/**
 * A packet within the peer's Maximum Packet Size: as `encode` makes it of the properties, or without user properties, or without the reason
 * string as well, which must not be sent when they make it too long [MQTT-3.4.2-2] [MQTT-3.4.2-3] and so on. Undefined: nothing fits.
 */
export function fitting(bytesMax: number, properties: Properties, encode: (properties: Properties) => Uint8Array): Uint8Array | undefined {
  const { userProperties: _user, ...withoutUser } = properties
  const { reasonString: _reason, ...bare } = withoutUser
  for (const candidate of [properties, withoutUser, bare]) {
    const bytes = encode(candidate)
    if (bytes.length <= bytesMax) return bytes
  }
  return undefined
}
