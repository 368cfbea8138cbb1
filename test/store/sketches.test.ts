import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, test } from 'node:test'
import { DuckDBInstance } from '@duckdb/node-api'
import fc from 'fast-check'
import { limits } from '../../src/core/limits.ts'
import { quantileError, quantiles, type Aggregation, type RangeQuery } from '../../src/core/ports.ts'
import { binOf, boundedBins, lowAndHigh, onlyValue, quantilesOfBins } from '../../src/store/duckdb/bins-sql.ts'
import { keepAll } from '../../src/store/duckdb/retention.ts'
import { readManifest, writeManifest } from '../../src/store/duckdb/sealed/manifest-file.ts'
import { fuzzRuns } from '../support/effort.ts'
import { KeptStore } from '../support/kept-store.ts'
import { sameAnswer } from '../support/same-answers.ts'
import { answer, signal, type TestRow } from '../support/store-batches.ts'

const asked = ['median', 'p5', 'p10', 'p25', 'p50', 'p75', 'p90', 'p95', 'p99'] as const satisfies readonly Aggregation[]

const unit = fc.double({ min: 1e-9, max: 1 - 1e-9, noNaN: true })
const distributions: Readonly<Record<string, fc.Arbitrary<number>>> = {
  uniform: fc.double({ min: -50, max: 50, noNaN: true }),
  exponential: unit.map((u) => -Math.log(u)),
  pareto: unit.map((u) => u ** -1.5),
  lognormal: fc.tuple(unit, unit).map(([u, v]) => Math.exp(3 * Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v))),
  temperatures: fc.integer({ min: -200, max: 450 }).map((n) => n / 10),
  switches: fc.constantFrom(0, 1),
  any: fc.double({ noNaN: true, noDefaultInfinity: true }),
  extremes: fc.constantFrom(0, -0, 5e-324, -5e-324, 2 ** -1022, -(2 ** -1022), Number.MAX_VALUE, -Number.MAX_VALUE, 1e300, -1e300),
}

async function withEngine<T>(work: (rows: (sql: string) => Promise<unknown[][]>) => Promise<T>): Promise<T> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' })
  const connection = await instance.connect()
  try {
    return await work(async (sql) => (await connection.run(sql)).getRowsJS())
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}

/** Quantiles of values in hours: each hour's sketch is made, packed as it is stored, and unpacked; then all are merged. */
function merged(values: readonly (readonly [hour: number, value: number])[]): string {
  const rows = values.map(([hour, value]) => `(${hour}, '${value}'::DOUBLE)`).join(',')
  const unpacked = `SELECT 1 AS series, 0 AS b, bin, n, ${lowAndHigh('v')} FROM packed`
  return `WITH hours AS (SELECT series, b, bin, count(*) AS n, min(v) AS low, max(v) AS high
      FROM (SELECT 1 AS series, b, v, ${binOf('v')} AS bin FROM (VALUES ${rows}) t(b, v)) GROUP BY ALL),
    packed AS (SELECT series, b, bin, n, ${onlyValue} AS v FROM (${boundedBins('hours')})),
    ${quantilesOfBins(unpacked, asked).join(', ')}
    SELECT total, ${asked.map((name) => `"${name}"`).join(', ')} FROM q`
}

describe('Sketches in SQL', () => {
  for (const [name, values] of Object.entries(distributions))
    test(`merged over hours, each quantile is within ${quantileError} of the reading of its rank: ${name}`, async () => {
      await withEngine(async (run) => {
        await fc.assert(
          fc.asyncProperty(fc.array(fc.tuple(fc.nat(5), values), { minLength: 1, maxLength: 400, size: 'max' }), async (list) => {
            const [found] = await run(merged(list))
            const sorted = list.map(([, value]) => value).sort((a, b) => a - b)
            assert.equal(found?.[0], list.length)
            asked.forEach((one, i) => {
              const exact = sorted[Math.floor(quantiles[one] * (sorted.length - 1))]!
              const mine = Number(found?.[i + 1])
              const allowed = (quantileError + 1e-9) * Math.abs(exact) + 2 ** -1022
              assert.ok(Math.abs(mine - exact) <= allowed, `${one}: ${mine} instead of ${exact}`)
              if (name === 'switches') assert.equal(mine, exact)
            })
          }),
          fuzzRuns(60),
        )
      })
    })

  test('a sketch has no more bins than the limit, gives up the smallest magnitudes, and keeps the bound for the others', async () => {
    const values = Array.from({ length: 6000 }, (_, i) => (i % 3 === 0 ? -1 : 1) * 1.021 ** (i - 3000))
    await withEngine(async (run) => {
      await run('CREATE TABLE v (v DOUBLE)')
      await run(`INSERT INTO v VALUES ${[...values, 0].map((v) => `('${v}'::DOUBLE)`).join(',')}`)
      await run(`CREATE TABLE wide AS SELECT 1 AS series, 0 AS b, bin, count(*) AS n, min(v) AS low, max(v) AS high
        FROM (SELECT v, ${binOf('v')} AS bin FROM v) GROUP BY ALL`)
      await run(`CREATE TABLE k AS ${boundedBins('wide')}`)
      const [counted] = await run('SELECT count(*)::INTEGER, sum(n)::INTEGER, (SELECT count(*)::INTEGER FROM wide) FROM k')
      assert.ok(Number(counted?.[2]) > limits.sketchBinsMax)
      assert.ok(Number(counted?.[0]) <= limits.sketchBinsMax && Number(counted?.[0]) > limits.sketchBinsMax - 4, String(counted?.[0]))
      assert.equal(counted?.[1], values.length + 1)
      const [found] = await run(`WITH ${quantilesOfBins('SELECT * FROM k', ['p5', 'p10', 'p90', 'p99']).join(', ')} SELECT p5, p10, p90, p99 FROM q`)
      const sorted = [...values, 0].sort((a, b) => a - b)
      const ranks = [0.05, 0.1, 0.9, 0.99].map((q) => sorted[Math.floor(q * (sorted.length - 1))]!)
      ranks.forEach((exact, i) => assert.ok(Math.abs(Number(found?.[i]) / exact - 1) <= 0.0100001, `${String(found?.[i])} instead of ${exact}`))
    })
  })
})

const hour = 3600e6
const day = 24 * hour
const start = Date.UTC(2026, 6, 1) * 1000
const aggregations = ['count', 'min', 'max', ...asked] as const satisfies readonly Aggregation[]

/** Half a day: noise of both signs, small whole numbers, magnitudes from 1e-12 to 1e12, and a state in words. */
function halfDay(fromUs: number, seed: number): TestRow[] {
  return Array.from({ length: 144 }, (_, i): TestRow[] => {
    const timeUs = fromUs + i * 300e6
    const noise = Math.sin((seed * 144 + i) * 12.9898) * 43758.5453
    const x = noise - Math.floor(noise)
    return [
      { device: 'd1', timeUs, value: 40 * (x - 0.5) },
      { device: 'd2', timeUs: timeUs + 1000, value: Math.floor(4 * x) },
      { device: 'd3', timeUs, value: (i % 2 === 0 ? 1 : -1) * 10 ** (24 * x - 12) },
      ...(i % 7 === 0 ? [{ device: 'd2', metric: 'state', timeUs, text: `is ${i}` }] : []),
    ]
  }).flat()
}

async function withStore(work: (kept: KeptStore) => Promise<void>): Promise<void> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-sketches-'))
  const kept = new KeptStore(dir, start)
  await kept.open()
  try {
    await work(kept)
  } finally {
    await kept.store.close()
    fs.rmSync(dir, { recursive: true, force: true })
  }
}

/** It ends within hours: of those it needs the readings. */
const cutRange = { fromUs: start + 6.4 * hour, toUs: start + 5 * day + 13.7 * hour }

/** Whether each quantile of long ranges is the model's. */
async function check(kept: KeptStore, what: string, cut: readonly Partial<RangeQuery>[] = [{}, cutRange]): Promise<void> {
  const days = { calendar: { unit: 'day', timeZone: 'Europe/Berlin' } } as const
  for (const buckets of [{ stepUs: hour }, { stepUs: 6 * hour }, days, { stepUs: 30 * day }]) {
    for (const range of cut) {
      const query = { ...buckets, ...range, aggregations }
      sameAnswer(await answer(kept.store, query), await answer(kept.model, query), `${what}, ${JSON.stringify(query)}`)
    }
  }
}

async function feed(kept: KeptStore, days: number, sealed = true): Promise<void> {
  for (let half = 0; half < 2 * days; half++) {
    const fromUs = start + (half * day) / 2
    kept.nowUs = fromUs + day / 2
    const rows = halfDay(fromUs, half)
    // Every fifth reading of d1 comes a day later, and what d2 said two days before was wrong.
    const held = rows.filter((row, i) => row.device === 'd1' && i % 5 === 0)
    await kept.feed(rows.filter((row) => !held.includes(row)))
    if (half >= 2) await kept.feed(halfDay(fromUs - day, half - 2).filter((row, i) => row.device === 'd1' && i % 5 === 0))
    if (half >= 4)
      await kept.feed(
        halfDay(fromUs - 2 * day, half - 4)
          .filter((row, i) => row.text === undefined && row.device === 'd2' && i % 11 === 0)
          .map((row) => ({ ...row, value: 7 })),
      )
    if (sealed) await kept.store.seal()
  }
  // Closes the last hours.
  kept.nowUs += 3 * hour
  await kept.feed([])
}

/** Readings of ended days go; hours stay. */
async function withoutReadings(kept: KeptStore): Promise<void> {
  await kept.store.seal()
  await kept.store.close()
  const { dir, nowUs, model } = kept
  const next = new KeptStore(dir, nowUs + 10 * day, { retention: { ...keepAll, rawUs: day } })
  await next.open()
  await next.store.seal()
  assert.ok(
    next.files().every((name) => !name.endsWith('-raw.duckdb')),
    next.files().join(' '),
  )
  assert.ok(next.files().some((name) => name.endsWith('-1h.duckdb')))
  kept.store = next.store
  assert.equal(kept.model, model)
}

describe('Quantiles of long ranges', () => {
  test('are made of sketches, and stay when the readings have gone, late and corrected ones included', async () => {
    await withStore(async (kept) => {
      await feed(kept, 6)
      await check(kept, 'hot, sealed and merged')
      await kept.reopen()
      await check(kept, 'opened again')
      await kept.store.seal()
      assert.ok(readManifest(kept.dir).runs.every((run) => run.sketched === true))
      await check(kept, 'all sealed')
      await withoutReadings(kept)
      await check(kept, 'without readings', [{}, { fromUs: start + 7 * hour, toUs: start + 5 * day + 13 * hour }])
      // Small whole numbers are each alone in their bin.
      const found = await answer(kept.store, { match: { tenant: 'default', devices: ['d2'] }, stepUs: day, aggregations: ['p50'] })
      assert.ok(found.length >= 6 && found.every((row) => Number.isInteger(row['p50'])))
      // A short range of which the readings have gone as well.
      const short = { fromUs: start + day, toUs: start + day + 2 * hour, stepUs: hour, aggregations }
      sameAnswer(await answer(kept.store, short), await answer(kept.model, short), 'two hours')
    })
  })

  test('are right where hours were computed again before there were sketches, until those files are merged away', async () => {
    await withStore(async (kept) => {
      await feed(kept, 4, false)
      await kept.store.close()
      const instance = await DuckDBInstance.create(':memory:')
      const connection = await instance.connect()
      await connection.run(`ATTACH '${path.join(kept.dir, 'hot-1.duckdb')}' AS hot`)
      const counted = await (await connection.run('SELECT count(bins)::INTEGER FROM hot.corrected_1h')).getRowsJS()
      assert.ok(Number(counted[0]?.[0]) > 50)
      // As the upgrade of format 3 leaves it.
      await connection.run('ALTER TABLE hot.corrected_1h DROP COLUMN bins; UPDATE hot.store_info SET format = 3; CHECKPOINT hot; DETACH hot')
      connection.closeSync()
      instance.closeSync()
      await kept.open()
      await check(kept, 'an earlier hot file')
      kept.nowUs += 3 * hour
      await kept.feed(halfDay(start + 3 * day, 1).map((row) => ({ ...row, timeUs: row.timeUs + 7e6 })))
      await check(kept, 'with what came since')
      await kept.store.seal()
      assert.ok(readManifest(kept.dir).runs.some((run) => run.sketched === undefined))
      await check(kept, 'sealed')
      await kept.reopen()
      await kept.feed(halfDay(start + day, 2).map((row) => ({ ...row, timeUs: row.timeUs + 9e6 })))
      await check(kept, 'late rows above it')
      await kept.store.seal()
      await check(kept, 'both sealed')
      // With all readings of the month in one run, what was computed again is known too.
      kept.nowUs = start + 70 * day
      await kept.feed([])
      await kept.store.seal()
      assert.deepEqual(
        readManifest(kept.dir).runs.map((run) => [run.partition, run.sketched]),
        [['2026-07', true]],
      )
      await check(kept, 'merged')
    })
  })

  test('are made when runs of an earlier version are merged', async () => {
    await withStore(async (kept) => {
      await feed(kept, 5)
      await kept.store.seal()
      await kept.store.close()
      const manifest = readManifest(kept.dir)
      const runs = manifest.runs.map(({ sketched, ...run }) =>
        run.partition === '2026-07-03' || sketched === undefined ? run : { ...run, sketched },
      )
      writeManifest(kept.dir, { ...manifest, runs })
      await kept.open()
      // More than a tenth of the day.
      await kept.feed(
        halfDay(start + 2 * day, 5)
          .filter((row, i) => row.text === undefined && i % 3 === 0)
          .map((row) => ({ ...row, timeUs: row.timeUs + 11e6 })),
      )
      await kept.store.seal()
      assert.ok(readManifest(kept.dir).runs.every((run) => run.sketched === true))
      await withoutReadings(kept)
      await check(kept, 'the third day merged, and without readings', [{}, { fromUs: start + 7 * hour, toUs: start + 5 * day + 13 * hour }])
    })
  })

  test('are made of readings where a file of an earlier version has no sketches, and are none when those have gone', async () => {
    await withStore(async (kept) => {
      await feed(kept, 5)
      await kept.store.seal()
      await kept.store.close()
      // As earlier versions wrote it: the third day's runs do not say that they have sketches.
      const manifest = readManifest(kept.dir)
      const runs = manifest.runs.map(({ sketched, ...run }) =>
        run.partition === '2026-07-03' || sketched === undefined ? run : { ...run, sketched },
      )
      assert.ok(runs.some((run) => !('sketched' in run)))
      writeManifest(kept.dir, { ...manifest, runs })
      await kept.open()
      await check(kept, 'one day without sketches')
      await withoutReadings(kept)
      const query = { stepUs: day, aggregations: ['count', 'p50'], toUs: start + 5 * day } as const
      const partial = async (fromUs: number): Promise<boolean> => {
        for await (const page of kept.store.query({ match: { tenant: 'default' }, order: 'asc', limit: 1000, ...query, fromUs }, signal))
          if (page.partial === true) return true
        return false
      }
      assert.deepEqual([await partial(start), await partial(start + 3 * day)], [true, false])
      const [found, expected] = [await answer(kept.store, query), await answer(kept.model, query)]
      const gone = (row: (typeof found)[number]): boolean => row.timeUs === start + 2 * day
      sameAnswer(
        found.filter((row) => !gone(row)),
        expected.filter((row) => !gone(row)),
        'the other days',
      )
      assert.deepEqual(
        found.filter(gone).map((row) => [row['count'], row['p50']]),
        expected.filter(gone).map((row) => [row['count'], Number.NaN]),
      )
    })
  })
})
