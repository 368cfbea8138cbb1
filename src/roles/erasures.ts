import type { LogRetention } from '../core/config.ts'
import type { Env, Timer } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { ForecastStore } from '../core/forecast-store.ts'
import type { MetaDocument, MetaStore, Store, StreamLog, TopicPlaces } from '../core/ports.ts'
import { Topic } from '../core/record.ts'
import type { DeviceService, Erasure, ErasureRemains, ErasureService, Page } from '../core/services.ts'
import type { Snapshot, SnapshotService } from '../core/snapshot.ts'
import { encodeErasure } from '../wire/erasure.ts'
import type { OnErasure } from './live-registry.ts'
import { jobId } from './jobs/stored.ts'

export interface ErasuresOptions {
  readonly meta: MetaStore
  readonly log: StreamLog
  readonly store: Pick<Store, 'resume'> & { erasing(): Promise<ReadonlyMap<string, number>> }
  readonly devices: Pick<DeviceService, 'get'>
  /** What is forecast of devices. Absent: this deployment has no such store. */
  readonly forecasts?: Pick<ForecastStore, 'erase'>
  readonly env: Env
  /** What the log keeps though everybody has read it. */
  readonly kept: LogRetention
  /** Other processes have the same erasures. */
  readonly shared?: boolean
}

export interface Erasures extends ErasureService {
  /** The log was read up to this erasure, and the registry has forgotten the device. Resolves when that is durable. */
  met: OnErasure
  /** Puts into the log what was accepted and did not get there, and follows what is under way. After the log was read to its end. */
  begin(): Promise<void>
  /** Snapshots that are made are remembered: what is copied from them has what is erased later. */
  remembering(snapshots: SnapshotService): SnapshotService
  stop(): Promise<void>
}

interface Stored extends Omit<Erasure, 'remains'> {
  readonly tenant: string
  /** Life of the log that `log_offset` is of, and its partition. */
  readonly log: string
  readonly partition?: number
}

interface Taken {
  readonly id: string
  readonly created_us: number
}

const collection = 'erasures'
const snapshotCollection = 'snapshots-made'
const watchEveryMs = 500
const retryEveryMs = 10_000
/** Another process may just be writing what it accepted: only what has waited for so long is written by one that starts. */
const unwrittenUs = 600e6

/**
 * Opens the erasures of a data directory. An erasure is a record in the log, so that every consumer forgets at the same place; the document here says
 * that it was accepted and how far it has come. The document is written first: what the log then does not get is put there at the next start.
 */
export async function openErasures(o: ErasuresOptions): Promise<Erasures> {
  const erasures = new MetaErasures(o)
  await erasures.load()
  return erasures
}

class MetaErasures implements Erasures {
  readonly #o: ErasuresOptions
  /** By id, which sorts by time. */
  readonly #erasures = new Map<string, Stored>()
  readonly #taken: Taken[] = []
  #begun = false
  #timer: Timer | undefined
  #watching: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(o: ErasuresOptions) {
    this.#o = o
  }

  async load(): Promise<void> {
    for await (const doc of this.#documents(collection)) if (isStored(doc)) this.#erasures.set(doc.id, doc)
    for await (const doc of this.#documents(snapshotCollection)) if (isTaken(doc)) this.#taken.push(doc)
    this.#taken.sort((a, b) => a.created_us - b.created_us)
  }

  async request(tenant: string, device: string): Promise<Erasure> {
    if (this.#stopped) throw new KymoError('shutting_down')
    if ((await this.#o.devices.get(tenant, device)) === undefined) throw new KymoError('device_not_found')
    const open = [...this.#erasures.values()].filter(({ state }) => state !== 'done')
    const same = open.find((one) => one.tenant === tenant && one.device === device && one.log_offset === undefined)
    if (same !== undefined) return this.#view(same)
    if (open.length >= limits.erasuresOpenMax)
      throw new KymoError('overloaded', { detail: `${open.length} erasures are under way, which is the limit.`, retryAfterS: 60 })
    const { env, log } = this.#o
    const erasure: Stored = {
      id: jobId(env),
      tenant,
      device,
      state: 'accepted',
      created_us: env.clock.nowUs(),
      log: (await log.places(Topic.telemetry)).log,
    }
    await this.#put(erasure)
    try {
      await this.#write(erasure)
    } catch (thrown) {
      // Nothing of it is in the log: it was not accepted.
      await this.#remove(erasure.id)
      throw thrown
    }
    this.#watch()
    return this.#view(this.#erasures.get(erasure.id) ?? erasure)
  }

  async list(tenant: string, o: { readonly after?: string; readonly limit: number }): Promise<Page<Erasure>> {
    await this.#reread()
    const view = await this.#viewer()
    const items: Erasure[] = []
    for (const id of [...this.#erasures.keys()].sort().reverse()) {
      const stored = this.#erasures.get(id)
      if (stored?.tenant !== tenant || (o.after !== undefined && id >= o.after)) continue
      if (items.length === o.limit) return { items, next: items.at(-1)!.id }
      items.push(view(stored))
    }
    return { items }
  }

  async get(tenant: string, id: string): Promise<Erasure | undefined> {
    await this.#reread()
    const stored = this.#erasures.get(id)
    return stored?.tenant === tenant ? this.#view(stored) : undefined
  }

  async met({ id, tenant, device }: Parameters<OnErasure>[0], { log, partition, offset }: Parameters<OnErasure>[1]): Promise<void> {
    const { env } = this.#o
    await this.#reread()
    // Without a document: the metadata is older than the log (a restored copy).
    const known = this.#erasures.get(id) ?? { id, tenant, device, state: 'accepted', created_us: env.clock.nowUs(), log }
    if (known.log_offset !== undefined) return
    await this.#put({ ...known, log, ...(partition === 0 ? {} : { partition }), log_offset: String(offset) })
    this.#watch()
  }

  async begin(): Promise<void> {
    this.#begun = true
    const before = this.#o.shared === true ? this.#o.env.clock.nowUs() - unwrittenUs : Number.POSITIVE_INFINITY
    for (const erasure of this.#erasures.values())
      if (erasure.state === 'accepted' && erasure.log_offset === undefined && erasure.created_us < before) await this.#write(erasure)
    this.#watch()
  }

  remembering(snapshots: SnapshotService): SnapshotService {
    return {
      create: async (id) => {
        const snapshot = await snapshots.create(id)
        await this.#remember(snapshot)
        return snapshot
      },
      get: (id) => snapshots.get(id),
      file: (id, name) => snapshots.file(id, name),
      remove: (id) => snapshots.remove(id),
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#watching
  }

  async #remember({ id, created_us }: Snapshot): Promise<void> {
    await this.#o.meta.write([{ op: 'put', collection: snapshotCollection, tenant: '', doc: { id, created_us } }])
    this.#taken.push({ id, created_us })
    const old = this.#taken.splice(0, Math.max(0, this.#taken.length - limits.snapshotsRememberedMax))
    for (const one of old) await this.#o.meta.write([{ op: 'delete', collection: snapshotCollection, tenant: '', id: one.id }])
  }

  async #write(erasure: Stored): Promise<void> {
    const record = {
      topic: Topic.telemetry,
      kind: 'erasure',
      key: erasure.device,
      receivedUs: this.#o.env.clock.nowUs(),
      body: encodeErasure(erasure),
    } as const
    await this.#o.log.write([record], undefined, new AbortController().signal)
  }

  /** Looks whether what is under way has come further, until nothing is. */
  #watch(afterMs = watchEveryMs): void {
    if (!this.#begun || this.#stopped) return
    this.#timer?.cancel()
    this.#timer = this.#o.env.clock.after(afterMs, () => {
      this.#watching = this.#look().then(
        (more) => {
          if (more) this.#watch()
        },
        (thrown: unknown) => {
          this.#o.env.logger.warn('how far erasures have come could not be told', { error: asKymoError(thrown).message })
          this.#watch(retryEveryMs)
        },
      )
    })
  }

  /** Whether any is still under way. */
  async #look(): Promise<boolean> {
    await this.#reread()
    const open = [...this.#erasures.values()].filter(({ state }) => state !== 'done')
    const { store, env } = this.#o
    let more = false
    for (const erasure of open) {
      const { id, log, partition = 0, log_offset: offset } = erasure
      const next = offset === undefined ? undefined : (await store.resume(log, Topic.telemetry, partition))?.next
      if (offset === undefined || next === undefined || next <= BigInt(offset)) {
        more = true
        continue
      }
      // Before the word that nobody finds anything: a process that is killed in between does it again. From here on the store has no readings of which it
      // could be forecast anew, and what the device sends as a new one is not touched.
      if (erasure.state === 'accepted') await this.#o.forecasts?.erase(erasure.tenant, erasure.device)
      // Asked after the store's place: it has taken the erasure by then.
      const nowUs = env.clock.nowUs()
      const hidden: Stored = erasure.state === 'accepted' ? { ...erasure, state: 'hidden', hidden_us: nowUs } : erasure
      if ((await store.erasing()).has(id)) {
        more = true
        if (hidden !== erasure) await this.#put(hidden)
      } else {
        await this.#put({ ...hidden, state: 'done', finished_us: nowUs })
        env.logger.info('a device was erased', { erasure: id, tookS: Math.round((nowUs - erasure.created_us) / 1e6) })
        await this.#forgetOldest()
      }
    }
    return more
  }

  async #forgetOldest(): Promise<void> {
    const done = [...this.#erasures.values()].filter(({ state }) => state === 'done').sort((a, b) => (a.id < b.id ? -1 : 1))
    for (const { id } of done.slice(0, Math.max(0, this.#erasures.size - limits.erasuresKeptMax))) await this.#remove(id)
  }

  async #put(stored: Stored): Promise<void> {
    await this.#o.meta.write([{ op: 'put', collection, tenant: '', doc: { ...stored } }])
    this.#erasures.set(stored.id, stored)
  }

  async #remove(id: string): Promise<void> {
    await this.#o.meta.write([{ op: 'delete', collection, tenant: '', id }])
    this.#erasures.delete(id)
  }

  /** Takes over what other processes have written. */
  async #reread(): Promise<void> {
    if (this.#o.shared !== true) return
    const there = new Set<string>()
    for await (const doc of this.#documents(collection)) {
      if (!isStored(doc)) continue
      there.add(doc.id)
      this.#erasures.set(doc.id, doc)
    }
    for (const id of this.#erasures.keys()) if (!there.has(id)) this.#erasures.delete(id)
  }

  async #view(stored: Stored): Promise<Erasure> {
    return (await this.#viewer())(stored)
  }

  /** Erasures as they are told, as of the log of now. */
  async #viewer(): Promise<(stored: Stored) => Erasure> {
    const { log } = this.#o
    const [telemetry, letters] = await Promise.all([log.places(Topic.telemetry), log.places(Topic.deadLetters)])
    return (stored) => {
      const { tenant: _tenant, log: _log, partition: _partition, ...erasure } = stored
      return { ...erasure, remains: this.#remains(stored, telemetry, letters) }
    }
  }

  #remains(stored: Stored, telemetry: TopicPlaces, deadLetters: TopicPlaces): ErasureRemains {
    const { log: life, partition = 0, log_offset, created_us, hidden_us, finished_us } = stored
    const { env, kept } = this.#o
    const earliest = telemetry.partitions[partition]?.earliest ?? 0n
    const inLog = life === telemetry.log && (log_offset === undefined || earliest < BigInt(log_offset))
    // The data was in the log before the erasure, and that is in it since before it was carried out.
    const logUntil = kept.retentionAgeUs === undefined ? {} : { until_us: (hidden_us ?? env.clock.nowUs()) + kept.retentionAgeUs }
    const until = created_us + limits.deadLetterAgeMaxUs
    const letters = deadLetters.partitions.some((one) => one.end > one.earliest) && env.clock.nowUs() < until
    return {
      ...(inLog ? { log: { bytes: telemetry.bytes, kept_bytes: kept.retentionBytes, ...logUntil } } : {}),
      ...(letters ? { dead_letters_until_us: until } : {}),
      snapshots: this.#taken.filter((one) => one.created_us < (finished_us ?? Number.POSITIVE_INFINITY)),
    }
  }

  async *#documents(from: string): AsyncGenerator<MetaDocument> {
    for (let after: string | undefined; ;) {
      const rows = await this.#o.meta.list(from, '', { limit: pageRows, ...(after === undefined ? {} : { after }) })
      for (const { doc } of rows) yield doc
      after = rows.at(-1)?.doc.id
      if (rows.length < pageRows) return
    }
  }
}

const pageRows = 1_000

function isStored(doc: object): doc is Stored {
  if (!('tenant' in doc && 'device' in doc && 'state' in doc && 'log' in doc && 'created_us' in doc)) return false
  const { tenant, device, state, log, created_us } = doc
  const known = state === 'accepted' || state === 'hidden' || state === 'done'
  return known && typeof tenant === 'string' && typeof device === 'string' && typeof log === 'string' && typeof created_us === 'number'
}

function isTaken(doc: object): doc is Taken {
  return 'id' in doc && typeof doc.id === 'string' && 'created_us' in doc && typeof doc.created_us === 'number'
}
