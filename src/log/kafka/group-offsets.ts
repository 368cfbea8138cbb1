import type { Logger } from '../../core/env.ts'
import { asKymoError } from '../../core/errors.ts'
import type { KafkaClient, KafkaCluster, KafkaTopic } from './cluster.ts'

/** Where a group stands in one topic. Commits are gathered: one is under way at a time, the newest place of each partition goes into the next. */
export class GroupOffsets {
  readonly #cluster: KafkaCluster
  readonly #topic: KafkaTopic
  readonly #group: string
  readonly #logger: Logger
  #member: KafkaClient | undefined
  #waiting = new Map<number, bigint>()
  #running: Promise<void> | undefined

  constructor(cluster: KafkaCluster, topic: KafkaTopic, group: string, logger: Logger) {
    this.#cluster = cluster
    this.#topic = topic
    this.#group = group
    this.#logger = logger
  }

  /** Who is in the group and may say where it stands; without one, the group has nobody. */
  set member(member: KafkaClient | undefined) {
    this.#member = member
  }

  commit(partition: number, offset: bigint): void {
    this.#waiting.set(partition, offset)
    this.#running ??= this.#run()
  }

  /** What was committed before is on the cluster, or given up. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  /** Next offset of each partition that the group has one for. */
  async committed(): Promise<ReadonlyMap<number, bigint>> {
    await this.settled()
    const { name, partitions } = this.#topic
    const groupId = this.#cluster.groupId(this.#group)
    const partitionIndexes = Array.from({ length: partitions }, (_, i) => i)
    const [answer] = await this.#cluster.admin.listConsumerGroupOffsets({ groups: [{ groupId, topics: [{ name, partitionIndexes }] }] })
    const known = answer?.topics.find((one) => one.name === name)?.partitions ?? []
    return new Map(known.filter((one) => one.committedOffset >= 0n).map((one) => [one.partitionIndex, one.committedOffset]))
  }

  async #run(): Promise<void> {
    await Promise.resolve()
    while (this.#waiting.size > 0) {
      const places = [...this.#waiting]
      this.#waiting = new Map()
      try {
        await this.#write(places)
      } catch (thrown) {
        // Another member has the partition by now, or the cluster is away: what is committed later says the same, and until then records come again.
        this.#logger.warn('Kafka did not take where a group stands', {
          group: this.#group,
          topic: this.#topic.name,
          error: asKymoError(thrown).message,
        })
      }
    }
    this.#running = undefined
  }

  async #write(places: readonly (readonly [number, bigint])[]): Promise<void> {
    const { name } = this.#topic
    if (this.#member !== undefined) {
      await this.#member.commit({ offsets: places.map(([partition, offset]) => ({ topic: name, partition, offset, leaderEpoch: -1 })) })
      return
    }
    const partitions = places.map(([partition, offset]) => ({ partition, offset }))
    await this.#cluster.admin.alterConsumerGroupOffsets({
      groupId: this.#cluster.groupId(this.#group),
      topics: [{ name, partitionOffsets: partitions }],
    })
  }
}
