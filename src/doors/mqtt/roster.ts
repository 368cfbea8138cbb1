import type { Presence, Readiness } from './shared.ts'

/** What a subscription asks for (MQTT 5, section 3.8.3.1); one of 3.1.1 has a QoS and nothing else. */
export interface SubscriptionOptions {
  readonly qos: 0 | 1 | 2
  /** What its own client publishes is not delivered for it. */
  readonly noLocal: boolean
  /** A message keeps its RETAIN flag. */
  readonly retainAsPublished: boolean
  readonly retainHandling: 0 | 1 | 2
  /** Subscription Identifier; 0: none. */
  readonly identifier: number
}

/** A level of a filter, with all that stand before it. */
export interface Node<S> {
  readonly parent: Node<S> | undefined
  readonly level: string
  /** How many levels its filter has. */
  readonly depth: number
  /** Levels below it: `+`, `#`, and others; of those one, or several. */
  any: Node<S> | undefined
  rest: Node<S> | undefined
  only: Node<S> | undefined
  several: Map<string, Node<S>> | undefined
  /** Who subscribed to the filter that ends here; groups by their names. Both undefined: nobody. */
  roster: Roster<S> | undefined
  groups: Map<string, SharedGroup<S>> | undefined
}

/** A subscriber and all its subscriptions. */
export interface Holder<S> {
  readonly subscriber: S
  first: Subscription<S> | undefined
  count: number
  /** Of the filters of all of them. */
  levels: number
  /** Of the last message that it is met for, and its place among those who get it. */
  mark: number
  place: number
}

/** One subscription of one subscriber. */
export interface Subscription<S> {
  readonly holder: Holder<S>
  readonly node: Node<S>
  /** Undefined: it is not shared. */
  readonly group: SharedGroup<S> | undefined
  /** As the byte of a SUBSCRIBE of MQTT 5 has it. */
  options: number
  /** None or one. */
  identifiers: readonly number[]
  /** Where it stands in its roster. */
  at: number
  /** Others of the same holder. */
  before: Subscription<S> | undefined
  after: Subscription<S> | undefined
}

export const noIdentifiers: readonly number[] = []
export const qosMask = 0x03
export const noLocalBit = 0x04
export const retainAsPublishedBit = 0x08

export function optionsByte({ qos, noLocal, retainAsPublished, retainHandling }: SubscriptionOptions): number {
  return qos | (noLocal ? noLocalBit : 0) | (retainAsPublished ? retainAsPublishedBit : 0) | (retainHandling << 4)
}

/** The inverse of `optionsByte`. */
export function optionsOf({ options, identifiers }: Pick<Subscription<unknown>, 'options' | 'identifiers'>): SubscriptionOptions {
  return {
    qos: qosOf(options & qosMask),
    noLocal: (options & noLocalBit) !== 0,
    retainAsPublished: (options & retainAsPublishedBit) !== 0,
    retainHandling: qosOf((options >> 4) & 3),
    identifier: identifiers[0] ?? 0,
  }
}

export function qosOf(value: number): 0 | 1 | 2 {
  return value === 0 ? 0 : value === 1 ? 1 : 2
}

/** Up to here a subscription is looked for one by one. */
const scanMax = 8

/** Subscriptions to one filter, in no order; of each holder one. */
export class Roster<S> {
  readonly list: Subscription<S>[] = []
  #index: Map<Holder<S>, Subscription<S>> | undefined

  find(holder: Holder<S>): Subscription<S> | undefined {
    if (this.#index !== undefined) return this.#index.get(holder)
    for (const subscription of this.list) if (subscription.holder === holder) return subscription
    return undefined
  }

  add(subscription: Subscription<S>): void {
    subscription.at = this.list.length
    this.list.push(subscription)
    if (this.#index !== undefined) this.#index.set(subscription.holder, subscription)
    else if (this.list.length > scanMax) this.#index = new Map(this.list.map((one) => [one.holder, one]))
  }

  delete(subscription: Subscription<S>): void {
    this.swap(subscription.at, this.list.length - 1)
    this.list.pop()
    if (this.#index === undefined) return
    this.#index.delete(subscription.holder)
    // Far enough below that coming and going at the border builds nothing.
    if (this.list.length < scanMax / 2) this.#index = undefined
  }

  swap(a: number, b: number): void {
    if (a === b) return
    const one = this.list[a]!
    const other = this.list[b]!
    this.list[a] = other
    other.at = a
    this.list[b] = one
    one.at = b
  }
}

/** Members that are asked for one message, at most: with all of them full, more would not help. */
const askedMax = 256

/** Those who divide the messages of one filter among them (MQTT 5, section 4.8.2). Connected members stand in front. */
export class SharedGroup<S> {
  readonly name: string
  /** As it is subscribed to: `$share/name/…`. */
  readonly filter: string
  readonly roster = new Roster<S>()
  readonly #presence: Presence<S>
  #connected = 0
  #nextConnected = 0
  #nextAway = 0

  constructor(name: string, filter: string, presence: Presence<S>) {
    this.name = name
    this.filter = filter
    this.#presence = presence
  }

  get connected(): number {
    return this.#connected
  }

  add(subscription: Subscription<S>): void {
    this.roster.add(subscription)
    this.moved(subscription)
  }

  delete(subscription: Subscription<S>): void {
    if (subscription.at < this.#connected) this.roster.swap(subscription.at, --this.#connected)
    this.roster.delete(subscription)
  }

  /** Its subscriber has come or gone. */
  moved(subscription: Subscription<S>): void {
    const connected = this.#presence.connected(subscription.holder.subscriber)
    if (connected === subscription.at < this.#connected) return
    if (connected) this.roster.swap(subscription.at, this.#connected++)
    else this.roster.swap(subscription.at, --this.#connected)
  }

  /**
   * Whose turn it is: connected members who can send it at once, one after the other; then those with room in their queues; then, for a message
   * that is kept (QoS 1 and 2), members who are away; else one that is full. Undefined: nobody can have it. `except` is passed over: with it a
   * message whose member has gone is handed over. At QoS 1 that is allowed as soon as the connection is lost and expected when the session ends;
   * at QoS 2 it is forbidden once the delivery has begun [MQTT-4.8.2-4] [MQTT-4.8.2-5], and so it is for what a member has refused
   * [MQTT-4.8.2-6]. `skips`: of whom nobody is asked either.
   */
  next(qos: number, except?: S, skips?: (subscriber: S) => boolean): Subscription<S> | undefined {
    const connected = this.#connected
    const there = this.#best(0, connected, this.#nextConnected, except, false, skips)
    if (there.one !== undefined && there.readiness !== 'full') {
      this.#nextConnected = there.one.at + 1
      return there.one
    }
    // At QoS 0 nothing is kept for who is not there.
    const gone: Found<S> = qos === 0 ? none : this.#best(connected, this.roster.list.length - connected, this.#nextAway, except, true, skips)
    if (gone.one !== undefined && (gone.readiness !== 'full' || there.one === undefined)) {
      this.#nextAway = gone.one.at - connected + 1
      return gone.one
    }
    this.#nextConnected++
    return there.one
  }

  /** Of `count` members from `first` on, beginning with the one whose turn it is. `kept`: only those for whom messages are kept. */
  #best(first: number, count: number, turn: number, except: S | undefined, kept: boolean, skips: ((subscriber: S) => boolean) | undefined): Found<S> {
    let best: Found<S> = none
    for (let i = 0, asked = Math.min(count, askedMax); i < asked; i++) {
      const one = this.roster.list[first + ((turn + i) % count)]!
      const { subscriber } = one.holder
      if (subscriber === except || skips?.(subscriber) === true || (kept && (one.options & qosMask) === 0)) continue
      const readiness = this.#presence.readiness(subscriber)
      if (best.one === undefined || rank[readiness] < rank[best.readiness]) best = { one, readiness }
      if (rank[readiness] === 0) break
    }
    return best
  }
}

interface Found<S> {
  readonly one: Subscription<S> | undefined
  readonly readiness: Readiness
}

const none: Found<never> = { one: undefined, readiness: 'full' }
/** Those with 0 are not bettered by looking further. */
const rank: Readonly<Record<Readiness, number>> = { ready: 0, away: 0, busy: 1, full: 2 }
