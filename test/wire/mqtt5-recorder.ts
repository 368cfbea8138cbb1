import assert from 'node:assert/strict'
import { limits } from '../../src/core/limits.ts'
import { ClientFramer } from '../../src/wire/mqtt/client.ts'
import { Framer } from '../../src/wire/mqtt/framer.ts'
import type { AckType, ClientSink, Connect, PacketSink, Subscription, Violation } from '../../src/wire/mqtt/packets.ts'
import type { ClientSink5, Connack5, Connect5, PacketSink5, Subscribe5 } from '../../src/wire/mqtt/v5/packets.ts'
import type { Properties } from '../../src/wire/mqtt/v5/properties.ts'
import type { PublishProperties } from '../../src/wire/mqtt/v5/publish.ts'
import { subscriptionIdentifiers } from '../../src/wire/mqtt/v5/publish.ts'
import { hex } from '../mqtt/client-packets.ts'

/** Bytes by hand: hexadecimal numbers, and text between apostrophes. */
export function bytes(text: string): Uint8Array {
  return Buffer.concat(
    text
      .split("'")
      .map((part, i) =>
        i % 2 === 1 ? Buffer.from(part) : Buffer.from(part.split(/\s+/).flatMap((b) => (b === '' ? [] : [Number.parseInt(b, 16)]))),
      ),
  )
}

const latin = (from: Uint8Array, start: number, end: number): string => Buffer.from(from.subarray(start, end)).toString('latin1')

/** Writes down what either framer says, as plain values that outlive the chunk. */
export class Recorder implements PacketSink, PacketSink5, ClientSink, ClientSink5 {
  readonly events: unknown[][] = []
  noted: () => void = () => undefined

  #note(...event: unknown[]): void {
    this.events.push(event)
    this.noted()
  }
  publish(b: Uint8Array, flags: number, ts: number, te: number, id: number, s: number, e: number): void {
    this.#note('publish', flags, latin(b, ts, te), id, latin(b, s, e))
  }
  oversized(b: Uint8Array, flags: number, ts: number, te: number, id: number, s: number, e: number, whole: number): void {
    this.#note('oversized', flags, latin(b, ts, te), id, latin(b, s, e), whole)
  }
  publish5(b: Uint8Array, flags: number, ts: number, te: number, id: number, p: PublishProperties, s: number, e: number): void {
    this.#note('publish5', flags, latin(b, ts, te), id, said(b, p), latin(b, s, e))
  }
  oversized5(b: Uint8Array, flags: number, ts: number, te: number, id: number, p: PublishProperties, s: number, e: number, whole: number): void {
    this.#note('oversized5', flags, latin(b, ts, te), id, said(b, p), latin(b, s, e), whole)
  }
  acknowledged(type: AckType, id: number): void {
    this.#note('ack', type, id)
  }
  acknowledged5(type: AckType, id: number, code: number, properties: Properties | undefined): void {
    this.#note('ack5', type, id, code, properties)
  }
  connect(packet: Connect): void {
    this.#note('connect', packet)
  }
  connect5(packet: Connect5): void {
    this.#note('connect5', packet)
  }
  unsupported(level: number): void {
    this.#note('unsupported', level)
  }
  subscribe(id: number, subscriptions: readonly Subscription[]): void {
    this.#note('subscribe', id, subscriptions)
  }
  subscribe5(packet: Subscribe5): void {
    this.#note('subscribe5', packet)
  }
  unsubscribe(id: number, filters: readonly string[]): void {
    this.#note('unsubscribe', id, filters)
  }
  unsubscribe5(id: number, filters: readonly string[], properties: Properties): void {
    this.#note('unsubscribe5', id, filters, properties)
  }
  pingreq(): void {
    this.#note('pingreq')
  }
  pingresp(): void {
    this.#note('pingresp')
  }
  disconnect(): void {
    this.#note('disconnect')
  }
  disconnect5(code: number, properties: Properties | undefined): void {
    this.#note('disconnect5', code, properties)
  }
  auth(code: number, properties: Properties): void {
    this.#note('auth', code, properties)
  }
  connack(present: boolean, code: number): void {
    this.#note('connack', present, code)
  }
  connack5(packet: Connack5): void {
    this.#note('connack5', packet)
  }
  suback(id: number, codes: readonly number[]): void {
    this.#note('suback', id, codes)
  }
  suback5(id: number, codes: readonly number[], properties: Properties): void {
    this.#note('suback5', id, codes, properties)
  }
  unsuback(id: number): void {
    this.#note('unsuback', id)
  }
  unsuback5(id: number, codes: readonly number[], properties: Properties): void {
    this.#note('unsuback5', id, codes, properties)
  }
}

function said(b: Uint8Array, p: PublishProperties): unknown {
  const { alias, expiryS, payloadFormat, start, end } = p
  return { alias, expiryS, payloadFormat, identifiers: subscriptionIdentifiers(b, p), section: hex(b.subarray(start, end)) }
}

export const hello5 = bytes("10 0e 00 04 'MQTT' 05 02 00 0a 00 00 01 'c'")

const alias7 = bytes("30 07 00 01 't' 03 23 00 07")

export interface ReadOptions {
  readonly from: 'client' | 'server'
  readonly level: 4 | 5
  readonly max?: number
  /** Stops behind each packet. */
  readonly stops?: boolean
  readonly oversizedBytes?: number
  readonly pass?: boolean
  readonly aliasMax?: number
}

/** What one side's stream says when it comes in these chunks; each chunk's memory is overwritten as soon as it was read. */
export function read(chunks: readonly Uint8Array[], o: ReadOptions): { events: unknown[][]; violation: Violation | undefined } {
  const { max = 1 << 20, stops = false } = o
  const recorder = new Recorder()
  const sink5 = o.level === 5 ? recorder : undefined
  const framer = o.from === 'client' ? new Framer(recorder, max, sink5) : new ClientFramer(recorder, max, sink5)
  framer.topicAliasMax = o.aliasMax ?? 65_535
  // A CONNECT that the test does not begin with itself says which version follows; and alias 7 is known.
  if (o.level === 5 && chunks.find((c) => c.length > 0)?.[0] !== 0x10) {
    framer.packetBytesMax = 1000
    if (o.from === 'client') framer.push(hello5, 0, hello5.length)
    if ((o.aliasMax ?? 7) >= 7) framer.push(alias7, 0, alias7.length)
    framer.packetBytesMax = max
    recorder.events.length = 0
  }
  framer.oversizedBytes = o.oversizedBytes ?? 0
  framer.passOversized = o.pass ?? false
  if (stops) recorder.noted = () => framer.stop()
  let violation: Violation | undefined
  for (const chunk of chunks) {
    const shared = Buffer.concat([Buffer.from('before'), chunk, Buffer.from('behind')])
    violation = framer.push(shared, 6, 6 + chunk.length)
    shared.fill(0xee)
    for (let before = -1; stops && violation === undefined && framer.pendingBytes !== before;) {
      before = framer.pendingBytes
      violation = framer.resume()
    }
    // Of a PUBLISH over the limit: header, topic, packet id, properties and their length, and what was asked for of the payload.
    const gathered = framer.oversizedBytes === 0 ? 0 : 5 + 2 + limits.mqttTopicBytesMax + 2 + 4 + limits.mqttTopicBytesMax + framer.oversizedBytes
    assert.ok(framer.pendingBytes <= Math.max(max + 5, gathered))
  }
  return { events: recorder.events, violation }
}
