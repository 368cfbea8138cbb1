import type { Clock, Env, Logger, Timer } from '../../src/core/env.ts'
import { nodeDisk, nodeRandom } from '../../src/core/env/node-env.ts'

/** A clock that stands until it is moved. */
export class TestClock implements Clock {
  us = 1_700_000_000_000_000
  #timers: { atMs: number; fn: () => void }[] = []

  nowUs(): number {
    return this.us
  }
  monotonicMs(): number {
    return this.us / 1000
  }
  after(ms: number, fn: () => void): Timer {
    const timer = { atMs: this.monotonicMs() + ms, fn }
    this.#timers.push(timer)
    return { cancel: () => void (this.#timers = this.#timers.filter((other) => other !== timer)) }
  }
  get timers(): number {
    return this.#timers.length
  }
  /** Moves on and runs what is due, then lets promises settle. */
  async advance(ms: number): Promise<void> {
    this.us += ms * 1000
    for (;;) {
      const due = this.#timers.find((timer) => timer.atMs <= this.monotonicMs())
      if (due === undefined) break
      this.#timers = this.#timers.filter((timer) => timer !== due)
      due.fn()
      await settle()
    }
    await settle()
  }
}

/** Everything that needs no real time has happened. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve))
}

export interface TestEnv extends Env {
  readonly clock: TestClock
  /** Everything that was logged, with its fields. */
  readonly logged: string[]
}

export function testEnv(): TestEnv {
  const logged: string[] = []
  const log = (message: string, fields?: object): void => void logged.push(`${message} ${JSON.stringify(fields ?? {})}`)
  const logger: Logger = { debug: log, info: log, warn: log, error: log, child: () => logger }
  return { clock: new TestClock(), random: nodeRandom, disk: nodeDisk, logger, logged }
}
