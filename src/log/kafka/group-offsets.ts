import type { Env } from '../../core/env.ts'
import { limits } from '../../core/limits.ts'
import { sleep } from '../../core/pump.ts'
import type { KafkaCluster, KafkaTopic } from './cluster.ts'
import { nobody, type CommitAs, type GroupCoordinator } from './coordinator.ts'
import { is, unavailable } from './faults.ts'

/**
 * Where a group stands in one topic, for all readers of this process. Commits are gathered: one is under way at a time, the newest place of each partition
 * goes into the next, and what was not taken is said again.
 */
export class GroupOffsets {
  readonly coordinator: GroupCoordinator
  readonly #env: Env
  readonly #cluster: KafkaCluster
  readonly #group: string
  readonly #topic: KafkaTopic
  /** Readers that are in the group; without one, nobody of this process is. */
  readonly #members = new Set<() => CommitAs | undefined>()
  #waiting = new Map<number, bigint>()
  #running: Promise<void> | undefined
  #untilMs = Number.POSITIVE_INFINITY

  constructor(env: Env, cluster: KafkaCluster, topic: KafkaTopic, group: string, coordinator: GroupCoordinator) {
    this.#env = env
    this.#cluster = cluster
    this.#topic = topic
    this.#group = group
    this.coordinator = coordinator
  }

  /** Says where it stands as this member from now on. Returns the way to end that. */
  join(as: () => CommitAs | undefined): () => void {
    this.#members.add(as)
    return () => void this.#members.delete(as)
  }

  commit(partition: number, offset: bigint): void {
    this.#waiting.set(partition, offset)
    this.#running ??= this.#run()
  }

  /** Others have the partition: nothing is said of it any more. */
  drop(partition: number): void {
    this.#waiting.delete(partition)
  }

  /** What was committed before is on the cluster; or given up, when the cluster has not taken it for some seconds: records come again then. */
  async settled(): Promise<void> {
    if (this.#running === undefined) return
    this.#untilMs = this.#env.clock.monotonicMs() + limits.kafkaLeaveMs
    while (this.#running !== undefined) await this.#running
    this.#untilMs = Number.POSITIVE_INFINITY
  }

  /** Next offset of each of the partitions that the group has one for. */
  async committed(partitions: readonly number[]): Promise<ReadonlyMap<number, bigint>> {
    await this.settled()
    const { name } = this.#topic
    const groupId = this.#cluster.groupId(this.#group)
    const [answer] = await this.#cluster.admin.listConsumerGroupOffsets({
      groups: [{ groupId, topics: [{ name, partitionIndexes: [...partitions] }] }],
    })
    const known = answer?.topics.find((one) => one.name === name)?.partitions ?? []
    return new Map(known.filter((one) => one.committedOffset >= 0n).map((one) => [one.partitionIndex, one.committedOffset]))
  }

  async #run(): Promise<void> {
    await Promise.resolve()
    let waitMs: number = limits.kafkaRetryFirstMs
    while (this.#waiting.size > 0) {
      const places = this.#waiting
      this.#waiting = new Map()
      try {
        await this.coordinator.commit(() => this.#as(), this.#topic.name, places)
        waitMs = limits.kafkaRetryFirstMs
      } catch (thrown) {
        if (!this.#again(thrown, places)) continue
        await sleep(this.#env, waitMs * (0.5 + this.#env.random.next() / 2))
        waitMs = Math.min(limits.kafkaRetryMaxMs, waitMs * 2)
      }
    }
    this.#running = undefined
  }

  #as(): CommitAs {
    for (const member of this.#members) {
      const as = member()
      if (as !== undefined) return as
    }
    return nobody
  }

  /** False: nobody here will say it any more. Others may have the partitions, then records come again there. */
  #again(thrown: unknown, places: ReadonlyMap<number, bigint>): boolean {
    const error = unavailable(thrown)
    this.#env.logger.warn('Kafka did not take where a group stands', { group: this.#group, topic: this.#topic.name, error: error.message })
    if (is(thrown, 'UNKNOWN_MEMBER_ID', 'FENCED_MEMBER_EPOCH') || this.#env.clock.monotonicMs() >= this.#untilMs) return false
    for (const [partition, offset] of places) if (!this.#waiting.has(partition)) this.#waiting.set(partition, offset)
    return true
  }
}
