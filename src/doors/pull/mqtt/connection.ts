import type { Clock, Timer } from '../../../core/env.ts'
import { limits } from '../../../core/limits.ts'
import type { BrokerAddress } from '../../../wire/mqtt/address.ts'
import { ClientFramer, connackText, disconnect, encodeConnect, encodeSubscribe, encodeUnsubscribe, pingreq } from '../../../wire/mqtt/client.ts'
import { type ClientSink, ConnackCode, type PublishSink, type Violation } from '../../../wire/mqtt/packets.ts'
import type { Dial, Link, TlsFiles } from './link.ts'

export interface ConnectionOptions {
  readonly address: BrokerAddress
  readonly tls: TlsFiles
  readonly clientId: string
  /** False: the broker keeps the session, and what it has for us, when the connection is gone. */
  readonly clean: boolean
  readonly username?: string
  readonly password?: string
  readonly keepAliveS: number
  readonly packetBytesMax: number
  readonly clock: Clock
  readonly dial: Dial
}

/** Why a connection is over. */
export interface Fault {
  readonly text: string
  /** Trying again soon is of no use: somebody must change something. */
  readonly refused: boolean
}

export interface ConnectionHandlers {
  /** TCP, and TLS, are there; returns what speaks against going on. */
  opened(peer: Link['peer']): Promise<Fault | undefined>
  accepted(sessionPresent: boolean): void
  /** The broker's word on each filter of `subscribe`: a QoS, or 0x80. */
  subscribed(filters: readonly string[], codes: readonly number[]): void
  /** At the end of each chunk: what it brought can be acknowledged together. */
  chunkEnded(): void
  /** A handler threw. */
  failed(thrown: unknown): void
  /** Once; nothing follows. */
  ended(fault: Fault): void
  readonly messages: Pick<PublishSink, 'publish' | 'oversized'>
}

/** Why nothing is read at the moment. */
export type Hold = 'gate' | 'inflight' | 'session' | 'writing' | 'stopping'

/** One connection to a broker: handshake, subscriptions, keep-alive, and reading that can be held. MQTT 3.1.1. */
export class Connection implements ClientSink {
  readonly #o: ConnectionOptions
  readonly #handlers: ConnectionHandlers
  readonly #framer: ClientFramer
  readonly #link: Link
  readonly #holds = new Set<Hold>()
  readonly #asked = new Map<number, readonly string[]>()
  #nextId = 1
  #accepted = false
  #ended = false
  #closing = false
  #pongDue = false
  #answerDue: Timer | undefined
  #ping: Timer | undefined

  constructor(o: ConnectionOptions, handlers: ConnectionHandlers) {
    this.#o = o
    this.#handlers = handlers
    this.#framer = new ClientFramer(this, o.packetBytesMax)
    this.#framer.oversizedBytes = limits.deadLetterTooLargeBytes
    this.#framer.passOversized = true
    this.#expectAnswer('no answer to CONNECT')
    this.#link = o.dial(o.address, o.tls, {
      opened: () => void this.#open(),
      received: (bytes) => this.#received(() => this.#framer.push(bytes, 0, bytes.length)),
      drained: () => this.release('writing'),
      closed: (text, refused) => this.#end({ text, refused }),
    })
  }

  /** Subscribes at QoS 1; `subscribed` tells what came of it. */
  subscribe(filters: readonly string[]): void {
    for (let i = 0; i < filters.length; i += limits.mqttPullFiltersPerPacket) {
      const some = filters.slice(i, i + limits.mqttPullFiltersPerPacket)
      const id = this.#packetId()
      this.#asked.set(id, some)
      this.send(encodeSubscribe(id, some, 1))
    }
    if (filters.length > 0) this.#expectAnswer('no answer to SUBSCRIBE')
  }

  unsubscribe(filters: readonly string[]): void {
    for (let i = 0; i < filters.length; i += limits.mqttPullFiltersPerPacket)
      this.send(encodeUnsubscribe(this.#packetId(), filters.slice(i, i + limits.mqttPullFiltersPerPacket)))
  }

  /** `bytes` must not change afterwards. */
  send(bytes: Uint8Array): void {
    if (this.#ended) return
    this.#link.write(bytes)
    // It reads nothing of ours: acknowledgements for what it sends would gather here.
    if (this.#link.waitingBytes > limits.mqttSocketBufferBytesMax) this.hold('writing')
  }

  /** No packet is read until every hold is released; at most the rest of one chunk waits here, the rest in the network. */
  hold(why: Hold): void {
    if (this.#holds.size === 0) {
      this.#framer.stop()
      this.#link.pause()
    }
    this.#holds.add(why)
  }

  release(why: Hold): void {
    if (!this.#holds.delete(why) || this.#holds.size > 0 || this.#ended) return
    this.#received(() => this.#framer.resume())
    if (this.#holding()) return
    // It could not be heard while nothing was read.
    this.#pongDue = false
    this.#link.resume()
  }

  /** Ends it in order: the broker keeps the session, and sends no will. */
  close(): void {
    if (this.#ended) return
    this.#closing = true
    this.#link.write(disconnect)
    this.#stopTimers()
    this.#link.close()
  }

  fail(text: string, refused = false): void {
    this.#end({ text, refused })
    this.#link.destroy()
  }

  // --- what the broker sends ---

  connack(sessionPresent: boolean, code: number): void {
    if (this.#accepted) return this.fail('it sent a second CONNACK')
    if (code !== 0) return this.fail(connackText(code), code !== ConnackCode.serverUnavailable)
    this.#answerDue?.cancel()
    this.#accepted = true
    this.#armPing()
    this.#handlers.accepted(sessionPresent)
  }

  suback(packetId: number, codes: readonly number[]): void {
    const filters = this.#asked.get(packetId)
    if (filters === undefined || filters.length !== codes.length) return this.fail('its SUBACK answers something else than we asked')
    this.#asked.delete(packetId)
    if (this.#asked.size === 0) this.#answerDue?.cancel()
    this.#handlers.subscribed(filters, codes)
  }

  unsuback(): void {
    // What still comes of such a topic is acknowledged and left aside.
  }

  pingresp(): void {
    this.#pongDue = false
  }

  acknowledged(): void {
    this.fail('it acknowledges a message that we did not send')
  }

  publish(bytes: Uint8Array, flags: number, topicStart: number, topicEnd: number, packetId: number, start: number, end: number): void {
    if (!this.#accepted) return this.fail('it sent a message before its CONNACK')
    // We asked for QoS 1: more is never delivered [MQTT-3.8.4-6].
    if ((flags & 0x04) !== 0) return this.fail('it sent a message of QoS 2, which was not asked for')
    this.#handlers.messages.publish(bytes, flags, topicStart, topicEnd, packetId, start, end)
  }

  oversized(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    start: number,
    end: number,
    payloadBytes: number,
  ): void {
    if (!this.#accepted || (flags & 0x04) !== 0) return this.fail('it sent a message that was not asked for')
    this.#handlers.messages.oversized(bytes, flags, topicStart, topicEnd, packetId, start, end, payloadBytes)
  }

  // --- inside ---

  #holding(): boolean {
    return this.#holds.size > 0 || this.#ended
  }

  async #open(): Promise<void> {
    const against = await this.#handlers.opened(this.#link.peer)
    if (this.#ended) return
    if (against !== undefined) return this.fail(against.text, against.refused)
    const { clientId, clean, keepAliveS, username, password } = this.#o
    const given = { ...(username === undefined ? {} : { username }), ...(password === undefined ? {} : { password }) }
    this.send(encodeConnect({ clientId, clean, keepAliveS, ...given }))
  }

  #received(read: () => Violation | undefined): void {
    // Once we have ended it, what still comes stays with the broker.
    if (this.#ended || this.#closing) return
    let wrong: Violation | undefined
    try {
      wrong = read()
    } catch (thrown) {
      return this.#handlers.failed(thrown)
    }
    this.#handlers.chunkEnded()
    if (wrong !== undefined) this.fail(`what it sends is no MQTT 3.1.1: ${wrong.text}`)
  }

  #expectAnswer(otherwise: string): void {
    this.#answerDue?.cancel()
    this.#answerDue = this.#o.clock.after(limits.mqttPullAnswerTimeoutMs, () => {
      // Not read is not unanswered.
      if (this.#holds.size > 0) this.#expectAnswer(otherwise)
      else this.fail(`${otherwise} within ${limits.mqttPullAnswerTimeoutMs / 1_000} s`)
    })
  }

  /** Asked twice in the time of a keep-alive, so that the broker hears something within it [MQTT-3.1.2-23]. */
  #armPing(): void {
    this.#ping = this.#o.clock.after((this.#o.keepAliveS * 1_000) / 2, () => {
      if (this.#pongDue && this.#holds.size === 0) return this.fail(`it has said nothing for ${this.#o.keepAliveS / 2} s`)
      this.#pongDue = true
      this.send(pingreq)
      this.#armPing()
    })
  }

  #packetId(): number {
    const id = this.#nextId
    this.#nextId = (id % 65_535) + 1
    return id
  }

  #stopTimers(): void {
    this.#answerDue?.cancel()
    this.#ping?.cancel()
  }

  #end(fault: Fault): void {
    if (this.#ended) return
    this.#ended = true
    this.#stopTimers()
    this.#handlers.ended(fault)
  }
}
