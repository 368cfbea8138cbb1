import type { DuckDBConnection } from '@duckdb/node-api'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { Checkpoints } from './checkpoints.ts'
import { engineError, type Database } from './database.ts'
import type { FileView } from './files.ts'
import type { SpanRow } from './ledger.ts'
import { hot } from './schema.ts'
import type { QuerySlots } from './slots.ts'
import { copyHot, linkStore, type StoreSnapshot } from './snapshot.ts'
import { Turn } from './turn.ts'

export interface RotationsOptions {
  readonly env: Env
  readonly database: Database
  readonly writer: DuckDBConnection
  readonly checkpoints: Checkpoints
  readonly slots: QuerySlots
  readonly turn: Turn
  /** Whether anything was committed since the hot file began. */
  readonly needed: () => boolean
  /** Begins the next hot file; in a turn, while no query runs. */
  readonly rotate: () => Promise<void>
}

/** When the next hot file begins, and snapshots, which begin one: in a gap between queries, one at a time. Commits wait only for what is not prepared. */
export class Rotations {
  readonly #o: RotationsOptions
  readonly #own = new Turn()

  constructor(o: RotationsOptions) {
    this.#o = o
  }

  /** False: queries left no gap for it in time. */
  run(waitMs: number): Promise<boolean> {
    return this.#own.run(async () => (await this.#inGap(waitMs, () => true)) ?? false)
  }

  /** Links the store's files into a folder, as they are between two commits. `store_unavailable`: queries left no gap. */
  snapshot(into: string, view: () => FileView, spans: () => Iterable<SpanRow>): Promise<StoreSnapshot> {
    const { database, checkpoints, env } = this.#o
    const { dir } = database
    return this.#own.run(async () => {
      const taken = await this.#inGap(limits.queryDeadlineMs, (sinceMs) => {
        const linked = linkStore({ dir, into, view: view(), hot: database.hot, spans: spans(), clock: env.clock, sinceMs })
        return { linked, number: database.hot, resume: checkpoints.pause() }
      })
      if (taken === undefined) throw new KymoError('store_unavailable', { detail: 'Queries left no gap for a snapshot.', retryAfterS: 5 })
      return copyHot(taken.linked, dir, into, taken.number).finally(taken.resume)
    })
  }

  /** Resolves when none is under way. */
  settled(): Promise<void> {
    return this.#own.run(() => Promise.resolve())
  }

  async #inGap<T>(waitMs: number, then: (sinceMs: number) => T): Promise<T | undefined> {
    const { checkpoints, slots, env, turn, needed, rotate, writer } = this.#o
    await checkpoints.holding
    await this.#prepare()
    slots.hold()
    try {
      if (!(await slots.idle(env.clock, waitMs))) return undefined
      await this.#prepare()
      await turn.run(() => checkpoints.now()) // so commits wait twice, each time for less
      return await turn.run(async () => {
        const sinceMs = env.clock.monotonicMs()
        if (needed()) await rotate()
        else await writer.run(`CHECKPOINT ${hot}`)
        return then(sinceMs)
      })
    } finally {
      slots.letGo()
    }
  }

  /** What the next hot file takes over is written down beside commits; what fails is done again, and told, when they wait for it. */
  async #prepare(): Promise<void> {
    const { checkpoints, database, env, turn, needed } = this.#o
    if (!needed() || !checkpoints.room) return
    const resume = await turn.run(() => Promise.resolve(checkpoints.pause()))
    try {
      const connection = await database.connect()
      try {
        await database.prepareNext(connection)
      } finally {
        connection.closeSync()
      }
    } catch (thrown) {
      env.logger.debug('The next hot file could not be prepared.', { detail: engineError(thrown).message })
    } finally {
      resume()
    }
  }
}
