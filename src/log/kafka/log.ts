import type { PartitionLag, ReaderOptions, Source, StreamLog, TopicPlaces } from '../../core/ports.ts'
import type { LogRecord, Span } from '../../core/record.ts'
import type { ClusterOptions, KafkaClient, KafkaTopic, TopicSetup } from './cluster.ts'
import { unavailable } from './faults.ts'
import { receivedUsOf } from './messages.ts'
import { PartitionQueue } from './partition-queue.ts'
import { ReaderSide } from './reader-side.ts'
import { allOf, KafkaReader } from './reader.ts'
import { RecordDecoder } from './record-decoder.ts'
import { KafkaWriter } from './writer.ts'

export interface KafkaLogOptions extends ClusterOptions {
  /** How long a produce request waits for company; absent: not at all. */
  readonly lingerMs?: number
  /** At so many bytes of values it goes at once. */
  readonly batchBytes?: number
  /** The group whose readers put what they cannot read among the dead letters; all others pass it over. Absent: a reader ends with `log_format`. */
  readonly unusableGroup?: string
}

export interface KafkaStreamLog extends StreamLog {
  /** One round trip to the cluster: throws `log_unavailable` or `log_denied`. */
  probe(): Promise<void>
  /** How a topic is set up; undefined: it is not there, and is not made. Throws `log_unavailable` or `log_denied`. */
  inspect(topic: string): Promise<TopicSetup | undefined>
}

/** The log on Kafka 3.7 or later (KIP-848 groups from 4.0). Connects when it is first used. Topics are made on first use. */
export function openKafkaLog(o: KafkaLogOptions): KafkaStreamLog {
  return new KafkaLog(o)
}

class KafkaLog implements KafkaStreamLog {
  readonly #side: ReaderSide
  readonly #writer: KafkaWriter
  readonly #decoder: RecordDecoder
  readonly #readers = new Set<Source>()
  #peeker: KafkaClient | undefined

  constructor(o: KafkaLogOptions) {
    this.#side = new ReaderSide(o)
    this.#writer = new KafkaWriter(this.#side.cluster, o)
    this.#decoder = new RecordDecoder(o, (letter, signal) => this.#writer.write([letter], signal))
  }

  write(records: readonly LogRecord[], _span: Span | undefined, signal: AbortSignal): Promise<void> {
    return this.#writer.write(records, signal)
  }

  reader(options: ReaderOptions): Source {
    // The end of now: what this process writes from here on comes behind it.
    const end =
      options.start === 'latest' ? this.#side.cluster.topic(options.topic).then((topic) => this.#side.ends(topic, allOf(topic), 'latest')) : undefined
    if (end !== undefined) this.#writer.behind(end)
    const reader = new KafkaReader(this.#side, options, this.#decoder.of(options), end)
    const source: Source = {
      open: (signal) => reader.open(signal),
      close: async () => {
        this.#readers.delete(source)
        await reader.close()
      },
    }
    this.#readers.add(source)
    return source
  }

  async lag(topicName: string, group: string): Promise<readonly PartitionLag[]> {
    try {
      const topic = await this.#side.cluster.topic(topicName)
      const all = allOf(topic)
      const [first, end] = await Promise.all([this.#side.ends(topic, all, 'earliest'), this.#side.ends(topic, all, 'latest')])
      const committed = await this.#side.group(topic, group).committed(all)
      const sizes = await this.#sizes(topic)
      return await Promise.all(
        all.map(async (partition) => {
          const places = { earliest: first.get(partition) ?? 0n, end: end.get(partition) ?? 0n }
          const at = committed.get(partition) ?? places.earliest
          const behind = Number(places.end - at)
          const kept = Number(places.end - places.earliest)
          const bytes = behind <= 0 ? 0 : Math.ceil(((sizes.get(partition) ?? kept) * behind) / Math.max(1, kept))
          const oldestUs = behind <= 0 ? undefined : await this.#receivedUs(topicName, partition, at < places.earliest ? places.earliest : at)
          return { partition, ...places, committed: at, bytes, ...(oldestUs === undefined ? {} : { oldestUs }) }
        }),
      )
    } catch (thrown) {
      throw unavailable(thrown)
    }
  }

  async places(topicName: string): Promise<TopicPlaces> {
    try {
      const topic = await this.#side.cluster.topic(topicName)
      const all = allOf(topic)
      const [first, end, sizes] = await Promise.all([
        this.#side.ends(topic, all, 'earliest'),
        this.#side.ends(topic, all, 'latest'),
        this.#sizes(topic),
      ])
      const partitions = all.map((partition) => ({
        partition,
        earliest: first.get(partition) ?? 0n,
        end: end.get(partition) ?? 0n,
      }))
      return { log: topic.id, partitions, bytes: [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0) }
    } catch (thrown) {
      throw unavailable(thrown)
    }
  }

  async close(): Promise<void> {
    await this.#writer.close()
    await this.#peeker?.close(true).catch(() => undefined)
    for (const reader of this.#readers) await reader.close()
    await this.#side.close()
  }

  inspect(topic: string): Promise<TopicSetup | undefined> {
    return this.#side.cluster.inspect(topic)
  }

  probe(): Promise<void> {
    return this.#side.cluster.probe()
  }

  /** Bytes of each partition on its leader's disk. */
  async #sizes(topic: KafkaTopic): Promise<ReadonlyMap<number, number>> {
    const dirs = await this.#side.cluster.admin.describeLogDirs({ topics: [{ name: topic.name, partitions: allOf(topic) }] })
    const found = dirs.flatMap(({ results }) => results.flatMap(({ topics }) => topics.flatMap((one) => one.partitions)))
    const sizes = new Map<number, number>()
    for (const { partitionIndex, partitionSize } of found) sizes.set(partitionIndex, Math.max(sizes.get(partitionIndex) ?? 0, Number(partitionSize)))
    return sizes
  }

  /** When the record at `offset` was received. */
  async #receivedUs(topicName: string, partition: number, offset: bigint): Promise<number | undefined> {
    const topic = await this.#side.cluster.topic(topicName)
    this.#peeker ??= this.#side.cluster.fetcher()
    this.#peeker.topics.track(topic.name)
    const node = (await this.#side.cluster.leaders(topic, false))[partition]
    if (node === undefined) return undefined
    const wanted = { partition, fetchOffset: offset, partitionMaxBytes: 1, currentLeaderEpoch: -1, lastFetchedEpoch: -1 }
    const answer = await this.#peeker.fetch({ node, topics: [{ topicId: topic.id, partitions: [wanted] }], maxWaitTime: 100 })
    const queue = new PartitionQueue(partition, offset)
    for (const one of answer.responses.flatMap(({ partitions }) => partitions)) queue.add(one.records ?? [])
    const [first] = queue.empty ? [] : queue.take(1).records
    return first === undefined ? undefined : receivedUsOf(first.record)
  }
}
