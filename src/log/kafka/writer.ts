import type { Producer } from '@platformatic/kafka'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { LogRecord } from '../../core/record.ts'
import { BatchEncoder } from '../../wire/batch/encode.ts'
import { is, unavailable, type KafkaCluster } from './cluster.ts'
import { messagesOf, type KafkaMessage } from './messages.ts'
import { BatchSplitter } from './split.ts'

interface Call {
  readonly messages: readonly KafkaMessage[]
  readonly resolve: () => void
  readonly reject: (error: KymoError) => void
}

/** Produce calls under way are one at a time, so that order holds; all calls that wait meanwhile go into the next. */
export class KafkaWriter {
  readonly #cluster: KafkaCluster
  readonly #encoder = new BatchEncoder()
  readonly #splitters = new Map<number, BatchSplitter>()
  #producer: Producer<Buffer, Buffer, Buffer, Buffer> | undefined
  /** Calls in their order, also while the topics of an earlier one are looked up. */
  #entering: Promise<unknown> = Promise.resolve()
  #waiting: Call[] = []
  #running: Promise<void> | undefined
  #closed = false

  constructor(cluster: KafkaCluster) {
    this.#cluster = cluster
  }

  /** Resolves when all in-sync replicas have it (acks=all). Records are copied before it returns for the first time. */
  async write(records: readonly LogRecord[], signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.#closed) throw new KymoError('shutting_down')
    if (records.length === 0) return
    const before = this.#entering
    const entered = before.then(() => this.#encode(records))
    this.#entering = entered.catch(() => undefined)
    const messages = await entered
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ messages, resolve, reject })
      this.#running ??= this.#run()
    })
  }

  /** What is written from now on waits until `task` has ended. */
  behind(task: Promise<unknown>): void {
    const before = this.#entering
    this.#entering = Promise.allSettled([before, task])
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#entering
    await this.#running
    await this.#drop()
  }

  async #encode(records: readonly LogRecord[]): Promise<KafkaMessage[]> {
    const messages: KafkaMessage[] = []
    for (const record of records) {
      const { name, partitions } = await this.#cluster.topic(record.topic)
      for (const message of messagesOf(record, name, partitions, this.#splitter(partitions), this.#encoder)) {
        if (message.value.length > limits.kafkaMessageBytesMax - 4096) throw new KymoError('record_too_large')
        messages.push(message)
      }
    }
    return messages
  }

  #splitter(partitions: number): BatchSplitter {
    let one = this.#splitters.get(partitions)
    if (one === undefined) this.#splitters.set(partitions, (one = new BatchSplitter(partitions)))
    return one
  }

  async #run(): Promise<void> {
    // Calls of one turn go together.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const calls = this.#next()
      try {
        this.#producer ??= this.#cluster.producer()
        await this.#producer.send({ messages: calls.flatMap((call) => call.messages), acks: -1 })
        for (const call of calls) call.resolve()
      } catch (thrown) {
        // Its sequence numbers may be off now.
        await this.#drop()
        const error = is(thrown, 'MESSAGE_TOO_LARGE') ? new KymoError('record_too_large') : unavailable(thrown)
        for (const call of calls) call.reject(error)
      }
    }
    this.#running = undefined
  }

  /** As many calls as one batch may hold, at least one. */
  #next(): Call[] {
    let bytes = 0
    let count = 0
    for (const { messages } of this.#waiting) {
      bytes += messages.reduce((sum, { value }) => sum + value.length, 0)
      if (count > 0 && bytes > limits.kafkaProduceBytesMax) break
      count++
    }
    return this.#waiting.splice(0, count)
  }

  async #drop(): Promise<void> {
    const producer = this.#producer
    this.#producer = undefined
    await producer?.close().catch(() => undefined)
  }
}
