import type { Clock } from '../core/env.ts'
import { limits } from '../core/limits.ts'
import { peerOf } from './address.ts'

/** What is remembered of the passwords that were tried for one account from one address. */
interface Tries {
  failures: number
  /** Answers that wait, and passwords that are being looked at. */
  pending: number
  lastMs: number
}

/**
 * Slows the guessing of passwords: an answer of "no" waits, and while too many wait, from one address or in all, credentials
 * from there are not even looked at. A slot stays taken for the whole delay, so that hanging up early gains nothing.
 *
 * Where an account is named (a password that a person chose), each failure in a row for this account from this address waits twice as long as the
 * one before, and until it is answered no other password for it is looked at from there. From elsewhere, and for others, nothing changes: whoever
 * owns the account gets in from another address at once, and from the same one after the delay.
 */
export class AuthThrottle {
  readonly #clock: Clock
  readonly #delayMs: number
  readonly #max: number
  readonly #perAddressMax: number
  readonly #pending = new Map<string, number>()
  readonly #tries = new Map<string, Tries>()
  #total = 0

  constructor(clock: Clock, o: { readonly authDelayMs: number; readonly authPendingMax: number; readonly authPendingPerAddressMax: number }) {
    this.#clock = clock
    this.#delayMs = o.authDelayMs
    this.#max = o.authPendingMax
    this.#perAddressMax = o.authPendingPerAddressMax
  }

  /** Accounts, each with an address, whose failures are remembered. */
  get remembered(): number {
    return this.#tries.size
  }

  /** Whether credentials from this address may be looked at now. */
  admits(address: string, account?: string): boolean {
    const peer = peerOf(address)
    if (this.#total >= this.#max || (this.#pending.get(peer) ?? 0) >= this.#perAddressMax) return false
    return account === undefined || (this.#tries.get(keyOf(peer, account))?.pending ?? 0) === 0
  }

  /** A password is being looked at, which takes a while: no other for the account until the function that is returned has been called. */
  looking(address: string, account: string): () => void {
    const key = keyOf(peerOf(address), account)
    this.#of(key).pending++
    return () => this.#settled(key)
  }

  /** A failure: `answer` is called after the delay. Returns how many there were in a row for the account; 0: none is named. */
  failed(address: string, answer: () => void, account?: string): number {
    const peer = peerOf(address)
    this.#total++
    this.#pending.set(peer, (this.#pending.get(peer) ?? 0) + 1)
    const key = account === undefined ? undefined : keyOf(peer, account)
    const failures = key === undefined ? 0 : this.#failure(key)
    this.#clock.after(Math.max(this.#delayMs, Math.min(this.#delayMs * 2 ** (failures - 1), limits.authDelayMsMax)), () => {
      this.#total--
      const left = (this.#pending.get(peer) ?? 1) - 1
      if (left === 0) this.#pending.delete(peer)
      else this.#pending.set(peer, left)
      if (key !== undefined) this.#settled(key)
      answer()
    })
    return failures
  }

  /** The password was right: the next failure is the first again. */
  succeeded(address: string, account: string): void {
    const key = keyOf(peerOf(address), account)
    const tries = this.#tries.get(key)
    if (tries === undefined) return
    tries.failures = 0
    if (tries.pending === 0) this.#tries.delete(key)
  }

  #failure(key: string): number {
    const tries = this.#of(key)
    tries.pending++
    tries.failures++
    return tries.failures
  }

  #of(key: string): Tries {
    const lastMs = this.#clock.monotonicMs()
    // Those unseen for longest stand in front.
    for (const [old, { lastMs: seenMs }] of this.#tries) {
      if (lastMs - seenMs < limits.authForgetMs && this.#tries.size < limits.authAccountsMax) break
      this.#tries.delete(old)
    }
    const tries = this.#tries.get(key) ?? { failures: 0, pending: 0, lastMs }
    tries.lastMs = lastMs
    this.#tries.delete(key)
    this.#tries.set(key, tries)
    return tries
  }

  #settled(key: string): void {
    const tries = this.#tries.get(key)
    if (tries === undefined || tries.pending === 0) return
    tries.pending--
    if (tries.pending === 0 && tries.failures === 0) this.#tries.delete(key)
  }
}

function keyOf(peer: string, account: string): string {
  return `${peer}\n${account}`
}
