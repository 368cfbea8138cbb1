import type { Clock, Logger, Random } from '../../core/env.ts'
import type { IngestGate, MessageContext } from '../../core/gate.ts'
import type { SessionStore } from '../../core/session-store.ts'
import type { Will } from '../../wire/mqtt/packets.ts'
import type { Spares } from '../../wire/mqtt/spares.ts'
import type { Will5 } from '../../wire/mqtt/v5/packets.ts'
import type { AuthThrottle } from '../auth-throttle.ts'
import type { ArrayTurns } from './array-turns.ts'
import type { MqttAuthorizer, MqttPrincipal } from './authorizer.ts'
import type { Budget } from './budget.ts'
import type { Effort } from './effort.ts'
import type { Transport } from './connection.ts'
import type { MqttCounters } from './counters.ts'
import type { InTurns } from './in-turns.ts'
import type { KeptSessions } from './kept-sessions.ts'
import type { MqttLimits } from './limits.ts'
import type { Subscriber } from './message.ts'
import type { Neighbours } from './neighbours.ts'
import type { PeerConnection } from './peers.ts'
import type { RetainedFeeds } from './retained.ts'
import type { Subscriptions } from './subscriptions.ts'
import type { OversizedThrottle } from './oversized-throttle.ts'
import type { Joiner, PacketWriter } from './writer.ts'

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
export interface HostedSession extends PeerConnection {
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

/** Takes wills whose time has come. */
export interface WillSink {
  /** The connection of a session that ends with it is lost. */
  publish(principal: MqttPrincipal, will: Will | Will5): void
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
  readonly effort: Effort
  readonly arrays: ArrayTurns
  /** Ends of connections that their peers have closed. */
  readonly endings: InTurns
  readonly retained: RetainedFeeds
  /** Undefined: nothing is retained, and sessions end with their connection. */
  readonly store: SessionStore | undefined
  readonly kept: KeptSessions
  /** Undefined: there are no other processes. */
  readonly neighbours: Neighbours | undefined
  readonly wills: WillSink
  subscriptions(tenant: string): Subscriptions<Subscriber>
  readonly joiner: Joiner
  /** Buffers of large packets that come in pieces. */
  readonly spares: Spares
  schedule(writer: PacketWriter): void
  wait(waiting: Waiting): void
  /** Makes the session the one of its client id. */
  register(session: HostedSession, principal: MqttPrincipal): void
  ended(session: HostedSession): void
  /** What is held is offered again soon, when nothing else tells that it can be. */
  offerLater(): void
  /** A client spoke TLS on the port that has none. */
  tlsOnPlain(remoteAddress: string): void
}

/** What the gate is told about messages of one client on one topic. */
export function contextOf(principal: Pick<MqttPrincipal, 'tenant' | 'clientId'>, topic: string, device: string | undefined): MessageContext {
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
