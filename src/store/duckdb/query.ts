import type { DuckDBConnection, DuckDBDataChunk, DuckDBPreparedStatement, DuckDBResult } from '@duckdb/node-api'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { QueryPage, RangeQuery } from '../../core/ports.ts'
import { readBytes, readDoubles, readLongs, readUints } from './chunk.ts'
import { engineError } from './database.ts'
import type { Dictionary } from './dictionary.ts'
import { planRange, type RangePlan } from './range-sql.ts'
import type { SeriesState } from './series-state.ts'
import { abortError, interruptAgainMs, type QuerySlots } from './slots.ts'
import type { Turn } from './turn.ts'

export interface QueryParts {
  readonly slots: QuerySlots
  readonly turn: Turn
  readonly dictionary: Dictionary
  readonly state: SeriesState
}

/** Up to this many rows an answer is taken out at once (3 MB) and its place is free again, however slow its reader is. */
const takenAtOnceRows = limits.queryRowsMax + 1

/**
 * Runs one range query. Between commits, it works out which rollups can be trusted and binds the statement, which fixes the
 * snapshot it reads; then it runs beside commits. Aborting interrupts the engine.
 */
export async function* runRange(parts: QueryParts, query: RangeQuery, signal: AbortSignal): AsyncGenerator<QueryPage, void, void> {
  checkQuery(query)
  const connection = await parts.slots.acquire(signal)
  let free = false
  const stop = interruptOnAbort(connection, signal)
  const release = async (): Promise<void> => {
    if (free) return
    free = true
    stop()
    await connection.run('ROLLBACK').catch(() => undefined) // nothing was begun, or the engine ended it itself
    parts.slots.release(connection)
  }
  try {
    const bound = await parts.turn.run(() => bind(parts, connection, query, signal))
    if (bound === undefined) return
    const { plan, statement } = bound
    try {
      const whole = query.limit <= takenAtOnceRows
      const result: DuckDBResult = whole ? await statement.run() : await statement.stream()
      if (whole) await release()
      for (;;) {
        const chunk = await result.fetchChunk()
        if (chunk === null || chunk.rowCount === 0) return
        if (signal.aborted) throw abortError(signal)
        yield toPage(plan, chunk)
      }
    } finally {
      statement.destroySync()
    }
  } catch (thrown) {
    if (signal.aborted) throw abortError(signal)
    if (thrown instanceof Error && /^INTERRUPT/.test(thrown.message)) throw new KymoError('shutting_down', { cause: thrown })
    throw engineError(thrown)
  } finally {
    await release()
  }
}

function checkQuery(query: RangeQuery): void {
  const { stepUs } = query
  if (stepUs !== undefined && (!Number.isSafeInteger(stepUs) || stepUs <= 0)) throw new KymoError('request_invalid', { detail: 'The step must be a whole number of microseconds above 0.' })
  if (!(query.fromUs <= query.toUs)) throw new KymoError('request_invalid', { detail: 'The range ends before it begins.' })
}

async function bind(
  parts: QueryParts,
  connection: DuckDBConnection,
  query: RangeQuery,
  signal: AbortSignal,
): Promise<{ readonly plan: RangePlan; readonly statement: DuckDBPreparedStatement } | undefined> {
  if (signal.aborted) throw abortError(signal)
  const { dictionary, state } = parts
  const plan = planRange(query, dictionary.match(query.match, limits.querySeriesMax), dictionary.keys, state.cells)
  if (plan === undefined) return undefined
  await connection.run('BEGIN')
  const statement = await connection.prepare(plan.sql)
  plan.params.forEach((value, i) => statement.bindBigInt(i + 1, value))
  return { plan, statement }
}

/** Repeats the interrupt until the query has ended: one that comes before the engine has begun is lost. */
function interruptOnAbort(connection: DuckDBConnection, signal: AbortSignal): () => void {
  let timer: NodeJS.Timeout | undefined
  const interrupt = (): void => {
    connection.interrupt()
    timer = setTimeout(interrupt, interruptAgainMs)
  }
  signal.addEventListener('abort', interrupt, { once: true })
  return () => {
    clearTimeout(timer)
    signal.removeEventListener('abort', interrupt)
  }
}

function toPage(plan: RangePlan, chunk: DuckDBDataChunk): QueryPage {
  const columns: Record<string, Float64Array> = {}
  plan.columns.forEach((name, i) => (columns[name] = readDoubles(chunk, 2 + i)))
  const page = { rows: chunk.rowCount, keys: plan.keys, series: readUints(chunk, 0), timeUs: readLongs(chunk, 1), columns }
  if (!plan.raw) return page
  const flags = readBytes(chunk, 3)
  if (!plan.texts) return { ...page, flags }
  const text = words(chunk, 4)
  const meta = words(chunk, 5)
  return { ...page, flags, ...(text.size === 0 ? {} : { text }), ...(meta.size === 0 ? {} : { meta }) }
}

function words(chunk: DuckDBDataChunk, column: number): ReadonlyMap<number, string> {
  const found = new Map<number, string>()
  const vector = chunk.getColumnVector(column)
  for (let i = 0; i < chunk.rowCount; i++) {
    const value = vector.getItem(i)
    if (typeof value === 'string') found.set(i, value)
  }
  return found
}
