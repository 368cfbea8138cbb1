import type { ClientFramer } from '../../../wire/mqtt/client.ts'
import { ReasonCode } from '../../../wire/mqtt/v5/reason.ts'

/** A version of MQTT that is spoken to outside brokers. */
export type MqttVersion = '3.1.1' | '5'

/** Why a connection is over. */
export interface Fault {
  readonly text: string
  /** Trying again soon is of no use: somebody must change something. */
  readonly refused: boolean
  /** `unsupported`: it does not speak this version of MQTT. `mute`: it closed the connection and had said nothing. */
  readonly how?: 'unsupported' | 'mute' | undefined
}

/** What a broker says of itself, and of the session, when it lets us in. */
export interface BrokerTerms {
  readonly sessionPresent: boolean
  /** Its own values in place of those that it was asked for (MQTT 5, section 3.2.2.3), where it has them. */
  readonly keepAliveS: number | undefined
  readonly sessionExpiryS: number | undefined
  readonly clientId: string | undefined
  /** The longest packet that it takes. */
  readonly packetBytesMax: number
  /** Whether it takes filters with wildcards, and shared ones; 3.1.1 does not say, and an answer to SUBSCRIBE tells. */
  readonly wildcards: boolean
  readonly shared: boolean
}

/** Terms that say nothing. */
export const plainTerms: Omit<BrokerTerms, 'sessionPresent'> = {
  keepAliveS: undefined,
  sessionExpiryS: undefined,
  clientId: undefined,
  packetBytesMax: Number.POSITIVE_INFINITY,
  wildcards: true,
  shared: true,
}

/** Why a filter need not be sent: the reason code that the broker would answer with, or break the connection over (MQTT 5, section 3.2.2.3). */
export function impossible(filter: string, { wildcards, shared }: BrokerTerms): number | undefined {
  if (!shared && filter.startsWith('$share/')) return ReasonCode.sharedSubscriptionsNotSupported
  return !wildcards && /[+#]/.test(filter) ? ReasonCode.wildcardSubscriptionsNotSupported : undefined
}

type Take<More extends readonly number[]> = (
  bytes: Uint8Array,
  flags: number,
  topicStart: number,
  topicEnd: number,
  packetId: number,
  alias: number,
  payloadStart: number,
  payloadEnd: number,
  ...more: More
) => void

/** Messages as they come, in either version. */
export interface PullMessages {
  /** As `PublishSink.publish`. `alias`: the topic alias, 0: none; with one that came with a name before, the topic may be empty. */
  readonly publish: Take<[]>
  /** As `PublishSink.oversized`. */
  readonly oversized: Take<[payloadBytes: number]>
}

/** What a broker says, in the same words for both versions. */
export interface BrokerWords extends PullMessages {
  accepted(terms: BrokerTerms): void
  /** It does not let us in, or ends the connection. */
  refused(fault: Fault): void
  /** Its word on each filter of a SUBSCRIBE: a QoS, or from 0x80 on why not. */
  subscribed(packetId: number, codes: readonly number[]): void
  pong(): void
  /** It sent what it must not. */
  unexpected(text: string): void
}

export interface ConnectRequest {
  readonly clientId: string
  /** False: the broker keeps the session, and what it has for us, when the connection is gone. */
  readonly clean: boolean
  readonly username?: string
  readonly password?: string
  readonly keepAliveS: number
  /** How long it is to keep the session (MQTT 5; in 3.1.1 the broker decides). */
  readonly sessionExpiryS: number
  /** Messages of QoS 1 that it may send before the first of them is acknowledged (MQTT 5). */
  readonly receiveMaximum: number
}

/** One version of MQTT, as a client speaks it on one connection. */
export interface Dialect {
  readonly version: MqttVersion
  readonly stream: ClientFramer
  connect(o: ConnectRequest): Uint8Array
  /** Each filter at QoS 1. */
  subscribe(packetId: number, filters: readonly string[]): Uint8Array
  unsubscribe(packetId: number, filters: readonly string[]): Uint8Array
  /** `reasonCode` is said where the version can. */
  disconnect(reasonCode: number): Uint8Array
}

export type OpenDialect = (packetBytesMax: number, to: BrokerWords) => Dialect
