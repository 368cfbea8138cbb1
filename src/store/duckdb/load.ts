import type { DuckDBConnection, DuckDBDataChunk } from '@duckdb/node-api'
import { Flag } from '../../core/batch.ts'
import { readDoubles, readLongs, readUints } from './chunk.ts'
import { erasedKey, type Dictionary } from './dictionary.ts'
import type { StoreFiles } from './files.ts'
import { firstLate } from './recompute.ts'
import { correctedTables, hot, rollupTables } from './schema.ts'
import { lastTimeUs, stepOf } from './sql.ts'
import { field, levelWidth, notKept, stateWidth, trait, type SeriesState } from './series-state.ts'

/** Where the tables stood when the state of the series was written last. */
interface Mark {
  readonly gen: number
  readonly readings: number
  readonly texts: number
  readonly seq: number
}

export interface Loaded extends Mark {
  /** Rows of `readings` that came after the written state. */
  readonly rowsSince: number
}

const levels = [
  { table: rollupTables.minute, corrected: correctedTables.minute, step: stepOf.minute, offset: 0 },
  { table: rollupTables.hour, corrected: correctedTables.hour, step: stepOf.hour, offset: levelWidth },
] as const

/**
 * Reads dictionary and series' state: the state as it was written last, then what was committed since. The tail is found without a
 * scan: `readings` and `texts` are never deleted from, so their rowids say what is new; late rows carry a number, rollup rows their commit's.
 */
export async function loadState(connection: DuckDBConnection, dictionary: Dictionary, state: SeriesState, files: StoreFiles): Promise<Loaded> {
  dictionary.truncate(0)
  const keys = (await (await connection.run(`SELECT tenant, device, metric FROM ${hot}.series ORDER BY id`)).getColumns()) as string[][]
  const [tenants = [], devices = [], metrics = []] = keys
  for (let id = 0; id < tenants.length; id++) dictionary.restore({ tenant: tenants[id]!, device: devices[id]!, metric: metrics[id]! })
  const mark = await readMark(connection, state)
  state.reserve(dictionary.size)
  await tailOfReadings(connection, state, mark)
  await tailOfTexts(connection, state, mark)
  const lately = await tailOfLate(connection, state, mark)
  await minutesKept(connection, state)
  await closings(connection, state, mark)
  // Rows of series that were erased may be there still, until the file is sealed.
  dictionary.keys.forEach((key, id) => {
    if (key === erasedKey) state.forget(id)
  })
  await pendings(connection, state, files, lately)
  const counts = await numbersOf(
    connection,
    `SELECT (SELECT count(*) FROM ${hot}.readings), (SELECT count(*) FROM ${hot}.texts),
    (SELECT coalesce(max(seq), 0) FROM ${hot}.late), (SELECT coalesce(max(gen), 0) FROM ${hot}.spans)`,
  )
  const [readings = 0, texts = 0, seq = 0, gen = 0] = counts
  return { readings, texts, seq: Math.max(seq, mark.seq), gen: Math.max(gen, mark.gen), rowsSince: readings - mark.readings }
}

async function numbersOf(connection: DuckDBConnection, sql: string): Promise<number[]> {
  const rows = await (await connection.run(sql)).getRows()
  return (rows[0] ?? []).map(Number)
}

async function readMark(connection: DuckDBConnection, state: SeriesState): Promise<Mark> {
  state.clear()
  const rows = await (await connection.run(`SELECT gen, readings, texts, seq, bytes FROM ${hot}.series_state`)).getRowsJS()
  const row = rows[0]
  if (row === undefined) return { gen: 0, readings: 0, texts: 0, seq: 0 }
  state.restore(row[4] as Uint8Array)
  return { gen: Number(row[0]), readings: Number(row[1]), texts: Number(row[2]), seq: Number(row[3]) }
}

async function eachChunk(connection: DuckDBConnection, sql: string, take: (chunk: DuckDBDataChunk) => void): Promise<void> {
  const result = await connection.stream(sql)
  for (let chunk = await result.fetchChunk(); chunk !== null && chunk.rowCount > 0; chunk = await result.fetchChunk()) take(chunk)
}

async function tailOfReadings(connection: DuckDBConnection, state: SeriesState, mark: Mark): Promise<void> {
  const far = `make_timestamp(${Number.MAX_SAFE_INTEGER}::BIGINT)`
  const sql = `SELECT series, min(ts), max(ts), arg_max(v, ts), arg_max(flags, ts)::DOUBLE, coalesce(min(ts) FILTER (NOT isnan(v)), ${far})
    FROM ${hot}.readings WHERE rowid >= ${mark.readings} GROUP BY series`
  await eachChunk(connection, sql, (chunk) => {
    const { cells } = state
    const [ids, first, last, value, flags, number] = [
      readUints(chunk, 0),
      readLongs(chunk, 1),
      readLongs(chunk, 2),
      readDoubles(chunk, 3),
      readDoubles(chunk, 4),
      readLongs(chunk, 5),
    ]
    for (let i = 0; i < ids.length; i++) {
      const at = ids[i]! * stateWidth
      cells[at + field.first] = Math.min(cells[at + field.first]!, first[i]!)
      if (last[i]! > cells[at + field.last]!) {
        cells[at + field.last] = last[i]!
        cells[at + field.lastValue] = value[i]!
        cells[at + field.lastFlags] = flags[i]!
      }
      if (number[i] === Number.MAX_SAFE_INTEGER) continue
      for (const { offset } of levels) cells[at + offset + field.open] = Math.min(cells[at + offset + field.open]!, number[i]!)
    }
  })
}

async function tailOfTexts(connection: DuckDBConnection, state: SeriesState, mark: Mark): Promise<void> {
  const sql = `SELECT series, (max((text IS NOT NULL)::INTEGER) * ${trait.text} + max((meta IS NOT NULL)::INTEGER) * ${trait.meta})::DOUBLE
    FROM ${hot}.texts WHERE rowid >= ${mark.texts} GROUP BY series`
  await eachChunk(connection, sql, (chunk) => {
    const ids = readUints(chunk, 0)
    const traits = readDoubles(chunk, 1)
    for (let i = 0; i < ids.length; i++) state.cells[ids[i]! * stateWidth + field.traits]! |= traits[i]!
  })
}

/** Returns the series that had late rows since. */
async function tailOfLate(connection: DuckDBConnection, state: SeriesState, mark: Mark): Promise<ReadonlySet<number>> {
  const lately = new Set<number>()
  const sql = `SELECT series, (flags & ${Flag.clockAhead} <> 0)::UINTEGER AS ahead, min(ts), max(ts),
      arg_max(v, (ts, seq)), arg_max(flags, (ts, seq))::DOUBLE
    FROM ${hot}.late WHERE seq > ${mark.seq} GROUP BY 1, 2`
  await eachChunk(connection, sql, (chunk) => {
    const { cells } = state
    const [ids, ahead, first, last, value, flags] = [
      readUints(chunk, 0),
      readUints(chunk, 1),
      readLongs(chunk, 2),
      readLongs(chunk, 3),
      readDoubles(chunk, 4),
      readDoubles(chunk, 5),
    ]
    for (let i = 0; i < ids.length; i++) {
      lately.add(ids[i]!)
      const at = ids[i]! * stateWidth
      const latest = at + (ahead[i] === 1 ? field.aheadLast : field.last)
      if (last[i]! >= cells[latest]!) {
        cells[latest] = last[i]!
        cells[latest + 1] = value[i]!
        cells[latest + 2] = flags[i]!
      }
      cells[at + field.first] = Math.min(cells[at + field.first]!, first[i]!)
      cells[at + field.lateFirst] = Math.min(cells[at + field.lateFirst]!, first[i]!)
      cells[at + field.lateLast] = Math.max(cells[at + field.lateLast]!, last[i]!)
      for (const { offset } of levels) cells[at + offset + field.open] = Math.min(cells[at + offset + field.open]!, first[i]!)
    }
  })
  return lately
}

/** Whose minutes began or ceased to be kept: of several rows of a series the last one counts. */
async function minutesKept(connection: DuckDBConnection, state: SeriesState): Promise<void> {
  const sql = `SELECT series, last(since ORDER BY rowid), max(since) FROM ${hot}.minutes_kept GROUP BY series`
  await eachChunk(connection, sql, (chunk) => {
    const [ids, last, begun] = [readUints(chunk, 0), readLongs(chunk, 1), readLongs(chunk, 2)]
    for (let i = 0; i < ids.length; i++) {
      const at = ids[i]! * stateWidth
      if (begun[i]! !== notKept) state.cells[at + field.minuteFrom] = begun[i]!
      state.cells[at + field.sparse] = last[i]! === notKept ? Number.POSITIVE_INFINITY : 0
    }
  })
}

async function closings(connection: DuckDBConnection, state: SeriesState, mark: Mark): Promise<void> {
  for (const { table, corrected, step, offset } of levels) {
    const since = (from: string): string => `SELECT series, bucket FROM ${from} WHERE gen > ${mark.gen}`
    await eachChunk(connection, `SELECT series, min(bucket), max(bucket) FROM (${since(corrected)}) GROUP BY series`, (chunk) => {
      const [ids, first, last] = [readUints(chunk, 0), readLongs(chunk, 1), readLongs(chunk, 2)]
      for (let i = 0; i < ids.length; i++) {
        const at = ids[i]! * stateWidth
        state.cells[at + field.correctedFirst] = Math.min(state.cells[at + field.correctedFirst]!, first[i]!)
        state.cells[at + field.correctedLast] = Math.max(state.cells[at + field.correctedLast]!, last[i]! + step)
      }
    })
    await eachChunk(connection, `SELECT series, max(bucket) FROM (${since(table)} UNION ALL ${since(corrected)}) GROUP BY series`, (chunk) => {
      const ids = readUints(chunk, 0)
      const buckets = readLongs(chunk, 1)
      for (let i = 0; i < ids.length; i++) {
        const closed = ids[i]! * stateWidth + offset + field.closed
        state.cells[closed] = Math.max(state.cells[closed]!, buckets[i]! + step)
      }
    })
  }
}

/** What waits for its bucket to close: late rows from there on, and buckets that were noted. Where it is not known, it is assumed. */
async function pendings(connection: DuckDBConnection, state: SeriesState, files: StoreFiles, lately: ReadonlySet<number>): Promise<void> {
  const { cells } = state
  const late: { series: number; closed: number; at: number }[] = []
  for (let id = 0; id < state.size; id++) {
    for (const { offset } of levels) {
      const at = id * stateWidth + offset
      const closed = cells[at + field.closed]!
      const latest = Math.max(cells[id * stateWidth + field.last]!, cells[id * stateWidth + field.lateLast]!)
      if (cells[at + field.open]! < closed) cells[at + field.open] = latest >= closed ? closed : Number.POSITIVE_INFINITY
      const noted = cells[at + field.pendingLast]! >= closed
      const lateLast = cells[id * stateWidth + field.lateLast]!
      const waits = lateLast >= closed && lateLast !== Number.NEGATIVE_INFINITY
      // As it was written down it holds still: no bucket has closed over it, and no late row has come.
      if (waits && cells[at + field.pending]! >= closed && cells[at + field.pending]! < lastTimeUs && !lately.has(id)) continue
      cells[at + field.pending] = noted ? Math.max(cells[at + field.pending]!, closed) : Number.POSITIVE_INFINITY
      if (waits) late.push({ series: id, closed: Math.max(0, closed), at })
    }
  }
  for (const { offset } of levels) {
    const some = late.filter((one) => one.at % stateWidth === offset)
    if (some.length === 0) continue
    const series = some.map((one) => one.series)
    const fromUs = some.map((one) => one.closed)
    const lease = await files.lease([{ kind: 'raw', fromUs: fromUs.reduce((a, b) => Math.min(a, b)), toUs: lastTimeUs }], series)
    const first = await firstLate(connection, lease.sources, series, fromUs).finally(() => lease.release())
    for (const one of some)
      cells[one.at + field.pending] = Math.min(cells[one.at + field.pending]!, first.get(one.series) ?? Number.POSITIVE_INFINITY)
  }
  await eachChunk(connection, `SELECT series, bucket, step FROM ${hot}.pending`, (chunk) => {
    const [ids, buckets, steps] = [readUints(chunk, 0), readLongs(chunk, 1), readLongs(chunk, 2)]
    for (let i = 0; i < ids.length; i++) {
      const at = ids[i]! * stateWidth + (steps[i] === stepOf.hour ? levelWidth : 0)
      if (buckets[i]! < cells[at + field.closed]!) continue
      cells[at + field.pending] = Math.min(cells[at + field.pending]!, buckets[i]!)
      cells[at + field.pendingLast] = Math.max(cells[at + field.pendingLast]!, buckets[i]!)
    }
  })
}
