import type pg from 'pg'
import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { SeriesMatch } from '../../core/ports.ts'
import { compareKeys } from '../dictionary.ts'
import { postgresError, type Postgres } from '../pg/client.ts'
import { abortError } from '../query-checks.ts'
import { copyOut, type Columns } from './copy-out.ts'
import type { Statement } from './range-sql.ts'
import { microseconds } from './sql.ts'

/** An interrupt that comes between two statements is lost. */
const cancelAgainMs = 50
/** So long after it was given up a connection that does not answer is left alone. */
const abandonAfterMs = 5_000

/** One connection in a transaction that sees one moment of the store. */
export interface Reading {
  readonly client: pg.PoolClient
  /** Pages of a statement's rows. */
  pages(statement: Statement, pageRows: number): AsyncGenerator<Columns, void, void>
}

/**
 * Runs `work` over a snapshot of the store (REPEATABLE READ, read only). Aborting `signal` cancels what the server does (pg_cancel_backend), and
 * rejects with
 * what the signal says. `overloaded` when too many wait for a connection.
 */
export async function* reading<T>(db: Postgres, signal: AbortSignal, work: (reading: Reading) => AsyncIterable<T>): AsyncGenerator<T, void, void> {
  const client = await acquire(db, signal)
  let whole = false
  let stop: (() => Promise<void>) | undefined
  try {
    const begun = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    stop = cancelOnAbort(db, client, begun.rows[0]?.pid ?? 0, signal)
    // The ranges of series are joined with rows by the index on (series, time) and in no other way, whatever the planner guesses of their number.
    await client.query(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL jit = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
      SET LOCAL plan_cache_mode = force_custom_plan`)
    yield* work({ client, pages: (statement, pageRows) => pagesOf(client, statement, pageRows, signal) })
    whole = true
  } catch (thrown) {
    if (signal.aborted) throw abortError(signal)
    throw postgresError(thrown)
  } finally {
    await stop?.()
    // A statement that was left in the middle, or failed in a way nobody knows: its connection goes.
    if (whole)
      whole = await client.query('ROLLBACK').then(
        () => true,
        () => false,
      )
    client.release(!whole)
  }
}

async function* pagesOf(
  client: pg.PoolClient,
  { sql, types }: Statement,
  pageRows: number,
  signal: AbortSignal,
): AsyncGenerator<Columns, void, void> {
  const pages = copyOut(client, sql, types, pageRows)
  for (;;) {
    if (signal.aborted) throw abortError(signal)
    const page = await orAbandoned(pages.next(), signal)
    if (page.done === true) return
    yield page.value
  }
}

/** What a server does not answer that nobody reaches any more is not waited for. */
function orAbandoned<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined
    const aborted = (): void => void (timer = setTimeout(() => reject(abortError(signal)), abandonAfterMs))
    const end = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', aborted)
    }
    signal.addEventListener('abort', aborted, { once: true })
    promise.then(resolve, reject).finally(end)
  })
}

async function acquire(db: Postgres, signal: AbortSignal): Promise<pg.PoolClient> {
  if (signal.aborted) throw abortError(signal)
  if (db.pool.waitingCount >= limits.queryWaitingMax)
    throw new KymoError('overloaded', { detail: `${limits.queryWaitingMax} queries are waiting already.`, retryAfterS: 1 })
  const connecting = db.connect()
  let given = false
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(abortError(signal)), { once: true })
  })
  aborted.catch(() => undefined)
  try {
    const client = await Promise.race([connecting, aborted])
    given = true
    return client
  } catch (thrown) {
    throw postgresError(thrown)
  } finally {
    if (!given)
      connecting.then(
        (client) => client.release(),
        () => undefined,
      )
  }
}

/** Cancels again and again until it is stopped; by way of another connection, as this one is busy. Resolves when no cancel is under way any more. */
export function cancelOnAbort(db: Postgres, client: pg.ClientBase, pid: number, signal: AbortSignal): () => Promise<void> {
  let stopped = false
  let running: Promise<void> = Promise.resolve()
  const cancel = async (): Promise<void> => {
    while (!stopped) {
      await db.aside(client, 'SELECT pg_cancel_backend($1)', [pid]).catch(() => undefined)
      await new Promise((resolve) => setTimeout(resolve, cancelAgainMs))
    }
  }
  const aborted = (): void => void (running = cancel())
  signal.addEventListener('abort', aborted, { once: true })
  return async () => {
    stopped = true
    signal.removeEventListener('abort', aborted)
    await running
  }
}

interface Matched {
  readonly id: number
  readonly tenant: string
  readonly device: string
  readonly metric: string
  readonly gone: string | null
}

/** Nothing has a name that PostgreSQL cannot keep. */
const storable = (name: string): boolean => !name.includes('\0')

/** Conditions on `series`, and their parameters. */
export function matching({ tenant, everyTenant, devices, metrics }: SeriesMatch): { readonly where: string; readonly values: unknown[] } {
  const values: unknown[] = []
  const conditions: string[] = []
  if (everyTenant !== true) conditions.push(`tenant = $${values.push(storable(tenant) ? tenant : '')}`)
  if (devices !== undefined) conditions.push(`device = ANY($${values.push(devices.filter(storable))})`)
  if (metrics !== undefined) conditions.push(`metric = ANY($${values.push(metrics.filter(storable))})`)
  return { where: conditions.length === 0 ? 'true' : conditions.join(' AND '), values }
}

/** Series in the order of their keys, and before when readings of each have gone. Rejects with `query_too_large` beyond `max`. */
export async function matched(
  client: pg.ClientBase,
  match: SeriesMatch,
  max: number,
): Promise<{ readonly ids: Int32Array; readonly keys: readonly SeriesKey[]; readonly goneUs: Float64Array }> {
  const { where, values } = matching(match)
  const { rows } = await client.query<Matched>(
    `SELECT id, tenant, device, metric, ${microseconds(`greatest(gone, (SELECT before FROM expired WHERE kind = 'raw'))`)} AS gone
      FROM series WHERE ${where} LIMIT ${max + 1}`,
    values,
  )
  if (rows.length > max)
    throw new KymoError('query_too_large', { detail: `More than ${max} series match. Name devices or metrics.`, facts: { series_max: max } })
  const sorted = rows.toSorted(compareKeys)
  return {
    ids: Int32Array.from(sorted, ({ id }) => id),
    keys: sorted.map(({ tenant, device, metric }) => ({ tenant, device, metric })),
    goneUs: Float64Array.from(sorted, ({ gone }) => Number(gone ?? 0)),
  }
}
