import type { Random } from '../../../core/env.ts'

export interface BackoffLimits {
  readonly firstMs: number
  readonly maxMs: number
  /** Where only a person can mend it. */
  readonly refusedMs: number
}

/** How long to wait before the next try: doubled each time, at most `maxMs`, and up to half of it less by chance. */
export class Backoff {
  #tries = 0
  readonly #limits: BackoffLimits
  readonly #random: Random

  constructor(limits: BackoffLimits, random: Random) {
    this.#limits = limits
    this.#random = random
  }

  /** Milliseconds. `refused`: the answer will be the same until somebody changes something. */
  next(refused: boolean): number {
    const { firstMs, maxMs, refusedMs } = this.#limits
    const ceiling = refused ? refusedMs : Math.min(maxMs, firstMs * 2 ** Math.min(this.#tries++, 30))
    return ceiling * (0.5 + this.#random.next() / 2)
  }

  /** A connection was good: the next wait is a short one. */
  reset(): void {
    this.#tries = 0
  }
}
