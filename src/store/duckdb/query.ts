import type { DuckDBConnection, DuckDBDataChunk, DuckDBResult } from '@duckdb/node-api'
import { isBucketed } from '../../core/buckets.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { QueryPage, RangeQuery } from '../../core/ports.ts'
import { readBytes, readDoubles, readLongs, readUints } from './chunk.ts'
import { engineError } from './database.ts'
import type { Dictionary } from './dictionary.ts'
import { answerOfFew } from './few.ts'
import type { SourcesLease, StoreFiles } from './files.ts'
import { needsOf, planRange, widened, windowedRowsMax, type RangePlan, type Window } from './range-plan.ts'
import { columnsOf, rangeSql, tellsPartial } from './range-sql.ts'
import { hot } from './schema.ts'
import type { SeriesState } from './series-state.ts'
import { abortError, checkQuery } from '../query-checks.ts'
import { interruptAgainMs, type QuerySlots } from './slots.ts'
import type { Turn } from './turn.ts'

export interface QueryParts {
  readonly slots: QuerySlots
  readonly turn: Turn
  readonly dictionary: Dictionary
  readonly state: SeriesState
  readonly files: StoreFiles
  /** The number of the last commit. */
  readonly gen: () => number
  /** Whether files have rows of devices that were erased. */
  readonly erasing: () => boolean
  /** For tests. */
  readonly sketchedFromUs: number | undefined
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
  let begun: Begun | undefined
  try {
    if (query.limit > windowedRowsMax) {
      begun = await begin(parts, connection, query, undefined, signal)
      if (begun === undefined) return
      const { plan, lease } = begun
      const few = await answerOfFew(connection, plan, lease.sources, query.limit)
      if (few !== undefined) {
        await release()
        lease.release()
        begun = undefined
        yield* few
        return
      }
      const result = await connection.stream(rangeSql(plan, lease, query.limit))
      for (let page = await nextPage(plan, result, signal); page !== undefined; page = await nextPage(plan, result, signal)) yield page
      return
    }
    const pages: QueryPage[] = []
    for (let left = query.limit, window: Window | undefined; ;) {
      begun = await begin(parts, connection, query, window, signal)
      if (begun === undefined) break
      const found = await take(begun, connection, left, pages, signal)
      left -= found
      window = widened(begun.plan.rest, left / found)
      if (left <= 0 || window === undefined) break
      await connection.run('ROLLBACK')
      begun.lease.release()
      begun = undefined
    }
    // In this order: the engine holds a detached file open for as long as a transaction knows it.
    await release()
    begun?.lease.release()
    begun = undefined
    yield* pages
  } catch (thrown) {
    if (signal.aborted) throw abortError(signal)
    if (thrown instanceof Error && thrown.message.startsWith('INTERRUPT')) throw new KymoError('shutting_down', { cause: thrown })
    throw engineError(thrown)
  } finally {
    await release()
    begun?.lease.release()
  }
}

/** Adds the whole answer of a plan to `pages` (at most 3 MB): its place is free again, however slow its reader is. Returns the number of rows. */
async function take({ plan, lease }: Begun, connection: DuckDBConnection, limit: number, pages: QueryPage[], signal: AbortSignal): Promise<number> {
  const few = await answerOfFew(connection, plan, lease.sources, limit)
  if (signal.aborted) throw abortError(signal)
  if (few !== undefined) {
    pages.push(...few)
    return few.reduce((sum, page) => sum + page.rows, 0)
  }
  let rows = 0
  const result = await connection.run(rangeSql(plan, lease, limit))
  for (let page = await nextPage(plan, result, signal); page !== undefined; page = await nextPage(plan, result, signal)) {
    pages.push(page)
    rows += page.rows
  }
  return rows
}

async function nextPage(plan: RangePlan, result: DuckDBResult, signal: AbortSignal): Promise<QueryPage | undefined> {
  const chunk = await result.fetchChunk()
  if (chunk === null || chunk.rowCount === 0) return undefined
  if (signal.aborted) throw abortError(signal)
  return toPage(plan, chunk)
}

interface Begun {
  readonly plan: RangePlan
  readonly lease: SourcesLease
}

/**
 * Plans from the series' state between two commits, attaches the files that the plan reads, then fixes the snapshot, and checks that plan and
 * snapshot are of the same commit. Only after losing that race twice does it make commits wait.
 */
async function begin(
  parts: QueryParts,
  connection: DuckDBConnection,
  query: RangeQuery,
  window: Window | undefined,
  signal: AbortSignal,
): Promise<Begun | undefined> {
  const planned = (): { readonly plan: RangePlan | undefined; readonly gen: number } => {
    if (signal.aborted) throw abortError(signal)
    const ids = parts.dictionary.match(query.match, limits.querySeriesMax)
    const known = { rawFromUs: parts.files.view.manifest.expired?.raw, sketchedFromUs: parts.sketchedFromUs }
    return { plan: planRange(query, ids, parts.dictionary.keys, parts.state.cells, window, known), gen: parts.gen() }
  }
  const fixed = async (plan: RangePlan, gen: number): Promise<Begun | undefined> => {
    const lease = await parts.files.lease(needsOf(plan), plan.ids)
    try {
      if ((await snapshot(connection)) === gen) return { plan, lease }
      await connection.run('ROLLBACK')
    } catch (thrown) {
      await connection.run('ROLLBACK').catch(() => undefined) // it may not have begun
      lease.release()
      throw thrown
    }
    lease.release()
    return undefined
  }
  for (let tries = 0; tries < racesMax; tries++) {
    const { plan, gen } = await parts.turn.run(() => Promise.resolve(planned()))
    if (plan === undefined) return undefined
    const begun = await fixed(plan, gen)
    if (begun !== undefined) return begun
  }
  return parts.turn.run(async () => {
    const { plan, gen } = planned()
    if (plan === undefined) return undefined
    const begun = await fixed(plan, gen)
    if (begun === undefined) throw new KymoError('bug', { detail: 'A commit came between while none could.' })
    return begun
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
  const names = columnsOf(plan)
  names.forEach((name, i) => (columns[name] = readDoubles(chunk, 2 + i)))
  const page = { rows: chunk.rowCount, keys: plan.keys, series: readUints(chunk, 0), timeUs: readLongs(chunk, 1), columns }
  if (isBucketed(plan.query)) return tellsPartial(plan) && readDoubles(chunk, 2 + names.length).includes(1) ? { ...page, partial: true } : page
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
