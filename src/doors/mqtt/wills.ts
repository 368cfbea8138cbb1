import type { Logger } from '../../core/env.ts'
import type { DueWill, SessionRecipient } from '../../core/session-store.ts'
import { isArray, MessageArray } from '../../wire/message-array.ts'
import type { Will } from '../../wire/mqtt/packets.ts'
import { encodeText } from '../../wire/mqtt/text.ts'
import { expiryOf, forwarded } from '../../wire/mqtt/v5/forward.ts'
import type { Will5 } from '../../wire/mqtt/v5/packets.ts'
import type { MqttPrincipal } from './authorizer.ts'
import { nobody } from './durable.ts'
import { deliverTo, sizeOf } from './fanout.ts'
import { Fifo } from './fifo.ts'
import { contextOf } from './host.ts'
import type { MqttHost, WillSink } from './host.ts'
import { InTurns } from './in-turns.ts'
import { LargeFanout } from './large-fanout.ts'
import { Outgoing, storedMessage, willProperties } from './message.ts'
import type { KeptProperties } from './message.ts'

interface HeldWill {
  readonly from: Pick<MqttPrincipal, 'tenant' | 'clientId'>
  readonly will: Pick<Will, 'topic' | 'qos' | 'payload' | 'retain'>
  readonly properties: KeptProperties
  readonly recipients: readonly SessionRecipient[]
  /** As the store knows it. */
  readonly due: DueWill | undefined
  readonly device: string | undefined
  /** Of a will that is an array: how far it was taken. */
  readonly array: MessageArray | undefined
  /** What is still to be done: with the gate, with the session store. */
  submits: boolean
  stores: boolean
}

/**
 * Wills whose time has come: delivered at once, or, where hundreds of clients go together, a turn's worth at a time; and held as long as the gate or the
 * session store does not take them.
 */
export class Wills implements WillSink {
  readonly #host: MqttHost
  readonly #logger: Logger
  readonly #held = new Fifo<HeldWill>()
  readonly #turns: InTurns

  constructor(host: MqttHost, logger: Logger) {
    this.#host = host
    this.#logger = logger
    this.#turns = new InTurns(host, 'mqtt will')
  }

  /** Wills that are held. */
  get waiting(): number {
    return this.#held.length + this.#turns.waiting
  }

  publish(principal: MqttPrincipal, will: Will | Will5): void {
    const { authorizer, counters, clock } = this.#host
    if (!authorizer.publish(principal, will.topic, will.retain)) counters.dropped.denied.value++
    else this.#turns.do(() => this.#publish(principal, will, willProperties(will, clock), undefined))
  }

  /** A will of a session that the store keeps; its topic was allowed when it was given. */
  due(due: DueWill): void {
    const { topic, qos, payload, properties, tenant } = due.message
    const passed = forwarded(properties, 0, properties.length)
    const expiryS = expiryOf(passed)
    // Its life begins now.
    const expiresMs = expiryS === undefined ? Number.POSITIVE_INFINITY : this.#host.clock.monotonicMs() + expiryS * 1000
    const will = { topic, qos, payload, retain: due.retain }
    this.#turns.do(() => this.#publish({ tenant, clientId: due.client }, will, { forwarded: passed, expiresMs }, due))
  }

  /** Those that wait for a turn are published now: no other will come. */
  finish(): void {
    this.#turns.finish()
  }

  /** Something became durable, or overload ended: those that are held have their turn. */
  offer(): void {
    for (let next = this.#held.peek(); next !== undefined && this.#submit(next); next = this.#held.peek()) {
      this.#held.shift()
      this.#host.held.used -= next.will.payload.length
    }
  }

  #publish(from: HeldWill['from'], will: HeldWill['will'], properties: KeptProperties, due: DueWill | undefined): void {
    const { limits, kept } = this.#host
    const { topic, qos, retain, payload } = will
    const match = this.#host.subscriptions(from.tenant).match(topic)
    const then = (recipients: readonly SessionRecipient[]): void => this.#delivered(from, will, properties, due, recipients)
    if (match.nodes.length === 0) return then(nobody)
    const { forwarded: passed, expiresMs } = properties
    const message = new Outgoing(topic, encodeText(topic), qos, retain, payload, 0, payload.length, passed, expiresMs)
    if (sizeOf(match) > limits.fanoutPerTurn) {
      const failed = (thrown: unknown): void => this.#failed(thrown, from.clientId)
      const fan = new LargeFanout(this.#host, match, message, { tenant: from.tenant, done: () => then(fan.recipients), failed })
      fan.begin()
      if (fan.done) then(fan.recipients)
    } else {
      deliverTo(match, message, undefined)
      then(kept.gathered())
    }
  }

  /** It was handed to subscribers; `recipients`: sessions that the store is to keep it for. */
  #delivered(
    from: HeldWill['from'],
    will: HeldWill['will'],
    properties: KeptProperties,
    due: DueWill | undefined,
    recipients: readonly SessionRecipient[],
  ): void {
    const { topics, store, counters, limits } = this.#host
    const found = topics.match(will.topic)
    const { payload } = will
    const clears = payload.length === 0 && will.retain
    if (found.telemetry && clears) counters.dropped.empty_retained.value++
    const submits = found.telemetry && found.refused === undefined && !clears
    const stores = store !== undefined && (will.retain || recipients.length > 0 || due !== undefined)
    if (!submits && !stores) return
    const isOne = submits && isArray(payload, 0, payload.length)
    const array = isOne ? new MessageArray(payload, 0, payload.length, limits.arrayItemsMax) : undefined
    const held: HeldWill = { from, will, properties, recipients, due, device: found.device, array, submits, stores }
    if (this.#held.length > 0 || !this.#submit(held)) this.#hold(held)
  }

  /** False: the gate, or the session store, takes nothing at the moment. */
  #submit(held: HeldWill): boolean {
    try {
      if (held.submits) held.submits = !this.#toGate(held)
      if (!held.submits && held.stores) held.stores = !this.#toStore(held)
      return !held.submits && !held.stores
    } catch (thrown) {
      this.#failed(thrown, held.from.clientId)
      return true
    }
  }

  #failed(thrown: unknown, client: string): void {
    this.#logger.error('mqtt will failed', { client, error: String(thrown) })
  }

  #toGate({ from, will, device, array }: HeldWill): boolean {
    const { gate, limits } = this.#host
    const context = contextOf(from, will.topic, device)
    if (array === undefined) return gate.submit(context, will.payload, 0, will.payload.length) !== 0
    array.offer(gate, context, limits.arrayItemsPerTurn)
    return array.done
  }

  #toStore({ from: { tenant }, will, properties, recipients, due }: HeldWill): boolean {
    const { store, retained, clock } = this.#host
    const { topic, qos, payload, retain } = will
    if (retain) retained.changed(tenant, topic)
    const message = storedMessage(tenant, topic, qos, payload, properties, clock)
    return store?.publish({ message, recipients, retain, ...(due === undefined ? {} : { will: due }) }) !== 0
  }

  #hold(held: HeldWill): void {
    const { limits, held: budget, counters } = this.#host
    if (this.#held.length >= limits.heldWillsMax || budget.exceeded) {
      counters.dropped.overload.value++
      return
    }
    this.#held.push(held)
    budget.used += held.will.payload.length
    this.#host.offerLater()
  }
}
