import assert from 'node:assert/strict'
import process from 'node:process'
import { describe, it } from 'node:test'
import pg from 'pg'
import { Flag } from '../../src/core/batch.ts'
import type { Retention } from '../../src/core/config.ts'
import type { Env } from '../../src/core/env.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { Store } from '../../src/core/ports.ts'
import { keepAll } from '../../src/store/postgres/retention.ts'
import type { PostgresStore } from '../../src/store/postgres/store.ts'
import { count, until, usingPostgres, type PostgresPlace } from '../support/postgres-place.ts'
import { answer, batchOf, none, signal, spanOf } from '../support/store-batches.ts'
import { StoreHead } from '../support/store-head.ts'

const skip = process.env['KYMO_TEST_POSTGRES_URL'] === undefined ? { skip: 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' } : {}
const s = 1e6
const hourUs = 3600 * s
const dayUs = 24 * hourUs
/** Midnight. */
const day0 = 1_700_000_000_000_000 - (1_700_000_000_000_000 % dayUs)
const at = (day: number, hour = 0): number => day0 + day * dayUs + hour * hourUs
const env = nodeEnv(silentLogger)
/** Noon of the fifth day. */
const noon: Env = {
  ...env,
  clock: { nowUs: () => at(4, 12), monotonicMs: () => env.clock.monotonicMs(), after: (ms, fn) => env.clock.after(ms, fn) },
}

/** Five days of two metrics, two hours each, so that hours close. */
async function filled(
  open: PostgresPlace['open'],
  retention: Partial<Retention>,
): Promise<{ readonly store: PostgresStore; readonly next: () => number }> {
  const store = await open({ env: noon, retention: { ...keepAll, ...retention } })
  const head = new StoreHead()
  let n = 0
  for (const day of [0, 1, 2, 3, 4]) {
    const rows = Array.from({ length: 240 }, (_, i) => i).flatMap((i) =>
      ['temperature', 'humidity'].map((metric) => ({ metric, timeUs: at(day, 6) + i * 30 * s, value: day * 1000 + i })),
    )
    await store.commit({ tables: head.push(rows), span: spanOf(n, ++n) }, signal)
  }
  return { store, next: () => n++ }
}

/** What makes another connection find the same tables. */
async function path(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ schema: string }>('SELECT current_schema() AS schema')
  return `-c search_path=${rows[0]?.schema}`
}

async function days(store: Store, metric: string): Promise<number[]> {
  const found = await answer(store, { match: { tenant: 'default', metrics: [metric] } })
  return [...new Set(found.map((r) => Math.floor((r.timeUs - day0) / dayUs)))]
}

void describe('Retention in PostgreSQL', skip, () => {
  void it('detaches whole days, whose hours go on being answered, without percentiles', async () => {
    await usingPostgres(async ({ client, open }) => {
      const { store, next } = await filled(open, { rawUs: 2 * dayUs, minutesUs: 3 * dayUs })
      await store.upkeep()
      assert.deepEqual(await days(store, 'temperature'), [2, 3, 4])
      assert.equal(await store.goneUs(), at(2))
      assert.equal(await count(client, `pg_inherits WHERE inhparent = 'messages'::regclass`), 3)
      const hours = { match: { tenant: 'default', metrics: ['temperature'] }, stepUs: hourUs, aggregations: ['count', 'max', 'p50'] } as const
      const found = await answer(store, hours)
      assert.deepEqual(
        found.map((r) => [(r.timeUs - day0) / hourUs, r['count'], r['max'], r['p50']]),
        [0, 1, 2, 3, 4].flatMap((day) =>
          [6, 7].map((hour) => {
            const first = day * 1000 + (hour - 6) * 120
            return [day * 24 + hour, 120, first + 119, day < 2 ? Number.NaN : first + 59]
          }),
        ),
      )
      const monthly = await answer(store, { ...hours, stepUs: undefined as never, calendar: { unit: 'month', timeZone: 'UTC' } })
      assert.deepEqual(
        monthly.map((r) => [r['count'], r['p50']]),
        [[1200, Number.NaN]],
      )
      // What comes for a day that has gone changes no hour.
      const n = next()
      const late = batchOf([{ metric: 'temperature', timeUs: at(1, 6), value: 1e6, flags: Flag.late }])
      await store.commit({ tables: { ...none, late: [late] }, span: spanOf(n, n + 1) }, signal)
      assert.deepEqual(await answer(store, hours), found)
      await store.upkeep()
      assert.deepEqual(await days(store, 'temperature'), [2, 3, 4])
      // Where another one has removed the day of a row that this one believes in, it is made again.
      const other = await open({ env: noon })
      const m = next()
      const again = batchOf([{ metric: 'temperature', timeUs: at(1, 6), value: 1e6, flags: Flag.late }])
      await store.commit({ tables: { ...none, late: [again] }, span: spanOf(m, m + 1) }, signal)
      assert.deepEqual(await days(other, 'temperature'), [1, 2, 3, 4])
    })
  })

  void it('is not held up by a query when the store is closed, and ends what was broken off', async () => {
    await usingPostgres(async ({ client, open }) => {
      const { store } = await filled(open, { rawUs: 2 * dayUs })
      const reader = new pg.Client({ connectionString: process.env['KYMO_TEST_POSTGRES_URL'], options: await path(client) })
      await reader.connect()
      await reader.query('BEGIN; SELECT count(*) FROM messages')
      const round = store.upkeep()
      const pending = `pg_inherits WHERE inhparent = 'messages'::regclass AND inhdetachpending`
      await until(async () => (await count(client, pending)) === 1)
      const [ended] = await Promise.allSettled([round, store.close()])
      assert.equal(ended.status, 'rejected')
      await reader.query('ROLLBACK')
      await reader.end()
      assert.equal(await count(client, pending), 1)
      // A reading comes for the day that nobody has any more.
      const again = await open({ env: noon, retention: { ...keepAll, rawUs: 2 * dayUs } })
      const late = batchOf([0, 1].map((day) => ({ metric: 'temperature', timeUs: at(day), value: 1, flags: Flag.late })))
      await again.commit({ tables: { ...none, late: [late] }, span: spanOf(5, 6) }, signal)
      assert.equal(await count(client, pending), 0)
      await again.upkeep()
      assert.deepEqual(await days(again, 'temperature'), [2, 3, 4])
    })
  })

  void it('remembers the last value of a device whose readings have all gone', async () => {
    await usingPostgres(async ({ open }) => {
      const { store } = await filled(open, { rawUs: dayUs })
      store.retain({ ...keepAll, storeBytes: 1 })
      await store.upkeep()
      assert.deepEqual(await days(store, 'temperature'), [4])
      const silent = await open({ env: { ...noon, clock: { ...noon.clock, nowUs: () => at(9) } }, retention: { ...keepAll, rawUs: 2 * dayUs } })
      await silent.upkeep()
      assert.deepEqual(await days(silent, 'temperature'), [])
      const latest = await silent.latest({ tenant: 'default', metrics: ['temperature'] }, signal)
      // The hour that was open when it fell silent has no rollup.
      assert.deepEqual([latest.rows, latest.value[0]], [1, 4119])
      assert.equal((await silent.series({ tenant: 'default' }, signal)).length, 2)
    })
  })

  void it('takes what rules name, by metric and by label, and leaves the rest', async () => {
    await usingPostgres(async ({ client, open }) => {
      const rules = [
        { labels: { site: 'lab' }, rawUs: dayUs, devices: [] },
        { metrics: ['temp*'], rawUs: 2 * dayUs, hoursUs: 3 * dayUs },
      ]
      const { store, next } = await filled(open, { rules })
      await store.upkeep()
      assert.deepEqual(await days(store, 'temperature'), [2, 3, 4])
      assert.deepEqual(await days(store, 'humidity'), [0, 1, 2, 3, 4])
      const hours = await answer(store, { match: { tenant: 'default', metrics: ['temperature'] }, stepUs: hourUs, aggregations: ['count', 'p50'] })
      assert.deepEqual(
        hours.map((r) => [(r.timeUs - day0) / hourUs, r['count'], Number.isNaN(r['p50'])]),
        [1, 2, 3, 4].flatMap((day) => [6, 7].map((hour) => [day * 24 + hour, 120, day < 2])),
      )
      // A reading that comes for it is gone at once; one of the other metric is there.
      const n = next()
      const late = batchOf(['temperature', 'humidity'].map((metric) => ({ metric, timeUs: at(1), value: 1, flags: Flag.late })))
      await store.commit({ tables: { ...none, late: [late] }, span: spanOf(n, n + 1) }, signal)
      assert.deepEqual(await days(store, 'temperature'), [2, 3, 4])
      assert.equal((await answer(store, { match: { tenant: 'default', metrics: ['humidity'] }, toUs: at(1, 1) })).length, 241)
      // The device has the label now: of each row nothing is left.
      store.retain({ ...keepAll, rules: [{ labels: { site: 'lab' }, rawUs: dayUs, devices: [['default', 'd1']] }] })
      await store.upkeep()
      assert.deepEqual(
        [await days(store, 'temperature'), await days(store, 'humidity')],
        [
          [3, 4],
          [3, 4],
        ],
      )
      assert.equal(await count(client, 'messages'), 480)
    })
  })
})

void describe('Statistics of PostgreSQL', skip, () => {
  void it('are made when there is something, and again when devices have come', async () => {
    await usingPostgres(async ({ client, open }) => {
      const store = await open()
      const known = async (): Promise<number> => {
        const { rows } = await client.query<{ n: number }>(`SELECT reltuples::int AS n FROM pg_class WHERE oid = 'device'::regclass`)
        return rows[0]!.n
      }
      const commit = async (n: number, devices: number): Promise<void> => {
        const rows = Array.from({ length: devices }, (_, i) => ({ device: `d${i}`, timeUs: day0 + n * s, value: i }))
        await store.commit({ tables: { ...none, readings: [batchOf(rows)] }, span: spanOf(n, n + 1) }, signal)
        await store.upkeep()
      }
      await store.upkeep()
      assert.equal(await known(), -1)
      await commit(0, 60)
      assert.equal(await known(), 60)
      const made = `(SELECT 1 FROM upkeep WHERE task = 'analyze' AND at = (SELECT at FROM first_analyze)) x`
      await client.query(`CREATE TABLE first_analyze AS SELECT at FROM upkeep WHERE task = 'analyze'`)
      await commit(1, 100)
      assert.equal(await count(client, made), 1)
      await commit(2, 200)
      assert.equal(await known(), 200)
    })
  })
})
