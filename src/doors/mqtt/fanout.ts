import { Outgoing } from './message.ts'
import type { Parcel, Qos, Subscriber } from './message.ts'
import type { Holder, SharedGroup, Subscription } from './roster.ts'
import { noLocalBit, optionsOf, qosMask, qosOf, retainAsPublishedBit } from './roster.ts'
import type { Match, Work } from './subscriptions.ts'

/** What of a message decides who gets it, and how. */
export interface Publication<S> {
  readonly qos: Qos
  readonly retain: boolean
  /** Absent: the server's own, or a will whose session is gone. */
  readonly publisher?: S | undefined
  /** Shared subscriptions get nothing of it. */
  readonly unshared?: true
}

/**
 * Called for each delivery. `qos` is the lower of the message's and the granted one; `group` is there when it is of a shared subscription: if the
 * subscriber is lost before it has acknowledged, `group.next` names another.
 */
export type Deliver<S> = (
  subscriber: S,
  qos: Qos,
  retain: boolean,
  identifiers: readonly number[] | undefined,
  group: SharedGroup<S> | undefined,
) => void

/** Who gets one message. Its arrays are used again for the next. */
class Plan<S> {
  #length = 0
  readonly #holders: Holder<S>[] = []
  readonly #qos: Qos[] = []
  readonly #retain: boolean[] = []
  readonly #identifiers: (readonly number[])[] = []
  /** Those that were put together here, and may grow. */
  readonly #joined: (number[] | undefined)[] = []
  readonly #groups: (SharedGroup<S> | undefined)[] = []

  get length(): number {
    return this.#length
  }

  put(one: Subscription<S>, group: SharedGroup<S> | undefined): void {
    const at = this.#length++
    this.#holders[at] = one.holder
    this.#qos[at] = qosOf(one.options & qosMask)
    this.#retain[at] = (one.options & retainAsPublishedBit) !== 0
    this.#identifiers[at] = one.identifiers
    this.#joined[at] = undefined
    this.#groups[at] = group
    one.holder.place = at
  }

  /** Another subscription of a subscriber that has its place. */
  merge(one: Subscription<S>): void {
    const at = one.holder.place
    const qos = qosOf(one.options & qosMask)
    if (qos > this.#qos[at]!) this.#qos[at] = qos
    if ((one.options & retainAsPublishedBit) !== 0) this.#retain[at] = true
    if (one.identifiers.length === 0) return
    // A copy for each would be as many numbers as there are subscriptions, squared.
    const joined = (this.#joined[at] ??= this.#identifiers[at]!.slice())
    joined.push(...one.identifiers)
    this.#identifiers[at] = joined
  }

  /** Those of [from, to) who have not gone meanwhile. */
  run({ qos, retain }: Publication<S>, deliver: Deliver<S>, from = 0, to = this.#length): void {
    for (let i = from; i < to; i++) {
      if (this.#holders[i]!.count === 0) continue
      const granted = this.#qos[i]!
      const identifiers = this.#identifiers[i]!
      deliver(
        this.#holders[i]!.subscriber,
        granted < qos ? granted : qos,
        retain && this.#retain[i]!,
        identifiers.length === 0 ? undefined : identifiers,
        this.#groups[i],
      )
    }
  }

  /** Delivers to some of them, who are then no longer in it; the others stay in their order. */
  runFor(isMeant: (subscriber: S) => boolean, publication: Publication<S>, deliver: Deliver<S>): void {
    let left = 0
    for (let i = 0; i < this.#length; i++) {
      if (isMeant(this.#holders[i]!.subscriber)) {
        this.run(publication, deliver, i, i + 1)
        continue
      }
      this.#holders[left] = this.#holders[i]!
      this.#qos[left] = this.#qos[i]!
      this.#retain[left] = this.#retain[i]!
      this.#identifiers[left] = this.#identifiers[i]!
      this.#groups[left++] = this.#groups[i]
    }
    this.#length = left
  }

  clear(): void {
    // A few stay allocated, a great many do not, and nothing of those who were met is kept alive.
    this.#holders.length = 0
    this.#groups.length = 0
    this.#identifiers.length = 0
    this.#joined.length = 0
    this.#length = 0
  }
}

const spare: Plan<unknown>[] = []
let marks = 0

/**
 * Calls `deliver` once for each subscriber whose subscriptions match, however many do: at the highest QoS that they were granted [MQTT-3.3.5-1]
 * [MQTT-3.3.4-2], with the identifiers of all of them [MQTT-3.3.4-4], and with RETAIN when the message has it and one of them asks for it
 * [MQTT-3.3.1-12] [MQTT-3.3.1-13]. A subscription with No Local does not count for its own client's message [MQTT-3.8.3-3]. Of each shared
 * subscription one member gets it as well. `match` must be up to date; subscriptions may come and go while `deliver` runs.
 */
export function deliverEach<S>(match: Match<S>, publication: Publication<S>, deliver: Deliver<S>): void {
  const { qos } = publication
  const { nodes } = match
  const plan = takePlan<S>()
  try {
    gather(plan, match, publication)
    for (const { groups } of nodes) {
      if (groups === undefined || publication.unshared === true) continue
      for (const group of groups.values()) {
        const one = group.next(qos)
        if (one !== undefined) plan.put(one, group)
      }
    }
    match.effort.units += plan.length * 2
    plan.run(publication, deliver)
  } finally {
    plan.clear()
    spare.push(plan)
  }
}

/** Whoever subscribed to a filter of their own, each once. */
function gather<S>(plan: Plan<S>, { nodes, effort }: Match<S>, { publisher }: Publication<S>): void {
  const mark = ++marks
  for (const { roster } of nodes) {
    if (roster === undefined) continue
    effort.units += roster.list.length
    for (const one of roster.list) {
      const { holder } = one
      if ((one.options & noLocalBit) !== 0 && holder.subscriber === publisher) continue
      if (holder.mark === mark) plan.merge(one)
      else {
        holder.mark = mark
        plan.put(one, undefined)
      }
    }
  }
}

/** Subscriptions that match, and groups, as they are now: no more than so many deliveries. */
export function sizeOf<S>({ nodes }: Match<S>): number {
  let size = 0
  for (const { roster, groups } of nodes) size += (roster?.list.length ?? 0) + (groups?.size ?? 0)
  return size
}

/** Of a delivery with the write that it causes: a share of `limits.fanoutPerTurn` fills a turn, and of several such messages each turn has one share. */
const largeUnits = 8

/**
 * The deliveries of one message, as `deliverEach` makes them, so many at a time: to those who had subscribed when it began. Who has gone meanwhile gets
 * nothing, and a group is asked for its member when its turn comes. `match` must be up to date.
 */
export class Deliveries {
  readonly #message: Outgoing
  readonly #publication: Publication<Subscriber>
  readonly #plan = new Plan<Subscriber>()
  readonly #groups: SharedGroup<Subscriber>[] = []
  readonly #effort: Work
  readonly #here: boolean
  #at = 0

  /** `here`: as `deliverHere` makes them. */
  constructor(match: Match<Subscriber>, message: Outgoing, publisher: Subscriber | undefined, here = false) {
    this.#here = here
    const { qos, retain } = message
    this.#message = message
    this.#publication = { qos, retain, publisher }
    this.#effort = match.effort
    gather(this.#plan, match, this.#publication)
    if (here) return
    for (const { groups } of match.nodes) if (groups !== undefined) this.#groups.push(...groups.values())
  }

  /** Before `some`: those that go to sessions which the store keeps, and to other processes. Of groups the members are chosen now. */
  kept(): void {
    for (const group of this.#groups) {
      const one = group.next(this.#message.qos)
      if (one !== undefined) this.#plan.put(one, group)
    }
    this.#groups.length = 0
    this.#effort.units += this.#plan.length
    this.#plan.runFor(({ kept, elsewhere }) => kept === true || elsewhere === true, this.#publication, this.#deliver)
  }

  /** Makes so many more; true: that was all. */
  some(max: number): boolean {
    const own = this.#plan.length
    const message = this.#message
    const to = Math.min(own + this.#groups.length, this.#at + max)
    this.#effort.units += (to - this.#at) * largeUnits
    if (this.#at < own) this.#plan.run(this.#publication, this.#deliver, this.#at, Math.min(own, to))
    for (let i = Math.max(own, this.#at); i < to; i++) deliverShared(message, this.#groups[i - own]!)
    this.#at = to
    return to === own + this.#groups.length
  }

  readonly #deliver: Deliver<Subscriber> = (subscriber, granted, retain, identifiers, group) => {
    if (!this.#here || subscriber.elsewhere !== true) subscriber.deliver(this.#message, granted, retain, identifiers, group)
  }
}

// A delivery may end a session, whose will is the next message before this one is through: each has a plan of its own.
function takePlan<S>(): Plan<S> {
  return (spare.pop() as Plan<S> | undefined) ?? new Plan<S>()
}

/** Hands a message to those who are connected. Its payload is encoded once for each form that somebody gets. */
export function deliverTo(match: Match<Subscriber>, message: Outgoing, publisher: Subscriber | undefined): void {
  const { qos, retain } = message
  const { nodes } = match
  const lone = nodes.length === 1 && nodes[0]!.groups === undefined ? nodes[0]!.roster : undefined
  if (lone !== undefined) {
    // Most messages match one filter, most often of one subscriber: nothing is to be merged or shared.
    const { list } = lone
    match.effort.units += list.length * 3
    if (list.length === 1) deliverFor(list[0]!, message, publisher)
    // A copy: a delivery may end subscriptions.
    else for (const one of list.slice()) deliverFor(one, message, publisher)
    return
  }
  deliverEach(match, { qos, retain, publisher }, (subscriber, granted, kept, identifiers, group) =>
    subscriber.deliver(message, granted, kept, identifiers, group),
  )
}

/** A message that matches one subscription of a subscriber. */
function deliverFor({ holder, options, identifiers }: Subscription<Subscriber>, message: Outgoing, publisher: Subscriber | undefined): void {
  const { subscriber } = holder
  if ((options & noLocalBit) !== 0 && subscriber === publisher) return
  const { qos, retain } = message
  const granted = qosOf(options & qosMask)
  const kept = retain && (options & retainAsPublishedBit) !== 0
  subscriber.deliver(message, granted < qos ? granted : qos, kept, identifiers.length === 0 ? undefined : identifiers)
}

/** Hands a message that another process took to those who subscribe here by filters of their own, and stand for nobody elsewhere. */
export function deliverHere(match: Match<Subscriber>, message: Outgoing): void {
  const { qos, retain } = message
  deliverEach(match, { qos, retain, unshared: true }, (subscriber, granted, kept, identifiers) => {
    if (subscriber.elsewhere !== true) subscriber.deliver(message, granted, kept, identifiers)
  })
}

/**
 * Gives messages of shared subscriptions that `from` has not acknowledged to other members: at QoS 1 also what was sent (MQTT 5, section 4.8.2).
 * Where there is no other member a message is lost, as its subscription is. `after` is called behind each.
 */
export function handOver(parcels: readonly Parcel[], from: Subscriber, after: (message: Outgoing, parcel: Parcel) => void): void {
  for (const parcel of parcels) {
    const { group, topic, topicBytes, qos, retain, bytes, payloadAt, forwarded, expiresMs } = parcel
    const message = new Outgoing(topic, topicBytes, qos, retain, bytes, payloadAt, bytes.length, forwarded, expiresMs)
    if (group !== undefined && deliverShared(message, group, from)) after(message, parcel)
  }
}

/** Gives a message to a member of a group, not to `except` and not to whom it `skips`. False: there is none. */
export function deliverShared(
  message: Outgoing,
  group: SharedGroup<Subscriber>,
  except?: Subscriber,
  skips?: (member: Subscriber) => boolean,
): boolean {
  const { qos, retain } = message
  const next = group.next(qos, except, skips)
  if (next === undefined) return false
  const { qos: most, retainAsPublished, identifier } = optionsOf(next)
  next.holder.subscriber.deliver(message, most < qos ? most : qos, retain && retainAsPublished, identifier === 0 ? undefined : [identifier], group)
  return true
}
