import type { SessionMessage, SessionSubscription } from '../../core/session-store.ts'
import type { WillStatement } from './changes.ts'

/** What a message takes beyond its text and bytes: objects, and its places in tables (measured, bench/sessions.ts). */
const messageOverheadBytes = 400

/** A place in a queue (measured, bench/sessions.ts). */
export const deliveryBytes = 100

/** A message, once, for all who wait for it. */
export interface Message {
  readonly id: number
  readonly body: SessionMessage
  readonly bytes: number
  /** Places in queues. */
  refs: number
  retained: boolean
  /** Of the last rewrite that has stated it, or that it came after. */
  generation: number
  /** Its change is durable from this ticket on; 0: it was read back. */
  ticket: number
}

export interface Entry {
  /** The number of its message. */
  readonly seq: number
  readonly qos: 1 | 2
  readonly retain: boolean
  readonly identifiers: readonly number[]
  /** Of a shared subscription: its filter. */
  readonly group: string | undefined
  /** PUBREC came: the message is no longer kept. */
  readonly received: boolean
  /** Undefined: `received`; or, while reading back, it has not been stated yet. */
  stored: Message | undefined
  packetId: number
}

/** What a connection has of a session. */
export interface Owner {
  readonly taken: () => void
  readonly queued: () => void
  /** `take` has given less than was asked for. */
  hungry: boolean
  /** The last `seq` that `take` has given. */
  cursor: number
}

export interface Session {
  readonly id: number
  readonly tenant: string
  readonly client: string
  epoch: number
  expiryS: number
  detachedUs: number
  /** The last message that it was given, and its place among those who got it: it gets none twice. */
  last: number
  place: number
  subscriptions: Map<string, SessionSubscription> | undefined
  inbound: Set<number> | undefined
  waiting: Entry[] | undefined
  /** By packet id, in the order of sending. */
  inflight: Map<number, Entry> | undefined
  bytes: number
  will: WillStatement | undefined
  generation: number
  owner: Owner | undefined
  /** The second at which it is looked at; 0: none. */
  dueS: number
}

/** What a message counts for against the limits. */
export function messageBytes(message: SessionMessage): number {
  return message.payload.length + message.properties.length + message.topic.length + messageOverheadBytes
}
