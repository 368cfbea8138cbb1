import { Fifo } from './fifo.ts'

/** Who has made the broker work: it is read on when `proceed` is called. */
export interface Worker {
  proceed(): void
}

/** A message that is refused: a dead letter of it is made, in 8 us. */
export const refusedUnits = 16

/** A worker that has done less than this share of what a turn has room for never waits. */
const lightShare = 16

/**
 * What finding and serving subscribers takes, in units of about half a microsecond: a filter's level that was looked at, a subscription that was met; a
 * delivery counts for two. One PUBLISH of 40 bytes may match thousands of subscriptions, and one read of a socket hold a thousand of such: whoever has taken
 * much of a turn of the event loop, when the turn has no room left, stands in line with its like, behind all others. A client that publishes to few
 * is never held up.
 */
export class Effort {
  units = 0
  /** Goes on with each turn in which there was something to do. */
  turn = 0
  readonly #max: number
  readonly #defer: () => void
  readonly #line = new Fifo<Worker>()
  #counted = 0
  #used = 0
  #deferred = false

  /** `defer` has `next` called behind what is ready now. */
  constructor(max: number, defer: () => void) {
    this.#max = max
    this.#defer = defer
  }

  get waiting(): number {
    return this.#line.length
  }

  /** Units since it was asked last. */
  spent(): number {
    const units = this.units - this.#counted
    this.#counted = this.units
    if (units === 0) return 0
    this.#used += units
    this.#later()
    return units
  }

  /** Whether one who has taken so many units of this turn has to wait; if so, it stands in line. */
  holds(worker: Worker, units: number): boolean {
    if (this.#used < this.#max || units * lightShare < this.#max) return false
    this.#line.push(worker)
    return true
  }

  /** It goes on in a turn to come, behind those who are in line. */
  queue(worker: Worker): void {
    this.#line.push(worker)
    this.#later()
  }

  /** The next turn: those in line go on, as long as there is room. */
  next(): void {
    this.#deferred = false
    this.turn++
    this.#used = 0
    // Who is not through stands in line again, at its end.
    for (let left = this.#line.length; left > 0 && this.#used < this.#max; left--) this.#line.shift()?.proceed()
    if (this.#line.length > 0) this.#later()
  }

  #later(): void {
    if (this.#deferred) return
    this.#deferred = true
    this.#defer()
  }
}
