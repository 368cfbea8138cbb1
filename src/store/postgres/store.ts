import path from 'node:path'
import type { Batch } from '../../core/batch.ts'
import type { Env, Timer } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { OperatorState, QueryPage, RangeQuery, SeriesInfo, SeriesMatch, SeriesPage, Store } from '../../core/ports.ts'
import type { KeepMinutes } from '../levels.ts'
import { openPostgres, postgresError, type Postgres } from '../pg/client.ts'
import { migrate, migrationsIn } from '../pg/migrate.ts'
import { abortError } from '../query-checks.ts'
import { Commits, type CommitArgument } from './commits.ts'
import { purge } from './erase.ts'
import { latestOf, seriesOf } from './heads.ts'
import { runRange } from './query.ts'
import { keepMinutes } from './stage.ts'

export interface PostgresStoreOptions {
  /** As `openPostgres` takes it. */
  readonly url: string
  readonly env: Env
  /** For tests. */
  readonly keepMinutes?: KeepMinutes
}

export const storeMigrations = migrationsIn(path.join(import.meta.dirname, 'migrations'))

/** How long after a failure the rows of erased devices are looked at again. */
const purgeAgainMs = 60_000

/**
 * The Store port over PostgreSQL 15 and later (docs/format/postgres.md). Many processes may have it open; the spans keep their commits apart. Everything
 * rejects with `store_unavailable` while the server is away.
 */
export class PostgresStore implements Store {
  readonly #writes: Postgres
  readonly #reads: Postgres
  readonly #env: Env
  readonly #commits: Commits
  #closed = false
  #purging: Promise<void> | undefined
  #timer: Timer | undefined

  constructor(writes: Postgres, reads: Postgres, env: Env, keep: KeepMinutes) {
    this.#writes = writes
    this.#reads = reads
    this.#env = env
    this.#commits = new Commits(writes, env, keep)
    this.#purge()
  }

  async commit(c: CommitArgument, signal: AbortSignal): Promise<void> {
    this.#check()
    await this.#commits.commit(c, signal)
    if (c.erase !== undefined) this.#purge()
  }

  async resume(
    log: string,
    topic: string,
    partition: number,
  ): Promise<{ readonly next: bigint; readonly states: readonly OperatorState[] } | undefined> {
    this.#check()
    try {
      // One statement: offset and states of one moment.
      const { rows } = await this.#reads.pool.query<{ next: string; operator: string | null; seen: string; bytes: Buffer }>(
        `SELECT p.next, s.operator, s.seen, s.bytes FROM span p LEFT JOIN state s ON s.span = p.id
          WHERE p.log = $1 AND p.topic = $2 AND p.part = $3 ORDER BY s.operator`,
        [log, topic, partition],
      )
      if (rows[0] === undefined) return undefined
      const states = rows.flatMap(({ operator, seen, bytes }) =>
        operator === null ? [] : [{ operator, at: BigInt(seen), bytes: new Uint8Array(bytes) }],
      )
      return { next: BigInt(rows[0].next), states }
    } catch (thrown) {
      throw postgresError(thrown)
    }
  }

  async *query(q: RangeQuery, signal: AbortSignal): AsyncGenerator<QueryPage, void, void> {
    this.#check()
    yield* runRange(this.#reads, q, signal)
  }

  latest(match: SeriesMatch, signal: AbortSignal): Promise<Batch> {
    this.#check()
    if (signal.aborted) throw abortError(signal)
    return latestOf(this.#reads, match, signal)
  }

  async series(match: SeriesMatch, signal: AbortSignal, page?: SeriesPage): Promise<readonly SeriesInfo[]> {
    this.#check()
    return seriesOf(this.#reads, match, signal, page)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#timer?.cancel()
    await this.#purging
    await Promise.all([this.#writes.close(), this.#reads.close()])
  }

  #check(): void {
    if (this.#closed) throw new KymoError('shutting_down')
  }

  /** Beside everything else, one at a time; what fails is tried again. */
  #purge(): void {
    const before = this.#purging ?? Promise.resolve()
    this.#purging = before
      .then(() => purge(this.#writes, () => this.#closed))
      .catch((thrown: unknown) => {
        if (this.#closed) return
        this.#env.logger.warn('Rows of erased devices are still there.', { detail: asKymoError(thrown).message })
        this.#timer?.cancel()
        this.#timer = this.#env.clock.after(purgeAgainMs, () => this.#purge())
      })
  }
}

/** Opens the store of a database and brings its tables to this version. Rejects with `store_format` (a newer program was here) or `store_unavailable`. */
export async function openPostgresStore({ url, env, keepMinutes: keep = keepMinutes }: PostgresStoreOptions): Promise<PostgresStore> {
  const writes = openPostgres({ url, connectionsMax: limits.postgresWritesMax })
  const reads = openPostgres({ url, connectionsMax: limits.postgresQueriesMax })
  try {
    await migrate(writes, 'store', storeMigrations)
  } catch (thrown) {
    await Promise.all([writes.close(), reads.close()])
    throw thrown
  }
  return new PostgresStore(writes, reads, env, keep)
}
