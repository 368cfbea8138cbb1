import { Buffer } from 'node:buffer'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { ClusterOptions, KafkaProducer } from './cluster.ts'
import { is, unavailable } from './faults.ts'
import { partitionOf } from './partitions.ts'
import { ReaderSide } from './reader-side.ts'
import { KafkaReader, type KafkaDelivery } from './reader.ts'

/** A message of a topic that is not in Kymo's own form. */
export interface KafkaDocument {
  readonly offset: bigint
  /** Its time in Kafka, epoch ms. */
  readonly timestampMs: number
  /** Null: a mark of removal (a tombstone). */
  readonly value: Buffer | null
  /** Kymo's own publisher wrote it. */
  readonly published: boolean
}

export interface DocumentReader {
  open(signal: AbortSignal): AsyncIterable<KafkaDelivery<KafkaDocument>>
  close(): Promise<void>
}

/** Topics of others: one document a message. */
export interface KafkaDocuments {
  /** Of a group that starts at the earliest when it is new. The topic is made when it is not there. */
  reader(topic: string, group: string): DocumentReader
  /** Resolves when all in-sync replicas have them (acks=all). In their order; the partition is that of Kafka's clients, by key. Throws `log_unavailable`. */
  publish(topic: string, documents: readonly { readonly key: string; readonly value: Uint8Array }[]): Promise<void>
  probe(): Promise<void>
  close(): Promise<void>
}

/** Marks what Kymo has published, so that it does not take it again from the same topic. */
const publishedHeader = 'kymo-published'

/** `o.prefix` is for groups and topics, and empty for topics that have names of their own. */
export function openKafkaDocuments(o: ClusterOptions): KafkaDocuments {
  return new Documents(o)
}

class Documents implements KafkaDocuments {
  readonly #side: ReaderSide
  readonly #readers = new Set<DocumentReader>()
  readonly #headers = new Map([[Buffer.from(publishedHeader), Buffer.from('1')]])
  #producer: KafkaProducer | undefined

  constructor(o: ClusterOptions) {
    this.#side = new ReaderSide(o)
  }

  reader(topic: string, group: string): DocumentReader {
    const batch = { bytesMax: limits.mainDeliveryBytesMax }
    const reader = new KafkaReader<KafkaDocument>(this.#side, { topic, group, start: 'committed', batch }, ({ offset, timestampMs, record }) => {
      const published = record.headers.some(([name]) => name?.toString() === publishedHeader)
      return { record: { offset, timestampMs, value: record.value, published } }
    })
    this.#readers.add(reader)
    return reader
  }

  async publish(topic: string, documents: readonly { readonly key: string; readonly value: Uint8Array }[]): Promise<void> {
    try {
      const { name, partitions } = await this.#side.cluster.topic(topic)
      this.#producer ??= this.#side.cluster.producer()
      const messages = documents.map(({ key, value }) => ({
        topic: name,
        key: Buffer.from(key),
        value: Buffer.from(value),
        headers: this.#headers,
        partition: partitionOf(key, partitions),
      }))
      await this.#producer.send({ messages, acks: -1 })
    } catch (thrown) {
      await this.#producer?.close().catch(() => undefined)
      this.#producer = undefined
      this.#side.cluster.forget()
      throw is(thrown, 'MESSAGE_TOO_LARGE') ? new KymoError('record_too_large') : unavailable(thrown)
    }
  }

  probe(): Promise<void> {
    return this.#side.cluster.probe()
  }

  async close(): Promise<void> {
    for (const reader of this.#readers) await reader.close()
    await this.#producer?.close().catch(() => undefined)
    await this.#side.close()
  }
}
