import assert from 'node:assert/strict'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import process from 'node:process'
import { test } from 'node:test'
import fc from 'fast-check'
import { judge, parseAssertions } from '../../src/cli/load/assertion.ts'
import { LatencyHistogram } from '../../src/cli/load/histogram.ts'
import type { Schedule } from '../../src/cli/load/ledger.ts'
import { deviceOf, Ledger, temperatureOf, timeUsOf } from '../../src/cli/load/ledger.ts'
import { encodeMessage, formats, rfc3339 } from '../../src/cli/load/payload.ts'
import { main } from '../../src/cli/main.ts'
import { recordedTerminal } from './fixtures/terminal.ts'
import { fuzzRuns } from '../support/effort.ts'

const schedule: Schedule = { run: 'test', devices: 3, rate: 7, startUs: 1_790_000_000_123_456, messages: 100 }

test('quantiles are within one part in 128 of the exact ones', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 2 ** 36 }), { minLength: 1, maxLength: 300 }),
      fc.constantFrom(0.5, 0.95, 0.99, 1),
      (values, q) => {
        const histogram = new LatencyHistogram()
        for (const value of values) histogram.record(value)
        const sorted = values.toSorted((a, b) => a - b)
        const exact = sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1]!
        const got = histogram.quantileMs(q) * 1_000
        assert.ok(got >= exact * (1 - 1e-12) && got <= exact * (1 + 1 / 128 + 1e-12), `${got} for ${exact}`)
        assert.equal(histogram.maxMs, sorted.at(-1)! / 1_000)
      },
    ),
    fuzzRuns(100),
  )
  assert.ok(Number.isNaN(new LatencyHistogram().quantileMs(0.99)))
})

test('the ledger finds every message again by device and time, at any rate', () => {
  fc.assert(
    fc.property(
      fc.record({
        run: fc.constant('x'),
        devices: fc.integer({ min: 1, max: 50 }),
        rate: fc.double({ min: 0.01, max: 50_000, noNaN: true }),
        startUs: fc.integer({ min: 0, max: 2 ** 52 }),
        messages: fc.integer({ min: 1, max: 200 }),
      }),
      (s) => {
        const ledger = new Ledger(s)
        for (let n = 0; n < s.messages; n++) {
          ledger.send(n)
          ledger.ack(n)
          ledger.found(deviceOf(s, n % s.devices), timeUsOf(s, n), temperatureOf(n))
        }
        const result = ledger.result()
        assert.deepEqual([result.stored, result.lost, result.doubled, result.wrong, result.foreign], [s.messages, 0, 0, 0, 0])
      },
    ),
    fuzzRuns(200),
  )
})

test('lost, doubled, wrong, unconfirmed and foreign are told apart', () => {
  const ledger = new Ledger(schedule)
  for (let n = 0; n < 10; n++) ledger.send(n)
  for (let n = 0; n < 8; n++) assert.ok(ledger.ack(n))
  assert.equal(ledger.ack(0), false, 'a second acknowledgement of one message')
  assert.equal(ledger.ack(50), false, 'an acknowledgement of what was never sent')
  ledger.fail(8)
  const find = (n: number, value = temperatureOf(n)): void => ledger.found(deviceOf(schedule, n % 3), timeUsOf(schedule, n), value)
  for (const n of [0, 1, 2, 3, 4, 4, 4, 8]) find(n)
  find(5, 99)
  // Messages 6 and 7 were acknowledged and are not there; 9 was never answered.
  ledger.found('somebody-else', timeUsOf(schedule, 1), 1)
  ledger.found(deviceOf(schedule, 0), timeUsOf(schedule, 0) + 1, 1)
  assert.deepEqual(ledger.result(), { sent: 10, acked: 8, errors: 2, stored: 7, lost: 2, doubled: 2, wrong: 1, unconfirmed: 1, foreign: 2 })
})

test('every shape is JSON that carries device, time and temperature', () => {
  const n = 8
  for (const format of formats) {
    const message = JSON.parse(encodeMessage(schedule, format, n)) as Record<string, unknown>
    const values = (message['values'] ?? message) as Record<string, unknown>
    assert.equal(message['device'] ?? message['device_id'] ?? message['sensor_id'], 'load-test-0003', format)
    assert.equal(values['temperature'] ?? values['temperature_c'] ?? values['value'], temperatureOf(n))
    const time = message['time'] ?? message['timestamp'] ?? message['ts']
    assert.ok(time === timeUsOf(schedule, n) || time === rfc3339(timeUsOf(schedule, n)))
  }
  assert.equal(rfc3339(1_790_000_000_123_456), '2026-09-21T14:13:20.123456Z')
})

test('assertions', () => {
  const [lost, p99, rate] = parseAssertions('lost==0, p99 < 0.25s,rate>=1000')
  assert.deepEqual([lost?.bound, p99?.bound, rate?.comparison], [0, 250, '>='])
  const values = { lost: 0, doubled: 0, wrong: 0, errors: 0, sent: 0, acked: 0, stored: 0, rate: 999, p50: 1, p95: 2, p99: 249, max: 300 }
  const holds = (text: string, more: Partial<typeof values> = {}): boolean[] =>
    judge(parseAssertions(text), { ...values, ...more }).map((one) => one.holds)
  assert.deepEqual(holds('lost==0,p99<250ms,rate>=1000,max!=300,p50<=1'), [true, true, false, false, true])
  assert.deepEqual(holds('p99<250'), [true])
  // Without a single acknowledgement there is no latency, and nothing holds of it.
  assert.deepEqual(holds('p99<250ms', { p99: Number.NaN }), [false])
  for (const bad of ['', 'p98<1', 'lost=0', 'lost==0ms', 'p99<', 'p99<1h']) assert.throws(() => parseAssertions(bad), /./, bad)
})

interface Fault {
  readonly lose?: number
  readonly double?: number
  readonly refuse?: number
}

/** A server that keeps readings in memory, pages its answers, and does wrong what `fault` says (every n-th message). */
async function fakeServer(t: { after(fn: () => void): void }, fault: Fault = {}): Promise<{ url: string; requests: () => number }> {
  const rows: { device: string; time: number; value: number }[] = []
  let n = 0
  let cpu = 0
  const take = (m: Record<string, unknown>): number => {
    n++
    if (fault.refuse !== undefined && n % fault.refuse === 0) return 503
    const time = typeof m['ts'] === 'string' ? Date.parse(m['ts']) + Number(m['ts'].slice(-4, -1)) / 1e3 : Number(m['time']) / 1e3
    const values = (m['values'] ?? m) as Record<string, number>
    const row = { device: String(m['device'] ?? m['device_id']), time, value: values['temperature'] ?? values['temperature_c'] ?? Number.NaN }
    if (fault.lose === undefined || n % fault.lose !== 0) rows.push(row)
    if (fault.double !== undefined && n % fault.double === 0) rows.push(row)
    return 200
  }
  const query = (url: URL): unknown => {
    const devices = new Set(url.searchParams.getAll('device'))
    const limit = Math.min(40, Number(url.searchParams.get('limit')))
    const offset = Number(url.searchParams.get('cursor') ?? 0)
    const matching = rows.filter(
      (row) => devices.has(row.device) && row.time >= Number(url.searchParams.get('from')) && row.time < Number(url.searchParams.get('to')),
    )
    const page = matching.slice(offset, offset + limit)
    const names = [...devices]
    return {
      rows: page.length,
      truncated: offset + limit < matching.length,
      next_cursor: offset + limit < matching.length ? String(offset + limit) : null,
      series: names.map((device) => ({ device, metric: 'temperature' })),
      columns: { time: page.map((row) => row.time), series: page.map((row) => names.indexOf(row.device)), value: page.map((row) => row.value) },
    }
  }
  const server = http.createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://fake')
    if (url.pathname === '/metrics') response.end(`# HELP process_cpu_seconds_total x\nprocess_cpu_seconds_total ${(cpu += 0.25)}\n`)
    else if (url.pathname === '/api/v1/query') response.end(JSON.stringify(query(url)))
    else if (request.method !== 'POST') response.end('ok\n')
    else {
      let text = ''
      request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      request.on('end', () => {
        const body = JSON.parse(text) as Record<string, unknown> | Record<string, unknown>[]
        const statuses = (Array.isArray(body) ? body : [body]).map(take)
        response.statusCode = statuses.every((status) => status === 200) ? 200 : 503
        response.end(JSON.stringify(response.statusCode === 200 ? { status: 'queued' } : { detail: 'the log takes nothing' }))
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests: () => n }
}

async function load(url: string, ...more: string[]): Promise<{ code: number; report: Record<string, unknown>; stdout: string[]; stderr: string[] }> {
  const terminal = recordedTerminal()
  const code = await main(['load', '--base-url', url, '--devices', '5', '--rps', '80', '--duration', '500ms', '--settle', '0s', ...more], terminal)
  process.exitCode = undefined
  const last = terminal.stdout.at(-1) ?? ''
  return { code, report: last.startsWith('{') ? (JSON.parse(last) as Record<string, unknown>) : {}, stdout: terminal.stdout, stderr: terminal.stderr }
}

test('a good server: everything sent is acknowledged and found, and the assertions hold', async (t) => {
  const { url } = await fakeServer(t)
  const { code, report } = await load(url, '--assert', 'lost==0,doubled==0,errors==0,sent==200,p99<20s', '--json')
  assert.equal(code, 0)
  assert.deepEqual([report['sent'], report['acked'], report['stored'], report['lost'], report['foreign']], [200, 200, 200, 0, 0])
  assert.equal(report['server_cpu_seconds'], 0.25)
})

test('a server that loses an acknowledged reading is found out: exit 99', async (t) => {
  const { url } = await fakeServer(t, { lose: 50 })
  const { code, report } = await load(url, '--assert', 'lost==0', '--json')
  assert.equal(code, 99)
  assert.deepEqual([report['acked'], report['stored'], report['lost']], [200, 196, 4])
})

test('a server that stores twice is found out, in words for people too', async (t) => {
  const { url } = await fakeServer(t, { double: 20 })
  const { code, stdout } = await load(url, '--assert', 'lost==0,doubled==0')
  assert.equal(code, 99)
  assert.match(stdout.join('\n'), /✓ lost == 0 +0\n +✗ doubled == 0 +10\n/)
  assert.match(stdout.join('\n'), /sent 200 \(\d+\/s\) {2}acked 200 {2}stored 200 \(read back\) {2}errors 0/)
  assert.match(stdout.join('\n'), /ack latency {3}p50=\S+ p95=\S+ p99=\S+ max=\S+/)
  assert.match(stdout.join('\n'), /client CPU \d+ % {2}server CPU \d+ %/)
  assert.equal(stdout.at(-1), '  exit 99')
})

test('refusals are errors, told with their reason, and not lost', async (t) => {
  const { url } = await fakeServer(t, { refuse: 10 })
  const { code, report } = await load(url, '--assert', 'lost==0,errors==0', '--json')
  assert.equal(code, 99)
  assert.deepEqual([report['acked'], report['errors'], report['lost']], [180, 20, 0])
  assert.deepEqual(report['problems'], { 'status 503: the log takes nothing': 20 })
})

test('batches: fewer requests, the same ledger', async (t) => {
  const { url, requests } = await fakeServer(t)
  const { code, report } = await load(url, '--batch', '16', '--format', 'canonical', '--assert', 'lost==0,sent==200', '--json')
  assert.equal(code, 0)
  assert.equal(report['acked'], 200)
  assert.equal(requests(), 200)
})

test('a target that is not this machine is refused unless it is claimed', async () => {
  for (const args of [
    ['--base-url', 'http://example.org:8001'],
    ['--mqtt', 'mqtt://192.168.1.7'],
    ['--url', 'http://[2001:db8::1]:8080'],
  ]) {
    const terminal = recordedTerminal()
    assert.equal(await main(['load', ...args], terminal), 2)
    process.exitCode = undefined
    assert.match(terminal.stderr.join('\n'), /is not this machine/)
  }
})
