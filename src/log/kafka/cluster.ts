import {
  Admin,
  CompressionAlgorithms,
  type CompressionAlgorithmValue,
  ConnectionPool,
  type ConnectionOptions,
  ConfigResourceTypes,
  Consumer,
  Producer,
  UserError,
} from '@platformatic/kafka'
import { randomUUID } from 'node:crypto'
import { isIP } from 'node:net'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { sleep } from '../../core/pump.ts'
import { is, unavailable } from './faults.ts'
import type { KafkaAddress } from './options.ts'

export interface ClusterOptions {
  readonly env: Env
  readonly address: KafkaAddress
  /** Before the names of topics and groups: several Kymos may share a cluster. */
  readonly prefix: string
  /** Of topics that this process makes, by their names without the prefix; there is no way back from more to fewer. 0: what the cluster does by itself. */
  readonly partitions: number | ((topic: string) => number)
  /** Of topics that this process makes; 0: what the cluster does by itself. */
  readonly replication: number
  /** How long the cluster keeps what is in topics that this process makes; absent: what it does by itself. */
  readonly retentionMs?: number
  readonly compression?: Compression
}

export const compressions = ['zstd', 'lz4', 'gzip', 'none'] as const
export type Compression = (typeof compressions)[number]

const algorithms: Readonly<Record<Compression, CompressionAlgorithmValue>> = {
  zstd: CompressionAlgorithms.ZSTD,
  lz4: CompressionAlgorithms.LZ4,
  gzip: CompressionAlgorithms.GZIP,
  none: CompressionAlgorithms.NONE,
}

/** A topic as it is on the cluster. */
export interface KafkaTopic {
  readonly name: string
  /** Changes when the topic is made anew: what a `Span` names as the log. */
  readonly id: string
  readonly partitions: number
}

/** How a topic keeps what is acknowledged. */
export interface TopicSetup {
  readonly name: string
  /** Of the cluster. */
  readonly brokers: number
  readonly partitions: number
  /** Copies, and how many of them are up to date: of the partition that has fewest. */
  readonly replicas: number
  readonly inSync: number
  /** So many must have a record before it is acknowledged. */
  readonly minInSync: number
  /** -1: for ever. */
  readonly retentionMs: number
}

export type KafkaClient = Consumer<Buffer, Buffer, Buffer, Buffer>
export type KafkaProducer = Producer<Buffer, Buffer, Buffer, Buffer>

/** With fewer copies a write that is acknowledged may be on one machine only. */
const inSyncMin = 2

/** Connections to one Kafka cluster, and what is known of its topics. Errors of the client become `log_unavailable` or `log_denied`. */
export class KafkaCluster {
  readonly #o: ClusterOptions
  readonly #admin: Admin
  readonly #topics = new Map<string, Promise<KafkaTopic>>()

  constructor(o: ClusterOptions) {
    this.#o = o
    this.#admin = guarded(new Admin(this.#base()))
  }

  get admin(): Admin {
    return this.#admin
  }

  get brokers(): KafkaAddress['brokers'] {
    return this.#o.address.brokers
  }

  groupId(group: string): string {
    return `${this.#o.prefix}${group}`
  }

  producer(): KafkaProducer {
    // Sequence numbers of an idempotent producer make a try that is repeated by the client one record.
    const compression = algorithms[this.#o.compression ?? 'zstd']
    const { kafkaProduceRequestMs: requestTimeout } = limits
    return guarded(
      new Producer({ ...this.#base(), idempotent: true, compression, retries: 3, retryDelay: 200, requestTimeout, timeout: requestTimeout }),
    )
  }

  /** Reads without being in a group: partitions and places are whoever's that reads. */
  fetcher(): KafkaClient {
    return guarded(
      new Consumer({ ...this.#base(), groupId: `${this.#o.prefix}none-${randomUUID()}`, minBytes: 1, maxBytes: limits.kafkaFetchBytesMax }),
    )
  }

  /** Bare connections, for what the client has no good words for. Whoever asks closes them. */
  connections(): ConnectionPool {
    const pool = new ConnectionPool(clientId, this.#connection())
    listen(pool)
    return pool
  }

  /** The topic, made when it is not there. */
  topic(name: string): Promise<KafkaTopic> {
    let known = this.#topics.get(name)
    if (known === undefined) {
      const { partitions, prefix } = this.#o
      known = this.#open(`${prefix}${name}`, typeof partitions === 'number' ? partitions : partitions(name))
      this.#topics.set(name, known)
      known.catch(() => this.#topics.delete(name))
    }
    return known
  }

  /** Topics may not be what they were: removed, and perhaps made anew. Whoever needs one asks again. */
  forget(): void {
    this.#topics.clear()
  }

  /** The node that each partition is read and written at; `fresh`: as the cluster says now. */
  async leaders({ name }: KafkaTopic, fresh: boolean): Promise<readonly number[]> {
    const metadata = await this.#admin.metadata({ topics: [name], forceUpdate: fresh })
    return (metadata.topics.get(name)?.partitions ?? []).map(({ leader }) => leader)
  }

  /** How a topic is set up; undefined: it is not there, and is not made. Throws `log_unavailable` or `log_denied`. */
  async inspect(name: string): Promise<TopicSetup | undefined> {
    const full = `${this.#o.prefix}${name}`
    try {
      if ((await this.#lookUp(full)) === undefined) return undefined
      const { topics, brokers } = await this.#admin.metadata({ topics: [full], forceUpdate: true })
      const partitions = topics.get(full)?.partitions ?? []
      const configurationKeys = ['min.insync.replicas', 'retention.ms']
      const resources = [{ resourceType: ConfigResourceTypes.TOPIC, resourceName: full, configurationKeys }]
      const [described] = await this.#admin.describeConfigs({ resources })
      const numberOf = (key: string): number => Number(described?.configs.find((one) => one.name === key)?.value ?? Number.NaN)
      return {
        name: full,
        brokers: brokers.size,
        partitions: partitions.length,
        replicas: Math.min(...partitions.map(({ replicas }) => replicas.length)),
        inSync: Math.min(...partitions.map(({ isr }) => isr.length)),
        minInSync: numberOf('min.insync.replicas'),
        retentionMs: numberOf('retention.ms'),
      }
    } catch (thrown) {
      throw unavailable(thrown)
    }
  }

  /** One round trip: throws `log_unavailable` or `log_denied`. */
  async probe(): Promise<void> {
    try {
      await this.#admin.metadata({ topics: [], forceUpdate: true })
    } catch (thrown) {
      throw unavailable(thrown)
    }
  }

  async close(): Promise<void> {
    await this.#admin.close()
  }

  async #open(name: string, partitions: number): Promise<KafkaTopic> {
    try {
      const there = await this.#lookUp(name)
      if (there !== undefined) return there
      await this.#create(name, partitions)
      // Brokers hear of it one after another.
      const { env } = this.#o
      for (const until = env.clock.monotonicMs() + limits.kafkaTopicMs; env.clock.monotonicMs() < until; await sleep(env, 100)) {
        const made = await this.#lookUp(name)
        if (made !== undefined) return made
      }
    } catch (thrown) {
      throw unavailable(thrown)
    }
    throw new KymoError('log_unavailable', { detail: `Kafka has made the topic ${name} and does not tell of it.` })
  }

  async #create(name: string, partitions: number): Promise<void> {
    const { replication, retentionMs } = this.#o
    const configs = [
      { name: 'max.message.bytes', value: String(limits.kafkaMessageBytesMax) },
      // Retention counts from the writing: what a door took long ago (a dead letter that is replayed) would be gone at once.
      { name: 'message.timestamp.type', value: 'LogAppendTime' },
    ]
    if (retentionMs !== undefined) configs.push({ name: 'retention.ms', value: String(retentionMs) })
    if (replication > inSyncMin) configs.push({ name: 'min.insync.replicas', value: String(inSyncMin) })
    try {
      // -1: the cluster's own default (KIP-464).
      const own = (count: number): number => (count === 0 ? -1 : count)
      await this.#admin.createTopics({ topics: [name], partitions: own(partitions), replicas: own(replication), configs })
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

  #base() {
    return {
      clientId,
      bootstrapBrokers: this.brokers.map(({ host, port }) => ({ host, port })),
      // Who waits for an answer retries as it sees fit; the client only gets over a short change of leaders.
      retries: 2,
      retryDelay: 100,
      ...this.#connection(),
    }
  }

  #connection(): ConnectionOptions {
    const { tls, sasl } = this.#o.address
    // An address of numbers is no name to ask for (RFC 6066, section 3).
    const tlsServerName = this.brokers.some(({ host }) => isIP(host) === 0)
    return {
      connectTimeout: limits.kafkaConnectMs,
      requestTimeout: limits.kafkaRequestMs,
      ...(tls === undefined ? {} : { tls: { ...tls }, tlsServerName }),
      ...(sasl === undefined ? {} : { sasl: { ...sasl, authBytesValidator } }),
    }
  }
}

const clientId = 'kymo'

/** A refused token is answered by what is wrong with it (RFC 7628, section 3.2.2), which the client takes for a yes. SCRAM's answer it has checked itself. */
function authBytesValidator(bytes: Buffer, done: (error: Error | null, bytes?: Buffer) => void): void {
  const text = bytes.toString()
  if (text.startsWith('{')) done(new Error(`The broker answers ${text.slice(0, 200)}.`))
  else done(null, bytes)
}

/** A connection tells of its errors by events, twice at times; one that nobody listens to would end the process. Each failed request throws besides. */
function listen(pool: ConnectionPool): void {
  pool.on('connecting', ({ connection }) => void connection.on('error', () => undefined))
}

function guarded<C extends { readonly connections: ConnectionPool }>(client: C): C {
  listen(client.connections)
  return client
}
