import type { DuckDBConnection } from '@duckdb/node-api'
import { binList, binOf, boundedBins, onlyValue } from './bins-sql.ts'
import { readLongs, readUints } from './chunk.ts'
import type { Ranges } from '../ranges.ts'
import { correctedTables } from './schema.ts'
import { union, type Sources } from './sources.ts'
import { bucketOf, integers, lastTimeUs, rollupOfRows, stepOf, timestamp } from './sql.ts'

/** The bins of `x`, in one list for each hour. */
const bins = `k AS MATERIALIZED (SELECT series, b, bin, count(*) AS n, min(v) AS low, max(v) AS high
        FROM (SELECT series, bucket AS b, v, ${binOf('v')} AS bin FROM x WHERE NOT isnan(v)) GROUP BY series, b, bin),
      s AS (SELECT series, b, list({'bin': bin, 'n': n, 'v': ${onlyValue}} ORDER BY bin)::${binList} AS bins FROM (${boundedBins('k')}) GROUP BY series, b),`

/**
 * Writes down what the rows of these ranges say, late ones included, to count instead of what their rollup rows say. Rollup rows are left
 * alone: they may lie in files that are never written again. Runs in the connection's open transaction.
 */
export async function recompute(connection: DuckDBConnection, sources: Sources, ranges: Ranges, gen: number): Promise<void> {
  for (const level of ['minute', 'hour'] as const) {
    const { series, lo, hi } = ranges.columns(level)
    if (series.length === 0) continue
    const between = { fromUs: least(lo), toUs: hi.reduce((a, b) => Math.max(a, b)) }
    const wanted = `(SELECT series, make_timestamp(lo) AS lo, make_timestamp(hi) AS hi
      FROM (SELECT ${integers(series, 'UINTEGER')} AS series, ${integers(lo, 'BIGINT')} AS lo, ${integers(hi, 'BIGINT')} AS hi))`
    const table = correctedTables[level]
    await connection.run(`DELETE FROM ${table} AS r USING ${wanted} AS w
      WHERE r.series = w.series AND r.bucket >= w.lo AND r.bucket < w.hi
      AND r.bucket >= ${timestamp(between.fromUs)} AND r.bucket < ${timestamp(between.toUs)}`)
    const { base, late } = sources.rows([...new Set(series)], between)
    const within = 'JOIN w ON r.series = w.series AND r.ts >= w.lo AND r.ts < w.hi'
    await connection.run(`INSERT INTO ${table}
      WITH w AS MATERIALIZED ${wanted},
      l AS MATERIALIZED (SELECT r.series, r.ts, arg_max(r.v, r.seq) AS v FROM (${union(late)}) r ${within} GROUP BY r.series, r.ts),
      h AS (SELECT r.series, r.ts, r.v FROM (${union(base)}) r ${within}),
      x AS MATERIALIZED (SELECT series, make_timestamp(${bucketOf(stepOf[level])}) AS bucket, ts, v
        FROM (SELECT series, ts, v FROM h ANTI JOIN l USING (series, ts) UNION ALL SELECT series, ts, v FROM l)),
      ${level === 'hour' ? bins : ''}
      o AS (SELECT series, bucket, ${rollupOfRows}, ${gen}::UBIGINT AS gen FROM x WHERE NOT isnan(v) GROUP BY 1, 2
      UNION ALL SELECT series, bucket, 0, 0, 0, 0, 0, 0, bucket, 0, bucket, ${gen}::UBIGINT FROM x GROUP BY 1, 2 HAVING bool_and(isnan(v)))
      SELECT o.*${level === 'hour' ? ', s.bins' : ''} FROM o ${level === 'hour' ? 'LEFT JOIN s ON s.series = o.series AND s.b = o.bucket' : ''}`)
  }
}

const least = (numbers: readonly number[]): number => numbers.reduce((a, b) => Math.min(a, b))

/**
 * The first row of each series at or after a time that came late; a series without any is absent. Sealing puts late rows among the others, so
 * any sealed row may be one: at worst a bucket is computed from rows that could have been taken as it came.
 */
export async function firstLate(
  connection: DuckDBConnection,
  sources: Sources,
  series: readonly number[],
  fromUs: readonly number[],
): Promise<Map<number, number>> {
  const late = sources.lateRows(series, { fromUs: least(fromUs), toUs: lastTimeUs })
  const result = await connection.run(`SELECT l.series, min(l.ts) FROM (${union(late)}) l
    JOIN (SELECT ${integers(series, 'UINTEGER')} AS series, ${integers(fromUs, 'BIGINT')} AS lo) w
    ON l.series = w.series AND l.ts >= make_timestamp(w.lo)
    GROUP BY l.series`)
  const found = new Map<number, number>()
  for (let chunk = await result.fetchChunk(); chunk !== null && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
    const ids = readUints(chunk, 0)
    const times = readLongs(chunk, 1)
    for (let i = 0; i < ids.length; i++) found.set(ids[i]!, times[i]!)
  }
  return found
}
