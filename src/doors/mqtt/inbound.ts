import { isUtf8 } from 'node:buffer'
import type { Timer } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { copyBytes } from '../../wire/mqtt/text.ts'
import type { PublishProperties } from '../../wire/mqtt/v5/publish.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import { isArray, MessageArray } from '../../wire/message-array.ts'
import type { MqttPrincipal } from './authorizer.ts'
import { ClientRoutes } from './client-routes.ts'
import type { CloseReason } from './counters.ts'
import { Fifo } from './fifo.ts'
import type { MqttHost, Waiting } from './host.ts'
import { deliverTo } from './fanout.ts'
import { weightOf } from './held.ts'
import type { Held } from './held.ts'
import { keepProperties, noneKept, Outgoing } from './message.ts'
import type { KeptProperties, Qos, Subscriber } from './message.ts'
import { keepOversized } from './oversized-publish.ts'
import { Receipts } from './receipts.ts'
import type { Route } from './routes.ts'
import type { Subscriptions } from './subscriptions.ts'
import type { Terms } from './terms.ts'
import type { PacketWriter } from './writer.ts'

const nothing = new Uint8Array(0)

/** What the publishing side asks of its session. */
export interface InboundControl {
  pauseReading(): void
  resumeReading(): void
  end(reason: CloseReason, detail: string, reasonCode?: number): void
  /** Something threw that must not: the session is over. */
  failed(thrown: unknown): void
}

/**
 * One client's PUBLISHes: telemetry to the gate, everything to subscribers, acknowledgements in order. Telemetry is acknowledged
 * once its ticket is durable, never before.
 */
export class Inbound implements Waiting {
  listed = false
  readonly #host: MqttHost
  readonly #control: InboundControl
  readonly #subscriptions: Subscriptions<Subscriber>
  readonly #routes: ClientRoutes
  readonly #five: boolean
  /** The client's own subscriber: a subscription with No Local passes over what it publishes. */
  readonly #self: Subscriber
  readonly #receipts: Receipts
  readonly #hold = new Fifo<Held>()
  #holdBytes = 0
  /** Messages of arrays that may still be decoded in this turn, and the timer that begins the next one when there are none. */
  #itemsLeft: number
  #nextTurn: Timer | undefined
  readonly #address: string
  #paused = false
  #closed = false

  constructor(
    host: MqttHost,
    principal: MqttPrincipal,
    terms: Terms,
    control: InboundControl,
    address: string,
    writer: PacketWriter,
    self: Subscriber,
  ) {
    this.#host = host
    this.#five = terms.level === 5
    this.#self = self
    this.#address = address
    this.#itemsLeft = host.limits.arrayItemsPerTurn
    this.#control = control
    this.#receipts = new Receipts(terms, writer)
    this.#subscriptions = host.subscriptions(principal.tenant)
    this.#routes = new ClientRoutes(host, principal)
  }

  /** Publishes that the gate took and that are not yet acknowledged. */
  get unacknowledged(): number {
    return this.#receipts.waiting
  }

  publish(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    properties: PublishProperties,
    start: number,
    end: number,
  ): void {
    const qos = (flags >> 1) & 3
    let route = properties.alias === 0 ? this.#routes.named(bytes, topicStart, topicEnd) : undefined
    route ??= this.#route(bytes, topicStart, topicEnd, properties.alias)
    if (route === undefined) return
    this.#host.counters.received[qos]!.value++
    if (qos !== 0 && (qos === 2 || this.#five) && !this.#admits(qos, packetId)) return
    const telemetry = route.use === 'telemetry' || route.use === 'misfit'
    // No bytes and RETAIN: nothing is measured, a retained message is cleared (section 3.3.1.3).
    const clears = start === end && (flags & 0x01) !== 0
    if (telemetry && !clears) {
      if (this.#hold.length === 0 && this.#offer(route, flags, packetId, bytes, properties, start, end)) return
      if (qos > 0) return this.#keep(route, flags, packetId, copyBytes(bytes, start, end), keepProperties(bytes, properties, this.#host.clock))
      // The store cannot take it; those who listen at this moment still can.
      this.#host.counters.dropped.overload.value++
      this.#deliver(route, flags, bytes, properties, start, end)
      return
    }
    if (telemetry) this.#host.counters.dropped.empty_retained.value++
    const reasonCode = this.#pass(route, flags, bytes, properties, start, end)
    if (qos === 0) return
    if (this.#hold.length > 0) this.#keep(undefined, flags, packetId, nothing, noneKept, reasonCode)
    else this.#acknowledge(flags, packetId, 0, reasonCode)
  }

  /**
   * A publish over the packet limit, of which the beginning is there; the connection ends over it. Telemetry is kept in the dead letters, as
   * far as its address did not send too many such.
   */
  oversized(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    properties: PublishProperties,
    start: number,
    end: number,
    payloadBytes: number,
  ): void {
    const route = this.#route(bytes, topicStart, topicEnd, properties.alias)
    if (route === undefined) return
    this.#host.counters.received[(flags >> 1) & 3]!.value++
    if (route.use !== 'telemetry' && route.use !== 'misfit') return
    const { context } = route
    context.packetId = packetId
    context.dup = (flags & 0x08) !== 0
    keepOversized(this.#host, this.#address, context, bytes.subarray(start, end), payloadBytes)
  }

  /** PUBREL. */
  released(packetId: number): void {
    this.#receipts.released(packetId)
  }

  settle(durable: number): boolean {
    if (this.#closed) return false
    this.#receipts.settle(durable)
    try {
      while (this.#hold.length > 0 && this.#nextTurn === undefined && this.#offerHeld()) continue
    } catch (thrown) {
      this.#control.failed(thrown)
      return false
    }
    if (this.#paused && !this.#full(2)) {
      this.#paused = false
      this.#control.resumeReading()
    }
    return !this.#closed && this.#receipts.waiting + this.#hold.length > 0
  }

  /** Held publishes are given up: they were never acknowledged, so their client sends them again. */
  dropHeld(): void {
    this.#host.counters.dropped.shutdown.value += this.#hold.length
    this.#releaseHold()
  }

  close(): void {
    this.#closed = true
    this.#nextTurn?.cancel()
    this.#releaseHold()
  }

  /** Hands a publish to the gate; false: overloaded, nothing was taken. */
  #offer(
    route: Route,
    flags: number,
    packetId: number,
    bytes: Uint8Array,
    properties: PublishProperties | KeptProperties,
    start: number,
    end: number,
  ): boolean {
    const { gate } = this.#host
    const { context } = route
    context.packetId = packetId
    context.dup = (flags & 0x08) !== 0
    let ticket: number
    if (route.use === 'telemetry') {
      if (isArray(bytes, start, end)) return this.#offerArray(route, flags, packetId, bytes, properties, start, end)
      ticket = gate.submit(context, bytes, start, end)
      if (ticket === 0) return false
      if (gate.refusal !== undefined) this.#host.counters.dropped.refused.value++
    } else {
      const error = new KymoError('topic_invalid', { detail: route.refused ?? '' })
      ticket = gate.deadLetter(context, error, copyBytes(bytes, start, end), end - start)
      if (ticket === 0) return false
      this.#host.counters.dropped.refused.value++
    }
    this.#taken(route, flags, packetId, ticket, bytes, properties, start, end)
    return true
  }

  /** As `#offer`, for an array. Of one that is taken in part the rest is held, and counts as handed over. */
  #offerArray(
    route: Route,
    flags: number,
    packetId: number,
    bytes: Uint8Array,
    properties: PublishProperties | KeptProperties,
    start: number,
    end: number,
  ): boolean {
    const array = new MessageArray(bytes, start, end, this.#host.limits.arrayItemsMax)
    this.#offerItems(route, array)
    if (array.done) this.#taken(route, flags, packetId, array.ticket, bytes, properties, start, end)
    else if (array.taken === 0) return false
    else {
      const payload = copyBytes(bytes, start, end)
      this.#keep(route, flags, packetId, payload, keepProperties(bytes, properties, this.#host.clock), ReasonCode.success, array.moved(payload))
    }
    return true
  }

  #offerItems(route: Route, array: MessageArray): void {
    const { gate, counters } = this.#host
    this.#itemsLeft -= array.offer(gate, route.context, this.#itemsLeft)
    counters.dropped.refused.value += array.refused
    if (this.#itemsLeft <= 0) this.#endTurn()
  }

  /** Others get their turn: no more of this client is read or offered until then. */
  #endTurn(): void {
    this.#nextTurn ??= this.#host.clock.after(1, () => {
      this.#nextTurn = undefined
      this.#itemsLeft = this.#host.limits.arrayItemsPerTurn
      if (this.settle(this.#host.gate.durable)) this.#host.wait(this)
    })
    this.#pauseWhenFull()
  }

  #taken(
    route: Route,
    flags: number,
    packetId: number,
    ticket: number,
    bytes: Uint8Array,
    properties: PublishProperties | KeptProperties,
    start: number,
    end: number,
  ): void {
    if (packetId !== 0) this.#acknowledge(flags, packetId, ticket, ReasonCode.success)
    this.#deliver(route, flags, bytes, properties, start, end)
  }

  #offerHeld(): boolean {
    const held = this.#hold.peek()!
    const { route, flags, packetId, payload, properties } = held
    if (route?.use === 'telemetry' && isArray(payload, 0, payload.length)) {
      const array = (held.array ??= new MessageArray(payload, 0, payload.length, this.#host.limits.arrayItemsMax))
      route.context.packetId = packetId
      route.context.dup = (flags & 0x08) !== 0
      this.#offerItems(route, array)
      if (!array.done) return false
      this.#taken(route, flags, packetId, array.ticket, payload, properties, 0, payload.length)
    } else if (route === undefined) this.#acknowledge(flags, packetId, 0, held.reasonCode)
    else if (!this.#offer(route, flags, packetId, payload, properties, 0, payload.length)) return false
    this.#hold.shift()
    const weight = weightOf(held)
    this.#holdBytes -= weight
    this.#host.held.used -= weight
    return true
  }

  #keep(
    route: Route | undefined,
    flags: number,
    packetId: number,
    payload: Uint8Array,
    properties: KeptProperties,
    reasonCode: number = ReasonCode.success,
    array?: MessageArray,
  ): void {
    const { held } = this.#host
    const kept: Held = { route, flags, packetId, payload, properties, reasonCode, array }
    this.#hold.push(kept)
    const weight = weightOf(kept)
    this.#holdBytes += weight
    held.used += weight
    this.#host.wait(this)
    if (held.used > held.max * 2) this.#control.end('overload', 'More is held for durability than fits.')
    else this.#pauseWhenFull()
  }

  #releaseHold(): void {
    this.#host.held.used -= this.#holdBytes
    this.#holdBytes = 0
    this.#hold.clear()
  }

  #acknowledge(flags: number, packetId: number, ticket: number, reasonCode: number): void {
    if (!this.#receipts.acknowledge(flags, packetId, ticket, this.#host.gate.durable, reasonCode)) return
    if (!this.listed) this.#host.wait(this)
    this.#pauseWhenFull()
  }

  #full(share: number): boolean {
    const { limits, held } = this.#host
    return (
      // A client of MQTT 5 was told; if it sends more all the same, it is to be seen.
      (!this.#five && (this.#receipts.waiting + this.#hold.length) * share >= limits.receiveInflightMax) ||
      this.#holdBytes * share >= limits.holdBytesMax ||
      (this.#hold.length > 0 && held.exceeded) ||
      this.#nextTurn !== undefined
    )
  }

  #pauseWhenFull(): void {
    if (this.#paused || !this.#full(1)) return
    this.#paused = true
    this.#control.pauseReading()
  }

  /** Whether a publish of QoS 1 or 2 is to be taken in: it is within Receive Maximum, and no repetition. */
  #admits(qos: number, packetId: number): boolean {
    const { receiveInflightMax } = this.#host.limits
    if (qos === 2 && this.#receipts.inUse(packetId)) {
      this.#receipts.repeat(packetId)
      return false
    }
    if (this.#five && this.#receipts.open + this.#hold.length >= receiveInflightMax) {
      this.#control.end('protocol', 'More publishes are unacknowledged than Receive Maximum. [MQTT-3.3.4-7]', ReasonCode.receiveMaximumExceeded)
      return false
    }
    if (qos !== 2) return true
    if (this.#receipts.ids >= receiveInflightMax) {
      this.#control.end('limit', 'Too many QoS 2 publishes without PUBREL.')
      return false
    }
    this.#receipts.use(packetId)
    return true
  }

  /** A message that is no telemetry. Returns what its publisher is told. */
  #pass(route: Route, flags: number, bytes: Uint8Array, properties: PublishProperties, start: number, end: number): number {
    const { dropped } = this.#host.counters
    if (route.use === 'denied') {
      dropped.denied.value++
      return route.reasonCode
    }
    if (route.use === 'reserved') {
      dropped.reserved_topic.value++
      return route.reasonCode
    }
    if (properties.payloadFormat === 1 && !isUtf8(bytes.subarray(start, end))) {
      dropped.payload_format.value++
      return ReasonCode.payloadFormatInvalid
    }
    return this.#deliver(route, flags, bytes, properties, start, end) ? ReasonCode.success : ReasonCode.noMatchingSubscribers
  }

  /** Returns whether anybody subscribes to the topic. */
  #deliver(route: Route, flags: number, bytes: Uint8Array, properties: PublishProperties | KeptProperties, start: number, end: number): boolean {
    const { match } = route
    this.#subscriptions.refresh(match)
    if (match.nodes.length === 0) return false
    const { forwarded, expiresMs } = keepProperties(bytes, properties, this.#host.clock)
    const qos = ((flags >> 1) & 3) as Qos
    const message = new Outgoing(route.topic, route.topicBytes, qos, (flags & 1) !== 0, bytes, start, end, forwarded, expiresMs)
    deliverTo(match, message, this.#self)
    return true
  }

  /** Undefined when the connection ends over the topic. */
  #route(bytes: Uint8Array, start: number, end: number, alias: number): Route | undefined {
    const route = this.#routes.of(bytes, start, end, alias)
    if (route === undefined) {
      this.#control.end('limit', 'A topic is longer or deeper than the limit.', ReasonCode.topicNameInvalid)
      return undefined
    }
    // In 3.1.1 nothing else says that a message was refused [MQTT-3.3.5-2].
    if (route.use === 'denied' && !this.#five) {
      this.#host.counters.dropped.denied.value++
      this.#control.end('denied', 'The client may not publish to this topic.')
      return undefined
    }
    return route
  }
}
