import type { Clock } from '../../core/env.ts'
import type { SessionMessage } from '../../core/session-store.ts'
import { encodeText } from '../../wire/mqtt/text.ts'
import { forwarded } from '../../wire/mqtt/v5/forward.ts'
import { Outgoing } from './message.ts'
import type { Subscriber } from './message.ts'
import type { RetainedTarget } from './retained.ts'

/** Retained messages by way of a client's other deliveries: sent while it keeps up, each with RETAIN and its subscription's identifier. */
export function retainedTarget(subscriber: Subscriber, clock: Clock, failed: (thrown: unknown) => void): RetainedTarget {
  return {
    room: () => subscriber.readiness() === 'ready',
    take(message, { qos, identifier }) {
      const granted = message.qos < qos ? message.qos : qos
      subscriber.deliver(outgoing(message, clock), granted, true, identifier === 0 ? undefined : [identifier])
    },
    failed,
  }
}

function outgoing({ topic, qos, payload, properties, expiresUs }: SessionMessage, clock: Clock): Outgoing {
  const expiresMs = clock.monotonicMs() + (expiresUs - clock.nowUs()) / 1000
  return new Outgoing(topic, encodeText(topic), qos, true, payload, 0, payload.length, forwarded(properties, 0, properties.length), expiresMs)
}
