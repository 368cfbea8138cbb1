import type { SessionDelivery, SessionHandle, SessionInflight } from '../../core/session-store.ts'
import { PacketType } from '../../wire/mqtt/packets.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import { acknowledgement } from './answers.ts'
import type { StoreWaits } from './store-waits.ts'
import type { Parcel } from './message.ts'
import type { Outbox } from './outbox.ts'
import type { KeptOutgoings } from './retained-target.ts'
import type { Terms } from './terms.ts'
import type { PacketWriter } from './writer.ts'

const packetIdMax = 65_535
const nothing: readonly SessionInflight[] = []

/** `sending`: its packet id is not durable yet. `received`: PUBREC came. */
type State = 'sending' | 'sent' | 'received'

interface Inflight {
  readonly qos: 1 | 2
  state: State
}

/** Deliveries of QoS 1 and 2 of a session that the store keeps: taken from there as the client keeps up, and done with there. */
export class StoredDeliveries {
  readonly #handle: SessionHandle
  readonly #outbox: Outbox
  readonly #terms: Terms
  readonly #writer: PacketWriter
  readonly #waits: StoreWaits
  readonly #outgoings: KeptOutgoings
  readonly #max: number
  readonly #inflight = new Map<number, Inflight>()
  /** What was under way before; from `#againAt` on it was not sent again yet [MQTT-4.4.0-1]. */
  #again: readonly SessionInflight[]
  #againAt = 0
  /** Packet ids of it: they are in use. */
  readonly #reserved: Set<number>
  #lastId = 0
  /** Taken, and not sent yet. */
  #sending = 0
  #pulling = false
  #closed = false

  constructor(o: {
    readonly handle: SessionHandle
    readonly outbox: Outbox
    readonly terms: Terms
    readonly writer: PacketWriter
    readonly waits: StoreWaits
    readonly outgoings: KeptOutgoings
    readonly max: number
  }) {
    this.#handle = o.handle
    this.#outbox = o.outbox
    this.#terms = o.terms
    this.#writer = o.writer
    this.#waits = o.waits
    this.#outgoings = o.outgoings
    this.#max = Math.min(o.max, o.terms.receiveMaximum)
    this.#again = o.handle.inflight
    this.#reserved = new Set(o.handle.inflight.map(({ packetId }) => packetId))
  }

  get inflight(): number {
    return this.#inflight.size
  }

  /** Sends what there is, as far as the client takes it. */
  pull(): void {
    if (this.#pulling || this.#closed) return
    this.#pulling = true
    try {
      while (this.#inflight.size < this.#max && this.#outbox.flows() && this.#next()) continue
    } finally {
      this.#pulling = false
    }
  }

  /** PUBACK, as in `Outbox`. */
  acknowledged(packetId: number): boolean {
    const one = this.#sent(packetId)
    if (one?.qos === 1) this.#done(packetId)
    return one?.qos !== 2
  }

  /** PUBREC, as in `Outbox`. */
  received(packetId: number, reasonCode: number): boolean {
    const one = this.#sent(packetId)
    if (one?.qos === 1) return false
    if (one === undefined) {
      if (reasonCode < 0x80) this.#release(packetId, ReasonCode.packetIdentifierNotFound)
    } else if (reasonCode >= 0x80) this.#done(packetId)
    else {
      one.state = 'received'
      this.#waits.push(
        () => this.#handle.received(packetId),
        () => this.#release(packetId, ReasonCode.success),
      )
    }
    return true
  }

  /** PUBCOMP, as in `Outbox`. */
  completed(packetId: number): boolean {
    const one = this.#sent(packetId)
    if (one === undefined) return true
    if (one.state !== 'received') return false
    this.#done(packetId)
    return true
  }

  close(): void {
    this.#closed = true
    this.#inflight.clear()
  }

  /** What the client can know of. */
  #sent(packetId: number): Inflight | undefined {
    const one = this.#inflight.get(packetId)
    return one?.state === 'sending' ? undefined : one
  }

  #done(packetId: number): void {
    this.#inflight.delete(packetId)
    this.#handle.done(packetId)
    this.pull()
  }

  #release(packetId: number, reasonCode: number): void {
    this.#writer.send(acknowledgement(this.#terms, PacketType.pubrel, packetId, reasonCode))
  }

  /** False: there is nothing more. */
  #next(): boolean {
    const before = this.#again[this.#againAt]
    if (before !== undefined) {
      this.#againAt++
      this.#resend(before)
      return true
    }
    this.#again = nothing
    const [delivery] = this.#handle.take(1)
    if (delivery === undefined) return false
    this.#send(delivery)
    return true
  }

  #resend(before: SessionInflight): void {
    const { packetId } = before
    this.#reserved.delete(packetId)
    if (before.state === 'received') {
      this.#inflight.set(packetId, { qos: 2, state: 'received' })
      this.#release(packetId, ReasonCode.success)
      return
    }
    const { delivery } = before
    const parcel = this.#parcel(delivery)
    if (parcel === undefined) return this.#handle.done(packetId)
    this.#inflight.set(packetId, { qos: delivery.qos, state: 'sent' })
    this.#outbox.transmit(parcel, packetId, true)
  }

  #send(delivery: SessionDelivery): void {
    const packetId = this.#nextId()
    const parcel = this.#parcel(delivery)
    if (parcel === undefined) {
      this.#handle.sending(delivery, packetId)
      return this.#handle.done(packetId)
    }
    const one: Inflight = { qos: delivery.qos, state: 'sending' }
    this.#inflight.set(packetId, one)
    const send = (): void => {
      one.state = 'sent'
      this.#sending--
      this.#outbox.transmit(parcel, packetId, false)
    }
    this.#sending++
    if (delivery.qos === 2) return this.#waits.push(() => this.#handle.sending(delivery, packetId), send)
    this.#handle.sending(delivery, packetId)
    if (this.#sending === 1) send()
    // Not before a QoS 2 message that was published before it; for itself it waits for nothing.
    else this.#waits.push(() => Math.max(1, delivery.ticket), send)
  }

  /** Undefined: longer than the client takes; it counts as delivered [MQTT-3.1.2-24] [MQTT-3.1.2-25]. */
  #parcel({ message, qos, retain, identifiers }: SessionDelivery): Parcel | undefined {
    const form = this.#outgoings.of(message).parcel(this.#terms.level === 5, qos, retain, identifiers.length === 0 ? undefined : identifiers)
    return form.bytes.length > this.#terms.packetBytesMax ? undefined : form
  }

  #nextId(): number {
    do {
      this.#lastId = this.#lastId === packetIdMax ? 1 : this.#lastId + 1
    } while (this.#inflight.has(this.#lastId) || this.#reserved.has(this.#lastId))
    return this.#lastId
  }
}
