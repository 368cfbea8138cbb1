import type { Clock, Env, Timer } from '../../src/core/env.ts'
import { silentLogger } from '../../src/core/env/node-env.ts'
import { SimDisk } from './disk.ts'
import { SimRandom } from './random.ts'

export { SimRandom } from './random.ts'

interface SimTimer {
  readonly atMs: number
  readonly order: number
  readonly fn: () => void
}

/** Time that stands still until `advance` is called. */
export class SimClock implements Clock {
  #ms = 0
  #order = 0
  #wallOffsetUs: number
  #timers: SimTimer[] = []

  constructor(startUs = 1_767_225_600_000_000) {
    this.#wallOffsetUs = startUs
  }

  nowUs(): number {
    return this.#wallOffsetUs + Math.round(this.#ms * 1000)
  }

  monotonicMs(): number {
    return this.#ms
  }

  after(ms: number, fn: () => void): Timer {
    const timer: SimTimer = { atMs: this.#ms + Math.max(0, ms), order: this.#order++, fn }
    this.#timers.push(timer)
    return { cancel: () => void (this.#timers = this.#timers.filter((other) => other !== timer)) }
  }

  /** Somebody sets the wall clock. */
  step(us: number): void {
    this.#wallOffsetUs += us
  }

  /** Lets `ms` pass: due timers run in order, and what they set going gets to run in between. */
  async advance(ms: number): Promise<void> {
    const until = this.#ms + ms
    for (;;) {
      await settled()
      const due = this.#timers.filter((timer) => timer.atMs <= until).toSorted((a, b) => a.atMs - b.atMs || a.order - b.order)[0]
      if (due === undefined) break
      this.#timers = this.#timers.filter((timer) => timer !== due)
      this.#ms = Math.max(this.#ms, due.atMs)
      due.fn()
    }
    this.#ms = until
    await settled()
  }
}

/** All promises that can settle without time passing have settled. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

export interface SimEnv extends Env {
  readonly clock: SimClock
  readonly random: SimRandom
  readonly disk: SimDisk
}

/** A world that a seed decides: clock, chance and disk. `disk` goes on after a crash as `disk.crash()`. */
export function simEnv(seed: number, o: { readonly disk?: SimDisk; readonly capacityBytes?: number } = {}): SimEnv {
  const random = new SimRandom(seed)
  const disk = o.disk ?? new SimDisk(new SimRandom(seed ^ 0x5eed), o.capacityBytes)
  return { clock: new SimClock(), random, disk, logger: silentLogger }
}
