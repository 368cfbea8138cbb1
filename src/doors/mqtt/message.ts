import { encodePublish } from '../../wire/mqtt/encode.ts'
import type { EncodedPublish } from '../../wire/mqtt/encode.ts'
import type { Match } from './subscriptions.ts'

/** Who takes deliveries. */
export interface Subscriber {
  /** The last message that was handed to it, by its number: with overlapping filters it gets one copy. */
  delivered: number
  /** `message.qos0` or `message.qos1` is present, as `qos` says. Must return at once. */
  deliver(message: Outgoing, qos: 0 | 1): void
}

/** A message on its way out, encoded at most once for each QoS and shared by all who get it. */
export interface Outgoing {
  readonly qos0: Uint8Array | undefined
  readonly qos1: EncodedPublish | undefined
}

let deliveries = 0

/**
 * Delivers a message once to each subscriber, at the lower of its own QoS and the highest that the subscriber's matching filters
 * were granted [MQTT-3.3.5-1]. Copies what it needs of `bytes`.
 */
export function deliverTo(match: Match<Subscriber>, topic: Uint8Array, qos: number, bytes: Uint8Array, start: number, end: number): void {
  const number = ++deliveries
  let message: Outgoing | undefined
  if (qos > 0) {
    // Those with QoS 1 come first: what they were granted elsewhere is less.
    for (const { byQos } of match) {
      for (const subscriber of byQos[1]) {
        if (subscriber.delivered === number) continue
        subscriber.delivered = number
        message ??= { qos0: undefined, qos1: encodePublish(topic, bytes, start, end, 1) }
        subscriber.deliver(message, 1)
      }
    }
    message = undefined
  }
  for (const { byQos } of match) {
    for (let granted = 0; granted < (qos > 0 ? 1 : 2); granted++) {
      for (const subscriber of byQos[granted as 0 | 1]) {
        if (subscriber.delivered === number) continue
        subscriber.delivered = number
        message ??= { qos0: encodePublish(topic, bytes, start, end, 0).bytes, qos1: undefined }
        subscriber.deliver(message, 0)
      }
    }
  }
}
