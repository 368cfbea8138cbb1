import type { DuckDBConnection } from '@duckdb/node-api'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { engineError, type Database } from './database.ts'
import { hot } from './schema.ts'
import type { QuerySlots } from './slots.ts'
import type { Turn } from './turn.ts'

/** 32 MB are 1.5 million readings: a checkpoint of about 100 ms every 25 s at 60,000 a second, and reopening after a crash in under a second. */
export const defaultCheckpointBytes = 32 * 1024 * 1024
/** While queries run, a checkpoint waits for a gap: new ones are held for a while, and for good only beyond this many thresholds. */
const urgentFactor = 8
export const holdMs = 1000
const holdAgainMs = 10_000

export interface CheckpointOptions {
  readonly env: Env
  readonly database: Database
  readonly writer: DuckDBConnection
  readonly slots: QuerySlots
  readonly turn: Turn
  /** Of write-ahead log, at which it is written into the file. */
  readonly bytes: number
  /** Free space that is kept. */
  readonly reserveBytes: number
  readonly failed: () => boolean
  /** The engine has given the file up. */
  readonly fail: (error: KymoError) => void
}

/** Writes the hot file's write-ahead log into the file, when no query runs. */
export class Checkpoints {
  readonly #o: CheckpointOptions
  #holding: Promise<void> | undefined
  #holdNextMs = 0
  #paused = 0

  constructor(o: CheckpointOptions) {
    this.#o = o
  }

  /** While queries are held for a checkpoint: resolves when they no longer are. */
  get holding(): Promise<void> | undefined {
    return this.#holding
  }

  /** The file grows by less than the log holds, and old blocks are given back only afterwards. */
  get room(): boolean {
    const { env, database, reserveBytes } = this.#o
    return env.disk.freeBytes(database.dir) >= database.walBytes + reserveBytes / 2
  }

  /** Before a commit: the engine rolls a write back that finds no room, but a checkpoint that finds none is the end of it, so room is kept. */
  checkRoom(): void {
    const { env, database, reserveBytes } = this.#o
    const free = env.disk.freeBytes(database.dir)
    if (free >= reserveBytes) return
    throw new KymoError('disk_full', { detail: `${database.dir} has ${free} bytes free; the store keeps ${reserveBytes}.`, retryAfterS: 10 })
  }

  /** To be called in a turn: until the answer is called, the file stays as it is and commits go into its write-ahead log. */
  pause(): () => void {
    this.#paused++
    return () => void this.#paused--
  }

  /** After a commit, in its turn. */
  async whenDue(): Promise<void> {
    const { database, slots, env, bytes } = this.#o
    const wal = database.walBytes
    if (wal < bytes || this.#holding !== undefined || this.#paused > 0) return
    if (slots.running === 0) {
      await this.now()
      return
    }
    const urgent = wal > urgentFactor * bytes
    if (!urgent && env.clock.monotonicMs() < this.#holdNextMs) return
    this.#holding = this.#inGap(urgent ? limits.queryDeadlineMs : holdMs)
  }

  /** Without the room for it the log goes on growing, as far as the reserve lets commits pass. */
  async now(): Promise<void> {
    if (this.#o.failed() || !this.room) return
    try {
      await this.#o.writer.run(`CHECKPOINT ${hot}`)
    } catch (thrown) {
      const error = engineError(thrown)
      if (error.code === 'store_failed') this.#o.fail(error)
      this.#o.env.logger.warn('A checkpoint of the store failed.', { detail: error.message })
    }
  }

  /** Lets no further query start, so that those that run leave a gap; gives up when they take too long. */
  async #inGap(waitMs: number): Promise<void> {
    const { slots, env, turn } = this.#o
    slots.hold()
    try {
      if (await slots.idle(env.clock, waitMs)) await turn.run(() => (this.#paused > 0 ? Promise.resolve() : this.now()))
      else this.#holdNextMs = env.clock.monotonicMs() + holdAgainMs
    } finally {
      slots.letGo()
      this.#holding = undefined
    }
  }
}
