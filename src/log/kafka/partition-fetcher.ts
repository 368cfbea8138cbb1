import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { sleep } from '../../core/pump.ts'
import type { KafkaClient, KafkaCluster, KafkaTopic } from './cluster.ts'
import { is, unavailable } from './faults.ts'
import type { PartitionQueue } from './partition-queue.ts'

/** How long a fetch waits at the broker for something to come. */
const fetchWaitMs = 500
/** While records keep coming, a fetch waits for so much, as long as its reader gathers anyway: one for each record costs both sides more than the record. */
const gatherBytes = 64 * 1024
const gatherMsMax = 100

export interface PartitionFetcherOptions {
  readonly cluster: KafkaCluster
  readonly env: Env
  readonly topic: KafkaTopic
  /** What is this reader's at the moment. */
  readonly queues: () => Iterable<PartitionQueue>
  /** First or next offset of partitions. */
  readonly ends: (topic: KafkaTopic, partitions: readonly number[], at: 'earliest' | 'latest') => Promise<ReadonlyMap<number, bigint>>
  /** How long the reader would gather after the first record, as of now. */
  readonly gatherMs: () => number
  /** Something came, or failed, or a broker may be asked again. */
  readonly wake: () => void
}

/** Fills the queues of a reader: one fetch at each broker at a time, for all queues there that have room. */
export class PartitionFetcher {
  /** Why nothing more can be read: records are gone that the reader has not had, or the topic is another one (`moved`). */
  failed: KymoError | undefined
  moved = false
  readonly #o: PartitionFetcherOptions
  readonly #client: KafkaClient
  readonly #asked = new Set<number>()
  /** Since when a partition has ended before where it was read to. */
  readonly #beyondMs = new Map<number, number>()
  /** Brokers whose last answer had records. */
  readonly #flowing = new Set<number>()
  #failures = 0
  #stale = false
  #closed = false

  constructor(o: PartitionFetcherOptions) {
    this.#o = o
    this.#client = o.cluster.fetcher()
    this.#client.topics.track(o.topic.name)
  }

  /** Sees to it that each broker is asked for what there is room for. Throws what the cluster answers when it is asked where partitions are. */
  async fill(): Promise<void> {
    const hungry = [...this.#o.queues()].filter((queue) => queue.bytes < limits.kafkaReadAheadBytes)
    if (hungry.length === 0) return
    const leaders = await this.#o.cluster.leaders(this.#o.topic, this.#stale)
    this.#stale = false
    const byNode = Map.groupBy(hungry, (queue) => leaders[queue.partition] ?? -1)
    for (const [node, some] of byNode) {
      // Without a leader at the moment: it is looked up again.
      if (node < 0) this.#stale = true
      if (node < 0 || this.#asked.has(node)) continue
      this.#asked.add(node)
      void this.#ask(node, some)
        .catch((thrown: unknown) => this.#fault(thrown))
        .finally(() => (this.#asked.delete(node), this.#o.wake()))
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#client.close(true).catch(() => undefined)
  }

  async #ask(node: number, queues: readonly PartitionQueue[]): Promise<void> {
    const partitions = queues.map(({ partition, fetchFrom }) => ({
      partition,
      fetchOffset: fetchFrom,
      partitionMaxBytes: limits.kafkaReadAheadBytes,
      currentLeaderEpoch: -1,
      lastFetchedEpoch: -1,
    }))
    const topics = [{ topicId: this.#o.topic.id, partitions }]
    const gatherMs = this.#flowing.has(node) ? Math.min(gatherMsMax, Math.floor(this.#o.gatherMs())) : 0
    const wait = gatherMs > 0 ? { minBytes: gatherBytes, maxWaitTime: gatherMs } : { maxWaitTime: fetchWaitMs }
    const answer = await this.#client.fetch({ node, topics, ...wait })
    this.#failures = 0
    this.#flowing.delete(node)
    const current = new Set(this.#o.queues())
    for (const { partitionIndex, records } of answer.responses.flatMap((one) => one.partitions)) {
      const queue = queues.find((one) => one.partition === partitionIndex)
      if ((records?.length ?? 0) > 0) this.#flowing.add(node)
      if (queue !== undefined && current.has(queue)) queue.add(records ?? [])
    }
  }

  /** True: records are gone for good that the reader has not had. After a change of leaders a broker may say so for a while of what it is about to have. */
  async #gone(): Promise<boolean> {
    const { env, topic, ends, queues } = this.#o
    const asked = [...queues()]
    try {
      const partitions = asked.map(({ partition }) => partition)
      const [first, end] = await Promise.all([ends(topic, partitions, 'earliest'), ends(topic, partitions, 'latest')])
      const now = env.clock.monotonicMs()
      for (const { partition, fetchFrom } of asked) {
        const [earliest, latest] = [first.get(partition) ?? fetchFrom, end.get(partition) ?? fetchFrom]
        if (fetchFrom <= latest) this.#beyondMs.delete(partition)
        else if (!this.#beyondMs.has(partition)) this.#beyondMs.set(partition, now)
        const lost = now - (this.#beyondMs.get(partition) ?? now) > limits.kafkaShortLogMs
        if (fetchFrom >= earliest && !lost) continue
        const what = lost
          ? `Kafka has lost records of ${topic.name} that it had acknowledged: partition ${partition} ends at ${latest}, and was read to ${fetchFrom}.`
          : `Kafka no longer has what is to be read of ${topic.name} next: partition ${partition} begins at ${earliest}, and was read to ${fetchFrom}. ` +
            'Its retention has passed the reader.'
        this.failed = new KymoError('log_corrupt', { detail: what, facts: { topic: topic.name, partition, offset: String(fetchFrom) } })
        return true
      }
    } catch {
      // It is asked again after the next try.
    }
    return false
  }

  async #fault(thrown: unknown): Promise<void> {
    if (this.#closed) return
    const { env, topic } = this.#o
    if (is(thrown, 'OFFSET_OUT_OF_RANGE') && (await this.#gone())) return
    if (is(thrown, 'UNKNOWN_TOPIC_ID', 'INCONSISTENT_TOPIC_ID')) this.moved = true
    const error = unavailable(thrown)
    env.logger.warn(error.message, { code: error.code, topic: topic.name })
    this.#stale = true
    const { kafkaRetryFirstMs: first, kafkaRetryMaxMs: max } = limits
    await sleep(env, Math.min(max, first * 2 ** Math.min(this.#failures++, 10)) * (0.5 + env.random.next() / 2))
  }
}
