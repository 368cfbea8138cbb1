import type { KymoError } from './errors.ts'

/** A Session Expiry Interval that never ends (MQTT 5, 3.1.2.11.2). */
export const neverExpires = 0xffff_ffff

/**
 * An Application Message as it is kept: for subscribers that are away, as a retained one, or as a will. Who hands one in lends its bytes for the
 * call; who is given one must not change them.
 */
export interface SessionMessage {
  readonly tenant: string
  readonly topic: string
  /** Of the publication; what a subscriber gets stands with its delivery. */
  readonly qos: 0 | 1 | 2
  readonly payload: Uint8Array
  /** Properties that are passed on unaltered (MQTT 5, 3.3.2.3), in the door's own encoding; empty: none. The store does not look into them. */
  readonly properties: Uint8Array
  /** End of its Message Expiry Interval, epoch microseconds; Infinity: none. */
  readonly expiresUs: number
}

/** One subscription of a session. `filter` as the client wrote it, `$share/group/` included: it is what makes it one (MQTT 5, 3.8.4). */
export interface SessionSubscription {
  readonly filter: string
  readonly qos: 0 | 1 | 2
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  readonly retainHandling: 0 | 1 | 2
  /** Subscription Identifier, 1 to 268,435,455; 0: none. */
  readonly identifier: number
}

/** A will (MQTT 5, 3.1.2.5), with its delay. */
export interface SessionWill {
  readonly message: SessionMessage
  readonly retain: boolean
  readonly delayS: number
}

/** Names a session. `id` is of this process and of this life of the session: what a topic tree keeps. */
export interface SessionRef {
  readonly id: number
  readonly tenant: string
  readonly client: string
}

export interface SessionRecipient {
  /**
   * One that has ended meanwhile gets nothing, and is counted; one that is named again gets the message once: at the highest QoS [MQTT-3.3.4-2], with
   * all identifiers [MQTT-3.3.4-4], with RETAIN when one of them has it, and as a member of the first group that is named.
   */
  readonly session: SessionRef
  /** The lower of the publication's and the granted one; 0 is never queued. */
  readonly qos: 1 | 2
  /** The RETAIN flag that it will carry. */
  readonly retain: boolean
  readonly identifiers?: readonly number[]
  /** Of a shared subscription its filter, `$share/group/` included: when the session ends first, another member may have the message. */
  readonly group?: string
}

/** A message of a shared subscription that a session has ended without: not sent, or of QoS 1 and not acknowledged. */
export interface LeftDelivery {
  readonly group: string
  readonly message: SessionMessage
}

/** What one PUBLISH, or one will that is due, changes: durable as a whole or not at all. */
export interface Publication {
  readonly message: SessionMessage
  readonly recipients: readonly SessionRecipient[]
  /** Becomes the retained message of its topic; with an empty payload it removes it [MQTT-3.3.1-6]. */
  readonly retain?: boolean
  /**
   * The QoS 2 publish that this was: its packet id is remembered in the same step. When it is there already and not released, this is the same publish
   * again [MQTT-4.3.3-10], and nothing of it is done a second time.
   */
  readonly inbound?: { readonly session: SessionHandle; readonly packetId: number }
  /** The will that this was: it is done with. */
  readonly will?: DueWill
}

/** A message in a session's queue. `seq` names it there; later ones have higher numbers. */
export interface SessionDelivery {
  readonly seq: number
  readonly qos: 1 | 2
  readonly retain: boolean
  readonly identifiers: readonly number[]
  readonly message: SessionMessage
  /** Durable from this ticket on. */
  readonly ticket: number
}

/** A delivery that was sent and is not done with, in the order of sending: resent when the client comes back [MQTT-4.4.0-1]. */
export type SessionInflight =
  | { readonly packetId: number; readonly state: 'sent'; readonly delivery: SessionDelivery }
  /** PUBREC came: PUBREL is what is to be sent. */
  | { readonly packetId: number; readonly state: 'received' }

/** A will whose time has come. It stays, over restarts too, until a publication names it. */
export interface DueWill {
  readonly id: number
  readonly client: string
  readonly retain: boolean
  readonly message: SessionMessage
}

export interface StoredSession {
  readonly ref: SessionRef
  readonly attached: boolean
  readonly expiryS: number
  /** Since when it is without a connection, epoch microseconds; undefined: it has one. */
  readonly detachedUs: number | undefined
  readonly subscriptions: readonly SessionSubscription[]
  /** Not sent yet, and sent and not done with. */
  readonly queued: number
  readonly inflight: number
  readonly queuedBytes: number
}

/** Why a message was not kept for somebody. */
export type DropReason = 'queue_messages' | 'queue_bytes' | 'total_bytes' | 'expired' | 'ended' | 'retained_messages' | 'retained_bytes'

export interface SessionFigures {
  readonly sessions: number
  readonly attached: number
  /** Deliveries that wait or are under way, of all sessions. */
  readonly deliveries: number
  readonly retained: number
  readonly retainedBytes: number
  /** Of all messages that are kept, each counted once however many wait for it. */
  readonly messageBytes: number
  readonly wills: number
  readonly dropped: Readonly<Record<DropReason, number>>
}

export interface AttachOptions {
  /** Clean Start: what there was of the session ends first. */
  readonly clean: boolean
  /** Session Expiry Interval in seconds, or `neverExpires`. 0: ends with the connection. */
  readonly expiryS: number
  readonly will?: SessionWill
  /** Another connection has taken the session over: nothing that this handle is asked for has an effect any more. */
  readonly onTaken: () => void
  /** There is something for `take`, after it has given less than was asked for. */
  readonly onQueued: () => void
}

/**
 * A session that a connection has. Methods that return a number give the ticket to wait for, or 0: nothing was taken, offer it again after
 * `onDurable`. Once the session is taken over or has ended they throw `session_taken`. What needs no waiting is written with the next change, or
 * within `sessionLazyMs`.
 */
export interface SessionHandle {
  readonly ref: SessionRef
  /** Higher than that of every earlier connection of this session: the fence of a store that several processes share. */
  readonly epoch: number
  /** Session Present. */
  readonly present: boolean
  /** To wait for before CONNACK. */
  readonly ticket: number
  readonly subscriptions: readonly SessionSubscription[]
  /** Packet ids of QoS 2 publishes that were received and not released. */
  readonly inbound: readonly number[]
  /** What was under way at `attach`. */
  readonly inflight: readonly SessionInflight[]
  /** To wait for before SUBACK. One of a filter that is there replaces it. */
  subscribe(subscriptions: readonly SessionSubscription[]): number
  /** To wait for before UNSUBACK. */
  unsubscribe(filters: readonly string[]): number
  /**
   * The next deliveries in order, each given once to a handle; fewer than `max` means that no more is at hand and `onQueued` will tell. Expired
   * ones are left out and counted.
   */
  take(max: number): readonly SessionDelivery[]
  /**
   * A packet id for a delivery that was taken. QoS 2: wait before PUBLISH is sent, or a crash may give the id to another message while the client
   * still holds it. QoS 1 need not wait: after a crash it is sent again.
   */
  sending(delivery: SessionDelivery, packetId: number): number
  /** PUBREC came: wait before PUBREL. The message is no longer kept. */
  received(packetId: number): number
  /** PUBACK, PUBCOMP, or a PUBREC that refuses. Not waited for. */
  done(packetId: number): void
  /** A QoS 2 publish that goes nowhere: wait before PUBREC. One that is routed says so in its `Publication`. */
  accept(packetId: number): number
  /** PUBREL came: wait before PUBCOMP. */
  release(packetId: number): number
  /**
   * The connection is gone. `expiryS`: as DISCONNECT changed it. `will`: `discard` after a DISCONNECT with reason code 0 [MQTT-3.14.4-3]. With an
   * expiry of 0 the session ends. A handle that was taken over: nothing happens.
   */
  detach(o: { readonly expiryS?: number; readonly will: 'publish' | 'discard' }): void
}

/**
 * What of MQTT sessions outlives a connection, retained messages and wills. Durability is told by tickets, as the ingest gate tells it: a change is
 * durable, with all changes before it, once `durable >= ticket`. Bounded by `SessionLimits`. Sessions end by `Env.clock`, also while nobody is
 * connected and after a restart; those that had a connection when the process died count as left at the start.
 */
export interface SessionStore {
  /**
   * Gives the session to a connection, and makes it when there is none; whoever had it loses it. A will that waits is discarded, or, when the session
   * begins anew or it has no delay, due at once. Rejects with `too_many_sessions`, `overloaded`, or as the store has failed.
   */
  attach(tenant: string, client: string, o: AttachOptions): Promise<SessionHandle>
  /** Ends a session, connected or not. Resolves with false when there is none. */
  end(tenant: string, client: string): Promise<boolean>
  /** All of them, in no order: to fill a topic tree at the start, and for an operator. */
  sessions(): AsyncIterable<StoredSession>
  /** Returns the ticket to wait for before PUBACK or PUBREC; 0: overloaded, nothing was taken. Throws `record_too_large`. */
  publish(publication: Publication): number
  /** The last publication was to be retained and is not: as much is kept as may be (`retainedMessagesMax`, `retainedBytesMax`). All else was done. */
  readonly unretained: boolean
  /**
   * Retained messages that a filter matches (MQTT 5, 4.7), in pages; expired ones are left out. A page may be empty: each takes well under a
   * millisecond, however much there is that does not match.
   */
  retained(tenant: string, filter: string): AsyncIterable<readonly SessionMessage[]>
  /** Calls `listener` for each will that is due, those that were due before included. One listener. */
  onWill(listener: (will: DueWill) => void): void
  /**
   * A session has ended: by its expiry, by Clean Start, by `end`. `left`: what of shared subscriptions was not delivered (MQTT 5, 4.8.2), published anew
   * within the call it is as durable as it was. Returns the way to stop.
   */
  onEnded(listener: (session: SessionRef, left: readonly LeftDelivery[]) => void): () => void
  /** The highest durable ticket. */
  readonly durable: number
  /** True while tickets are refused. */
  readonly overloaded: boolean
  /** Why nothing becomes durable at the moment; undefined when it does. */
  readonly stalled: KymoError | undefined
  /** Calls `listener` after each write that became durable, and when overload ends. Returns the way to stop. */
  onDurable(listener: (durable: number) => void): () => void
  /** Resolves when the ticket is durable; rejects when the store has failed or is closed. */
  whenDurable(ticket: number): Promise<void>
  figures(): SessionFigures
  /** Writes what waits. */
  close(): Promise<void>
}

/** Bounds of a store; the defaults are `mqttSession…` and `mqttRetained…` of core/limits.ts. */
export interface SessionLimits {
  readonly sessionsPerTenantMax: number
  /** Deliveries of one session, those under way included, and their bytes. */
  readonly queueMessagesMax: number
  readonly queueBytesMax: number
  /** Bytes of all messages kept for sessions, each counted once, and 100 for each place in a queue. */
  readonly totalBytesMax: number
  readonly retainedMessagesMax: number
  readonly retainedBytesMax: number
  /** Of all sessions, due ones included; `attach` with one more rejects with `overloaded`. */
  readonly willBytesMax: number
  /** Changes that are not durable yet. */
  readonly pendingBytesMax: number
}

/**
 * What a full queue does. `drop_newest`: what is there was acknowledged to its publisher and stays (Mosquitto's way). `drop_oldest`: the newest state
 * counts (EMQX's way); what is under way stays.
 */
export type QueuePolicy = 'drop_newest' | 'drop_oldest'
