import type pg from 'pg'
import type { Erasing } from '../../core/ports.ts'
import type { Postgres } from '../pg/client.ts'
import { deviceOf } from './layout.ts'

/** Rows of one statement of `purge`: a lock of some milliseconds. */
const purgedAtOnce = 10_000

/** Takes the names of a device's series away, in a commit's transaction: nobody finds its rows any more. */
export async function erase(client: pg.PoolClient, { id, tenant, device }: Erasing): Promise<void> {
  // First, as whoever gives it another series has it locked. Should it speak again it is another one.
  await client.query('DELETE FROM device WHERE tenant = $1 AND device = $2', [tenant, device])
  const { rows } = await client.query<{ id: number; owner: number }>('DELETE FROM series WHERE tenant = $1 AND device = $2 RETURNING id, owner', [
    tenant,
    device,
  ])
  if (rows.length === 0) return
  const series = rows.map((row) => row.id)
  await client.query('UPDATE span SET revoked = revoked + 1 WHERE id = ANY($1)', [rows.map((row) => row.owner)])
  await client.query('DELETE FROM pending WHERE series = ANY($1)', [series])
  await client.query('INSERT INTO erased (series, erasure) SELECT series, $2 FROM unnest($1::int[]) AS w (series)', [series, id])
}

/** Removes rows of series that were erased, until none is left or `stopped`. Many processes may do it at once. */
export async function purge(db: Postgres, stopped: () => boolean): Promise<void> {
  const { rows } = await db.query<{ series: number }>('SELECT series FROM erased')
  for (const { series } of rows) {
    for (const [table, key, time, value] of [
      series > 0 ? (['samples', 'series', 'time', series] as const) : (['messages', 'device', 'time', deviceOf(series)] as const),
      ['rollup_1m', 'series', 'bucket', series],
      ['rollup_1h', 'series', 'bucket', series],
    ] as const) {
      for (let deleted = purgedAtOnce; deleted === purgedAtOnce;) {
        if (stopped()) return
        const result = await db.query(
          `DELETE FROM ${table} WHERE ${key} = $1 AND ${time} <= (SELECT max(${time}) FROM (
            SELECT ${time} FROM ${table} WHERE ${key} = $1 ORDER BY ${time} LIMIT ${purgedAtOnce}) x)`,
          [value],
        )
        deleted = result.rowCount ?? 0
      }
    }
    await db.query('DELETE FROM erased WHERE series = $1', [series])
  }
}
