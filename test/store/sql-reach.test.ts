import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import assert from 'node:assert/strict'
import { after, before, describe, it, mock } from 'node:test'
import fc from 'fast-check'
import type { SqlParameter } from '../../src/core/sql.ts'
import { Attachments } from '../../src/store/duckdb/sealed/attachments.ts'
import { SealedSources } from '../../src/store/duckdb/sealed/sources.ts'
import { reachesOf } from '../../src/store/duckdb/sql/reach.ts'
import { checkSql } from '../../src/store/duckdb/sql/run.ts'
import { FedStore, noDevices, rounded } from '../support/fed-store.ts'
import type { TestRow } from '../support/store-batches.ts'
import { modelRuns } from '../support/effort.ts'

const runs = modelRuns(60)
const second = 1e6
const hour = 3600 * second
const day = 24 * hour
/** Days that ended lately, so that none has been merged into a month. */
const today = Math.floor((Date.now() * 1000) / day) * day
const t0 = today - 6 * day
const nowUs = today + 10 * hour
const iso = (us: number): string => new Date(us / 1000).toISOString().slice(0, 23).replace('T', ' ')

void describe('what a statement asks of a view', () => {
  let connection: DuckDBConnection
  before(async () => {
    connection = await (await DuckDBInstance.create(':memory:')).connect()
    await connection.run(`SET TimeZone = 'UTC'`)
    for (const name of ['now', 'get_current_timestamp'])
      await connection.run(`CREATE TEMP MACRO ${name}() AS make_timestamp(1700000000000000::BIGINT)`)
  })
  after(() => connection.closeSync())

  const now = 1_700_000_000_000_000
  const found = async (sql: string, parameters: readonly SqlParameter[] = []): Promise<Record<string, unknown>> => {
    const checked = await checkSql(connection, sql, parameters)
    const reaches = await reachesOf(connection, checked, { tenant: 't', sql, parameters, limit: 1, nowUs: now })
    return Object.fromEntries(
      Array.from(reaches, ([view, { fromUs, toUs, devices, metrics }]) => [
        view,
        [
          ...(fromUs === Number.NEGATIVE_INFINITY ? [] : [`from ${fromUs + 1 - now}`]),
          ...(toUs === Number.POSITIVE_INFINITY ? [] : [`to ${toUs - 2 - now}`]),
          ...[devices, metrics].flatMap((names) => (names === undefined ? [] : [[...names].toSorted().join(' ')])),
        ].join(', '),
      ]),
    )
  }
  const cases: readonly (readonly [sql: string, expected: Record<string, string>, parameters?: readonly SqlParameter[]])[] = [
    ['SELECT * FROM readings WHERE time > now()', { readings: 'from 0' }],
    ["SELECT * FROM readings WHERE now() - INTERVAL '1 second' <= time", { readings: 'from -1000000' }],
    ['SELECT * FROM readings WHERE time < current_timestamp - INTERVAL 1 MINUTE', { readings: 'to -60000000' }],
    ["SELECT * FROM readings r WHERE R.Time = TIMESTAMP '2023-11-14 22:13:20'", { readings: 'from 0, to 0' }],
    ["SELECT * FROM readings WHERE time BETWEEN '2023-11-14 22:13:20' AND '2023-11-14T22:13:20+00'", { readings: 'from 0, to 0' }],
    ['SELECT * FROM readings WHERE time BETWEEN $2 AND $1', { readings: 'from 0, to 1000000' }, ['2023-11-14 22:13:21', '2023-11-14 22:13:20']],
    ['SELECT * FROM readings WHERE time > now() - $1::INTERVAL', { readings: 'from -3000000' }, ['3 seconds']],
    ['SELECT * FROM readings WHERE time > to_timestamp($1)', { readings: 'from 0' }, [1_700_000_000]],
    ["SELECT * FROM readings WHERE time >= date_trunc('minute', now()) AND value > 1", { readings: 'from -20000000' }],
    ["SELECT * FROM readings WHERE time >= time_bucket('1 minute', now()) AND time < now()", { readings: 'from -20000000, to 0' }],
    ["SELECT date_trunc('hour', time) AS time FROM readings WHERE time > now() GROUP BY 1", { readings: 'from 0' }],
    ["SELECT * FROM readings WHERE device = 'a' AND metric IN ('x', '')", { readings: 'a,  x' }],
    ['SELECT * FROM device_telemetry WHERE device_id IN ($1, $2)', { device_telemetry: 'a b' }, ['a', 'b']],
    ["SELECT * FROM readings WHERE device IN ('a', 'b') AND 'b' = device", { readings: 'b' }],
    // Each mention of a view counts, and those of subqueries and common table expressions have their own.
    ['SELECT * FROM readings a, readings b WHERE a.time > now() AND b.time > now() - INTERVAL 1 SECOND', { readings: 'from -1000000' }],
    ['SELECT * FROM readings a, readings b WHERE a.time > now()', { readings: '' }],
    [
      'WITH c AS (SELECT * FROM readings WHERE time > now()) SELECT * FROM c, readings_1h h WHERE h.time < now()',
      { readings: 'from 0', readings_1h: 'to 0' },
    ],
    ['SELECT 1 WHERE EXISTS (SELECT 1 FROM readings WHERE time > now())', { readings: 'from 0' }],
    ['SELECT * FROM (SELECT * FROM readings) WHERE time > now()', { readings: '' }],
    // Joins.
    ["SELECT * FROM readings r JOIN devices d ON d.device = r.device WHERE time > now() AND r.device = 'a'", { readings: 'from 0, a', devices: '' }],
    ["SELECT * FROM readings r JOIN devices d ON true WHERE device = 'a'", { readings: '', devices: '' }],
    ["SELECT 1 FROM generate_series(1, 2) g LEFT JOIN readings_1h r ON r.device = 'a' AND r.time > now()", { readings_1h: 'from 0, a' }],
    ["SELECT 1 FROM readings_1h r LEFT JOIN readings x ON r.device = 'a' AND x.device = 'b'", { readings_1h: '', readings: 'b' }],
    ['SELECT 1 FROM readings_1h r LEFT JOIN readings x ON true WHERE x.time > now()', { readings_1h: '', readings: 'from 0' }],
    ['SELECT 1 FROM readings_1h r FULL JOIN readings x ON x.time > now() WHERE r.time > now()', { readings_1h: '', readings: '' }],
    ['SELECT 1 FROM readings_1h r ASOF JOIN readings x ON r.time >= x.time WHERE x.time < now()', { readings_1h: '', readings: '' }],
    ['SELECT 1 FROM readings_1h r ANTI JOIN readings x ON x.time > now()', { readings_1h: '', readings: '' }],
    ['SELECT 1 FROM readings_1h r JOIN readings x USING (time) WHERE time > now()', { readings_1h: '', readings: '' }],
    ['SELECT 1 FROM readings_1h r, (SELECT now() AS time) s WHERE time > now()', { readings_1h: '' }],
    // What is not understood.
    ['SELECT * FROM readings WHERE time > now() OR value > 1', { readings: '' }],
    ['SELECT * FROM readings WHERE NOT (time > now() AND value > 1)', { readings: '' }],
    ['SELECT * FROM readings WHERE NOT time > now()', { readings: 'to 0' }], // The parser turns it round.
    ['SELECT * FROM readings WHERE time NOT BETWEEN now() AND now()', { readings: '' }],
    ["SELECT * FROM readings WHERE time > time - INTERVAL '1 hour'", { readings: '' }],
    ['SELECT * FROM readings WHERE time > (SELECT now())', { readings: '' }],
    ["SELECT * FROM readings WHERE time > 'yesterday'", { readings: '' }],
    ["SELECT * FROM readings WHERE time > TIMESTAMP 'infinity' AND time > NULL", { readings: '' }],
    ['SELECT * FROM readings WHERE time > current_localtimestamp()', { readings: '' }],
    ["SELECT * FROM readings WHERE device = 5 AND metric IN ('a', 5) AND device <> 'x'", { readings: '' }],
    ["SELECT * FROM readings WHERE device = lower('A') OR device = 'x'", { readings: '' }],
    ['SELECT * FROM readings r(a, time) WHERE time > now()', { readings: '' }],
    ['WITH readings AS (SELECT now() AS time) SELECT * FROM readings WHERE time > now()', {}],
    ['SELECT (SELECT max(t) FROM (SELECT now() AS t) WHERE r.time > now()) FROM readings r', { readings: '' }],
    [
      "SELECT * FROM readings, LATERAL (SELECT TIMESTAMP '2000-01-01' AS current_timestamp) WHERE readings.time > current_timestamp",
      { readings: '' },
    ],
    ['WITH unbounded AS (SELECT 1 FROM readings) SELECT * FROM readings WHERE time > now()', { readings: '' }],
  ]
  for (const [sql, expected, parameters] of cases)
    void it(sql, async () => {
      assert.deepEqual(await found(sql, parameters), expected)
    })
})

void describe('a statement over sealed days', () => {
  const devices = {
    ...noDevices,
    device: ['d0', 'd1'],
    name: ['', ''],
    type: ['', ''],
    status: ['', ''],
    firmware: ['1', null],
    location: [null, null],
  }
  const fed = new FedStore(
    { dense: 3, sparse: 1, minutes: 3 },
    { ...devices, attributes: ['{}', '{}'], createdUs: [t0, t0], lastSeenUs: [t0 + 5 * day, null] },
  )

  before(async () => {
    fed.nowUs = nowUs
    await fed.open()
    for (let d = 0; d < 7; d++) {
      const start = t0 + d * day
      const rows: TestRow[] = []
      for (let m = 0; m < 600; m += 10)
        for (const n of [0, 1, 2]) {
          const timeUs = start + m * 60 * second + n * 1_500_001
          rows.push({ device: `d${n}`, metric: 'temperature', timeUs, value: d * 100 + m + n })
          if (m % 30 === 0)
            rows.push({ device: `d${n}`, metric: 'humidity', timeUs, value: m }, { device: `d${n}`, metric: 'note', timeUs, text: `n${m}` })
          // For an hour its minutes are kept.
          if (n === 0 && m >= 120 && m < 180)
            for (let s = 5; s < 590; s += 15) rows.push({ device: 'd0', metric: 'temperature', timeUs: timeUs + s * second, value: s })
        }
      rows.push({ tenant: 'other', device: 'd1', metric: 'temperature', timeUs: start, value: 4711 })
      await fed.feed(rows, start + 10 * hour)
      if (d > 1)
        await fed.feed([{ device: 'd1', metric: 'temperature', timeUs: start - day + 600 * second + 1_500_001, value: -d }], start + 11 * hour)
      if (d === 2 || d === 5) await fed.store.seal()
    }
  })
  after(() => fed.end())

  /** Files that a statement reads. */
  async function attached(sql: string, parameters: readonly SqlParameter[] = []): Promise<string[]> {
    const acquire = mock.method(Attachments.prototype, 'acquire')
    try {
      await fed.rows(sql, parameters)
      return acquire.mock.calls.flatMap(({ arguments: [names] }) =>
        names.map((name) => name.replace(/^.*\/(\d{4}-\d\d-\d\d)\D.*-(\w+)\.duckdb$/, '$1 $2')),
      )
    } finally {
      acquire.mock.restore()
    }
  }
  const date = (d: number): string => iso(t0 + d * day).slice(0, 10)

  void it('reads the files of the days that it asks for', async () => {
    assert.ok((await attached('SELECT count(*) FROM readings')).length >= 6)
    const second_ = `time >= '${iso(t0 + 2 * day)}' AND time < '${iso(t0 + 3 * day - second)}'`
    for (const sql of [
      `SELECT count(*) FROM readings WHERE ${second_}`,
      `SELECT count(*) FROM device_telemetry WHERE ${second_} AND device_id = 'd1'`,
      `WITH c AS (SELECT * FROM readings WHERE ${second_}) SELECT count(*) FROM c JOIN devices USING (device)`,
    ]) {
      const names = await attached(sql)
      assert.ok(names.length > 0, sql)
      assert.deepEqual(new Set(names), new Set([`${date(2)} raw`]), sql)
    }
    assert.deepEqual(new Set(await attached(`SELECT count(*) FROM readings_1h WHERE ${second_}`)), new Set([`${date(2)} 1h`]))
    assert.deepEqual(new Set(await attached(`SELECT count(*) FROM readings_1m WHERE ${second_}`)), new Set([`${date(2)} raw`, `${date(2)} 1m`]))
    assert.deepEqual(await attached("SELECT count(*) FROM readings WHERE time > now() - INTERVAL '1 hour'"), [])
    assert.deepEqual(await attached('SELECT * FROM devices'), [])
  })

  const at = fc.integer({ min: -26, max: 8 * 24 }).map((h) => t0 + h * hour)
  const newestButTwo = "(SELECT max(time) - INTERVAL '2 days' FROM readings)"
  const moment = fc.oneof(
    at.map((us) => `TIMESTAMP '${iso(us)}'`),
    at.map((us) => `'${iso(us)}'`),
    at.map((us) => `'${iso(us)}'::DATE`),
    at.map((us) => `'${iso(us)}+01'::TIMESTAMPTZ`),
    at.map((us) => `make_timestamp(${us})`),
    at.map((us) => `to_timestamp(${us / 1e6})`),
    fc.nat(8 * 24 * 60).map((m) => `now() - INTERVAL '${m} minutes'`),
    fc.nat(7).map((n) => `date_trunc('day', current_timestamp) - INTERVAL ${n} DAY`),
    fc.nat(150).map((n) => `time_bucket('1 hour', now()) - to_hours(${n})`),
    fc.constantFrom('$1', `$1::TIMESTAMP`, 'current_date', `a.time - INTERVAL '1 hour'`, newestButTwo),
  )
  /** A condition on `a.`. */
  const simple = fc.oneof(
    { weight: 5, arbitrary: fc.tuple(fc.constantFrom('>', '>=', '<', '<=', '='), moment).map(([op, m]) => `a.time ${op} ${m}`) },
    { weight: 2, arbitrary: fc.tuple(fc.constantFrom('>', '>=', '<', '<='), moment).map(([op, m]) => `${m} ${op} a.time`) },
    { weight: 2, arbitrary: fc.tuple(moment, moment).map(([x, y]) => `a.time BETWEEN ${x} AND ${y}`) },
    {
      weight: 3,
      arbitrary: fc.constantFrom(
        "DEVICE = 'd1'",
        "DEVICE IN ('d0', 'nobody')",
        'DEVICE = $2',
        "DEVICE = 'nobody'",
        "'d2' = DEVICE",
        "DEVICE <> 'd1'",
        "DEVICE LIKE 'd%'",
      ),
    },
    { weight: 1, arbitrary: fc.constantFrom('DEVICE IS NULL', 'a.time IS NOT NULL', 'true') },
  )
  const condition = fc.oneof(
    { weight: 3, arbitrary: simple },
    { weight: 4, arbitrary: fc.tuple(simple, simple).map(([x, y]) => `${x} AND ${y}`) },
    { weight: 1, arbitrary: fc.tuple(simple, simple).map(([x, y]) => `(${x} OR ${y})`) },
    { weight: 1, arbitrary: simple.map((x) => `NOT (${x})`) },
    { weight: 2, arbitrary: fc.tuple(simple, simple, simple).map(([x, y, z]) => `(${x} AND ${y}) AND ${z}`) },
  )
  const view = fc.constantFrom('readings', 'readings_1m', 'readings_1h', 'device_telemetry')
  type Side = readonly [view: string, condition: string]
  const side: fc.Arbitrary<Side> = fc.tuple(view, condition)
  /** Of a view that is called `alias`, or has no other name. */
  const on = ([name, text]: Side, alias: string): string =>
    text.replaceAll('DEVICE', `a.${name === 'device_telemetry' ? 'device_id' : 'device'}`).replaceAll(/\ba\./g, alias === '' ? '' : `${alias}.`)
  const seen = (alias: string): string => `count(${alias}.time) AS ${alias}n, sum(epoch_us(${alias}.time) % 1000003) AS ${alias}s`
  const joins = fc.constantFrom('JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN', 'ASOF JOIN', 'ASOF LEFT JOIN')
  const same = `x.time >= y.time AND x.DX = y.DY`
  const statement = fc.oneof(
    side.map((x) => `SELECT * FROM ${x[0]} WHERE ${on(x, '')}`),
    side.map((x) =>
      `SELECT * FROM ${x[0]} x WHERE ${on(x, 'x')} ORDER BY time DESC, ALL LIMIT 20`.replace(
        ', ALL',
        `, ${x[0] === 'device_telemetry' ? 'device_id' : 'device, metric'}`,
      ),
    ),
    side.map((x) => `SELECT date_trunc('day', time) AS time, count(*) FROM ${x[0]} WHERE ${on(x, '')} GROUP BY 1`),
    fc.tuple(side, condition).map(([x, more]) => `SELECT * FROM (SELECT * FROM ${x[0]} WHERE ${on(x, '')}) q WHERE ${on([x[0], more], 'q')}`),
    fc.tuple(side, side, condition, joins, fc.nat(2), fc.boolean()).map(([x, y, more, kind, which, left]) => {
      const equal = same.replace('DX', deviceOf(x[0])).replace('DY', deviceOf(y[0]))
      const extra = kind.startsWith('ASOF')
        ? ''
        : ` AND x.time <= y.time + INTERVAL '1 hour' AND ${on(left ? [x[0], more] : [y[0], more], left ? 'x' : 'y').replaceAll(newestButTwo, 'now()')}`
      return `SELECT count(*), ${seen('x')}, ${seen('y')} FROM ${x[0]} x ${kind} ${y[0]} y ON ${equal}${extra} WHERE ${[on(x, 'x'), on(y, 'y'), 'true'][which]}`
    }),
    fc
      .tuple(side, side, fc.constantFrom('SEMI', 'ANTI'))
      .map(
        ([x, y, kind]) =>
          `SELECT count(*), ${seen('x')} FROM ${x[0]} x ${kind} JOIN ${y[0]} y ON x.time = y.time AND ${on(y, 'y').replaceAll(newestButTwo, 'now()')} WHERE ${on(x, 'x')}`,
      ),
    fc
      .tuple(side, side)
      .map(
        ([x, y]) => `SELECT count(*) FROM ${x[0]} x WHERE ${on(x, 'x')} AND EXISTS (SELECT 1 FROM ${y[0]} y WHERE y.time = x.time AND ${on(y, 'y')})`,
      ),
    fc.tuple(side, side).map(([x, y]) => `SELECT time FROM ${x[0]} x WHERE ${on(x, 'x')} UNION SELECT time FROM ${y[0]} y WHERE ${on(y, 'y')}`),
    side.map((x) => `SELECT * FROM ${x[0]} x JOIN devices d ON d.device = x.${deviceOf(x[0])} WHERE ${on(x, 'x')}`),
  )
  const parameters = [iso(t0 + 3 * day + hour), 'd1']
  const all = 'WITH unbounded AS (SELECT * FROM readings, readings_1m, readings_1h, device_telemetry)'

  void it('answers as one that reads everything', { timeout: 120_000 + runs.numRuns * 3_000 }, async () => {
    const sorted = (rows: ReturnType<typeof rounded>): string[] =>
      rounded(rows)
        .map((row) => JSON.stringify(row))
        .toSorted()
    await fc.assert(
      fc.asyncProperty(statement, async (text) => {
        const used = parameters.filter((_, i) => text.includes(`$${i + 1}`))
        const sql = text.includes('$1') ? text : text.replaceAll('$2', '$1')
        const run = async (one: string): Promise<string[]> => sorted(await fed.rows(one, used))
        assert.deepEqual(await run(sql), await run(`${all} ${sql}`), sql)
      }),
      runs,
    )
  })

  void it('reads of one device its own series alone', async () => {
    const few = mock.method(SealedSources.prototype, 'rows')
    try {
      const sql = `SELECT count(*) FROM readings WHERE device = 'd1' AND time >= '${iso(t0 + 2 * day)}' AND time < '${iso(t0 + 2 * day + hour)}'`
      assert.deepEqual(await fed.rows(sql), [[6 + 2 + 2]])
      assert.ok(few.mock.callCount() > 0)
      for (const {
        arguments: [ids, between],
      } of few.mock.calls) {
        assert.equal(ids?.length, 3)
        assert.deepEqual(between, { fromUs: t0 + 2 * day - 1, toUs: t0 + 2 * day + hour + 2 })
      }
    } finally {
      few.mock.restore()
    }
  })
})

function deviceOf(view: string): string {
  return view === 'device_telemetry' ? 'device_id' : 'device'
}
