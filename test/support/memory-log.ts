import type { ReaderOptions, Source } from '../../src/core/ports.ts'
import type { Delivery, LogRecord } from '../../src/core/record.ts'

/** Where a reader of a log of one partition is told to start. */
export function startOffset(start: Extract<ReaderOptions['start'], object>): bigint {
  return 'offset' in start ? start.offset : (start.offsets.get(0) ?? 0n)
}

/** A log in memory, for one topic with one partition: what a reader of the real one sees, and what its groups acknowledged. */
export class MemoryLog {
  readonly id: string
  readonly records: LogRecord[] = []
  readonly groups = new Map<string, bigint>()
  readonly opened: ReaderOptions[] = []
  /** Records a delivery when the reader sets no bound. */
  perDelivery = 5
  /** Below it nothing is kept any more. */
  earliest = 0n
  readonly #waiting = new Set<() => void>()

  constructor(id = 'log-1') {
    this.id = id
  }

  append(...records: LogRecord[]): void {
    this.records.push(...records)
    for (const wake of this.#waiting) wake()
  }

  end(_topic: string): bigint {
    return BigInt(this.records.length)
  }

  reader(options: ReaderOptions): Source {
    this.opened.push(options)
    const start = typeof options.start === 'object' ? startOffset(options.start) : (this.groups.get(options.group ?? '') ?? this.earliest)
    if (start < this.earliest) throw new Error(`offset ${start} is gone, the log begins at ${this.earliest}`)
    if (options.group !== undefined) this.groups.set(options.group, start)
    return { open: (signal) => this.#read(options, start, signal), close: () => Promise.resolve() }
  }

  async *#read(options: ReaderOptions, start: bigint, signal: AbortSignal): AsyncGenerator<Delivery, void, void> {
    const most = options.batch?.bytesMax === 1 ? 1 : this.perDelivery
    const outstanding: { readonly next: bigint; acknowledged: boolean }[] = []
    for (let first = Number(start); !signal.aborted;) {
      if (first >= this.records.length) {
        await this.#more(signal)
        continue
      }
      const next = Math.min(this.records.length, first + most)
      const mine = { next: BigInt(next), acknowledged: false }
      outstanding.push(mine)
      yield {
        records: this.records.slice(first, next),
        span: { log: this.id, topic: options.topic, partition: 0, first: BigInt(first), next: BigInt(next) },
        ack: () => {
          if (mine.acknowledged) throw new Error('acknowledged twice')
          mine.acknowledged = true
          while (outstanding[0]?.acknowledged === true) {
            const { next: acknowledged } = outstanding.shift()!
            if (options.group !== undefined) this.groups.set(options.group, acknowledged)
          }
        },
        nack: () => undefined,
      }
      first = next
    }
  }

  #more(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiting.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#waiting.add(done)
      signal.addEventListener('abort', done)
    })
  }
}
