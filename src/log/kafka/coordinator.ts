import {
  consumerGroupHeartbeatV1,
  findCoordinatorV4,
  FindCoordinatorKeyTypes,
  offsetCommitV9,
  type Broker,
  type Connection,
} from '@platformatic/kafka'
import { KymoError } from '../../core/errors.ts'
import type { KafkaCluster, KafkaTopic } from './cluster.ts'
import { is } from './faults.ts'

export interface HeartbeatAnswer {
  readonly memberEpoch: number
  readonly heartbeatIntervalMs: number
  /** Partitions of the topic that the member shall have; undefined: as before. */
  readonly assigned: readonly number[] | undefined
}

/** Whom a commit is made as: a member in its epoch; nobody, for a group without members (-1, ''). */
export interface CommitAs {
  readonly memberId: string
  readonly epoch: number
}
export const nobody: CommitAs = { memberId: '', epoch: -1 }

/** Leaves for good, by a heartbeat with this epoch (KIP-848, "ConsumerGroupHeartbeat API"). */
const leaving = -1

/**
 * The broker that coordinates one group, and what is said to it. One request at a time: so a commit carries the epoch that the coordinator knows, since no
 * heartbeat raises it meanwhile. Errors are the client's.
 */
export class GroupCoordinator {
  readonly #cluster: KafkaCluster
  readonly #groupId: string
  readonly #pool
  #where: Broker | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor(cluster: KafkaCluster, groupId: string) {
    this.#cluster = cluster
    this.#groupId = groupId
    this.#pool = cluster.connections()
  }

  /** `owned`: what the member has at the moment; with epoch 0, which joins, it has nothing. Sent whole each time, so that the answer is whole as well. */
  async heartbeat(memberId: string, epoch: number, topic: KafkaTopic, owned: readonly number[], rebalanceMs: number): Promise<HeartbeatAnswer> {
    const has = epoch === 0 ? [] : [{ topicId: topic.id, partitions: [...owned] }]
    const answer = await this.#ask((connection) =>
      consumerGroupHeartbeatV1.api.async(connection, this.#groupId, memberId, epoch, null, null, rebalanceMs, [topic.name], null, null, has),
    )
    const { memberEpoch, heartbeatIntervalMs, assignment } = answer
    const assigned = assignment?.topicPartitions.find((one) => one.topicId === topic.id)?.partitions ?? []
    return { memberEpoch, heartbeatIntervalMs, assigned: assignment === null ? undefined : assigned }
  }

  async leave(memberId: string): Promise<void> {
    await this.#ask((connection) =>
      consumerGroupHeartbeatV1.api.async(connection, this.#groupId, memberId, leaving, null, null, -1, null, null, null, null),
    )
  }

  /** `as` is asked when it is this request's turn. */
  async commit(as: () => CommitAs, topic: string, places: ReadonlyMap<number, bigint>): Promise<void> {
    const partitions = Array.from(places, ([partitionIndex, committedOffset]) => ({
      partitionIndex,
      committedOffset,
      committedLeaderEpoch: -1,
      committedMetadata: null,
    }))
    await this.#ask((connection) => {
      const { memberId, epoch } = as()
      return offsetCommitV9.api.async(connection, this.#groupId, epoch, memberId, null, [{ name: topic, partitions }])
    })
  }

  async close(): Promise<void> {
    await this.#pool.close()
  }

  #ask<T>(task: (connection: Connection) => Promise<T>): Promise<T> {
    const before = this.#last
    const asked = before.then(() => this.#askNow(task))
    this.#last = asked.catch(() => undefined)
    return asked
  }

  async #askNow<T>(task: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      this.#where ??= await this.#find()
      return await task(await this.#pool.get(this.#where))
    } catch (thrown) {
      // It moved, or is gone, or nothing is known: whoever it is, is asked for anew. Errors of the group itself leave it where it is.
      if (!is(thrown, 'FENCED_MEMBER_EPOCH', 'UNKNOWN_MEMBER_ID', 'STALE_MEMBER_EPOCH')) this.#where = undefined
      throw thrown
    }
  }

  async #find(): Promise<Broker> {
    const connection = await this.#pool.getFirstAvailable([...this.#cluster.brokers])
    const { coordinators } = await findCoordinatorV4.api.async(connection, FindCoordinatorKeyTypes.GROUP, [this.#groupId])
    const found = coordinators.find((one) => one.key === this.#groupId)
    if (found === undefined) throw new KymoError('log_unavailable', { detail: `Kafka names no coordinator of the group ${this.#groupId}.` })
    return { host: found.host, port: found.port }
  }
}
