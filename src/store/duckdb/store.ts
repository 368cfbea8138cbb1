import type { DuckDBConnection, DuckDBPreparedStatement } from '@duckdb/node-api'
import { availableParallelism } from 'node:os'
import { BatchBuilder } from '../../core/batch-builder.ts'
import { Flag, type Batch, type SeriesKey } from '../../core/batch.ts'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { OperatorState, QueryPage, RangeQuery, SeriesInfo, SeriesMatch, Store, Tables } from '../../core/ports.ts'
import type { Span } from '../../core/record.ts'
import { Database, engineError } from './database.ts'
import { Dictionary } from './dictionary.ts'
import { Ledger, spanName, type SpanRow } from './ledger.ts'
import { loadState } from './load.ts'
import { runRange } from './query.ts'
import { firstLate, Ranges, recompute } from './recompute.ts'
import { hot } from './schema.ts'
import { field, levelWidth, SeriesState, stateWidth } from './series-state.ts'
import { abortError, QuerySlots } from './slots.ts'
import { Stage } from './stage.ts'
import { HotTables } from './tables.ts'
import { Turn } from './turn.ts'

export interface DuckdbOptions {
  readonly dir: string
  readonly env: Env
  /** Cap on the engine's memory for queries and buffers. */
  readonly memoryLimitMb?: number
  /** Of one statement. Half the cores, at most 4: on two cores a second one made commits 40 % dearer, as it spins for work. */
  readonly threads?: number
  /** Bytes of write-ahead log at which the file is checkpointed. */
  readonly checkpointBytes?: number
  /** Commits are refused with `disk_full` when the file system has less than this left. */
  readonly reserveBytes?: number
}

export interface CommitArgument {
  readonly tables: Tables
  readonly span: Span
  readonly states?: readonly OperatorState[]
}

/** 32 MB are 1.5 million readings: a checkpoint of about 100 ms every 25 s at 60,000 a second, and reopening after a crash in under a second. */
const defaultCheckpointBytes = 32 * 1024 * 1024
/** While queries run, a checkpoint waits for a gap: new ones are held for a while, and for good only beyond this many thresholds. */
const urgentFactor = 8
const holdMs = 1000
const holdAgainMs = 10_000

/** The Store port over DuckDB files, in the calling thread. Open with `openDuckdbStore`. */
export class DuckdbStore implements Store {
  readonly #env: Env
  readonly #checkpointBytes: number
  readonly #reserveBytes: number
  readonly #database: Database
  readonly #writer: DuckDBConnection
  readonly #tables: HotTables
  readonly #slots: QuerySlots
  readonly #turn = new Turn()
  readonly #dictionary = new Dictionary()
  readonly #state = new SeriesState()
  readonly #stage: Stage
  #spans = new Map<string, SpanRow>()
  readonly #begin: DuckDBPreparedStatement
  readonly #ledger: Ledger
  #gen = 0
  #rowsAtMark = 0
  #holding: Promise<void> | undefined
  #holdNextMs = 0
  #failed: KymoError | undefined
  #closing: Promise<void> | undefined

  private constructor(
    o: DuckdbOptions,
    database: Database,
    writer: DuckDBConnection,
    tables: HotTables,
    slots: QuerySlots,
    ledger: Ledger,
    begin: DuckDBPreparedStatement,
  ) {
    this.#env = o.env
    this.#checkpointBytes = o.checkpointBytes ?? defaultCheckpointBytes
    this.#reserveBytes = o.reserveBytes ?? limits.diskReserveBytes
    this.#database = database
    this.#writer = writer
    this.#tables = tables
    this.#slots = slots
    this.#ledger = ledger
    this.#begin = begin
    this.#stage = new Stage(this.#dictionary, this.#state, tables, new Ranges())
  }

  static async open(o: DuckdbOptions): Promise<DuckdbStore> {
    const database = await Database.open({
      dir: o.dir,
      env: o.env,
      memoryLimitMb: o.memoryLimitMb ?? 512,
      threads: o.threads ?? Math.max(1, Math.min(4, availableParallelism() >> 1)),
    })
    try {
      const writer = await database.connect()
      const readers: DuckDBConnection[] = []
      for (let i = 0; i < limits.queryInFlightMax; i++) readers.push(await database.connect())
      const store = new DuckdbStore(
        o,
        database,
        writer,
        await HotTables.open(writer),
        new QuerySlots(readers),
        await Ledger.open(writer),
        await writer.prepare('BEGIN'),
      )
      await store.#load()
      return store
    } catch (thrown) {
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
      this.#checkSpace()
      try {
        await this.#transaction(c, known)
      } catch (thrown) {
        throw await this.#rollback(thrown)
      }
      if (known !== undefined) known.next = c.span.next
      else this.#spans.set(spanName(c.span), { log: c.span.log, topic: c.span.topic, partition: c.span.partition, next: c.span.next })
      await this.#checkpointWhenDue()
    })
  }

  resume(log: string, topic: string, partition: number): Promise<{ readonly next: bigint; readonly states: readonly OperatorState[] } | undefined> {
    return this.#turn.run(async () => {
      this.#check()
      const span = this.#spans.get(spanName({ log, topic, partition }))
      if (span === undefined) return undefined
      return { next: span.next, states: await this.#ledger.states(log, topic, partition) }
    })
  }

  /** Has another log of this topic and partition been stored? Then operators that start empty must be seeded from `series`. */
  knowsAnotherLog(log: string, topic: string, partition: number): boolean {
    return [...this.#spans.values()].some((span) => span.topic === topic && span.partition === partition && span.log !== log)
  }

  async *query(q: RangeQuery, signal: AbortSignal): AsyncGenerator<QueryPage, void, void> {
    this.#check()
    yield* runRange({ slots: this.#slots, turn: this.#turn, dictionary: this.#dictionary, state: this.#state, gen: () => this.#gen }, q, signal)
  }

  latest(match: SeriesMatch, signal: AbortSignal): Promise<Batch> {
    return this.#turn.run(async () => {
      if (signal.aborted) throw abortError(signal)
      this.#check()
      const { cells } = this.#state
      const ids = this.#dictionary.match(match)
      const keys: SeriesKey[] = []
      const builder = new BatchBuilder(keys, Math.max(1, ids.length))
      const withText: (readonly [id: number, timeUs: number])[] = []
      for (const id of ids) {
        const at = id * stateWidth
        const latest = at + (cells[at + field.last]! === Number.NEGATIVE_INFINITY ? field.aheadLast : field.last)
        if (cells[latest]! === Number.NEGATIVE_INFINITY) continue
        if ((cells[latest + 2]! & Flag.text) !== 0) withText.push([id, cells[latest]!])
        builder.add(keys.push(this.#dictionary.keys[id]!) - 1, cells[latest]!, cells[latest + 1]!, cells[latest + 2]!)
      }
      const batch = builder.view()
      if (withText.length === 0) return batch
      const texts = await this.#ledger.texts(
        withText.map(([id]) => id),
        withText.map(([, timeUs]) => timeUs),
      )
      const text = new Map<number, string>()
      keys.forEach((key, row) => {
        const found = texts.get(this.#dictionary.id(key))
        if (found !== undefined) text.set(row, found)
      })
      return { ...batch, text }
    })
  }

  async series(match: SeriesMatch, signal: AbortSignal): Promise<readonly SeriesInfo[]> {
    return this.#turn.run(async () => {
      if (signal.aborted) throw abortError(signal)
      this.#check()
      const { cells } = this.#state
      await Promise.resolve()
      return Array.from(this.#dictionary.match(match), (id) => {
        const at = id * stateWidth
        const lastUs = Math.max(cells[at + field.last]!, cells[at + field.lateLast]!)
        return { key: this.#dictionary.keys[id]!, firstUs: cells[at + field.first]!, lastUs }
      })
    })
  }

  /** Bytes on disk, and what waits and runs. */
  stats(): { readonly bytes: number; readonly series: number; readonly running: number; readonly waiting: number } {
    return { bytes: this.#database.bytes, series: this.#dictionary.size, running: this.#slots.running, waiting: this.#slots.waiting }
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#slots.close(this.#env.clock)
      await this.#holding
      await this.#turn.run(async () => {
        if (this.#failed === undefined)
          await this.#settle().catch((thrown: unknown) =>
            this.#env.logger.warn('The store was closed without a checkpoint.', { detail: engineError(thrown).message }),
          )
        this.#failed ??= new KymoError('shutting_down')
        this.#tables.close()
        this.#ledger.close()
        this.#begin.destroySync()
        this.#writer.closeSync()
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
    await this.#begin.run()
    const another = known === undefined && this.knowsAnotherLog(c.span.log, c.span.topic, c.span.partition)
    if (another) this.#stage.distrustOpenBuckets()
    this.#stage.add(c.tables, gen)
    this.#tables.flush()
    if (!this.#stage.ranges.empty) await recompute(this.#writer, this.#stage.ranges, gen)
    if (this.#stage.refine.size > 0) await this.#refine()
    for (const state of c.states ?? []) await this.#ledger.keepState(c.span, state)
    const since = this.#stage.readings - this.#rowsAtMark
    const mark = another || since > Math.max(1_000_000, 20 * this.#dictionary.size)
    if (mark) await this.#keepMark(gen)
    await this.#ledger.commit(c.span, known !== undefined, gen)
    this.#gen = gen
    if (mark) this.#rowsAtMark = this.#stage.readings
  }

  #keepMark(gen: number): Promise<void> {
    return this.#ledger.keepMark({ gen, readings: this.#stage.readings, seq: this.#stage.seq - 1 }, this.#state.encode())
  }

  async #refine(): Promise<void> {
    for (const level of ['minute', 'hour'] as const) {
      const ids = [...this.#stage.refine].filter(([, levels]) => levels.has(level)).map(([id]) => id)
      if (ids.length === 0) continue
      const closed = field.closed + (level === 'hour' ? levelWidth : 0)
      const found = await firstLate(
        this.#writer,
        ids,
        ids.map((id) => this.#state.cells[id * stateWidth + closed]!),
      )
      for (const id of ids) this.#stage.refined(id, level, found.get(id))
    }
  }

  /** After a failure nothing of the commit may remain, on disk or in memory. */
  async #rollback(thrown: unknown): Promise<KymoError> {
    const error = engineError(thrown)
    this.#tables.clear()
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
    const loaded = await loadState(this.#writer, this.#dictionary, this.#state)
    this.#gen = loaded.gen
    this.#stage.seq = loaded.seq + 1
    this.#stage.readings = loaded.readings
    this.#rowsAtMark = loaded.readings - loaded.rowsSince
    this.#spans = await this.#ledger.spans()
  }

  /** The engine rolls a write back that finds no room, but a checkpoint that finds none is the end of it: so room is kept. */
  #checkSpace(): void {
    const free = this.#env.disk.freeBytes(this.#database.dir)
    if (free >= this.#reserveBytes) return
    throw new KymoError('disk_full', {
      detail: `${this.#database.dir} has ${free} bytes free; the store keeps ${this.#reserveBytes}.`,
      retryAfterS: 10,
    })
  }

  async #checkpointWhenDue(): Promise<void> {
    const wal = this.#database.walBytes
    if (wal < this.#checkpointBytes || this.#holding !== undefined) return
    if (this.#slots.running === 0) {
      await this.#checkpoint()
      return
    }
    const urgent = wal > urgentFactor * this.#checkpointBytes
    if (!urgent && this.#env.clock.monotonicMs() < this.#holdNextMs) return
    this.#holding = this.#checkpointInGap(urgent ? limits.queryDeadlineMs : holdMs)
  }

  /** Lets no further query start, so that those that run leave a gap; gives up when they take too long. */
  async #checkpointInGap(waitMs: number): Promise<void> {
    this.#slots.hold()
    try {
      if (await this.#slots.idle(this.#env.clock, waitMs)) await this.#turn.run(() => this.#checkpoint())
      else this.#holdNextMs = this.#env.clock.monotonicMs() + holdAgainMs
    } finally {
      this.#slots.letGo()
      this.#holding = undefined
    }
  }

  /** Writes the log into the file. Without the room for it the log goes on growing, as far as the reserve lets commits pass. */
  async #checkpoint(): Promise<void> {
    if (this.#failed !== undefined || !this.#roomToCheckpoint()) return
    try {
      await this.#writer.run(`CHECKPOINT ${hot}`)
    } catch (thrown) {
      const error = engineError(thrown)
      if (error.code === 'store_failed') this.#failed = error
      this.#env.logger.warn('A checkpoint of the store failed.', { detail: error.message })
    }
  }

  /** The file grows by less than the log holds, and old blocks are given back only afterwards. */
  #roomToCheckpoint(): boolean {
    return this.#env.disk.freeBytes(this.#database.dir) >= this.#database.walBytes + this.#reserveBytes / 2
  }

  /** Before closing: what a start would have to work out is written down, and the write-ahead log goes into the file. */
  async #settle(): Promise<void> {
    if (!this.#roomToCheckpoint()) return
    if (this.#stage.readings > this.#rowsAtMark) {
      await this.#writer.run('BEGIN')
      await this.#keepMark(this.#gen)
      await this.#writer.run('COMMIT')
    }
    await this.#checkpoint()
  }
}

/**
 * Opens the store in `dir` (made when it is not there) and reads back what it knows of its series. Rejects with `already_open`, or
 * with `store_format` when a newer Kymo wrote it.
 */
export function openDuckdbStore(o: DuckdbOptions): Promise<DuckdbStore> {
  return DuckdbStore.open(o)
}
