import assert from 'node:assert/strict'
import { Flag } from '../../src/core/batch.ts'
import type { Env, Timer } from '../../src/core/env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { Metrics } from '../../src/core/metrics.ts'
import type { Store } from '../../src/core/ports.ts'
import { Topic } from '../../src/core/record.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import { Broker } from '../../src/doors/mqtt/broker.ts'
import { openEmbeddedLog, type EmbeddedLog } from '../../src/log/embedded/log.ts'
import { Ingest } from '../../src/roles/ingest.ts'
import { startStoreRole, type StoreRole } from '../../src/roles/store.ts'
import { decodeDeadLetter } from '../../src/wire/dead-letter.ts'
import { PayloadDecoder } from '../../src/wire/payload/decoder.ts'
import { TelemetryTopics } from '../../src/wire/topics.ts'
import { ModelStore } from '../support/model-store.ts'
import { SimClient, type SimMessage } from './client.ts'
import { SimClock, SimRandom } from './clock.ts'
import { silentLogger } from '../../src/core/env/node-env.ts'
import { SimDisk } from './disk.ts'

const logDir = '/data/log'
const clientCount = 4
const startUs = 1_767_225_600_000_000

/** What a run went through, so that a test can see that the faults did happen. */
export interface Outcome {
  kills: number
  diskFaults: number
  storeFaults: number
  acknowledged: number
  redelivered: number
  deadLetters: number
}

/**
 * One life of the server: everything between two kills. Its clock dies with it, so that nothing of a killed process goes on.
 */
class Life {
  readonly env: Env
  readonly log: EmbeddedLog
  readonly ingest: Ingest
  readonly broker: Broker
  readonly role: StoreRole
  dead = false
  fatal: KymoError | undefined

  private constructor(env: Env, log: EmbeddedLog, ingest: Ingest, broker: Broker, role: StoreRole) {
    this.env = env
    this.log = log
    this.ingest = ingest
    this.broker = broker
    this.role = role
  }

  static async begin(world: World): Promise<Life> {
    const holder: { life?: Life; dead: boolean; fatal?: KymoError } = { dead: false }
    const timers: Timer[] = []
    const clock = {
      nowUs: () => world.clock.nowUs(),
      monotonicMs: () => world.clock.monotonicMs(),
      after(ms: number, fn: () => void): Timer {
        const timer = world.clock.after(ms, () => {
          if (!(holder.life?.dead ?? holder.dead)) fn()
        })
        timers.push(timer)
        return timer
      },
    }
    const env: Env = { clock, random: world.random, disk: world.disk, logger: silentLogger }
    const metrics = new Metrics()
    const log = await openEmbeddedLog({
      dir: logDir,
      env,
      threads: false,
      segmentBytesMax: 8192,
      reserveBytes: 4096,
      metrics,
      topics: { [Topic.telemetry]: { retentionBytes: 32_768 } },
    })
    const series = new SeriesTable()
    const fatal = (error: KymoError): void => {
      if (holder.life !== undefined) holder.life.fatal ??= error
      else holder.fatal = error
    }
    log.onFatal(fatal)
    const ingest = new Ingest({
      log,
      series,
      decoder: new PayloadDecoder({ series }),
      env,
      metrics,
      onFatal: fatal,
      pendingBytesMax: 4096,
      tickMs: 500,
      soon: (fn) => void clock.after(0, fn),
    })
    await ingest.rebuildOrigins()
    const broker = new Broker({
      gate: ingest,
      topics: new TelemetryTopics(['portfolio/telemetry', 'devices/{device}/telemetry']),
      authorizer: {
        connect: (request) => ({ ok: true, tenant: 'default', id: 'open', clientId: request.clientId, mayPublish: true, maySubscribe: true }),
        publish: () => true,
        subscribe: () => true,
      },
      env,
      metrics,
      defer: (flush) => void clock.after(0, flush),
    })
    const role = startStoreRole({ log, store: world.faultyStore(() => holder.life?.dead ?? false), env })
    const life = new Life(env, log, ingest, broker, role)
    if (holder.fatal !== undefined) life.fatal = holder.fatal
    holder.life = life
    role.done.catch((thrown: unknown) => {
      if (!life.dead) life.fatal ??= thrown instanceof KymoError ? thrown : new KymoError('bug', { cause: thrown, detail: String(thrown) })
    })
    return life
  }

  /** kill -9. */
  kill(): void {
    this.dead = true
  }
}

/** The house in one process under a simulated clock, disk and network, with faults that a seed decides. */
export class World {
  readonly random: SimRandom
  readonly clock = new SimClock(startUs)
  readonly store: ModelStore = new ModelStore()
  disk: SimDisk
  readonly outcome: Outcome = { kills: 0, diskFaults: 0, storeFaults: 0, acknowledged: 0, redelivered: 0, deadLetters: 0 }
  readonly #clients: SimClient[]
  readonly #acknowledged = new Map<number, SimMessage>()
  readonly #keys: { key: string; message: SimMessage; waiting: boolean }[] = []
  #life: Life | undefined
  #calm = false
  #next = 0
  #full = false

  constructor(seed: number) {
    this.random = new SimRandom(seed)
    this.disk = new SimDisk(new SimRandom(seed ^ 0x5eed))
    this.disk.mkdir('/data')
    this.disk.syncDir('/')
    this.#clients = Array.from({ length: clientCount }, (_, i) => new SimClient(`client-${i}`, this.random, (message) => this.#acked(message)))
  }

  async run(steps: number): Promise<Outcome> {
    await this.#begin()
    for (let step = 0; step < steps; step++) {
      await this.#step()
      await this.clock.advance(this.random.below(6))
      if (this.#life?.fatal !== undefined) await this.#restart()
    }
    await this.#settle()
    await this.#check()
    return this.outcome
  }

  /** The model store, behind a thread that is slow, sometimes away, and sometimes loses its answer after it has committed. */
  faultyStore(dead: () => boolean): Store {
    const store = this.store
    const hindered = async (): Promise<boolean> => {
      if (dead()) throw new KymoError('store_unavailable')
      if (this.#calm) return false
      if (this.random.chance(0.2)) await new Promise<void>((resolve) => void this.clock.after(this.random.below(200), resolve))
      // A process that is killed while it waits never commits.
      if (dead()) await new Promise<never>(() => undefined)
      const fails = this.random.chance(0.15)
      if (fails) this.outcome.storeFaults++
      return fails
    }
    return {
      commit: async (c, signal) => {
        const fails = await hindered()
        if (fails && this.random.chance(0.5)) throw new KymoError('store_unavailable')
        await store.commit(c, signal)
        if (fails) throw new KymoError('store_unavailable', { detail: 'the answer was lost' })
      },
      resume: (log, topic, partition) => store.resume(log, topic, partition),
      query: (q, signal) => store.query(q, signal),
      latest: (match) => store.latest(match),
      series: (match, signal, page) => store.series(match, signal, page),
      close: () => Promise.resolve(),
    }
  }

  async #begin(): Promise<void> {
    for (;;) {
      try {
        this.#life = await Life.begin(this)
        return
      } catch (thrown) {
        // A disk that is full or fails at the start: the supervisor tries again.
        if (!(thrown instanceof KymoError) || this.#calm) throw thrown
        this.#heal()
        this.disk = this.disk.crash()
      }
    }
  }

  async #restart(): Promise<void> {
    this.#life?.kill()
    for (const client of this.#clients) if (client.online) client.drop()
    for (const held of this.#keys) held.waiting = false
    this.disk = this.disk.crash()
    if (this.#full) this.disk.capacityBytes = Number.MAX_SAFE_INTEGER
    this.#full = false
    this.outcome.kills++
    // A new process takes a while to start; without it, arrival times of the old one would come again.
    await this.clock.advance(20)
    await this.#begin()
  }

  async #step(): Promise<void> {
    const dice = this.random.next()
    if (dice < 0.012) await this.#restart()
    else if (dice < 0.017) {
      this.disk.failSyncs(1)
      this.outcome.diskFaults++
    } else if (dice < 0.025) {
      this.disk.capacityBytes = this.#full ? Number.MAX_SAFE_INTEGER : this.disk.usedBytes + this.random.below(20_000)
      this.#full = !this.#full
      this.outcome.diskFaults++
    } else if (dice < 0.03) this.clock.step((this.random.chance(0.5) ? 1 : -1) * (1_000_003 + this.random.below(3_600_000_000)))
    else if (dice < 0.08) this.#anyClient().drop()
    else if (dice < 0.12) {
      this.#anyClient().repeat()
      this.outcome.redelivered++
    } else if (dice < 0.3) this.#post()
    else this.#publish()
    this.#traffic()
  }

  #anyClient(): SimClient {
    return this.#clients[this.random.below(clientCount)]!
  }

  #publish(): void {
    const client = this.#anyClient()
    for (let n = 1 + this.random.below(6); n > 0; n--) {
      if (client.pending.size > 200) return
      const message = this.#message(client.id)
      client.publish(message)
      // The same reading once more, as a message of its own: a gateway that resends its buffer.
      if (message.kind === 'timed' && this.random.chance(0.1)) client.publish({ ...message, sent: false })
    }
  }

  #message(device: string): SimMessage {
    const id = this.#next++
    const dice = this.random.next()
    const kind = dice < 0.6 ? 'timed' : dice < 0.95 ? 'untimed' : 'bad'
    // Times of their own lie a second apart; a tenth come late by up to a minute (off the grid by an amount of their own, so that none collides).
    const timeUs =
      kind === 'timed' ? startUs + id * 1_000_000 - (this.random.chance(0.1) ? this.random.below(60) * 1_000_000 + 500_000 + id : 0) : undefined
    const fields = {
      temperature: id,
      ...(timeUs === undefined ? {} : { timestamp: timeUs }),
      ...(this.random.chance(0.2) ? { firmware: `1.${this.random.below(3)}` } : {}),
    }
    const viaTopic = this.random.chance(0.5)
    const payload =
      kind === 'bad' ? `{"device_id":"${device}","temperature":"broken ${id}"}` : JSON.stringify(viaTopic ? fields : { device_id: device, ...fields })
    return {
      id,
      kind,
      topic: viaTopic ? `devices/${device}/telemetry` : 'portfolio/telemetry',
      payload,
      device,
      value: id,
      timeUs,
      packetId: 0,
      sent: false,
    }
  }

  /** As the HTTP door does it: an Idempotency-Key, and the same again until it is acknowledged. */
  #post(): void {
    if (this.#keys.length < 50) this.#keys.push({ key: `key-${this.#next}`, message: this.#message('poster'), waiting: false })
    const life = this.#life!
    for (const held of this.#keys) {
      if (held.waiting || life.dead) continue
      const bytes = Buffer.from(held.message.payload)
      const topicDevice = held.message.topic.startsWith('devices/') ? { topicDevice: 'poster' } : {}
      const ticket = life.ingest.submit(
        {
          transport: 'http',
          tenant: 'default',
          client: 'http',
          topic: held.message.topic,
          shape: 'any',
          packetId: 0,
          dup: false,
          idempotencyKey: held.key,
          item: 0,
          ...topicDevice,
        },
        bytes,
        0,
        bytes.length,
      )
      if (ticket === 0) continue
      held.waiting = true
      life.ingest.whenDurable(ticket).then(
        () => {
          if (life.dead) return
          this.#keys.splice(this.#keys.indexOf(held), 1)
          this.#acked(held.message)
        },
        () => void (held.waiting = false),
      )
    }
  }

  #acked(message: SimMessage): void {
    this.#acknowledged.set(message.id, message)
    this.outcome.acknowledged++
  }

  #traffic(): void {
    const life = this.#life!
    for (const client of this.#clients) {
      if (!client.online && this.random.chance(0.5)) client.connect((connection) => life.broker.accept(connection))
      if (this.random.chance(0.8)) client.carry()
    }
  }

  #heal(): void {
    this.disk.capacityBytes = Number.MAX_SAFE_INTEGER
    this.disk.failSyncs(0)
    this.#full = false
  }

  /** No more faults: everything outstanding gets through. */
  async #settle(): Promise<void> {
    this.#calm = true
    this.#heal()
    for (let round = 0; round < 400; round++) {
      if (this.#life!.fatal !== undefined) await this.#restart()
      this.#traffic()
      if (this.#keys.length > 0) this.#retryPosts()
      await this.clock.advance(50)
      const log = this.#life!.log
      const resumed = await this.store.resume(log.id, Topic.telemetry, 0)
      const idle = this.#keys.length === 0 && this.#clients.every((client) => client.pending.size === 0)
      if (idle && resumed !== undefined && resumed.next === log.end(Topic.telemetry)) return
    }
    assert.fail(`not settled: ${this.#keys.length} posts and ${this.#clients.map((c) => c.pending.size).join(',')} publishes are outstanding`)
  }

  #retryPosts(): void {
    const before = this.#next
    this.#post()
    // `#post` may have made one more message; it takes the same way.
    assert.ok(this.#next - before <= 1)
  }

  async #check(): Promise<void> {
    const found = new Map<number, { count: number; timeUs: number; device: string }>()
    const all = { match: { tenant: 'default', metrics: ['temperature'] }, fromUs: 0, toUs: 2 ** 53, order: 'asc', limit: 1_000_000 } as const
    for await (const page of this.store.query(all, new AbortController().signal)) {
      for (let i = 0; i < page.rows; i++) {
        assert.equal((page.flags?.[i] ?? 0) & Flag.text, 0)
        const value = page.columns['value']![i]!
        const before = found.get(value)
        found.set(value, { count: (before?.count ?? 0) + 1, timeUs: page.timeUs[i]!, device: page.keys[page.series[i]!]!.device })
      }
    }
    const letters = await this.#letters()
    for (const message of this.#acknowledged.values()) {
      if (message.kind === 'bad') {
        assert.ok(letters.has(message.payload), `the refused message ${message.id} is not among the dead letters`)
        continue
      }
      const row = found.get(message.value)
      assert.ok(row !== undefined, `message ${message.id} (${message.kind}) was acknowledged and is not in the store`)
      assert.equal(row.count, 1, `message ${message.id} (${message.kind}) is in the store ${row.count} times`)
      assert.equal(row.device, message.device)
      if (message.timeUs !== undefined) assert.equal(row.timeUs, message.timeUs)
    }
    assert.equal(
      found.size,
      [...this.#acknowledged.values()].filter((m) => m.kind !== 'bad').length,
      'the store holds readings that nobody sent, or that are not acknowledged',
    )
    this.outcome.deadLetters = letters.size
  }

  async #letters(): Promise<Set<string>> {
    const log = this.#life!.log
    const letters = new Set<string>()
    const end = log.end(Topic.deadLetters)
    if (end === log.earliest(Topic.deadLetters)) return letters
    const stop = new AbortController()
    for await (const delivery of log.reader({ topic: Topic.deadLetters, start: 'earliest' }).open(stop.signal)) {
      for (const record of delivery.records)
        if (record.kind === 'dead-letter') letters.add(Buffer.from(decodeDeadLetter(record.body).body).toString())
      delivery.ack()
      if (delivery.span !== undefined && delivery.span.next >= end) break
    }
    stop.abort()
    return letters
  }
}
