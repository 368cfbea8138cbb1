import type { LiveEvent, Reading } from './api.ts'

/** Tells each panel of the readings of its metric. */
export class LiveMetrics {
  readonly #listeners = new Map<string, Set<(reading: Reading) => void>>()

  on(metric: string, listener: (reading: Reading) => void): () => void {
    const listeners = this.#listeners.get(metric) ?? new Set()
    this.#listeners.set(metric, listeners.add(listener))
    return () => void listeners.delete(listener)
  }

  tell(event: LiveEvent): void {
    if (event.type !== 'readings') return
    for (const reading of event.readings) for (const listener of this.#listeners.get(reading.metric) ?? []) listener(reading)
  }
}
