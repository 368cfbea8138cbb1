import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { ReaderOptions } from '../../core/ports.ts'
import { sleep } from '../../core/pump.ts'
import type { Span } from '../../core/record.ts'
import type { KafkaTopic } from './cluster.ts'
import { nobody } from './coordinator.ts'
import { is, unavailable } from './faults.ts'
import type { GroupOffsets } from './group-offsets.ts'
import { GroupMember } from './member.ts'
import { PartitionFetcher } from './partition-fetcher.ts'
import { PartitionQueue, type Fetched } from './partition-queue.ts'
import type { ReaderSide } from './reader-side.ts'

/** A run of records on loan, as `Delivery`. */
export interface KafkaDelivery<R> {
  readonly records: readonly R[]
  readonly span: Span
  ack(): void
  nack(cause: KymoError): void
}

export interface Decoded<R> {
  /** Undefined: it is passed over. */
  readonly record: R | undefined
  /** Nothing is committed before this has come to pass. */
  readonly after?: Promise<void>
}
/** `where` names the record for messages. What it throws ends the reader. */
export type Decode<R> = (fetched: Fetched, where: string, signal: AbortSignal) => Decoded<R>

/** Without news it is looked whether all is as it was so often. */
const idleMs = 500

export function allOf({ partitions }: KafkaTopic): number[] {
  return Array.from({ length: partitions }, (_, partition) => partition)
}

/**
 * Reads a topic: all of its partitions, or those that its group gives it. A delivery is of one partition; deliveries of several partitions take turns.
 * Of a group, the place that is kept is the first offset that is not acknowledged; what moves to another member comes again there from that place on.
 */
export class KafkaReader<R> {
  readonly #side: ReaderSide
  readonly #options: ReaderOptions
  readonly #decode: Decode<R>
  readonly #end: Promise<ReadonlyMap<number, bigint>> | undefined
  readonly #bytesMax: number
  #queues = new Map<number, PartitionQueue>()
  /** Partitions that the group has given and that have no queue yet. */
  readonly #added = new Set<number>()
  /** Where a reader without a group goes on, by partition. */
  #positions: Map<number, bigint> | undefined
  #placed = false
  #open = false
  #closed = false
  #nacked = false
  #turn = -1
  #woken = false
  #rouse: () => void = () => undefined

  /** `end`: of the topic when the reader was asked for, for one that starts at the latest. */
  constructor(side: ReaderSide, options: ReaderOptions, decode: Decode<R>, end?: Promise<ReadonlyMap<number, bigint>>) {
    this.#side = side
    this.#decode = decode
    this.#end = end
    end?.catch(() => undefined)
    this.#options = options
    this.#bytesMax = Math.max(1, options.batch?.bytesMax ?? limits.deliveryBytesMax)
  }

  open(signal: AbortSignal): AsyncIterable<KafkaDelivery<R>> {
    if (this.#open) throw new KymoError('bug', { detail: 'A reader of the log is open already; it serves one consumer at a time.' })
    if (this.#closed) throw new KymoError('shutting_down')
    this.#open = true
    this.#nacked = false
    return this.#run(signal)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#wake()
    await Promise.resolve()
  }

  async *#run(signal: AbortSignal): AsyncGenerator<KafkaDelivery<R>, void, void> {
    const { cluster } = this.#side
    const abort = (): void => this.#wake()
    signal.addEventListener('abort', abort)
    try {
      while (!this.#over(signal)) {
        const topic = await this.#retried(signal, () => cluster.topic(this.#options.topic))
        if (topic === undefined) return
        yield* this.#options.group === undefined ? this.#readAll(topic, signal) : this.#readGroup(topic, this.#options.group, signal)
      }
    } finally {
      signal.removeEventListener('abort', abort)
      this.#open = false
    }
  }

  /** Without a group. */
  async *#readAll(topic: KafkaTopic, signal: AbortSignal): AsyncGenerator<KafkaDelivery<R>, void, void> {
    const positions = this.#positions ?? (await this.#retried(signal, () => this.#start(topic)))
    if (positions === undefined) return
    this.#positions = new Map(positions)
    this.#queues = new Map([...positions].map(([partition, from]) => [partition, new PartitionQueue(partition, from)]))
    try {
      yield* this.#deliveries(topic, signal, undefined)
    } finally {
      for (const [partition, queue] of this.#queues) this.#positions?.set(partition, queue.position)
      this.#queues.clear()
    }
  }

  async *#readGroup(topic: KafkaTopic, group: string, signal: AbortSignal): AsyncGenerator<KafkaDelivery<R>, void, void> {
    const offsets = this.#side.group(topic, group)
    await offsets.settled()
    if (!(await this.#place(topic, offsets, signal))) return
    const dropped = (partition: number): void => {
      const queue = this.#queues.get(partition)
      if (queue !== undefined) queue.owned = false
      this.#queues.delete(partition)
      this.#added.delete(partition)
    }
    const member = new GroupMember(this.#side.env, offsets.coordinator, topic, {
      revoked: async (partitions) => {
        partitions.forEach(dropped)
        await offsets.settled()
      },
      assigned: (partitions) => {
        for (const partition of partitions) this.#added.add(partition)
        this.#wake()
      },
      lost: () => {
        for (const partition of [...this.#queues.keys(), ...this.#added]) {
          dropped(partition)
          offsets.drop(partition)
        }
      },
    })
    const part = offsets.join(() => member.as)
    member.start()
    try {
      yield* this.#deliveries(topic, signal, offsets)
    } finally {
      // First what is acknowledged, while it is a member still.
      await offsets.settled()
      await member.leave()
      part()
      this.#queues.clear()
      this.#added.clear()
    }
  }

  async *#deliveries(topic: KafkaTopic, signal: AbortSignal, offsets: GroupOffsets | undefined): AsyncGenerator<KafkaDelivery<R>, void, void> {
    const { cluster, env } = this.#side
    const current = (queue: PartitionQueue): boolean => this.#queues.get(queue.partition) === queue
    const wake = (): void => this.#wake()
    const ends: ReaderSide['ends'] = (...asked) => this.#side.ends(...asked)
    const fetcher = new PartitionFetcher({ cluster, env, topic, queues: () => this.#queues.values(), ends, gatherMs: () => this.#lingerMs(), wake })
    try {
      while (!this.#over(signal)) {
        this.#woken = false
        if (offsets !== undefined && this.#added.size > 0) await this.#begin(topic, offsets, signal)
        await this.#retried(signal, () => fetcher.fill())
        if (fetcher.failed !== undefined) throw fetcher.failed
        if (fetcher.moved && (await this.#moved(topic, signal))) return
        fetcher.moved = false
        const queue = this.#ready()
        if (queue === undefined) {
          await this.#sleep(signal, idleMs)
          continue
        }
        await this.#gather(queue, fetcher, signal)
        if (!this.#over(signal) && current(queue)) yield this.#delivery(queue, topic, offsets, signal)
      }
    } finally {
      await fetcher.close()
    }
  }

  /** True: the topic was removed and made anew, so that what is known of it is void. Brokers that have not heard of a new topic yet say the same. */
  async #moved(topic: KafkaTopic, signal: AbortSignal): Promise<boolean> {
    const { cluster, env } = this.#side
    cluster.forget()
    const now = await this.#retried(signal, () => cluster.topic(this.#options.topic))
    if (now === undefined || now.id === topic.id) return false
    env.logger.error('a topic of the log was removed, and is another one now: it is read from its beginning', { topic: topic.name })
    for (const queue of this.#queues.values()) queue.owned = false
    this.#queues.clear()
    this.#positions = new Map(allOf(now).map((partition) => [partition, 0n]))
    return true
  }

  #over(signal: AbortSignal): boolean {
    return signal.aborted || this.#closed || this.#nacked
  }

  /** Tries for ever while the cluster does not answer; undefined: no longer wanted. */
  async #retried<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T | undefined> {
    const { env } = this.#side
    for (let waitMs: number = limits.kafkaRetryFirstMs; !this.#over(signal); waitMs = Math.min(limits.kafkaRetryMaxMs, waitMs * 2)) {
      try {
        return await task()
      } catch (thrown) {
        const error = unavailable(thrown)
        if (error.kind !== 'unavailable') throw error
        env.logger.warn(error.message, { code: error.code, topic: this.#options.topic })
        await sleep(env, waitMs * (0.5 + env.random.next() / 2), signal)
      }
    }
    return undefined
  }

  /** Where a group stands is written down before the first record is read: another start than `committed` holds once. False: no longer wanted. */
  async #place(topic: KafkaTopic, offsets: GroupOffsets, signal: AbortSignal): Promise<boolean> {
    if (this.#placed || this.#options.start === 'committed') return true
    const placed = await this.#retried(signal, async () => {
      const places = await this.#start(topic)
      try {
        await offsets.coordinator.commit(() => nobody, topic.name, places)
      } catch (thrown) {
        // Other members have begun, and say where it stands.
        if (!is(thrown, 'UNKNOWN_MEMBER_ID')) throw thrown
      }
      return true
    })
    return (this.#placed = placed === true)
  }

  async #start(topic: KafkaTopic): Promise<ReadonlyMap<number, bigint>> {
    const { start } = this.#options
    if (typeof start === 'object' && 'offsets' in start) return start.offsets
    if (typeof start === 'object') return new Map(allOf(topic).map((partition) => [partition, start.offset]))
    if (start !== 'latest') return this.#side.ends(topic, allOf(topic), 'earliest')
    // One that could not be asked for then is asked for now.
    return (await this.#end?.catch(() => undefined)) ?? this.#side.ends(topic, allOf(topic), 'latest')
  }

  /** Partitions that are new here begin where the group stands. */
  async #begin(topic: KafkaTopic, offsets: GroupOffsets, signal: AbortSignal): Promise<void> {
    const added = [...this.#added]
    const places = await this.#retried(signal, async () => ({
      committed: await offsets.committed(added),
      earliest: await this.#side.ends(topic, added, 'earliest'),
    }))
    if (places === undefined) return
    for (const partition of added) {
      // It may have gone again meanwhile.
      if (!this.#added.delete(partition)) continue
      const from = places.committed.get(partition) ?? places.earliest.get(partition) ?? 0n
      this.#queues.set(partition, new PartitionQueue(partition, from))
    }
  }

  /** The next partition, in turns, that has something. */
  #ready(): PartitionQueue | undefined {
    const full = [...this.#queues.values()].filter((queue) => !queue.empty).toSorted((a, b) => a.partition - b.partition)
    const next = full.find((queue) => queue.partition > this.#turn) ?? full[0]
    if (next !== undefined) this.#turn = next.partition
    return next
  }

  /** How long more is waited for once there is something. */
  #lingerMs(): number {
    const { lingerMs = 0 } = this.#options.batch ?? {}
    return typeof lingerMs === 'function' ? lingerMs() : lingerMs
  }

  async #gather(queue: PartitionQueue, fetcher: PartitionFetcher, signal: AbortSignal): Promise<void> {
    const { clock } = this.#side.env
    const until = clock.monotonicMs() + this.#lingerMs()
    while (queue.bytes < this.#bytesMax && queue.owned && !this.#over(signal) && fetcher.failed === undefined) {
      const left = until - clock.monotonicMs()
      if (left <= 0) return
      this.#woken = false
      await this.#retried(signal, () => fetcher.fill())
      await this.#sleep(signal, Math.min(left, idleMs))
    }
  }

  #delivery(queue: PartitionQueue, topic: KafkaTopic, offsets: GroupOffsets | undefined, signal: AbortSignal): KafkaDelivery<R> {
    const { records, first, next } = queue.take(this.#bytesMax)
    const { partition } = queue
    let settled = false
    const once = (): void => {
      if (settled) throw new KymoError('bug', { detail: 'A delivery was acknowledged twice.' })
      settled = true
    }
    const acknowledge = (): void => {
      const place = queue.acknowledge(first)
      if (place !== undefined && queue.owned) offsets?.commit(partition, place)
    }
    const decoded = records.map((one) => this.#decode(one, `${topic.name}, partition ${partition}, offset ${one.offset}`, signal))
    const after = decoded.flatMap((one) => one.after ?? [])
    return {
      records: decoded.flatMap(({ record }) => record ?? []),
      span: { log: topic.id, topic: this.#options.topic, partition, first, next },
      ack: () => {
        once()
        if (after.length === 0) acknowledge()
        else void Promise.all(after).then(acknowledge, () => undefined)
      },
      nack: () => {
        once()
        this.#nacked = true
        this.#wake()
      },
    }
  }

  #wake(): void {
    this.#woken = true
    this.#rouse()
  }

  /** Until something has happened since the last look, or `ms`. */
  async #sleep(signal: AbortSignal, ms: number): Promise<void> {
    if (this.#over(signal) || this.#woken) return
    await new Promise<void>((resolve) => {
      const timer = this.#side.env.clock.after(ms, resolve)
      this.#rouse = () => {
        timer.cancel()
        resolve()
      }
    })
    this.#rouse = () => undefined
  }
}
