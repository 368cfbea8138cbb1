import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import test from 'node:test'
import { promisify } from 'node:util'
import { KymoError } from '../../src/core/errors.ts'
import { serve } from './support.ts'
import type { Served } from './support.ts'

const run = promisify(execFile)

/** The seeds' own lines, as printed there; only the port is ours. */
const s0Line = `curl -X POST "http://localhost:8000/sensor-data" \\
  -H "Content-Type: application/json" \\
  -d '{
    "sensor_id": "sensor_001",
    "temperature": 25.5,
    "humidity": 60.0,
    "location": "Office_A"
  }'`
const s3Line = `curl -X POST http://localhost:8001/ingest \\
  -H "Content-Type: application/json" \\
  -d '{
    "device_id": "dev-1",
    "temperature_c": 25.5,
    "humidity": 60.0
  }'`
const s3Short = `curl -X POST http://localhost:8001/ingest \\
  -H "Content-Type: application/json" \\
  -d '{"device_id": "test", "temperature_c": 25, "humidity": 50}'`

async function curl(s: Served, line: string): Promise<Record<string, unknown>> {
  const { stdout } = await run('sh', ['-c', `${line.replaceAll(/localhost:\d+/g, `localhost:${s.door.port}`)} -s`])
  return JSON.parse(stdout) as Record<string, unknown>
}

async function haveCurl(): Promise<boolean> {
  return run('curl', ['--version']).then(
    () => true,
    () => false,
  )
}

test("the seeds' curl lines work as printed", { skip: (await haveCurl()) ? false : 'curl is not installed' }, async (t) => {
  const s = await serve(t)
  const s0 = await curl(s, s0Line)
  assert.equal(s0['status'], 'success')
  assert.equal(s0['sensor_id'], 'sensor_001')
  assert.match(String(s0['timestamp']), /^\d{4}-\d\d-\d\dT/)
  assert.deepEqual(await curl(s, s3Line), { status: 'queued', device_id: 'dev-1' })
  assert.deepEqual(await curl(s, s3Short), { status: 'queued', device_id: 'test' })
  assert.equal((await curl(s, 'curl http://localhost:8002/health'))['status'], 'healthy')
  assert.equal((await curl(s, 'curl http://localhost:8000/'))['status'], 'healthy')
  assert.deepEqual(
    s.gate.taken.map((m) => m.context.shape),
    ['sensor-data', 'reading', 'reading'],
  )
})

test('S0 /sensor-data: one is 200 with its own time, an array counts, a mixed one is 207', async (t) => {
  const s = await serve(t)
  const one = await s.post('/sensor-data', { sensor_id: 's', temperature: 1, timestamp: '2024-01-01T00:00:00Z' })
  assert.deepEqual(
    [one.status, one.json],
    [200, { status: 'success', message: 'Sensor data stored', sensor_id: 's', timestamp: '2024-01-01T00:00:00Z' }],
  )
  // What the gate says, not what the clock says when it is durable.
  for (const time of [{}, { timestamp: 1_700_000_000_123 }])
    assert.equal((await s.post('/sensor-data', { sensor_id: 's', temperature: 1, ...time })).json['timestamp'], '2023-11-14T22:13:20.123456Z')
  const all = await s.post('/sensor-data', [
    { sensor_id: 'a', temperature: 1 },
    { sensor_id: 'b', temperature: 1 },
  ])
  assert.deepEqual([all.status, all.json['status'], all.json['accepted']], [200, 'success', 2])
  const mixed = await s.post('/sensor-data', [{ sensor_id: 'a', temperature: 1 }, { temperature: 1 }])
  assert.deepEqual([mixed.status, mixed.json['accepted'], mixed.json['rejected'], mixed.json['error']], [207, 1, 1, '1 of 2 readings stored'])
  const none = await s.post('/sensor-data', { temperature: 1 })
  assert.equal(none.status, 422)
  assert.match(String(none.json['error']), /\/device/)
})

test('/ingest by body: S2 errors are 400, S3 errors 422, anything else 400 naming both shapes', async (t) => {
  const s = await serve(t)
  const s2 = await s.post('/ingest', { device_id: 'a', metric: 'temperature', value: 1.5, unit: 'C' })
  assert.deepEqual([s2.status, s2.json], [200, { message: 'Data ingested successfully' }])
  assert.equal(s.gate.taken.at(-1)!.context.shape, 'data-point')
  const s3 = await s.post('/ingest', { device_id: 'a', temperature_c: 1.5, humidity: 40 })
  assert.deepEqual([s3.status, s3.json], [200, { status: 'queued', device_id: 'a' }])
  const bad2 = await s.post('/ingest', { device_id: 'a', metric: 'temperature', value: '25' })
  assert.deepEqual([bad2.status, bad2.json['status'], bad2.json['code']], [400, 400, 'value_invalid'])
  assert.match(String(bad2.json['error']), /\/value: must be a number/)
  const bad3 = await s.post('/ingest', { temperature_c: 25, humidity: 50 })
  assert.deepEqual([bad3.status, bad3.json['code']], [422, 'device_missing'])
  for (const body of [{ device_id: 'a', battery: 1 }, [{ device_id: 'a', metric: 'x', value: 1 }], 5, null]) {
    const other = await s.post('/ingest', body)
    assert.deepEqual([other.status, other.json['code']], [400, 'shape_unknown'], JSON.stringify(body))
    assert.match(String(other.json['error']), /"metric".*"temperature_c"/)
    assert.equal(s.gate.letters.at(-1)!.bytes.toString(), JSON.stringify(body))
  }
  const broken = await s.post('/ingest', '{"device_id":')
  assert.deepEqual([broken.status, broken.json['code']], [400, 'body_not_json'])
})

test('S2 /ingest/batch: 200, else 207 with message, error and results; not an array is 400', async (t) => {
  const s = await serve(t)
  const point = (value: unknown): unknown => ({ device_id: 'a', metric: 'm', value })
  const all = await s.post('/ingest/batch', [point(1), point(2)])
  assert.deepEqual([all.status, all.json], [200, { message: 'Batch data ingested successfully', results: [], accepted: 2, rejected: 0 }])
  const mixed = await s.post('/ingest/batch', [point(1), point('x')])
  assert.equal(mixed.status, 207)
  assert.equal(mixed.json['message'], '1 of 2 items ingested')
  assert.match(String(mixed.json['error']), /1 of 2/)
  assert.deepEqual(
    (mixed.json['results'] as { index: number; status: number; code: string }[]).map((r) => [r.index, r.status, r.code]),
    [[1, 400, 'value_invalid']],
  )
  const object = await s.post('/ingest/batch', point(1))
  assert.deepEqual([object.status, object.json['code']], [400, 'shape_unknown'])
})

test("with the log down the seeds' texts come with 503", async (t) => {
  const s = await serve(t)
  s.gate.stalled = new KymoError('log_unavailable')
  const texts = [
    ['/ingest', 'Failed to ingest data'],
    ['/ingest/batch', 'Failed to ingest batch data'],
    ['/sensor-data', 'Failed to ingest data'],
  ] as const
  for (const [path, text] of texts) {
    const reply = await s.post(path, [])
    assert.deepEqual([reply.status, reply.json['error'], reply.headers.get('retry-after')], [503, text, '5'])
  }
})

test('S2 devices: register, read, set status; the server makes the id', async (t) => {
  const s = await serve(t)
  const made = await s.post('/devices', { id: 'mine', name: 'Test Device', type: 'sensor', tenant_id: 'test-tenant', metadata: { a: 1 } })
  assert.equal(made.status, 201)
  const id = String(made.json['id'])
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4/)
  for (const [name, value] of Object.entries({ device_id: id, name: 'Test Device', type: 'sensor', status: 'active', tenant_id: 'test-tenant' }))
    assert.equal(made.json[name], value)
  assert.deepEqual(made.json['metadata'], { a: 1 })
  for (const name of ['created_at', 'updated_at', 'last_seen']) assert.match(String(made.json[name]), /^\d{4}-.*Z$/)

  assert.deepEqual((await s.call(`/devices/${id}`)).json, made.json)
  const set = await s.call(`/devices/${id}/status`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: '{"status":"maintenance"}',
  })
  assert.deepEqual([set.status, set.json], [200, { message: 'Device status updated' }])
  const after = (await s.call(`/devices/${id}`)).json
  assert.equal(after['status'], 'maintenance')
  assert.ok(Date.parse(String(after['last_seen'])) > Date.parse(String(made.json['last_seen'])), 'setting its status counts as seeing it')
  // As Go's encoder writes the seed's Device with nothing but a name set.
  const zero = '0001-01-01T00:00:00Z'
  const go = { id: '', name: 'go', type: '', status: '', tenant_id: '', created_at: zero, updated_at: zero, last_seen: zero, metadata: null }
  const fromGo = await s.post('/devices', go)
  assert.deepEqual([fromGo.status, fromGo.json['name'], fromGo.json['status'], fromGo.json['metadata']], [201, 'go', 'active', {}])

  const missing = await s.call('/devices/none')
  assert.deepEqual([missing.status, missing.json['error']], [404, 'Device not found'])
  const wrong = await s.post('/devices', { name: 5 })
  assert.equal(wrong.status, 400)
  assert.equal(wrong.json['error'], '/name: must be string or null, is number')
  const empty = await s.call(`/devices/${id}/status`, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{}' })
  assert.equal(empty.status, 400)
  s.devices.failing = new KymoError('store_unavailable')
  assert.deepEqual(
    [(await s.post('/devices', {})).json['error'], (await s.call('/devices/x')).json['error']],
    ['Failed to register device', 'Failed to get device'],
  )
})

test('S3 /devices: a bare array of objects, or ids; what is cut says so', async (t) => {
  const s = await serve(t)
  for (const id of ['a', 'b', 'c']) await s.devices.create('default', { id })
  const all = await s.call('/devices')
  assert.deepEqual(
    (all.json as unknown as { device_id: string }[]).map((d) => d.device_id),
    ['a', 'b', 'c'],
  )
  assert.equal(all.headers.get('x-truncated'), null)
  const page = await s.call('/devices?fields=id&limit=2')
  assert.deepEqual(page.json, ['a', 'b'])
  assert.equal(page.headers.get('x-truncated'), 'true')
  const next = /<([^>]+)>; rel="next"/.exec(page.headers.get('link') ?? '')![1]!
  assert.deepEqual((await s.call(next)).json, ['c'])
})

test('S2 metrics and aggregates: numbers, bins by their start, anything not on the list is 400', async (t) => {
  const s = await serve(t)
  const minute = 60e6
  s.store.readings = Array.from({ length: 6 }, (_, i) => ({ device: 'a', metric: 'm', timeUs: 1_700_000_040_000_000 + i * 30e6, value: i }))
  const metrics = await s.call('/devices/a/metrics?metric=m&startTime=2023-11-14T22:14:00Z&endTime=2023-11-14T22:15:00Z')
  assert.deepEqual(metrics.json, {
    metrics: [
      { time: '2023-11-14T22:14:00.000Z', value: 0 },
      { time: '2023-11-14T22:14:30.000Z', value: 1 },
    ],
  })
  const bins = await s.call('/devices/a/aggregated?metric=m&aggregation=sum&interval=1m')
  assert.deepEqual(
    (bins.json['metrics'] as { value: number }[]).map((b) => b.value),
    [1, 5, 9],
  )
  assert.equal(s.store.asked.at(-1)!.stepUs, minute)
  assert.deepEqual((await s.call('/devices/none/metrics?metric=m')).json, { metrics: [] })
  const cut = await s.call('/devices/a/metrics?metric=m&limit=4')
  assert.equal(cut.json['truncated'], true)
  const rest = await s.call(/<([^>]+)>/.exec(cut.headers.get('link') ?? '')![1]!)
  assert.deepEqual(
    (rest.json['metrics'] as { value: number }[]).map((b) => b.value),
    [4, 5],
  )
  for (const query of [
    'metric=m&aggregation=median&interval=1m',
    "metric=m&aggregation=avg&interval=1m'; DROP TABLE x",
    'metric=m&aggregation=avg',
    'aggregation=avg&interval=1m',
  ]) {
    const wrong = await s.call(`/devices/a/aggregated?${query}`)
    assert.equal(wrong.status, 400, query)
    assert.equal(typeof wrong.json['error'], 'string')
  }
  const badTime = await s.call('/devices/a/metrics?metric=m&startTime=soon')
  assert.match(String(badTime.json['error']), /^The query parameter startTime is not a time\. \/startTime: must be RFC 3339/)
  s.store.slow = () => Promise.reject(new KymoError('store_unavailable'))
  const down = [await s.call('/devices/a/metrics?metric=m'), await s.call('/devices/a/aggregated?metric=m&aggregation=avg&interval=1h')]
  assert.deepEqual(
    down.map((r) => [r.status, r.json['error']]),
    [
      [503, 'Failed to query metrics'],
      [503, 'Failed to query aggregated metrics'],
    ],
  )
})
