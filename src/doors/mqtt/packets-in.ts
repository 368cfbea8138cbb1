import type { AckType, Connect, PacketSink, Subscription } from '../../wire/mqtt/packets.ts'
import type { Connect5, PacketSink5, Subscribe5 } from '../../wire/mqtt/v5/packets.ts'
import type { Properties } from '../../wire/mqtt/v5/properties.ts'
import { noProperties } from '../../wire/mqtt/v5/publish.ts'
import type { PublishProperties } from '../../wire/mqtt/v5/publish.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import { requestOf, requestOf5 } from './connecting.ts'
import type { ConnectionRequest } from './connecting.ts'
import type { OpenSession } from './open-session.ts'

/** What is asked of a connection whose client is not let in yet. */
export interface Greeting {
  connect(request: ConnectionRequest): void
  unsupported(level: number): void
  /** Anything but a CONNECT came first [MQTT-3.1.0-1]. */
  unexpected(): void
}

/** The packets of both versions as one: 3.1.1 says what 5 does, with less. Before the client is let in, all but CONNECT are unexpected. */
export class PacketsIn implements PacketSink, PacketSink5 {
  /** Undefined: the client is not let in. */
  open: OpenSession | undefined
  readonly #greeting: Greeting

  constructor(greeting: Greeting) {
    this.#greeting = greeting
  }

  connect(packet: Connect): void {
    this.#greeting.connect(requestOf(packet))
  }

  connect5(packet: Connect5): void {
    this.#greeting.connect(requestOf5(packet))
  }

  unsupported(level: number): void {
    this.#greeting.unsupported(level)
  }

  publish(bytes: Uint8Array, flags: number, topicStart: number, topicEnd: number, packetId: number, start: number, end: number): void {
    this.publish5(bytes, flags, topicStart, topicEnd, packetId, noProperties, start, end)
  }

  publish5(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    properties: PublishProperties,
    start: number,
    end: number,
  ): void {
    if (this.open === undefined) return this.#greeting.unexpected()
    this.open.inbound.publish(bytes, flags, topicStart, topicEnd, packetId, properties, start, end)
    this.open.published(end - topicStart)
  }

  oversized(...[bytes, flags, topicStart, topicEnd, packetId, start, end, length]: Parameters<PacketSink['oversized']>): void {
    this.oversized5(bytes, flags, topicStart, topicEnd, packetId, noProperties, start, end, length)
  }

  /** What is wrong with it is told behind it, whoever sends it. */
  oversized5(...packet: Parameters<PacketSink5['oversized5']>): void {
    this.open?.inbound.oversized(...packet)
  }

  acknowledged(type: AckType, packetId: number): void {
    this.acknowledged5(type, packetId, ReasonCode.success)
  }

  acknowledged5(type: AckType, packetId: number, reasonCode: number): void {
    if (this.open === undefined) this.#greeting.unexpected()
    else this.open.acknowledged(type, packetId, reasonCode)
  }

  subscribe(packetId: number, subscriptions: readonly Subscription[]): void {
    if (this.open === undefined) this.#greeting.unexpected()
    else this.open.subscribe(packetId, subscriptions, 0)
  }

  subscribe5({ packetId, subscriptions, subscriptionIdentifier }: Subscribe5): void {
    if (this.open === undefined) this.#greeting.unexpected()
    else this.open.subscribe(packetId, subscriptions, subscriptionIdentifier)
  }

  unsubscribe(packetId: number, filters: readonly string[]): void {
    if (this.open === undefined) this.#greeting.unexpected()
    else this.open.unsubscribe(packetId, filters)
  }

  unsubscribe5(packetId: number, filters: readonly string[]): void {
    this.unsubscribe(packetId, filters)
  }

  pingreq(): void {
    if (this.open === undefined) this.#greeting.unexpected()
    else this.open.pingreq()
  }

  disconnect(): void {
    this.disconnect5(ReasonCode.success, undefined)
  }

  disconnect5(reasonCode: number, properties: Properties | undefined): void {
    if (this.open === undefined) this.#greeting.unexpected()
    else this.open.disconnect(reasonCode, properties)
  }

  auth(): void {
    if (this.open === undefined) this.#greeting.unexpected()
    else this.open.auth()
  }
}
