import { StatementType, type DuckDBConnection, type DuckDBResult } from '@duckdb/node-api'
import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import type { SqlParameter, SqlQuery, SqlRows, SqlValue } from '../../../core/sql.ts'
import { engineError } from '../database.ts'
import type { SourcesLease } from '../files.ts'
import { erasedKey } from '../dictionary.ts'
import type { QueryParts } from '../query.ts'
import { hot } from '../schema.ts'
import { abortError } from '../../query-checks.ts'
import { interruptAgainMs } from '../slots.ts'
import { checkStatement, type Checked } from './guard.ts'
import { sqlFailure, syntaxFailure } from './failure.ts'
import { extentOf, idsOf, idsOfAll, levelOf, needsOf, reachesOf, rollupsIn, rowsIn, since, type Extent, type Reaches } from './reach.ts'
import { boundsOf, fillBounds, fillDevices, openFrom, spanOf } from './temporary.ts'
import { bound, readRows } from './values.ts'
import { boundsTable, devicesTable, viewSql, type ViewScope } from './views.ts'

/** What the store lends to a query. */
type SqlParts = Pick<QueryParts, 'slots' | 'turn' | 'dictionary' | 'state' | 'gen' | 'files' | 'erasing'> & { readonly memoryLimitBytes: number }

const racesMax = 2

/** Parses a statement with the engine's own parser and checks its tree. Rejects with `sql_invalid` or `sql_refused`. */
export async function checkSql(connection: DuckDBConnection, sql: string, parameters: readonly SqlParameter[]): Promise<Checked> {
  if (Buffer.byteLength(sql) > limits.sqlTextBytesMax) {
    throw new KymoError('sql_refused', { detail: `A statement may have ${limits.sqlTextBytesMax} bytes; this one has ${Buffer.byteLength(sql)}.` })
  }
  if (sql.includes('\0')) throw new KymoError('sql_invalid', { detail: 'The statement contains a NUL character.' })
  const rows = await (
    await connection.run('SELECT json_serialize_sql($1::VARCHAR, skip_null := true, skip_empty := true, skip_default := true)', [sql])
  ).getRows()
  const tree: unknown = JSON.parse(String(rows[0]?.[0]))
  if (typeof tree !== 'object' || tree === null) throw new KymoError('bug', { detail: 'The parser gave no tree.' })
  if ('error' in tree && tree.error === true) throw syntaxFailure(sql, tree)
  return checkStatement('statements' in tree ? tree.statements : undefined, parameters)
}

/**
 * Runs a user's statement on a query's place, in a read-only transaction, over views of the caller's tenant that exist for this
 * connection only. The text that runs is the text that was checked. Everything is interrupted when `signal` aborts, or when the
 * process grows by more than `sqlGrowthBytesMax` meanwhile.
 */
export async function runSql(parts: SqlParts, query: SqlQuery, signal: AbortSignal): Promise<SqlRows | 'needs devices'> {
  const connection = await parts.slots.acquire(signal, false)
  const watch = watchOver(connection, signal, parts.memoryLimitBytes + limits.sqlGrowthBytesMax)
  let begun = false
  let lease: SourcesLease | undefined
  try {
    const checked = await checkSql(connection, query.sql, query.parameters)
    const devices = checked.views.has('devices') || (checked.views.has('device_telemetry') && checked.mentions('firmware'))
    if (devices && query.devices === undefined) return 'needs devices'
    begun = true
    await prepareConnection(connection, query)
    const reaches = await reachesOf(connection, checked, query)
    const wanted = checked.newest
    if (wanted === undefined) {
      lease = (await begin(parts, connection, query, checked, reaches, signal)).lease
      return await read(connection, query, signal)
    }
    // The engine would read every row to find the newest ones, and every file would be attached. So the views end further and further back until
    // there are enough rows: as the statement is ordered by time, what lies before cannot be among them.
    for (let widthUs = firstWindow(wanted, reaches, parts.dictionary.size); ; widthUs *= widerWindow) {
      const started = await begin(parts, connection, query, checked, reaches, signal, widthUs)
      lease = started.lease
      const found = await read(connection, query, signal)
      if (started.whole || found.truncated !== undefined || found.rows >= wanted) return found
      await connection.run('ROLLBACK')
      lease.release()
      lease = undefined
    }
  } catch (thrown) {
    if (signal.aborted) throw abortError(signal)
    if (watch.tooLarge()) {
      throw new KymoError('query_too_large', {
        detail: 'The query needs more memory than it may use. Ask for less time, fewer devices or fewer groups.',
        cause: thrown,
      })
    }
    if (thrown instanceof KymoError) throw thrown
    if (thrown instanceof Error && thrown.message.startsWith('INTERRUPT')) throw new KymoError('shutting_down', { cause: thrown })
    throw sqlFailure(query.sql, thrown) ?? engineError(thrown)
  } finally {
    watch.stop()
    if (begun) await cleanUp(connection)
    lease?.release()
    parts.slots.release(connection)
  }
}

/** `now()` is one time for the whole query, as a TIMESTAMP: compared with the column `time`, the engine's own would read all rows. */
async function prepareConnection(connection: DuckDBConnection, query: SqlQuery): Promise<void> {
  const now = `make_timestamp(${Math.trunc(query.nowUs)}::BIGINT)`
  for (const name of ['now', 'get_current_timestamp', 'transaction_timestamp'])
    await connection.run(`CREATE OR REPLACE TEMP MACRO ${name}() AS ${now}`)
  await connection.run(`CREATE OR REPLACE TEMP MACRO current_date() AS ${now}::DATE`)
  await connection.run(`CREATE OR REPLACE TEMP MACRO today() AS ${now}::DATE`)
  if (query.devices !== undefined) await fillDevices(connection, query.devices)
}

interface Begun {
  readonly scope: Omit<ViewScope, 'rows' | 'rollups'>
  /** The views show all that they are asked for. */
  readonly whole: boolean
  readonly lease: SourcesLease
}

/**
 * Attaches the files that the views read, fixes the snapshot and defines the views, all as of one commit (as store/duckdb/query.ts does):
 * rows move between files, and views of rollups need to know where their rows end. `widthUs`: rows are read of so much time alone, up to the last of
 * them.
 */
async function begin(
  parts: SqlParts,
  connection: DuckDBConnection,
  query: SqlQuery,
  checked: Checked,
  reaches: Reaches,
  signal: AbortSignal,
  widthUs = Number.POSITIVE_INFINITY,
): Promise<Begun> {
  const seen = () => {
    const { keys } = parts.dictionary
    const { cells } = parts.state
    const own = (): Uint32Array => Uint32Array.from(keys.keys()).filter((id) => keys[id]!.tenant === query.tenant)
    let all: Uint32Array | undefined
    const asked = Array.from(reaches, ([view, reach]) => {
      const ids = idsOf(view, reach, query.tenant, parts.dictionary)
      const level = levelOf[view]
      return extentOf(view, reach, ids, level === undefined ? 0 : openFrom(ids ?? (all ??= own()), cells, level))
    })
    const rollups = asked.filter(({ view }) => levelOf[view] !== undefined)
    const ids = idsOfAll(asked)
    const span = spanOf(ids ?? (all ??= own()), cells)
    const last = Math.min(span.last, Math.max(...asked.map(({ rows }) => rows?.toUs ?? Number.POSITIVE_INFINITY)))
    const first = Math.max(span.first, Math.min(...asked.map(({ rows }) => rows?.fromUs ?? 0)))
    const whole = !(last - widthUs > first)
    return {
      gen: parts.gen(),
      extents: whole ? asked : asked.map((extent) => since(extent, last - widthUs)),
      whole,
      bounds: rollups.length === 0 ? undefined : boundsOf(idsOfAll(rollups) ?? (all ??= own()), cells),
      ids,
    }
  }
  const fixed = async ({ gen, extents, whole, bounds, ids }: ReturnType<typeof seen>): Promise<Begun | undefined> => {
    if (signal.aborted) throw abortError(signal)
    if (bounds !== undefined) await fillBounds(connection, bounds)
    const lease = await parts.files.lease(needsOf(extents), ids)
    try {
      await connection.run('BEGIN TRANSACTION READ ONLY')
      const rows = await (await connection.run(`SELECT coalesce(max(gen), 0)::DOUBLE FROM ${hot}.spans`)).getRows()
      if (Number(rows[0]?.[0]) === gen) {
        const scope = {
          tenant: query.tenant,
          shared: parts.erasing() || parts.dictionary.keys.some((key) => key !== erasedKey && key.tenant !== query.tenant),
          texts: checked.mentions('text') || checked.mentions('metadata'),
          devices: query.devices !== undefined,
        }
        const begun: Begun = { scope, whole, lease }
        await defineViews(connection, begun, extents)
        return begun
      }
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
    const begun = await fixed(await parts.turn.run(() => Promise.resolve(seen())))
    if (begun !== undefined) return begun
  }
  return parts.turn.run(async () => {
    const begun = await fixed(seen())
    if (begun === undefined) throw new KymoError('bug', { detail: 'A commit came between while none could.' })
    return begun
  })
}

async function defineViews(
  connection: DuckDBConnection,
  { scope, lease }: Pick<Begun, 'scope' | 'lease'>,
  extents: readonly Extent[],
): Promise<void> {
  for (const extent of extents) {
    const { view } = extent
    const sources = view === 'devices' ? noRows : { rows: rowsIn(lease.sources, extent), rollups: rollupsIn(lease.sources, extent) }
    await connection.run(`CREATE OR REPLACE TEMP VIEW ${view} AS ${viewSql(view, { ...scope, ...sources })}`)
  }
}

const noRows = { rows: { base: [], late: [], texts: [] }, rollups: undefined }
const firstWindowUs = { min: 10e6, max: 10 * 60e6 }
const widerWindow = 8

/** As long as it takes until all series together have said so much, if each speaks once a minute: ten minutes of a large fleet are millions of rows. */
function firstWindow(wanted: number, reaches: Reaches, series: number): number {
  // Of some series there may be less.
  for (const { devices, metrics } of reaches.values()) if (devices !== undefined || metrics !== undefined) return firstWindowUs.max
  return Math.min(firstWindowUs.max, Math.max(firstWindowUs.min, Math.ceil((wanted / Math.max(1, series)) * 60e6)))
}

async function read(connection: DuckDBConnection, query: SqlQuery, signal: AbortSignal): Promise<SqlRows> {
  const prepared = await connection.prepare(query.sql)
  try {
    // The guard has said so already: the parser and the engine must be of one mind.
    if (prepared.statementType !== StatementType.SELECT) throw new KymoError('sql_refused', { detail: 'Only SELECT can be run.' })
    if (query.parameters.length > 0) {
      const { values, types } = bound(query.parameters)
      prepared.bind(values, types)
    }
    return await take(await prepared.stream(), query.limit, signal)
  } finally {
    prepared.destroySync()
  }
}

/** Takes rows up to the limits, and one more to know whether there are any. */
async function take(result: DuckDBResult, limit: number, signal: AbortSignal): Promise<SqlRows> {
  const names = result.deduplicatedColumnNames()
  const types = result.columnTypes()
  const columns = names.map((name, c) => ({ name, type: String(types[c]) }))
  const values: SqlValue[][] = columns.map(() => [])
  let bytes: number = limits.queryAnswerBytesMax
  let rows = 0
  let truncated: 'rows' | 'bytes' | undefined
  for (;;) {
    const chunk = await result.fetchChunk()
    if (signal.aborted) throw abortError(signal)
    if (chunk === null || chunk.rowCount === 0) break
    const wanted = Math.min(chunk.rowCount, limit - rows)
    bytes = readRows(chunk, values, wanted, bytes)
    rows = values[0]?.length ?? 0
    if (bytes < 0) truncated = 'bytes'
    else if (wanted < chunk.rowCount) truncated = 'rows'
    if (truncated !== undefined) break
  }
  return { columns, rows, values, ...(truncated === undefined ? {} : { truncated }) }
}

/** Views and tables of one caller are gone before another's query begins; should that fail, they are replaced when they are used again. */
async function cleanUp(connection: DuckDBConnection): Promise<void> {
  await connection.run('ROLLBACK').catch(() => undefined) // nothing was begun, or the engine ended it itself
  for (const statement of dropped) await connection.run(statement).catch(() => undefined)
}

const dropped = [
  ...['readings', 'readings_1m', 'readings_1h', 'device_telemetry', 'devices'].map((view) => `DROP VIEW IF EXISTS temp.${view}`),
  ...[devicesTable, boundsTable].map((table) => `DROP TABLE IF EXISTS temp.${table}`),
]

const watchEveryMs = 20
/** What the allocator keeps of one query must not be added to what the next may take. */
let smallestRss = Number.POSITIVE_INFINITY

/**
 * Interrupts the connection when the signal aborts, again and again until it is heard: an interrupt that comes before the engine has begun is
 * lost. And when the process has grown too much: what functions build in memory is not counted by the engine's own limit.
 */
function watchOver(
  connection: DuckDBConnection,
  signal: AbortSignal,
  growthMax: number,
): { readonly tooLarge: () => boolean; readonly stop: () => void } {
  const before = process.memoryUsage.rss()
  smallestRss = Math.min(smallestRss, before)
  const most = Math.max(smallestRss + growthMax, before + growthMax / 4)
  let tooLarge = false
  const timer = setInterval(() => {
    tooLarge ||= process.memoryUsage.rss() > most
    if (tooLarge) connection.interrupt()
  }, watchEveryMs)
  let again: NodeJS.Timeout | undefined
  const interrupt = (): void => {
    connection.interrupt()
    again = setTimeout(interrupt, interruptAgainMs)
  }
  signal.addEventListener('abort', interrupt, { once: true })
  return {
    tooLarge: () => tooLarge,
    stop: () => {
      clearInterval(timer)
      clearTimeout(again)
      signal.removeEventListener('abort', interrupt)
    },
  }
}
