import { headWithPacketId, withPacketId } from '../../wire/mqtt/encode.ts'
import { PacketType } from '../../wire/mqtt/packets.ts'
import { publishHeadBytes5, writePublishHead5 } from '../../wire/mqtt/v5/deliver.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import { OutboundAliases } from './aliases.ts'
import { acknowledgement } from './answers.ts'
import { Fifo } from './fifo.ts'
import type { MqttHost } from './host.ts'
import type { Outgoing, Parcel, Qos, Subscriber } from './message.ts'
import type { SharedGroup } from './roster.ts'
import type { Readiness } from './shared.ts'
import type { Terms } from './terms.ts'
import type { PacketWriter } from './writer.ts'

/** Up to here a QoS 1 packet is copied to get its own packet id; above, only its head is, and the payload stays shared. */
const copyBytesMax = 8 * 1024
/** With the budget of all clients exceeded, a client with more than this waiting gets no more. */
const fairBytes = 16 * 1024
const packetIdMax = 65_535
const noTopic = new Uint8Array(0)

/** Under way: what was sent, or that its PUBREC came and PUBCOMP is waited for. */
type Inflight = Parcel | 'received'

/** One client's deliveries. A client that does not keep up loses its own messages and slows nobody else. */
export class Outbox implements Subscriber {
  readonly connected = true
  /** PUBLISHes to the client. */
  sent = 0
  readonly #host: MqttHost
  readonly #writer: PacketWriter
  readonly #terms: Terms
  readonly #five: boolean
  readonly #aliased: boolean
  readonly #queue = new Fifo<Parcel>()
  #queueBytes = 0
  /** Sent at QoS 1 and 2 and not done with, by packet id. */
  #inflight: Map<number, Inflight> | undefined
  #inflightBytes = 0
  readonly #inflightMax: number
  #lastId = 0
  #aliases: OutboundAliases | undefined
  readonly #congested: () => void

  /** `congested` is called when a delivery finds too much waiting for the client; `drained` is expected later. */
  constructor(host: MqttHost, writer: PacketWriter, terms: Terms, congested: () => void) {
    this.#host = host
    this.#writer = writer
    this.#terms = terms
    this.#five = terms.level === 5
    this.#aliased = terms.topicAliasMax > 0
    this.#congested = congested
    // Not beyond the client's Receive Maximum [MQTT-3.3.4-9].
    this.#inflightMax = Math.min(host.limits.sendInflightMax, terms.receiveMaximum)
  }

  get queued(): number {
    return this.#queue.length
  }

  get inflight(): number {
    return this.#inflight?.size ?? 0
  }

  readiness(): Readiness {
    const { limits } = this.#host
    if (this.#queue.length >= limits.sendQueueMax || this.#queueBytes >= limits.sendQueueBytesMax) return 'full'
    const waiting = this.#writer.waitingBytes >= limits.socketBufferBytesMax || (this.#inflight?.size ?? 0) >= this.#inflightMax
    return waiting || this.#queue.length > 0 ? 'busy' : 'ready'
  }

  deliver(message: Outgoing, qos: Qos, retain: boolean, identifiers: readonly number[] | undefined, group?: SharedGroup<Subscriber>): void {
    const { copied } = message
    if (qos === 0 && identifiers === undefined && (!this.#five || (!this.#aliased && message.forwarded.expiryAt < 0))) {
      this.#deliverPlain(message, retain)
      return this.#copied(message.copied - copied)
    }
    const form = message.parcel(this.#five, qos, retain, identifiers)
    this.#copied(message.copied - copied)
    const parcel = group === undefined || qos === 0 ? form : { ...form, group }
    // Longer than the client takes: it is not sent, and counts as delivered [MQTT-3.1.2-24] [MQTT-3.1.2-25].
    if (parcel.bytes.length > this.#terms.packetBytesMax) {
      this.#host.counters.dropped.too_large.value++
    } else if (qos !== 0) {
      this.#enqueue(parcel)
      this.#sendQueued()
    } else if (this.#full()) {
      this.#host.counters.dropped.slow_subscriber.value++
    } else if (this.#alive(parcel)) {
      this.#transmit(parcel, 0)
    }
  }

  /** At QoS 0, as bytes that this client shares with others. */
  #deliverPlain(message: Outgoing, retain: boolean): void {
    const { counters } = this.#host
    // Asked first: a packet that nobody takes is not made.
    if (this.#full()) {
      counters.dropped.slow_subscriber.value++
      return
    }
    const bytes = message.plain(this.#five, retain)
    if (bytes.length > this.#terms.packetBytesMax) counters.dropped.too_large.value++
    else {
      this.#sent(0, bytes.length)
      this.#writer.send(bytes)
    }
  }

  /** PUBACK, which frees the packet id whatever its reason. One that is not in flight is ignored. False: it is, and at QoS 2. */
  acknowledged(packetId: number): boolean {
    const parcel = this.#inflight?.get(packetId)
    if (parcel === undefined) return true
    if (parcel === 'received' || parcel.qos !== 1) return false
    this.#done(packetId, parcel)
    return true
  }

  /**
   * PUBREC: the message has arrived; PUBREL follows [MQTT-4.3.3-5], unless the client has refused the message [MQTT-4.3.3-4]. False: it is one of
   * QoS 1.
   */
  received(packetId: number, reasonCode: number): boolean {
    const parcel = this.#inflight?.get(packetId)
    if (parcel === undefined) {
      if (reasonCode < 0x80) this.#release(packetId, ReasonCode.packetIdentifierNotFound)
      return true
    }
    if (parcel !== 'received' && parcel.qos !== 2) return false
    if (reasonCode >= 0x80) {
      this.#done(packetId, parcel)
      return true
    }
    if (parcel !== 'received') {
      this.#weigh(-parcel.bytes.length)
      this.#inflight!.set(packetId, 'received')
    }
    this.#release(packetId, ReasonCode.success)
    return true
  }

  /** PUBCOMP: the packet id is free. False: PUBREC is still to come. */
  completed(packetId: number): boolean {
    const parcel = this.#inflight?.get(packetId)
    if (parcel === undefined) return true
    if (parcel !== 'received') return false
    this.#done(packetId, parcel)
    return true
  }

  /** The network took all that waited. */
  drained(): void {
    this.#sendQueued()
  }

  /**
   * What a shared subscription has given to this client and another member may have: at QoS 2 only what was not sent yet [MQTT-4.8.2-4]
   * [MQTT-4.8.2-5].
   */
  unfinished(): Parcel[] {
    const parcels: Parcel[] = []
    for (const parcel of this.#inflight?.values() ?? [])
      if (parcel !== 'received' && parcel.group !== undefined && parcel.qos === 1) parcels.push(parcel)
    for (const parcel of this.#queue) if (parcel.group !== undefined) parcels.push(parcel)
    return parcels
  }

  close(): void {
    this.#host.sending.used -= this.#queueBytes + this.#inflightBytes
    this.#queueBytes = 0
    this.#inflightBytes = 0
    this.#queue.clear()
    this.#inflight = undefined
  }

  #release(packetId: number, reasonCode: number): void {
    this.#writer.send(acknowledgement(this.#terms, PacketType.pubrel, packetId, reasonCode))
  }

  #done(packetId: number, parcel: Inflight): void {
    this.#inflight!.delete(packetId)
    if (parcel !== 'received') this.#weigh(-parcel.bytes.length)
    this.#sendQueued()
  }

  #weigh(bytes: number): void {
    this.#inflightBytes += bytes
    this.#host.sending.used += bytes
  }

  #full(): boolean {
    const { limits, sending } = this.#host
    const waiting = this.#writer.waitingBytes
    const full = waiting >= limits.socketBufferBytesMax || (waiting >= fairBytes && sending.exceeded)
    if (full) this.#congested()
    return full
  }

  #enqueue(parcel: Parcel): void {
    const { limits, sending } = this.#host
    this.#queue.push(parcel)
    this.#queueBytes += parcel.bytes.length
    sending.used += parcel.bytes.length
    while (this.#queue.length > limits.sendQueueMax || this.#queueBytes > limits.sendQueueBytesMax || (this.#queue.length > 1 && sending.exceeded)) {
      sending.used -= this.#take()!.bytes.length
      this.#host.counters.dropped.queue_full.value++
    }
  }

  #take(): Parcel | undefined {
    const parcel = this.#queue.shift()
    if (parcel !== undefined) this.#queueBytes -= parcel.bytes.length
    return parcel
  }

  #sendQueued(): void {
    const { limits, sending } = this.#host
    while (this.#queue.length > 0) {
      const inflight = (this.#inflight ??= new Map())
      const size = this.#queue.peek()!.bytes.length
      if (inflight.size >= this.#inflightMax) return
      if (inflight.size > 0 && this.#inflightBytes + size > limits.sendQueueBytesMax) return
      if (this.#full()) return
      const parcel = this.#take()!
      if (!this.#alive(parcel)) {
        sending.used -= size
        continue
      }
      const packetId = this.#nextId(inflight)
      inflight.set(packetId, parcel)
      this.#inflightBytes += size
      this.#transmit(parcel, packetId)
    }
  }

  /** A message whose life is over is not sent any more [MQTT-3.3.2-5]. */
  #alive({ expiresMs }: Parcel): boolean {
    if (expiresMs === Number.POSITIVE_INFINITY || this.#host.clock.monotonicMs() <= expiresMs) return true
    this.#host.counters.dropped.expired.value++
    return false
  }

  /** Whether the client takes more at the moment; when not, `drained` follows. */
  flows(): boolean {
    return !this.#full()
  }

  /** Sends one whose packet id is kept elsewhere. */
  transmit(parcel: Parcel, packetId: number, dup: boolean): void {
    this.#transmit(parcel, packetId, dup)
  }

  #transmit(parcel: Parcel, packetId: number, dup = false): void {
    this.#sent(parcel.qos, parcel.bytes.length)
    if (parcel.five && (this.#terms.topicAliasMax > 0 || parcel.forwarded.expiryAt >= 0)) {
      this.#transmitOwn(parcel, packetId, dup)
    } else if (packetId === 0) {
      this.#writer.send(parcel.bytes)
    } else if (parcel.bytes.length <= copyBytesMax) {
      this.#writer.send(withPacketId(parcel, packetId, dup))
    } else {
      this.#writer.send(headWithPacketId(parcel, packetId, dup))
      this.#writer.send(parcel.bytes.subarray(parcel.idAt + 2))
    }
  }

  #copied(bytes: number): void {
    // To memory that is new: half a microsecond for each 512 bytes.
    this.#host.effort.units += bytes >> 9
  }

  #sent(qos: Qos, bytes: number): void {
    this.#host.counters.sent[qos].value++
    this.sent++
    // A kilobyte more takes the network about as long as a message.
    this.#host.effort.units += bytes >> 10
  }

  /** With a head of the client's own: its topic alias, and what is left of the message's life [MQTT-3.3.2-6]. */
  #transmitOwn(parcel: Parcel, packetId: number, dup: boolean): void {
    const { qos, retain, identifiers, forwarded, bytes, payloadAt, expiresMs, topic } = parcel
    const payload = bytes.subarray(payloadAt)
    const leftMs = expiresMs - this.#host.clock.monotonicMs()
    const options = {
      qos,
      retain,
      dup,
      packetId,
      forwarded,
      ...(identifiers === undefined ? {} : { subscriptionIdentifiers: identifiers }),
      ...(leftMs === Number.POSITIVE_INFINITY ? {} : { expiryS: Math.ceil(Math.max(0, leftMs) / 1000) }),
    }
    let topicAlias = 0
    let name = parcel.topicBytes
    if (this.#terms.topicAliasMax > 0) {
      this.#aliases ??= new OutboundAliases(Math.min(this.#terms.topicAliasMax, this.#host.limits.sendAliasesMax))
      topicAlias = this.#aliases.known(topic)
      if (topicAlias > 0) name = noTopic
      else if (bytes.length + aliasBytes <= this.#terms.packetBytesMax) topicAlias = this.#aliases.assign(topic)
    }
    const aliased = { ...options, topicAlias }
    const headBytes = publishHeadBytes5(name.length, payload.length, aliased)
    const joined = headBytes + payload.length <= copyBytesMax
    const head = Buffer.allocUnsafe(joined ? headBytes + payload.length : headBytes)
    writePublishHead5(head, 0, name, payload.length, aliased)
    if (joined) head.set(payload, headBytes)
    this.#writer.send(head)
    if (!joined && payload.length > 0) this.#writer.send(payload)
  }

  /** The next packet id that is not in use [MQTT-2.3.1-4] [MQTT-2.2.1-4]. */
  #nextId(inflight: ReadonlyMap<number, Inflight>): number {
    do {
      this.#lastId = this.#lastId === packetIdMax ? 1 : this.#lastId + 1
    } while (inflight.has(this.#lastId))
    return this.#lastId
  }
}

/** What an alias adds to a packet: its property, and up to two bytes of lengths that grow. */
const aliasBytes = 6
