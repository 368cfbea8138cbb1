import { DuckDBInstance } from '@duckdb/node-api'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { limits } from '../../src/core/limits.ts'
import type { SqlParameter, SqlRows, SqlValue } from '../../src/core/sql.ts'
import { allowedAggregates, allowedScalars, allowedTableFunctions, refusedFunctions } from '../../src/store/duckdb/sql/functions.ts'
import { openDuckdbStore, type DuckdbStore } from '../../src/store/duckdb/store.ts'
import { batchOf, none, signal, spanOf } from '../support/store-batches.ts'
import { attacks } from './sql-attacks.ts'

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-sql-'))
after(() => fs.rmSync(root, { recursive: true, force: true }))
const env = nodeEnv(silentLogger)
const t0 = 1_700_000_000_000_000
const second = 1e6
const nowUs = t0 + 3600 * second

const devices = {
  device: ['d1', 'd2'],
  name: ['first', 'second'],
  type: ['sensor', ''],
  status: ['active', 'active'],
  firmware: ['1.0.0', null],
  location: [null, 'hall'],
  attributes: ['{"firmware":"1.0.0"}', '{"location":"hall"}'],
  createdUs: [t0, t0 + 1],
  lastSeenUs: [t0 + 2, null],
}

let store: DuckdbStore

async function sql(text: string, parameters: readonly SqlParameter[] = [], tenant = 'default', stop: AbortSignal = signal): Promise<SqlRows> {
  const answer = await store.sql({ tenant, sql: text, parameters, limit: 10_000, nowUs, devices }, stop)
  assert.ok(answer !== 'needs devices')
  return answer
}

/** Rows as arrays of cells. */
async function rows(text: string, parameters: readonly SqlParameter[] = [], tenant = 'default'): Promise<SqlValue[][]> {
  const answer = await sql(text, parameters, tenant)
  return Array.from({ length: answer.rows }, (_, r) => answer.values.map((column) => column[r]!))
}

async function failure(run: Promise<unknown>): Promise<KymoError> {
  try {
    await run
  } catch (thrown) {
    assert.ok(thrown instanceof KymoError, String(thrown))
    return thrown
  }
  return assert.fail('it was not refused')
}

void describe('SQL of users', () => {
  before(async () => {
    store = await openDuckdbStore({ dir: path.join(root, 'store'), env, memoryLimitMb: 256 })
    const inOrder = Array.from({ length: 120 }, (_, i) =>
      ['d1', 'd2', 'd3'].flatMap((device, d) => [
        { device, metric: 'temperature', timeUs: t0 + i * 10 * second, value: 20 + d + (i % 10) / 10 },
        { device, metric: 'humidity', timeUs: t0 + i * 10 * second, value: 40 + d },
        { device, metric: 'battery', timeUs: t0 + i * 10 * second, value: 90 - d * 40 },
      ]),
    ).flat()
    const other = [
      { tenant: 'other', device: 'secret', metric: 'temperature', timeUs: t0, value: 4711 },
      { tenant: 'other', device: 'secret', metric: 'note', timeUs: t0, text: 'confidential' },
      { tenant: "o'ther", device: 'quoted', metric: 'temperature', timeUs: t0, value: 1 },
    ]
    const words = [{ device: 'd1', metric: 'note', timeUs: t0, text: 'hello', meta: '{"by":"me"}' }]
    const late = [
      { device: 'd1', metric: 'temperature', timeUs: t0, value: 50, flags: 32 },
      { device: 'd1', metric: 'temperature', timeUs: t0, value: 60, flags: 32 },
      { device: 'd2', metric: 'temperature', timeUs: t0 - 5 * second, value: 7, flags: 32 },
    ]
    await store.commit(
      { tables: { ...none, readings: [batchOf([...inOrder, ...other, ...words])], late: [batchOf(late)] }, span: spanOf(0, 1) },
      signal,
    )
  })
  after(() => store.close())

  void it('has looked at every function of the engine', async () => {
    const instance = await DuckDBInstance.create(':memory:')
    const connection = await instance.connect()
    const found = await (await connection.run('SELECT DISTINCT function_name FROM duckdb_functions()')).getRows()
    const known = new Set([...allowedScalars, ...allowedAggregates, ...allowedTableFunctions, ...refusedFunctions])
    const names = found.map(([name]) => String(name)).filter((name) => !/^(icu_collate_|__internal_)/.test(name))
    assert.deepEqual(names.filter((name) => !known.has(name)).toSorted(), [], 'functions that nobody has looked at: allow or refuse them')
    assert.deepEqual([...known].filter((name) => !names.includes(name)).toSorted(), [], 'functions that the engine no longer has')
    const allowed = new Set([...allowedScalars, ...allowedAggregates])
    assert.deepEqual(
      [...refusedFunctions].filter((name) => allowed.has(name)),
      [],
    )
    connection.closeSync()
    instance.closeSync()
  })

  for (const [what, statement] of attacks) {
    void it(`refuses ${what}`, async () => {
      const error = await failure(sql(statement))
      assert.ok(error.code === 'sql_refused' || error.code === 'sql_invalid', `${error.code}: ${error.message}`)
      assert.deepEqual(await rows('SELECT 1'), [[1]])
    })
  }

  void it('leaves nothing of an attack behind', () => {
    assert.ok(attacks.length >= 80)
    assert.deepEqual(
      fs.readdirSync('/tmp').filter((name) => name.startsWith('kymo-attack')),
      [],
    )
  })

  void it('shows a tenant its own data alone, in every view', async () => {
    assert.deepEqual(await rows('SELECT device, value FROM readings WHERE value IS NOT NULL', [], 'other'), [['secret', 4711]])
    assert.deepEqual(await rows('SELECT device_id, temperature FROM device_telemetry', [], "o'ther"), [['quoted', 1]])
    assert.deepEqual(await rows('SELECT device, mean FROM readings_1h', [], 'other'), [['secret', 4711]])
    assert.deepEqual(await rows('SELECT device, max FROM readings_1m', [], 'other'), [['secret', 4711]])
    for (const view of ['readings', 'readings_1m', 'readings_1h']) {
      assert.deepEqual(await rows(`SELECT count(*) FROM ${view} WHERE device IN ('secret', 'quoted')`), [[0]])
      assert.deepEqual(await rows(`SELECT count(*) FROM ${view}`, [], 'nobody'), [[0]])
    }
    // A connection serves one caller after the other.
    for (let i = 0; i < 5; i++) {
      assert.deepEqual(await rows('SELECT count(DISTINCT device) FROM readings'), [[3]])
      assert.deepEqual(await rows('SELECT count(DISTINCT device) FROM readings', [], 'other'), [[1]])
    }
  })

  void it('evaluates nothing on the rows of another tenant, where an error would tell what they hold', async () => {
    const conditions = [
      "CASE WHEN text = 'confidential' THEN text::INTEGER ELSE 1 END = 1",
      'CASE WHEN value = 4711 THEN sqrt(-value) ELSE 1 END = 1',
      "CASE WHEN device = 'secret' THEN device::INTEGER ELSE 1 END = 1",
      "CASE WHEN device = 'secret' AND metric = 'temperature' THEN 'x'::INTEGER ELSE 1 END = 1",
      'coalesce(sqrt(4710 - value), 0) >= 0',
      'coalesce(ln(4711 - value), 0) < 100',
      "strptime(CASE WHEN device = 'secret' THEN 'x' ELSE '2024' END, '%Y') IS NOT NULL",
    ]
    for (const condition of conditions) {
      assert.equal((await rows(`SELECT count(*) FROM readings WHERE ${condition}`))[0]![0], 1082, condition)
      assert.equal((await rows(`SELECT time FROM readings WHERE ${condition} ORDER BY time DESC LIMIT 5`)).length, 5, condition)
      assert.equal((await failure(sql(`SELECT count(*) FROM readings WHERE ${condition}`, [], 'other'))).code, 'sql_invalid', condition)
    }
    for (const [view, device, value] of [
      ['device_telemetry', 'device_id', 'temperature'],
      ['readings_1h', 'device', 'max'],
      ['readings_1m', 'device', 'mean'],
    ]) {
      for (const condition of [
        `CASE WHEN ${device} = 'secret' THEN ${device}::INTEGER ELSE 1 END = 1`,
        `CASE WHEN ${value} = 4711 THEN sqrt(-${value}) ELSE 1 END = 1`,
      ])
        assert.ok(Number((await rows(`SELECT count(*) FROM ${view} WHERE ${condition}`))[0]![0]) > 0, condition)
    }
  })

  void it('shows each reading once, the latest of late ones', async () => {
    assert.deepEqual(
      await rows("SELECT value, flags FROM readings WHERE device = 'd1' AND metric = 'temperature' AND time = to_timestamp($1)", [t0 / 1e6]),
      [[60, 32]],
    )
    assert.deepEqual(await rows("SELECT count(*) FROM readings WHERE metric = 'temperature'"), [[361]])
    assert.deepEqual(await rows("SELECT value, text, metadata->>'by' FROM readings WHERE metric = 'note'"), [[null, 'hello', 'me']])
    assert.deepEqual(await rows("SELECT time, temperature, humidity FROM device_telemetry WHERE device_id = 'd2' ORDER BY time LIMIT 2"), [
      ['2023-11-14T22:13:15.000Z', 7, null],
      ['2023-11-14T22:13:20.000Z', 21, 41],
    ])
  })

  void it('has complete rollups, also of buckets that are still open', async () => {
    for (const [view, width] of [
      ['readings_1m', 'minute'],
      ['readings_1h', 'hour'],
    ] as const) {
      const direct = await rows(`SELECT device, metric, date_trunc('${width}', time) AS t, count(*), sum(value), avg(value), min(value), max(value),
        arg_min(value, time), arg_max(value, time), stddev(value) FROM readings WHERE value IS NOT NULL GROUP BY ALL ORDER BY device, metric, t`)
      const view_ = await rows(`SELECT device, metric, time, n, sum, mean, min, max, first, last, stddev FROM ${view} ORDER BY device, metric, time`)
      assert.equal(view_.length, direct.length)
      view_.forEach((row, r) =>
        row.forEach((cell, c) => {
          const expected = direct[r]![c]!
          if (typeof cell === 'number' && typeof expected === 'number') assert.ok(Math.abs(cell - expected) <= 1e-9 * Math.max(1, Math.abs(expected)))
          else assert.equal(cell, expected)
        }),
      )
    }
  })

  void it('shows devices with what they say of themselves', async () => {
    assert.deepEqual(await rows('SELECT device, firmware, location, created, last_seen FROM devices ORDER BY device'), [
      ['d1', '1.0.0', null, '2023-11-14T22:13:20.000Z', '2023-11-14T22:13:20.000002Z'],
      ['d2', null, 'hall', '2023-11-14T22:13:20.000001Z', null],
    ])
    assert.deepEqual(await rows('SELECT DISTINCT device_id, firmware FROM device_telemetry ORDER BY 1'), [
      ['d1', '1.0.0'],
      ['d2', null],
      ['d3', null],
    ])
    const asked = await store.sql({ tenant: 'default', sql: 'SELECT * FROM device_telemetry', parameters: [], limit: 1, nowUs }, signal)
    assert.equal(asked, 'needs devices')
    const without = await store.sql({ tenant: 'default', sql: 'SELECT count(*) FROM device_telemetry', parameters: [], limit: 1, nowUs }, signal)
    assert.notEqual(without, 'needs devices')
  })

  void it('takes what analysts write', async () => {
    assert.deepEqual(
      await rows('SELECT count(*) FROM (SELECT device, row_number() OVER (PARTITION BY device ORDER BY time DESC) AS n FROM readings QUALIFY n = 1)'),
      [[3]],
    )
    assert.deepEqual(await rows('WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 100) SELECT sum(n) FROM t'), [[5050]])
    assert.deepEqual(await rows("SELECT quantile_cont(value, [0.5, 1.0]) FROM readings WHERE metric = 'humidity'"), [[[41, 42]]])
    assert.deepEqual(await rows("SELECT replace('a_b', '_', ''), regexp_replace('a1b', '[0-9]', '-'), split_part('a/b', '/', 2), 'x' LIKE ''"), [
      ['ab', 'a-b', 'b', false],
    ])
    assert.deepEqual(await rows('SELECT $1, $2 + 1, $3, $4', ['x', 2, true, null]), [['x', 3, true, null]])
    assert.deepEqual(await rows("SELECT device FROM readings WHERE device LIKE $1 GROUP BY 1 UNION SELECT 'x' || ':' || 1 ORDER BY 1", ['%2']), [
      ['d2'],
      ['x:1'],
    ])
    assert.deepEqual(await rows('WITH readings AS (SELECT 7 AS value) SELECT value FROM readings'), [[7]])
    assert.deepEqual(
      await rows("SELECT now(), current_date, typeof(now() - INTERVAL '1 day'), 18446744073709551615, 1.25::DECIMAL(4, 2), 'nan'::DOUBLE"),
      [['2023-11-14T23:13:20.000Z', '2023-11-14', 'TIMESTAMP', '18446744073709551615', 1.25, null]],
    )
    assert.deepEqual(
      await rows(
        "SELECT time, n FROM readings_1h h JOIN generate_series(TIMESTAMP '2023-11-14', TIMESTAMP '2023-11-15', INTERVAL '1 hour') g(t) ON g.t = h.time WHERE device = 'd1' AND metric = 'battery'",
      ),
      [['2023-11-14T22:00:00.000Z', 120]],
    )
  })

  void it('says where a mistake is', async () => {
    const at = async (text: string): Promise<unknown> => {
      const { code, details } = await failure(sql(text))
      assert.equal(code, 'sql_invalid')
      return details.facts
    }
    assert.deepEqual(await at('SELECT 1 +\n  foo FROM readings'), { line: 2, column: 3 })
    assert.deepEqual(await at('SELEC 1'), { line: 1, column: 1 })
    assert.deepEqual(await at(`SELECT device, ${'value, '.repeat(30)} bad FROM readings`), { line: 1, column: 227 })
    assert.match((await failure(sql('SELECT * FROM reading'))).message, /"reading".*readings, readings_1m/)
    assert.match((await failure(sql('SELECT foo(1)'))).message, /function "foo"/)
    assert.equal((await failure(sql('SELECT ?'))).code, 'sql_invalid')
    assert.equal((await failure(sql('SELECT 1', ['x']))).code, 'sql_invalid')
  })

  void it('finds the newest rows without reading all, and the same ones', async () => {
    for (const limit of [1, 5, 200, 1000, 5000]) {
      for (const [view, device] of [
        ['readings', 'device'],
        ['device_telemetry', 'device_id'],
      ] as const) {
        for (const where of ['', `WHERE ${device} = 'd2'`, "WHERE time < TIMESTAMP '2023-11-14 22:20:00'", `WHERE ${device} = 'none'`]) {
          const order = view === 'readings' ? 'time DESC, device, metric' : 'time DESC, device_id'
          assert.deepEqual(
            await rows(`SELECT * FROM ${view} ${where} ORDER BY ${order} LIMIT ${limit}`),
            await rows(`SELECT * FROM (SELECT * FROM ${view} ${where}) ORDER BY ${order} LIMIT ${limit}`),
          )
        }
      }
    }
    // What is called time here is not the time.
    assert.deepEqual(await rows("SELECT value AS time FROM readings WHERE metric = 'temperature' ORDER BY time DESC LIMIT 1"), [[60]])
    assert.deepEqual(await rows('SELECT count(*) AS n, max(time) FROM readings GROUP BY device ORDER BY max(time) DESC, n DESC LIMIT 1'), [
      [361, '2023-11-14T22:33:10.000Z'],
    ])
    assert.deepEqual(await rows('SELECT DISTINCT device FROM readings ORDER BY device DESC LIMIT 3'), [['d3'], ['d2'], ['d1']])
  })

  void it('cuts an answer at its limits and says so', async () => {
    const run = (text: string, limit: number): Promise<SqlRows | 'needs devices'> =>
      store.sql({ tenant: 'default', sql: text, parameters: [], limit, nowUs, devices }, signal)
    for (const [n, limit, truncated] of [
      [10, 10, undefined],
      [11, 10, 'rows'],
      [5000, 2048, 'rows'],
      [2048, 2048, undefined],
      [4096, 2048, 'rows'],
    ] as const) {
      const answer = await run(`SELECT * FROM range(${n})`, limit)
      assert.ok(answer !== 'needs devices')
      assert.deepEqual([answer.rows, answer.truncated], [Math.min(n, limit), truncated])
    }
    const large = await run(`SELECT '${'x'.repeat(10_000)}' FROM range(100000)`, limits.queryRowsMax)
    assert.ok(large !== 'needs devices')
    assert.equal(large.truncated, 'bytes')
    assert.ok(large.rows > 1000 && large.rows * 10_000 <= limits.queryAnswerBytesMax)
  })

  const heavy = {
    'a long series': 'SELECT count(*) FROM generate_series(1, 1000000000000)',
    'a cross join': 'SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = -1',
    'an endless recursion': 'WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t',
    'a sort': 'SELECT * FROM (SELECT hash(range) AS h FROM range(1000000000)) ORDER BY h',
    'a sum of products': 'SELECT sum(sqrt(a.value * b.value * c.value)) FROM readings a, readings b, readings c',
    'regular expressions': `SELECT count(*) FROM range(100000000) WHERE regexp_matches(range::VARCHAR, '(1*)*(2*)*(3*)*x')`,
  }
  for (const [what, statement] of Object.entries(heavy)) {
    void it(`gives up ${what} when its time is over`, { timeout: 20_000 }, async () => {
      const startMs = performance.now()
      const error = await failure(sql(statement, [], 'default', AbortSignal.timeout(300)))
      assert.ok(error.code === 'query_deadline' || error.code === 'query_too_large', `${error.code}: ${error.message}`)
      assert.ok(performance.now() - startMs < 5_000)
      assert.deepEqual(await rows('SELECT 1'), [[1]])
    })
  }

  void it('answers the same once its rows are sealed', { timeout: 60_000 }, async () => {
    const statements = [
      'SELECT * FROM readings ORDER BY time, device, metric',
      'SELECT * FROM readings ORDER BY time DESC, device, metric LIMIT 20',
      "SELECT * FROM readings WHERE device = 'd1' AND time > now() - INTERVAL '50 minutes' ORDER BY time, metric",
      'SELECT * FROM device_telemetry ORDER BY time, device_id',
      'SELECT * FROM readings_1m ORDER BY time, device, metric',
      'SELECT * FROM readings_1h ORDER BY time, device, metric',
    ]
    // Sums may be made in another order: twelve digits are compared.
    const rounded = (found: SqlValue[][]): SqlValue[][] =>
      found.map((row) => row.map((cell) => (typeof cell === 'number' ? Number(cell.toPrecision(12)) : cell)))
    const before: SqlValue[][][] = []
    for (const statement of statements) before.push(await rows(statement))
    assert.ok(before.every((found) => found.length > 0))
    await store.close()
    store = await openDuckdbStore({ dir: path.join(root, 'store'), env, memoryLimitMb: 256, sealBytes: 1, sealAfterMs: 0 })
    await store.seal()
    assert.ok(fs.readdirSync(path.join(root, 'store', 'sealed'), { recursive: true, encoding: 'utf8' }).some((name) => name.endsWith('-raw.duckdb')))
    for (const [i, statement] of statements.entries()) assert.deepEqual(rounded(await rows(statement)), rounded(before[i]!), statement)
    assert.deepEqual(await rows('SELECT count(*) FROM readings', [], 'other'), [[2]])
  })

  void it('gives up what takes too much memory, and takes commits meanwhile', { timeout: 60_000 }, async () => {
    for (const [statement, codes, ms] of [
      // Kept by the function, beside the engine's count; and by the engine, which spills to disk.
      ['SELECT median(hash(range)) FROM range(10000000000)', ['query_too_large'], 25_000],
      [
        'SELECT count(*) FROM (SELECT range % 400000000 AS r, count(*), max(range::VARCHAR) FROM range(10000000000) GROUP BY 1)',
        ['query_too_large', 'query_deadline'],
        6_000,
      ],
    ] as const) {
      const stop = AbortSignal.timeout(ms)
      const running = failure(sql(statement, [], 'default', stop))
      let done = false
      void running.then(() => (done = true))
      let commits = 0
      for (let i = 0; !done; i++) {
        const offset = Number((await store.resume('log-1', 'telemetry', 0))?.next ?? 1n)
        const more = batchOf([{ device: 'd9', metric: 'm', timeUs: t0 + offset * second, value: i }])
        await store.commit({ tables: { ...none, readings: [more] }, span: spanOf(offset, offset + 1) }, signal).then(
          () => commits++,
          (thrown: unknown) => assert.equal(thrown instanceof KymoError && thrown.kind, 'unavailable'),
        )
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      const error = await running
      assert.ok(
        codes.some((one) => one === error.code),
        `${error.code}: ${error.message}`,
      )
      assert.ok(commits > 0)
      assert.deepEqual(await rows('SELECT 1'), [[1]])
    }
  })
})
