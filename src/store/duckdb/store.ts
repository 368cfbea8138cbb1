import type { DuckDBConnection } from '@duckdb/node-api'
import { availableParallelism } from 'node:os'
import type { Batch } from '../../core/batch.ts'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { OperatorState, QueryPage, RangeQuery, SeriesInfo, SeriesMatch, SeriesPage, Store } from '../../core/ports.ts'
import type { SqlQuery, SqlRows, SqlStore } from '../../core/sql.ts'
import { Commits } from './commits.ts'
import { Checkpoints, defaultCheckpointBytes, holdMs } from './checkpoints.ts'
import { Database, engineError } from './database.ts'
import { StoreFiles } from './files.ts'
import { HotWriter, type CommitArgument } from './hot-writer.ts'
import { latestOf } from './latest.ts'
import { defaultMemoryMb, type DuckdbOptions, type StoreStats } from './options.ts'
import { runRange, type QueryParts } from './query.ts'
import { bytesOf, keepAll, type Expiry } from './retention.ts'
import { Rotations } from './rotations.ts'
import { RuleSeries } from './rules.ts'
import { field, keepMinutes, stateWidth } from './series-state.ts'
import { abortError } from '../query-checks.ts'
import { QuerySlots } from './slots.ts'
import { runSql } from './sql/run.ts'
import type { StoreSnapshot } from './snapshot.ts'
import { Upkeep } from './upkeep.ts'
import { Turn } from './turn.ts'

export type { DuckdbOptions, StoreStats }

/** The Store port over DuckDB files, in the calling thread. Open with `openDuckdbStore`. */
export class DuckdbStore implements Store, SqlStore {
  readonly #env: Env
  readonly #sketchedFromUs: number | undefined
  readonly #memoryLimitBytes: number
  readonly #database: Database
  readonly #admin: DuckDBConnection
  readonly #files: StoreFiles
  readonly #upkeep: Upkeep
  readonly #checkpoints: Checkpoints
  readonly #commits: Commits
  readonly #slots: QuerySlots
  readonly #turn = new Turn()
  readonly #rotations: Rotations
  /** Which series go by which rule of retention. */
  readonly #rules: RuleSeries
  /** Bytes that retention has removed since the start. */
  readonly #expired: Record<Expiry['reason'], number> = { age: 0, size: 0 }
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
    this.#admin = admin
    this.#slots = slots
    this.#files = new StoreFiles(admin, database.dir, database.found, o.attachedMax, database.unsketched)
    this.#checkpoints = new Checkpoints({
      env: o.env,
      database,
      writer,
      slots,
      turn: this.#turn,
      bytes: o.checkpointBytes ?? defaultCheckpointBytes,
      reserveBytes: o.reserveBytes ?? limits.diskReserveBytes,
      failed: () => this.#commits.failed !== undefined,
      fail: (error) => (this.#commits.failed = error),
    })
    this.#commits = new Commits({
      env: o.env,
      database,
      connection: writer,
      hotWriter,
      files: this.#files,
      turn: this.#turn,
      checkpoints: this.#checkpoints,
      keepMinutes: o.keepMinutes ?? keepMinutes,
      check: () => this.#check(),
    })
    this.#rules = new RuleSeries(this.#commits.dictionary)
    this.#rotations = new Rotations({
      env: o.env,
      database,
      writer,
      checkpoints: this.#checkpoints,
      slots,
      turn: this.#turn,
      needed: () => this.#commits.sinceRotation,
      rotate: () => this.#commits.rotate(),
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
          this.#commits.noteExpired(manifest)
        }),
      erased: () => this.#commits.erased,
      thin: () => ({ drops: this.#rules.drops(o.retention?.rules ?? [], o.env.clock.nowUs()), version: this.#rules.version }),
      thinning: (drops) => this.#commits.noteThinning(drops),
      purged: (ids) => this.#commits.notePurged(ids),
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
      await store.#commits.load()
      await store.#commits.takeAge(o.sealAfterMs ?? limits.hotAgeMaxMs)
      return store
    } catch (thrown) {
      if (store !== undefined) await Promise.all([store.#upkeep.close(), store.#files.close()])
      database.close()
      throw engineError(thrown)
    }
  }

  commit(c: CommitArgument, signal: AbortSignal): Promise<void> {
    return this.#commits.commit(c, signal)
  }

  resume(log: string, topic: string, partition: number): Promise<{ readonly next: bigint; readonly states: readonly OperatorState[] } | undefined> {
    return this.#commits.resume(log, topic, partition)
  }

  /** Has another log of this topic and partition been stored? Then operators that start empty must be seeded from `series`. */
  knowsAnotherLog(log: string, topic: string, partition: number): boolean {
    return this.#commits.knowsAnotherLog(log, topic, partition)
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
      return latestOf({ dictionary: this.#commits.dictionary, state: this.#commits.state, files: this.#files, ledger: this.#commits.ledger }, match)
    })
  }

  async series(match: SeriesMatch, signal: AbortSignal, page?: SeriesPage): Promise<readonly SeriesInfo[]> {
    return this.#turn.run(async () => {
      if (signal.aborted) throw abortError(signal)
      this.#check()
      const { cells } = this.#commits.state
      await Promise.resolve()
      return Array.from(this.#commits.dictionary.page(this.#commits.dictionary.match(match), page), (id) => {
        const at = id * stateWidth
        const lastUs = Math.max(cells[at + field.last]!, cells[at + field.lateLast]!)
        return { key: this.#commits.dictionary.keys[id]!, firstUs: cells[at + field.first]!, lastUs }
      })
    })
  }

  /** Bytes on disk, and what waits and runs. */
  stats(): StoreStats {
    const { manifest, frozen } = this.#files.view
    return {
      bytes: this.#database.hotBytes + frozen.reduce((sum, file) => sum + this.#database.frozenBytes(file.hot), 0) + bytesOf(manifest),
      series: this.#commits.dictionary.size - this.#commits.dictionary.erased,
      running: this.#slots.running,
      waiting: this.#slots.waiting,
      rawFromUs: this.#commits.stage.rawFromUs,
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
        if (this.#commits.failed === undefined)
          await this.#commits
            .settle()
            .catch((thrown: unknown) => this.#env.logger.warn('The store was closed without a checkpoint.', { detail: engineError(thrown).message }))
        this.#commits.failed ??= new KymoError('shutting_down')
        // What queries have released may still be on its way out of the engine.
        await this.#files.close()
        this.#commits.close()
        this.#admin.closeSync()
        this.#database.close()
      })
    })()
    return this.#closing
  }

  #check(): void {
    if (this.#commits.failed !== undefined) throw this.#commits.failed
    if (this.#closing !== undefined) throw new KymoError('shutting_down')
  }

  /** Erasures of which files still have rows, though nobody reads them; each with the number of its series. */
  erasing(): ReadonlyMap<string, number> {
    return new Map(
      Array.from(
        Map.groupBy(this.#commits.erased, ({ erasure }) => erasure),
        ([id, series]) => [id, series.length],
      ),
    )
  }

  get #queryParts(): QueryParts {
    return {
      slots: this.#slots,
      turn: this.#turn,
      dictionary: this.#commits.dictionary,
      state: this.#commits.state,
      files: this.#files,
      gen: () => this.#commits.gen,
      erasing: () => this.#commits.erased.length > 0,
      sketchedFromUs: this.#sketchedFromUs,
    }
  }

  /** From 1 on the hot file is to be closed; from 2 on queries wait for it as long as others may run. */
  #ripeness({ sealBytes = limits.hotBytesMax, sealAfterMs = limits.hotAgeMaxMs }: Pick<DuckdbOptions, 'sealBytes' | 'sealAfterMs'>): number {
    if (this.#commits.failed !== undefined || this.#closing !== undefined || !this.#commits.sinceRotation) return 0
    // What was erased is to leave this file; now and then there is no gap between queries.
    const erased = this.#commits.erased.some((one) => one.hot === this.#database.hot) ? 1 : 0
    return Math.max(erased, this.#database.hotBytes / sealBytes, this.#commits.hotAgeMs / sealAfterMs)
  }

  /** Links the store's files into a folder, as they are between two commits, after a rotation. `store_unavailable`: queries left no gap. */
  async snapshot(into: string): Promise<StoreSnapshot> {
    this.#check()
    return this.#rotations.snapshot(
      into,
      () => this.#files.view,
      () => this.#commits.spans,
    )
  }
}

/**
 * Opens the store in `dir` (made when it is not there) and reads back what it knows of its series. Rejects with `already_open`, or
 * with `store_format` when a newer Kymo wrote it.
 */
export function openDuckdbStore(o: DuckdbOptions): Promise<DuckdbStore> {
  return DuckdbStore.open(o)
}
