import { AckRing } from '../../wire/mqtt/ack-ring.ts'
import { ackBytes, encodeAck, writeAck } from '../../wire/mqtt/encode.ts'
import type { AckType } from '../../wire/mqtt/packets.ts'
import { PacketType } from '../../wire/mqtt/packets.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import { acknowledgement } from './answers.ts'
import type { Terms } from './terms.ts'
import type { PacketWriter } from './writer.ts'

/** The acknowledgements of one client's PUBLISHes, in their order [MQTT-4.6.0-2] to [MQTT-4.6.0-4], each once it is due; and what QoS 2 remembers. */
export class Receipts {
  readonly #terms: Terms
  readonly #five: boolean
  readonly #writer: PacketWriter
  readonly #acks = new AckRing()
  /** QoS 2 packet ids between PUBLISH and PUBREL; true once PUBREC was sent. */
  #exactlyOnce: Map<number, boolean> | undefined
  /** Of these: PUBREC was sent. */
  #unreleased = 0

  /** `received`: QoS 2 packet ids that were received before, and not released. */
  constructor(terms: Terms, writer: PacketWriter, received: readonly number[] = []) {
    this.#terms = terms
    this.#five = terms.level === 5
    this.#writer = writer
    if (received.length > 0) this.#exactlyOnce = new Map(received.map((packetId) => [packetId, true]))
    this.#unreleased = received.length
  }

  /** Acknowledgements that wait. */
  get waiting(): number {
    return this.#acks.count
  }

  /** What counts against Receive Maximum, beside publishes that are held (MQTT 5, 4.9). */
  get open(): number {
    return this.#acks.count + this.#unreleased
  }

  /** QoS 2 packet ids that are in use. */
  get ids(): number {
    return this.#exactlyOnce?.size ?? 0
  }

  inUse(packetId: number): boolean {
    return this.#exactlyOnce?.has(packetId) === true
  }

  /** A QoS 2 publish that is in use came once more: its PUBREC is repeated once it was sent (section 4.3.3). */
  repeat(packetId: number): void {
    if (this.#exactlyOnce?.get(packetId) !== true) return
    this.#writer.send(acknowledgement(this.#terms, PacketType.pubrec, packetId, ReasonCode.success))
  }

  /** A new QoS 2 publish. */
  use(packetId: number): void {
    this.#exactlyOnce ??= new Map()
    this.#exactlyOnce.set(packetId, false)
  }

  /**
   * Acknowledges once `ticket` is durable at the gate and `second` in the session store, and all before it are acknowledged; 0: nothing of its own
   * there. Returns whether that is still to come.
   */
  acknowledge(flags: number, packetId: number, ticket: number, durable: number, reasonCode: number, second = 0, stored = 0): boolean {
    const type = (flags & 0x04) === 0 ? PacketType.puback : PacketType.pubrec
    const said = this.#five ? reasonCode : ReasonCode.success
    if (this.#acks.count === 0 && ticket <= durable && second <= stored) {
      if (type === PacketType.pubrec) this.#received(packetId, said)
      this.#writer.send(said === ReasonCode.success ? encodeAck(type, packetId) : acknowledgement(this.#terms, type, packetId, said))
      return false
    }
    this.#acks.push((said << 20) | (type << 16) | packetId, ticket, second)
    return true
  }

  /** Sends what is due. */
  settle(durable: number, stored: number): void {
    const ready = this.#acks.ready(durable, stored)
    if (ready === 0) return
    const bytes = Buffer.allocUnsafe(ready * ackBytes)
    let at = 0
    let from = 0
    for (let i = 0; i < ready; i++) {
      const ack = this.#acks.shift()
      const type = ((ack >>> 16) & 0x0f) as AckType
      const packetId = ack & 0xffff
      const reasonCode = ack >>> 20
      if (type === PacketType.pubrec) this.#received(packetId, reasonCode)
      if (reasonCode === ReasonCode.success) at = writeAck(bytes, at, type, packetId)
      else {
        if (at > from) this.#writer.send(bytes.subarray(from, at))
        from = at
        this.#writer.send(acknowledgement(this.#terms, type, packetId, reasonCode))
      }
    }
    if (at > from) this.#writer.send(at - from === bytes.length ? bytes : bytes.subarray(from, at))
  }

  /** PUBREL: the packet id may be used anew. Answered whether it was known or not (3.1.1, figure 4.3; MQTT 5, 3.7.2.1). */
  released(packetId: number): void {
    const received = this.#exactlyOnce?.get(packetId)
    if (received === true) this.#unreleased--
    this.#exactlyOnce?.delete(packetId)
    const reasonCode = received === undefined ? ReasonCode.packetIdentifierNotFound : ReasonCode.success
    this.#writer.send(acknowledgement(this.#terms, PacketType.pubcomp, packetId, reasonCode))
  }

  /** PUBREC is on its way; one with a failure ends the exchange (MQTT 5, 4.3.3). */
  #received(packetId: number, reasonCode: number): void {
    if (this.#exactlyOnce?.get(packetId) !== false) return
    if (reasonCode >= 0x80) {
      this.#exactlyOnce.delete(packetId)
      return
    }
    this.#exactlyOnce.set(packetId, true)
    this.#unreleased++
  }
}
