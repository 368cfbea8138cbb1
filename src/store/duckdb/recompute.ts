import type { DuckDBConnection } from '@duckdb/node-api'
import { readLongs, readUints } from './chunk.ts'
import { hot, rollupTables } from './schema.ts'
import { bucketOf, integers, rollupOfRows, timestamp } from './sql.ts'

export type Level = 'minute' | 'hour'
export const stepOf = { minute: 60e6, hour: 3600e6 } as const

/** Buckets to compute again from the rows: for each level, series and [lo, hi) on the level's grid. Ranges of a series may overlap. */
export class Ranges {
  readonly #byLevel: Record<Level, Map<number, [number, number][]>> = { minute: new Map(), hour: new Map() }

  get empty(): boolean {
    return this.#byLevel.minute.size === 0 && this.#byLevel.hour.size === 0
  }

  add(level: Level, series: number, lo: number, hi: number): void {
    const ranges = this.#byLevel[level]
    const list = ranges.get(series)
    if (list === undefined) {
      ranges.set(series, [[lo, hi]])
      return
    }
    const last = list.at(-1)!
    if (lo < last[0] || hi > last[1]) list.push([lo, hi])
  }

  clear(): void {
    this.#byLevel.minute.clear()
    this.#byLevel.hour.clear()
  }

  /** Disjoint ranges as three columns. */
  columns(level: Level): { series: number[]; lo: number[]; hi: number[] } {
    const series: number[] = []
    const lo: number[] = []
    const hi: number[] = []
    for (const [id, list] of this.#byLevel[level]) {
      list.sort((a, b) => a[0] - b[0])
      let open: [number, number] | undefined
      for (const range of list) {
        if (open !== undefined && range[0] <= open[1]) {
          open[1] = Math.max(open[1], range[1])
          hi[hi.length - 1] = open[1]
          continue
        }
        open = range
        series.push(id)
        lo.push(range[0])
        hi.push(range[1])
      }
    }
    return { series, lo, hi }
  }
}

/** Replaces the rollup rows of these ranges by what the rows say, late ones included. Runs in the connection's open transaction. */
export async function recompute(connection: DuckDBConnection, ranges: Ranges, gen: number): Promise<void> {
  for (const level of ['minute', 'hour'] as const) {
    const { series, lo, hi } = ranges.columns(level)
    if (series.length === 0) continue
    const from = timestamp(lo.reduce((a, b) => Math.min(a, b)))
    const to = timestamp(hi.reduce((a, b) => Math.max(a, b)))
    const wanted = `(SELECT series, make_timestamp(lo) AS lo, make_timestamp(hi) AS hi
      FROM (SELECT ${integers(series, 'UINTEGER')} AS series, ${integers(lo, 'BIGINT')} AS lo, ${integers(hi, 'BIGINT')} AS hi))`
    const table = rollupTables[level]
    await connection.run(`DELETE FROM ${table} AS r USING ${wanted} AS w
      WHERE r.series = w.series AND r.bucket >= w.lo AND r.bucket < w.hi AND r.bucket >= ${from} AND r.bucket < ${to}`)
    await connection.run(`INSERT INTO ${table}
      WITH w AS MATERIALIZED ${wanted},
      l AS MATERIALIZED (SELECT r.series, r.ts, arg_max(r.v, r.seq) AS v FROM ${hot}.late r
        JOIN w ON r.series = w.series AND r.ts >= w.lo AND r.ts < w.hi WHERE r.ts >= ${from} AND r.ts < ${to} GROUP BY r.series, r.ts),
      h AS (SELECT r.series, r.ts, r.v FROM ${hot}.readings r JOIN w ON r.series = w.series AND r.ts >= w.lo AND r.ts < w.hi
        WHERE r.ts >= ${from} AND r.ts < ${to})
      SELECT series, make_timestamp(${bucketOf(stepOf[level])}) AS bucket, ${rollupOfRows}, ${gen}::UBIGINT
      FROM (SELECT series, ts, v FROM h ANTI JOIN l USING (series, ts) UNION ALL SELECT series, ts, v FROM l)
      WHERE NOT isnan(v) GROUP BY 1, 2`)
  }
}

/** The first late row of each series at or after a time; a series without any is absent. */
export async function firstLate(connection: DuckDBConnection, series: readonly number[], fromUs: readonly number[]): Promise<Map<number, number>> {
  const result = await connection.run(`SELECT l.series, min(l.ts) FROM ${hot}.late l
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
