import type { Clock } from '../../core/env.ts'
import type { SessionMessage } from '../../core/session-store.ts'
import { encodeText } from '../../wire/mqtt/text.ts'
import { forwarded } from '../../wire/mqtt/v5/forward.ts'
import { Outgoing } from './message.ts'
import type { Subscriber } from './message.ts'
import type { RetainedTarget } from './retained.ts'

/** Retained messages by way of a client's other deliveries: sent while it keeps up, each with RETAIN and its subscription's identifier. */
export function retainedTarget(
  subscriber: Subscriber,
  clock: Clock,
  failed: (thrown: unknown) => void,
  /** Behind each: what is to be kept for the subscriber. False from `room`: nothing can be kept at the moment. */
  keep?: { room(): boolean; kept(message: SessionMessage): void },
): RetainedTarget {
  return {
    room: () => subscriber.readiness() === 'ready' && keep?.room() !== false,
    take(message, { qos, identifier }) {
      const granted = message.qos < qos ? message.qos : qos
      subscriber.deliver(outgoing(message, true, clock), granted, true, identifier === 0 ? undefined : [identifier])
      keep?.kept(message)
    },
    failed,
  }
}

/** A message that is kept, to be sent. */
export function outgoing({ topic, qos, payload, properties, expiresUs }: SessionMessage, retain: boolean, clock: Clock): Outgoing {
  const expiresMs = clock.monotonicMs() + (expiresUs - clock.nowUs()) / 1000
  return new Outgoing(topic, encodeText(topic), qos, retain, payload, 0, payload.length, forwarded(properties, 0, properties.length), expiresMs)
}
