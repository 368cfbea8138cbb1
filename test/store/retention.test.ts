import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { retentionOf, type Retention } from '../../src/core/config.ts'
import { loadConfig } from '../../src/core/config-resolve.ts'
import type { Env } from '../../src/core/env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { bytesOf, expire, keepAll, monthAfterUs } from '../../src/store/duckdb/retention.ts'
import { readManifest, writeManifest } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { emptyManifest, parseManifest, type Manifest, type Run } from '../../src/store/duckdb/sealed/manifest.ts'
import { dayUs, rangeOf } from '../../src/store/duckdb/sealed/partition.ts'
import { nextMerge } from '../../src/store/duckdb/sealed/policy.ts'
import { openDuckdbStore, type DuckdbStore } from '../../src/store/duckdb/store.ts'
import { envAt } from '../support/kept-store.ts'
import { answer, spanOf, type TestRow, signal } from '../support/store-batches.ts'
import { StoreHead } from '../support/store-head.ts'

const us = (time: string): number => Date.parse(time) * 1000
const nowUs = us('2026-11-21T12:00:00Z')
const hour = 3600e6

function run(partition: string, generation: number, kinds: readonly ('raw' | '1m' | '1h')[] = ['raw', '1m', '1h']): Run {
  const { fromUs, toUs } = rangeOf(partition)
  const file = { bytes: 100, sha256: '', rows: 10, above: 0, texts: 0, fromUs, toUs: toUs - 1 }
  return { partition, generation, covers: [generation], files: Object.fromEntries(kinds.map((kind) => [kind, file])) }
}

const manifestOf = (...runs: Run[]): Manifest => ({ ...emptyManifest, next: 99, runs })
const shown = (manifest: Manifest): string[] => manifest.runs.map((one) => `${one.partition} ${Object.keys(one.files).join(' ')}`)
const keep = (more: Partial<Retention>): Retention => ({ ...keepAll, ...more })

test('by age each kind goes with the end of its partition, and not before', () => {
  const days = manifestOf(run('2026-08', 1), run('2026-11-13', 2), run('2026-11-14', 3), run('2026-11-21', 4))
  assert.deepEqual(expire(days, keepAll, nowUs).expiries, [])
  // 7 days before noon of the 21st: the 14th is not wholly past.
  const week = expire(days, keep({ rawUs: 7 * dayUs }), nowUs)
  assert.deepEqual(shown(week.manifest), ['2026-08 1m 1h', '2026-11-13 1m 1h', '2026-11-14 raw 1m 1h', '2026-11-21 raw 1m 1h'])
  assert.deepEqual(week.expiries, [{ kind: 'raw', reason: 'age', files: 2, bytes: 200, beforeUs: us('2026-11-14') }])
  assert.deepEqual(week.manifest.expired, { raw: us('2026-11-14') })
  assert.deepEqual(parseManifest(JSON.stringify(week.manifest), 'm'), week.manifest)
  // August has not ended 90 days before: it stays whole, though most of it is older.
  const all = expire(days, keep({ rawUs: 83 * dayUs, minutesUs: 83 * dayUs, hoursUs: 83 * dayUs }), nowUs)
  assert.deepEqual(shown(all.manifest), shown(days))
  const gone = expire(days, keep({ rawUs: dayUs, minutesUs: 8 * dayUs, hoursUs: 80 * dayUs }), nowUs)
  assert.deepEqual(shown(gone.manifest), ['2026-11-13 1m 1h', '2026-11-14 1m 1h', '2026-11-21 raw 1m 1h'])
  assert.deepEqual(gone.manifest.expired, { raw: us('2026-11-20'), '1m': us('2026-11-13'), '1h': us('2026-09-02') })
})

test('by size the oldest readings go, then minutes; hours and the day that runs never', () => {
  const days = manifestOf(
    run('2026-11-18', 1),
    run('2026-11-19', 2, ['raw']),
    run('2026-11-19', 3, ['raw']),
    run('2026-11-20', 4),
    run('2026-11-21', 5),
  )
  assert.equal(bytesOf(days), 1100)
  const at = (storeBytes: number) => expire(days, keep({ storeBytes }), nowUs)
  assert.deepEqual(at(1100).expiries, [])
  assert.deepEqual(at(1099).manifest.expired, { raw: us('2026-11-19') })
  // Half of the 19th would not do.
  assert.deepEqual(shown(at(950).manifest), ['2026-11-18 1m 1h', '2026-11-20 raw 1m 1h', '2026-11-21 raw 1m 1h'])
  assert.deepEqual(shown(at(650).manifest), ['2026-11-18 1h', '2026-11-20 1m 1h', '2026-11-21 raw 1m 1h'])
  const least = at(1)
  assert.deepEqual(shown(least.manifest), ['2026-11-18 1h', '2026-11-20 1h', '2026-11-21 raw 1m 1h'])
  assert.equal(least.overBytes, 499)
  assert.deepEqual(least.manifest.expired, { raw: us('2026-11-21'), '1m': us('2026-11-21') })
})

test('days become a month only when what has an age has gone from them', () => {
  const month = manifestOf(run('2026-09-01', 1), run('2026-09-30', 2))
  assert.equal(nextMerge(month, nowUs)?.partition, '2026-09')
  const after90 = monthAfterUs(keep({ rawUs: 90 * dayUs }))
  assert.equal(nextMerge(month, nowUs, after90), undefined)
  const laterUs = us('2026-10-01') + after90
  const { manifest } = expire(month, keep({ rawUs: 90 * dayUs }), laterUs)
  assert.deepEqual(shown(manifest), ['2026-09-01 1m 1h', '2026-09-30 1m 1h'])
  assert.equal(nextMerge(manifest, laterUs, after90)?.partition, '2026-09')
  assert.equal(monthAfterUs(keep({ rawUs: 5 * 365 * dayUs })), monthAfterUs(keepAll))
})

test('settings say how long, and refuse what cannot be', () => {
  const of = (env: Record<string, string>): Retention => retentionOf(loadConfig({ env }))
  assert.deepEqual(of({}), keepAll)
  assert.deepEqual(of({ KYMO_RETENTION_RAW: '90d', KYMO_RETENTION_MINUTES: '1y', KYMO_RETENTION_STORE_MB: '5' }), {
    rawUs: 90 * dayUs,
    minutesUs: 365 * dayUs,
    hoursUs: Number.POSITIVE_INFINITY,
    storeBytes: 5e6,
  })
  const refused: Record<string, string>[] = [
    { KYMO_RETENTION_RAW: '90' },
    { KYMO_RETENTION_RAW: '12h' },
    { KYMO_RETENTION_RAW: '90d', KYMO_RETENTION_MINUTES: '30d' },
    { KYMO_RETENTION_HOURS: '30d' },
  ]
  for (const env of refused)
    assert.throws(
      () => of(env),
      (error: unknown) => error instanceof KymoError && error.code === 'config_invalid',
      JSON.stringify(env),
    )
})

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-retention-'))
const benches: Bench[] = []
after(async () => {
  for (const bench of benches) await bench.store.close()
  fs.rmSync(root, { recursive: true, force: true })
})

/** A store whose wall clock the test sets, with what heads it. */
class Bench {
  nowUs = us('2026-08-01T00:00:00Z')
  freeBytes = Number.POSITIVE_INFINITY
  store!: DuckdbStore
  readonly dir = fs.mkdtempSync(path.join(root, 's-'))
  readonly #retention: Retention
  readonly #head = new StoreHead()
  #next = 0

  constructor(retention: Retention) {
    this.#retention = retention
    benches.push(this)
  }

  async open(): Promise<void> {
    const real = envAt(() => this.nowUs)
    const env: Env = { ...real, disk: { ...real.disk, freeBytes: () => this.freeBytes } }
    this.store = await openDuckdbStore({ dir: this.dir, env, memoryLimitMb: 128, sealBytes: 0, retention: this.#retention })
  }

  async feed(rows: readonly TestRow[]): Promise<void> {
    await this.store.commit({ tables: this.#head.push(rows, this.nowUs), span: spanOf(this.#next, ++this.#next) }, signal)
  }

  /** A day of readings, one each 5 s of two hours, sealed. */
  async day(day: string, device = 'd1'): Promise<void> {
    this.nowUs = us(`${day}T12:00:00Z`)
    const from = us(`${day}T06:00:00Z`)
    await this.feed(Array.from({ length: 1440 }, (_, i) => ({ device, timeUs: from + i * 5e6, value: i })))
    this.nowUs += 12 * hour
    await this.feed([])
    await this.store.seal()
  }

  async count(fromDay: string, toDay: string): Promise<number> {
    return (await answer(this.store, { fromUs: us(fromDay), toUs: us(toDay) })).length
  }

  /** Of one day: readings that its buckets of this width count. */
  async counted(day: string, stepUs: number): Promise<number> {
    const rows = await answer(this.store, { fromUs: us(day), toUs: us(day) + dayUs, stepUs, aggregations: ['count'] })
    return rows.reduce((sum, row) => sum + Number(row['count']), 0)
  }
}

const files = (dir: string, kind: string): string[] =>
  fs
    .readdirSync(path.join(dir, 'sealed'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(`-${kind}.duckdb`))
    .map((name) => name.split(path.sep)[0]!)
    .sort()

test('readings go with their day, hours stay, and nothing that comes afterwards spoils them', async () => {
  const bench = new Bench(keep({ rawUs: 10 * dayUs, minutesUs: 20 * dayUs }))
  await bench.open()
  await bench.day('2026-08-01')
  await bench.day('2026-08-02')
  await bench.day('2026-08-11')
  assert.deepEqual(files(bench.dir, 'raw'), ['2026-08-02', '2026-08-11'])
  assert.equal(await bench.count('2026-08-01', '2026-08-02'), 0)
  assert.equal(await bench.count('2026-08-02', '2026-08-03'), 1440)
  assert.equal(await bench.counted('2026-08-01', 5 * 60e6), 1440, 'minutes are kept longer')
  assert.equal(await bench.counted('2026-08-01', hour), 1440)
  assert.deepEqual(bench.store.stats().rawFromUs, us('2026-08-02'))
  assert.ok(bench.store.stats().expiredBytes.age > 0)
  // A straggler that was acknowledged before its day went: the hour was made of all its readings and stays so.
  await bench.feed([{ device: 'd1', timeUs: us('2026-08-01T06:30:00Z') + 1, value: 7 }])
  assert.equal(await bench.counted('2026-08-01', hour), 1440)
  await bench.store.close()
  await bench.open()
  assert.equal(await bench.counted('2026-08-01', hour), 1440)
  await bench.feed([{ device: 'd1', timeUs: us('2026-08-01T06:30:00Z') + 2, value: 7 }])
  assert.equal(await bench.counted('2026-08-01', hour), 1440, 'after a restart too')
  await bench.day('2026-08-21')
  assert.deepEqual(files(bench.dir, '1m'), ['2026-08-02', '2026-08-11', '2026-08-21'])
  assert.deepEqual(files(bench.dir, 'raw'), ['2026-08-21'])
  assert.equal(await bench.count('2026-08-01', '2026-08-02'), 0, 'the straggler went as well')
  assert.equal(await bench.counted('2026-08-01', 5 * 60e6), 0)
  assert.equal(await bench.counted('2026-08-01', hour), 1440)
  await bench.store.close()
})

test('a store that is too large gives its oldest readings, one that is small enough none', async () => {
  const bench = new Bench(keepAll)
  await bench.open()
  await bench.day('2026-08-01')
  await bench.day('2026-08-02')
  await bench.day('2026-08-03')
  await bench.store.close()
  const sealed = fs
    .readdirSync(path.join(bench.dir, 'sealed'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.duckdb'))
    .reduce((sum, name) => sum + fs.statSync(path.join(bench.dir, 'sealed', name)).size, 0)
  for (const [storeBytes, left] of [
    [sealed, 3],
    [sealed - 1, 2],
  ] as const) {
    const again = new Bench(keep({ storeBytes }))
    fs.cpSync(bench.dir, again.dir, { recursive: true })
    again.nowUs = us('2026-08-04T12:00:00Z')
    await again.open()
    await again.store.seal()
    assert.equal(files(again.dir, 'raw').length, left)
    assert.equal(await again.count('2026-08-02', '2026-08-04'), 2 * 1440)
    assert.equal(await again.counted('2026-08-01', hour), 1440)
    await again.store.close()
  }
})

test('a query that has begun reads to its end what retention takes away meanwhile', async () => {
  const bench = new Bench(keep({ rawUs: 10 * dayUs }))
  await bench.open()
  bench.nowUs = us('2026-08-01T12:00:00Z')
  await bench.feed(Array.from({ length: 30_000 }, (_, i) => ({ timeUs: us('2026-08-01') + i * 1e6, value: i })))
  await bench.store.seal()
  let rows = 0
  let sealing: Promise<void> | undefined
  const query = { match: { tenant: 'default' }, fromUs: 0, toUs: 9e15, order: 'asc', limit: 100_000 } as const
  for await (const page of bench.store.query(query, signal)) {
    rows += page.rows
    if (sealing !== undefined) continue
    bench.nowUs = us('2026-08-20')
    sealing = bench.store.seal()
  }
  await sealing
  assert.equal(rows, 30_000)
  assert.equal(await bench.count('2026-08-01', '2026-08-02'), 0)
  await bench.store.close()
})

test('on a full disk, where nothing can be sealed, retention still makes room', async () => {
  const bench = new Bench(keep({ rawUs: 10 * dayUs }))
  await bench.open()
  await bench.day('2026-08-01')
  bench.nowUs = us('2026-08-20')
  await bench.feed([{ timeUs: bench.nowUs, value: 1 }])
  bench.freeBytes = 0
  await assert.rejects(bench.store.seal(), { code: 'disk_full' })
  assert.deepEqual(files(bench.dir, 'raw'), [])
  assert.equal(await bench.count('2026-08-01', '2026-08-21'), 1)
  bench.freeBytes = Number.POSITIVE_INFINITY
  await bench.store.seal()
  assert.deepEqual(files(bench.dir, 'raw'), ['2026-08-20'])
})

test('what a removal that was broken off has left is gone after the next start', async () => {
  const bench = new Bench(keepAll)
  await bench.open()
  await bench.day('2026-08-01')
  await bench.day('2026-08-11')
  await bench.store.close()
  const manifest = readManifest(bench.dir)
  writeManifest(bench.dir, expire(manifest, keep({ rawUs: 5 * dayUs }), bench.nowUs).manifest)
  assert.equal(files(bench.dir, 'raw').length, 2)
  await bench.open()
  assert.deepEqual(files(bench.dir, 'raw'), ['2026-08-11'])
  assert.equal(await bench.counted('2026-08-01', hour), 1440)
  assert.equal(bench.store.stats().rawFromUs, us('2026-08-07'))
})

test('a snapshot that closes the hot file while retention is at work loses neither', async () => {
  const bench = new Bench(keep({ rawUs: 10 * dayUs }))
  await bench.open()
  await bench.day('2026-08-01')
  bench.nowUs = us('2026-08-20')
  await bench.feed([{ timeUs: bench.nowUs, value: 1 }])
  const into = path.join(root, 'snapshot')
  // It has begun to close the hot file, and has done so before retention, which waits for its turn, writes its manifest.
  const snapshot = bench.store.snapshot(into)
  while (!fs.readdirSync(bench.dir).some((name) => name.endsWith('.duckdb.tmp'))) await new Promise((resolve) => setImmediate(resolve))
  await Promise.all([bench.store.seal(), snapshot])
  assert.equal(await bench.count('2026-08-01', '2026-08-21'), 1)
  await bench.store.close()
  await bench.open()
  assert.equal(await bench.count('2026-08-01', '2026-08-21'), 1)
  await bench.store.seal()
  assert.equal(await bench.count('2026-08-01', '2026-08-21'), 1)
  assert.deepEqual(files(bench.dir, 'raw'), ['2026-08-20'])
})
