import { copyBytes } from '../../wire/mqtt/text.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import type { Arrival } from './arrival.ts'
import { deliverTo, sizeOf } from './fanout.ts'
import type { MqttHost } from './host.ts'
import { LargeFanout } from './large-fanout.ts'
import type { FanoutPublisher } from './large-fanout.ts'
import { keepProperties, Outgoing } from './message.ts'
import type { Subscriber } from './message.ts'
import type { Route } from './routes.ts'
import { qosOf } from './roster.ts'
import type { Subscriptions } from './subscriptions.ts'

const retainFlag = 0x01
/** What the store takes for each session that is to get it, beyond a delivery to a connection. */
const keptUnits = 4

/** One client's messages on their way to subscribers, one after the other. */
export class Delivery {
  readonly #host: MqttHost
  readonly #publisher: FanoutPublisher
  readonly #subscriptions: Subscriptions<Subscriber>
  /** Of the message that is on its way to more subscribers than a turn has room for. */
  #fan: LargeFanout | undefined
  /** Of one that was answered before all have it. */
  #rest: LargeFanout | undefined

  constructor(host: MqttHost, publisher: FanoutPublisher) {
    this.#host = host
    this.#publisher = publisher
    this.#subscriptions = host.subscriptions(publisher.tenant)
  }

  /** A message is on its way: its client is not to be read. */
  get waits(): boolean {
    return this.#fan !== undefined || this.#rest !== undefined
  }

  /**
   * To those who subscribe; sessions that are kept are then `arrival.recipients`. False: another one is on its way, or this one is, to more of them than a
   * turn has room for; `FanoutPublisher.done` tells when to come again.
   */
  deliver(arrival: Arrival): boolean {
    if (this.#fan !== arrival.fan || this.#rest !== undefined) return false
    if (arrival.fan === undefined) {
      const fan = this.#begin(arrival, this.#publisher)
      if (fan !== undefined) {
        arrival.fan = this.#fan = fan
        fan.begin()
      }
    }
    if (arrival.fan !== undefined) {
      if (!arrival.fan.done) return false
      arrival.recipients = arrival.fan.recipients
      arrival.routed = arrival.fan.routed
      arrival.fan = this.#fan = undefined
    }
    const stored = arrival.recipients.length > 0 || ((arrival.flags & retainFlag) !== 0 && this.#host.store !== undefined)
    arrival.stage = stored ? 'store' : 'answer'
    return true
  }

  /**
   * As `deliver`, for one of which nobody may have had anything that is not known with its packet id: when they are many, sessions that are kept are its
   * recipients now, and nobody else gets it before `goOn`. False: another one is on its way.
   */
  deliverKept(arrival: Arrival): boolean {
    if (this.waits) return false
    const publisher = this.#publisher
    const rest = this.#begin(arrival, {
      ...publisher,
      done: () => {
        this.#rest = undefined
        publisher.done()
      },
    })
    if (rest !== undefined) {
      arrival.recipients = rest.first()
      arrival.routed = rest.routed
      this.#host.effort.units += arrival.recipients.length * keptUnits
      this.#rest = rest
    }
    arrival.stage = 'store'
    return true
  }

  /** The store has what `deliverKept` has left: the others get it, in turns. */
  goOn(): void {
    this.#rest?.begin()
    if (this.#rest?.done === true) this.#rest = undefined
  }

  /** Nobody subscribes to it, and nothing of the client is on its way. */
  isForNobody({ match }: Route): boolean {
    this.#subscriptions.refresh(match)
    return match.nodes.length === 0 && !this.waits
  }

  /** The client is gone: what is on its way goes on. */
  leave(): void {
    this.#fan?.leaveAlone()
    this.#rest?.leaveAlone()
  }

  /** To all of them, or, when they are many, nothing yet: what is to be done is returned. */
  #begin(arrival: Arrival, publisher: FanoutPublisher): LargeFanout | undefined {
    const { route } = arrival
    const { match } = route
    this.#subscriptions.refresh(match)
    // As of nearly all telemetry: nothing else is looked at for nobody.
    if (match.nodes.length === 0) return undefined
    const { flags, bytes, properties, start, end } = arrival
    const { clock, limits, kept, neighbours, effort } = this.#host
    const { forwarded, expiresMs } = keepProperties(bytes, properties, clock)
    const many = sizeOf(match) > limits.fanoutPerTurn
    const payload = many ? copyBytes(bytes, start, end) : bytes
    const from = many ? 0 : start
    const [qos, retain] = [qosOf((flags >> 1) & 3), (flags & retainFlag) !== 0]
    const message = new Outgoing(route.topic, route.topicBytes, qos, retain, payload, from, from + end - start, forwarded, expiresMs)
    arrival.reasonCode = ReasonCode.success
    if (many) return new LargeFanout(this.#host, match, message, publisher)
    deliverTo(match, message, publisher.subscriber)
    arrival.recipients = kept.gathered()
    arrival.routed = neighbours?.taken() ?? 0
    effort.units += arrival.recipients.length * keptUnits
    return undefined
  }
}
