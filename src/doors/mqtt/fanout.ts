import { Outgoing } from './message.ts'
import type { Parcel, Qos, Subscriber } from './message.ts'
import type { Holder, SharedGroup, Subscription } from './roster.ts'
import { noLocalBit, optionsOf, qosMask, qosOf, retainAsPublishedBit } from './roster.ts'
import type { Match } from './subscriptions.ts'

/** What of a message decides who gets it, and how. */
export interface Publication<S> {
  readonly qos: Qos
  readonly retain: boolean
  /** Absent: the server's own, or a will whose session is gone. */
  readonly publisher?: S | undefined
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
  readonly #groups: (SharedGroup<S> | undefined)[] = []

  put(one: Subscription<S>, group: SharedGroup<S> | undefined): void {
    const at = this.#length++
    this.#holders[at] = one.holder
    this.#qos[at] = qosOf(one.options & qosMask)
    this.#retain[at] = (one.options & retainAsPublishedBit) !== 0
    this.#identifiers[at] = one.identifiers
    this.#groups[at] = group
    one.holder.place = at
  }

  /** Another subscription of a subscriber that has its place. */
  merge(one: Subscription<S>): void {
    const at = one.holder.place
    const qos = qosOf(one.options & qosMask)
    if (qos > this.#qos[at]!) this.#qos[at] = qos
    if ((one.options & retainAsPublishedBit) !== 0) this.#retain[at] = true
    if (one.identifiers.length > 0) this.#identifiers[at] = [...this.#identifiers[at]!, ...one.identifiers]
  }

  run({ qos, retain }: Publication<S>, deliver: Deliver<S>): void {
    const length = this.#length
    for (let i = 0; i < length; i++) {
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

  clear(): void {
    // A few stay allocated, a great many do not, and nothing of those who were met is kept alive.
    this.#holders.length = 0
    this.#groups.length = 0
    this.#identifiers.length = 0
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
  const { publisher, qos } = publication
  const mark = ++marks
  const { nodes } = match
  const plan = takePlan<S>()
  try {
    for (const { roster } of nodes) {
      if (roster === undefined) continue
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
    for (const { groups } of nodes) {
      if (groups === undefined) continue
      for (const group of groups.values()) {
        const one = group.next(qos)
        if (one !== undefined) plan.put(one, group)
      }
    }
    plan.run(publication, deliver)
  } finally {
    plan.clear()
    spare.push(plan)
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
  if (lone !== undefined && lone.list.length === 1) {
    // Most messages that somebody listens to at all have one listener: nothing is to be merged or shared.
    const { holder, options, identifiers } = lone.list[0]!
    if ((options & noLocalBit) !== 0 && holder.subscriber === publisher) return
    const granted = qosOf(options & qosMask)
    const kept = retain && (options & retainAsPublishedBit) !== 0
    holder.subscriber.deliver(message, granted < qos ? granted : qos, kept, identifiers.length === 0 ? undefined : identifiers)
    return
  }
  deliverEach(match, { qos, retain, publisher }, (subscriber, granted, kept, identifiers, group) =>
    subscriber.deliver(message, granted, kept, identifiers, group),
  )
}

/**
 * Gives messages of shared subscriptions that `from` has not acknowledged to other members: at QoS 1 also what was sent (MQTT 5, section 4.8.2).
 * Where there is no other member a message is lost, as its subscription is.
 */
export function handOver(parcels: readonly Parcel[], from: Subscriber): void {
  for (const { group, topic, topicBytes, qos, retain, bytes, payloadAt, forwarded, expiresMs } of parcels) {
    const next = group?.next(qos, from)
    if (next === undefined) continue
    const { qos: most, retainAsPublished, identifier } = optionsOf(next)
    const message = new Outgoing(topic, topicBytes, qos, retain, bytes, payloadAt, bytes.length, forwarded, expiresMs)
    next.holder.subscriber.deliver(message, most < qos ? most : qos, retain && retainAsPublished, identifier === 0 ? undefined : [identifier], group)
  }
}
