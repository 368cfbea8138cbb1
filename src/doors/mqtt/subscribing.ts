import type { Subscription } from '../../wire/mqtt/packets.ts'
import type { Subscription5 } from '../../wire/mqtt/v5/packets.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import type { MqttPrincipal } from './authorizer.ts'
import { isShared, shareOf } from './filter.ts'
import type { MqttHost } from './host.ts'
import type { Subscriber } from './message.ts'
import { wantsRetained } from './retained.ts'
import type { RetainedFeed } from './retained.ts'

/** Codes for a SUBACK, and why the first refused filter was. */
export interface SubscribeAnswer {
  readonly codes: readonly number[]
  readonly why: string | undefined
}

/** Adds the subscriptions of one SUBSCRIBE; each stands for itself (section 3.8.4). `identifier` 0: none. */
export function subscribeAll(
  host: MqttHost,
  principal: MqttPrincipal,
  subscriber: Subscriber,
  feed: RetainedFeed,
  subscriptions: readonly (Subscription | Subscription5)[],
  identifier: number,
): SubscribeAnswer {
  let why: string | undefined
  const codes = subscriptions.map((subscription) => {
    const refused = subscribeOne(host, principal, subscriber, feed, subscription, identifier)
    if (refused === undefined) return subscription.qos
    why ??= refused.text
    return refused.reasonCode
  })
  return { codes, why }
}

/** Codes for an UNSUBACK. */
export function unsubscribeAll(
  host: MqttHost,
  principal: MqttPrincipal,
  subscriber: Subscriber,
  feed: RetainedFeed,
  filters: readonly string[],
): number[] {
  const tree = host.subscriptions(principal.tenant)
  return filters.map((filter) => {
    feed.cancel(filter)
    return tree.remove(filter, subscriber) ? ReasonCode.success : ReasonCode.noSubscriptionExisted
  })
}

interface Refused {
  readonly reasonCode: number
  readonly text: string
}

const tooDeep: Refused = { reasonCode: ReasonCode.topicFilterInvalid, text: 'A filter is longer or deeper than the limit.' }
const noShare: Refused = { reasonCode: ReasonCode.topicFilterInvalid, text: 'A shared subscription is $share/group/filter.' }
const denied: Refused = { reasonCode: ReasonCode.notAuthorized, text: 'The client may not subscribe to a filter.' }
const tooMany: Refused = { reasonCode: ReasonCode.quotaExceeded, text: 'The client, or the server, has as many subscriptions as it may.' }

function subscribeOne(
  host: MqttHost,
  principal: MqttPrincipal,
  subscriber: Subscriber,
  feed: RetainedFeed,
  subscription: Subscription | Subscription5,
  identifier: number,
): Refused | undefined {
  const { limits, authorizer } = host
  const { filter, qos } = subscription
  const share = isShared(filter) ? shareOf(filter) : undefined
  if (share === undefined && isShared(filter)) return noShare
  if (filter.length > limits.topicBytesMax || filter.split('/').length > limits.topicLevelsMax) return tooDeep
  if (!authorizer.subscribe(principal, share?.filter ?? filter)) return denied
  const five = 'noLocal' in subscription ? subscription : undefined
  const { noLocal = false, retainAsPublished = false, retainHandling = 0 } = five ?? {}
  const tree = host.subscriptions(principal.tenant)
  const options = { qos, noLocal, retainAsPublished, retainHandling, identifier }
  const added = tree.add(filter, subscriber, options)
  if (added === undefined) return tooMany
  const over = tree.count(subscriber) > limits.subscriptionsPerClientMax || tree.levels(subscriber) > limits.subscriptionLevelsPerClientMax
  if (added === 'new' && over) {
    tree.remove(filter, subscriber)
    return tooMany
  }
  if (wantsRetained(filter, options, added)) feed.request(filter, options)
  return undefined
}
