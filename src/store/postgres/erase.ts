import type pg from 'pg'
import type { Erasing } from '../../core/ports.ts'
import type { Postgres } from '../pg/client.ts'

/** Rows of one statement of `purge`: a lock of some milliseconds. */
const purgedAtOnce = 10_000

/** Takes the names of a device's series away, in a commit's transaction: nobody finds its rows any more. */
export async function erase(client: pg.PoolClient, { id, tenant, device }: Erasing): Promise<void> {
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
  const { rows } = await db.pool.query<{ series: number }>('SELECT series FROM erased')
  for (const { series } of rows) {
    for (const [table, time] of [
      ['readings', 'time'],
      ['rollup_1m', 'bucket'],
      ['rollup_1h', 'bucket'],
    ] as const) {
      for (let deleted = purgedAtOnce; deleted === purgedAtOnce;) {
        if (stopped()) return
        const result = await db.pool.query(
          `DELETE FROM ${table} WHERE series = $1 AND ${time} <= (SELECT max(${time}) FROM (
            SELECT ${time} FROM ${table} WHERE series = $1 ORDER BY ${time} LIMIT ${purgedAtOnce}) x)`,
          [series],
        )
        deleted = result.rowCount ?? 0
      }
    }
    await db.pool.query('DELETE FROM erased WHERE series = $1', [series])
  }
}
