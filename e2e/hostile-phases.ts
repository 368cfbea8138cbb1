/** How long answers took, by phases of a test, and what the machine itself took meanwhile. */
import { open } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'

export interface Phase {
  readonly name: string
  readonly answers: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  /** Longest time that the machine took for a timer, a write and a sync. */
  readonly machineMs: number
  /** All answers' times, shortest first. */
  readonly samples: readonly number[]
}

export class Phases {
  readonly closed: Phase[] = []
  #name: string
  #answers: number[] = []
  #machine: number[] = []

  constructor(name: string) {
    this.#name = name
  }

  answered(ms: number): void {
    this.#answers.push(ms)
  }

  /** Closes this phase. */
  next(name: string): void {
    const sorted = this.#answers.toSorted((a, b) => a - b)
    const at = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN
    const machineMs = this.#machine.reduce((most, ms) => Math.max(most, ms), 0)
    const maxMs = sorted.at(-1) ?? Number.NaN
    this.closed.push({ name: this.#name, answers: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs, machineMs, samples: sorted })
    this.#answers = []
    this.#machine = []
    this.#name = name
  }

  /** Until it has ended: a few bytes written and synced on the same file system as the server's, as an acknowledgement needs them. */
  async watchMachine(filename: string, everyMs: number, ended: () => boolean): Promise<void> {
    const file = await open(filename, 'w')
    while (!ended()) {
      const began = performance.now()
      await delay(everyMs)
      await file.write('x'.repeat(100), 0)
      await file.datasync()
      this.#machine.push(Math.max(0, performance.now() - began - everyMs))
    }
    await file.close()
  }
}

export function told({ name, answers, p50Ms, p99Ms, maxMs, machineMs }: Phase): string {
  const ms = (value: number): string => `${value.toFixed(1)} ms`
  return `bystander, ${name}: ${answers} answers, p50 ${ms(p50Ms)}, p99 ${ms(p99Ms)}, longest ${ms(maxMs)} (machine alone ${ms(machineMs)})\n`
}
