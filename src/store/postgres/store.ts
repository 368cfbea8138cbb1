import type { Batch } from '../../core/batch.ts'
import type { Retention } from '../../core/config.ts'
import type { Env, Timer } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { OperatorState, QueryPage, RangeQuery, SeriesInfo, SeriesMatch, SeriesPage, Store } from '../../core/ports.ts'
import type { KeepMinutes } from '../levels.ts'
import { openPostgres, postgresError, type Postgres } from '../pg/client.ts'
import { metaMigrations, storeMigrations } from '../pg/components.ts'
import { migrate } from '../pg/migrate.ts'
import { abortError } from '../query-checks.ts'
import { Commits, type CommitArgument } from './commits.ts'
import { purge } from './erase.ts'
import { latestOf, seriesOf } from './heads.ts'
import { columnsMax } from './layout.ts'
import { runRange } from './query.ts'
import { keepAll, rawGoneUs } from './retention.ts'
import { keepMinutes } from './stage.ts'
import { prepareTimescale, upkeep } from './upkeep.ts'

export interface PostgresStoreOptions {
  /** As `openPostgres` takes it. */
  readonly url: string
  readonly env: Env
  /** Absent: everything is kept. */
  readonly retention?: Retention
  /** For tests. */
  readonly keepMinutes?: KeepMinutes
  /** For tests: how many metrics of a device share its rows; those beyond it have rows of their own. */
  readonly columns?: number
}

/** How long after a failure the rows of erased devices are looked at again. */
const purgeAgainMs = 60_000
const upkeepEveryMs = 60_000

/**
 * The Store port over PostgreSQL 15 and later (docs/format/postgres.md). Many processes may have it open; the spans keep their commits apart.
 * Everything
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
  #retention: Retention
  #upkeep: Timer | undefined
  #round: Promise<void> = Promise.resolve()
  #warned = ''
  readonly #stop = new AbortController()

  constructor(
    { writes, reads, env }: { readonly writes: Postgres; readonly reads: Postgres; readonly env: Env },
    { keep, columns, retention }: { readonly keep: KeepMinutes; readonly columns: number; readonly retention: Retention },
  ) {
    this.#writes = writes
    this.#reads = reads
    this.#env = env
    this.#retention = retention
    this.#commits = new Commits(writes, env, { keep, columns })
    this.#purge()
    this.#upkeep = env.clock.after(upkeepEveryMs, () => this.#rounds())
  }

  /** From the next round on, which is within a minute; rules with labels name their devices (`RetentionRule.devices`). */
  retain(retention: Retention): void {
    this.#retention = retention
  }

  /** One round of upkeep now, of which retention is a part. Nothing is done while another process does it. */
  upkeep(): Promise<void> {
    this.#check()
    this.#round = this.#round
      .catch(() => undefined)
      .then(() => upkeep(this.#writes, this.#retention, this.#env, this.#stop.signal))
      .catch((thrown: unknown) => {
        throw postgresError(thrown)
      })
    return this.#round
  }

  /** Readings before it have gone by age or size, and what is older is not to be taken; microseconds, 0: none have. */
  async goneUs(): Promise<number> {
    this.#check()
    try {
      return await rawGoneUs(this.#reads)
    } catch (thrown) {
      throw postgresError(thrown)
    }
  }

  /** A round trip to the server that takes writes. Rejects with `store_unavailable`. */
  async probe(signal?: AbortSignal): Promise<void> {
    this.#check()
    if (signal?.aborted === true) throw abortError(signal)
    try {
      await this.#writes.query('SELECT 1')
    } catch (thrown) {
      throw postgresError(thrown)
    }
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
      const { rows } = await this.#reads.query<{ next: string; operator: string | null; seen: string; bytes: Buffer }>(
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

  /** Erasures of which rows are still there, though nobody reads them; each with the number of its series. */
  async erasing(): Promise<ReadonlyMap<string, number>> {
    this.#check()
    try {
      const { rows } = await this.#reads.query<{ erasure: string; n: string }>('SELECT erasure, count(*) AS n FROM erased GROUP BY erasure')
      return new Map(rows.map(({ erasure, n }) => [erasure, Number(n)]))
    } catch (thrown) {
      throw postgresError(thrown)
    }
  }

  /** Of all tables of the schema on disk, indexes included. */
  async bytes(): Promise<number> {
    this.#check()
    try {
      const { rows } = await this.#reads.query<{ bytes: string | null }>(
        "SELECT sum(pg_total_relation_size(c.oid)) AS bytes FROM pg_class c WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'm')",
        [this.#reads.schema],
      )
      return Number(rows[0]?.bytes ?? 0)
    } catch (thrown) {
      throw postgresError(thrown)
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#timer?.cancel()
    this.#upkeep?.cancel()
    this.#stop.abort()
    await this.#purging
    await this.#round.catch(() => undefined)
    await Promise.all([this.#writes.close(), this.#reads.close()])
  }

  #check(): void {
    if (this.#closed) throw new KymoError('shutting_down')
  }

  /** Again after each one; the same trouble is told once. */
  #rounds(): void {
    this.upkeep()
      .then(
        () => (this.#warned = ''),
        (thrown: unknown) => {
          const { message } = asKymoError(thrown)
          if (message !== this.#warned) this.#env.logger.warn('Retention and statistics wait.', { detail: message })
          this.#warned = message
        },
      )
      .finally(() => {
        if (!this.#closed) this.#upkeep = this.#env.clock.after(upkeepEveryMs, () => this.#rounds())
      })
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

/**
 * Opens the store of a database and brings its tables to this version. Rejects with `store_format` (a newer program was here) or `store_unavailable`.
 */
export async function openPostgresStore({
  url,
  env,
  keepMinutes: keep = keepMinutes,
  columns = columnsMax,
  retention = keepAll,
}: PostgresStoreOptions): Promise<PostgresStore> {
  const writes = openPostgres({ url, connectionsMax: limits.postgresWritesMax })
  const reads = openPostgres({ url, connectionsMax: limits.postgresQueriesMax })
  try {
    // Where the metadata are elsewhere, the view finds an empty table.
    await migrate(writes, 'meta', metaMigrations)
    await migrate(writes, 'store', storeMigrations)
    await prepareTimescale(writes, env)
  } catch (thrown) {
    await Promise.all([writes.close(), reads.close()])
    throw postgresError(thrown)
  }
  return new PostgresStore({ writes, reads, env }, { keep, columns, retention })
}
