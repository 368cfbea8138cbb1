import type { Env } from '../../core/env.ts'
import { KafkaCluster, type ClusterOptions, type KafkaTopic } from './cluster.ts'
import { GroupCoordinator } from './coordinator.ts'
import { GroupOffsets } from './group-offsets.ts'

const earliest = -2n
const latest = -1n

/** What readers of one process share: the cluster, and where their groups stand. */
export class ReaderSide {
  readonly env: Env
  readonly cluster: KafkaCluster
  readonly #groups = new Map<string, GroupOffsets>()
  readonly #coordinators = new Map<string, GroupCoordinator>()

  constructor(o: ClusterOptions) {
    this.env = o.env
    this.cluster = new KafkaCluster(o)
  }

  group(topic: KafkaTopic, name: string): GroupOffsets {
    const id = `${topic.id}\n${name}`
    let known = this.#groups.get(id)
    if (known === undefined) {
      const coordinator = this.#coordinators.get(name) ?? new GroupCoordinator(this.cluster, this.cluster.groupId(name))
      this.#coordinators.set(name, coordinator)
      this.#groups.set(id, (known = new GroupOffsets(this.env, this.cluster, topic, name, coordinator)))
    }
    return known
  }

  /** First or next offset of these partitions. */
  async ends({ name }: KafkaTopic, partitions: readonly number[], at: 'earliest' | 'latest'): Promise<ReadonlyMap<number, bigint>> {
    const timestamp = at === 'earliest' ? earliest : latest
    const asked = partitions.map((partitionIndex) => ({ partitionIndex, timestamp }))
    const [answer] = await this.cluster.admin.listOffsets({ topics: [{ name, partitions: asked }] })
    return new Map((answer?.partitions ?? []).map((one) => [one.partitionIndex, one.offset]))
  }

  /** After all readers. */
  async close(): Promise<void> {
    for (const group of this.#groups.values()) await group.settled()
    for (const coordinator of this.#coordinators.values()) await coordinator.close()
    await this.cluster.close()
  }
}
