import type { Clock, Timer } from '../../src/core/env.ts'

/** Time that passes only when a test says so. */
export class TestClock implements Clock {
  #now = 0
  #timers: { at: number; fn: () => void; cancelled: boolean }[] = []

  nowUs(): number {
    return 1_700_000_000_000_000 + this.#now * 1000
  }
  monotonicMs(): number {
    return this.#now
  }
  after(ms: number, fn: () => void): Timer {
    const timer = { at: this.#now + ms, fn, cancelled: false }
    this.#timers.push(timer)
    return { cancel: () => void (timer.cancelled = true) }
  }
  advance(ms: number): void {
    const until = this.#now + ms
    for (;;) {
      const due = this.#timers.filter((timer) => !timer.cancelled && timer.at <= until).sort((a, b) => a.at - b.at)[0]
      if (due === undefined) break
      this.#now = due.at
      due.cancelled = true
      due.fn()
    }
    this.#timers = this.#timers.filter((timer) => !timer.cancelled)
    this.#now = until
  }
  /** The process that set them is gone: none of its timers runs. */
  forget(): void {
    this.#timers = []
  }
  get timers(): number {
    return this.#timers.filter((timer) => !timer.cancelled).length
  }
}
