import assert from 'node:assert/strict'
import net from 'node:net'
import process from 'node:process'
import { describe, it } from 'node:test'
import pg from 'pg'
import { sqlRows } from '../../e2e/seed-table.ts'
import { Flag } from '../../src/core/batch.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { limits } from '../../src/core/limits.ts'
import { statistics } from '../../src/core/ports.ts'
import { openPostgresMeta } from '../../src/store/meta/postgres.ts'
import { openPostgresStore } from '../../src/store/postgres/store.ts'
import { count, until, usingPostgres as using } from '../support/postgres-place.ts'
import { answer, batchOf, none, signal, spanOf, type TestRow } from '../support/store-batches.ts'
import { StoreHead } from '../support/store-head.ts'

const url = process.env['KYMO_TEST_POSTGRES_URL']
const skip = url === undefined ? { skip: 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' } : {}
const env = nodeEnv(silentLogger)
const s = 1e6
const hourUs = 3600 * s
const t0 = 1_700_000_000_000_000 - (1_700_000_000_000_000 % hourUs)
const code = (expected: string) => (error: unknown) => error instanceof KymoError && error.code === expected

type Row = Readonly<Record<string, unknown>>

/** What the five queries answer that the first seed prints for plain tables. */
async function answers(client: pg.Client): Promise<readonly (readonly Row[])[]> {
  const queries = sqlRows.filter(({ seed, pending }) => seed === 'S1' && pending === undefined)
  assert.equal(queries.length, 5)
  const found: Row[][] = []
  for (const { sql } of queries) found.push((await client.query<Row>(sql)).rows)
  return found
}

void describe('The PostgreSQL store', skip, () => {
  void it('answers the five queries of the first seed as they stand', async () => {
    await using(async ({ client, location, open }) => {
      const store = await open()
      const meta = await openPostgresMeta({ url: location, env })
      const doc = { id: 'sensor-1', attributes: { firmware: '1.2.3' } }
      await meta.write([{ op: 'put', collection: 'devices', tenant: 'default', doc }])
      await meta.close()
      const now = env.clock.nowUs()
      const rows = Array.from({ length: 40 }, (_, i) => i).flatMap((i): TestRow[] => {
        const message = { device: `sensor-${i % 2}`, timeUs: now - (40 - i) * 60 * s }
        return [
          { ...message, metric: 'temperature', value: i === 39 ? 90 : 20 + (i % 5) },
          { ...message, metric: 'humidity', value: 50 },
          { ...message, metric: 'battery', value: 100 - i },
        ]
      })
      await store.commit({ tables: { ...none, readings: [batchOf(rows)] }, span: spanOf(0, 1) }, signal)
      const other = batchOf([{ tenant: 'other', device: 'sensor-1', metric: 'temperature', timeUs: now, value: 1 }])
      await store.commit({ tables: { ...none, readings: [other] }, span: spanOf(1, 2) }, signal)

      const [newest, devices, trends, health, anomalies] = await answers(client)
      assert.deepEqual(Object.keys(newest?.[0] ?? {}), ['time', 'device_id', 'temperature', 'humidity', 'battery', 'firmware'])
      const columns = (rows: readonly Row[] | undefined, ...names: string[]): unknown[][] | undefined =>
        rows?.map((row) => names.map((name) => row[name]))
      assert.deepEqual(columns(newest, 'device_id', 'temperature', 'humidity', 'battery', 'firmware')?.slice(0, 2), [
        ['sensor-1', 90, 50, 61, '1.2.3'],
        ['sensor-0', 23, 50, 62, null],
      ])
      assert.deepEqual(columns(devices, 'device_id', 'count')?.sort(), [
        ['sensor-0', '20'],
        ['sensor-1', '20'],
      ])
      assert.ok(trends?.every(({ bucket }) => bucket instanceof Date && bucket.getTime() % 300_000 === 0))
      assert.deepEqual(
        columns(trends, 'device_id', 'max_temp')?.filter(([, max]) => max === 90),
        [['sensor-1', 90]],
      )
      assert.deepEqual(columns(health, 'device_id', 'message_count', 'min_battery'), [
        ['sensor-1', '20', 61],
        ['sensor-0', '20', 62],
      ])
      assert.deepEqual(columns(anomalies, 'device_id', 'temperature'), [['sensor-1', 90]])
    })
  })

  void it('buckets times as TimescaleDB does', async () => {
    await using(async ({ client, open }) => {
      await open()
      const bucket = async (width: string, at: string): Promise<string> => {
        const { rows } = await client.query<{ t: Date }>('SELECT time_bucket($1::interval, $2::timestamptz) AS t', [width, at])
        return rows[0]!.t.toISOString()
      }
      // A week begins on Monday, months count from January 2000.
      assert.equal(await bucket('1 week', '2026-11-22T23:59:59Z'), '2026-11-16T00:00:00.000Z')
      assert.equal(await bucket('5 minutes', '1999-12-31T23:59:59Z'), '1999-12-31T23:55:00.000Z')
      assert.equal(await bucket('3 months', '2026-11-22T23:59:59Z'), '2026-10-01T00:00:00.000Z')
      assert.equal(await bucket('1 year', '2026-11-22T23:59:59Z'), '2026-01-01T00:00:00.000Z')
      assert.equal(await bucket('5 months', '1999-12-31T00:00:00Z'), '1999-08-01T00:00:00.000Z')
    })
  })

  void it('keeps each identity once, whatever two logs say is new', async () => {
    await using(async ({ client, open }) => {
      const [a, b] = [await open(), await open()]
      const tables = (value: number) => ({ ...none, readings: [batchOf([0, 1, 2].map((i) => ({ timeUs: t0 + i * s, value })))] })
      await a.commit({ tables: tables(1), span: spanOf(0, 1) }, signal)
      await b.commit({ tables: tables(2), span: spanOf(0, 1, 'log-2') }, signal)
      assert.equal(await count(client, 'messages'), 3)
      assert.deepEqual(
        (await answer(a, {})).map((r) => r['value']),
        [2, 2, 2],
      )
    })
  })

  void it('takes each commit once when its process does not learn how it ended', async () => {
    await using(async ({ client, location, open, after }) => {
      const wire = await cutWire(new URL(location))
      after(() => wire.close())
      const store = await open({ url: wire.location })
      const feed = new StoreHead()
      for (let n = 0; n < 12; n++) {
        // The first cut hits the transaction that makes partitions; the others those of commits, with a series that is new.
        const device = `d${Math.floor(n / 3)}`
        const tables = feed.push(Array.from({ length: 200 }, (_, i) => ({ device, timeUs: t0 + (n * 200 + i) * s, value: i })))
        const commit = (): Promise<void> => store.commit({ tables, span: spanOf(n, n + 1) }, signal)
        const cut = (['before', 'after', 'no'] as const)[n % 3]!
        wire.cut(cut)
        if (cut === 'no') await commit()
        else await assert.rejects(commit(), code('store_unavailable'))
        if (cut === 'before') await commit()
        if (cut === 'after') await assert.rejects(commit(), code('span_conflict'))
      }
      assert.equal(await count(client, 'messages'), 2400)
      const minutes = await answer(store, { stepUs: 60 * s, aggregations: ['count'] })
      assert.deepEqual(
        minutes.map((r) => r['count']),
        Array.from({ length: 40 }, () => 60),
      )
    })
  })

  void it('lets one of two owners of a partition commit, and the other one go on after it', async () => {
    await using(async ({ open }) => {
      const stores = [await open(), await open()]
      const row = (n: number) => ({ ...none, readings: [batchOf([{ timeUs: t0 + n * s, value: n }])] })
      for (let n = 0; n < 10; n++) {
        const tried = await Promise.allSettled(stores.map((store) => store.commit({ tables: row(n), span: spanOf(n, n + 1) }, signal)))
        assert.deepEqual(tried.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
        for (const one of tried) if (one.status === 'rejected') assert.ok(code('span_conflict')(one.reason))
      }
      assert.equal((await answer(stores[0]!, {})).length, 10)
    })
  })

  void it('makes what was erased unreadable at once, and removes it', async () => {
    await using(async ({ client, open }) => {
      const store = await open()
      const feed = new StoreHead()
      const rows = Array.from({ length: 4000 }, (_, i) => ({ device: `d${i % 2}`, timeUs: t0 + i * s, value: i }))
      await store.commit({ tables: feed.push(rows), span: spanOf(0, 1) }, signal)
      const erase = { id: 'e', tenant: 'default', device: 'd1' }
      await store.commit({ tables: none, span: spanOf(1, 2), erase }, signal)
      assert.deepEqual(new Set((await answer(store, {})).map((r) => r.device)), new Set(['d0']))
      await until(async () => (await count(client, 'erased')) === 0)
      assert.equal(await count(client, 'messages'), 2000)
      for (const table of ['rollup_1m', 'rollup_1h', 'pending'])
        assert.equal(await count(client, `(SELECT 1 FROM ${table} WHERE series NOT IN (SELECT id FROM series)) x`), 0, table)
      // It is another device that speaks then.
      await store.commit({ tables: { ...none, readings: [batchOf([{ device: 'd1', timeUs: t0, value: 5 }])] }, span: spanOf(2, 3) }, signal)
      assert.equal((await answer(store, { match: { tenant: 'default', devices: ['d1'] } })).length, 1)
    })
  })

  void it('works with the greatest and the least numbers there are', async () => {
    await using(async ({ open }) => {
      const store = await open()
      const feed = new StoreHead()
      const values = [Number.MAX_VALUE, Number.MAX_VALUE, -Number.MAX_VALUE, 5e-324, 1e-200, 3]
      const rows = values.flatMap((value, i) => [
        { device: 'both', timeUs: t0 + i * s, value },
        { device: 'tiny', timeUs: t0 + i * s, value: 5e-324 * i },
      ])
      await store.commit({ tables: feed.push(rows), span: spanOf(0, 1) }, signal)
      const late = batchOf([
        { device: 'both', timeUs: t0 + 4.5 * s, value: Number.MAX_VALUE, flags: Flag.late },
        { device: 'tiny', timeUs: t0 + 4.5 * s, value: 1e-310, flags: Flag.late },
      ])
      await store.commit(
        { tables: { ...feed.push([{ device: 'both', timeUs: t0 + 2 * hourUs, value: 1 }]), late: [late] }, span: spanOf(1, 2) },
        signal,
      )
      const cases = [60 * s, hourUs].flatMap((stepUs) =>
        [statistics, [...statistics, 'p50' as const]].map((aggregations) => ({ stepUs, aggregations })),
      )
      for (const query of cases) {
        const found = await answer(store, { ...query, toUs: t0 + hourUs })
        const [both, tiny] = found
        assert.deepEqual(
          [both!['max'], both!['sum'], both!['stddev'], both!['count']],
          [Number.MAX_VALUE, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 7],
        )
        assert.deepEqual([tiny!['min'], tiny!['count'], tiny!['stddev']], [0, 7, 0])
      }
    })
  })

  void it('reads what is exported window by window, and the newest rows of many devices, as of one moment', async () => {
    await using(async ({ open }) => {
      const store = await open()
      const at = (i: number): number => t0 + Math.floor(i ** 2.5) * 1000
      const rows = Array.from({ length: 6000 }, (_, i) => ({ device: `d${(i * 7) % 40}`, timeUs: at(i), value: i }))
      const far = { device: 'clock', timeUs: 9_000_000_000_000_000, value: 0 }
      await store.commit({ tables: { ...none, readings: [batchOf([...rows, far])] }, span: spanOf(0, 1) }, signal)
      for (const order of ['asc', 'desc'] as const) {
        const found = await answer(store, { order, limit: limits.queryRowsMax * 10, toUs: Number.MAX_SAFE_INTEGER })
        const expected = [...rows, far].map((r) => r.timeUs)
        assert.deepEqual(
          found.map((r) => r.timeUs),
          order === 'asc' ? expected : expected.toReversed(),
        )
        const few = await answer(store, { order, limit: 5 })
        assert.deepEqual(
          few.map((r) => r['value']),
          order === 'asc' ? [0, 1, 2, 3, 4] : [5999, 5998, 5997, 5996, 5995],
        )
      }
    })
  })

  void it('interrupts the server when a query is given up, and keeps the connections', async () => {
    await using(async ({ client, open }) => {
      const store = await open()
      const rows = Array.from({ length: 20_000 }, (_, i) => ({ device: `d${i % 50}`, timeUs: t0 + i * s, value: i }))
      await store.commit({ tables: { ...none, readings: [batchOf(rows)] }, span: spanOf(0, 1) }, signal)
      // Held up by a lock: a query that would not end by itself.
      await client.query('BEGIN; LOCK TABLE messages IN ACCESS EXCLUSIVE MODE')
      const stop = new AbortController()
      const asked = Array.from({ length: limits.postgresQueriesMax }, () => answer(store, {}, stop.signal))
      const watch = new pg.Client(url)
      await watch.connect()
      const waiting = (): Promise<number> => count(watch, `pg_stat_activity WHERE application_name = 'kymo' AND wait_event_type = 'Lock'`)
      await until(async () => (await waiting()) >= asked.length)
      stop.abort()
      for (const one of await Promise.allSettled(asked)) assert.ok(one.status === 'rejected' && code('query_deadline')(one.reason))
      await client.query('ROLLBACK')
      await watch.end()
      assert.equal((await answer(store, { limit: 10 })).length, 10)
    })
  })

  void it('says that it is unavailable while nobody listens', async () => {
    const store = openPostgresStore({ url: 'postgres://kymo@127.0.0.1:1/kymo', env })
    await assert.rejects(store, code('store_unavailable'))
  })
})

/** A way to the server that is cut at the next COMMIT: before the server has it, or after it has done it. */
async function cutWire(to: URL): Promise<{ readonly location: string; cut(when: 'no' | 'before' | 'after'): void; close(): Promise<void> }> {
  let armed: 'no' | 'before' | 'after' = 'no'
  const server = net.createServer((near) => {
    const far = net.connect(Number(to.port), to.hostname)
    let committing = false
    const end = (): void => void (near.destroy(), far.destroy())
    near.on('data', (chunk) => {
      if (armed !== 'no' && chunk.includes('COMMIT')) {
        const before = armed === 'before'
        armed = 'no'
        if (before) return end()
        committing = true
      }
      far.write(chunk)
    })
    far.on('data', (chunk) => (committing ? end() : near.write(chunk)))
    for (const socket of [near, far]) socket.on('close', end).on('error', end)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const location = new URL(to)
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  location.port = String(address.port)
  return {
    location: location.toString(),
    cut: (when) => (armed = when),
    close: () => new Promise((resolve) => void server.close(() => resolve())),
  }
}
