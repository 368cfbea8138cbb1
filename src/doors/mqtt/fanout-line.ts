import type { Worker } from './effort.ts'
import { deliverHere, deliverTo, sizeOf } from './fanout.ts'
import { Fifo } from './fifo.ts'
import type { MqttHost } from './host.ts'
import { LargeFanout } from './large-fanout.ts'
import type { Outgoing, Unpublished } from './message.ts'

interface Waiting {
  readonly one: Unpublished
  readonly message: Outgoing
}

/**
 * Messages of the server's own, or of other processes, on their way to subscribers, in their order: one to more of them than a turn of the event loop has
 * room for goes in turns, and those behind it wait for it.
 */
export class FanoutLine implements Worker {
  readonly #host: MqttHost
  /** Another process took them: see `deliverHere`. */
  readonly #here: boolean
  readonly #line = new Fifo<Waiting>()
  #fan: LargeFanout | undefined

  constructor(host: MqttHost, here: boolean) {
    this.#host = host
    this.#here = here
  }

  get waiting(): number {
    return this.#line.length
  }

  /** True: all have it, and `delivered` was told. False: it will be. */
  deliver(one: Unpublished): boolean {
    if (this.#fan === undefined && this.#line.length === 0) return this.#start(one, undefined) !== undefined
    this.#line.push({ one, message: one.message(true) })
    return false
  }

  /** A turn has come for those that wait. */
  proceed(): void {
    for (let room = this.#host.limits.fanoutPerTurn; room > 0 && this.#fan === undefined;) {
      const next = this.#line.shift()
      if (next === undefined) return
      try {
        room -= 1 + (this.#start(next.one, next.message) ?? 0)
      } catch (thrown) {
        next.one.failed(thrown)
      }
    }
    this.#host.effort.spent()
    this.#goOn()
  }

  /** How many have it; undefined: it is on its way. */
  #start(one: Unpublished, own: Outgoing | undefined): number | undefined {
    const { limits, kept } = this.#host
    const match = this.#host.subscriptions(one.tenant).match(one.topic)
    const size = sizeOf(match)
    if (size <= limits.fanoutPerTurn) {
      const message = own ?? one.message(false)
      if (this.#here) deliverHere(match, message)
      else deliverTo(match, message, undefined)
      one.delivered(kept.gathered())
      return size
    }
    const ended = (then: () => void): void => {
      this.#fan = undefined
      this.#goOn()
      then()
    }
    const publisher = {
      tenant: one.tenant,
      done: () => ended(() => one.delivered(fan.recipients)),
      failed: (thrown: unknown) => ended(() => one.failed(thrown)),
    }
    const fan = new LargeFanout(this.#host, match, own ?? one.message(true), publisher, this.#here)
    fan.begin()
    if (!fan.done) {
      this.#fan = fan
      return undefined
    }
    one.delivered(fan.recipients)
    return size
  }

  #goOn(): void {
    if (this.#fan === undefined && this.#line.length > 0) this.#host.effort.queue(this)
  }
}
