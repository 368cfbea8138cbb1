import type { Clock } from '../../core/env.ts'
import { Fifo } from './fifo.ts'

/** Of what a turn has room for, what a client may have decoded in each in any case: a device's short array waits for nobody. */
const lightShare = 16
/** Between turns, so that everything else gets its own. */
const turnMs = 1

/**
 * Messages of arrays that are decoded in one turn of the event loop, by all clients together. An array may hold thousands that each become a dead letter:
 * with more than a turn has room for, its client stands in line, and those in line share the turns that follow.
 */
export class ArrayTurns {
  readonly #max: number
  readonly #clock: Pick<Clock, 'after'>
  readonly #line = new Fifo<ArrayTurn>()
  #armed = false
  #left: number
  #running = false
  /** Goes on with each turn. */
  turn = 0

  /** `max`: messages in a turn. */
  constructor(max: number, clock: Pick<Clock, 'after'>) {
    this.#max = max
    this.#left = max
    this.#clock = clock
  }

  /** For one client. `proceed` is called when its turn has come. */
  open(proceed: () => void): ArrayTurn {
    return new ArrayTurn(this, proceed)
  }

  // --- what clients ask ---

  /** How many one may have decoded now that has had `used` of `granted` in this turn. */
  room(used: number, granted: number): number {
    if (granted > 0) return Math.max(0, granted - used)
    const light = Math.floor(this.#max / lightShare) - used
    return Math.max(0, light, this.#line.length === 0 ? this.#left : 0)
  }

  took(units: number): void {
    this.#left -= units
    if (!this.#running) this.#arm()
  }

  stand(one: ArrayTurn): void {
    this.#line.push(one)
    this.took(0)
  }

  #arm(): void {
    if (this.#armed) return
    this.#armed = true
    this.#clock.after(turnMs, () => this.#next())
  }

  #next(): void {
    this.turn++
    this.#left = this.#max
    this.#running = true
    // Who is not through stands in line again, at its end.
    for (let behind = this.#line.length; behind > 0 && this.#left > 0; behind--) this.#line.shift()?.begin(Math.ceil(this.#left / behind))
    this.#running = false
    this.#armed = false
    // Not before the turn is over: a timer that is due by then would run in this same turn of the event loop, and no socket would be read.
    if (this.#left < this.#max || this.#line.length > 0) this.#arm()
  }
}

/** One client's part. */
export class ArrayTurn {
  /** It stands in line: nothing more is to be offered until then. */
  waits = false
  readonly #turns: ArrayTurns
  readonly #proceed: () => void
  #turn = -1
  #used = 0
  #granted = 0
  #closed = false

  constructor(turns: ArrayTurns, proceed: () => void) {
    this.#turns = turns
    this.#proceed = proceed
  }

  /** How many messages may be decoded now. */
  get room(): number {
    if (this.#turn !== this.#turns.turn) this.#enter(0)
    return this.#turns.room(this.#used, this.#granted)
  }

  /** So many were. With no more room it stands in line. */
  took(units: number): void {
    this.#used += units
    this.#turns.took(units)
    if (this.waits || this.room > 0) return
    this.waits = true
    this.#turns.stand(this)
  }

  close(): void {
    this.#closed = true
  }

  /** It is its turn. */
  begin(granted: number): void {
    this.waits = false
    if (this.#closed) return
    this.#enter(granted)
    this.#proceed()
  }

  #enter(granted: number): void {
    this.#turn = this.#turns.turn
    this.#used = 0
    this.#granted = granted
  }
}
