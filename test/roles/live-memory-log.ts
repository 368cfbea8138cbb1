import type { KymoError } from '../../src/core/errors.ts'
import type { PartitionLag, ReaderOptions, Source, StreamLog, TopicPlaces } from '../../src/core/ports.ts'
import type { Delivery, LogRecord } from '../../src/core/record.ts'
import { startOffset } from '../support/memory-log.ts'

interface Topic {
  records: LogRecord[]
  earliest: number
}

/** A StreamLog of one partition in memory, which tests can hold still, and from which they can drop the oldest records. */
export class MemoryLog implements StreamLog {
  readonly id = 'memory'
  readonly committed = new Map<string, bigint>()
  failWrites: KymoError | undefined
  /** Records of one delivery. */
  deliveryMax = 3
  readonly #topics = new Map<string, Topic>()
  #changed: (() => void)[] = []

  topic(name: string): Topic {
    let topic = this.#topics.get(name)
    if (topic === undefined) this.#topics.set(name, (topic = { records: [], earliest: 0 }))
    return topic
  }

  end(topic: string): bigint {
    return BigInt(this.topic(topic).records.length)
  }

  earliest(topic: string): bigint {
    return BigInt(this.topic(topic).earliest)
  }

  async places(topic: string): Promise<TopicPlaces> {
    return { log: this.id, partitions: [{ partition: 0, earliest: this.earliest(topic), end: this.end(topic) }], bytes: 0 }
  }

  async write(records: readonly LogRecord[]): Promise<void> {
    if (this.failWrites !== undefined) throw this.failWrites
    for (const record of records) this.topic(record.topic).records.push(structuredClone(record))
    for (const wake of this.#changed.splice(0)) wake()
  }

  async lag(topic: string, group: string): Promise<readonly PartitionLag[]> {
    const committed = this.committed.get(group) ?? this.earliest(topic)
    return [{ partition: 0, earliest: this.earliest(topic), committed, end: this.end(topic), bytes: 0 }]
  }

  reader(options: ReaderOptions): Source {
    const { topic: name, group, start } = options
    const topic = this.topic(name)
    let next = typeof start === 'object' ? Number(startOffset(start)) : start === 'latest' ? topic.records.length : topic.earliest
    if (group !== undefined && start === 'committed') next = Number(this.committed.get(group) ?? next)
    const closed = new AbortController()
    const deliver = (signal: AbortSignal): AsyncGenerator<Delivery> =>
      this.#deliver(
        topic,
        name,
        group,
        () => next,
        (n) => (next = n),
        AbortSignal.any([signal, closed.signal]),
      )
    return { open: deliver, close: async () => closed.abort() }
  }

  async close(): Promise<void> {
    for (const wake of this.#changed.splice(0)) wake()
  }

  async *#deliver(
    topic: Topic,
    name: string,
    group: string | undefined,
    get: () => number,
    set: (next: number) => void,
    signal: AbortSignal,
  ): AsyncGenerator<Delivery> {
    while (!signal.aborted) {
      const first = Math.max(get(), topic.earliest)
      const records = topic.records.slice(first, first + this.deliveryMax).map((record, i) => ({ ...record, offset: BigInt(first + i) }))
      if (records.length === 0) {
        await new Promise<void>((resolve) => {
          this.#changed.push(resolve)
          signal.addEventListener('abort', () => resolve(), { once: true })
        })
        continue
      }
      const next = first + records.length
      const ack = (): void => {
        set(next)
        if (group !== undefined) this.committed.set(group, BigInt(next))
      }
      yield { records, span: { log: this.id, topic: name, partition: 0, first: BigInt(first), next: BigInt(next) }, ack, nack: () => undefined }
    }
  }
}
