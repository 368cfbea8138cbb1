import type { Config } from '../core/config.ts'
import type { Env } from '../core/env.ts'
import type { KymoError } from '../core/errors.ts'
import { asKymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { Metrics } from '../core/metrics.ts'
import type { Sink, StreamLog } from '../core/ports.ts'
import { pump } from '../core/pump.ts'
import { Topic, type LogRecord } from '../core/record.ts'
import type { KafkaDocuments } from '../log/kafka/documents.ts'
import { decodeDeadLetter } from '../wire/dead-letter.ts'
import { deadLetterDocument, readingDocuments, type Document } from '../wire/reading-documents.ts'

/** Consumer groups that say how far each is published. */
const groups = { readings: 'kafka-readings', deadLetters: 'kafka-dead-letters' } as const
/** Nobody waits for it, and company makes it cheaper. */
const lingerMs = 100

export interface KafkaPublishOptions {
  readonly config: Pick<Config, 'kafka' | 'log'>
  readonly log: StreamLog
  readonly env: Env
  readonly metrics: Metrics
  /** The log can no longer be read. */
  readonly onFatal: (error: KymoError) => void
}

/** The groups that publish, of all that could: their topic of the log, and whether settings ask for them. */
export function publishGroups({
  kafka,
}: Pick<Config, 'kafka'>): readonly { readonly topic: string; readonly group: string; readonly wanted: boolean }[] {
  return [
    { topic: Topic.telemetry, group: groups.readings, wanted: kafka.publish.topic !== '' },
    { topic: Topic.deadLetters, group: groups.deadLetters, wanted: kafka.dead_letters.topic !== '' },
  ]
}

/**
 * Writes readings and dead letters as JSON documents into topics of a Kafka cluster, for consumers that know nothing of Kymo: each at least once, in the
 * order of its device. Throws `config_invalid` when no cluster is named. While the cluster is away it is tried for ever; the log keeps what is not written.
 */
export async function startKafkaPublish(o: KafkaPublishOptions): Promise<{ stop(): Promise<void> }> {
  const { kafka } = o.config
  const { openKafkaDocuments } = await import('../log/kafka/documents.ts')
  const { kafkaDocumentOptions } = await import('../log/kafka/configured.ts')
  const documents = openKafkaDocuments(kafkaDocumentOptions(o.env, o.config, 'kafka.publish.url'))
  const abort = new AbortController()
  const running = [
    ...(kafka.publish.topic === ''
      ? []
      : [follow(o, Topic.telemetry, groups.readings, sink(o, documents, kafka.publish.topic, readings), abort.signal)]),
    ...(kafka.dead_letters.topic === ''
      ? []
      : [follow(o, Topic.deadLetters, groups.deadLetters, sink(o, documents, kafka.dead_letters.topic, letters), abort.signal)]),
  ]
  return {
    async stop() {
      abort.abort()
      await Promise.allSettled(running)
      await documents.close()
    },
  }
}

function* readings(record: LogRecord): Generator<Document, void, void> {
  if (record.kind === 'readings') yield* readingDocuments(record.batch)
}

function* letters(record: LogRecord): Generator<Document, void, void> {
  if (record.kind === 'dead-letter') yield deadLetterDocument(decodeDeadLetter(record.body))
}

function sink(o: KafkaPublishOptions, documents: KafkaDocuments, topic: string, of: (record: LogRecord) => Iterable<Document>): Sink {
  const published = o.metrics.counter('kymo_kafka_published_total', 'Documents written to topics of the outside Kafka.', { topic })
  return {
    async write(records) {
      let part: Document[] = []
      let bytes = 0
      const flush = async (): Promise<void> => {
        if (part.length > 0) await documents.publish(topic, part)
        published.value += part.length
        part = []
        bytes = 0
      }
      for (const record of records) {
        for (const document of of(record)) {
          part.push(document)
          bytes += document.value.length
          if (bytes >= limits.kafkaPublishBytesMax) await flush()
        }
      }
      await flush()
    },
    close: () => Promise.resolve(),
  }
}

async function follow(o: KafkaPublishOptions, topic: string, group: string, into: Sink, signal: AbortSignal): Promise<void> {
  const { env, log } = o
  const source = log.reader({ topic, group, start: 'committed', batch: { lingerMs, bytesMax: limits.mainDeliveryBytesMax } })
  try {
    const onRetry = (error: KymoError, attempt: number): void => {
      if (attempt === 1) env.logger.warn('publishing to Kafka waits and tries again', { code: error.code, error: error.message })
    }
    await pump(source, into, signal, { env, name: group, onRetry })
  } catch (thrown) {
    if (!signal.aborted) o.onFatal(asKymoError(thrown))
  } finally {
    await source.close()
  }
}
