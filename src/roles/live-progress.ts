import type { PartitionLag, Sink } from '../core/ports.ts'

/** Tells when a reader has taken in all that the log held at some moment. */
export class Progress {
  readonly reached: Promise<void>
  done = false
  #finish: () => void = () => undefined
  readonly #targets = new Map<number, bigint>()

  constructor() {
    this.reached = new Promise((resolve) => {
      this.#finish = () => {
        this.done = true
        resolve()
      }
    })
  }

  /** The ends of now are the aim. `from`: where the reader starts. */
  aim(lag: readonly PartitionLag[], from: (partition: PartitionLag) => bigint): void {
    for (const partition of lag) if (from(partition) < partition.end) this.#targets.set(partition.partition, partition.end)
    if (this.#targets.size === 0) this.#finish()
  }

  /** The same sink, watched. */
  watch(sink: Sink): Sink {
    return {
      write: async (records, span, signal) => {
        await sink.write(records, span, signal)
        if (this.done || span === undefined) return
        const target = this.#targets.get(span.partition)
        if (target !== undefined && span.next >= target) this.#targets.delete(span.partition)
        if (this.#targets.size === 0) this.#finish()
      },
      close: () => sink.close(),
    }
  }
}
