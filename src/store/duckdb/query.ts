import type { DuckDBConnection, DuckDBDataChunk, DuckDBResult } from '@duckdb/node-api'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { QueryPage, RangeQuery } from '../../core/ports.ts'
import { readBytes, readDoubles, readLongs, readUints } from './chunk.ts'
import { engineError } from './database.ts'
import type { Dictionary } from './dictionary.ts'
import { planRange, windowedRowsMax, type RangePlan } from './range-sql.ts'
import { hot } from './schema.ts'
import type { SeriesState } from './series-state.ts'
import { abortError, interruptAgainMs, type QuerySlots } from './slots.ts'
import type { Turn } from './turn.ts'

export interface QueryParts {
  readonly slots: QuerySlots
  readonly turn: Turn
  readonly dictionary: Dictionary
  readonly state: SeriesState
  /** The number of the last commit. */
  readonly gen: () => number
}

const racesMax = 2

/**
 * Runs one range query. Between commits, it works out which rollups can be trusted and binds the statement, which fixes the
 * snapshot it reads; then it runs beside commits. Aborting interrupts the engine.
 */
export async function* runRange(parts: QueryParts, query: RangeQuery, signal: AbortSignal): AsyncGenerator<QueryPage, void, void> {
  checkQuery(query)
  const light = query.match.devices !== undefined && query.match.devices.length <= limits.queryLightDevicesMax
  const connection = await parts.slots.acquire(signal, light)
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
    const plan = await begin(parts, connection, query, signal)
    if (plan === undefined) return
    if (query.limit > windowedRowsMax) {
      const result = await connection.stream(plan.statements[0]!(query.limit))
      for (let page = await nextPage(plan, result, signal); page !== undefined; page = await nextPage(plan, result, signal)) yield page
      return
    }
    const pages = await take(plan, connection, query.limit, signal)
    await release()
    yield* pages
  } catch (thrown) {
    if (signal.aborted) throw abortError(signal)
    if (thrown instanceof Error && thrown.message.startsWith('INTERRUPT')) throw new KymoError('shutting_down', { cause: thrown })
    throw engineError(thrown)
  } finally {
    await release()
  }
}

/** The whole answer at once (at most 3 MB): its place is free again, however slow its reader is. */
async function take(plan: RangePlan, connection: DuckDBConnection, limit: number, signal: AbortSignal): Promise<QueryPage[]> {
  const pages: QueryPage[] = []
  let left = limit
  for (const statement of plan.statements) {
    const result = await connection.run(statement(left))
    for (let page = await nextPage(plan, result, signal); page !== undefined; page = await nextPage(plan, result, signal)) {
      pages.push(page)
      left -= page.rows
    }
    if (left <= 0) break
  }
  return pages
}

async function nextPage(plan: RangePlan, result: DuckDBResult, signal: AbortSignal): Promise<QueryPage | undefined> {
  const chunk = await result.fetchChunk()
  if (chunk === null || chunk.rowCount === 0) return undefined
  if (signal.aborted) throw abortError(signal)
  return toPage(plan, chunk)
}

function checkQuery(query: RangeQuery): void {
  const { stepUs } = query
  if (stepUs !== undefined && (!Number.isSafeInteger(stepUs) || stepUs <= 0))
    throw new KymoError('request_invalid', { detail: 'The step must be a whole number of microseconds above 0.' })
  if (!(query.fromUs <= query.toUs)) throw new KymoError('request_invalid', { detail: 'The range ends before it begins.' })
}

/**
 * Plans from the series' state between two commits, then fixes the snapshot, and checks that both are of the same commit.
 * Only after losing that race twice does it make commits wait.
 */
async function begin(parts: QueryParts, connection: DuckDBConnection, query: RangeQuery, signal: AbortSignal): Promise<RangePlan | undefined> {
  const planned = (): { readonly plan: RangePlan | undefined; readonly gen: number } => {
    if (signal.aborted) throw abortError(signal)
    const ids = parts.dictionary.match(query.match, limits.querySeriesMax)
    return { plan: planRange(query, ids, parts.dictionary.keys, parts.state.cells), gen: parts.gen() }
  }
  for (let tries = 0; tries < racesMax; tries++) {
    const { plan, gen } = await parts.turn.run(() => Promise.resolve(planned()))
    if (plan === undefined) return undefined
    if ((await snapshot(connection)) === gen) return plan
    await connection.run('ROLLBACK')
  }
  return parts.turn.run(async () => {
    const { plan } = planned()
    if (plan !== undefined) await snapshot(connection)
    return plan
  })
}

/** Begins a transaction, and returns the number of the last commit that it sees. */
async function snapshot(connection: DuckDBConnection): Promise<number> {
  const rows = await (await connection.run(`BEGIN; SELECT coalesce(max(gen), 0)::DOUBLE FROM ${hot}.spans`)).getRows()
  return Number(rows[0]?.[0])
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
