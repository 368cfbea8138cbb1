import type pg from 'pg'
import { asKymoError } from '../../core/errors.ts'
import type { Logger } from '../../core/env.ts'
import type { Partition, Partitioned } from './tables.ts'
import { instant, microseconds } from './sql.ts'

/** What TimescaleDB brings where it is installed; written after its documentation (docs/format/postgres.md says what was tried). */

/** Where the extension's functions are; undefined: it is not there. */
async function extensionSchema(client: pg.ClientBase): Promise<string | undefined> {
  const { rows } = await client.query<{ schema: string }>(
    `SELECT quote_ident(n.nspname) AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'`,
  )
  return rows[0]?.schema
}

/** A table that the migrations left without partitions of PostgreSQL's own is one. */
export async function isHypertable(client: pg.ClientBase, table: Partitioned): Promise<boolean> {
  const { rows } = await client.query<{ relkind: string }>('SELECT relkind FROM pg_class WHERE oid = $1::regclass', [table])
  return rows[0]?.relkind === 'r'
}

export async function chunksOf(client: pg.ClientBase, table: Partitioned): Promise<Partition[]> {
  const { rows } = await client.query<{ name: string; from_us: string; to_us: string }>(
    `SELECT format('%I.%I', chunk_schema, chunk_name) AS name, ${microseconds('range_start')} AS from_us, ${microseconds('range_end')} AS to_us
      FROM timescaledb_information.chunks WHERE hypertable_schema = current_schema() AND hypertable_name = $1`,
    [table],
  )
  return rows.map(({ name, from_us, to_us }) => ({ name, pending: false, fromUs: Number(from_us), toUs: Number(to_us) }))
}

/** All chunks that lie before. Not by a policy of TimescaleDB's own: what is gone has to be noted first. */
export async function dropChunks(client: pg.ClientBase, table: Partitioned, beforeUs: number): Promise<void> {
  const schema = await extensionSchema(client)
  await client.query(`SELECT ${schema}.drop_chunks($1::regclass, older_than => $2::timestamptz)`, [table, instant(beforeUs)])
}

/**
 * Compresses what is a week old, by device, and keeps buckets of five minutes as a continuous aggregate. What the server refuses is told and left
 * out.
 */
export async function useTimescale(client: pg.ClientBase, logger: Logger): Promise<void> {
  if (!(await isHypertable(client, 'messages'))) return
  const schema = await extensionSchema(client)
  if (schema === undefined) return
  const { rows } = await client.query<{ compressed: boolean; aggregate: boolean }>(
    `SELECT coalesce((SELECT compression_enabled FROM timescaledb_information.hypertables
        WHERE hypertable_schema = current_schema() AND hypertable_name = 'messages'), false) AS compressed,
      to_regclass('messages_5m') IS NOT NULL AS aggregate`,
  )
  const [found] = rows
  const wanted = [
    ...(found?.compressed === true
      ? []
      : [
          `ALTER TABLE messages SET (timescaledb.compress, timescaledb.compress_segmentby = 'device', timescaledb.compress_orderby = 'time')`,
          `SELECT ${schema}.add_compression_policy('messages', INTERVAL '7 days', if_not_exists => true)`,
        ]),
    ...(found?.aggregate === true
      ? []
      : [
          `CREATE MATERIALIZED VIEW messages_5m WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
            SELECT ${schema}.time_bucket(INTERVAL '5 minutes', time) AS bucket, device, count(*) AS n, avg(v1) AS avg_temperature, min(v1) AS min_temperature,
              max(v1) AS max_temperature, avg(v2) AS avg_humidity, avg(v3) AS avg_battery, min(v3) AS min_battery
            FROM messages GROUP BY 1, 2 WITH NO DATA`,
          `SELECT ${schema}.add_continuous_aggregate_policy('messages_5m', start_offset => INTERVAL '3 days', end_offset => INTERVAL '10 minutes',
            schedule_interval => INTERVAL '5 minutes', if_not_exists => true)`,
        ]),
  ]
  for (const sql of wanted) {
    try {
      await client.query(sql)
    } catch (thrown) {
      logger.warn('TimescaleDB does not do this; the store works without it.', { statement: sql.slice(0, 80), detail: asKymoError(thrown).message })
    }
  }
}
