import { createHash } from 'node:crypto'
import type { Env } from '../../../core/env.ts'
import { asKymoError, KymoError } from '../../../core/errors.ts'
import type { IngestGate, MessageContext } from '../../../core/gate.ts'
import { limits } from '../../../core/limits.ts'
import type { Cell, Metrics } from '../../../core/metrics.ts'
import { sleep } from '../../../core/pump.ts'
import type { KafkaDocument, KafkaDocuments } from '../../../log/kafka/documents.ts'
import { isArray, MessageArray } from '../../../wire/message-array.ts'

export interface KafkaPullOptions {
  readonly documents: KafkaDocuments
  /** Its addresses, for messages and dead letters; never a secret. */
  readonly broker: string
  readonly topics: readonly string[]
  readonly group: string
  readonly gate: IngestGate
  readonly env: Env
  readonly metrics: Metrics
}

export interface KafkaPull {
  /** A sentence: the cluster, and what hinders. */
  status(): { readonly connected: boolean; readonly detail: string }
  /** What the cluster still has stays there. */
  stopReading(): void
  /** Waits at most `drainMs` until what was taken is durable and said to the group. */
  close(drainMs: number): Promise<void>
}

/** How often the cluster is asked whether it is there, and how soon what failed is tried again. */
const probeMs = 10_000
const againMs = 5_000
/** A full gate tells when it takes more; it is asked so often anyway. */
const gateMs = 100

/**
 * Takes JSON messages from topics of a Kafka cluster, as a member of a group: what is committed there is durable here. A message without a time of its own
 * has that which Kafka gave it, so that one that comes again is the same reading. Resolves at once; the cluster is tried for ever in the background.
 */
export function openKafkaPull(o: KafkaPullOptions): KafkaPull {
  return new Pull(o)
}

class Pull implements KafkaPull {
  readonly #o: KafkaPullOptions
  readonly #stop = new AbortController()
  readonly #running: readonly Promise<void>[]
  readonly #taken: Cell
  readonly #dropped: { readonly published: Cell; readonly empty: Cell }
  readonly #connected: Cell
  /** What hinders each part; a part that is not named is well. */
  readonly #faults = new Map<string, string>([['cluster', 'connecting']])
  #unsettled = 0

  constructor(o: KafkaPullOptions) {
    this.#o = o
    const { metrics } = o
    this.#taken = metrics.counter('kymo_kafka_pull_messages_total', 'Messages of the outside Kafka that were taken.')
    const dropped = (reason: string): Cell =>
      metrics.counter(
        'kymo_kafka_pull_dropped_total',
        'Messages of the outside Kafka that carry nothing new: Kymo published them, or they are empty.',
        {
          reason,
        },
      )
    this.#dropped = { published: dropped('published'), empty: dropped('empty') }
    this.#connected = metrics.gauge('kymo_kafka_pull_connected', '1 while the outside Kafka answers, else 0.')
    this.#running = [this.#probe(), ...o.topics.map((topic) => this.#follow(topic))]
  }

  status(): ReturnType<KafkaPull['status']> {
    const { broker, topics } = this.#o
    const faults = [...this.#faults.values()]
    return { connected: faults.length === 0, detail: `${broker}, ${topics.join(', ')}${faults.length === 0 ? '' : `: ${faults.join('; ')}`}` }
  }

  stopReading(): void {
    this.#stop.abort()
  }

  async close(drainMs: number): Promise<void> {
    const until = this.#o.env.clock.monotonicMs() + drainMs
    this.stopReading()
    await Promise.all(this.#running)
    while (this.#unsettled > 0 && this.#o.env.clock.monotonicMs() < until) await sleep(this.#o.env, 20)
    await this.#o.documents.close()
    this.#connected.value = 0
  }

  async #probe(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      try {
        await this.#o.documents.probe()
        this.#fault('cluster', undefined)
      } catch (thrown) {
        this.#fault('cluster', asKymoError(thrown))
      }
      this.#connected.value = this.status().connected ? 1 : 0
      await sleep(this.#o.env, probeMs, signal)
    }
  }

  async #follow(topic: string): Promise<void> {
    const { documents, group, env } = this.#o
    const { signal } = this.#stop
    const reader = documents.reader(topic, group)
    while (!signal.aborted) {
      try {
        for await (const delivery of reader.open(signal)) {
          this.#fault(topic, undefined)
          const ticket = await this.#take(topic, delivery.span.log, delivery.span.partition, delivery.records)
          if (ticket === undefined) return
          this.#unsettled++
          // In the order of the log. What never becomes durable is not acknowledged, and comes again.
          void this.#o.gate
            .whenDurable(ticket)
            .then(() => delivery.ack())
            .catch(() => undefined)
            .finally(() => this.#unsettled--)
        }
      } catch (thrown) {
        this.#fault(topic, asKymoError(thrown))
        await sleep(env, againMs, signal)
      }
    }
  }

  /** The ticket that covers all of them; undefined: it is to stop. */
  async #take(topic: string, life: string, partition: number, records: readonly KafkaDocument[]): Promise<number | undefined> {
    let last = 0
    for (const document of records) {
      const { value, published } = document
      if (published || value === null || value.length === 0) {
        this.#dropped[published ? 'published' : 'empty'].value++
        continue
      }
      const ticket = await this.#offer(this.#context(topic, life, partition, document), value)
      if (ticket === undefined) return undefined
      this.#taken.value++
      if (ticket > last) last = ticket
    }
    return last
  }

  async #offer(context: MessageContext, value: Uint8Array): Promise<number | undefined> {
    const { gate } = this.#o
    if (value.length > limits.httpBodyBytesMax) {
      const error = new KymoError('body_too_large', { detail: `The message has ${value.length} bytes; ${limits.httpBodyBytesMax} are the most.` })
      return this.#until(() => gate.deadLetter(context, error, value.subarray(0, limits.deadLetterBodyBytesMax), value.length))
    }
    if (!isArray(value, 0, value.length)) return this.#until(() => gate.submit(context, value, 0, value.length))
    const array = new MessageArray(value, 0, value.length, limits.batchItemsMax)
    return this.#until(() => {
      array.offer(gate, context, limits.mqttArrayItemsPerTurn)
      return array.done ? array.ticket : 0
    })
  }

  /** Tries until the gate has taken it; undefined: it is to stop. */
  async #until(offer: () => number): Promise<number | undefined> {
    const { gate, env } = this.#o
    for (;;) {
      const ticket = offer()
      if (ticket > 0) return ticket
      if (this.#stop.signal.aborted) return undefined
      const tried = new AbortController()
      const forget = gate.onDurable(() => tried.abort())
      await sleep(env, gate.overloaded ? gateMs : 1, AbortSignal.any([tried.signal, this.#stop.signal]))
      forget()
    }
  }

  #context(topic: string, life: string, partition: number, { offset, timestampMs }: KafkaDocument): MessageContext {
    // Messages of one millisecond have microseconds of their own; the identity is the place in the topic.
    const arrivedUs = timestampMs > 0 ? timestampMs * 1000 + Number(offset % 1000n) : undefined
    return {
      transport: 'kafka-pull',
      tenant: 'default',
      client: this.#o.broker,
      topic,
      shape: 'any',
      packetId: 0,
      dup: false,
      item: 0,
      idempotencyKey: createHash('sha256').update(`${life} ${partition} ${offset}`).digest('base64url'),
      ...(arrivedUs === undefined ? {} : { arrivedUs }),
    }
  }

  #fault(part: string, error: KymoError | undefined): void {
    const { env, broker } = this.#o
    const before = this.#faults.get(part)
    if (error === undefined) {
      this.#faults.delete(part)
      return
    }
    this.#faults.set(part, error.message)
    if (before !== error.message) env.logger.error(`taking messages of ${broker}: ${error.message}`, { code: error.code })
  }
}
