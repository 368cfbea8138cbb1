import type { DuckDBConnection } from '@duckdb/node-api'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import type { Erasing, OperatorState } from '../../core/ports.ts'
import { catchUp } from './catch-up.ts'
import type { Checkpoints } from './checkpoints.ts'
import { engineError, type Database } from './database.ts'
import { Dictionary } from './dictionary.ts'
import type { SourcesLease, StoreFiles } from './files.ts'
import { HotWriter, type CommitArgument } from './hot-writer.ts'
import { spanName, type ErasedSeries, type SpanRow } from './ledger.ts'
import { loadState } from './load.ts'
import { Ranges } from '../ranges.ts'
import { hot } from './schema.ts'
import type { Drop } from './sealed/drop.ts'
import { writeManifest } from './sealed/manifest-file.ts'
import { withFrozen, type Manifest } from './sealed/manifest.ts'
import { SeriesState, type KeepMinutes } from './series-state.ts'
import { abortError } from '../query-checks.ts'
import { Stage } from './stage.ts'
import type { Turn } from './turn.ts'

export interface CommitsOptions {
  readonly env: Env
  readonly database: Database
  /** All that is written goes through it. */
  readonly connection: DuckDBConnection
  readonly hotWriter: HotWriter
  readonly files: StoreFiles
  readonly turn: Turn
  readonly checkpoints: Checkpoints
  readonly keepMinutes: KeepMinutes
  /** Throws when the store has failed or is closing. */
  readonly check: () => void
}

/**
 * What changes the store: commits, erasures, and the beginning of the next hot file, one after the other; with what is known of all series as of the last
 * commit. After a failure it is read back from the file, and when that fails too, `failed` says why nothing goes any more.
 */
export class Commits {
  readonly dictionary = new Dictionary()
  readonly state = new SeriesState()
  readonly stage: Stage
  failed: KymoError | undefined
  readonly #o: CommitsOptions
  readonly #writer: DuckDBConnection
  #hot: HotWriter
  #spans = new Map<string, SpanRow>()
  /** Of devices that were erased, and of whom files still have rows. */
  #erased: readonly ErasedSeries[] = []
  #gen = 0
  #rowsAtMark = 0
  /** When the hot file began, and the store's commits then. */
  #hotSinceMs: number
  #genAtRotation = 0
  /** Of the commit under way: until its transaction has ended. */
  readonly #leases: SourcesLease[] = []

  constructor(o: CommitsOptions) {
    this.#o = o
    this.#writer = o.connection
    this.#hot = o.hotWriter
    this.#hotSinceMs = o.env.clock.monotonicMs()
    this.stage = new Stage(this.dictionary, this.state, o.hotWriter.tables, new Ranges(), o.keepMinutes)
  }

  /** The number of the last one. */
  get gen(): number {
    return this.#gen
  }

  get ledger(): HotWriter['ledger'] {
    return this.#hot.ledger
  }

  get spans(): Iterable<SpanRow> {
    return this.#spans.values()
  }

  get erased(): readonly ErasedSeries[] {
    return this.#erased
  }

  /** Whether the hot file has anything. */
  get sinceRotation(): boolean {
    return this.#gen !== this.#genAtRotation
  }

  get hotAgeMs(): number {
    return this.#o.env.clock.monotonicMs() - this.#hotSinceMs
  }

  /** As the Store port says. */
  commit(c: CommitArgument, signal: AbortSignal): Promise<void> {
    return this.#o.turn.run(async () => {
      if (signal.aborted) throw abortError(signal)
      this.#o.check()
      const known = this.#spans.get(spanName(c.span))
      if (known !== undefined && known.next !== c.span.first) {
        throw new KymoError('span_conflict', {
          detail: `Offset ${c.span.first} of ${c.span.topic} was offered; the store expects ${known.next}.`,
          facts: { first: String(c.span.first), next: String(known.next) },
        })
      }
      this.#o.checkpoints.checkRoom()
      try {
        await this.#transaction(c, known)
      } catch (thrown) {
        throw await this.#rollback(thrown)
      } finally {
        for (const lease of this.#leases.splice(0)) lease.release()
      }
      if (known !== undefined) known.next = c.span.next
      else this.#spans.set(spanName(c.span), { log: c.span.log, topic: c.span.topic, partition: c.span.partition, next: c.span.next })
      await this.#o.checkpoints.whenDue()
    })
  }

  resume(log: string, topic: string, partition: number): Promise<{ readonly next: bigint; readonly states: readonly OperatorState[] } | undefined> {
    return this.#o.turn.run(async () => {
      this.#o.check()
      const span = this.#spans.get(spanName({ log, topic, partition }))
      if (span === undefined) return undefined
      return { next: span.next, states: await this.#hot.ledger.states(log, topic, partition) }
    })
  }

  /** Has another log of this topic and partition been stored? Then operators that start empty must be seeded from `series`. */
  knowsAnotherLog(log: string, topic: string, partition: number): boolean {
    return [...this.#spans.values()].some((span) => span.topic === topic && span.partition === partition && span.log !== log)
  }

  async #transaction(c: CommitArgument, known: SpanRow | undefined): Promise<void> {
    const gen = this.#gen + 1
    await this.#hot.begin.run()
    const another = known === undefined && this.knowsAnotherLog(c.span.log, c.span.topic, c.span.partition)
    if (another) this.stage.distrustOpenBuckets()
    this.stage.add(c.tables, gen)
    this.#hot.tables.flush()
    await catchUp({ writer: this.#writer, stage: this.stage, state: this.state, files: this.#o.files, leases: this.#leases }, gen)
    if (c.erase !== undefined) await this.#erase(c.erase)
    for (const state of c.states ?? []) await this.#hot.ledger.keepState(c.span, state)
    const since = this.stage.readings - this.#rowsAtMark
    const mark = another || since > Math.max(1_000_000, 20 * this.dictionary.size)
    if (mark) await this.#keepMark(gen)
    await this.#hot.ledger.commit(c.span, known !== undefined, gen)
    this.#gen = gen
    if (mark) this.#rowsAtMark = this.stage.readings
  }

  /** In the open transaction. Nobody reads the device's rows from this commit on, as its series have no names; files follow (upkeep.ts). */
  async #erase({ id, tenant, device }: Erasing): Promise<void> {
    const erased = this.dictionary.forget(tenant, device).map((series) => ({ series, erasure: id, hot: this.#o.database.hot }))
    for (const { series } of erased) this.state.forget(series)
    this.#o.database.spoilNext()
    await this.#hot.ledger.erase(erased)
    this.#erased = [...this.#erased, ...erased]
  }

  /** No file has these series any more. */
  async notePurged(ids: readonly number[]): Promise<void> {
    await this.#o.turn.run(async () => {
      this.#o.check()
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
  async noteThinning(drops: readonly Drop[]): Promise<void> {
    await this.#o.turn.run(async () => {
      this.#o.check()
      let news = false
      for (const { ids, beforeUs } of drops) {
        for (const id of ids) {
          if (this.state.expireRaw(id, beforeUs.raw ?? 0)) news = true
          if (this.state.expire(id, beforeUs['1m'] ?? 0, beforeUs['1h'] ?? 0)) news = true
        }
      }
      if (news) await this.#writeMark()
    })
  }

  /** Writes the state of the series down by itself. */
  async #writeMark(): Promise<void> {
    try {
      await this.#writer.run('BEGIN')
      await this.#keepMark(this.#gen)
      await this.#writer.run('COMMIT')
      this.#rowsAtMark = this.stage.readings
    } catch (thrown) {
      throw await this.#rollback(thrown)
    }
  }

  #keepMark(gen: number): Promise<void> {
    return this.#hot.ledger.keepMark({ gen, readings: this.stage.readings, seq: this.stage.seq - 1 }, this.state.encode())
  }

  /** After a failure nothing of the commit may remain, on disk or in memory. */
  async #rollback(thrown: unknown): Promise<KymoError> {
    const found = engineError(thrown)
    // Queries have taken the engine's memory: there will be some again.
    const error = found.code === 'query_too_large' ? new KymoError('store_unavailable', { detail: found.message, cause: thrown }) : found
    this.#hot.tables.clear()
    await this.#writer.run('ROLLBACK').catch(() => undefined) // a commit that failed has rolled back already
    if (error.code === 'store_failed') {
      this.failed = error
      return error
    }
    try {
      await this.load()
    } catch (again) {
      this.failed = engineError(again)
      return this.failed
    }
    return error
  }

  /** Reads back what the files say. */
  async load(): Promise<void> {
    const loaded = await loadState(this.#writer, this.dictionary, this.state, this.#o.files)
    this.#gen = loaded.gen
    this.stage.seq = loaded.seq + 1
    this.stage.readings = loaded.readings
    this.#rowsAtMark = loaded.readings - loaded.rowsSince
    this.#spans = await this.#hot.ledger.spans()
    this.#erased = await this.#hot.ledger.erased()
    this.noteExpired(this.#o.files.view.manifest)
  }

  /** Takes note of what retention has removed: a plan that is made from now on asks for none of it. */
  noteExpired({ expired }: Manifest): void {
    if (expired === undefined) return
    this.stage.rawFromUs = expired.raw ?? 0
    for (let id = 0; id < this.dictionary.size; id++) this.state.expire(id, expired['1m'] ?? 0, expired['1h'] ?? 0)
  }

  /** Begins the next hot file; in a turn, while no query runs. */
  async rotate(): Promise<void> {
    this.#o.check()
    if (!this.#o.checkpoints.room)
      throw new KymoError('disk_full', { detail: `${this.#o.database.dir} has no room for the next hot file.`, retryAfterS: 10 })
    await this.#writer.run(`CHECKPOINT ${hot}`)
    this.#hot.close()
    try {
      const state = { mark: { gen: this.#gen, seq: this.stage.seq - 1 }, bytes: this.state.encode() }
      const frozen = await this.#o.database.rotate(this.#writer, state, this.#o.env.clock.nowUs())
      this.stage.readings = 0
      this.#rowsAtMark = 0
      this.#genAtRotation = this.#gen
      this.#hotSinceMs = this.#o.env.clock.monotonicMs()
      const { manifest, frozen: before } = this.#o.files.view
      void this.#o.files.replace({ manifest: withFrozen(manifest, frozen.hot), frozen: [...before, frozen] })
      writeManifest(this.#o.database.dir, this.#o.files.view.manifest)
    } catch (thrown) {
      if (thrown instanceof KymoError && thrown.code === 'store_failed') this.failed = thrown
      throw thrown
    } finally {
      if (this.failed === undefined) await this.#reopenHot()
    }
  }

  /** After a rotation, or one that failed: when the hot file cannot be written any more, the store cannot go on. */
  async #reopenHot(): Promise<void> {
    try {
      this.#hot = await HotWriter.open(this.#writer)
      this.stage.use(this.#hot.tables)
    } catch (thrown) {
      this.failed = new KymoError('store_failed', { detail: engineError(thrown).message, cause: thrown })
      throw this.failed
    }
  }

  /** Before closing: what a start would have to work out is written down, and the write-ahead log goes into the file. */
  async settle(): Promise<void> {
    if (!this.#o.checkpoints.room) return
    if (this.stage.readings > this.#rowsAtMark) {
      await this.#writer.run('BEGIN')
      await this.#keepMark(this.#gen)
      await this.#writer.run('COMMIT')
    }
    await this.#o.checkpoints.now()
  }

  /** Its age counts from when it was made, however often the process was started since; `mostMs`: more does not matter. */
  async takeAge(mostMs: number): Promise<void> {
    const { clock } = this.#o.env
    const ageMs = Math.max(0, (clock.nowUs() - (await this.#hot.ledger.createdUs())) / 1000)
    this.#hotSinceMs -= Math.min(ageMs, mostMs)
  }

  /** Frees what writes. */
  close(): void {
    this.#hot.close()
    this.#writer.closeSync()
  }
}
