/** MQTT 3.1.1 control packets (OASIS, section 2.2.1): the type in the first byte's upper half. */
export const PacketType = {
  connect: 1,
  connack: 2,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  subscribe: 8,
  suback: 9,
  unsubscribe: 10,
  unsuback: 11,
  pingreq: 12,
  pingresp: 13,
  disconnect: 14,
} as const

/** The four packets that acknowledge a PUBLISH or part of it. */
export type AckType = 4 | 5 | 6 | 7

/** CONNACK return codes (table 3.1). */
export const ConnackCode = {
  accepted: 0,
  unacceptableProtocol: 1,
  identifierRejected: 2,
  serverUnavailable: 3,
  badCredentials: 4,
  notAuthorized: 5,
} as const
export type ConnackCode = (typeof ConnackCode)[keyof typeof ConnackCode]

/** MQTT 5 reason code "Unsupported Protocol Version": the one answer of that version that is known here. */
export const unsupportedVersionReason = 0x84

/** SUBACK return code of a refused filter (section 3.9.3). */
export const subscribeRefused = 0x80

export interface Will {
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
}

/** A CONNECT of MQTT 3.1 or 3.1.1. Everything is a copy: it outlives the chunk that it came in. */
export interface Connect {
  readonly level: 3 | 4
  readonly cleanSession: boolean
  /** 0: no keep-alive. */
  readonly keepAliveS: number
  readonly clientId: string
  readonly clientIdBytes: number
  readonly will?: Will
  readonly username?: string
  readonly password?: Uint8Array
}

export interface Subscription {
  readonly filter: string
  readonly qos: 0 | 1 | 2
}

/** Why a byte stream is no MQTT: the connection is to be closed [MQTT-4.8.0-1]. */
export interface Violation {
  /** `limit` when the standard would allow it and a bound of ours does not. */
  readonly kind: 'protocol' | 'limit'
  /** The conformance statement, as `MQTT-x.y.z-n`; a section where the standard numbers none. */
  readonly statement: string
  readonly text: string
}

/** Receives packets in the order of the stream. Every call happens inside `Framer.push` or `Framer.resume`. */
export interface PacketSink {
  /**
   * `flags` are the fixed header's: bit 0 RETAIN, bits 1 and 2 QoS, bit 3 DUP. `packetId` is 0 at QoS 0. The topic name is valid.
   * `bytes` is borrowed for the call.
   */
  publish(bytes: Uint8Array, flags: number, topicStart: number, topicEnd: number, packetId: number, payloadStart: number, payloadEnd: number): void
  /**
   * A PUBLISH that is longer than the limit: as `publish`, but of its payload only the beginning is there, of `payloadBytes` in all. A
   * violation follows. Only where `Framer.oversizedBytes` asks for it.
   */
  oversized(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    payloadStart: number,
    payloadEnd: number,
    payloadBytes: number,
  ): void
  acknowledged(type: AckType, packetId: number): void
  connect(packet: Connect): void
  /** A CONNECT whose protocol level is not spoken here; nothing behind the level was looked at. */
  unsupported(level: number): void
  subscribe(packetId: number, subscriptions: readonly Subscription[]): void
  unsubscribe(packetId: number, filters: readonly string[]): void
  pingreq(): void
  disconnect(): void
}

export function violation(statement: string, text: string): Violation {
  return { kind: 'protocol', statement, text }
}
