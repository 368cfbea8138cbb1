import type { Env } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { Metrics } from '../core/metrics.ts'
import type { Sink, Source, Store, StreamLog } from '../core/ports.ts'
import { pump } from '../core/pump.ts'
import { Topic } from '../core/record.ts'
import type { SeriesTable } from '../core/series-table.ts'
import type { LatestValues, LiveFeed } from '../core/services.ts'
import type { DeviceRegistry } from '../devices/registry.ts'
import type { ErasureRequest } from '../wire/erasure.ts'
import { LiveFanOut, LiveSink } from './live-feed.ts'
import { LatestTable } from './live-latest.ts'
import { Progress } from './live-progress.ts'
import { RegistrySink } from './live-registry.ts'

/** Consumer group under which the registry's place in the log is kept. */
export const registryGroup = 'registry'
/** The registry is in no hurry: fewer and larger deliveries. A quarter of a second is also how old `last_seen_us` may be. */
const registryLingerMs = 250

export interface Live extends LatestValues, LiveFeed {
  stop(): Promise<void>
}

export interface LiveOptions {
  readonly log: StreamLog & { readonly id: string }
  readonly store: Pick<Store, 'latest' | 'resume'>
  readonly series: SeriesTable
  readonly registry: DeviceRegistry
  readonly env: Env
  readonly metrics: Metrics
  /** A device was erased, at this offset: the registry has durably forgotten it. What it rejects with is tried again. */
  readonly onErasure?: (request: ErasureRequest, offset: bigint) => Promise<void>
  /** A device was erased and is no longer in the series' table: who remembers it by its series forgets it now. */
  readonly forgotten?: (tenant: string, device: string) => void
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
    // First the registry: it knows the tenants, without which the store cannot be asked for all.
    await this.#follow('registry')
    const { log, store, registry } = this.#o
    // The place before the values: values may then be newer than the place, which reading again does not harm; never older.
    const resume = await store.resume(log.id, Topic.telemetry, 0)
    for (const tenant of registry.tenants()) await this.#takeStored(tenant)
    await registry.stored()
    await this.#follow('live', resume?.next)
    // The registry's reader may have failed while the store was asked.
    if (this.#failed !== undefined) throw this.#failed
    this.#started = true
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    await Promise.allSettled(this.#pumps)
    for (const source of this.#sources) await source.close()
  }

  async #takeStored(tenant: string): Promise<void> {
    const { store, registry, env } = this.#o
    const batch = await store.latest({ tenant }, this.#abort.signal)
    this.#latest.push(batch, true)
    // A device with readings that the registry lacks: the metadata is older than the store (a restored copy).
    const receivedUs = env.clock.nowUs()
    let last = ''
    for (let row = 0; row < batch.rows; row++) {
      const key = batch.keys[batch.series[row]!]
      if (key === undefined || key.device === last) continue
      last = key.device
      if (registry.indexOf(tenant, key.device) < 0) registry.learn({ tenant, device: key.device, receivedUs })
    }
  }

  /** Starts a reader and its pump; resolves when it has read what the log holds now. */
  async #follow(name: 'registry' | 'live', from?: bigint): Promise<void> {
    const { log, env, series, registry } = this.#o
    const progress = new Progress()
    const catchingUp = (): boolean => !progress.done
    let source: Source
    let sink: Sink
    if (name === 'registry') {
      const lingerMs = (): number => (progress.done ? registryLingerMs : 0)
      source = log.reader({
        topic: Topic.telemetry,
        group: registryGroup,
        start: 'committed',
        batch: { lingerMs, bytesMax: limits.mainDeliveryBytesMax },
      })
      sink = new RegistrySink({ registry, series, env, catchingUp, onErasure: this.#o.onErasure ?? (() => Promise.resolve()) })
    } else {
      const lingerMs = (): number => (progress.done ? limits.liveLingerMs : 0)
      source = log.reader({
        topic: Topic.telemetry,
        start: from === undefined ? 'earliest' : { offset: from },
        batch: { lingerMs, bytesMax: limits.mainDeliveryBytesMax },
      })
      sink = new LiveSink({ latest: this.#latest, feed: this.#feed, env, catchingUp, forgotten: this.#o.forgotten ?? (() => undefined) })
    }
    this.#sources.push(source)
    const lag = await log.lag(Topic.telemetry, registryGroup)
    // Without a place in the log the live reader starts at its beginning, whatever the registry has read.
    progress.aim(lag, name === 'registry' ? (partition) => partition.committed : (partition) => from ?? partition.earliest)
    const pumped = this.#pump(name, source, progress.watch(sink))
    this.#pumps.push(pumped)
    await Promise.race([progress.reached, pumped.then(() => Promise.reject(new KymoError('shutting_down')))])
  }

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
        throw error
      }
      env.logger.error(`${name} cannot go on`, { code: error.code, error: error.message })
      onFatal?.(error)
    }
  }
}
