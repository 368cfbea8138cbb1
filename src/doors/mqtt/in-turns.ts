import type { Logger } from '../../core/env.ts'
import type { Effort, Worker } from './effort.ts'
import { Fifo } from './fifo.ts'

/**
 * Work that comes a hundredfold when many connections are lost together: done at once, or, when a turn of the event loop has no room left for it, in turns
 * to come, in its order.
 */
export class InTurns implements Worker {
  readonly #host: { readonly effort: Effort; readonly logger: Logger }
  readonly #what: string
  readonly #next = new Fifo<() => void>()
  #inLine = false
  #units = 0
  #turn = -1

  /** `what`: is said to have failed when something throws. */
  constructor(host: { readonly effort: Effort; readonly logger: Logger }, what: string) {
    this.#host = host
    this.#what = what
  }

  get waiting(): number {
    return this.#next.length
  }

  do(work: () => void): void {
    if (this.#inLine) this.#next.push(work)
    else this.#worked(work)
  }

  /** A turn with room has come. */
  proceed(): void {
    this.#inLine = false
    while (!this.#inLine) {
      const work = this.#next.shift()
      if (work === undefined) return
      this.#worked(work)
    }
  }

  /** What waits is done now: no other turn will come. */
  finish(): void {
    for (let work = this.#next.shift(); work !== undefined; work = this.#next.shift()) this.#try(work)
  }

  #worked(work: () => void): void {
    const { effort } = this.#host
    effort.spent()
    this.#try(work)
    const units = effort.spent()
    if (this.#turn !== effort.turn) this.#units = 0
    this.#turn = effort.turn
    this.#units += units
    this.#inLine = effort.holds(this, this.#units)
  }

  /** What fails must not take what is behind it along. */
  #try(work: () => void): void {
    try {
      work()
    } catch (thrown) {
      this.#host.logger.error(`${this.#what} failed`, { error: String(thrown) })
    }
  }
}
