import assert from 'node:assert/strict'
import { ClientFramer, encodeConnect, encodeUnsubscribe } from '../../src/wire/mqtt/client.ts'
import type { AckType, ClientSink } from '../../src/wire/mqtt/packets.ts'
import { encodeAck5, encodeDisconnect5 } from '../../src/wire/mqtt/v5/answers.ts'
import { encodeConnect5 } from '../../src/wire/mqtt/v5/connect.ts'
import type { ClientSink5, Connack5 } from '../../src/wire/mqtt/v5/packets.ts'
import type { PublishProperties } from '../../src/wire/mqtt/v5/publish.ts'
import { subscriptionIdentifiers } from '../../src/wire/mqtt/v5/publish.ts'
import { encodeSubscribe5, encodeUnsubscribe5 } from '../../src/wire/mqtt/v5/subscribe.ts'
import { publish5 } from './client5.ts'
import * as four from './client-packets.ts'
import type { Line } from './harness.ts'
import type { ConnectOp, SubscribeOp } from './model-ops.ts'

export interface GotPublish {
  readonly topic: string
  readonly payload: string
  readonly qos: number
  readonly retain: boolean
  readonly dup: boolean
  readonly packetId: number
  /** Sorted. */
  readonly identifiers: readonly number[]
  /** -1: none. */
  readonly expiryS: number
}

/** What came: a PUBLISH; a word for any other packet. */
export type Got = GotPublish | string

const ackNames = { 4: 'puback', 5: 'pubrec', 6: 'pubrel', 7: 'pubcomp' } as const
export const neverS = 0xffff_ffff

/** A connection of a client of either version: encodes, decodes, and thinks nothing. */
export class ModelClient implements ClientSink, ClientSink5 {
  readonly five: boolean
  readonly line: Line
  readonly #framer: ClientFramer
  readonly #aliases = new Map<number, string>()
  #got: Got[] = []

  constructor(line: Line, five: boolean) {
    this.line = line
    this.five = five
    this.#framer = five ? new ClientFramer(this, 1 << 28, this) : new ClientFramer(this, 1 << 28)
    this.#framer.topicAliasMax = five ? 3 : 0
  }

  /** What came since the last call. */
  read(): Got[] {
    const bytes = this.line.take()
    assert.equal(this.#framer.push(bytes, 0, bytes.length), undefined, 'the server sent what is no MQTT')
    const got = this.#got
    this.#got = []
    return got
  }

  connect(clientId: string, { clean, expiryS, receiveMaximum, aliases, will }: ConnectOp, willPayload: string): void {
    const { line } = this
    const message =
      will === undefined ? undefined : { topic: `will/${clientId}`, payload: Buffer.from(willPayload), qos: will.qos, retain: will.retain }
    if (this.five) {
      const properties = {
        ...(expiryS === 0 ? {} : { sessionExpiryInterval: expiryS }),
        ...(receiveMaximum === 0 ? {} : { receiveMaximum }),
        ...(aliases === 0 ? {} : { topicAliasMaximum: aliases }),
      }
      const delay = will === undefined || will.delayS === 0 ? {} : { willDelayInterval: will.delayS }
      const own = message === undefined ? {} : { will: { ...message, properties: delay } }
      line.send(encodeConnect5({ clientId, clean, keepAliveS: 0, properties, ...own }))
    } else line.send(encodeConnect({ clientId, clean, keepAliveS: 0, ...(message === undefined ? {} : { will: message }) }))
  }

  subscribe(id: number, { filter, qos, noLocal, retainAsPublished, retainHandling, identifier }: SubscribeOp): void {
    if (this.five) {
      const properties = identifier === 0 ? {} : { subscriptionIdentifiers: [identifier] }
      this.line.send(encodeSubscribe5(id, [{ filter, qos, noLocal, retainAsPublished, retainHandling }], properties))
    } else this.line.send(four.subscribe(id, [filter, qos]))
  }

  unsubscribe(id: number, filter: string): void {
    this.line.send(this.five ? encodeUnsubscribe5(id, [filter]) : encodeUnsubscribe(id, [filter]))
  }

  say(topic: string, payload: string, o: { qos: 0 | 1 | 2; id: number; retain: boolean; dup: boolean; expiryS: number }): void {
    const properties = o.expiryS === 0 ? {} : { messageExpiryInterval: o.expiryS }
    this.line.send(this.five ? publish5(topic, payload, { ...o, properties }) : four.publish(topic, payload, o))
  }

  ack(type: AckType, id: number, code = 0): void {
    this.line.send(this.five ? encodeAck5(type, id, code) : four.ack(type === 6 ? 0x62 : type << 4, id))
  }

  disconnect(code: number, expiryS: number): void {
    this.line.send(this.five ? encodeDisconnect5(code, expiryS < 0 ? {} : { sessionExpiryInterval: expiryS }) : four.disconnect)
  }

  // --- what comes ---

  publish5(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    properties: PublishProperties | undefined,
    start: number,
    end: number,
  ): void {
    const text = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString()
    const alias = properties?.alias ?? 0
    const name = text(topicStart, topicEnd)
    if (alias > 0 && name !== '') this.#aliases.set(alias, name)
    this.#got.push({
      topic: name === '' ? (this.#aliases.get(alias) ?? '?') : name,
      payload: text(start, end),
      qos: (flags >> 1) & 3,
      retain: (flags & 1) !== 0,
      dup: (flags & 8) !== 0,
      packetId,
      identifiers: properties === undefined ? [] : subscriptionIdentifiers(bytes, properties).toSorted((a, b) => a - b),
      expiryS: properties?.expiryS ?? -1,
    })
  }
  publish(bytes: Uint8Array, flags: number, topicStart: number, topicEnd: number, packetId: number, start: number, end: number): void {
    this.publish5(bytes, flags, topicStart, topicEnd, packetId, undefined, start, end)
  }
  oversized(): void {
    this.#got.push('oversized')
  }
  oversized5(): void {
    this.#got.push('oversized')
  }
  acknowledged(type: AckType, packetId: number): void {
    this.#got.push(`${ackNames[type]} ${packetId}`)
  }
  acknowledged5(type: AckType, packetId: number, code: number): void {
    this.#got.push(`${ackNames[type]} ${packetId}${code < 0x80 ? '' : ` ${code.toString(16)}`}`)
  }
  connack(present: boolean, code: number): void {
    this.#got.push(`connack ${code}${present ? ' present' : ''}`)
  }
  connack5({ sessionPresent, reasonCode }: Connack5): void {
    this.connack(sessionPresent, reasonCode)
  }
  suback(packetId: number, codes: readonly number[]): void {
    this.#got.push(`suback ${packetId} ${codes.join(' ')}`)
  }
  suback5(packetId: number, codes: readonly number[]): void {
    this.suback(packetId, codes)
  }
  unsuback(packetId: number): void {
    this.#got.push(`unsuback ${packetId}`)
  }
  unsuback5(packetId: number, codes: readonly number[]): void {
    this.#got.push(`unsuback ${packetId} ${codes.join(' ')}`)
  }
  disconnect5(code: number): void {
    this.#got.push(`disconnect ${code.toString(16)}`)
  }
  auth(): void {
    this.#got.push('auth')
  }
  pingresp(): void {
    this.#got.push('pingresp')
  }
}
