import { isBucketed } from '../core/buckets.ts'
import type { Retention } from '../core/config.ts'
import type { Env } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import type { Metrics } from '../core/metrics.ts'
import type { Store, StreamLog } from '../core/ports.ts'
import type { StoreStats } from '../store/duckdb/options.ts'
import type { EngineHealth } from './engine-health.ts'
import { nothingStored, type Committed, type ServedStore, type StoreCounts, type StoreSettings } from './served-store.ts'
import { StoreMetrics } from './store-metrics.ts'
import { startStoreGroup } from './store-group.ts'
import type { StoreRole } from './store.ts'
import { watchEngine } from './watch-engine.ts'

/** A store on an engine of its own, with what it may tell beyond the port. */
export interface OutsideStore extends Store {
  /** As `ServedStore.erasing`. */
  erasing(): Promise<ReadonlyMap<string, number>>
  /** Of all its tables on disk. */
  bytes(): Promise<number>
  /** How long it keeps what it has; in effect with its next round. */
  retain(retention: Retention): void
}

export interface OutsideStoreOptions {
  readonly store: OutsideStore
  readonly env: Env
  readonly metrics: Metrics
  readonly health: EngineHealth
  /** Given: the store role runs in this process, and reads this log. */
  readonly log?: StreamLog
  /** See StoreRoleOptions. */
  readonly commitMessages: number
  /** See StoreGroupOptions. */
  readonly retries: number
  readonly onFatal: (error: KymoError) => void
}

/** A store that other processes may have open too, for the roles of this one. */
export function serveOutsideStore(o: OutsideStoreOptions): ServedStore {
  return new Served(o)
}

class Served implements ServedStore {
  readonly #o: OutsideStoreOptions
  readonly #metrics: StoreMetrics
  readonly #listeners = new Set<(commit: Committed) => void>()
  readonly #role: StoreRole | undefined
  readonly #stopLooking: () => void
  #bytes = 0

  constructor(o: OutsideStoreOptions) {
    this.#o = o
    this.#metrics = new StoreMetrics(o.metrics, () => this.stats())
    this.#stopLooking = watchEngine('store', o, async () => {
      this.#bytes = await o.store.bytes()
    })
    if (o.log === undefined) return
    this.#role = startStoreGroup({
      log: o.log,
      store: o.store,
      env: o.env,
      commitMessages: o.commitMessages,
      retries: o.retries,
      onCommitted: (commit) => this.#committed(commit),
      onRetry: (error) => {
        this.#metrics.writeErrors.value++
        o.health.failed('store', error)
      },
    })
    this.#role.done.catch((thrown: unknown) => o.onFatal(asKymoError(thrown)))
  }

  async *query(...asked: Parameters<Store['query']>): ReturnType<Store['query']> {
    const done = this.#timed(isBucketed(asked[0]) ? 'buckets' : 'raw')
    try {
      yield* this.#o.store.query(...asked)
    } finally {
      done()
    }
  }

  latest(...asked: Parameters<Store['latest']>): ReturnType<Store['latest']> {
    return this.#o.store.latest(...asked).finally(this.#timed('latest'))
  }

  series(...asked: Parameters<Store['series']>): ReturnType<Store['series']> {
    return this.#o.store.series(...asked).finally(this.#timed('series'))
  }

  sql(): Promise<never> {
    const detail = 'SQL over HTTP reads the embedded store. Ask the database that store.url names by its own means (psql, the view device_telemetry).'
    return Promise.reject(new KymoError('not_offered', { detail }))
  }

  resume(...asked: Parameters<Store['resume']>): ReturnType<Store['resume']> {
    return this.#o.store.resume(...asked)
  }

  onCommitted(listener: (commit: Committed) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  stats(): StoreStats & StoreCounts {
    return { ...nothingStored, bytes: this.#bytes, ...(this.#role?.counts ?? { duplicates: 0, corrections: 0, late: 0 }) }
  }

  reconfigure({ retention }: StoreSettings): Promise<void> {
    this.#o.store.retain(retention)
    return Promise.resolve()
  }

  erasing(): Promise<ReadonlyMap<string, number>> {
    return this.#o.store.erasing()
  }

  async close(): Promise<void> {
    this.#stopLooking()
    await this.#role?.stop().catch(() => undefined) // told as fatal already
    await this.#o.store.close()
  }

  #committed(commit: Committed): void {
    this.#o.health.works('store')
    this.#metrics.committed(commit, this.#o.env.clock.nowUs())
    for (const listener of this.#listeners) listener(commit)
  }

  #timed(kind: string): () => void {
    const { clock } = this.#o.env
    const fromMs = clock.monotonicMs()
    return () => this.#metrics.query(kind).observe((clock.monotonicMs() - fromMs) / 1000)
  }
}
