import assert from 'node:assert/strict'
import process from 'node:process'
import { describe, it } from 'node:test'
import pg from 'pg'
import { sqlRows } from '../../e2e/seed-table.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { openPostgresStore } from '../../src/store/postgres/store.ts'
import { storeContract } from '../contract/store.ts'
import { newSchema, postgresStores } from '../support/postgres-stores.ts'
import { batchOf, none, signal, spanOf } from '../support/store-batches.ts'

/** A database in which somebody has said CREATE EXTENSION timescaledb. */
const url = process.env['KYMO_TEST_TIMESCALE_URL']
const dayUs = 86_400e6

if (url === undefined) describe('the store in TimescaleDB', { skip: 'KYMO_TEST_TIMESCALE_URL is not set' }, () => undefined)
else {
  storeContract('TimescaleDB', postgresStores(url))
  void describe('The store in TimescaleDB', () => {
    void it('is a hypertable with compression, a continuous aggregate and chunks that retention drops', async () => {
      const { location, schema, remove } = newSchema(url)
      const env = nodeEnv(silentLogger)
      const store = await openPostgresStore({ url: location, env })
      const client = new pg.Client({ connectionString: url, options: `-c search_path=${schema},public` })
      await client.connect()
      try {
        const now = env.clock.nowUs()
        const oldest = now - 20 * dayUs
        const metrics = ['temperature', 'humidity', 'battery', 'pressure', 'voltage']
        const devices = 20
        const perDevice = 1000
        for (const [n, fromUs] of [oldest, now - perDevice * 1e6].entries()) {
          const rows = Array.from({ length: devices * perDevice }, (_, i) => i).flatMap((i) =>
            metrics.map((metric, m) => ({
              device: `d${i % devices}`,
              metric,
              timeUs: Math.floor(fromUs) + Math.floor(i / devices) * 1e6,
              value: Math.round(2000 + 500 * Math.sin(i / 5000 + m)) / 100,
            })),
          )
          await store.commit({ tables: { ...none, readings: [batchOf(rows)] }, span: spanOf(n, n + 1) }, signal)
        }
        const hypertables = await client.query<{ hypertable_name: string }>(
          sqlRows.find(({ sql }) => sql.includes('timescaledb_information'))?.sql ?? '',
        )
        assert.ok(hypertables.rows.some((row) => row.hypertable_name === 'messages'))
        const views = await client.query(
          `SELECT FROM timescaledb_information.continuous_aggregates WHERE view_schema = $1 AND view_name = 'messages_5m'`,
          [schema],
        )
        assert.equal(views.rowCount, 1)
        const jobs = await client.query<{ proc_name: string }>('SELECT proc_name FROM timescaledb_information.jobs WHERE hypertable_schema = $1', [
          schema,
        ])
        assert.ok(jobs.rows.some((row) => /compression|columnstore/.test(row.proc_name)))
        await client.query(`SELECT compress_chunk(c) FROM show_chunks($1::regclass, older_than => INTERVAL '7 days') c`, [`${schema}.messages`])
        const { rows } = await client.query<{ after: string }>(
          'SELECT sum(after_compression_total_bytes) AS after FROM chunk_compression_stats($1::regclass)',
          [`${schema}.messages`],
        )
        const each = Number(rows[0]?.after) / (devices * perDevice)
        assert.ok(each <= 20, `${each.toFixed(1)} bytes a row of five readings`)
        // The queries of the seed, over compressed chunks and others.
        for (const { sql } of sqlRows.filter(({ seed, pending }) => seed === 'S1' && pending === undefined))
          assert.ok((await client.query(sql)).rowCount !== null)
        store.retain({ rawUs: 10 * dayUs, minutesUs: Infinity, hoursUs: Infinity, storeBytes: Infinity })
        await store.upkeep()
        const left = await client.query<{ first: Date }>('SELECT min(time) AS first FROM messages')
        assert.ok(left.rows[0]!.first.getTime() * 1000 > now - 12 * dayUs)
      } finally {
        await Promise.all([store.close(), client.end()])
        await remove()
      }
    })
  })
}
