import type { SessionRecipient } from '../../core/session-store.ts'
import type { Worker } from './effort.ts'
import { Deliveries } from './fanout.ts'
import type { MqttHost } from './host.ts'
import { storedMessage } from './message.ts'
import type { Outgoing, Subscriber } from './message.ts'
import type { Match } from './subscriptions.ts'

/** Who has published it, and is told when all have it. */
export interface FanoutPublisher {
  readonly tenant: string
  /** Absent: its session is gone. */
  readonly subscriber?: Subscriber
  done(): void
  failed(thrown: unknown): void
}

/**
 * A message on its way to more subscribers than one turn of the event loop has room for: so many in each turn, and others in between. Its publisher
 * publishes nothing more until all have it, so that they get its messages in their order; what was begun goes on without it.
 */
export class LargeFanout implements Worker {
  /** Sessions that the store is to keep it for; complete when it is done, as is `routed`: the ticket of its way to other processes. */
  readonly recipients: SessionRecipient[] = []
  routed = 0
  done = false
  readonly #host: MqttHost
  readonly #message: Outgoing
  readonly #publisher: FanoutPublisher
  readonly #deliveries: Deliveries
  #alone = false
  /** What the store was to keep of it when it began, it has. */
  #stored = false

  /** `message` is the fanout's own: nothing of it is borrowed. `here`: another process took it (`deliverHere`). */
  constructor(host: MqttHost, match: Match<Subscriber>, message: Outgoing, publisher: FanoutPublisher, here = false) {
    this.#host = host
    this.#message = message
    this.#publisher = publisher
    this.#deliveries = new Deliveries(match, message, publisher.subscriber, here)
  }

  /**
   * Before `begin`: sessions that the store keeps, all of them now, and other processes, whose ticket is `routed`. For who has the store keep it before any of
   * the others gets it.
   */
  first(): readonly SessionRecipient[] {
    this.#deliveries.kept()
    this.#gather()
    this.#stored = true
    return this.recipients.splice(0)
  }

  /** This turn's share. When it was all of them, the publisher is not told. */
  begin(): void {
    if (this.#some()) this.done = true
    else this.#host.effort.queue(this)
  }

  proceed(): void {
    try {
      this.begin()
      this.#host.effort.spent()
      if (!this.done) return
      if (this.#alone || this.#stored) this.#keep()
      if (!this.#alone) this.#publisher.done()
    } catch (thrown) {
      this.done = true
      this.#publisher.failed(thrown)
    }
  }

  /** The publisher is gone, and with it whoever would have acknowledged the message. */
  leaveAlone(): void {
    this.#alone = true
  }

  #some(): boolean {
    const all = this.#deliveries.some(this.#host.limits.fanoutPerTurn)
    this.#gather()
    return all
  }

  #gather(): void {
    const { kept, neighbours } = this.#host
    for (const recipient of kept.gathered()) this.recipients.push(recipient)
    this.routed = Math.max(this.routed, neighbours?.taken() ?? 0)
  }

  /** What the publisher would have done, or has done before. Nobody waits for it: what the store does not take is lost, and counted. */
  #keep(): void {
    const { store, retained, clock, counters } = this.#host
    const { topic, qos, payload } = this.#message
    const retain = this.#message.retain && !this.#stored
    if (store === undefined || (this.recipients.length === 0 && !retain)) return
    const { tenant } = this.#publisher
    if (retain) retained.changed(tenant, topic)
    const message = storedMessage(tenant, topic, qos, payload, this.#message, clock)
    if (store.publish({ message, recipients: this.recipients, retain }) === 0) counters.dropped.overload.value++
  }
}
