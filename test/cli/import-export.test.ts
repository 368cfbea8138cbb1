import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { test, type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { gunzipSync, gzipSync } from 'node:zlib'
import { batchesOf, pagesFrom } from '../../src/cli/import/run.ts'
import { openSource } from '../../src/cli/import/source.ts'
import { settled } from '../support/api.ts'
import { cleanEnv, RunningServer, runKymo } from '../support/server.ts'

const root = path.resolve(import.meta.dirname, '../..')
const airQuality = path.join(root, 'test/data/airquality/AirQualityUCI_hourly.csv.gz')

function folder(t: TestContext): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-history-'))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function start(t: TestContext, o: Parameters<typeof RunningServer.start>[0] = {}): Promise<RunningServer> {
  const server = await RunningServer.start(o)
  t.after(() => server.dispose())
  return server
}

/** Runs the command; its last JSON line. */
async function kymo(server: RunningServer, args: readonly string[], code = 0): Promise<Record<string, unknown>> {
  const ended = await runKymo([...args, '--url', server.http, '--json'])
  assert.equal(ended.code, code, ended.output)
  return JSON.parse(ended.output.trim().split('\n').at(-1)!) as Record<string, unknown>
}

/** All that a server holds, as NDJSON. */
async function everything(server: RunningServer, dir: string): Promise<string[]> {
  await settled(server.http)
  const file = path.join(dir, `all-${server.httpPort}.ndjson`)
  await kymo(server, ['export', file])
  return fs.readFileSync(file, 'utf8').trim().split('\n')
}

const oddities = [
  { device: '=cmd', time: '2026-01-01T00:00:00.000001Z', values: { 'a,b': 1.5, 'quote"d': -0.25 } },
  { device: "line'break", time: '2026-01-01T00:00:00Z', values: { mode: 'on\n"off"', state: '25.5', formula: '=1+1', pad: ' x ', na: 'NA' } },
  { device: 'd', time: '2026-01-01T00:00:01Z', metric: 'temperature', value: 21.5, unit: '°C', metadata: { batch: [1, 'x'] } },
  { device: 'd', time: '2026-01-01T00:00:02Z', values: { serial: 1, humidity: 1e-300 } },
]
const bigInteger = '{"device":"d","time":"2026-01-01T00:00:03Z","values":{"serial":12345678901234567890}}'

test('what is exported can be imported: CSV, NDJSON, Parquet and wide tables give the same data in a fresh server', async (t) => {
  const dir = folder(t)
  const first = await start(t)
  const odd = path.join(dir, 'odd.ndjson')
  fs.writeFileSync(odd, [...oddities.map((message) => JSON.stringify(message)), bigInteger].join('\n'))
  assert.equal((await kymo(first, ['import', odd]))['messages'], 5)
  const counted = await kymo(first, ['import', airQuality, '--missing', '-200', '--state', path.join(dir, 's')])
  assert.equal(counted['rows'], 9_357)
  const expected = await everything(first, dir)
  assert.equal(expected.length, 11 + Number(counted['readings']), 'every cell with a value is a reading')
  assert.equal(expected.filter((line) => line.includes('"metric":"T"')).length, Number(9_357 - 366))

  for (const name of ['all.csv', 'all.ndjson.gz', 'all.parquet', 'all.csv.zst']) {
    const file = path.join(dir, name)
    const told = await kymo(first, ['export', file])
    assert.equal(told['rows'], expected.length)
    assert.deepEqual(
      fs.readdirSync(dir).filter((entry) => entry.includes('.part')),
      [],
    )
    const fresh = await start(t)
    // A Parquet column of text has no integers beyond 2^53: the metric held numbers, so it is not taken.
    const parquet = name === 'all.parquet'
    const back = await kymo(fresh, ['import', file], parquet ? 1 : 0)
    assert.equal(back['rejected'], parquet ? 1 : 0, JSON.stringify(back))
    const wanted = parquet ? expected.filter((line) => !line.includes('12345678901234567890')) : expected
    assert.deepEqual(await everything(fresh, dir), wanted, name)
    await fresh.dispose()
  }

  for (const name of ['wide.csv.gz', 'wide.parquet']) {
    const file = path.join(dir, name)
    await kymo(first, ['export', '--wide', '--device', 'AirQualityUCI_hourly', file])
    const fresh = await start(t)
    await kymo(fresh, ['import', file])
    const wanted = expected.filter((line) => line.includes('AirQualityUCI_hourly'))
    assert.deepEqual(await everything(fresh, dir), wanted, name)
    await fresh.dispose()
  }
})

test('broken files: each bad row is told once, with its line; a file that is broken as a whole is refused', async (t) => {
  const dir = folder(t)
  const server = await start(t)
  const file = path.join(dir, 'broken.csv')
  const rejects = path.join(dir, 'rejects.ndjson')
  const rows = [
    'time,device,temperature,n',
    '2026-01-01T00:00:00Z,d,21.5,1',
    '2026-01-01T00:00:01Z,d,warm,1',
    'soon,d,1,1',
    '2026-01-01T00:00:02Z,d,1',
  ]
  fs.writeFileSync(file, Buffer.concat([Buffer.from('\ufeff' + rows.join('\r\n') + '\r\n'), Buffer.from([0xff, 0x2c, 0x0a])]))
  const told = await kymo(server, ['import', file, '--rejects', rejects, '--encoding', 'utf-8'], 1)
  assert.deepEqual([told['rows'], told['messages'], told['rejected']], [5, 1, 4])
  const written = fs
    .readFileSync(rejects, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { line: number; reason: string; code?: string; record: string })
  assert.deepEqual(
    written.map(({ line, code }) => [line, code]),
    [
      [3, 'value_invalid'],
      [4, undefined],
      [5, undefined],
      [6, undefined],
    ],
  )
  assert.equal(written[1]?.record, 'soon,d,1,1')
  await kymo(server, ['import', file, '--skip-invalid'])

  const packed = gzipSync('time,device,a\n' + '2026-01-01,d,1\n'.repeat(100_000))
  fs.writeFileSync(path.join(dir, 'cut.csv.gz'), packed.subarray(0, packed.length - 50))
  const cut = await runKymo(['import', path.join(dir, 'cut.csv.gz'), '--url', server.http])
  assert.equal(cut.code, 1, cut.output)
  assert.match(cut.output, /cut\.csv\.gz cannot be unpacked: unexpected end of file/)
  fs.writeFileSync(path.join(dir, 'bad.parquet'), 'PAR1 and nothing else')
  assert.match((await runKymo(['import', path.join(dir, 'bad.parquet'), '--url', server.http])).output, /cannot be read or written as Parquet/)
  fs.writeFileSync(path.join(dir, 'utf16.csv'), Buffer.from('\ufefftime;temp °C\n2026-01-01;3,5\n', 'utf16le'))
  const dry = await runKymo(['import', path.join(dir, 'utf16.csv'), '--dry-run'])
  assert.equal(dry.code, 0)
  assert.match(dry.output, /utf-16le[\s\S]*temp °C[\s\S]*decimal comma[\s\S]*"temp °C":3.5/)
  assert.equal((await runKymo(['import', path.join(dir, 'nothing.csv')])).code, 2)
})

function bigFile(dir: string, rows: number): string {
  const file = path.join(dir, 'big.csv')
  const lines = ['time,device,a,b']
  for (let i = 0; i < rows; i++) {
    const time = new Date(Date.UTC(2026, 0, 1) + i * 1_000).toISOString()
    lines.push(i % 1_000 === 999 ? `bad ${i},d${i % 7},1,2` : `${time},d${i % 7},${i},${i / 4}`)
  }
  fs.writeFileSync(file, lines.join('\n') + '\n')
  return file
}

/** Kills an import once it has kept a position within the file. */
async function killedInTheMiddle(args: readonly string[], state: string): Promise<void> {
  const child = spawn(process.execPath, ['src/cli/bin.js', ...args], { cwd: root, env: cleanEnv(), stdio: 'ignore' })
  for (;;) {
    if (child.exitCode !== null) throw new Error('the import ended before it could be killed')
    if (fs.existsSync(state) && !fs.readFileSync(state, 'utf8').includes('"offset":0,')) break
    await delay(2)
  }
  child.kill('SIGKILL')
  await once(child, 'close')
}

test('an import that was killed goes on where it was: nothing lost, nothing doubled, each bad row told once', async (t) => {
  const dir = folder(t)
  const server = await start(t)
  const rows = 300_000
  const file = bigFile(dir, rows)
  const state = `${file}.kymo-import.json`
  const rejects = path.join(dir, 'rejects.ndjson')
  const args = ['import', file, '--url', server.http, '--rejects', rejects]
  await killedInTheMiddle(args, state)
  assert.equal((await runKymo(args)).code, 2, 'it does not begin anew by itself')
  const told = await kymo(server, ['import', file, '--rejects', rejects, '--resume'], 1)
  assert.deepEqual([told['rows'], told['messages'], told['rejected']], [rows, rows - 300, 300])
  assert.ok(!fs.existsSync(state), 'a finished import leaves no state')
  const lines = fs
    .readFileSync(rejects, 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { line: number }).line)
  assert.deepEqual(
    lines,
    Array.from({ length: 300 }, (_, i) => i * 1_000 + 1_001),
  )
  const all = await everything(server, dir)
  assert.equal(all.length, 2 * (rows - 300))
  assert.equal(new Set(all).size, all.length)
})

for (const packed of [false, true]) {
  test(`a resume within the hour that stands twice reads local times as the first run did${packed ? ' (gzip)' : ''}`, async (t) => {
    const dir = folder(t)
    const clock = (i: number): string => new Date(Date.UTC(2026, 9, 25, 2) + (i % 3_600) * 1_000).toISOString().slice(0, 19)
    const text = 'time,device,a\n' + Array.from({ length: 14_400 }, (_, i) => `${clock(i >> 1)},d${i % 2},${i}\n`).join('')
    const file = path.join(dir, packed ? 'fold.csv.gz' : 'fold.csv')
    fs.writeFileSync(file, packed ? gzipSync(text) : text)
    const messages = async (from: { readonly offset: number; readonly line: number }): Promise<{ text: string[]; after: (typeof from)[] }> => {
      const all: string[] = []
      const after: (typeof from)[] = []
      for await (const page of pagesFrom(await openSource(file, { timeZone: 'Europe/Berlin' }), from)) {
        for (const batch of batchesOf(page, undefined)) all.push(...batch.messages)
        after.push(page.after)
      }
      return { text: all, after }
    }
    const whole = await messages({ offset: 0, line: 1 })
    assert.equal(new Set(whole.text.map((line) => line.slice(0, 42))).size, 14_400, 'no two of a device have the same time')
    assert.ok(whole.after.length > 1, 'the file has more than one place to go on from')
    const rest = await messages(whole.after[0]!)
    assert.ok(rest.text.length > 0 && rest.text.length < 14_400)
    assert.deepEqual(rest.text, whole.text.slice(-rest.text.length))
  })
}

test('the server is killed and started again in the middle: the import waits for it', async (t) => {
  const dir = folder(t)
  const server = await start(t)
  const rows = 200_000
  const file = bigFile(dir, rows)
  const importing = kymo(server, ['import', file, '--skip-invalid'])
  const state = `${file}.kymo-import.json`
  for (let waited = 0; !fs.existsSync(state) && waited < 20_000; waited += 5) await delay(5)
  await server.kill()
  const again = await server.restart()
  t.after(() => again.dispose())
  assert.equal((await importing)['messages'], rows - 200)
  assert.equal((await everything(again, dir)).length, 2 * (rows - 200))
})

test('increments: each takes what is new, and what came late within the overlap', async (t) => {
  const dir = folder(t)
  const server = await start(t)
  const send = async (time: Date, n: number): Promise<void> => {
    const body = JSON.stringify({ device: 'd', time: time.toISOString(), values: { n } })
    const answer = await fetch(`${server.http}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    assert.equal(answer.status, 202)
    await settled(server.http)
  }
  const state = path.join(dir, 'state.json')
  const take = async (name: string): Promise<number[]> => {
    const file = path.join(dir, name)
    await kymo(server, ['export', '--since', 'last', '--state', state, '--overlap', '10m', file])
    const text = fs.readFileSync(file, 'utf8').trim()
    return text === '' ? [] : text.split('\n').map((line) => (JSON.parse(line) as { value: number }).value)
  }
  const now = Date.now()
  await send(new Date(now - 3_600_000), 1)
  await send(new Date(now - 1_800_000), 2)
  assert.deepEqual(await take('1.ndjson'), [1, 2])
  assert.deepEqual(await take('2.ndjson'), [])
  await send(new Date(now - 60_000), 3)
  await send(new Date(now - 2_000_000), 4)
  assert.deepEqual(await take('3.ndjson'), [3], 'later than the overlap reaches back: not found, as documented')
  const other = await runKymo(['export', '--since', 'last', '--state', state, '--device', 'other', '--url', server.http])
  assert.equal(other.code, 2)
  assert.match(other.output, /belongs to exports of other devices/)
})

test('an export that fails leaves no file behind', async (t) => {
  const dir = folder(t)
  const server = await start(t)
  const ended = await runKymo(['export', path.join(dir, 'no', 'such', 'dir.csv'), '--url', server.http])
  assert.equal(ended.code, 2, ended.output)
  const bad = await runKymo(['export', path.join(dir, 'x.csv'), '--from', 'yesterday', '--url', server.http])
  assert.equal(bad.code, 1, bad.output)
  assert.deepEqual(fs.readdirSync(dir), [])
  const packed = path.join(dir, 'none.csv.gz')
  await kymo(server, ['export', packed])
  assert.equal(gunzipSync(fs.readFileSync(packed)).toString(), 'time,device,metric,value,unit,metadata\r\n')
})
