import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import { cleanEnv, RunningServer } from '../test/support/server.ts'

const root = path.resolve(import.meta.dirname, '..')

interface Answer {
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly rows: readonly (readonly (string | number | null)[])[]
  readonly truncated: boolean
}

interface Message {
  readonly device: string
  readonly ms: number
  readonly temperature: number
  readonly humidity: number
  readonly battery: number
}

/** The SQL blocks of the reference: the seed's five queries first. */
const documented = [...readFileSync(path.join(root, 'docs/reference/sql.md'), 'utf8').matchAll(/```sql\n([\s\S]*?)```/g)].map((block) => block[1]!)

/** Temperatures and humidities that were measured on a street in Italy, an hour each, as three devices that send every five minutes until now. */
function measured(endMs: number): Message[] {
  const lines = gunzipSync(readFileSync(path.join(root, 'test/data/airquality/AirQualityUCI_hourly.csv.gz')))
    .toString('utf8')
    .trim()
    .split('\n')
    .slice(1)
  const values = lines.map((line) => line.split(',')).map((cells) => ({ temperature: Number(cells[11]), humidity: Number(cells[12]) }))
  const good = values.filter(({ temperature, humidity }) => temperature > -100 && humidity > -100)
  return ['street-1', 'street-2', 'street-3'].flatMap((device, d) =>
    good.slice(d * 1000, d * 1000 + 300).map((value, i) => ({ device, ms: endMs - (300 - i) * 300_000, ...value, battery: 100 - d * 30 - i / 30 })),
  )
}

const mean = (values: readonly number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length
const stddev = (values: readonly number[]): number => Math.sqrt(values.reduce((sum, v) => sum + (v - mean(values)) ** 2, 0) / (values.length - 1))
const near = (a: unknown, b: number): void =>
  assert.ok(typeof a === 'number' && Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(b)), `${String(a)} is not ${b}`)

void describe('SQL of a running server', () => {
  let server: RunningServer
  let messages: readonly Message[]
  let anchorMs: number
  const of = (device: string, sinceMs: number): Message[] => messages.filter((m) => m.device === device && m.ms > sinceMs)

  async function post(body: unknown, accept = 'application/json'): Promise<Response> {
    return fetch(`${server.http}/api/v1/sql`, { method: 'POST', headers: { 'content-type': 'application/json', accept }, body: JSON.stringify(body) })
  }
  async function sql(text: string, more: object = {}): Promise<Answer> {
    const response = await post({ sql: text, limit: 10_000, ...more })
    const answered = await response.text()
    assert.equal(response.status, 200, `${text}\n${answered}`)
    return JSON.parse(answered) as Answer
  }
  function kymo(args: readonly string[], stdin?: string): Promise<{ code: number; stdout: string; stderr: string }> {
    return new Promise((resolve) => {
      const child = execFile(process.execPath, ['src/cli/bin.js', 'sql', ...args], { cwd: root, env: cleanEnv() }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
      })
      child.stdin?.end(stdin)
    })
  }

  before(async () => {
    server = await RunningServer.start()
    anchorMs = Math.floor(Date.now() / 1000) * 1000 - 60_000
    messages = measured(anchorMs)
    const items = messages.map(({ device, ms, ...values }) => ({ device_id: device, firmware: `1.${device.at(-1)}.0`, ...values, timestamp: ms }))
    const response = await fetch(`${server.http}/api/v1/telemetry`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(items),
    })
    assert.ok(response.ok, await response.text())
    for (;;) {
      // Rows and devices come from two readers of the log.
      const answer = await sql('SELECT (SELECT count(*) FROM device_telemetry), (SELECT count(firmware) FROM devices)')
      if (answer.rows[0]![0] === messages.length && answer.rows[0]![1] === 3) break
      await delay(20)
    }
  })
  after(() => server.dispose())

  void it('runs the five queries of the seed unchanged, with the right numbers', async () => {
    const newest = await sql(documented[0]!)
    assert.deepEqual(
      newest.columns.map(({ name }) => name),
      ['time', 'device_id', 'temperature', 'humidity', 'battery', 'firmware'],
    )
    const byTime = [...messages].sort((a, b) => b.ms - a.ms)
    assert.deepEqual(
      newest.rows.map((row) => row[0]),
      byTime.slice(0, 10).map((m) => new Date(m.ms).toISOString()),
    )
    for (const [time, device, ...values] of newest.rows) {
      const m = messages.find((one) => one.device === device && new Date(one.ms).toISOString() === time)!
      assert.deepEqual(values, [m.temperature, m.humidity, m.battery, `1.${m.device.at(-1)}.0`])
    }

    // The server's now lies within a few seconds of ours; no message is that close to the edge of a window.
    const hour = Date.now() - 3_600_000
    const statistics = await sql(documented[1]!)
    assert.equal(statistics.rows.length, 3)
    for (const [device, n, temperature, battery] of statistics.rows) {
      const expected = of(String(device), hour)
      assert.equal(n, expected.length)
      near(temperature, mean(expected.map((m) => m.temperature)))
      near(battery, mean(expected.map((m) => m.battery)))
    }

    const day = Date.now() - 86_400_000
    const buckets = await sql(documented[2]!)
    const expectedBuckets = new Map<string, number[]>()
    for (const m of messages.filter((one) => one.ms > day)) {
      const key = `${new Date(Math.floor(m.ms / 300_000) * 300_000).toISOString()} ${m.device}`
      expectedBuckets.set(key, [...(expectedBuckets.get(key) ?? []), m.temperature])
    }
    assert.equal(buckets.rows.length, expectedBuckets.size)
    for (const [bucket, device, average, max, min] of buckets.rows) {
      const values = expectedBuckets.get(`${bucket} ${device}`)!
      near(average, mean(values))
      assert.deepEqual([max, min], [Math.max(...values), Math.min(...values)])
    }
    assert.deepEqual(
      buckets.rows.map((row) => row[0]),
      buckets.rows
        .map((row) => String(row[0]))
        .toSorted()
        .toReversed(),
    )

    const health = await sql(documented[3]!)
    assert.deepEqual(
      health.rows.map((row) => row[0]),
      ['street-3', 'street-2', 'street-1'],
    )
    for (const [device, lastSeen, n, average, min] of health.rows) {
      const expected = of(String(device), hour)
      assert.equal(lastSeen, new Date(Math.max(...expected.map((m) => m.ms))).toISOString())
      assert.equal(n, expected.length)
      near(average, mean(expected.map((m) => m.battery)))
      near(min, Math.min(...expected.map((m) => m.battery)))
    }

    const anomalies = await sql(documented[4]!)
    const expected = messages.flatMap((m) => {
      const values = of(m.device, day).map((one) => one.temperature)
      const z = Math.abs(m.temperature - mean(values)) / stddev(values)
      return z > 2 ? [{ ...m, z }] : []
    })
    assert.ok(expected.length > 5)
    assert.equal(anomalies.rows.length, expected.length)
    for (const row of anomalies.rows) near(row[8], expected.find((m) => m.device === row[1] && new Date(m.ms).toISOString() === row[0])!.z)
  })

  void it('runs every other query of the reference', async () => {
    assert.ok(documented.length >= 8)
    for (const text of documented.slice(5)) await sql(text)
    const hours = await sql("SELECT sum(n), sum(sum) FROM readings_1h WHERE device = 'street-1' AND metric = 'temperature'")
    assert.equal(hours.rows[0]![0], 300)
    near(
      hours.rows[0]![1],
      of('street-1', 0).reduce((sum, m) => sum + m.temperature, 0),
    )
    const minutes = await sql("SELECT count(*), max(max) FROM readings_1m WHERE metric = 'humidity'")
    assert.deepEqual(minutes.rows[0], [900, Math.max(...messages.map((m) => m.humidity))])
  })

  void it('has rollups that follow late and corrected readings', async () => {
    const fromMs = anchorMs - 6 * 3_600_000
    const send = async (items: readonly unknown[]): Promise<void> => {
      const response = await fetch(`${server.http}/api/v1/telemetry`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(items),
      })
      assert.ok(response.ok, await response.text())
    }
    const until = async (text: string, value: number): Promise<void> => {
      while ((await sql(text)).rows[0]![0] !== value) await delay(20)
    }
    const count = "SELECT count(*) FROM readings WHERE device = 'dense'"
    const item = (i: number, value: number, more = 0): unknown => ({ device_id: 'dense', level: value, timestamp: fromMs + i * 5_000 + more })
    await send(Array.from({ length: 3000 }, (_, i) => item(i, i % 97)))
    await until(count, 3000)
    // Closed minutes and hours: one value corrected, one that comes late, and all of a minute corrected.
    await send([item(100, 10_000), item(900, 20_000, 1_000), ...Array.from({ length: 12 }, (_, i) => item(1200 + i, -5))])
    await until(count, 3001)
    await until("SELECT max(value) FROM readings WHERE device = 'dense'", 20_000)
    // Minutes are kept while there are many readings in each: at first, not for two hours, and then again.
    const fickle = [
      ...Array.from({ length: 400 }, (_, i) => i * 5),
      ...Array.from({ length: 120 }, (_, i) => 2400 + i * 60),
      ...Array.from({ length: 400 }, (_, i) => 9600 + i * 5),
    ]
    await send(fickle.map((s, i) => ({ device_id: 'dense', other: i % 89, timestamp: fromMs + s * 1000 })))
    await until(count, 3001 + fickle.length)
    for (const [view, width] of [
      ['readings_1m', 'minute'],
      ['readings_1h', 'hour'],
    ]) {
      const direct = await sql(`SELECT metric, date_trunc('${width}', time) AS t, count(*), sum(value), avg(value), min(value), max(value),
        arg_min(value, time), arg_max(value, time), stddev(value) FROM readings WHERE device = 'dense' GROUP BY ALL ORDER BY metric, t`)
      const rolled = await sql(
        `SELECT metric, time, n, sum, mean, min, max, first, last, stddev FROM ${view} WHERE device = 'dense' ORDER BY metric, time`,
      )
      assert.equal(rolled.rows.length, direct.rows.length)
      rolled.rows.forEach((row, r) =>
        row.forEach((cell, c) => {
          const expected = direct.rows[r]![c]!
          if (typeof expected === 'number') near(cell, expected)
          else assert.equal(cell, expected)
        }),
      )
    }
  })

  void it('tells in each form that there is more', async () => {
    const body = { sql: 'SELECT device_id, temperature FROM device_telemetry ORDER BY time, device_id', limit: 2 }
    const json = (await (await post(body)).json()) as Answer
    assert.deepEqual([json.rows.length, json.truncated], [2, true])
    const csv = await post(body, 'text/csv')
    assert.equal(csv.headers.get('x-truncated'), 'true')
    assert.equal((await csv.text()).split('\r\n')[0], 'device_id,temperature')
    const ndjson = await post({ ...body, format: 'ndjson', limit: 10_000 })
    assert.equal(ndjson.headers.get('x-truncated'), null)
    assert.equal((await ndjson.text()).trim().split('\n').length, messages.length)
  })

  void it('refuses with a code, a place and the fix', async () => {
    const problem = async (body: unknown): Promise<Record<string, unknown>> => (await post(body)).json() as Promise<Record<string, unknown>>
    const invalid = await problem({ sql: 'SELECT 1,\n nothing FROM readings' })
    assert.deepEqual([invalid['status'], invalid['code'], invalid['facts']], [400, 'sql_invalid', { line: 2, column: 2 }])
    const refused = await problem({ sql: "SELECT * FROM read_text('/etc/passwd')" })
    assert.deepEqual([refused['status'], refused['code']], [422, 'sql_refused'])
    assert.match(String(refused['detail']), /read_text/)
    for (const body of [{}, { sql: '' }, { sql: 1 }, { sql: 'SELECT 1', limit: 0 }, { sql: 'SELECT 1', more: 1 }, { sql: 'SELECT $1', params: [{}] }])
      assert.equal((await problem(body))['status'], 400, JSON.stringify(body))
  })

  void it('is a command', async () => {
    const table = await kymo([
      '--url',
      server.http,
      'SELECT device, count(*) AS n FROM readings WHERE device LIKE $1 GROUP BY 1 ORDER BY 1',
      '--param',
      'street%',
    ])
    assert.equal(table.code, 0, table.stderr)
    assert.match(table.stdout, /^device +n\nstreet-1 +900\n/)
    assert.match(table.stderr, /3 rows/)
    const csv = await kymo(
      ['--url', server.http, '--format', 'csv', '--param', 'street-2', '--param', '1'],
      'SELECT device, $2 + 1 AS x FROM devices WHERE device = $1',
    )
    assert.equal(csv.stdout, 'device,x\nstreet-2,2\n')
    const json = await kymo(['--url', server.http, '--json', '--limit', '1', 'SELECT * FROM devices'])
    assert.equal((JSON.parse(json.stdout) as Answer).truncated, true)
    assert.match(json.stderr, /there are more/)
    const refused = await kymo(['--url', server.http, 'DROP TABLE readings'])
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /Only SELECT can be run/)
    const gone = await kymo(['--url', 'http://127.0.0.1:9', 'SELECT 1'])
    assert.equal(gone.code, 6)
    assert.match(gone.stderr, /no Kymo server answers/)
  })

  void it('takes readings, and answers small queries, while a heavy statement runs', async () => {
    const heavy = spawn(process.execPath, ['src/cli/bin.js', 'sql', '--url', server.http, 'SELECT count(*) FROM generate_series(1, 1000000000000)'], {
      cwd: root,
      env: cleanEnv(),
      stdio: 'ignore',
    })
    try {
      await delay(1000)
      for (let i = 0; i < 20; i++) {
        const startMs = performance.now()
        const response = await fetch(`${server.http}/api/v1/telemetry`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ device_id: 'busy', temperature: i, timestamp: anchorMs + i }),
        })
        assert.ok(response.ok, await response.text())
        assert.ok(performance.now() - startMs < 2000)
      }
      for (;;) {
        const answer = await fetch(`${server.http}/api/v1/query?device=busy&limit=100`)
        const { rows } = (await answer.json()) as { rows: number }
        if (rows === 20) break
        await delay(20)
      }
      assert.equal(heavy.exitCode, null, 'the heavy statement has ended too early')
    } finally {
      heavy.kill('SIGKILL')
    }
    // Its client has gone: the place is free again.
    assert.deepEqual((await sql('SELECT 1')).rows, [[1]])
  })
})
