import type { Clock, Logger } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import type { Interest, RoutedMessage, RouteTo, Routing } from '../../core/routing.ts'
import type { SessionMessage, SessionRecipient, SessionStore } from '../../core/session-store.ts'
import { copyBytes } from '../../wire/mqtt/text.ts'
import type { MqttCounters } from './counters.ts'
import { deliverShared } from './fanout.ts'
import { JointTickets } from './joint-tickets.ts'
import type { KeptSessions } from './kept-sessions.ts'
import { storedMessage } from './message.ts'
import type { Outgoing, Qos, Subscriber, Unpublished } from './message.ts'
import { outgoing } from './retained-target.ts'
import type { SharedGroup } from './roster.ts'
import type { Subscriptions } from './subscriptions.ts'

export interface NeighboursOptions {
  readonly routing: Routing
  readonly trees: (tenant: string) => Subscriptions<Subscriber>
  readonly store: SessionStore | undefined
  readonly kept: KeptSessions
  /** Of messages that other processes took. */
  readonly line: { deliver(one: Unpublished): boolean }
  readonly counters: MqttCounters
  readonly clock: Clock
  readonly logger: Logger
}

/** As a subscriber wants it of whom all sorts of subscribers stand behind: as it was published. */
const asPublished = { qos: 2, noLocal: false, retainAsPublished: true, retainHandling: 2, identifier: 0 } as const

/**
 * The other processes whose clients subscribe (ADR 21). Each stands in the topic trees as one subscriber with all its filters, shared ones included: so
 * a message costs no more to match, goes to each process once, and where nobody is elsewhere nothing is asked for.
 */
export class Neighbours {
  readonly #o: NeighboursOptions
  /** By process and tenant. */
  readonly #there = new Map<string, Map<string, Neighbour>>()
  /** How many subscriptions of our own there are, by tenant and filter. */
  readonly #here = new Map<string, number>()
  readonly #joint = new JointTickets()
  #ticket = 0
  /** Of the last announcement. */
  #announced = 0

  constructor(o: NeighboursOptions) {
    this.#o = o
  }

  /** To be called once, before anybody connects. */
  async join(): Promise<void> {
    await this.#o.routing.join({
      interested: (node, interest) => this.#interested(node, interest),
      withdrawn: (node, { tenant, filter }) => {
        const neighbour = this.#there.get(node)?.get(tenant)
        if (neighbour !== undefined) this.#o.trees(tenant).remove(filter, neighbour)
      },
      gone: (node) => {
        for (const [tenant, neighbour] of this.#there.get(node) ?? []) this.#o.trees(tenant).removeAll(neighbour)
        this.#there.delete(node)
      },
      deliver: (message, share) => this.#receive(message, share),
    })
  }

  /** A subscription has come or gone. */
  changed(tenant: string, filter: string, subscriber: Subscriber, added: boolean): void {
    // What a server says of itself is for those who asked this one.
    if (subscriber.elsewhere === true || filter.startsWith('$SYS/')) return
    const key = `${tenant}\n${filter}`
    const count = (this.#here.get(key) ?? 0) + (added ? 1 : -1)
    if (count > 0) this.#here.set(key, count)
    else this.#here.delete(key)
    if (added && count === 1) this.#announced = Math.max(this.#announced, this.#o.routing.announce({ tenant, filter }))
    else if (count === 0) this.#o.routing.withdraw({ tenant, filter })
  }

  /** How far the ways to other processes are durable: announcements, and messages. */
  get ways(): Pick<Routing, 'durable'> {
    return this.#o.routing
  }

  /** The ticket of `ways` to wait for before SUBACK: all that was announced, by whomever, is known elsewhere; 0: it is. */
  get announcing(): number {
    return this.#announced > this.#o.routing.durable ? this.#announced : 0
  }

  /** Nothing of QoS 1 and 2 is to be delivered at the moment, for somebody elsewhere may be meant. */
  get overloaded(): boolean {
    return this.#o.routing.overloaded
  }

  /** The ticket of what the deliveries since the last call have sent to other processes; 0: they have sent nothing. */
  taken(): number {
    const ticket = this.#ticket
    this.#ticket = 0
    return ticket
  }

  /** One ticket for the session store's and ours; 0: there is nothing to wait for. */
  both(stored: number, routed: number): number {
    return stored === 0 && routed === 0 ? 0 : this.#joint.join(stored, routed)
  }

  get durable(): number {
    return this.#joint.durable(this.#o.store?.durable ?? 0, this.#o.routing.durable)
  }

  onDurable(listener: () => void): () => void {
    return this.#o.routing.onDurable(listener)
  }

  #interested(node: string, { tenant, filter }: Interest): void {
    const tenants = this.#there.get(node) ?? new Map<string, Neighbour>()
    this.#there.set(node, tenants)
    let neighbour = tenants.get(tenant)
    if (neighbour === undefined) {
      neighbour = new Neighbour((message, qos, retain, share) => this.#send({ node, share }, tenant, message, qos, retain))
      tenants.set(tenant, neighbour)
    }
    if (this.#o.trees(tenant).add(filter, neighbour, asPublished) === undefined)
      this.#o.logger.error('no room for a subscription of another process: its clients miss messages', { node, tenant, filter })
  }

  #send(to: RouteTo, tenant: string, message: Outgoing, qos: Qos, retain: boolean): void {
    const { routing, counters, clock } = this.#o
    if (qos === 0 && routing.overloaded) {
      counters.dropped.overload.value++
      return
    }
    const stored = storedMessage(tenant, message.topic, qos, message.payload, message, clock)
    const ticket = routing.publish(to, { ...stored, retain })
    if (ticket > this.#ticket) this.#ticket = ticket
  }

  #receive(message: RoutedMessage, share: string | undefined): Promise<void> | undefined {
    const { clock, trees, kept, line } = this.#o
    const { tenant, topic, retain } = message
    if (share !== undefined) {
      const group = trees(tenant).group(share)
      if (group !== undefined) deliverShared(outgoing(message, retain, clock), group, undefined, (member) => member.elsewhere === true)
      return this.#keep(message, kept.gathered())
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    let own = message
    let keeping: Promise<void> | undefined
    let isLate = false
    const isThrough = line.deliver({
      tenant,
      topic,
      message: (isOwn) => outgoing((own = isOwn ? copied(message) : message), retain, clock),
      delivered: (recipients) => {
        keeping = this.#keep(own, recipients)
        if (isLate) resolve(keeping)
      },
      failed: reject,
    })
    isLate = true
    return isThrough ? keeping : promise
  }

  #keep(message: RoutedMessage, recipients: readonly SessionRecipient[]): Promise<void> | undefined {
    const { store, counters } = this.#o
    if (recipients.length === 0 || store === undefined) return undefined
    return keep(store, copied(message), recipients).catch((thrown: unknown) => {
      if (!(thrown instanceof KymoError) || thrown.code !== 'record_too_large') throw thrown
      counters.dropped.too_large.value++
    })
  }
}

/** Nothing of it is borrowed. */
function copied(message: RoutedMessage): RoutedMessage {
  const { payload, properties } = message
  return { ...message, payload: copyBytes(payload, 0, payload.length), properties: copyBytes(properties, 0, properties.length) }
}

/** Resolves when it is durable. */
async function keep(store: SessionStore, message: SessionMessage, recipients: readonly SessionRecipient[]): Promise<void> {
  let ticket = store.publish({ message, recipients })
  while (ticket === 0) {
    await new Promise<void>((resolve) => {
      const stop = store.onDurable(() => {
        stop()
        resolve()
      })
    })
    ticket = store.publish({ message, recipients })
  }
  await store.whenDurable(ticket)
}

type Send = (message: Outgoing, qos: Qos, retain: boolean, share: string | undefined) => void

/** Another process, with those of one tenant who subscribe there. */
class Neighbour implements Subscriber {
  readonly connected = true
  readonly elsewhere = true
  readonly #send: Send

  constructor(send: Send) {
    this.#send = send
  }

  /** How busy those are, that process knows. */
  readiness(): 'ready' {
    return 'ready'
  }

  deliver(message: Outgoing, qos: Qos, retain: boolean, _identifiers: readonly number[] | undefined, group?: SharedGroup<Subscriber>): void {
    this.#send(message, qos, retain, group?.filter)
  }
}
