import type { Clock } from '../core/env.ts'
import { peerOf } from './address.ts'

/**
 * Slows the guessing of passwords: an answer of "no" waits, and while too many wait, from one address or in all, credentials
 * from there are not even looked at. A slot stays taken for the whole delay, so that hanging up early gains nothing.
 */
export class AuthThrottle {
  readonly #clock: Clock
  readonly #delayMs: number
  readonly #max: number
  readonly #perAddressMax: number
  readonly #pending = new Map<string, number>()
  #total = 0

  constructor(clock: Clock, o: { readonly authDelayMs: number; readonly authPendingMax: number; readonly authPendingPerAddressMax: number }) {
    this.#clock = clock
    this.#delayMs = o.authDelayMs
    this.#max = o.authPendingMax
    this.#perAddressMax = o.authPendingPerAddressMax
  }

  /** Whether credentials from this address may be looked at now. */
  admits(address: string): boolean {
    return this.#total < this.#max && (this.#pending.get(peerOf(address)) ?? 0) < this.#perAddressMax
  }

  /** A failure: `answer` is called after the delay. */
  failed(address: string, answer: () => void): void {
    const peer = peerOf(address)
    this.#total++
    this.#pending.set(peer, (this.#pending.get(peer) ?? 0) + 1)
    this.#clock.after(this.#delayMs, () => {
      this.#total--
      const left = (this.#pending.get(peer) ?? 1) - 1
      if (left === 0) this.#pending.delete(peer)
      else this.#pending.set(peer, left)
      answer()
    })
  }
}
