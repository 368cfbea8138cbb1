import { createHash } from 'node:crypto'
import type { Clock, Timer } from '../../../core/env.ts'
import { KymoError } from '../../../core/errors.ts'
import type { IngestGate, MessageContext } from '../../../core/gate.ts'
import { limits } from '../../../core/limits.ts'
import { isArray, MessageArray } from '../../../wire/message-array.ts'
import { AckRing } from '../../../wire/mqtt/ack-ring.ts'
import { ackBytes, writeAck } from '../../../wire/mqtt/encode.ts'
import { PacketType } from '../../../wire/mqtt/packets.ts'
import { copyBytes, decodeText } from '../../../wire/mqtt/text.ts'
import { ReasonCode } from '../../../wire/mqtt/v5/reason.ts'
import type { PullCounters } from './counters.ts'
import type { PullMessages } from './dialect.ts'
import type { PullTopics } from './filters.ts'

/** Longer topics are learned anew each time. */
const cachedCharsMax = 256
/** Of a longer topic a hash takes its place: the gate remembers identities by their text. */
const identityCharsMax = 64

export interface IntakeOptions {
  readonly gate: IngestGate
  readonly clock: Clock
  readonly topics: PullTopics
  readonly counters: PullCounters
  /** The broker's address without user and password, for dead letters. */
  readonly broker: string
  readonly packetBytesMax: number
  /** Messages of QoS 1 that may wait for their acknowledgement. */
  readonly inflightMax: number
  /** The broker knows `inflightMax` as our Receive Maximum: it keeps to it by itself, and must. Else the connection is not read beyond it. */
  readonly announced: boolean
}

/** The connection's side. */
export interface IntakeControl {
  hold(why: 'gate' | 'inflight'): void
  release(why: 'gate' | 'inflight'): void
  send(bytes: Uint8Array): void
  violated(text: string, reasonCode: number): void
}

interface Route {
  readonly topicBytes: Uint8Array
  readonly context: MessageContext
  readonly use: 'telemetry' | 'misfit' | 'unasked'
  readonly refused: string
}

/** A message that the gate did not take, or not whole. Only one: nothing more is read until it is taken. */
interface Held {
  readonly packetId: number
  /** Offers it again; the ticket to wait for, undefined when the gate takes no more. */
  offer(): number | undefined
}

/**
 * Messages of one connection on their way to the gate: acknowledged, many in one write, once they are durable, in their order [MQTT-4.6.0-2].
 * What the gate does not take waits in the network, not here.
 */
export class Intake implements PullMessages {
  readonly #o: IntakeOptions
  readonly #control: IntakeControl
  readonly #identity: () => string
  readonly #routes = new Map<string, Route>()
  /** By topic alias. The codec has checked that one without a name is known. */
  readonly #aliases: Route[] = []
  #last: Route | undefined
  readonly #acks = new AckRing()
  #held: Held | undefined
  #nextTurn: Timer | undefined
  #full = false
  #closed = false
  #lastTicket = 0

  /** `identity`: of the session that packet ids belong to; asked when a topic is first seen. */
  constructor(o: IntakeOptions, control: IntakeControl, identity: () => string) {
    this.#o = o
    this.#control = control
    this.#identity = identity
  }

  /** Messages that were taken and are not yet acknowledged. */
  get unacknowledged(): number {
    return this.#acks.count
  }

  /** Everything that was taken is durable once this ticket is. */
  get lastTicket(): number {
    return this.#lastTicket
  }

  readonly publish: PullMessages['publish'] = (bytes, flags, topicStart, topicEnd, packetId, alias, start, end) => {
    if (this.#closed || !this.#admits(packetId)) return
    const route = this.#route(bytes, topicStart, topicEnd, alias)
    this.#count(flags, packetId)
    const { dropped } = this.#o.counters
    if (route.use === 'unasked' || start === end) {
      // No bytes carry no reading: a retained message was cleared (section 3.3.1.3).
      if (route.use === 'unasked') dropped.unasked.value++
      else dropped.empty.value++
      return this.#taken(packetId, 0)
    }
    this.#describe(route, flags, packetId)
    if (route.use === 'telemetry' && isArray(bytes, start, end)) return this.#array(route, flags, packetId, copyBytes(bytes, start, end))
    const ticket = this.#offer(route, bytes, start, end)
    if (ticket !== undefined) return this.#taken(packetId, ticket)
    const payload = copyBytes(bytes, start, end)
    this.#hold({
      packetId,
      offer: () => {
        this.#describe(route, flags, packetId)
        return this.#offer(route, payload, 0, payload.length)
      },
    })
  }

  /** A message over the packet limit: its beginning goes to the dead letters; it is acknowledged, or it would come again for ever. */
  readonly oversized: PullMessages['oversized'] = (bytes, flags, topicStart, topicEnd, packetId, alias, start, end, payloadBytes) => {
    if (this.#closed || !this.#admits(packetId)) return
    const route = this.#route(bytes, topicStart, topicEnd, alias)
    this.#count(flags, packetId)
    if (route.use === 'unasked') {
      this.#o.counters.dropped.unasked.value++
      return this.#taken(packetId, 0)
    }
    const detail = `The message has ${payloadBytes} bytes; an MQTT packet may have ${this.#o.packetBytesMax}, with its topic (mqtt.packet_bytes_max).`
    const error = new KymoError('body_too_large', { detail, errors: [{ pointer: '', detail }] })
    const kept = copyBytes(bytes, start, end)
    const offer = (): number | undefined => {
      this.#describe(route, flags, packetId)
      return this.#o.gate.deadLetter(route.context, error, kept, payloadBytes) || undefined
    }
    const ticket = offer()
    if (ticket !== undefined) this.#taken(packetId, ticket)
    else this.#hold({ packetId, offer })
  }

  /** Something became durable, overload ended, or a chunk was read. */
  settle(durable: number): void {
    if (this.#closed) return
    this.#acknowledge(durable)
    const held = this.#held
    if (held !== undefined && this.#nextTurn === undefined) {
      const ticket = held.offer()
      if (ticket !== undefined) {
        this.#held = undefined
        this.#taken(held.packetId, ticket)
        this.#control.release('gate')
      }
    }
    if (this.#full && this.#acks.count * 2 <= this.#o.inflightMax) {
      this.#full = false
      this.#control.release('inflight')
    }
  }

  /** The connection is gone: what was not acknowledged comes again. */
  close(): void {
    this.#closed = true
    this.#held = undefined
    this.#nextTurn?.cancel()
  }

  #acknowledge(durable: number): void {
    const ready = this.#acks.ready(durable)
    if (ready === 0) return
    const bytes = new Uint8Array(ready * ackBytes)
    for (let i = 0, at = 0; i < ready; i++) at = writeAck(bytes, at, PacketType.puback, this.#acks.shift())
    this.#control.send(bytes)
  }

  #taken(packetId: number, ticket: number): void {
    if (ticket > this.#lastTicket) this.#lastTicket = ticket
    if (packetId === 0) return
    this.#acks.push(packetId, ticket)
    const { announced, inflightMax } = this.#o
    if (announced || this.#full || this.#acks.count < inflightMax) return
    this.#full = true
    this.#control.hold('inflight')
  }

  /** Whether the broker keeps to our Receive Maximum [MQTT-3.3.4-9]. */
  #admits(packetId: number): boolean {
    const { announced, inflightMax } = this.#o
    if (!announced || packetId === 0 || this.#acks.count + (this.#held === undefined ? 0 : 1) < inflightMax) return true
    this.#control.violated(`it sent more than the ${inflightMax} messages that may wait for their acknowledgement`, ReasonCode.receiveMaximumExceeded)
    return false
  }

  #hold(held: Held): void {
    this.#held = held
    this.#control.hold('gate')
  }

  #count(flags: number, packetId: number): void {
    const { received, redelivered, retained } = this.#o.counters
    received[packetId === 0 ? 0 : 1].value++
    if ((flags & 0x08) !== 0) redelivered.value++
    if ((flags & 0x01) !== 0) retained.value++
  }

  #describe({ context }: Route, flags: number, packetId: number): void {
    context.packetId = packetId
    context.dup = (flags & 0x08) !== 0
    context.retained = (flags & 0x01) !== 0
  }

  /** The ticket; undefined: overloaded. */
  #offer(route: Route, bytes: Uint8Array, start: number, end: number): number | undefined {
    const { gate } = this.#o
    if (route.use === 'telemetry') return gate.submit(route.context, bytes, start, end) || undefined
    const error = new KymoError('topic_invalid', { detail: route.refused })
    return gate.deadLetter(route.context, error, copyBytes(bytes, start, end), end - start) || undefined
  }

  /** An array of messages, some of them in each turn of the event loop. */
  #array(route: Route, flags: number, packetId: number, payload: Uint8Array): void {
    const array = new MessageArray(payload, 0, payload.length, limits.mqttArrayItemsMax)
    const offer = (): number | undefined => {
      this.#describe(route, flags, packetId)
      const taken = array.offer(this.#o.gate, route.context, limits.mqttArrayItemsPerTurn)
      if (array.done) return array.ticket
      if (taken >= limits.mqttArrayItemsPerTurn) this.#endTurn()
      return undefined
    }
    const ticket = offer()
    if (ticket !== undefined) this.#taken(packetId, ticket)
    else this.#hold({ packetId, offer })
  }

  #endTurn(): void {
    this.#nextTurn ??= this.#o.clock.after(1, () => {
      this.#nextTurn = undefined
      this.settle(this.#o.gate.durable)
    })
  }

  #route(bytes: Uint8Array, start: number, end: number, alias: number): Route {
    if (alias === 0) return this.#named(bytes, start, end)
    return start === end ? this.#aliases[alias]! : (this.#aliases[alias] = this.#named(bytes, start, end))
  }

  #named(bytes: Uint8Array, start: number, end: number): Route {
    const last = this.#last
    if (last !== undefined && same(last.topicBytes, bytes, start, end)) return last
    const topic = decodeText(bytes, start, end)
    let route = this.#routes.get(topic)
    if (route === undefined) {
      route = this.#learn(topic, copyBytes(bytes, start, end))
      if (this.#routes.size >= limits.mqttPullTopicsMax) this.#routes.clear()
      if (topic.length <= cachedCharsMax) this.#routes.set(topic, route)
    }
    this.#last = route
    return route
  }

  #learn(topic: string, topicBytes: Uint8Array): Route {
    const found = this.#o.topics.match(topic)
    return {
      topicBytes,
      use: found.refused !== undefined ? 'misfit' : found.telemetry ? 'telemetry' : 'unasked',
      refused: found.refused ?? '',
      context: {
        transport: 'mqtt-pull',
        tenant: 'default',
        client: this.#o.broker,
        // The broker numbers what it sends, so equal payloads of two devices may come under one packet id, one after the other.
        identity: `${this.#identity()} ${topic.length > identityCharsMax ? createHash('sha256').update(topicBytes).digest('base64url') : topic}`,
        topic,
        shape: 'any',
        ...(found.device === undefined ? {} : { topicDevice: found.device }),
        packetId: 0,
        dup: false,
        item: 0,
      },
    }
  }
}

function same(topic: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (topic.length !== end - start) return false
  for (let i = topic.length - 1; i >= 0; i--) if (topic[i] !== bytes[start + i]) return false
  return true
}
