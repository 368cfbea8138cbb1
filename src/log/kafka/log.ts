import type { Env } from '../../core/env.ts'
import type { PartitionLag, ReaderOptions, Source, StreamLog } from '../../core/ports.ts'
import type { LogRecord, Span } from '../../core/record.ts'
import { KafkaCluster, unavailable, type ClusterOptions, type KafkaTopic } from './cluster.ts'
import { GroupOffsets } from './group-offsets.ts'
import { receivedUsOf } from './messages.ts'
import { PartitionQueue } from './partition-queue.ts'
import { KafkaReader, type ReaderSide } from './reader.ts'
import { KafkaWriter } from './writer.ts'

export type KafkaLogOptions = ClusterOptions

const earliest = -2n
const latest = -1n

/** The log on Kafka 3.7 or later (KIP-848 groups from 4.0). Connects when it is first used. Topics are made on first use. */
export function openKafkaLog(o: KafkaLogOptions): StreamLog {
  return new KafkaLog(o)
}

class KafkaLog implements StreamLog, ReaderSide {
  readonly env: Env
  readonly cluster: KafkaCluster
  readonly #writer: KafkaWriter
  readonly #groups = new Map<string, GroupOffsets>()
  readonly #readers = new Set<KafkaReader>()
  #peeker: ReturnType<KafkaCluster['fetcher']> | undefined

  constructor(o: KafkaLogOptions) {
    this.env = o.env
    this.cluster = new KafkaCluster(o)
    this.#writer = new KafkaWriter(this.cluster)
  }

  write(records: readonly LogRecord[], _span: Span | undefined, signal: AbortSignal): Promise<void> {
    return this.#writer.write(records, signal)
  }

  reader(options: ReaderOptions): Source {
    // The end of now: what this process writes from here on comes behind it.
    const end = options.start === 'latest' ? this.cluster.topic(options.topic).then((topic) => this.ends(topic, 'latest')) : undefined
    if (end !== undefined) this.#writer.behind(end)
    const reader = new KafkaReader(this, options, end)
    this.#readers.add(reader)
    return reader
  }

  async lag(topicName: string, group: string): Promise<readonly PartitionLag[]> {
    try {
      const topic = await this.cluster.topic(topicName)
      const [first, end] = await Promise.all([this.ends(topic, 'earliest'), this.ends(topic, 'latest')])
      const committed = await this.group(topic, group).committed()
      const sizes = await this.#sizes(topic)
      return await Promise.all(
        Array.from({ length: topic.partitions }, async (_, partition) => {
          const places = { earliest: first.get(partition) ?? 0n, end: end.get(partition) ?? 0n }
          const at = committed.get(partition) ?? places.earliest
          const behind = Number(places.end - at)
          const kept = Number(places.end - places.earliest)
          const bytes = behind <= 0 ? 0 : Math.ceil(((sizes.get(partition) ?? kept) * behind) / Math.max(1, kept))
          const oldestUs = behind <= 0 ? undefined : await this.#receivedUs(topicName, partition, at)
          return { partition, ...places, committed: at, bytes, ...(oldestUs === undefined ? {} : { oldestUs }) }
        }),
      )
    } catch (thrown) {
      throw unavailable(thrown)
    }
  }

  group(topic: KafkaTopic, name: string): GroupOffsets {
    const id = `${topic.name}\n${name}`
    let known = this.#groups.get(id)
    if (known === undefined) this.#groups.set(id, (known = new GroupOffsets(this.cluster, topic, name, this.env.logger)))
    return known
  }

  async ends({ name, partitions }: KafkaTopic, at: 'earliest' | 'latest'): Promise<ReadonlyMap<number, bigint>> {
    const timestamp = at === 'earliest' ? earliest : latest
    const asked = Array.from({ length: partitions }, (_, partitionIndex) => ({ partitionIndex, timestamp }))
    const [answer] = await this.cluster.admin.listOffsets({ topics: [{ name, partitions: asked }] })
    return new Map((answer?.partitions ?? []).map((one) => [one.partitionIndex, one.offset]))
  }

  async close(): Promise<void> {
    await this.#writer.close()
    await this.#peeker?.close(true).catch(() => undefined)
    for (const reader of this.#readers) await reader.close()
    for (const group of this.#groups.values()) await group.settled()
    await this.cluster.close()
  }

  /** Bytes of each partition on its leader's disk. */
  async #sizes({ name, partitions }: KafkaTopic): Promise<ReadonlyMap<number, number>> {
    const dirs = await this.cluster.admin.describeLogDirs({ topics: [{ name, partitions: Array.from({ length: partitions }, (_, i) => i) }] })
    const found = dirs.flatMap(({ results }) => results.flatMap(({ topics }) => topics.flatMap((one) => one.partitions)))
    const sizes = new Map<number, number>()
    for (const { partitionIndex, partitionSize } of found) sizes.set(partitionIndex, Math.max(sizes.get(partitionIndex) ?? 0, Number(partitionSize)))
    return sizes
  }

  /** When the record at `offset` was received. */
  async #receivedUs(topicName: string, partition: number, offset: bigint): Promise<number | undefined> {
    const topic = await this.cluster.topic(topicName)
    this.#peeker ??= this.cluster.fetcher()
    this.#peeker.topics.track(topic.name)
    const leader = (await this.cluster.leaders(topic, false))[partition]
    if (leader === undefined) return undefined
    const wanted = { partition, fetchOffset: offset, partitionMaxBytes: 1, currentLeaderEpoch: -1, lastFetchedEpoch: -1 }
    const answer = await this.#peeker.fetch({ node: leader.node, topics: [{ topicId: topic.id, partitions: [wanted] }], maxWaitTime: 100 })
    const queue = new PartitionQueue(partition, offset)
    for (const one of answer.responses.flatMap(({ partitions }) => partitions)) queue.add(one.records ?? [])
    const [first] = queue.empty ? [] : queue.take(1).records
    return first === undefined ? undefined : receivedUsOf(first.record)
  }
}
