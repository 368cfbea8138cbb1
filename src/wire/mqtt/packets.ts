/** Control packets (MQTT 3.1.1, section 2.2.1; MQTT 5, section 2.1.2): the type in the first byte's upper half. */
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
  /** MQTT 5. */
  auth: 15,
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

/** Why a byte stream is no MQTT: the connection is to be closed [MQTT-4.8.0-1], in MQTT 5 with the reason code in a DISCONNECT or CONNACK. */
export interface Violation {
  /** `limit` when the standard would allow it and a bound of ours does not. */
  readonly kind: 'protocol' | 'limit'
  /** Of MQTT 5 (section 4.13): 0x81 malformed packet, 0x82 protocol error, 0x95 packet too large … */
  readonly reasonCode: number
  /** The conformance statement of the version that is spoken, as `MQTT-x.y.z-n`; a section where the standard numbers none. */
  readonly statement: string
  readonly text: string
  /** On what both versions say: MQTT 5's statement. `inFive` puts it in place. */
  readonly statement5?: string
}

/** What either side is sent, in the order of the stream. Every call happens inside `PacketStream.push` or `PacketStream.resume`. */
export interface PublishSink {
  /**
   * `flags` are the fixed header's: bit 0 RETAIN, bits 1 and 2 QoS, bit 3 DUP. `packetId` is 0 at QoS 0. The topic name is valid.
   * `bytes` is borrowed for the call.
   */
  publish(bytes: Uint8Array, flags: number, topicStart: number, topicEnd: number, packetId: number, payloadStart: number, payloadEnd: number): void
  /**
   * A PUBLISH that is longer than the limit: as `publish`, but of its payload only the beginning is there, of `payloadBytes` in all. A
   * violation follows, unless the rest is passed over. Only where `PacketStream.oversizedBytes` asks for it.
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
}

/** What a server receives. */
export interface PacketSink extends PublishSink {
  connect(packet: Connect): void
  /** A CONNECT whose protocol level is not spoken here (5 as well, where the framer has no sink for it); nothing behind the level was looked at. */
  unsupported(level: number): void
  subscribe(packetId: number, subscriptions: readonly Subscription[]): void
  unsubscribe(packetId: number, filters: readonly string[]): void
  pingreq(): void
  disconnect(): void
}

/** What a client receives. */
export interface ClientSink extends PublishSink {
  /** `code` is a return code of table 3.1, or one that is reserved. */
  connack(sessionPresent: boolean, code: number): void
  /** A code for each filter of the SUBSCRIBE: the QoS that was granted, or `subscribeRefused`. */
  suback(packetId: number, codes: readonly number[]): void
  unsuback(packetId: number): void
  pingresp(): void
}

export const malformedPacket = 0x81
export const protocolError = 0x82

/** A violation of 3.1.1, or of MQTT 5 where it is found by what only reads that. */
export function violation(statement: string, text: string, o: { statement5?: string; reasonCode?: number } = {}): Violation {
  const { statement5, reasonCode = malformedPacket } = o
  return { kind: 'protocol', reasonCode, statement, text, ...(statement5 === undefined ? {} : { statement5 }) }
}

/** The same, as MQTT 5 says it. */
export function inFive({ kind, reasonCode, statement, statement5 = statement, text }: Violation): Violation {
  return { kind, reasonCode, statement: statement5, text }
}
