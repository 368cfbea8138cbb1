import type { Clock } from '../core/env.ts'

/** What a rate says of one more. */
export interface RateAnswer {
  readonly allowed: boolean
  /** How many more may come at once. */
  readonly remaining: number
  /** Until one more may come; 0 when it may now. */
  readonly retryAfterS: number
  /** Until all may come at once again. */
  readonly resetS: number
}

/**
 * Token buckets by key, each kept as one number: when it is full again (the generic cell rate algorithm, ITU-T I.371). A bucket that is full is
 * the same as none, so that of the keys only the last `keysMax` seen are kept.
 */
export class KeyedRate {
  readonly perS: number
  readonly burst: number
  readonly #clock: Clock
  readonly #keysMax: number
  readonly #fullAtMs = new Map<string, number>()

  constructor(clock: Clock, o: { readonly perS: number; readonly burst: number; readonly keysMax: number }) {
    this.#clock = clock
    this.perS = o.perS
    this.burst = o.burst
    this.#keysMax = o.keysMax
  }

  get keys(): number {
    return this.#fullAtMs.size
  }

  take(key: string): RateAnswer {
    const nowMs = this.#clock.monotonicMs()
    const oneMs = 1e3 / this.perS
    const fullAtMs = Math.max(nowMs, this.#fullAtMs.get(key) ?? 0)
    const room = this.burst * oneMs - (fullAtMs - nowMs)
    // A division and a product of the same: what is missing by rounding is not missing.
    const allowed = room >= oneMs - 1e-6
    const nextMs = allowed ? fullAtMs + oneMs : fullAtMs
    this.#fullAtMs.delete(key)
    this.#fullAtMs.set(key, nextMs)
    if (this.#fullAtMs.size > this.#keysMax) {
      const [oldest] = this.#fullAtMs.keys()
      if (oldest !== undefined) this.#fullAtMs.delete(oldest)
    }
    const left = Math.max(0, Math.floor((this.burst * oneMs - (nextMs - nowMs)) / oneMs + 1e-6))
    return { allowed, remaining: left, retryAfterS: allowed ? 0 : (oneMs - room) / 1e3, resetS: (nextMs - nowMs) / 1e3 }
  }
}

/**
 * What one connection may send, in messages and bytes: it may go into debt by one message, which it then waits for. 0: no limit.
 */
export class ClientRate {
  readonly #clock: Clock
  readonly #messagesPerS: number
  readonly #bytesPerS: number
  readonly #wakeMs: number
  #messages: number
  #bytes: number
  #filledMs: number

  constructor(clock: Clock, o: { readonly messagesPerS: number; readonly bytesPerS: number; readonly wakeMs: number }) {
    this.#clock = clock
    this.#messagesPerS = o.messagesPerS === 0 ? Number.POSITIVE_INFINITY : o.messagesPerS
    this.#bytesPerS = o.bytesPerS === 0 ? Number.POSITIVE_INFINITY : o.bytesPerS
    this.#wakeMs = o.wakeMs
    // A second's worth may come at once.
    this.#messages = this.#messagesPerS
    this.#bytes = this.#bytesPerS
    this.#filledMs = clock.monotonicMs()
  }

  /** Counts a message; milliseconds that the client is not to be read for, 0: go on. */
  took(bytes: number): number {
    this.#messages--
    this.#bytes -= bytes
    if (this.#messages >= 0 && this.#bytes >= 0) return 0
    this.#fill()
    if (this.#messages >= 0 && this.#bytes >= 0) return 0
    const forMessages = this.#messages >= 0 ? 0 : (-this.#messages / this.#messagesPerS) * 1e3
    const forBytes = this.#bytes >= 0 ? 0 : (-this.#bytes / this.#bytesPerS) * 1e3
    return Math.max(this.#wakeMs, forMessages, forBytes)
  }

  #fill(): void {
    const nowMs = this.#clock.monotonicMs()
    const seconds = (nowMs - this.#filledMs) / 1e3
    // Without it, no time at no limit would be no number.
    if (seconds <= 0) return
    this.#filledMs = nowMs
    this.#messages = Math.min(this.#messagesPerS, this.#messages + seconds * this.#messagesPerS)
    this.#bytes = Math.min(this.#bytesPerS, this.#bytes + seconds * this.#bytesPerS)
  }
}
