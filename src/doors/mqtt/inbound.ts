import { KymoError } from '../../core/errors.ts'
import { isArray, MessageArray } from '../../wire/message-array.ts'
import { copyBytes } from '../../wire/mqtt/text.ts'
import type { PacketSink5 } from '../../wire/mqtt/v5/packets.ts'
import type { PublishProperties } from '../../wire/mqtt/v5/publish.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import { arrivalOn, describe, HeldArrivals, noBytes } from './arrival.ts'
import type { Answerable, Arrival } from './arrival.ts'
import type { ArrayTurn } from './array-turns.ts'
import type { MqttPrincipal } from './authorizer.ts'
import { ClientRoutes } from './client-routes.ts'
import type { CloseReason } from './counters.ts'
import { Delivery } from './delivery.ts'
import { nobody } from './durable.ts'
import { refusedUnits } from './effort.ts'
import type { MqttHost, Waiting } from './host.ts'
import type { Kept } from './keeping.ts'
import type { Subscriber } from './message.ts'
import { keepOversized } from './oversized-publish.ts'
import { Receipts } from './receipts.ts'
import { refusedCode } from './refused-code.ts'
import type { Route } from './routes.ts'
import { storeArrival } from './store-publish.ts'
import type { Terms } from './terms.ts'
import type { PacketWriter } from './writer.ts'

const retainFlag = 0x01

/** What the publishing side asks of its session. */
export interface InboundControl {
  pauseReading(): void
  resumeReading(): void
  end(reason: CloseReason, detail: string, reasonCode?: number): void
  /** Something threw that must not: the session is over. */
  failed(thrown: unknown): void
}

/** Whose publishes they are. */
export interface Publisher {
  readonly principal: MqttPrincipal
  readonly terms: Terms
  readonly address: string
  readonly writer: PacketWriter
  /** The client's own subscriber: a subscription with No Local passes over what it publishes. */
  readonly self: Subscriber
  /** Of a session that the store keeps. */
  readonly kept: Pick<Kept, 'handle' | 'waits'> | undefined
}

/**
 * One client's PUBLISHes. Each goes through the stages of an `Arrival`: telemetry to the gate, everything to subscribers, what is retained or queued to
 * the session store; then it is acknowledged, in order, once all of that is durable and never before. What cannot go on waits in `#hold`, and what comes
 * behind it overtakes it only in being delivered.
 */
export class Inbound implements Waiting {
  listed = false
  readonly #host: MqttHost
  readonly #client: Publisher
  readonly #control: InboundControl
  readonly #five: boolean
  readonly #delivery: Delivery
  readonly #routes: ClientRoutes
  readonly #receipts: Receipts
  readonly #hold: HeldArrivals
  /** QoS 2 of a session that is kept, behind the gate: see `#exactly`. */
  readonly #exact: HeldArrivals
  /** The publish that is being read: one object for all of them. */
  #inHand: Arrival | undefined
  /** Of a client that has sent an array. */
  #arrays: ArrayTurn | undefined
  #paused = false
  #closed = false

  constructor(host: MqttHost, client: Publisher, control: InboundControl) {
    this.#host = host
    this.#client = client
    this.#control = control
    this.#five = client.terms.level === 5
    this.#receipts = new Receipts(client.terms, client.writer, client.kept?.handle.inbound)
    this.#hold = new HeldArrivals(host.held, host.clock)
    this.#exact = new HeldArrivals(host.held, host.clock)
    this.#delivery = new Delivery(host, {
      tenant: client.principal.tenant,
      subscriber: client.self,
      done: () => this.#proceed(),
      failed: (thrown) => this.#control.failed(thrown),
    })
    this.#routes = new ClientRoutes(host, client.principal)
  }

  /** Publishes that were taken and that are not yet acknowledged. */
  get unacknowledged(): number {
    return this.#receipts.waiting + this.#exact.length
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
    const retain = (flags & retainFlag) !== 0
    let route = properties.alias === 0 ? this.#routes.named(bytes, topicStart, topicEnd, retain) : undefined
    route ??= this.#route(bytes, topicStart, topicEnd, properties.alias, retain)
    if (route === undefined) return
    const qos = (flags >> 1) & 3
    this.#host.counters.received[qos]!.value++
    if (retain && this.#five && this.#host.store === undefined) {
      return this.#control.end('protocol', 'RETAIN where none is available. [MQTT-3.2.2-14]', ReasonCode.retainNotSupported)
    }
    if (qos !== 0 && (qos === 2 || this.#five) && !this.#admits(qos, packetId)) return
    if (qos < 2 && !retain && route.use === 'telemetry' && this.#passed(route, flags, packetId, bytes, start, end)) return
    const arrival = (this.#inHand ??= arrivalOn(route))
    arrival.route = route
    arrival.flags = flags
    arrival.packetId = packetId
    arrival.bytes = bytes
    arrival.start = start
    arrival.end = end
    arrival.properties = properties
    arrival.ticket = 0
    arrival.routed = 0
    arrival.recipients = nobody
    const telemetry = route.use === 'telemetry' || route.use === 'misfit'
    // No bytes and RETAIN: nothing is measured, a retained message is cleared (section 3.3.1.3).
    if (telemetry && (start < end || !retain)) {
      arrival.stage = 'offer'
      arrival.reasonCode = ReasonCode.success
    } else {
      if (telemetry) this.#host.counters.dropped.empty_retained.value++
      const refused = refusedCode(route, this.#host.counters.dropped, bytes, properties, start, end)
      arrival.stage = refused === undefined ? 'route' : 'answer'
      arrival.reasonCode = refused ?? ReasonCode.noMatchingSubscribers
    }
    if (!this.#advance(arrival, this.#hold.length === 0)) this.#keep(this.#hold, arrival)
    // Nothing of the chunk is kept alive.
    arrival.bytes = noBytes
    arrival.array = arrival.fan = undefined
  }

  /**
   * A publish over the packet limit, of which the beginning is there; the connection ends over it. Telemetry is kept in the dead letters, as
   * far as its address did not send too many such.
   */
  oversized(...packet: Parameters<PacketSink5['oversized5']>): void {
    const [bytes, flags, topicStart, topicEnd, packetId, properties, start, end, payloadBytes] = packet
    const route = this.#route(bytes, topicStart, topicEnd, properties.alias, (flags & retainFlag) !== 0)
    if (route === undefined) return
    this.#host.counters.received[(flags >> 1) & 3]!.value++
    if (route.use !== 'telemetry' && route.use !== 'misfit') return
    describe(route, flags, packetId)
    keepOversized(this.#host, this.#client.address, route.context, bytes.subarray(start, end), payloadBytes)
  }

  /** PUBREL. */
  released(packetId: number): void {
    const { kept } = this.#client
    if (kept === undefined) return this.#receipts.released(packetId)
    kept.waits.push(
      () => kept.handle.release(packetId),
      () => this.#receipts.released(packetId),
    )
  }

  settle(durable: number): boolean {
    if (this.#closed) return false
    this.#receipts.settle(durable, this.#secondDurable)
    try {
      for (let one = this.#exact.peek(); one !== undefined && this.#completes(one); one = this.#exact.peek()) this.#exact.shift()
      for (let one = this.#hold.peek(); one !== undefined && this.#arrays?.waits !== true && this.#advance(one, true); one = this.#hold.peek()) {
        this.#hold.shift()
      }
    } catch (thrown) {
      this.#control.failed(thrown)
      return false
    }
    if (this.#paused && !this.#full(2)) {
      this.#paused = false
      this.#control.resumeReading()
    }
    return !this.#closed && this.#receipts.waiting + this.#hold.length + this.#exact.length > 0
  }

  /** Held publishes are given up: they were never acknowledged, so their client sends them again. */
  dropHeld(): void {
    this.#host.counters.dropped.shutdown.value += this.#hold.length
    this.#hold.clear()
  }

  close(): void {
    this.#closed = true
    this.#delivery.leave()
    this.#arrays?.close()
    this.#hold.clear()
    this.#exact.clear()
  }

  /** Telemetry that nobody subscribes to, as most of it is, in one step; false: nothing happened, and it takes the stages. */
  #passed(route: Route, flags: number, packetId: number, bytes: Uint8Array, start: number, end: number): boolean {
    const { gate, neighbours } = this.#host
    if (this.#hold.length > 0 || neighbours !== undefined || !this.#delivery.isForNobody(route) || isArray(bytes, start, end)) return false
    describe(route, flags, packetId)
    const ticket = gate.submit(route.context, bytes, start, end)
    if (ticket === 0) return false
    if (gate.refusal !== undefined) this.#refused()
    if (packetId !== 0) this.#acknowledge({ flags, packetId, ticket, routed: 0, reasonCode: ReasonCode.success }, 0)
    return true
  }

  // --- the stages ---
  /** Does with a publish what can be done now; false: it is to be held at its stage. `first`: nothing that came before it is held. */
  #advance(arrival: Arrival, first: boolean): boolean {
    if (arrival.stage === 'offer') {
      if (!first || !this.#offer(arrival)) {
        if (arrival.packetId !== 0 || arrival.array !== undefined) return false
        // QoS 0: the gate cannot take it; those who listen at this moment still can.
        this.#host.counters.dropped.overload.value++
      }
      arrival.stage = 'route'
    }
    if (this.#client.kept !== undefined && (arrival.flags & 6) === 4) {
      if (first) this.#exactly(arrival)
      return first
    }
    if (arrival.stage === 'route') {
      const { neighbours } = this.#host
      // Where messages of a topic may have to wait for other processes, none of them overtakes another.
      if (neighbours !== undefined && arrival.packetId !== 0 && (!first || neighbours.overloaded) && arrival.fan === undefined) return false
      if (!this.#deliver(arrival)) return false
    }
    if (arrival.stage === 'answer' && arrival.packetId === 0) return true
    if (!first || (arrival.stage === 'store' && !this.#store(arrival))) return false
    if (arrival.packetId !== 0 && arrival.stage === 'answer') this.#acknowledge(arrival, 0)
    return true
  }

  /** Hands a publish to the gate; false: overloaded, nothing was taken, or not all of an array (it is `arrival.array` then). */
  #offer(arrival: Arrival): boolean {
    const { gate } = this.#host
    const { route, flags, packetId, bytes, start, end } = arrival
    describe(route, flags, packetId)
    if (route.use !== 'telemetry') {
      const error = new KymoError('topic_invalid', { detail: route.refused ?? '' })
      arrival.ticket = gate.deadLetter(route.context, error, copyBytes(bytes, start, end), end - start)
      if (arrival.ticket !== 0) this.#refused()
    } else if (arrival.array !== undefined || isArray(bytes, start, end)) return this.#offerArray(arrival)
    else {
      arrival.ticket = gate.submit(route.context, bytes, start, end)
      if (arrival.ticket !== 0 && gate.refusal !== undefined) this.#refused()
    }
    return arrival.ticket !== 0
  }

  #refused(): void {
    const { counters, effort } = this.#host
    counters.dropped.refused.value++
    effort.units += refusedUnits
  }

  #offerArray(arrival: Arrival): boolean {
    const { gate, counters, limits, arrays } = this.#host
    const array = arrival.array ?? new MessageArray(arrival.bytes, arrival.start, arrival.end, limits.arrayItemsMax)
    const turn = (this.#arrays ??= arrays.open(() => this.#proceed()))
    turn.took(array.offer(gate, arrival.route.context, turn.room))
    counters.dropped.refused.value += array.refused
    if (turn.waits) this.#pauseWhenFull()
    arrival.ticket = array.ticket
    arrival.array = array.done || (array.taken === 0 && !turn.waits) ? undefined : array
    return array.done
  }

  /** Others have had their turn: until now no more of this client was read or offered. */
  #proceed(): void {
    if (this.settle(this.#host.gate.durable)) this.#host.wait(this)
  }

  /** False: it takes several turns, or another one does; nothing more is read until then. */
  #deliver(arrival: Arrival): boolean {
    if (this.#delivery.deliver(arrival)) return true
    this.#pauseWhenFull()
    return false
  }

  /** Keeps what is to be kept and acknowledges it; false: the session store takes nothing at the moment. */
  #store(arrival: Arrival): boolean {
    const { flags, packetId } = arrival
    const kept = (flags & 6) === 4 ? this.#client.kept : undefined
    const second = storeArrival(this.#host, this.#client.principal.tenant, arrival, kept?.handle)
    if (second === 0) return false
    // Telemetry was taken all the same.
    if (second === undefined && arrival.ticket === 0) arrival.reasonCode = ReasonCode.quotaExceeded
    if (packetId !== 0) this.#acknowledge(arrival, second ?? 0)
    return true
  }

  /**
   * QoS 2 of a session that the store keeps (ADR 20). Its packet id is remembered in the same step in which subscribers get the message (of many, before
   * those whose sessions nobody keeps), and not before the gate has its reading on the disk: whatever is killed or lost in between, the client sends it
   * again, and either the id is known or nobody has had it, but for the gate, which knows it by itself.
   */
  #exactly(arrival: Arrival): void {
    if (this.#exact.length > 0 || !this.#completes(arrival)) this.#keep(this.#exact, arrival)
  }

  #completes(arrival: Arrival): boolean {
    const { gate, store, neighbours } = this.#host
    if (arrival.ticket > gate.durable || store?.overloaded === true || neighbours?.overloaded === true) return false
    if (arrival.stage === 'answer') {
      this.#acknowledge(arrival, 0)
      return true
    }
    if ((arrival.stage === 'route' && !this.#delivery.deliverKept(arrival)) || !this.#store(arrival)) return false
    this.#delivery.goOn()
    this.#pauseWhenFull()
    return true
  }

  /** What is durable of the tickets that acknowledgements wait for beside the gate's: those of the session store, and of the ways to other processes. */
  get #secondDurable(): number {
    return this.#host.neighbours?.durable ?? this.#host.store?.durable ?? 0
  }

  /** `stored`: the ticket of the session store. */
  #acknowledge({ flags, packetId, ticket, routed, reasonCode }: Answerable, stored: number): void {
    const { gate, neighbours } = this.#host
    const second = neighbours === undefined ? stored : neighbours.both(stored, routed)
    if (!this.#receipts.acknowledge(flags, packetId, ticket, gate.durable, reasonCode, second, second === 0 ? 0 : this.#secondDurable)) return
    if (!this.listed) this.#host.wait(this)
    this.#pauseWhenFull()
  }

  // --- bounds ---

  #keep(to: HeldArrivals, arrival: Arrival): void {
    const { held } = this.#host
    to.keep(arrival)
    this.#host.wait(this)
    if (held.used > held.max * 2) this.#control.end('overload', 'More is held for durability than fits.')
    else this.#pauseWhenFull()
  }

  #full(share: number): boolean {
    const { limits, held } = this.#host
    const publishes = this.#receipts.waiting + this.#hold.length + this.#exact.length
    return (
      // A client of MQTT 5 was told; if it sends more all the same, it is to be seen.
      (!this.#five && publishes * share >= limits.receiveInflightMax) ||
      (this.#hold.bytes + this.#exact.bytes) * share >= limits.holdBytesMax ||
      (this.#hold.length > 0 && held.exceeded) ||
      this.#arrays?.waits === true ||
      this.#delivery.waits
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
    if (this.#five && this.#receipts.open + this.#hold.length + this.#exact.length >= receiveInflightMax) {
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

  /** Undefined when the connection ends over the topic. */
  #route(bytes: Uint8Array, start: number, end: number, alias: number, retain: boolean): Route | undefined {
    const route = this.#routes.of(bytes, start, end, alias, retain)
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
