import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { ReaderOptions, Source } from '../../core/ports.ts'
import { sleep } from '../../core/pump.ts'
import type { Delivery } from '../../core/record.ts'
import { ReaderKeys } from '../../wire/batch/decode.ts'
import { is, unavailable, type KafkaClient, type KafkaCluster, type KafkaTopic } from './cluster.ts'
import type { GroupOffsets } from './group-offsets.ts'
import { recordOf } from './messages.ts'
import { PartitionQueue } from './partition-queue.ts'

export interface ReaderSide {
  readonly cluster: KafkaCluster
  readonly env: Env
  group(topic: KafkaTopic, name: string): GroupOffsets
  /** First and next offset of each partition. */
  ends(topic: KafkaTopic, at: 'earliest' | 'latest'): Promise<ReadonlyMap<number, bigint>>
}

/** How long a fetch waits at the broker for something to come. */
const fetchWaitMs = 500
/** How often the assignment of a group is looked at. */
const assignmentEveryMs = 100
const retryMs = { first: 100, max: 5_000 }

/**
 * Reads a topic: all of its partitions, or those that its group gives it. A delivery is of one partition; deliveries of several partitions take turns.
 * Of a group, the place that is kept is the first offset that is not acknowledged; what moves to another member comes again there from that place on.
 */
export class KafkaReader implements Source {
  readonly #side: ReaderSide
  readonly #options: ReaderOptions
  readonly #keys = new ReaderKeys()
  readonly #end: Promise<ReadonlyMap<number, bigint>> | undefined
  readonly #bytesMax: number
  #queues = new Map<number, PartitionQueue>()
  /** Where a reader without a group goes on, by partition. */
  #positions = new Map<number, bigint>()
  readonly #fetching = new Set<number>()
  #failed: KymoError | undefined
  #failures = 0
  #staleLeaders = false
  #open = false
  #closed = false
  #nacked = false
  #started = false
  #turn = -1
  #wake: () => void = () => undefined

  /** `end`: of the topic when the reader was asked for, for one that starts at the latest. */
  constructor(side: ReaderSide, options: ReaderOptions, end: Promise<ReadonlyMap<number, bigint>> | undefined) {
    this.#side = side
    this.#end = end
    end?.catch(() => undefined)
    this.#options = options
    this.#bytesMax = Math.max(1, options.batch?.bytesMax ?? limits.deliveryBytesMax)
  }

  open(signal: AbortSignal): AsyncIterable<Delivery> {
    if (this.#open) throw new KymoError('bug', { detail: 'A reader of the log is open already; it serves one consumer at a time.' })
    if (this.#closed) throw new KymoError('shutting_down')
    this.#open = true
    this.#nacked = false
    this.#failed = undefined
    return this.#run(signal)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#wake()
    await Promise.resolve()
  }

  async *#run(signal: AbortSignal): AsyncGenerator<Delivery, void, void> {
    const { cluster, env } = this.#side
    const abort = (): void => this.#wake()
    signal.addEventListener('abort', abort)
    let fetcher: KafkaClient | undefined
    let member: KafkaClient | undefined
    let offsets: GroupOffsets | undefined
    try {
      const topic = await this.#retried(signal, () => cluster.topic(this.#options.topic))
      if (topic === undefined) return
      fetcher = cluster.fetcher()
      fetcher.topics.track(topic.name)
      const { group } = this.#options
      if (group !== undefined) {
        offsets = this.#side.group(topic, group)
        await offsets.settled()
        if (!(await this.#placed(topic, offsets, signal))) return
        member = await this.#retried(signal, () => cluster.member(group, topic))
        if (member === undefined) return
        offsets.member = member
      } else if ((await this.#retried(signal, async () => (await this.#all(topic), true))) === undefined) return
      let lookMs = Number.NEGATIVE_INFINITY
      while (!this.#over(signal)) {
        if (member !== undefined && offsets !== undefined && env.clock.monotonicMs() - lookMs >= assignmentEveryMs) {
          lookMs = env.clock.monotonicMs()
          await this.#assigned(topic, member, offsets, signal)
        }
        await this.#fetch(topic, fetcher, signal)
        if (this.#failed !== undefined) throw this.#failed
        const queue = this.#ready()
        if (queue === undefined) {
          await this.#sleep(signal, assignmentEveryMs)
          continue
        }
        await this.#gather(queue, topic, fetcher, signal)
        if (this.#over(signal) || this.#queues.get(queue.partition) !== queue) continue
        yield this.#delivery(queue, topic, offsets)
      }
    } finally {
      signal.removeEventListener('abort', abort)
      for (const [partition, queue] of this.#queues) this.#positions.set(partition, queue.position)
      this.#queues = new Map()
      await offsets?.settled()
      if (offsets !== undefined) offsets.member = undefined
      await member?.close(true).catch(() => undefined)
      await fetcher?.close(true).catch(() => undefined)
      this.#open = false
    }
  }

  #over(signal: AbortSignal): boolean {
    return signal.aborted || this.#closed || this.#nacked
  }

  /** Tries for ever while the cluster does not answer; undefined: no longer wanted. */
  async #retried<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T | undefined> {
    for (let waitMs = retryMs.first; !this.#over(signal); waitMs = Math.min(retryMs.max, waitMs * 2)) {
      try {
        return await task()
      } catch (thrown) {
        const error = unavailable(thrown)
        if (error.kind !== 'unavailable') throw error
        this.#side.env.logger.warn(error.message, { code: error.code, topic: this.#options.topic })
        await sleep(this.#side.env, waitMs * (0.5 + this.#side.env.random.next() / 2), signal)
      }
    }
    return undefined
  }

  /** Where a group stands is written down before the first record is read: another start than `committed` holds once. */
  async #placed(topic: KafkaTopic, offsets: GroupOffsets, signal: AbortSignal): Promise<boolean> {
    const { start } = this.#options
    if (this.#started || start === 'committed') return true
    const from = await this.#retried(signal, () => this.#start(topic))
    if (from === undefined) return false
    for (const [partition, offset] of from) offsets.commit(partition, offset)
    await offsets.settled()
    return (this.#started = true)
  }

  async #start(topic: KafkaTopic): Promise<ReadonlyMap<number, bigint>> {
    const { start } = this.#options
    if (typeof start === 'object') return new Map(Array.from({ length: topic.partitions }, (_, partition) => [partition, start.offset]))
    if (start !== 'latest') return this.#side.ends(topic, 'earliest')
    // One that could not be asked for then is asked for now.
    return (await this.#end?.catch(() => undefined)) ?? this.#side.ends(topic, 'latest')
  }

  async #all(topic: KafkaTopic): Promise<void> {
    if (!this.#started) this.#positions = new Map(await this.#start(topic))
    this.#started = true
    this.#queues = new Map([...this.#positions].map(([partition, from]) => [partition, new PartitionQueue(partition, from)]))
  }

  /** Follows the group: partitions that went are dropped with what was fetched of them, new ones begin where the group stands. */
  async #assigned(topic: KafkaTopic, member: KafkaClient, offsets: GroupOffsets, signal: AbortSignal): Promise<void> {
    const mine = new Set(member.assignments?.find((one) => one.topic === topic.name)?.partitions)
    for (const partition of this.#queues.keys()) if (!mine.has(partition)) this.#queues.delete(partition)
    const added = [...mine].filter((partition) => !this.#queues.has(partition))
    if (added.length === 0) return
    const places = await this.#retried(signal, async () => ({
      committed: await offsets.committed(),
      earliest: await this.#side.ends(topic, 'earliest'),
    }))
    if (places === undefined) return
    for (const partition of added) {
      const from = places.committed.get(partition) ?? places.earliest.get(partition) ?? 0n
      this.#queues.set(partition, new PartitionQueue(partition, from))
    }
  }

  /** Sees to it that each broker is asked for what there is room for. */
  async #fetch(topic: KafkaTopic, fetcher: KafkaClient, signal: AbortSignal): Promise<void> {
    const hungry = [...this.#queues.values()].filter((queue) => queue.bytes < limits.kafkaReadAheadBytes)
    if (hungry.length === 0) return
    const leaders = await this.#retried(signal, () => this.#side.cluster.leaders(topic, this.#staleLeaders))
    if (leaders === undefined) return
    this.#staleLeaders = false
    const byNode = Map.groupBy(hungry, (queue) => leaders[queue.partition]?.node ?? -1)
    for (const [node, queues] of byNode) {
      if (node < 0 || this.#fetching.has(node)) continue
      this.#fetching.add(node)
      void this.#ask(topic, fetcher, node, queues)
        .catch((thrown: unknown) => this.#failedFetch(thrown))
        .finally(() => (this.#fetching.delete(node), this.#wake()))
    }
  }

  async #ask(topic: KafkaTopic, fetcher: KafkaClient, node: number, queues: readonly PartitionQueue[]): Promise<void> {
    const partitions = queues.map(({ partition, fetchFrom }) => ({
      partition,
      fetchOffset: fetchFrom,
      partitionMaxBytes: limits.kafkaReadAheadBytes,
      currentLeaderEpoch: -1,
      lastFetchedEpoch: -1,
    }))
    const answer = await fetcher.fetch({ node, topics: [{ topicId: topic.id, partitions }], maxWaitTime: fetchWaitMs })
    this.#failures = 0
    for (const { partitionIndex, records } of answer.responses.flatMap((one) => one.partitions)) {
      const queue = queues.find((one) => one.partition === partitionIndex)
      // One that was taken away meanwhile is not this reader's any more.
      if (queue !== undefined && this.#queues.get(partitionIndex) === queue) queue.add(records ?? [])
    }
  }

  async #failedFetch(thrown: unknown): Promise<void> {
    if (!this.#open) return
    if (is(thrown, 'OFFSET_OUT_OF_RANGE')) {
      this.#failed = new KymoError('log_corrupt', {
        detail: `${this.#options.topic}: Kafka no longer has the records where this reader stands; its retention has passed the group ${this.#options.group ?? '(none)'}.`,
        facts: { topic: this.#options.topic },
      })
      return
    }
    const error = unavailable(thrown)
    this.#side.env.logger.warn(error.message, { code: error.code, topic: this.#options.topic })
    this.#staleLeaders = true
    await sleep(this.#side.env, Math.min(retryMs.max, retryMs.first * 2 ** Math.min(this.#failures++, 10)))
  }

  /** The next partition, in turns, that has something. */
  #ready(): PartitionQueue | undefined {
    const full = [...this.#queues.values()].filter((queue) => !queue.empty).toSorted((a, b) => a.partition - b.partition)
    const next = full.find((queue) => queue.partition > this.#turn) ?? full[0]
    if (next !== undefined) this.#turn = next.partition
    return next
  }

  async #gather(queue: PartitionQueue, topic: KafkaTopic, fetcher: KafkaClient, signal: AbortSignal): Promise<void> {
    const { lingerMs = 0 } = this.#options.batch ?? {}
    const until = this.#side.env.clock.monotonicMs() + (typeof lingerMs === 'function' ? lingerMs() : lingerMs)
    while (queue.bytes < this.#bytesMax && !this.#over(signal) && this.#failed === undefined) {
      const left = until - this.#side.env.clock.monotonicMs()
      if (left <= 0) return
      await this.#fetch(topic, fetcher, signal)
      await this.#sleep(signal, Math.min(left, assignmentEveryMs))
    }
  }

  #delivery(queue: PartitionQueue, topic: KafkaTopic, offsets: GroupOffsets | undefined): Delivery {
    const { records, first, next } = queue.take(this.#bytesMax)
    const { partition } = queue
    let settled = false
    const once = (): void => {
      if (settled) throw new KymoError('bug', { detail: 'A delivery was acknowledged twice.' })
      settled = true
    }
    return {
      records: records.map(({ offset, record }) =>
        recordOf(record, this.#options.topic, offset, `${topic.name}, partition ${partition}, offset ${offset}`, this.#keys),
      ),
      span: { log: topic.id, topic: this.#options.topic, partition, first, next },
      ack: () => {
        once()
        const place = queue.acknowledge(first)
        if (place !== undefined) offsets?.commit(partition, place)
      },
      nack: () => {
        once()
        this.#nacked = true
        this.#wake()
      },
    }
  }

  async #sleep(signal: AbortSignal, ms: number): Promise<void> {
    if (this.#over(signal)) return
    await new Promise<void>((resolve) => {
      const timer = this.#side.env.clock.after(ms, resolve)
      this.#wake = () => {
        timer.cancel()
        resolve()
      }
    })
    this.#wake = () => undefined
  }
}
