import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import test, { type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { Topic } from '../../src/core/record.ts'
import { SeriesTable } from '../../src/core/series-table.ts'
import type { HttpDoorOptions } from '../../src/doors/http/options.ts'
import { Ingest } from '../../src/roles/ingest.ts'
import { decodeDeadLetter } from '../../src/wire/dead-letter.ts'
import { PayloadDecoder } from '../../src/wire/payload/decoder.ts'
import { MemoryLog } from '../roles/live-memory-log.ts'
import { serve, type Served } from './support.ts'

/** The door over the ingest role itself, and what is in its log. */
async function house(
  t: TestContext,
  o: Partial<HttpDoorOptions> = {},
): Promise<Served & { log: MemoryLog; rows(): string[]; kept(): [string, string, string][] }> {
  const log = new MemoryLog()
  const series = new SeriesTable()
  const ingest = new Ingest({
    log,
    series,
    decoder: new PayloadDecoder({ series }),
    env: nodeEnv(silentLogger),
    metrics: new Metrics(),
    onFatal: (error) => assert.fail(error.message),
    tickMs: 0,
  })
  const s = await serve(t, { gate: ingest, ...o })
  return {
    ...s,
    log,
    rows: () =>
      log.topic(Topic.telemetry).records.flatMap((record) => {
        if (record.kind !== 'readings') return []
        const { batch } = record
        return Array.from({ length: batch.rows }, (_, i) => {
          const key = batch.keys[batch.series[i]!]!
          return `${key.device} ${key.metric} ${batch.text?.get(i) ?? batch.value[i]} ${batch.timeUs[i]}`
        })
      }),
    kept: () =>
      log.topic(Topic.deadLetters).records.map((record) => {
        const letter = decodeDeadLetter('body' in record ? record.body : new Uint8Array())
        return [letter.code, letter.shape, Buffer.from(letter.body).toString()]
      }),
  }
}

const text = { 'content-type': 'text/plain; charset=utf-8' }

test('v2, as Telegraf’s influxdb_v2 output writes', async (t) => {
  const h = await house(t)
  // The request of the plugin's documentation: gzip, Token, org, bucket, precision.
  const body = gzipSync('cpu,cpu=cpu0,host=web1 usage_idle=98.5,usage_user=1i 1700000000000000000\nmem,host=web1 used=12i 1700000000000000000\n')
  const reply = await h.post('/api/v2/write?bucket=telegraf&org=example&precision=ns', body, {
    ...text,
    'content-encoding': 'gzip',
    authorization: 'Token anything',
    'user-agent': 'Telegraf/1.30.0 Go/1.22.2',
  })
  assert.deepEqual([reply.status, reply.text], [204, ''])
  assert.deepEqual(h.rows(), [
    'web1 cpu.usage_idle{cpu=cpu0} 98.5 1700000000000000',
    'web1 cpu.usage_user{cpu=cpu0} 1 1700000000000000',
    'web1 mem.used 12 1700000000000000',
  ])
})

test('v1, as Telegraf’s influxdb output starts and writes', async (t) => {
  const h = await house(t)
  const create = await h.call('/query', {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ q: 'CREATE DATABASE "telegraf"' }).toString(),
  })
  assert.equal(create.status, 200)
  assert.deepEqual(create.json, { results: [{ statement_id: 0 }] })
  const write = await h.post('/write?db=telegraf&rp=autogen&consistency=any&precision=s', 'cpu,host=web1 usage_idle=98.5 1700000000\n', text)
  assert.equal(write.status, 204)
  assert.deepEqual(h.rows(), ['web1 cpu.usage_idle 98.5 1700000000000000'])
})

test('every precision', async (t) => {
  const h = await house(t)
  const at = 1_699_999_200
  for (const [path, time] of [
    ['/api/v2/write?precision=ns', `${at}000000000`],
    ['/api/v2/write?precision=us', `${at}000000`],
    ['/api/v2/write?precision=ms', `${at}000`],
    ['/api/v2/write?precision=s', `${at}`],
    ['/api/v2/write', `${at}000000000`],
    ['/write?precision=n', `${at}000000000`],
    ['/write?precision=u', `${at}000000`],
    ['/write?precision=%C2%B5', `${at}000000`],
    ['/write?precision=m', `${at / 60}`],
    ['/write?precision=h', `${at / 3600}`],
  ] as const) {
    assert.equal((await h.post(path, `m,host=h f=1 ${time}`, text)).status, 204, path)
    assert.match(h.rows().at(-1)!, / 1699999200000000$/, path)
  }
  const wrong = await h.post('/api/v2/write?precision=h', 'm,host=h f=1 1', text)
  assert.deepEqual([wrong.status, wrong.json['code'], wrong.json['kymo_code']], [400, 'invalid', 'request_invalid'])
  assert.match(String(wrong.json['message']), /precision/)
})

const partial = '# a comment\ngood,host=h f=1 1000\n\nbad,host=h f=on 1000\ngood,host=h g="x" 2000\nbad f=1 yesterday\n'

test('partial writes: good lines are stored, bad ones kept with their number; v2', async (t) => {
  const h = await house(t)
  const reply = await h.post('/api/v2/write?precision=ms', partial, text)
  assert.equal(reply.status, 400)
  assert.equal(reply.headers.get('x-platform-error-code'), 'invalid')
  assert.equal(reply.json['code'], 'invalid')
  assert.match(String(reply.json['message']), /^partial write: 2 of 4 lines refused: Line 4: "on" is neither .*; Line 6: "yesterday" is no time/)
  assert.deepEqual([reply.json['accepted'], reply.json['rejected']], [2, 2])
  const results = reply.json['results'] as { index: number; code: string; errors: { pointer: string }[] }[]
  assert.deepEqual(
    results.map(({ index, code, errors }) => [index, code, errors[0]!.pointer]),
    [
      [1, 'line_invalid', '/fields/f'],
      [3, 'line_invalid', '/timestamp'],
    ],
  )
  assert.deepEqual(h.rows(), ['h good.f 1 1000000', 'h good.g x 2000000'])
  assert.deepEqual(h.kept(), [
    ['line_invalid', 'line-ms', 'bad,host=h f=on 1000'],
    ['line_invalid', 'line-ms', 'bad f=1 yesterday'],
  ])
})

test('partial writes, v1: the words by which Telegraf knows not to send again; also when none was taken', async (t) => {
  const h = await house(t)
  const some = await h.post('/write?db=x', partial, text)
  assert.equal(some.status, 400)
  assert.match(String(some.json['error']), /^partial write: 2 of 4 lines refused: Line 4/)
  assert.match(some.headers.get('x-influxdb-error') ?? '', /^partial write: /)
  const none = await h.post('/write?db=x', Array.from({ length: 9 }, () => 'm,host=h f=zürich').join('\n'), text)
  assert.equal(none.status, 400)
  assert.match(String(none.json['error']), /^partial write: 9 of 9 lines refused: Line 1.*; Line 5.*; and 4 more$/)
})

test('an Idempotency-Key makes lines without a time count once', async (t) => {
  const h = await house(t)
  const body = 'm,host=h f=1\nm,host=h f=1\n'
  for (let i = 0; i < 2; i++) assert.equal((await h.post('/api/v2/write', body, { ...text, 'idempotency-key': 'k1' })).status, 204)
  assert.equal(h.rows().length, 2)
  // The gate knows as well, when another door's answers do not.
  assert.equal((await h.post('/write', body, { ...text, 'idempotency-key': 'k1' })).status, 204)
  assert.equal(h.rows().length, 2)
  assert.equal((await h.post('/api/v2/write', 'm,host=h f=2', { ...text, 'idempotency-key': 'k1' })).status, 409)
})

test('credentials: Token, Bearer, Basic and u/p of v1; 401 in each API’s words', async (t) => {
  const h = await house(t, { auth: 'token' })
  const { token } = await h.tokens.create({ name: 'telegraf', scopes: ['ingest'] })
  const reader = await h.tokens.create({ name: 'reader', scopes: ['read'] })
  const basic = `Basic ${Buffer.from(`telegraf:${token}`).toString('base64')}`
  const line = 'm,host=h f=1 1000'
  const status = async (path: string, authorization?: string): Promise<number> =>
    (await h.post(path, line, { ...text, ...(authorization === undefined ? {} : { authorization }) })).status
  assert.equal(await status('/api/v2/write', `Token ${token}`), 204)
  assert.equal(await status('/api/v2/write', `Bearer ${token}`), 204)
  assert.equal(await status('/write', `Token ${token}`), 204)
  assert.equal(await status('/write', basic), 204)
  assert.equal(await status(`/write?u=telegraf&p=${token}`), 204)
  assert.equal(await status(`/query?p=${token}&q=CREATE+DATABASE+x`), 200)
  assert.equal(h.rows().length, 5)
  assert.equal(await status('/api/v2/write', basic), 401)
  assert.equal(await status('/write?u=telegraf&p=wrong'), 401)
  assert.equal(await status(`/api/v1/telemetry?p=${token}`), 401)
  assert.equal(await status('/write', `Token ${reader.token}`), 403)
  const v2 = await h.post('/api/v2/write', line, text)
  assert.deepEqual([v2.status, v2.json['code']], [401, 'unauthorized'])
  assert.match(v2.headers.get('www-authenticate') ?? '', /^Token /)
  const v1 = await h.post('/write', line, text)
  assert.equal(v1.status, 401)
  assert.equal(typeof v1.json['error'], 'string')
  assert.equal((await h.call('/ping')).status, 204)
  assert.equal(h.rows().length, 5)
})

test('/ping', async (t) => {
  const h = await house(t)
  for (const method of ['GET', 'HEAD']) {
    const reply = await h.call('/ping', { method })
    assert.equal(reply.status, 204)
    assert.equal(reply.headers.get('x-influxdb-version'), '1.8-kymo-1.2.3')
  }
  assert.deepEqual((await h.call('/ping?verbose=true')).json, { version: '1.8-kymo-1.2.3' })
})

test('/query takes CREATE DATABASE and refuses all else in words', async (t) => {
  const h = await house(t)
  for (const q of ['CREATE DATABASE telegraf', 'create database "my db";', 'CREATE DATABASE "x" WITH DURATION 30d NAME "rp"']) {
    assert.equal((await h.call(`/query?q=${encodeURIComponent(q)}`)).status, 200, q)
  }
  for (const q of [
    'SHOW DATABASES',
    'DROP DATABASE x',
    'CREATE DATABASE x; DROP DATABASE x',
    'SELECT * FROM cpu',
    'CREATE DATABASE',
    'x'.repeat(5_000),
  ]) {
    const reply = await h.post('/query', `q=${encodeURIComponent(q)}`, { 'content-type': 'application/x-www-form-urlencoded' })
    assert.equal(reply.status, 400, q)
    assert.match(String(reply.json['error']), /only CREATE DATABASE is answered.*\/api\/v1\/query/)
  }
  assert.match(String((await h.post('/query', '', text)).json['error']), /missing required parameter "q"/)
})

test('too large, badly packed, empty', async (t) => {
  const h = await house(t, { limits: { bodyBytesMax: 5_000 } })
  const line = 'm,host=h f=1 1000\n'
  for (const [path, key] of [
    ['/api/v2/write', 'message'],
    ['/write', 'error'],
  ] as const) {
    const large = await h.post(path, line.repeat(1_000), text)
    assert.equal(large.status, 413)
    assert.match(String(large.json[key]), /larger than 5000 bytes/)
    const bomb = await h.post(path, gzipSync(line.repeat(1_000)), { ...text, 'content-encoding': 'gzip' })
    assert.equal(bomb.status, 413)
    assert.equal((await h.post(path, 'no gzip', { ...text, 'content-encoding': 'gzip' })).status, 400)
    for (const nothing of ['', '\n\n', '# only a comment\n']) {
      const empty = await h.post(path, nothing, text)
      assert.deepEqual([empty.status, empty.json['kymo_code']], [400, 'empty_body'])
    }
  }
  assert.ok(h.kept().every(([, shape]) => shape === 'line-ns') && h.kept().length === 6)
  assert.equal((await h.post('/api/v2/write', line, { 'content-type': 'application/x-www-form-urlencoded' })).status, 204, 'curl --data-binary')
})

test('no room, and a log that does not take writes: 429 and 503 with Retry-After, in InfluxDB’s form', async (t) => {
  const s = await serve(t)
  s.gate.overloaded = true
  const busy = await s.post('/api/v2/write', 'm,host=h f=1', text)
  assert.deepEqual([busy.status, busy.json['code'], busy.headers.get('retry-after')], [429, 'too many requests', '1'])
  s.gate.stalled = new KymoError('disk_full')
  const full = await s.post('/write', 'm,host=h f=1', text)
  assert.deepEqual([full.status, full.headers.get('retry-after')], [503, '5'])
  assert.match(String(full.json['error']), /disk is full/)
})

test('a line that found no room is to be sent again, whatever else is wrong with the body', async (t) => {
  const s = await serve(t, { limits: { durableTimeoutMs: 50 } })
  s.gate.room = 1
  // The gate of this test reads JSON: here it only has to run full.
  const reply = await s.post('/api/v2/write', '{"device":"d"}\n{"device":"d"}\n', text)
  assert.deepEqual([reply.status, reply.json['code'], reply.json['accepted'], reply.json['rejected']], [429, 'too many requests', 1, 1])
  assert.ok(reply.headers.get('retry-after') !== null)
})

test('a large body leaves the loop to others', async (t) => {
  const h = await house(t)
  const fields = Array.from({ length: 10 }, (_, i) => `usage_${i}=${i}.5`).join(',')
  const lines = Array.from({ length: 50_000 }, (_, i) => `cpu,cpu=cpu${i % 64},host=h${i % 20} ${fields} ${1_700_000_000_000 + i}`).join('\n')
  // Without slices there are 8, 9 and 46 turns, in which the body arrives; with them 70, 23 and 270, and more on a busy machine.
  const bodies = [
    { body: lines, turnsMin: 30 },
    { body: '#\n'.repeat(3_500_000), turnsMin: 13 },
    { body: `m,host=h f="${'x"\n'.repeat(90_000)}`, turnsMin: 120 },
  ]
  for (const { body, turnsMin } of bodies) {
    // CPU time of this thread: on a busy machine the clock goes on while others run.
    let last = process.threadCpuUsage()
    let longest = 0
    let turns = 0
    const beat = (): void => {
      const { user, system } = process.threadCpuUsage(last)
      longest = Math.max(longest, (user + system) / 1e3)
      last = process.threadCpuUsage()
      turns++
      immediate = setImmediate(beat)
    }
    let immediate = setImmediate(beat)
    const reply = await h.post('/api/v2/write?precision=ms', body, text)
    clearImmediate(immediate)
    assert.ok(reply.status < 500, reply.text.slice(0, 200))
    t.diagnostic(`${body.length} bytes: ${reply.status}, ${turns} turns, the longest ${longest.toFixed(1)} ms`)
    // A slice is 5 ms; the client's own work, in this process too, is the rest.
    assert.ok(turns >= turnsMin && longest < 150, `${turns} turns, the longest ${longest} ms`)
  }
  assert.equal(h.rows().filter((row) => row.includes(' cpu.')).length, 500_000)
})
