import type { SeededRandom } from '../../core/seeded-random.ts'

export const faultKinds = ['spike', 'dropout', 'stuck', 'drift'] as const
export type FaultKind = (typeof faultKinds)[number]

/** How long a fault lasts, in milliseconds of simulated time. */
const lastsMs: Readonly<Record<FaultKind, readonly [number, number]>> = {
  spike: [0, 0],
  dropout: [20_000, 180_000],
  stuck: [60_000, 600_000],
  drift: [600_000, 7_200_000],
}
/** Degrees C: a spike's height, and how fast a drifting sensor leaves the truth. */
const spikeDegrees = [15, 45] as const
const driftDegreesPerHour = [0.5, 3] as const

interface Fault {
  readonly kind: FaultKind
  readonly startMs: number
  readonly endMs: number
  readonly size: number
  readonly sign: number
}

export interface Climate {
  temperature: number
  humidity: number
}

/**
 * What goes wrong with one sensor, one fault at a time. Draws from a stream of its own: the weather underneath is the same with
 * and without faults.
 */
export class FaultProcess {
  readonly counts: Record<FaultKind, number> = { spike: 0, dropout: 0, stuck: 0, drift: 0 }
  readonly #random: SeededRandom
  readonly #kinds: readonly FaultKind[]
  readonly #meanGapMs: number
  #current: Fault | undefined
  #nextMs: number | undefined
  #frozen: Climate | undefined

  constructor(random: SeededRandom, kinds: readonly FaultKind[], perHour: number) {
    this.#random = random
    this.#kinds = kinds
    this.#meanGapMs = 3_600_000 / perHour
  }

  /** Changes `climate` in place to what the faulty sensor says; false: it says nothing. */
  apply(climate: Climate, timeMs: number): boolean {
    const [first, ...others] = this.#kinds
    if (first === undefined) return true
    this.#nextMs ??= timeMs + this.#gap()
    if (this.#current !== undefined && timeMs > this.#current.endMs) {
      this.#current = undefined
      this.#frozen = undefined
      this.#nextMs = timeMs + this.#gap()
    }
    if (this.#current === undefined && timeMs >= this.#nextMs) this.#current = this.#begin(this.#random.pick([first, ...others]), timeMs)
    if (this.#current === undefined) return true
    return this.#distort(this.#current, climate, timeMs)
  }

  #distort(fault: Fault, climate: Climate, timeMs: number): boolean {
    switch (fault.kind) {
      case 'dropout':
        return false
      case 'spike':
        climate.temperature += fault.sign * fault.size
        return true
      case 'drift':
        climate.temperature += fault.sign * fault.size * ((timeMs - fault.startMs) / 3_600_000)
        return true
      case 'stuck':
        this.#frozen ??= { ...climate }
        climate.temperature = this.#frozen.temperature
        climate.humidity = this.#frozen.humidity
        return true
    }
  }

  #begin(kind: FaultKind, timeMs: number): Fault {
    this.counts[kind]++
    const [shortest, longest] = lastsMs[kind]
    const [least, most] = kind === 'spike' ? spikeDegrees : driftDegreesPerHour
    return {
      kind,
      startMs: timeMs,
      endMs: timeMs + this.#random.between(shortest, longest),
      size: this.#random.between(least, most),
      sign: this.#random.next() < 0.5 ? -1 : 1,
    }
  }

  /** Exponential: faults know nothing of each other. */
  #gap(): number {
    return -Math.log(1 - this.#random.next()) * this.#meanGapMs
  }
}
