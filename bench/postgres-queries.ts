/**
 * The first seed's five queries as they stand, and some of the Store port, over 24 hours of 1,000 devices in PostgreSQL, with what loading them cost:
 * node bench/postgres-queries.ts [seconds between two messages of a device, 60], with KYMO_TEST_POSTGRES_URL (npm run services). Makes a schema of
 * its own and
 * removes it. Figures: docs/format/postgres.md.
 */
import process from 'node:process'
import pg from 'pg'
import { sqlRows } from '../e2e/seed-table.ts'
import { Rollup } from '../src/compute/window/rollup.ts'
import type { SeriesKey } from '../src/core/batch.ts'
import { nodeEnv, silentLogger } from '../src/core/env/node-env.ts'
import type { RangeQuery, RollupColumns } from '../src/core/ports.ts'
import { openPostgresStore } from '../src/store/postgres/store.ts'
import { newSchema } from '../test/support/postgres-stores.ts'

const url = process.env['KYMO_TEST_POSTGRES_URL']
if (url === undefined) throw new Error('KYMO_TEST_POSTGRES_URL is not set: npm run services')

const devices = 1000
const stepS = Number(process.argv[2] ?? 60)
const metrics = ['temperature', 'humidity', 'battery']
const perCommit = 10_000
const times = 3
const signal = new AbortController().signal

const place = newSchema(url)
const client = new pg.Client({ connectionString: url, options: `-c search_path=${place.schema}` })
await client.connect()
const store = await openPostgresStore({ url: place.location, env: nodeEnv(silentLogger) })
const say = (text: string): void => void process.stdout.write(`${text}\n`)

async function load(): Promise<void> {
  const keys: SeriesKey[] = Array.from({ length: devices * metrics.length }, (_, i) => ({
    tenant: 'default',
    device: `device-${Math.floor(i / metrics.length)}`,
    metric: metrics[i % metrics.length] ?? '',
  }))
  const rollup = new Rollup()
  const messages = Math.floor((86_400 / stepS) * devices)
  const startUs = Date.now() * 1000 - 86_400e6
  for (let first = 0; first < messages; first += perCommit) {
    const rows = Math.min(perCommit, messages - first) * metrics.length
    const batch = { rows, keys, series: new Uint32Array(rows), timeUs: new Float64Array(rows), value: new Float64Array(rows) }
    for (let i = 0; i < rows; i++) {
      const message = first + Math.floor(i / metrics.length)
      const device = message % devices
      batch.series[i] = device * metrics.length + (i % metrics.length)
      batch.timeUs[i] = startUs + Math.floor(message / devices) * stepS * 1e6 + device * 997
      // About one in thirty lies beyond two standard deviations.
      const strange = Math.random() < 0.03 ? 3000 : 0
      batch.value[i] = Math.round(2000 + 500 * Math.sin(message / 1000 + i) + strange + 100 * Math.random()) / 100
    }
    const rollups: RollupColumns[] = []
    rollup.push(batch, (closed) => void rollups.push(closed))
    const span = { log: 'bench', topic: 'telemetry', partition: 0, first: BigInt(first), next: BigInt(first + perCommit) }
    await store.commit({ tables: { readings: [batch], late: [], rollups }, span }, signal)
  }
  say(`${messages} messages of three readings loaded`)
}

async function timed(what: string, run: () => Promise<number>): Promise<void> {
  const taken: number[] = []
  let rows = 0
  for (let i = 0; i < times; i++) {
    const from = performance.now()
    rows = await run()
    taken.push(performance.now() - from)
  }
  say(`${taken.map((ms) => ms.toFixed(0).padStart(6)).join(' ')} ms, ${rows} rows: ${what}`)
}

const toUs = Date.now() * 1000
const day = { fromUs: toUs - 86_400e6, toUs, order: 'asc', limit: 10_000_000 } as const
const asked: readonly (readonly [string, RangeQuery])[] = [
  ['hours of one metric', { ...day, match: { tenant: 'default', metrics: ['temperature'] }, stepUs: 3600e6 }],
  ['hours of three metrics', { ...day, match: { tenant: 'default' }, stepUs: 3600e6 }],
  ['five minutes of one metric', { ...day, match: { tenant: 'default', metrics: ['temperature'] }, stepUs: 300e6 }],
  ['five minutes of three metrics', { ...day, match: { tenant: 'default' }, stepUs: 300e6 }],
  [
    '95th percentiles of hours of one metric',
    { ...day, match: { tenant: 'default', metrics: ['temperature'] }, stepUs: 3600e6, aggregations: ['p95'] },
  ],
  ["a device's day", { ...day, match: { tenant: 'default', devices: ['device-7'] } }],
]

try {
  await load()
  for (const analysed of process.argv.includes('--without-analyze') ? [true] : [false, true]) {
    if (analysed) await client.query('ANALYZE')
    say(analysed ? 'after ANALYZE' : 'before ANALYZE')
    for (const { sql } of sqlRows.filter(({ seed, pending }) => seed === 'S1' && pending === undefined))
      await timed(sql.split('\n')[0] ?? '', async () => (await client.query({ text: sql, rowMode: 'array' })).rows.length)
  }
  for (const [what, query] of asked)
    await timed(what, async () => {
      let rows = 0
      for await (const page of store.query(query, signal)) rows += page.rows
      return rows
    })
  await timed('all latest values', async () => (await store.latest({ tenant: 'default' }, signal)).rows)
  await timed('all series', async () => (await store.series({ tenant: 'default' }, signal)).length)
  const { rows } = await client.query<{ name: string; size: string }>(
    `SELECT split_part(relname, '_', 1) || CASE relkind WHEN 'i' THEN ' index' ELSE '' END AS name, sum(pg_relation_size(oid)) AS size FROM pg_class
      WHERE relnamespace = $1::regnamespace AND relkind IN ('r', 'i') GROUP BY 1 ORDER BY 2 DESC LIMIT 6`,
    [place.schema],
  )
  for (const { name, size } of rows) say(`${(Number(size) / 1e6).toFixed(0).padStart(6)} MB ${name}`)
  if (process.argv.includes('--explain'))
    for (const { sql } of sqlRows.filter(({ seed, pending }) => seed === 'S1' && pending === undefined))
      for (const row of (await client.query<{ 'QUERY PLAN': string }>(`EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) ${sql}`)).rows) say(row['QUERY PLAN'])
} finally {
  await store.close()
  await client.end()
  await place.remove()
}
