import type { Clock, Logger } from '../../core/env.ts'
import type { LeftDelivery, SessionMessage, SessionRecipient, SessionRef, SessionStore } from '../../core/session-store.ts'
import type { MqttCounters } from './counters.ts'
import { DurableSession, nobody } from './durable.ts'
import { deliverShared } from './fanout.ts'
import type { Subscriber } from './message.ts'
import { KeptOutgoings, outgoing } from './retained-target.ts'
import type { Subscriptions } from './subscriptions.ts'

export interface KeptSessionsOptions {
  readonly store: SessionStore | undefined
  readonly trees: (tenant: string) => Subscriptions<Subscriber>
  readonly counters: MqttCounters
  readonly logger: Logger
  readonly clock: Clock
}

/** The sessions that the store keeps, with and without a connection, as the topic trees know them. */
export class KeptSessions {
  readonly outgoings: KeptOutgoings
  readonly #o: KeptSessionsOptions
  readonly #sessions = new Map<string, DurableSession>()
  /** How many connections wait for the store's answer, by client. */
  readonly #attaching = new Map<string, number>()
  /** Recipients of the message that was delivered last. */
  readonly #recipients: SessionRecipient[] = []

  constructor(o: KeptSessionsOptions) {
    this.#o = o
    this.outgoings = new KeptOutgoings(o.clock)
  }

  /** Sessions that the message delivered last is for; empties the list. To be asked for after each delivery. */
  gathered(): readonly SessionRecipient[] {
    return this.#recipients.length === 0 ? nobody : this.#recipients.splice(0)
  }

  /** Whether the store has a session of the client, or is about to. */
  has(tenant: string, client: string): boolean {
    const key = keyOf(tenant, client)
    return this.#sessions.has(key) || this.#attaching.has(key)
  }

  /** The store is asked for a session; the function returned is to be called once, when it has answered. */
  attaching(tenant: string, client: string): () => void {
    const key = keyOf(tenant, client)
    this.#attaching.set(key, (this.#attaching.get(key) ?? 0) + 1)
    return () => {
      const left = this.#attaching.get(key)! - 1
      if (left === 0) this.#attaching.delete(key)
      else this.#attaching.set(key, left)
    }
  }

  find(tenant: string, client: string): DurableSession | undefined {
    return this.#sessions.get(keyOf(tenant, client))
  }

  /** A session of the store as the trees know it. */
  of(ref: SessionRef): DurableSession {
    const key = keyOf(ref.tenant, ref.client)
    const there = this.#sessions.get(key)
    if (there?.ref.id === ref.id) return there
    const made = new DurableSession(ref, this.#recipients)
    this.#sessions.set(key, made)
    return made
  }

  /** Gives a message to sessions: those that its delivery has gathered. What cannot be kept is lost, and counted: nobody waits for it. */
  keep(message: SessionMessage, recipients = this.gathered()): void {
    if (recipients.length > 0 && this.#o.store?.publish({ message, recipients }) === 0) this.#o.counters.dropped.overload.value++
  }

  /** Puts the subscriptions of sessions that are away into the trees. To be called once, before anybody connects. */
  async restore(): Promise<void> {
    const { store, trees, logger } = this.#o
    if (store === undefined) return
    for await (const { ref, subscriptions } of store.sessions()) {
      const session = this.of(ref)
      const tree = trees(ref.tenant)
      for (const one of subscriptions) {
        if (tree.add(one.filter, session, one) === undefined)
          logger.warn('mqtt subscription not restored', { client: ref.client, filter: one.filter })
      }
    }
  }

  /** The store has ended a session; what it has left of shared subscriptions goes to other members, or nowhere. */
  ended(ref: SessionRef, left: readonly LeftDelivery[]): void {
    const key = keyOf(ref.tenant, ref.client)
    const session = this.#sessions.get(key)
    if (session?.ref.id !== ref.id) return
    this.#sessions.delete(key)
    const tree = this.#o.trees(ref.tenant)
    tree.removeAll(session)
    for (const { group, message } of left) {
      const others = tree.group(group)
      if (others !== undefined && deliverShared(outgoing(message, false, this.#o.clock), others)) this.keep(message)
    }
  }
}

function keyOf(tenant: string, client: string): string {
  return `${tenant}\n${client}`
}
