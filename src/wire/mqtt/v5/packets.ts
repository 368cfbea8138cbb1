import type { AckType, Subscription, Will } from '../packets.ts'
import type { Forwarded } from './forward.ts'
import type { Properties } from './properties.ts'
import type { PublishProperties } from './publish.ts'

/** A will of MQTT 5 (section 3.1.3). */
export interface Will5 extends Will {
  /** Will Delay Interval. */
  readonly delayS: number
  /** What goes out with the message when it is published. */
  readonly forwarded: Forwarded
  readonly properties: Properties
}

/** A CONNECT of MQTT 5 (section 3.1). Everything is a copy: it outlives the chunk that it came in. */
export interface Connect5 {
  readonly level: 5
  readonly cleanStart: boolean
  /** 0: no keep-alive. */
  readonly keepAliveS: number
  readonly clientId: string
  readonly clientIdBytes: number
  readonly properties: Properties
  readonly will?: Will5
  readonly username?: string
  readonly password?: Uint8Array
}

/** 0: retained messages are sent at the subscription; 1: if it is new; 2: they are not (section 3.8.3.1). */
export type RetainHandling = 0 | 1 | 2

export interface Subscription5 extends Subscription {
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  readonly retainHandling: RetainHandling
}

/** A SUBSCRIBE of MQTT 5 (section 3.8). */
export interface Subscribe5 {
  readonly packetId: number
  readonly subscriptions: readonly Subscription5[]
  /** 0: none. */
  readonly subscriptionIdentifier: number
  readonly properties: Properties
}

/** A CONNACK of MQTT 5 (section 3.2). */
export interface Connack5 {
  readonly sessionPresent: boolean
  readonly reasonCode: number
  readonly properties: Properties
}

/** What either side is sent once a connection speaks MQTT 5; PINGREQ and PINGRESP stay with the sink of 3.1.1. See `PublishSink`. */
export interface PublishSink5 {
  /**
   * The topic bytes[topicStart, topicEnd) is a valid name, or empty: then `properties.alias` came with a name before. An alias is at most
   * `PacketStream.topicAliasMax`. `bytes` and `properties` are borrowed for the call.
   */
  publish5(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    properties: PublishProperties,
    payloadStart: number,
    payloadEnd: number,
  ): void
  /** As `PublishSink.oversized`. An alias that comes with a topic name counts as known from then on. */
  oversized5(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    properties: PublishProperties,
    payloadStart: number,
    payloadEnd: number,
    payloadBytes: number,
  ): void
  /** PUBACK, PUBREC, PUBREL or PUBCOMP; `reasonCode` is one that the packet may carry. Undefined: no properties. */
  acknowledged5(type: AckType, packetId: number, reasonCode: number, properties: Properties | undefined): void
  disconnect5(reasonCode: number, properties: Properties | undefined): void
  auth(reasonCode: number, properties: Properties): void
}

/** What a server receives. */
export interface PacketSink5 extends PublishSink5 {
  connect5(packet: Connect5): void
  subscribe5(packet: Subscribe5): void
  unsubscribe5(packetId: number, filters: readonly string[], properties: Properties): void
}

/** What a client receives. */
export interface ClientSink5 extends PublishSink5 {
  connack5(packet: Connack5): void
  /** A reason code for each filter of the SUBSCRIBE. */
  suback5(packetId: number, reasonCodes: readonly number[], properties: Properties): void
  unsuback5(packetId: number, reasonCodes: readonly number[], properties: Properties): void
}
