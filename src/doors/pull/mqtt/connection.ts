import type { Clock, Timer } from '../../../core/env.ts'
import { limits } from '../../../core/limits.ts'
import type { BrokerAddress } from '../../../wire/mqtt/address.ts'
import { pingreq } from '../../../wire/mqtt/client.ts'
import type { Violation } from '../../../wire/mqtt/packets.ts'
import { ReasonCode } from '../../../wire/mqtt/v5/reason.ts'
import type { BrokerTerms, BrokerWords, ConnectRequest, Dialect, Fault, MqttVersion, OpenDialect, PullMessages } from './dialect.ts'
import { impossible, plainTerms } from './dialect.ts'
import { openDialect3 } from './dialect-3.ts'
import { openDialect5 } from './dialect-5.ts'
import type { Dial, Link, TlsFiles } from './link.ts'

export interface ConnectionOptions extends ConnectRequest {
  readonly address: BrokerAddress
  readonly tls: TlsFiles
  readonly version: MqttVersion
  readonly packetBytesMax: number
  readonly clock: Clock
  readonly dial: Dial
}

export interface ConnectionHandlers {
  /** TCP, and TLS, are there; returns what speaks against going on. */
  opened(peer: Link['peer']): Promise<Fault | undefined>
  accepted(terms: BrokerTerms): void
  /** The broker's word on each filter of `subscribe`: a QoS, or from 0x80 on why not. */
  subscribed(filters: readonly string[], codes: readonly number[]): void
  /** At the end of each chunk: what it brought can be acknowledged together. */
  chunkEnded(): void
  /** A handler threw. */
  failed(thrown: unknown): void
  /** Once; nothing follows. */
  ended(fault: Fault): void
  readonly messages: PullMessages
}

/** Why nothing is read at the moment. */
export type Hold = 'gate' | 'inflight' | 'session' | 'writing' | 'stopping'

const dialects: Readonly<Record<MqttVersion, OpenDialect>> = { '3.1.1': openDialect3, '5': openDialect5 }

/** One connection to a broker: handshake, subscriptions, keep-alive, and reading that can be held. */
export class Connection {
  readonly #o: ConnectionOptions
  readonly #handlers: ConnectionHandlers
  readonly #dialect: Dialect
  readonly #link: Link
  readonly #holds = new Set<Hold>()
  readonly #asked = new Map<number, readonly string[]>()
  #terms: BrokerTerms = { ...plainTerms, sessionPresent: false }
  #nextId = 1
  #state: 'opening' | 'asked' | 'accepted' | 'closing' | 'ended' = 'opening'
  #heard = false
  #pongDue = false
  #answerDue: Timer | undefined
  #ping: Timer | undefined

  constructor(o: ConnectionOptions, handlers: ConnectionHandlers) {
    this.#o = o
    this.#handlers = handlers
    this.#dialect = dialects[o.version](o.packetBytesMax, this.#words())
    const { stream } = this.#dialect
    stream.oversizedBytes = limits.deadLetterTooLargeBytes
    stream.passOversized = true
    this.#expectAnswer('no answer to CONNECT')
    this.#link = o.dial(o.address, o.tls, {
      opened: () => void this.#open(),
      received: (bytes) => {
        this.#heard = true
        this.#received(() => stream.push(bytes, 0, bytes.length))
      },
      drained: () => this.release('writing'),
      closed: (text, refused) => this.#end({ text, refused }),
    })
  }

  /** Subscribes at QoS 1; `subscribed` tells what came of it. */
  subscribe(filters: readonly string[]): void {
    const asked: string[] = []
    const left = new Map<string, number>()
    for (const filter of filters) {
      const code = impossible(filter, this.#terms)
      if (code === undefined) asked.push(filter)
      else left.set(filter, code)
    }
    const tooLarge = this.#ask(asked, (id, some) => {
      this.#asked.set(id, some)
      return this.#dialect.subscribe(id, some)
    })
    for (const filter of tooLarge) left.set(filter, ReasonCode.packetTooLarge)
    if (this.#asked.size > 0) this.#expectAnswer('no answer to SUBSCRIBE')
    if (left.size > 0) this.#handlers.subscribed([...left.keys()], [...left.values()])
  }

  unsubscribe(filters: readonly string[]): void {
    this.#ask(filters, (id, some) => this.#dialect.unsubscribe(id, some))
  }

  /** `bytes` must not change afterwards. */
  send(bytes: Uint8Array): void {
    if (this.#state === 'ended') return
    this.#link.write(bytes)
    // It reads nothing of ours: acknowledgements for what it sends would gather here.
    if (this.#link.waitingBytes > limits.mqttSocketBufferBytesMax) this.hold('writing')
  }

  /** No packet is read until every hold is released; at most the rest of one chunk waits here, the rest in the network. */
  hold(why: Hold): void {
    if (this.#holds.size === 0) {
      this.#dialect.stream.stop()
      this.#link.pause()
    }
    this.#holds.add(why)
  }

  release(why: Hold): void {
    if (!this.#holds.delete(why) || this.#holds.size > 0 || this.#state === 'ended') return
    this.#received(() => this.#dialect.stream.resume())
    if (this.#holding()) return
    // It could not be heard while nothing was read.
    this.#pongDue = false
    this.#link.resume()
  }

  /** Ends it in order: the broker keeps the session, and sends no will. */
  close(): void {
    if (this.#state === 'ended') return
    this.#state = 'closing'
    this.#link.write(this.#dialect.disconnect(ReasonCode.success))
    this.#stopTimers()
    this.#link.close()
  }

  fail(text: string, refused = false): void {
    this.#fail({ text, refused })
  }

  /** The broker breaks a rule: told so, as far as the version can. */
  violated(text: string, reasonCode: number = ReasonCode.protocolError): void {
    const tells = this.#state === 'accepted'
    this.#end({ text, refused: false })
    if (!tells) return this.#link.destroy()
    this.#link.write(this.#dialect.disconnect(reasonCode))
    this.#link.close()
  }

  #words(): BrokerWords {
    const early = 'it sent a message before its CONNACK'
    // We asked for QoS 1: more is never delivered [MQTT-3.8.4-6] (MQTT 5: [MQTT-3.8.4-8]).
    const above = 'it sent a message of QoS 2, which was not asked for'
    const wrong = (flags: number): string | undefined => (this.#state === 'asked' ? early : (flags & 0x04) === 0 ? undefined : above)
    const { messages } = this.#handlers
    return {
      accepted: (terms) => this.#accepted(terms),
      refused: (fault) => this.#fail(fault),
      subscribed: (packetId, codes) => this.#subscribed(packetId, codes),
      pong: () => {
        this.#pongDue = false
      },
      unexpected: (text) => this.violated(text),
      publish: (bytes, flags, topicStart, topicEnd, packetId, alias, start, end) => {
        const text = wrong(flags)
        if (text === undefined) messages.publish(bytes, flags, topicStart, topicEnd, packetId, alias, start, end)
        else this.violated(text)
      },
      oversized: (bytes, flags, topicStart, topicEnd, packetId, alias, start, end, payloadBytes) => {
        const text = wrong(flags)
        if (text === undefined) messages.oversized(bytes, flags, topicStart, topicEnd, packetId, alias, start, end, payloadBytes)
        else this.violated(text)
      },
    }
  }

  #accepted(terms: BrokerTerms): void {
    if (this.#state !== 'asked') return this.violated('it sent a second CONNACK')
    this.#answerDue?.cancel()
    this.#state = 'accepted'
    this.#terms = terms
    this.#armPing()
    this.#handlers.accepted(terms)
  }

  #subscribed(packetId: number, codes: readonly number[]): void {
    const filters = this.#asked.get(packetId)
    if (filters === undefined || filters.length !== codes.length) return this.violated('its SUBACK answers something else than we asked')
    this.#asked.delete(packetId)
    if (this.#asked.size === 0) this.#answerDue?.cancel()
    this.#handlers.subscribed(filters, codes)
  }

  /** Sends packets that name filters, some in each; returns those filters for whom the broker takes no packet that is long enough. */
  #ask(filters: readonly string[], encode: (id: number, some: readonly string[]) => Uint8Array): string[] {
    const tooLarge: string[] = []
    const send = (some: readonly string[]): void => {
      const id = this.#packetId()
      const bytes = encode(id, some)
      if (bytes.length <= this.#terms.packetBytesMax) return this.send(bytes)
      this.#asked.delete(id)
      if (some.length === 1) tooLarge.push(...some)
      else for (const one of some) send([one])
    }
    for (let i = 0; i < filters.length; i += limits.mqttPullFiltersPerPacket) send(filters.slice(i, i + limits.mqttPullFiltersPerPacket))
    return tooLarge
  }

  #holding(): boolean {
    return this.#holds.size > 0 || this.#state === 'ended'
  }

  async #open(): Promise<void> {
    const against = await this.#handlers.opened(this.#link.peer)
    if (this.#state !== 'opening') return
    if (against !== undefined) return this.#fail(against)
    this.#state = 'asked'
    const { clientId, clean, keepAliveS, sessionExpiryS, receiveMaximum, username, password } = this.#o
    const given = { ...(username === undefined ? {} : { username }), ...(password === undefined ? {} : { password }) }
    this.send(this.#dialect.connect({ clientId, clean, keepAliveS, sessionExpiryS, receiveMaximum, ...given }))
  }

  #received(read: () => Violation | undefined): void {
    // Once we have ended it, what still comes stays with the broker.
    if (this.#state === 'ended' || this.#state === 'closing') return
    let wrong: Violation | undefined
    try {
      wrong = read()
    } catch (thrown) {
      return this.#handlers.failed(thrown)
    }
    this.#handlers.chunkEnded()
    if (wrong !== undefined) this.violated(`what it sends is no MQTT ${this.#o.version}: ${wrong.text}`, wrong.reasonCode)
  }

  #expectAnswer(otherwise: string): void {
    this.#answerDue?.cancel()
    this.#answerDue = this.#o.clock.after(limits.mqttPullAnswerTimeoutMs, () => {
      // Not read is not unanswered.
      if (this.#holds.size > 0) this.#expectAnswer(otherwise)
      else this.fail(`${otherwise} within ${limits.mqttPullAnswerTimeoutMs / 1_000} s`)
    })
  }

  /**
   * Asked twice in the time of a keep-alive, so that the broker hears something within it [MQTT-3.1.2-23]: within its own, where that is the shorter
   * one (MQTT 5: [MQTT-3.2.2-21]).
   */
  #armPing(): void {
    const { keepAliveS } = this.#terms
    const everyS = Math.min(this.#o.keepAliveS, keepAliveS === undefined || keepAliveS === 0 ? Number.POSITIVE_INFINITY : keepAliveS) / 2
    this.#ping = this.#o.clock.after(everyS * 1_000, () => {
      if (this.#pongDue && this.#holds.size === 0) return this.fail(`it has said nothing for ${everyS} s`)
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

  #fail(fault: Fault): void {
    this.#end(fault)
    this.#link.destroy()
  }

  #end(fault: Fault): void {
    if (this.#state === 'ended') return
    const how = this.#state === 'asked' && !this.#heard ? 'mute' : undefined
    this.#state = 'ended'
    this.#stopTimers()
    this.#handlers.ended({ how, ...fault })
  }
}
