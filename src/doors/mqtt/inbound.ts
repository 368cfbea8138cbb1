import type { Timer } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { ackBytes, encodeAck, writeAck } from '../../wire/mqtt/encode.ts'
import type { AckType } from '../../wire/mqtt/packets.ts'
import { PacketType } from '../../wire/mqtt/packets.ts'
import { copyBytes, decodeText } from '../../wire/mqtt/text.ts'
import { AckRing } from '../../wire/mqtt/ack-ring.ts'
import { isArray, MessageArray } from '../../wire/message-array.ts'
import type { MqttPrincipal } from './authorizer.ts'
import type { CloseReason } from './counters.ts'
import { Fifo } from './fifo.ts'
import type { MqttHost, Waiting } from './host.ts'
import { contextOf } from './host.ts'
import { deliverTo } from './message.ts'
import type { Subscriber } from './message.ts'
import type { Route } from './routes.ts'
import { RouteCache } from './routes.ts'
import type { Subscriptions } from './subscriptions.ts'
import type { PacketWriter } from './writer.ts'

/** What a publish that the gate did not take is kept as. Without a route only its acknowledgement is still due. */
interface Held {
  readonly route: Route | undefined
  readonly flags: number
  readonly packetId: number
  readonly payload: Uint8Array
  /** Of an array that was taken in part: the rest of it. */
  array: MessageArray | undefined
}

const nothing = new Uint8Array(0)
/** Counted for each held publish beside its payload. */
const heldOverheadBytes = 128

/** What the publishing side asks of its session. */
export interface InboundControl {
  pauseReading(): void
  resumeReading(): void
  end(reason: CloseReason, detail: string): void
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
  readonly #principal: MqttPrincipal
  readonly #control: InboundControl
  readonly #writer: PacketWriter
  readonly #subscriptions: Subscriptions<Subscriber>
  readonly #routes: RouteCache
  readonly #acks = new AckRing()
  readonly #hold = new Fifo<Held>()
  #holdBytes = 0
  /** QoS 2 packet ids between PUBLISH and PUBREL; true once PUBREC was sent. */
  #exactlyOnce: Map<number, boolean> | undefined
  /** Messages of arrays that may still be decoded in this turn, and the timer that begins the next one when there are none. */
  #itemsLeft: number
  #nextTurn: Timer | undefined
  readonly #address: string
  #paused = false
  #closed = false

  constructor(host: MqttHost, principal: MqttPrincipal, control: InboundControl, address: string, writer: PacketWriter) {
    this.#host = host
    this.#address = address
    this.#itemsLeft = host.limits.arrayItemsPerTurn
    this.#principal = principal
    this.#control = control
    this.#writer = writer
    this.#subscriptions = host.subscriptions(principal.tenant)
    this.#routes = new RouteCache(host.limits.routesPerClientMax, host.random.next() * 2 ** 32)
  }

  /** Publishes that the gate took and that are not yet acknowledged. */
  get unacknowledged(): number {
    return this.#acks.count
  }

  publish(bytes: Uint8Array, flags: number, topicStart: number, topicEnd: number, packetId: number, start: number, end: number): void {
    const qos = (flags >> 1) & 3
    const route = this.#routes.find(bytes, topicStart, topicEnd) ?? this.#learn(bytes, topicStart, topicEnd)
    if (route === undefined) return
    this.#host.counters.received[qos]!.value++
    if (qos === 2 && !this.#first(packetId)) return
    const telemetry = route.use === 'telemetry' || route.use === 'misfit'
    // No bytes and RETAIN: nothing is measured, a retained message is cleared (section 3.3.1.3).
    const clears = start === end && (flags & 0x01) !== 0
    if (telemetry && !clears) {
      if (this.#hold.length === 0 && this.#offer(route, flags, packetId, bytes, start, end)) return
      if (qos > 0) return this.#keep(route, flags, packetId, copyBytes(bytes, start, end))
      // The store cannot take it; those who listen at this moment still can.
      this.#host.counters.dropped.overload.value++
      return this.#deliver(route, qos, bytes, start, end)
    }
    if (telemetry) this.#host.counters.dropped.empty_retained.value++
    if (route.use !== 'reserved') this.#deliver(route, qos, bytes, start, end)
    else this.#host.counters.dropped.reserved_topic.value++
    if (qos === 0) return
    if (this.#hold.length > 0) this.#keep(undefined, flags, packetId, nothing)
    else this.#acknowledge(flags, packetId, 0)
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
    start: number,
    end: number,
    payloadBytes: number,
  ): void {
    const { gate, counters, limits, oversized } = this.#host
    const route = this.#routes.find(bytes, topicStart, topicEnd) ?? this.#learn(bytes, topicStart, topicEnd)
    if (route === undefined) return
    counters.received[(flags >> 1) & 3]!.value++
    if (route.use !== 'telemetry' && route.use !== 'misfit') return
    if (!oversized.admits(this.#address)) {
      counters.dropped.oversized.value++
      return
    }
    const { context } = route
    context.packetId = packetId
    context.dup = (flags & 0x08) !== 0
    const detail =
      `The message has ${payloadBytes} bytes; an MQTT packet may have ${limits.packetBytesMax}, with its topic. ` +
      'Send it in parts, or over HTTP. The connection was closed.'
    const error = new KymoError('body_too_large', { detail, errors: [{ pointer: '', detail }] })
    const kept = copyBytes(bytes, start, Math.min(end, start + limits.oversizedBytes))
    if (gate.deadLetter(context, error, kept, payloadBytes) === 0) counters.dropped.overload.value++
    else counters.dropped.refused.value++
  }

  /** PUBREL: the packet id may be used anew. Answered whether it was known or not (figure 4.3). */
  released(packetId: number): void {
    this.#exactlyOnce?.delete(packetId)
    this.#writer.send(encodeAck(PacketType.pubcomp, packetId))
  }

  settle(durable: number): boolean {
    if (this.#closed) return false
    this.#acknowledgeDurable(durable)
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
    return !this.#closed && this.#acks.count + this.#hold.length > 0
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

  #acknowledgeDurable(durable: number): void {
    const ready = this.#acks.ready(durable)
    if (ready === 0) return
    const bytes = Buffer.allocUnsafe(ready * ackBytes)
    for (let i = 0, at = 0; i < ready; i++) {
      const ack = this.#acks.shift()
      const type = (ack >>> 16) as AckType
      const packetId = ack & 0xffff
      if (type === PacketType.pubrec) this.#received(packetId)
      at = writeAck(bytes, at, type, packetId)
    }
    this.#writer.send(bytes)
  }

  /** Hands a publish to the gate; false: overloaded, nothing was taken. */
  #offer(route: Route, flags: number, packetId: number, bytes: Uint8Array, start: number, end: number): boolean {
    const { gate } = this.#host
    const { context } = route
    context.packetId = packetId
    context.dup = (flags & 0x08) !== 0
    let ticket: number
    if (route.use === 'telemetry') {
      if (isArray(bytes, start, end)) return this.#offerArray(route, flags, packetId, bytes, start, end)
      ticket = gate.submit(context, bytes, start, end)
      if (ticket === 0) return false
      if (gate.refusal !== undefined) this.#host.counters.dropped.refused.value++
    } else {
      const error = new KymoError('topic_invalid', { detail: route.refused ?? '' })
      ticket = gate.deadLetter(context, error, copyBytes(bytes, start, end), end - start)
      if (ticket === 0) return false
      this.#host.counters.dropped.refused.value++
    }
    this.#taken(route, flags, packetId, ticket, bytes, start, end)
    return true
  }

  /** As `#offer`, for an array. Of one that is taken in part the rest is held, and counts as handed over. */
  #offerArray(route: Route, flags: number, packetId: number, bytes: Uint8Array, start: number, end: number): boolean {
    const array = new MessageArray(bytes, start, end, this.#host.limits.arrayItemsMax)
    this.#offerItems(route, array)
    if (array.done) this.#taken(route, flags, packetId, array.ticket, bytes, start, end)
    else if (array.taken === 0) return false
    else {
      const payload = copyBytes(bytes, start, end)
      this.#keep(route, flags, packetId, payload, array.moved(payload))
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

  #taken(route: Route, flags: number, packetId: number, ticket: number, bytes: Uint8Array, start: number, end: number): void {
    if (packetId !== 0) this.#acknowledge(flags, packetId, ticket)
    this.#deliver(route, (flags >> 1) & 3, bytes, start, end)
  }

  #offerHeld(): boolean {
    const held = this.#hold.peek()!
    const { route, flags, packetId, payload } = held
    if (route?.use === 'telemetry' && isArray(payload, 0, payload.length)) {
      const array = (held.array ??= new MessageArray(payload, 0, payload.length, this.#host.limits.arrayItemsMax))
      route.context.packetId = packetId
      route.context.dup = (flags & 0x08) !== 0
      this.#offerItems(route, array)
      if (!array.done) return false
      this.#taken(route, flags, packetId, array.ticket, payload, 0, payload.length)
    } else if (route === undefined) this.#acknowledge(flags, packetId, 0)
    else if (!this.#offer(route, flags, packetId, payload, 0, payload.length)) return false
    this.#hold.shift()
    this.#holdBytes -= payload.length + heldOverheadBytes
    this.#host.held.used -= payload.length + heldOverheadBytes
    return true
  }

  #keep(route: Route | undefined, flags: number, packetId: number, payload: Uint8Array, array?: MessageArray): void {
    const { held } = this.#host
    this.#hold.push({ route, flags, packetId, payload, array })
    this.#holdBytes += payload.length + heldOverheadBytes
    held.used += payload.length + heldOverheadBytes
    this.#host.wait(this)
    if (held.used > held.max * 2) this.#control.end('overload', 'More is held for durability than fits.')
    else this.#pauseWhenFull()
  }

  #releaseHold(): void {
    this.#host.held.used -= this.#holdBytes
    this.#holdBytes = 0
    this.#hold.clear()
  }

  /** Acknowledges once `ticket` is durable and all before it are acknowledged. Ticket 0: nothing to wait for of its own. */
  #acknowledge(flags: number, packetId: number, ticket: number): void {
    const type = (flags & 0x04) === 0 ? PacketType.puback : PacketType.pubrec
    if (this.#acks.count === 0 && ticket <= this.#host.gate.durable) {
      if (type === PacketType.pubrec) this.#received(packetId)
      this.#writer.send(encodeAck(type, packetId))
      return
    }
    this.#acks.push((type << 16) | packetId, ticket)
    if (!this.listed) this.#host.wait(this)
    this.#pauseWhenFull()
  }

  #full(share: number): boolean {
    const { limits, held } = this.#host
    return (
      (this.#acks.count + this.#hold.length) * share >= limits.receiveInflightMax ||
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

  /** QoS 2: whether this packet id is not in flight; if it is, its PUBREC is repeated once it was sent (section 4.3.3). */
  #first(packetId: number): boolean {
    this.#exactlyOnce ??= new Map()
    const received = this.#exactlyOnce.get(packetId)
    if (received === undefined) {
      if (this.#exactlyOnce.size >= this.#host.limits.receiveInflightMax) {
        this.#control.end('limit', 'Too many QoS 2 publishes without PUBREL.')
        return false
      }
      this.#exactlyOnce.set(packetId, false)
      return true
    }
    if (received) this.#writer.send(encodeAck(PacketType.pubrec, packetId))
    return false
  }

  #received(packetId: number): void {
    if (this.#exactlyOnce?.has(packetId) === true) this.#exactlyOnce.set(packetId, true)
  }

  #deliver(route: Route, qos: number, bytes: Uint8Array, start: number, end: number): void {
    const subscriptions = this.#subscriptions
    if (route.matchVersion !== subscriptions.version) {
      route.match = subscriptions.match(route.topic)
      route.matchVersion = subscriptions.version
    }
    const match = route.match!
    if (match.length > 0) deliverTo(match, route.topicBytes, qos, bytes, start, end)
  }

  /** The route of a topic that this connection has not used before; undefined when the connection ends over it. */
  #learn(bytes: Uint8Array, start: number, end: number): Route | undefined {
    const { limits, topics, authorizer, counters } = this.#host
    if (end - start > limits.topicBytesMax || levelsOf(bytes, start, end) > limits.topicLevelsMax) {
      this.#control.end('limit', 'A topic is longer or deeper than the limit.')
      return undefined
    }
    const topic = decodeText(bytes, start, end)
    if (!authorizer.publish(this.#principal, topic)) {
      counters.dropped.denied.value++
      this.#control.end('denied', 'The client may not publish to this topic.')
      return undefined
    }
    const found = topics.match(topic)
    const route: Route = {
      topic,
      topicBytes: copyBytes(bytes, start, end),
      use: useOf(topic, found),
      context: contextOf(this.#principal, topic, found.device),
      refused: found.refused,
      match: undefined,
      matchVersion: 0,
    }
    this.#routes.add(route)
    return route
  }
}

function useOf(topic: string, found: { readonly telemetry: boolean; readonly refused?: string }): Route['use'] {
  // Topics of the server's own: a client's messages there would pass for the server's (section 4.7.2).
  if (topic.startsWith('$SYS/') || topic.startsWith('$share/')) return 'reserved'
  if (found.refused !== undefined) return 'misfit'
  return found.telemetry ? 'telemetry' : 'routed'
}

function levelsOf(bytes: Uint8Array, start: number, end: number): number {
  let levels = 1
  for (let i = start; i < end; i++) if (bytes[i] === 0x2f) levels++
  return levels
}
