import type { Clock, Env, Random, Timer } from '../../src/core/env.ts'
import { silentLogger } from '../../src/core/env/node-env.ts'
import { SimDisk } from './disk.ts'

/** mulberry32: small, good enough for choosing faults, and the same on every machine. */
export class SimRandom implements Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000
  }

  /** A whole number in [0, below). */
  below(below: number): number {
    return Math.floor(this.next() * below)
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  uuid(): string {
    const hex = Array.from({ length: 32 }, () => this.below(16).toString(16)).join('')
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`
  }
}

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
