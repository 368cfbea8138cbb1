import type { Clock, Logger, Random } from '../../core/env.ts'
import type { IngestGate, MessageContext } from '../../core/gate.ts'
import type { Will } from '../../wire/mqtt/packets.ts'
import type { Will5 } from '../../wire/mqtt/v5/packets.ts'
import type { AuthThrottle } from '../auth-throttle.ts'
import type { MqttAuthorizer, MqttPrincipal } from './authorizer.ts'
import type { Budget } from './budget.ts'
import type { Transport } from './connection.ts'
import type { MqttCounters } from './counters.ts'
import type { MqttLimits } from './limits.ts'
import type { Subscriber } from './message.ts'
import type { RetainedFeeds } from './retained.ts'
import type { Subscriptions } from './subscriptions.ts'
import type { OversizedThrottle } from './oversized-throttle.ts'
import type { PacketWriter } from './writer.ts'

/** Which topics are telemetry, and what device a topic names. */
export interface TelemetryTopics {
  /** `refused`: a template covers the topic, but what stands in the device's place cannot be a device id. */
  match(topic: string): { readonly telemetry: boolean; readonly device?: string; readonly refused?: string }
}

/** Who waits for the gate: to acknowledge, or to offer again. */
export interface Waiting {
  /** Set and cleared by the host. */
  listed: boolean
  /** Something became durable, or overload ended. Returns whether it waits on. */
  settle(durable: number): boolean
}

/** What an operator is shown of a session, as of now. */
export interface SessionFacts {
  readonly address: string
  readonly transport: Transport
  readonly level: 3 | 4 | 5
  readonly connectedUs: number
  readonly keepAliveS: number
  readonly inflight: number
  readonly queued: number
  readonly messagesIn: number
  readonly messagesOut: number
  readonly bytesIn: number
  readonly bytesOut: number
}

/** A session as its host knows it. */
export interface HostedSession {
  readonly principal: MqttPrincipal | undefined
  /** Publishes taken and not yet acknowledged. */
  readonly unacknowledged: number
  /** Another connection uses the client id [MQTT-3.1.4-2]. */
  takenOver(): void
  revoke(): void
  /** An operator ends the connection. */
  kick(): void
  facts(): SessionFacts
  /** Who gets its deliveries; undefined before it was let in. */
  readonly subscriber: Subscriber | undefined
  /** No more is read. */
  drain(): void
  shutdown(): void
}

/** What all sessions of a door share. */
export interface MqttHost {
  readonly gate: IngestGate
  readonly topics: TelemetryTopics
  readonly authorizer: MqttAuthorizer
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly limits: MqttLimits
  readonly counters: MqttCounters
  readonly throttle: AuthThrottle
  readonly oversized: OversizedThrottle
  /** Publishes held while the gate is overloaded; packets not complete; what waits for slow readers. */
  readonly held: Budget
  readonly partial: Budget
  readonly sending: Budget
  readonly retained: RetainedFeeds
  subscriptions(tenant: string): Subscriptions<Subscriber>
  schedule(writer: PacketWriter): void
  wait(waiting: Waiting): void
  /** Makes the session the one of its client id. */
  register(session: HostedSession, principal: MqttPrincipal): void
  ended(session: HostedSession): void
  publishWill(principal: MqttPrincipal, will: Will | Will5): void
  /** A client spoke TLS on the port that has none. */
  tlsOnPlain(remoteAddress: string): void
}

/** What the gate is told about messages of one client on one topic. */
export function contextOf(principal: MqttPrincipal, topic: string, device: string | undefined): MessageContext {
  return {
    transport: 'mqtt',
    tenant: principal.tenant,
    client: principal.clientId,
    topic,
    shape: 'any',
    ...(device === undefined ? {} : { topicDevice: device }),
    packetId: 0,
    dup: false,
    item: 0,
  }
}
