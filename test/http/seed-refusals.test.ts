import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { serve } from './support.ts'
import type { TestReading } from './support.ts'

/** `n` messages of two devices. */
function street(n: number): TestReading[] {
  return Array.from({ length: n }, (_, i) =>
    ['a', 'b'].flatMap((device) =>
      ['temperature', 'humidity'].map((metric) => ({ device, metric, timeUs: 1_700_000_040_000_000 + i * 10e6, value: i })),
    ),
  ).flat()
}

/** Whatever is wrong is told with the field, as a problem that also has `error`: what the seeds' clients read. */
const lists = [
  '/telemetry',
  '/aggregated',
  '/devices/a/telemetry',
  '/devices/a/aggregates',
  '/historical-data',
  '/sensors',
  '/sensors/a/readings',
  '/analytics/devices/a/latest',
  '/analytics/summary',
  '/analytics/anomalies',
  '/analytics/low-battery',
  '/analytics/inactive',
]
const others = ['/stats', '/analytics/devices/a/statistics']

test('bad input: each route names the field, and answers a problem with error', async (t) => {
  const s = await serve(t)
  s.store.readings = street(3)
  for (const id of ['a', 'b']) await s.devices.create('default', { id })
  const wrong: (readonly [string, string])[] = lists.flatMap((path) => [
    [`${path}?limit=0`, '/limit'],
    [`${path}?limit=-1`, '/limit'],
    [`${path}?limit=1.5`, '/limit'],
    [`${path}?limit=ten`, '/limit'],
    [`${path}?limit=10001`, '/limit'],
    [`${path}?cursor=garbage`, '/cursor'],
    [`${path}?cursor=`, '/cursor'],
    [`${path}?cursor=${Buffer.from('[1,2,3]').toString('base64url')}`, '/cursor'],
    [`${path}?nonsense=1`, '/nonsense'],
  ])
  for (const path of lists.slice(0, 4).concat('/sensors/a/readings')) {
    wrong.push([`${path}?from=now&to=-1h`, '/to'], [`${path}?from=soon`, '/from'], [`${path}?to=2026-13-01T00:00:00Z`, '/to'])
  }
  wrong.push(
    ['/historical-data?start=now&end=-1h', '/end'],
    ['/historical-data?start=x', '/start'],
    ['/historical-data?hours=0', '/hours'],
    ['/historical-data?hours=24&end=now', '/hours'],
    ['/telemetry?order=up', '/order'],
    ['/telemetry?device_id=', '/device_id'],
    [`/telemetry?device_id=${'x'.repeat(257)}`, '/device_id'],
    ['/analytics/anomalies?threshold_stddev=-1', '/threshold_stddev'],
    ['/analytics/anomalies?threshold_stddev=two', '/threshold_stddev'],
    ['/analytics/anomalies?hours=0', '/hours'],
    ['/analytics/summary?hours=1e9', '/hours'],
    ['/analytics/low-battery?threshold=low', '/threshold'],
    ['/analytics/inactive?minutes=0', '/minutes'],
    ['/analytics/devices/a/statistics?hours=x', '/hours'],
    ['/stats?x=1', '/x'],
  )
  for (const [path, pointer] of wrong) {
    const reply = await s.call(path)
    assert.equal(reply.status, 400, path)
    assert.match(reply.headers.get('content-type') ?? '', /^application\/problem\+json/)
    assert.equal((reply.json['errors'] as { pointer: string }[])[0]?.pointer, pointer, path)
    assert.ok(String(reply.json['error']).includes(pointer), `${path} ${String(reply.json['error'])}`)
  }
  for (const path of [
    '/devices/none/telemetry',
    '/devices/none/aggregates',
    '/telemetry?device_id=none',
    '/aggregated?device_id=none',
    '/historical-data?sensor_id=none',
    '/sensors/none/readings',
    '/analytics/devices/none/latest',
    '/analytics/devices/none/statistics',
  ]) {
    const reply = await s.call(path)
    assert.deepEqual([reply.status, reply.json['error'], reply.json['code']], [404, 'Device not found', 'device_not_found'], path)
  }
  // A cursor of one list is none of another, nor of the same list of another device.
  const cut = await s.call('/devices/a/telemetry?limit=1')
  const cursor = cut.headers.get('x-next-cursor')!
  for (const path of ['/telemetry', '/devices/b/telemetry', '/sensors/a/readings', '/aggregated', '/sensors', '/analytics/summary']) {
    const reply = await s.call(`${path}?limit=1&cursor=${cursor}`)
    assert.deepEqual([reply.status, reply.json['code']], [400, 'request_invalid'], path)
  }
})

test('a known device without readings is an empty list; what fails is 503 with the text of the route', async (t) => {
  const s = await serve(t)
  await s.devices.create('default', { id: 'a' })
  for (const path of ['/devices/a/telemetry', '/devices/a/aggregates', '/sensors/a/readings']) assert.deepEqual((await s.call(path)).json, [])
  s.store.slow = () => Promise.reject(new KymoError('store_unavailable'))
  s.store.readings = street(1)
  s.store.sql = () => Promise.reject(new KymoError('store_unavailable'))
  for (const path of [...lists, ...others]) {
    if (path === '/analytics/low-battery' || path === '/analytics/inactive') continue // from memory
    const reply = await s.call(path === '/historical-data' ? `${path}?start=2020-01-01` : path)
    assert.equal(reply.status, 503, path)
    assert.match(String(reply.json['error']), /^Failed to /, path)
    assert.ok(reply.headers.has('retry-after'))
  }
})

test('with tokens every list wants the scope read', async (t) => {
  const s = await serve(t, { auth: 'token' })
  const { token } = await s.tokens.create({ name: 'i', scopes: ['ingest'] })
  for (const path of [...lists, ...others]) {
    assert.equal((await s.call(path)).status, 401, path)
    assert.equal((await s.call(path, { headers: { authorization: `Bearer ${token}` } })).status, 403, path)
  }
})
