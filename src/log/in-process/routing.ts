import { limits } from '../../core/limits.ts'
import type { Interest, RoutedMessage, RouteTo, Routing, RoutingHandlers } from '../../core/routing.ts'

interface Parcel {
  readonly message: RoutedMessage
  readonly share: string | undefined
  /** The message is with its process. */
  readonly done: () => void
}

/** Brokers of one process that route to each other. */
export interface RoutingHub {
  /** One more of them; its name must be free. `pendingMax`: messages of this member that are not safe yet; beyond, it is overloaded. */
  member(node: string, pendingMax?: number): Routing
}

export function createRoutingHub(): RoutingHub {
  const members = new Map<string, Member>()
  return {
    member(node, pendingMax = limits.routingPendingMax) {
      if (members.has(node)) throw new RangeError(`There is a member named ${node}.`)
      return new Member(node, members, pendingMax)
    },
  }
}

class Member implements Routing {
  readonly node: string
  readonly stalled = undefined
  /** What is safe at once has the ticket that is durable already. */
  durable = 1
  readonly #members: Map<string, Member>
  readonly #pendingMax: number
  readonly #interests = new Map<string, Interest>()
  readonly #listeners = new Set<(durable: number) => void>()
  /** Tickets that were given and are not durable, in their order; whether each is with its process. */
  readonly #pending = new Map<number, boolean>()
  #last = 1
  #handlers: RoutingHandlers | undefined
  #inbox: Parcel[] = []
  /** Of messages that were delivered here and are not safe yet. */
  readonly #keeping = new Set<() => void>()

  constructor(node: string, members: Map<string, Member>, pendingMax: number) {
    this.node = node
    this.#members = members
    this.#pendingMax = pendingMax
  }

  get overloaded(): boolean {
    return this.#pending.size >= this.#pendingMax
  }

  join(handlers: RoutingHandlers): Promise<void> {
    if (this.#handlers !== undefined) throw new RangeError(`${this.node} has joined.`)
    this.#handlers = handlers
    this.#members.set(this.node, this)
    for (const other of this.#others()) for (const interest of other.#interests.values()) handlers.interested(other.node, interest)
    for (const interest of this.#interests.values()) this.#tell((other) => other.interested(this.node, interest))
    return Promise.resolve()
  }

  announce(interest: Interest): number {
    this.#interests.set(keyOf(interest), interest)
    this.#tell((other) => other.interested(this.node, interest))
    return this.durable
  }

  withdraw(interest: Interest): void {
    if (this.#interests.delete(keyOf(interest))) this.#tell((other) => other.withdrawn(this.node, interest))
  }

  publish({ node, share }: RouteTo, message: RoutedMessage): number {
    const to = this.#members.get(node)
    if (to === undefined || to === this || this.#handlers === undefined) return this.durable
    const ticket = ++this.#last
    this.#pending.set(ticket, false)
    const { payload, properties } = message
    const copy = { ...message, payload: new Uint8Array(payload), properties: new Uint8Array(properties) }
    to.#take({ message: copy, share, done: () => this.#safe(ticket) })
    return ticket
  }

  onDurable(listener: (durable: number) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  close(): Promise<void> {
    if (this.#members.get(this.node) === this) {
      this.#members.delete(this.node)
      this.#tell((other) => other.gone(this.node))
    }
    this.#handlers = undefined
    for (const done of this.#keeping) done()
    this.#keeping.clear()
    return Promise.resolve()
  }

  *#others(): Generator<Member, void, undefined> {
    for (const member of this.#members.values()) if (member !== this) yield member
  }

  #tell(what: (handlers: RoutingHandlers) => void): void {
    if (this.#members.get(this.node) !== this && this.#handlers === undefined) return
    for (const other of this.#others()) if (other.#handlers !== undefined) what(other.#handlers)
  }

  /** Never at once: whoever publishes is in the middle of handing the message to its own subscribers. */
  #take(parcel: Parcel): void {
    this.#inbox.push(parcel)
    if (this.#inbox.length > 1) return
    queueMicrotask(() => {
      const parcels = this.#inbox
      this.#inbox = []
      for (const one of parcels) this.#deliver(one)
    })
  }

  #deliver({ message, share, done }: Parcel): void {
    // Of one that has left nobody is there any more for whom it would be kept.
    const kept = this.#handlers?.deliver(message, share)
    if (kept === undefined) return done()
    this.#keeping.add(done)
    void kept.then(
      () => this.#keeping.delete(done) && done(),
      () => undefined,
    )
  }

  #safe(ticket: number): void {
    this.#pending.set(ticket, true)
    const before = this.durable
    for (const [open, safe] of this.#pending) {
      if (!safe) break
      this.#pending.delete(open)
      this.durable = open
    }
    if (this.durable > before) for (const listener of this.#listeners) listener(this.durable)
  }
}

function keyOf({ tenant, filter }: Interest): string {
  return `${tenant}\n${filter}`
}
