import { Fifo } from './fifo.ts'

interface Pair {
  readonly first: number
  readonly second: number
}

/** Tickets of two sources as one: what is given out is durable when both are, and everything given out before. */
export class JointTickets {
  readonly #waiting = new Fifo<Pair>()
  #given = 0

  /** 0: there is nothing to wait for at that source. */
  join(first: number, second: number): number {
    this.#waiting.push({ first, second })
    return ++this.#given
  }

  /** The highest that is durable, by the highest durable ones of the sources. */
  durable(first: number, second: number): number {
    for (let next = this.#waiting.peek(); next !== undefined && next.first <= first && next.second <= second; next = this.#waiting.peek())
      this.#waiting.shift()
    return this.#given - this.#waiting.length
  }
}
