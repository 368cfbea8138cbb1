import { Admin, Consumer, Producer, findErrorBy, CompressionAlgorithms, GroupProtocols, UserError, type GenericError } from '@platformatic/kafka'
import { randomUUID } from 'node:crypto'
import { asKymoError, KymoError } from '../../core/errors.ts'
import type { Env } from '../../core/env.ts'
import { limits } from '../../core/limits.ts'
import { sleep } from '../../core/pump.ts'
import type { KafkaAddress } from './options.ts'

export interface ClusterOptions {
  readonly env: Env
  readonly address: KafkaAddress
  /** Before the names of topics and groups: several Kymos may share a cluster. */
  readonly prefix: string
  /** Of topics that this process makes; there is no way back from more to fewer. */
  readonly partitions: number
  readonly replication: number
}

/** A topic as it is on the cluster. */
export interface KafkaTopic {
  readonly name: string
  /** Changes when the topic is made anew: what a `Span` names as the log. */
  readonly id: string
  readonly partitions: number
}

export type KafkaClient = Consumer<Buffer, Buffer, Buffer, Buffer>

/** Where a partition is read and written. */
export interface Leader {
  readonly node: number
  readonly epoch: number
}

/** Connections to one Kafka cluster, and what is known of its topics. Errors of the client become `log_unavailable`. */
export class KafkaCluster {
  readonly #o: ClusterOptions
  readonly #admin: Admin
  readonly #topics = new Map<string, Promise<KafkaTopic>>()

  constructor(o: ClusterOptions) {
    this.#o = o
    this.#admin = new Admin(this.#base())
  }

  get admin(): Admin {
    return this.#admin
  }

  groupId(group: string): string {
    return `${this.#o.prefix}${group}`
  }

  producer(): Producer<Buffer, Buffer, Buffer, Buffer> {
    // Sequence numbers of an idempotent producer make a try that is repeated by the client one record.
    return new Producer({ ...this.#base(), idempotent: true, compression: CompressionAlgorithms.ZSTD, retries: 3, retryDelay: 200 })
  }

  /** Reads without being in a group: partitions and places are whoever's that reads. */
  fetcher(): KafkaClient {
    return new Consumer({ ...this.#base(), groupId: `${this.#o.prefix}none-${randomUUID()}`, minBytes: 1, maxBytes: limits.kafkaFetchBytesMax })
  }

  /**
   * A member of a group by KIP-848: partitions move one at a time, and nobody stops for it. The client joins only by way of a stream of its own, which is
   * never read here: places and fetches are the reader's.
   */
  async member(group: string, { name }: KafkaTopic): Promise<KafkaClient> {
    const member = new Consumer({ ...this.#base(), groupId: this.groupId(group), groupProtocol: GroupProtocols.CONSUMER })
    try {
      const stream = await member.consume({ topics: [name], autocommit: false, mode: 'committed', fallbackMode: 'earliest', maxBytes: 1 })
      stream.on('error', () => undefined)
      // It is made to flow after each rebalance.
      stream.on('resume', () => void stream.pause())
      return member
    } catch (thrown) {
      await member.close(true).catch(() => undefined)
      throw thrown
    }
  }

  /** The topic, made when it is not there. */
  topic(name: string): Promise<KafkaTopic> {
    let known = this.#topics.get(name)
    if (known === undefined) {
      known = this.#open(`${this.#o.prefix}${name}`)
      this.#topics.set(name, known)
      known.catch(() => this.#topics.delete(name))
    }
    return known
  }

  /** Leaders of the topic's partitions; `fresh`: as the cluster says now. */
  async leaders({ name }: KafkaTopic, fresh: boolean): Promise<readonly Leader[]> {
    const metadata = await this.#admin.metadata({ topics: [name], forceUpdate: fresh })
    return (metadata.topics.get(name)?.partitions ?? []).map(({ leader, leaderEpoch }) => ({ node: leader, epoch: leaderEpoch }))
  }

  async close(): Promise<void> {
    await this.#admin.close()
  }

  async #open(name: string): Promise<KafkaTopic> {
    try {
      const there = await this.#lookUp(name)
      if (there !== undefined) return there
      await this.#create(name)
      // Brokers hear of it one after another.
      for (let tries = 0; tries < 50; tries++) {
        const made = await this.#lookUp(name)
        if (made !== undefined) return made
        await sleep(this.#o.env, 100)
      }
    } catch (thrown) {
      throw unavailable(thrown)
    }
    throw new KymoError('log_unavailable', { detail: `Kafka has made the topic ${name} and does not tell of it.` })
  }

  async #create(name: string): Promise<void> {
    const { partitions, replication } = this.#o
    const configs = [{ name: 'max.message.bytes', value: String(limits.kafkaMessageBytesMax) }]
    try {
      await this.#admin.createTopics({ topics: [name], partitions, replicas: replication, configs })
    } catch (thrown) {
      // Another process was first.
      if (!is(thrown, 'TOPIC_ALREADY_EXISTS')) throw thrown
    }
  }

  async #lookUp(name: string): Promise<KafkaTopic | undefined> {
    try {
      const metadata = await this.#admin.metadata({ topics: [name], forceUpdate: true })
      const topic = metadata.topics.get(name)
      return topic === undefined ? undefined : { name, id: topic.id, partitions: topic.partitionsCount }
    } catch (thrown) {
      // That is how the client tells of a topic that is not there.
      if (thrown instanceof UserError) return undefined
      throw thrown
    }
  }

  #base(): ConstructorParameters<typeof Admin>[0] {
    const { brokers, tls, sasl } = this.#o.address
    return {
      clientId: 'kymo',
      bootstrapBrokers: brokers.map(({ host, port }) => ({ host, port })),
      // Who waits for an answer retries as it sees fit; the client only gets over a short change of leaders.
      retries: 2,
      retryDelay: 100,
      connectTimeout: 5_000,
      ...(tls ? { tls: {}, tlsServerName: true } : {}),
      ...(sasl === undefined ? {} : { sasl }),
    }
  }
}

/** Does an answer of the cluster say so (Kafka's protocol guide, "Error codes")? */
export function is(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && findErrorBy<GenericError>(thrown, 'apiId', code) !== null
}

/** What the client throws, as something that is tried again. */
export function unavailable(thrown: unknown): KymoError {
  if (thrown instanceof KymoError) return thrown
  const causes = thrown instanceof AggregateError ? thrown.errors.map((one) => asKymoError(one).message) : []
  const detail = [asKymoError(thrown).message, ...new Set(causes)].join(' ').slice(0, 500)
  return new KymoError('log_unavailable', { detail: `Kafka: ${detail}`, retryAfterS: 1 })
}
