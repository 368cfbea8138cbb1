import type pg from 'pg'
import type { Level } from '../levels.ts'
import { stepOf } from '../levels.ts'
import type { Ranges } from '../ranges.ts'
import { deviceSql, wideSql } from './layout.ts'
import { bucketOf, instant, rollupColumns, rollupOfRows } from './sql.ts'

export const rollupTable: Readonly<Record<Level, 'rollup_1m' | 'rollup_1h'>> = { minute: 'rollup_1m', hour: 'rollup_1h' }

const wanted = 'unnest($1::int[], $2::timestamptz[], $3::timestamptz[]) AS w (series, lo, hi)'

/** Puts what the rows say in the place of the rollup rows of these ranges, in the client's open transaction. */
export async function recompute(client: pg.PoolClient, ranges: Ranges): Promise<void> {
  for (const level of ['minute', 'hour'] as const) {
    const { series, lo, hi } = ranges.columns(level)
    if (series.length === 0) continue
    const values = [series, lo.map(instant), hi.map(instant)]
    const table = rollupTable[level]
    await client.query(`DELETE FROM ${table} r USING ${wanted} WHERE r.series = w.series AND r.bucket >= w.lo AND r.bucket < w.hi`, values)
    await client.query(
      `INSERT INTO ${table} (${rollupColumns}) SELECT bucket, series, n, sum, m2, min, max, first, first_time, last, last_time FROM (
        SELECT series, bucket, ${rollupOfRows} FROM (
          SELECT r.series, ${bucketOf(stepOf[level], 'r.time')} AS bucket, r.time, r.value FROM ${wanted}
          JOIN samples r ON r.series = w.series AND r.time >= w.lo AND r.time < w.hi WHERE r.value IS NOT NULL AND w.series > 0
          UNION ALL SELECT w.series, ${bucketOf(stepOf[level], 'm.time')}, m.time, ${wideSql('w.series', 'm').value} FROM ${wanted}
          JOIN messages m ON m.device = ${deviceSql('w.series')} AND m.time >= w.lo AND m.time < w.hi WHERE w.series < 0) x
        WHERE value IS NOT NULL GROUP BY series, bucket) o`,
      values,
    )
  }
}
