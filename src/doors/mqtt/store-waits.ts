import type { SessionStore } from '../../core/session-store.ts'
import type { Waiting } from './host.ts'

/** What a connection does once a change of its session, or what it has announced to other processes, is durable: in order. */
export class StoreWaits implements Waiting {
  listed = false
  readonly #store: Pick<SessionStore, 'durable'>
  readonly #list: (waiting: Waiting) => void
  readonly #full: (full: boolean) => void
  readonly #max: number
  #waits: { readonly change: () => number; readonly done: () => void; ticket: number }[] = []

  /** `full` is called when `max` wait, and when they do no more. */
  constructor(store: Pick<SessionStore, 'durable'>, list: (waiting: Waiting) => void, max: number, full: (full: boolean) => void) {
    this.#store = store
    this.#list = list
    this.#max = max
    this.#full = full
  }

  /** `change` gives the ticket to wait for, or 0: it is to be tried again. */
  push(change: () => number, done: () => void): void {
    const ticket = this.#waits.some((one) => one.ticket === 0) ? 0 : change()
    if (this.#waits.length === 0 && ticket !== 0 && ticket <= this.#store.durable) return done()
    this.#waits.push({ change, done, ticket })
    if (this.#waits.length === this.#max) this.#full(true)
    this.#list(this)
  }

  settle(): boolean {
    const before = this.#waits.length
    for (const one of this.#waits) {
      if (one.ticket === 0) one.ticket = one.change()
      if (one.ticket === 0) break
    }
    for (let one = this.#waits[0]; one !== undefined && one.ticket !== 0 && one.ticket <= this.#store.durable; one = this.#waits[0]) {
      this.#waits.shift()
      one.done()
    }
    if (before >= this.#max && this.#waits.length < this.#max) this.#full(false)
    return this.#waits.length > 0
  }

  clear(): void {
    this.#waits = []
  }
}
