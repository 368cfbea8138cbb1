import assert from 'node:assert/strict'
import net from 'node:net'
import test from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { openHttpDoor } from '../../src/doors/http/door.ts'
import { renderMetrics } from '../../src/doors/http/metrics-text.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { RawClient } from './raw.ts'
import { okStatus, serve } from './support.ts'

test('readyz is 503 until ready, livez is not asked for that', async (t) => {
  const s = await serve(t)
  s.door.setReady(false)
  assert.deepEqual([(await s.call('/livez')).text, (await s.call('/readyz')).text, (await s.call('/readyz')).status], ['ok\n', 'starting\n', 503])
  assert.deepEqual([(await s.call('/health')).status, (await s.call('/health')).json['status']], [503, 'starting'])
  s.door.setReady(true)
  assert.deepEqual([(await s.call('/readyz')).status, (await s.call('/readyz?verbose')).text], [200, '[+] http\n[+] ingest\n[+] store\nok\n'])
  const health = await s.call('/health')
  assert.deepEqual([health.status, health.json['status'], health.json['service'], health.json['version']], [200, 'healthy', 'kymo', '1.2.3'])
})

test('a part that fails shows in readyz?verbose and health', async (t) => {
  const s = await serve(t, { status: async () => ({ ...okStatus, components: [{ name: 'store', ok: false, detail: 'disk full' }] }) })
  assert.deepEqual(
    [(await s.call('/readyz?verbose')).status, (await s.call('/readyz?verbose')).text],
    [503, '[+] http\n[+] ingest\n[-] store: disk full\nnot ready\n'],
  )
  s.gate.stalled = new KymoError('log_quota')
  assert.match((await s.call('/readyz?verbose')).text, /\[-\] ingest: The log is at its quota/)
  assert.equal((await s.call('/health')).status, 503)
  const broken = await serve(t, { status: () => Promise.reject(new Error('no answer')) })
  assert.match((await broken.call('/readyz?verbose')).text, /\[-\] status: no answer/)
})

test('/api/v1/status: offsets beyond 2^53 keep their digits', async (t) => {
  const s = await serve(t)
  const { json } = await s.call('/api/v1/status')
  assert.equal(json['started_at'], '2023-11-14T22:13:20.000Z')
  assert.deepEqual(json['lag'], [
    {
      group: 'store',
      partition: 0,
      bytes: 20,
      earliest: '0',
      committed: '9007199254740993',
      end: '9007199254740995',
      oldest: '2023-11-14T22:13:20.000Z',
    },
  ])
})

test('/api/v1/status: how long what is kept, and what has gone', async (t) => {
  const removed_bytes = { age: 1, size: 2, rules: 3 }
  const rules = [
    { metrics: ['debug.*'], raw: '30d', series: 4 },
    { labels: { site: 'lab' }, minutes: '1y' },
  ]
  const retention = { raw: '90d', raw_from_us: 1_700_000_000_000_000, removed_bytes, due_files: 5, rules }
  const s = await serve(t, { status: () => Promise.resolve({ ...okStatus, retention }) })
  assert.deepEqual((await s.call('/api/v1/status')).json['retention'], {
    raw: '90d',
    minutes: null,
    hours: null,
    store_bytes_max: null,
    raw_from: '2023-11-14T22:13:20.000Z',
    removed_bytes,
    due_files: 5,
    rules: [
      { labels: null, metrics: ['debug.*'], raw: '30d', minutes: null, hours: null, series: 4 },
      { labels: { site: 'lab' }, metrics: null, raw: null, minutes: '1y', hours: null, series: null },
    ],
  })
})

test('/ is a health document for who does not ask for HTML', async (t) => {
  const s = await serve(t, { mqttPort: 18830 })
  const json = (await s.call('/')).json
  assert.deepEqual([json['status'], json['service'], json['version'], json['docs']], ['healthy', 'kymo', '1.2.3', '/docs'])
  assert.match(String(json['timestamp']), /Z$/)
  const status = (await s.call('/api/v1/status')).json
  assert.deepEqual([status['mqtt_port'], status['auth']], [18830, 'loopback'])
})

test('/metrics: our families, requests by route pattern, the process', async (t) => {
  const s = await serve(t)
  s.metrics.counter('kymo_ingest_messages_total', 'Messages.', { transport: 'http', result: 'accepted' }).value = 3
  await s.call('/api/v1/devices/some-device-id')
  await s.call('/nope')
  const reply = await s.call('/metrics')
  assert.equal(reply.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  assert.match(reply.text, /^kymo_ingest_messages_total\{transport="http",result="accepted"\} 3$/m)
  assert.match(reply.text, /^http_request_duration_seconds_count\{method="GET",route="\/api\/v1\/devices\/:id",status="404"\} 1$/m)
  assert.match(reply.text, /^http_request_duration_seconds_count\{method="GET",route="unmatched",status="404"\} 1$/m)
  assert.match(reply.text, /^kymo_build_info\{version="1.2.3",node="v\d+/m)
  assert.match(reply.text, /^process_cpu_seconds_total \d+(\.\d+)?$/m)
  assert.match(reply.text, /^process_resident_memory_bytes [1-9]\d{6,}$/m)
  assert.doesNotMatch(reply.text, /some-device-id/)
})

test('the text format: histograms add up, labels and help are escaped', () => {
  const metrics = new Metrics()
  const histogram = metrics.histogram('h_seconds', 'A\nb\\c', { x: 'q"\\\n' }, [0.1, 1])
  for (const value of [0.05, 0.1, 0.5, 5]) histogram.observe(value)
  metrics.gauge('g', 'G').value = Number.POSITIVE_INFINITY
  assert.equal(
    renderMetrics(metrics),
    [
      '# HELP h_seconds A\\nb\\\\c',
      '# TYPE h_seconds histogram',
      'h_seconds_bucket{x="q\\"\\\\\\n",le="0.1"} 2',
      'h_seconds_bucket{x="q\\"\\\\\\n",le="1"} 3',
      'h_seconds_bucket{x="q\\"\\\\\\n",le="+Inf"} 4',
      'h_seconds_sum{x="q\\"\\\\\\n"} 5.65',
      'h_seconds_count{x="q\\"\\\\\\n"} 4',
      '# HELP g G',
      '# TYPE g gauge',
      'g +Inf',
      '',
    ].join('\n'),
  )
})

test('a turn that holds the event loop shows, time spent waiting does not', async (t) => {
  const s = await serve(t)
  const longest = async (window: string): Promise<number> => {
    const { text } = await s.call('/metrics')
    return Number(new RegExp(`^kymo_event_loop_stall_max_seconds\\{window="${window}"\\} (\\S+)$`, 'm').exec(text)?.[1])
  }
  const held = async (): Promise<number> => Number(/^kymo_event_loop_stall_seconds_sum (\S+)$/m.exec((await s.call('/metrics')).text)?.[1])
  const [before, began] = [await held(), performance.now()]
  await new Promise((resolve) => setTimeout(resolve, 700))
  const waited = (performance.now() - began) / 1e3
  assert.ok((await held()) - before < waited / 2, 'time spent waiting is no stall')
  await new Promise<void>((resolve) =>
    setImmediate(() => {
      const end = performance.now() + 120
      while (performance.now() < end);
      resolve()
    }),
  )
  // The turn is counted at its end.
  await new Promise((resolve) => setImmediate(resolve))
  assert.ok((await longest('start')) >= 0.12)
  assert.ok((await longest('minute')) >= 0.12)
  const { text } = await s.call('/metrics')
  const count = (le: string): number =>
    Number(new RegExp(`^kymo_event_loop_stall_seconds_bucket\\{le="${le.replace('+', '\\+')}"\\} (\\d+)$`, 'm').exec(text)?.[1])
  assert.ok(count('+Inf') - count('0.1') >= 1)
})

test('draining: what is under way is finished, what comes anew is 503 and the connection closed', async (t) => {
  const s = await serve(t)
  let release = (): void => undefined
  s.gate.durability = () => new Promise((resolve) => (release = resolve))
  const pending = s.post('/api/v1/telemetry', { device: 'a', temperature: 1 })
  while (s.gate.taken.length === 0) await new Promise((resolve) => setImmediate(resolve))
  s.door.stopAccepting()
  const late = await s.post('/api/v1/telemetry', { device: 'b', temperature: 1 })
  assert.deepEqual(
    [late.status, late.json['code'], late.headers.get('connection'), late.headers.get('retry-after')],
    [503, 'shutting_down', 'close', '5'],
  )
  assert.deepEqual([(await s.call('/readyz')).text, (await s.call('/livez')).status, (await s.call('/metrics')).status], ['draining\n', 200, 200])
  const closed = s.door.close(5_000)
  release()
  assert.deepEqual([(await pending).status, (await pending).headers.get('connection')], [202, 'close'])
  await closed
  await assert.rejects(s.call('/livez'))
  assert.equal(s.gate.taken.length, 1)
})

test('close cuts what does not end in time', async (t) => {
  const s = await serve(t, { limits: { durableTimeoutMs: 100 } })
  s.gate.durability = () => new Promise(() => undefined)
  const pending = s.post('/api/v1/telemetry', { device: 'a', temperature: 1 })
  const refused = assert.rejects(pending)
  while (s.gate.taken.length === 0) await new Promise((resolve) => setImmediate(resolve))
  await s.door.close(20)
  await refused
})

test('a port that is taken: port_in_use with the port; extra ports are opened where free', async (t) => {
  const other = net.createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => other.once('listening', resolve))
  t.after(() => other.close())
  const taken = (other.address() as net.AddressInfo).port
  await assert.rejects(
    serve(t, { port: taken }),
    (error: unknown) => error instanceof KymoError && error.code === 'port_in_use' && error.details.facts?.['port'] === taken,
  )

  const free = net.createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => free.once('listening', resolve))
  const extra = (free.address() as net.AddressInfo).port
  await new Promise((resolve) => free.close(resolve))
  const s = await serve(t, { extraPorts: [taken, extra] })
  assert.deepEqual(s.door.ports, [s.door.port, extra])
  assert.equal(await (await fetch(`http://127.0.0.1:${extra}/livez`)).text(), 'ok\n')
})

test('HEAD is GET without its body; keep-alive serves many requests on one connection', async (t) => {
  const s = await serve(t)
  const head = await s.call('/', { method: 'HEAD' })
  assert.deepEqual([head.status, head.text], [200, ''])
  const client = new RawClient(s.door.port)
  const get = 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n'
  await client.send(get + get + get)
  assert.equal((await client.until(/(ok\n[^]*){3}/)).match(/HTTP\/1\.1 200 OK/g)!.length, 3)
  client.end()
})

test('the door opens without loading a validator or a serializer', async () => {
  const { createRequire } = await import('node:module')
  const loaded = Object.keys(createRequire(import.meta.url).cache).filter((path) =>
    /node_modules\/(ajv|@fastify\/swagger|prom-client|pino|fast-json-stringify\/index)/.test(path),
  )
  assert.deepEqual(loaded, [])
  assert.equal(typeof openHttpDoor, 'function')
})

test('a process with some roles answers for others with 421 and whom to ask; health and metrics are always there', async (t) => {
  const ingest = await serve(t, { serves: { ingest: true, api: false } })
  assert.equal((await ingest.post('/api/v1/telemetry', { device: 'a', temperature: 1 })).status, 202)
  const elsewhere = await ingest.call('/api/v1/devices')
  assert.deepEqual([elsewhere.status, elsewhere.json['code']], [421, 'other_role'])
  assert.match(String(elsewhere.json['detail']), /one with the role api answers questions/)
  const store = await serve(t, { serves: { ingest: false, api: false } })
  assert.equal((await store.post('/api/v1/telemetry', { device: 'a', temperature: 1 })).status, 421)
  for (const path of ['/livez', '/readyz', '/health', '/metrics', '/api/v1/status']) assert.equal((await store.call(path)).status, 200, path)
  assert.equal((await store.call('/readyz?verbose')).text, '[+] http\n[+] store\nok\n')
})
