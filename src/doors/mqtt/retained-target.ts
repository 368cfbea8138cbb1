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
  outgoings: KeptOutgoings,
  failed: (thrown: unknown) => void,
  /** Behind each: what is to be kept for the subscriber. False from `room`: nothing can be kept at the moment. */
  keep?: { room(): boolean; kept(message: SessionMessage): void },
): RetainedTarget {
  return {
    room: () => subscriber.readiness() === 'ready' && keep?.room() !== false,
    take(message, { qos, identifier }) {
      const granted = message.qos < qos ? message.qos : qos
      subscriber.deliver(outgoings.of(message), granted, true, identifier === 0 ? undefined : [identifier])
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

/** Longer payloads are put together for each delivery: what is remembered stays below a few megabytes, whatever forms are asked for. */
const rememberedBytesMax = 4 * 1024
const rememberedMax = 64

/**
 * Messages that are kept, to be sent to clients one by one. Those that came up last are remembered: what many clients are sent in a row, since all of
 * them wait for it or have subscribed to it, is put together once.
 */
export class KeptOutgoings {
  readonly #clock: Clock
  readonly #remembered = new Map<SessionMessage, Outgoing>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** RETAIN is each delivery's. */
  of(message: SessionMessage): Outgoing {
    const known = this.#remembered.get(message)
    if (known !== undefined) return known
    const made = outgoing(message, true, this.#clock)
    if (message.payload.length > rememberedBytesMax) return made
    const oldest = this.#remembered.size < rememberedMax ? undefined : this.#remembered.keys().next().value
    if (oldest !== undefined) this.#remembered.delete(oldest)
    this.#remembered.set(message, made)
    return made
  }
}
