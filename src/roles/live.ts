import type { Env } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { Metrics } from '../core/metrics.ts'
import type { SeriesKey } from '../core/batch.ts'
import type { SeriesMatch, Sink, Source, Store, StreamLog } from '../core/ports.ts'
import { pump } from '../core/pump.ts'
import { Topic } from '../core/record.ts'
import type { SeriesTable } from '../core/series-table.ts'
import type { LatestValues, LiveFeed } from '../core/services.ts'
import type { DeviceRegistry } from '../devices/registry.ts'
import type { Hearing } from './hearing.ts'
import { LiveFanOut, LiveSink, type LiveSinkOptions } from './live-feed.ts'
import { LatestTable } from './live-latest.ts'
import { Progress } from './live-progress.ts'
import { RegistrySink, type OnErasure } from './live-registry.ts'

/** Consumer group under which the registry's place in the log is kept. */
export const registryGroup = 'registry'
/** The registry is in no hurry: fewer and larger deliveries. A quarter of a second is also how old `last_seen_us` may be. */
const registryLingerMs = 250

export interface Live extends LatestValues, LiveFeed {
  stop(): Promise<void>
}

export interface LiveOptions {
  readonly log: StreamLog
  readonly store: Pick<Store, 'latest' | 'resume'>
  readonly series: SeriesTable
  readonly registry: DeviceRegistry
  readonly env: Env
  readonly metrics: Metrics
  /** A device was erased, at this offset: the registry has durably forgotten it. What it rejects with is tried again. */
  readonly onErasure?: OnErasure
  /** A device was erased and is no longer in the series' table: who remembers it by its series forgets it now. */
  readonly forgotten?: (tenant: string, device: string) => void
  /** Other processes read and write this log, too: what they let in is heard here. */
  readonly hearing?: Hearing
  /** The log can no longer be read (damage, a bug): latest values and devices stand still from here on. */
  readonly onFatal?: (error: KymoError) => void
}

/**
 * The live side of the api role: latest values, the live feed, and the registry's ear at the log. Resolves when all that the
 * log held at the start is taken in, so that doors that open afterwards know every device, its series and its attributes. To be
 * awaited before doors open and before `SeriesTable.admission` is set.
 *
 * Two readers, since they promise different things. The registry's belongs to a group: it is acknowledged when the devices are
 * durable, so it stands still while the meta store does not answer, and the log waits for it. The one for latest values and
 * live clients has no group, starts where the store's answer ends, and waits for nobody. One reader for both would make live
 * views stop with the meta store. The second one costs 1 to 2 ns a reading more (bench figures in the role's test).
 */
export async function startLive(o: LiveOptions): Promise<Live> {
  const live = new LiveRole(o)
  try {
    await live.start()
  } catch (thrown) {
    await live.stop()
    throw thrown
  }
  return live
}

class LiveRole implements Live {
  readonly #o: LiveOptions
  readonly #abort = new AbortController()
  readonly #latest: LatestTable
  readonly #feed: LiveFanOut
  readonly #sources: Source[] = []
  readonly #pumps: Promise<void>[] = []
  #started = false
  #failed: KymoError | undefined

  readonly latest: LatestValues['latest']
  readonly metrics: LatestValues['metrics']
  readonly subscribe: LiveFeed['subscribe']

  constructor(o: LiveOptions) {
    this.#o = o
    const latest = new LatestTable(o.series)
    const feed = new LiveFanOut(o.env, o.metrics)
    this.#latest = latest
    this.#feed = feed
    this.latest = (match) => latest.latest(match)
    this.metrics = (tenant, device) => latest.metrics(tenant, device)
    this.subscribe = (listener) => feed.subscribe(listener)
  }

  async start(): Promise<void> {
    const { log, store, registry, hearing } = this.#o
    // First the registry: it knows the tenants, without which the store cannot be asked for all. Where other processes have a part of its group, nobody
    // can wait for all of it, and what it would have said is heard.
    if (hearing === undefined) await this.#follow('registry')
    else this.#pumps.push(this.#pump('registry', ...this.#registryReads(() => false)))
    // The place before the values: values may then be newer than the place, which reading again does not harm; never older.
    const from = await storedUpTo(log, store)
    if (hearing === undefined) for (const tenant of registry.tenants()) await this.#takeStored({ tenant })
    else await this.#takeStored({ tenant: '', everyTenant: true })
    await registry.stored()
    await this.#follow('live', from)
    // The registry's reader may have failed while the store was asked.
    if (this.#failed !== undefined) throw this.#failed
    this.#started = true
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    await Promise.allSettled(this.#pumps)
    for (const source of this.#sources) await source.close()
  }

  async #takeStored(match: SeriesMatch): Promise<void> {
    const { store, registry, env } = this.#o
    const batch = await store.latest(match, this.#abort.signal)
    this.#latest.push(batch, true)
    // A device with readings that the registry lacks: the metadata is older than the store (a restored copy).
    const receivedUs = env.clock.nowUs()
    let last: SeriesKey | undefined
    for (let row = 0; row < batch.rows; row++) {
      const key = batch.keys[batch.series[row]!]
      if (key === undefined || (key.device === last?.device && key.tenant === last.tenant)) continue
      last = key
      const { tenant, device } = key
      if (registry.indexOf(tenant, device) < 0) registry.learn({ tenant, device, receivedUs })
    }
  }

  /** Starts a reader and its pump; resolves when it has read what the log holds now. */
  async #follow(name: 'registry' | 'live', from: ReadonlyMap<number, bigint> = new Map()): Promise<void> {
    const progress = new Progress()
    const catchingUp = (): boolean => !progress.done
    const [source, sink] = name === 'registry' ? this.#registryReads(catchingUp) : this.#liveReads(catchingUp, from)
    const lag = await this.#o.log.lag(Topic.telemetry, registryGroup)
    progress.aim(lag, ({ partition, earliest, committed }) => (name === 'registry' ? committed : (from.get(partition) ?? earliest)))
    const pumped = this.#pump(name, source, progress.watch(sink)).then(() => {
      if (this.#failed !== undefined) throw this.#failed
    })
    this.#pumps.push(pumped)
    await Promise.race([progress.reached, pumped.then(() => Promise.reject(new KymoError('shutting_down')))])
  }

  #registryReads(catchingUp: () => boolean): [Source, Sink] {
    const { log, registry, series, env, onErasure = (): Promise<void> => Promise.resolve() } = this.#o
    const lingerMs = (): number => (catchingUp() ? 0 : registryLingerMs)
    const batch = { lingerMs, bytesMax: limits.mainDeliveryBytesMax }
    const source = log.reader({ topic: Topic.telemetry, group: registryGroup, start: 'committed', batch })
    this.#sources.push(source)
    return [source, new RegistrySink({ registry, series, env, catchingUp, onErasure })]
  }

  #liveReads(catchingUp: () => boolean, offsets: ReadonlyMap<number, bigint>): [Source, Sink] {
    const { log, env } = this.#o
    const lingerMs = (): number => (catchingUp() ? 0 : limits.liveLingerMs)
    const source = log.reader({ topic: Topic.telemetry, start: { offsets }, batch: { lingerMs, bytesMax: limits.mainDeliveryBytesMax } })
    this.#sources.push(source)
    return [source, new LiveSink({ latest: this.#latest, feed: this.#feed, env, catchingUp, ...this.#heard() })]
  }

  #heard(): Pick<LiveSinkOptions, 'forgotten' | 'hearing'> {
    const { forgotten = (): void => undefined, hearing } = this.#o
    return { forgotten, ...(hearing === undefined ? {} : { hearing }) }
  }

  /** Never rejects: what ends it before the start is over is what the start fails with. */
  async #pump(name: string, source: Source, sink: Sink): Promise<void> {
    const { env, metrics, onFatal } = this.#o
    const retries = metrics.counter('kymo_retries_total', 'Tries repeated after a failure.', { stage: name })
    const onRetry = (error: KymoError, attempt: number): void => {
      retries.value++
      if (attempt === 1) env.logger.warn(`${name} waits and tries again`, { code: error.code, error: error.message })
    }
    try {
      await pump(source, sink, this.#abort.signal, { env, name, onRetry })
    } catch (thrown) {
      if (this.#abort.signal.aborted) return
      const error = asKymoError(thrown)
      if (!this.#started) {
        this.#failed = error
        return
      }
      env.logger.error(`${name} cannot go on`, { code: error.code, error: error.message })
      onFatal?.(error)
    }
  }
}

/** Of each partition: where what the store has ends, and what is live begins. What the log no longer has is not waited for. */
async function storedUpTo(log: StreamLog, store: Pick<Store, 'resume'>): Promise<ReadonlyMap<number, bigint>> {
  const { log: life, partitions } = await log.places(Topic.telemetry)
  const from = new Map<number, bigint>()
  for (const { partition, earliest } of partitions) {
    const next = (await store.resume(life, Topic.telemetry, partition))?.next ?? earliest
    from.set(partition, next > earliest ? next : earliest)
  }
  return from
}
