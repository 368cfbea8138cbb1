import type { DuckDBConnection } from '@duckdb/node-api'
import { availableParallelism } from 'node:os'
import type { Batch } from '../../core/batch.ts'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { Erasing, OperatorState, QueryPage, RangeQuery, SeriesInfo, SeriesMatch, SeriesPage, Store } from '../../core/ports.ts'
import type { SqlQuery, SqlRows, SqlStore } from '../../core/sql.ts'
import { catchUp } from './catch-up.ts'
import { Checkpoints, defaultCheckpointBytes, holdMs } from './checkpoints.ts'
import { Database, engineError } from './database.ts'
import { Dictionary } from './dictionary.ts'
import { StoreFiles, type SourcesLease } from './files.ts'
import { HotWriter, type CommitArgument } from './hot-writer.ts'
import { spanName, type ErasedSeries, type SpanRow } from './ledger.ts'
import { latestOf } from './latest.ts'
import { loadState } from './load.ts'
import { defaultMemoryMb, type DuckdbOptions, type StoreStats } from './options.ts'
import { runRange, type QueryParts } from './query.ts'
import { Ranges } from './recompute.ts'
import { bytesOf, keepAll, type Expiry } from './retention.ts'
import { Rotations } from './rotations.ts'
import { RuleSeries } from './rules.ts'
import { hot } from './schema.ts'
import type { Drop } from './sealed/drop.ts'
import { field, keepMinutes, SeriesState, stateWidth } from './series-state.ts'
import { abortError, QuerySlots } from './slots.ts'
import { runSql } from './sql/run.ts'
import { writeManifest } from './sealed/manifest-file.ts'
import { withFrozen, type Manifest } from './sealed/manifest.ts'
import type { StoreSnapshot } from './snapshot.ts'
import { Stage } from './stage.ts'
import { Upkeep } from './upkeep.ts'
import { Turn } from './turn.ts'

export type { DuckdbOptions, StoreStats }

/** The Store port over DuckDB files, in the calling thread. Open with `openDuckdbStore`. */
export class DuckdbStore implements Store, SqlStore {
  readonly #env: Env
  readonly #sketchedFromUs: number | undefined
  readonly #memoryLimitBytes: number
  readonly #database: Database
  readonly #writer: DuckDBConnection
  readonly #admin: DuckDBConnection
  readonly #files: StoreFiles
  readonly #upkeep: Upkeep
  readonly #checkpoints: Checkpoints
  #hot: HotWriter
  readonly #slots: QuerySlots
  readonly #turn = new Turn()
  readonly #rotations: Rotations
  readonly #dictionary = new Dictionary()
  readonly #state = new SeriesState()
  readonly #stage: Stage
  #spans = new Map<string, SpanRow>()
  /** Which series go by which rule of retention. */
  readonly #rules = new RuleSeries(this.#dictionary)
  /** Of devices that were erased, and of whom files still have rows. */
  #erased: readonly ErasedSeries[] = []
  #gen = 0
  /** Bytes that retention has removed since the start. */
  readonly #expired: Record<Expiry['reason'], number> = { age: 0, size: 0 }
  #rowsAtMark = 0
  /** When the hot file began, and the store's commits then. */
  #hotSinceMs: number
  #genAtRotation = 0
  /** Of the commit under way: until its transaction has ended. */
  readonly #leases: SourcesLease[] = []
  #failed: KymoError | undefined
  #closing: Promise<void> | undefined

  private constructor(
    o: DuckdbOptions,
    database: Database,
    writer: DuckDBConnection,
    admin: DuckDBConnection,
    hotWriter: HotWriter,
    slots: QuerySlots,
  ) {
    this.#env = o.env
    this.#sketchedFromUs = o.sketchedFromUs
    this.#memoryLimitBytes = (o.memoryLimitMb ?? defaultMemoryMb) * 1e6
    this.#database = database
    this.#writer = writer
    this.#admin = admin
    this.#hot = hotWriter
    this.#slots = slots
    this.#stage = new Stage(this.#dictionary, this.#state, hotWriter.tables, new Ranges(), o.keepMinutes ?? keepMinutes)
    this.#files = new StoreFiles(admin, database.dir, database.found, o.attachedMax, database.unsketched)
    this.#hotSinceMs = o.env.clock.monotonicMs()
    this.#checkpoints = new Checkpoints({
      env: o.env,
      database,
      writer,
      slots,
      turn: this.#turn,
      bytes: o.checkpointBytes ?? defaultCheckpointBytes,
      reserveBytes: o.reserveBytes ?? limits.diskReserveBytes,
      failed: () => this.#failed !== undefined,
      fail: (error) => (this.#failed = error),
    })
    this.#rotations = new Rotations({
      env: o.env,
      database,
      writer,
      checkpoints: this.#checkpoints,
      slots,
      turn: this.#turn,
      needed: () => this.#gen !== this.#genAtRotation,
      rotate: () => this.#rotateNow(),
    })
    this.#upkeep = new Upkeep({
      dir: database.dir,
      env: o.env,
      files: this.#files,
      rotationDue: () => this.#ripeness(o) >= 1,
      rotate: () => this.#rotations.run(this.#ripeness(o) >= 2 ? limits.queryDeadlineMs : holdMs),
      // As the moments of sealing above: asked each time, as they may change while it runs.
      get retention() {
        return o.retention ?? keepAll
      },
      // Between commits: one that has begun may compute from the rows that go.
      expiring: (manifest, expiries) =>
        this.#turn.run(async () => {
          await Promise.resolve()
          for (const one of expiries) this.#expired[one.reason] += one.bytes
          this.#forget(manifest)
        }),
      erased: () => this.#erased,
      thin: () => ({ drops: this.#rules.drops(o.retention?.rules ?? [], o.env.clock.nowUs()), version: this.#rules.version }),
      thinning: (drops) => this.#thinning(drops),
      purged: (ids) => this.#purged(ids),
      detach: async (catalog) => void (await admin.run(`DETACH ${catalog}`)),
      ...(o.exitAfter === undefined ? {} : { exitAfter: o.exitAfter }),
    })
  }

  static async open(o: DuckdbOptions): Promise<DuckdbStore> {
    const database = await Database.open({
      dir: o.dir,
      env: o.env,
      memoryLimitMb: o.memoryLimitMb ?? defaultMemoryMb,
      threads: o.threads ?? Math.max(1, Math.min(4, availableParallelism() >> 1)),
    })
    let store: DuckdbStore | undefined
    try {
      const writer = await database.connect()
      const readers: DuckDBConnection[] = []
      for (let i = 0; i < limits.queryInFlightMax; i++) readers.push(await database.connect())
      const hotWriter = await HotWriter.open(writer)
      store = new DuckdbStore(o, database, writer, await database.connect(), hotWriter, new QuerySlots(readers))
      await store.#load()
      // Its age counts from when it was made, however often the process was started since.
      const ageMs = Math.max(0, (o.env.clock.nowUs() - (await hotWriter.ledger.createdUs())) / 1000)
      store.#hotSinceMs -= Math.min(ageMs, o.sealAfterMs ?? limits.hotAgeMaxMs)
      return store
    } catch (thrown) {
      if (store !== undefined) await Promise.all([store.#upkeep.close(), store.#files.close()])
      database.close()
      throw engineError(thrown)
    }
  }

  commit(c: CommitArgument, signal: AbortSignal): Promise<void> {
    return this.#turn.run(async () => {
      if (signal.aborted) throw abortError(signal)
      this.#check()
      const known = this.#spans.get(spanName(c.span))
      if (known !== undefined && known.next !== c.span.first) {
        throw new KymoError('span_conflict', {
          detail: `Offset ${c.span.first} of ${c.span.topic} was offered; the store expects ${known.next}.`,
          facts: { first: String(c.span.first), next: String(known.next) },
        })
      }
      this.#checkpoints.checkRoom()
      try {
        await this.#transaction(c, known)
      } catch (thrown) {
        throw await this.#rollback(thrown)
      } finally {
        for (const lease of this.#leases.splice(0)) lease.release()
      }
      if (known !== undefined) known.next = c.span.next
      else this.#spans.set(spanName(c.span), { log: c.span.log, topic: c.span.topic, partition: c.span.partition, next: c.span.next })
      await this.#checkpoints.whenDue()
    })
  }

  resume(log: string, topic: string, partition: number): Promise<{ readonly next: bigint; readonly states: readonly OperatorState[] } | undefined> {
    return this.#turn.run(async () => {
      this.#check()
      const span = this.#spans.get(spanName({ log, topic, partition }))
      if (span === undefined) return undefined
      return { next: span.next, states: await this.#hot.ledger.states(log, topic, partition) }
    })
  }

  /** Has another log of this topic and partition been stored? Then operators that start empty must be seeded from `series`. */
  knowsAnotherLog(log: string, topic: string, partition: number): boolean {
    return [...this.#spans.values()].some((span) => span.topic === topic && span.partition === partition && span.log !== log)
  }

  async *query(q: RangeQuery, signal: AbortSignal): AsyncGenerator<QueryPage, void, void> {
    this.#check()
    yield* runRange(this.#queryParts, q, signal)
  }

  sql(q: SqlQuery, signal: AbortSignal): Promise<SqlRows | 'needs devices'> {
    this.#check()
    return runSql({ ...this.#queryParts, memoryLimitBytes: this.#memoryLimitBytes }, q, signal)
  }

  latest(match: SeriesMatch, signal: AbortSignal): Promise<Batch> {
    return this.#turn.run(() => {
      if (signal.aborted) throw abortError(signal)
      this.#check()
      return latestOf({ dictionary: this.#dictionary, state: this.#state, files: this.#files, ledger: this.#hot.ledger }, match)
    })
  }

  async series(match: SeriesMatch, signal: AbortSignal, page?: SeriesPage): Promise<readonly SeriesInfo[]> {
    return this.#turn.run(async () => {
      if (signal.aborted) throw abortError(signal)
      this.#check()
      const { cells } = this.#state
      await Promise.resolve()
      return Array.from(this.#dictionary.page(this.#dictionary.match(match), page), (id) => {
        const at = id * stateWidth
        const lastUs = Math.max(cells[at + field.last]!, cells[at + field.lateLast]!)
        return { key: this.#dictionary.keys[id]!, firstUs: cells[at + field.first]!, lastUs }
      })
    })
  }

  /** Bytes on disk, and what waits and runs. */
  stats(): StoreStats {
    const { manifest, frozen } = this.#files.view
    return {
      bytes: this.#database.hotBytes + frozen.reduce((sum, file) => sum + this.#database.frozenBytes(file.hot), 0) + bytesOf(manifest),
      series: this.#dictionary.size - this.#dictionary.erased,
      running: this.#slots.running,
      waiting: this.#slots.waiting,
      rawFromUs: this.#stage.rawFromUs,
      expiredBytes: { ...this.#expired, rules: this.#upkeep.ruled.bytes },
      rules: { series: this.#rules.counts, dueFiles: this.#upkeep.ruled.dueFiles },
    }
  }

  /** Closes the hot file when it is due, seals what waits and merges what is due; resolves when nothing is. Rejects with what went wrong. */
  seal(): Promise<void> {
    return this.#upkeep.run()
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      // At once: what upkeep does may wait for queries, which end only when they are interrupted.
      await Promise.all([this.#upkeep.close(), this.#slots.close(this.#env.clock)])
      await this.#rotations.settled()
      await this.#checkpoints.holding
      await this.#turn.run(async () => {
        if (this.#failed === undefined)
          await this.#settle().catch((thrown: unknown) =>
            this.#env.logger.warn('The store was closed without a checkpoint.', { detail: engineError(thrown).message }),
          )
        this.#failed ??= new KymoError('shutting_down')
        // What queries have released may still be on its way out of the engine.
        await this.#files.close()
        this.#hot.close()
        this.#writer.closeSync()
        this.#admin.closeSync()
        this.#database.close()
      })
    })()
    return this.#closing
  }

  #check(): void {
    if (this.#failed !== undefined) throw this.#failed
    if (this.#closing !== undefined) throw new KymoError('shutting_down')
  }

  async #transaction(c: CommitArgument, known: SpanRow | undefined): Promise<void> {
    const gen = this.#gen + 1
    await this.#hot.begin.run()
    const another = known === undefined && this.knowsAnotherLog(c.span.log, c.span.topic, c.span.partition)
    if (another) this.#stage.distrustOpenBuckets()
    this.#stage.add(c.tables, gen)
    this.#hot.tables.flush()
    await catchUp({ writer: this.#writer, stage: this.#stage, state: this.#state, files: this.#files, leases: this.#leases }, gen)
    if (c.erase !== undefined) await this.#erase(c.erase)
    for (const state of c.states ?? []) await this.#hot.ledger.keepState(c.span, state)
    const since = this.#stage.readings - this.#rowsAtMark
    const mark = another || since > Math.max(1_000_000, 20 * this.#dictionary.size)
    if (mark) await this.#keepMark(gen)
    await this.#hot.ledger.commit(c.span, known !== undefined, gen)
    this.#gen = gen
    if (mark) this.#rowsAtMark = this.#stage.readings
  }

  /** In the open transaction. Nobody reads the device's rows from this commit on, as its series have no names; files follow (upkeep.ts). */
  async #erase({ id, tenant, device }: Erasing): Promise<void> {
    const erased = this.#dictionary.forget(tenant, device).map((series) => ({ series, erasure: id, hot: this.#database.hot }))
    for (const { series } of erased) this.#state.forget(series)
    this.#database.spoilNext()
    await this.#hot.ledger.erase(erased)
    this.#erased = [...this.#erased, ...erased]
  }

  /** No file has these series any more. */
  async #purged(ids: readonly number[]): Promise<void> {
    await this.#turn.run(async () => {
      this.#check()
      try {
        await this.#writer.run('BEGIN')
        await this.#hot.ledger.forgetErased(ids)
        await this.#writer.run('COMMIT')
      } catch (thrown) {
        throw await this.#rollback(thrown)
      }
      const gone = new Set(ids)
      this.#erased = this.#erased.filter(({ series }) => !gone.has(series))
    })
  }

  /** Takes durable note of what rules of retention take away: no bucket is computed again from what is left. */
  async #thinning(drops: readonly Drop[]): Promise<void> {
    await this.#turn.run(async () => {
      this.#check()
      let news = false
      for (const { ids, beforeUs } of drops) {
        for (const id of ids) {
          if (this.#state.expireRaw(id, beforeUs.raw ?? 0)) news = true
          if (this.#state.expire(id, beforeUs['1m'] ?? 0, beforeUs['1h'] ?? 0)) news = true
        }
      }
      if (news) await this.#writeMark()
    })
  }

  /** Erasures of which files still have rows, though nobody reads them; each with the number of its series. */
  erasing(): ReadonlyMap<string, number> {
    return new Map(
      Array.from(
        Map.groupBy(this.#erased, ({ erasure }) => erasure),
        ([id, series]) => [id, series.length],
      ),
    )
  }

  /** Writes the state of the series down by itself. */
  async #writeMark(): Promise<void> {
    try {
      await this.#writer.run('BEGIN')
      await this.#keepMark(this.#gen)
      await this.#writer.run('COMMIT')
      this.#rowsAtMark = this.#stage.readings
    } catch (thrown) {
      throw await this.#rollback(thrown)
    }
  }

  #keepMark(gen: number): Promise<void> {
    return this.#hot.ledger.keepMark({ gen, readings: this.#stage.readings, seq: this.#stage.seq - 1 }, this.#state.encode())
  }

  /** After a failure nothing of the commit may remain, on disk or in memory. */
  async #rollback(thrown: unknown): Promise<KymoError> {
    const found = engineError(thrown)
    // Queries have taken the engine's memory: there will be some again.
    const error = found.code === 'query_too_large' ? new KymoError('store_unavailable', { detail: found.message, cause: thrown }) : found
    this.#hot.tables.clear()
    await this.#writer.run('ROLLBACK').catch(() => undefined) // a commit that failed has rolled back already
    if (error.code === 'store_failed') {
      this.#failed = error
      return error
    }
    try {
      await this.#load()
    } catch (again) {
      this.#failed = engineError(again)
      return this.#failed
    }
    return error
  }

  async #load(): Promise<void> {
    const loaded = await loadState(this.#writer, this.#dictionary, this.#state, this.#files)
    this.#gen = loaded.gen
    this.#stage.seq = loaded.seq + 1
    this.#stage.readings = loaded.readings
    this.#rowsAtMark = loaded.readings - loaded.rowsSince
    this.#spans = await this.#hot.ledger.spans()
    this.#erased = await this.#hot.ledger.erased()
    this.#forget(this.#files.view.manifest)
  }

  /** Takes note of what retention has removed: a plan that is made from now on asks for none of it. */
  #forget({ expired }: Manifest): void {
    if (expired === undefined) return
    this.#stage.rawFromUs = expired.raw ?? 0
    for (let id = 0; id < this.#dictionary.size; id++) this.#state.expire(id, expired['1m'] ?? 0, expired['1h'] ?? 0)
  }

  get #queryParts(): QueryParts {
    return {
      slots: this.#slots,
      turn: this.#turn,
      dictionary: this.#dictionary,
      state: this.#state,
      files: this.#files,
      gen: () => this.#gen,
      erasing: () => this.#erased.length > 0,
      sketchedFromUs: this.#sketchedFromUs,
    }
  }

  /** From 1 on the hot file is to be closed; from 2 on queries wait for it as long as others may run. */
  #ripeness({ sealBytes = limits.hotBytesMax, sealAfterMs = limits.hotAgeMaxMs }: Pick<DuckdbOptions, 'sealBytes' | 'sealAfterMs'>): number {
    if (this.#failed !== undefined || this.#closing !== undefined || this.#gen === this.#genAtRotation) return 0
    // What was erased is to leave this file; now and then there is no gap between queries.
    const erased = this.#erased.some((one) => one.hot === this.#database.hot) ? 1 : 0
    return Math.max(erased, this.#database.hotBytes / sealBytes, (this.#env.clock.monotonicMs() - this.#hotSinceMs) / sealAfterMs)
  }

  /** Links the store's files into a folder, as they are between two commits, after a rotation. `store_unavailable`: queries left no gap. */
  async snapshot(into: string): Promise<StoreSnapshot> {
    this.#check()
    return this.#rotations.snapshot(
      into,
      () => this.#files.view,
      () => this.#spans.values(),
    )
  }

  async #rotateNow(): Promise<void> {
    this.#check()
    if (!this.#checkpoints.room)
      throw new KymoError('disk_full', { detail: `${this.#database.dir} has no room for the next hot file.`, retryAfterS: 10 })
    await this.#writer.run(`CHECKPOINT ${hot}`)
    this.#hot.close()
    try {
      const state = { mark: { gen: this.#gen, seq: this.#stage.seq - 1 }, bytes: this.#state.encode() }
      const frozen = await this.#database.rotate(this.#writer, state, this.#env.clock.nowUs())
      this.#stage.readings = 0
      this.#rowsAtMark = 0
      this.#genAtRotation = this.#gen
      this.#hotSinceMs = this.#env.clock.monotonicMs()
      const { manifest, frozen: before } = this.#files.view
      void this.#files.replace({ manifest: withFrozen(manifest, frozen.hot), frozen: [...before, frozen] })
      writeManifest(this.#database.dir, this.#files.view.manifest)
    } catch (thrown) {
      if (thrown instanceof KymoError && thrown.code === 'store_failed') this.#failed = thrown
      throw thrown
    } finally {
      if (this.#failed === undefined) await this.#reopenHot()
    }
  }

  /** After a rotation, or one that failed: when the hot file cannot be written any more, the store cannot go on. */
  async #reopenHot(): Promise<void> {
    try {
      this.#hot = await HotWriter.open(this.#writer)
      this.#stage.use(this.#hot.tables)
    } catch (thrown) {
      this.#failed = new KymoError('store_failed', { detail: engineError(thrown).message, cause: thrown })
      throw this.#failed
    }
  }

  /** Before closing: what a start would have to work out is written down, and the write-ahead log goes into the file. */
  async #settle(): Promise<void> {
    if (!this.#checkpoints.room) return
    if (this.#stage.readings > this.#rowsAtMark) {
      await this.#writer.run('BEGIN')
      await this.#keepMark(this.#gen)
      await this.#writer.run('COMMIT')
    }
    await this.#checkpoints.now()
  }
}

/**
 * Opens the store in `dir` (made when it is not there) and reads back what it knows of its series. Rejects with `already_open`, or
 * with `store_format` when a newer Kymo wrote it.
 */
export function openDuckdbStore(o: DuckdbOptions): Promise<DuckdbStore> {
  return DuckdbStore.open(o)
}
