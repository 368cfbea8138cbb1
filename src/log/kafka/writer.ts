import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { sleep } from '../../core/pump.ts'
import type { Env } from '../../core/env.ts'
import type { LogRecord } from '../../core/record.ts'
import { BatchEncoder } from '../../wire/batch/encode.ts'
import type { KafkaCluster, KafkaProducer } from './cluster.ts'
import { is, unavailable } from './faults.ts'
import { messagesOf, type KafkaMessage } from './messages.ts'
import { BatchSplitter } from './split.ts'

export interface KafkaWriterOptions {
  readonly env: Env
  /** How long a produce request waits for company; absent: not at all. */
  readonly lingerMs?: number
  /** At so many bytes of values it goes at once. */
  readonly batchBytes?: number
}

interface Call {
  readonly messages: readonly KafkaMessage[]
  readonly bytes: number
  readonly resolve: () => void
  readonly reject: (error: KymoError) => void
}

/** Produce calls under way are one at a time, so that order holds; all calls that wait meanwhile go into the next. */
export class KafkaWriter {
  readonly #cluster: KafkaCluster
  readonly #o: KafkaWriterOptions
  readonly #encoder = new BatchEncoder()
  readonly #splitters = new Map<number, BatchSplitter>()
  #producer: KafkaProducer | undefined
  /** Calls in their order, also while the topics of an earlier one are looked up. */
  #entering: Promise<unknown> = Promise.resolve()
  #waiting: Call[] = []
  #waitingBytes = 0
  #running: Promise<void> | undefined
  /** Ends the linger. */
  #full = new AbortController()
  #closed = false

  constructor(cluster: KafkaCluster, o: KafkaWriterOptions) {
    this.#cluster = cluster
    this.#o = o
  }

  /**
   * Resolves when all in-sync replicas have it (acks=all). Records are copied before it returns for the first time. Throws `overloaded` when so much waits
   * that the cluster does not keep up.
   */
  async write(records: readonly LogRecord[], signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.#closed) throw new KymoError('shutting_down')
    if (records.length === 0) return
    if (this.#waitingBytes > limits.kafkaWaitingBytesMax) {
      throw new KymoError('overloaded', { detail: 'Kafka takes records more slowly than they come.', retryAfterS: 1 })
    }
    const before = this.#entering
    const entered = before.then(() => this.#encode(records))
    this.#entering = entered.catch(() => undefined)
    const messages = await entered
    await new Promise<void>((resolve, reject) => {
      const bytes = messages.reduce((sum, { value }) => sum + value.length, 0)
      this.#waiting.push({ messages, bytes, resolve, reject })
      this.#waitingBytes += bytes
      if (this.#waitingBytes >= (this.#o.batchBytes ?? limits.kafkaProduceBytesMax)) this.#full.abort()
      this.#running ??= this.#run()
    })
  }

  /** What is written from now on waits until `task` has ended. */
  behind(task: Promise<unknown>): void {
    const before = this.#entering
    this.#entering = Promise.allSettled([before, task])
  }

  /** What waits is written, if the cluster takes it within some seconds. */
  async close(): Promise<void> {
    this.#closed = true
    this.#full.abort()
    const enough = new AbortController()
    const written = this.#entering.then(() => this.#running)
    await Promise.race([written, sleep(this.#o.env, limits.kafkaLeaveMs, enough.signal)])
    enough.abort()
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
    const { env, lingerMs = 0 } = this.#o
    // Calls of one turn go together.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      if (lingerMs > 0) await sleep(env, lingerMs, this.#full.signal)
      if (!this.#closed) this.#full = new AbortController()
      const calls = this.#next()
      try {
        this.#producer ??= this.#cluster.producer()
        await this.#producer.send({ messages: calls.flatMap((call) => call.messages), acks: -1 })
        for (const call of calls) call.resolve()
      } catch (thrown) {
        // Its sequence numbers may be off now, and topics others than they were.
        await this.#drop()
        this.#cluster.forget()
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
    for (const call of this.#waiting) {
      if (count > 0 && bytes + call.bytes > limits.kafkaProduceBytesMax) break
      bytes += call.bytes
      count++
    }
    this.#waitingBytes -= bytes
    return this.#waiting.splice(0, count)
  }

  async #drop(): Promise<void> {
    const producer = this.#producer
    this.#producer = undefined
    await producer?.close().catch(() => undefined)
  }
}
