import assert from 'node:assert/strict'
import { ClientFramer } from '../../src/wire/mqtt/client.ts'
import type { AckType, ClientSink } from '../../src/wire/mqtt/packets.ts'
import { PacketType } from '../../src/wire/mqtt/packets.ts'
import { encodeAck5, encodeAuth, encodeDisconnect5 } from '../../src/wire/mqtt/v5/answers.ts'
import { encodeConnect5 } from '../../src/wire/mqtt/v5/connect.ts'
import type { ConnectFields5 } from '../../src/wire/mqtt/v5/connect.ts'
import { encodePublish5, withPacketId5 } from '../../src/wire/mqtt/v5/deliver.ts'
import type { ClientSink5, Connack5, Subscription5 } from '../../src/wire/mqtt/v5/packets.ts'
import type { Properties } from '../../src/wire/mqtt/v5/properties.ts'
import { subscriptionIdentifiers } from '../../src/wire/mqtt/v5/publish.ts'
import type { PublishProperties } from '../../src/wire/mqtt/v5/publish.ts'
import { encodeSubscribe5, encodeUnsubscribe5 } from '../../src/wire/mqtt/v5/subscribe.ts'
import { encodeProperties } from '../../src/wire/mqtt/v5/writer.ts'
import type { Line, World } from './harness.ts'

export interface Received {
  readonly topic: string
  readonly text: string
  readonly qos: number
  readonly retain: boolean
  readonly dup: boolean
  readonly packetId: number
  readonly alias: number
  readonly expiryS: number
  readonly identifiers: readonly number[]
  /** As they stood in the packet. */
  readonly properties: Uint8Array
}

export interface PublishFields {
  readonly qos?: 0 | 1 | 2
  readonly id?: number
  readonly retain?: boolean
  readonly dup?: boolean
  readonly properties?: Properties
}

const text = new TextEncoder()

export function publish5(topic: string, payload: string | Uint8Array, o: PublishFields = {}): Uint8Array {
  const { qos = 0, id = 1, retain = false, dup = false, properties = {} } = o
  const { topicAlias, ...others } = properties
  const forwarded = { bytes: encodeProperties(others, PacketType.publish), expiryAt: -1 }
  const bytes = typeof payload === 'string' ? text.encode(payload) : payload
  const packet = encodePublish5(text.encode(topic), bytes, 0, bytes.length, { qos, retain, forwarded, topicAlias: topicAlias ?? 0 })
  return withPacketId5(packet, id, dup)
}

/** A client of MQTT 5 on a line of the simulated network. `log` is what it was sent, in order and in words. */
export class Client5 implements ClientSink, ClientSink5 {
  readonly line: Line
  readonly messages: Received[] = []
  readonly disconnects: { readonly code: number; readonly properties: Properties }[] = []
  answer: Connack5 | undefined
  #log: string[] = []
  readonly #framer = new ClientFramer(this, 1 << 28, this)
  readonly #aliases = new Map<number, string>()

  constructor(line: Line) {
    this.line = line
    this.#framer.topicAliasMax = 65_535
  }

  send(...packets: readonly Uint8Array[]): void {
    this.line.send(...packets)
    this.read()
  }

  read(): void {
    const bytes = this.line.take()
    const wrong = this.#framer.push(bytes, 0, bytes.length)
    assert.equal(wrong, undefined)
  }

  /** What came since the last call. */
  log(): string[] {
    this.read()
    const log = this.#log
    this.#log = []
    return log
  }

  expect(...log: readonly string[]): void {
    assert.deepEqual(this.log(), log)
  }

  say(topic: string, payload: string | Uint8Array, o: PublishFields = {}): void {
    this.send(publish5(topic, payload, o))
  }

  subscribe(filter: string, qos: 0 | 1 | 2, o: Partial<Subscription5> & { readonly identifier?: number } = {}): void {
    const { identifier, noLocal = false, retainAsPublished = false, retainHandling = 0 } = o
    const properties = identifier === undefined ? {} : { subscriptionIdentifiers: [identifier] }
    this.send(encodeSubscribe5(1, [{ filter, qos, noLocal, retainAsPublished, retainHandling }], properties))
    this.expect(`suback 1 ${qos}`)
  }

  unsubscribe(...filters: readonly string[]): void {
    this.send(encodeUnsubscribe5(2, filters))
  }

  ack(type: AckType, id: number, code = 0): void {
    this.send(encodeAck5(type, id, code))
  }

  disconnect(code = 0, properties: Properties = {}): void {
    this.send(encodeDisconnect5(code, properties))
  }

  authenticate(): void {
    this.send(encodeAuth(0x19, { authenticationMethod: 'x' }))
  }

  // --- what comes ---

  publish5(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    properties: PublishProperties,
    start: number,
    end: number,
  ): void {
    const name = Buffer.from(bytes.subarray(topicStart, topicEnd)).toString()
    if (name !== '' && properties.alias > 0) this.#aliases.set(properties.alias, name)
    const topic = name === '' ? (this.#aliases.get(properties.alias) ?? '?') : name
    const qos = (flags >> 1) & 3
    const message: Received = {
      topic,
      text: Buffer.from(bytes.subarray(start, end)).toString(),
      qos,
      retain: (flags & 1) !== 0,
      dup: (flags & 8) !== 0,
      packetId,
      alias: name === '' ? -properties.alias : properties.alias,
      expiryS: properties.expiryS,
      identifiers: subscriptionIdentifiers(bytes, properties),
      properties: bytes.slice(properties.start, properties.end),
    }
    this.messages.push(message)
    const flagged = `${message.dup ? ' dup' : ''}${message.retain ? ' retain' : ''}`
    this.#log.push(`publish ${topic} ${message.text} ${qos}${packetId === 0 ? '' : `/${packetId}`}${flagged}`)
  }
  oversized5(): void {}
  acknowledged5(type: AckType, packetId: number, code: number): void {
    const name = { 4: 'puback', 5: 'pubrec', 6: 'pubrel', 7: 'pubcomp' }[type]
    this.#log.push(`${name} ${packetId}${code === 0 ? '' : ` ${code.toString(16)}`}`)
  }
  disconnect5(code: number, properties: Properties | undefined): void {
    this.disconnects.push({ code, properties: properties ?? {} })
    this.#log.push(`disconnect ${code.toString(16)}`)
  }
  auth(): void {
    this.#log.push('auth')
  }
  connack5(packet: Connack5): void {
    this.answer = packet
    this.#log.push(`connack ${packet.reasonCode.toString(16)}${packet.sessionPresent ? ' present' : ''}`)
  }
  suback5(packetId: number, codes: readonly number[]): void {
    this.#log.push(`suback ${packetId} ${codes.map((code) => code.toString(16)).join(' ')}`)
  }
  unsuback5(packetId: number, codes: readonly number[]): void {
    this.#log.push(`unsuback ${packetId} ${codes.map((code) => code.toString(16)).join(' ')}`)
  }
  connack(): void {}
  suback(): void {}
  unsuback(): void {}
  pingresp(): void {
    this.#log.push('pingresp')
  }
  publish(): void {}
  oversized(): void {}
  acknowledged(): void {}
}

/** A client that is let in. */
export function connect5(world: World, clientId: string, o: Partial<ConnectFields5> = {}): Client5 {
  const client = new Client5(world.line())
  client.send(encodeConnect5({ clientId, clean: true, keepAliveS: 0, ...o }))
  assert.equal(client.answer?.reasonCode, 0)
  client.log()
  return client
}
