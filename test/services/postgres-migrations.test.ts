import assert from 'node:assert/strict'
import process from 'node:process'
import { describe, it } from 'node:test'
import type pg from 'pg'
import { checkPostgres } from '../../src/cli/doctor/postgres.ts'
import { resolveConfig } from '../../src/core/config-resolve.ts'
import { KymoError } from '../../src/core/errors.ts'
import { openPostgres } from '../../src/store/pg/client.ts'
import { metaMigrations, storeMigrations } from '../../src/store/pg/components.ts'
import { migrate, pendingMigrations } from '../../src/store/pg/migrate.ts'
import { usingPostgres } from '../support/postgres-place.ts'
import { answer, batchOf, none, signal, spanOf } from '../support/store-batches.ts'

const skip = process.env['KYMO_TEST_POSTGRES_URL'] === undefined ? { skip: 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' } : {}
const code = (expected: string) => (error: unknown) => error instanceof KymoError && error.code === expected
const t0 = Date.parse('2023-11-14T22:00:00Z') * 1000

/** What a program of the first two versions has written: one row for each reading. */
async function fill(client: pg.Client): Promise<void> {
  await client.query(`
    INSERT INTO span (log, topic, part, next, writer) VALUES ('log-1', 'telemetry', 0, 5, gen_random_uuid());
    INSERT INTO series (tenant, device, metric, place, owner, first)
      SELECT 'default', 'd1', m, convert_to('d1' || m, 'UTF8'), 1, '2023-11-14 22:00:00+00' FROM unnest('{temperature,battery,other}'::text[]) AS m;
    CREATE TABLE readings_2023_11_14 PARTITION OF readings FOR VALUES FROM ('2023-11-14 00:00:00+00') TO ('2023-11-15 00:00:00+00');
    INSERT INTO readings (time, value, series, flags, text, meta) VALUES
      ('2023-11-14 22:00:00+00', 21.5, 1, 64, NULL, '{"a":1}'),
      ('2023-11-14 22:00:00+00', NULL, 2, 2, 'low', NULL),
      ('2023-11-14 22:00:00+00', 3, 3, 0, NULL, NULL),
      ('2023-11-14 22:00:01+00', 22, 1, 0, NULL, NULL),
      ('2023-11-14 22:00:02+00', 99, 2, 16, NULL, NULL);
    CREATE TABLE rollup_1h_2023_11 PARTITION OF rollup_1h FOR VALUES FROM ('2023-11-01 00:00:00+00') TO ('2023-12-01 00:00:00+00');
    INSERT INTO rollup_1h VALUES ('2023-11-14 22:00:00+00', 1, 2, 43.5, 0.125, 21.5, 22, 21.5, '2023-11-14 22:00:00+00', 22, '2023-11-14 22:00:01+00');
    INSERT INTO pending VALUES (2, 3600, '2023-11-14 22:00:00+00')`)
}

void describe('Migrations of PostgreSQL', skip, () => {
  for (const version of [1, 2])
    void it(`bring what version ${version} has written to this one, to the last flag`, async () => {
      await usingPostgres(async ({ client, location, open }) => {
        const db = openPostgres({ url: location, connectionsMax: 1 })
        await migrate(db, 'store', storeMigrations.slice(0, version))
        await fill(client)
        assert.deepEqual(
          (await pendingMigrations(db, 'store', storeMigrations)).map((one) => one.version),
          storeMigrations.slice(version).map((one) => one.version),
        )
        const store = await open()
        assert.deepEqual(await pendingMigrations(db, 'store', storeMigrations), [])
        await db.close()
        assert.deepEqual(
          (await answer(store, {})).map((r) => [r.metric, (r.timeUs - t0) / 1e6, r.text ?? r['value'], r.flags, r.meta]),
          [
            ['battery', 0, 'low', 2, undefined],
            ['other', 0, 3, 0, undefined],
            ['temperature', 0, 21.5, 64, '{"a":1}'],
            ['temperature', 1, 22, 0, undefined],
            ['battery', 2, 99, 16, undefined],
          ],
        )
        const hours = await answer(store, { stepUs: 3600e6, aggregations: ['count', 'stddev'] })
        assert.deepEqual(
          hours.map((r) => [r.metric, r['count'], r['stddev']]),
          [
            ['battery', 1, Number.NaN],
            ['other', 1, Number.NaN],
            ['temperature', 2, Math.sqrt(0.125)],
          ],
        )
        const latest = await store.latest({ tenant: 'default' }, signal)
        assert.deepEqual([...latest.text!.values(), ...latest.value.subarray(0, 3)], ['low', Number.NaN, 3, 22])
        // Both kinds of series go on, and what was pending is not forgotten.
        const rows = ['temperature', 'battery', 'other', 'fresh'].map((metric) => ({ metric, timeUs: t0 + 3e6, value: 1 }))
        await store.commit({ tables: { ...none, readings: [batchOf(rows)] }, span: spanOf(5, 6) }, signal)
        assert.equal((await answer(store, {})).length, 9)
        const { rows: seen } = await client.query<{ temperature: number; battery: number }>(
          'SELECT temperature, battery FROM device_telemetry ORDER BY time DESC LIMIT 1',
        )
        assert.deepEqual(seen, [{ temperature: 1, battery: 1 }])
        const { rows: waiting } = await client.query<{ metric: string }>('SELECT metric FROM pending p JOIN series s ON s.id = p.series')
        assert.deepEqual(waiting, [{ metric: 'battery' }])
      })
    })

  void it('are told by kymo doctor before a start takes them', async () => {
    await usingPostgres(async ({ client, location, open }) => {
      const { config } = resolveConfig({ flags: { 'store.url': location, 'meta.url': location } })
      const told = async (check: string) => (await checkPostgres(config)).filter((one) => one.check === check)
      assert.match((await told('store'))[0]!.detail, /nothing there yet/)
      const db = openPostgres({ url: location, connectionsMax: 1 })
      await migrate(db, 'store', storeMigrations.slice(0, 2))
      await db.close()
      const [pending] = await told('store')
      assert.deepEqual([pending!.status, /pending: 0003-messages, 0004-retention/.test(pending!.detail)], ['warn', true])
      await open()
      assert.deepEqual(
        [...(await told('store')), ...(await told('metadata'))].map(({ status }) => status),
        ['ok', 'ok'],
      )
      assert.equal((await told('postgres')).filter(({ status }) => status === 'ok').length, 1)
      await client.query(`INSERT INTO migration (component, version, name) VALUES ('store', 9999, 'later')`)
      assert.equal((await told('store'))[0]!.code, 'store_format')
      const nowhere = resolveConfig({ flags: { 'store.url': 'postgres://kymo:secret@127.0.0.1:1/kymo' } })
      const [unreached] = await checkPostgres(nowhere.config)
      assert.deepEqual([unreached!.code, JSON.stringify(unreached).includes('secret')], ['store_unavailable', false])
    })
  })

  void it('stop at a database of a newer program, and begin with the first in an empty one', async () => {
    await usingPostgres(async ({ client, location, open }) => {
      const db = openPostgres({ url: location, connectionsMax: 1 })
      assert.equal((await pendingMigrations(db, 'meta', metaMigrations)).length, metaMigrations.length)
      await open()
      await client.query(`INSERT INTO migration (component, version, name) VALUES ('store', 9999, 'later')`)
      await assert.rejects(open(), code('store_format'))
      await assert.rejects(pendingMigrations(db, 'store', storeMigrations), code('store_format'))
      await db.close()
    })
  })
})
