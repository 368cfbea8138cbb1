import assert from 'node:assert/strict'
import test from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { serve } from './support.ts'

const key = { 'idempotency-key': 'k-1' }
const body = [
  { device: 'a', temperature: 1 },
  { device: 'b', temperature: 2 },
]

test('the gate learns key and index; the same again is answered the same and taken once', async (t) => {
  const s = await serve(t)
  const first = await s.post('/api/v1/telemetry', body, key)
  assert.equal(first.headers.get('idempotent-replayed'), null)
  assert.deepEqual(
    s.gate.taken.map((m) => [m.context.idempotencyKey, m.context.item]),
    [
      ['k-1', 0],
      ['k-1', 1],
    ],
  )
  const again = await s.post('/api/v1/telemetry', body, key)
  assert.deepEqual([again.status, again.text, again.headers.get('idempotent-replayed')], [first.status, first.text, 'true'])
  assert.equal(s.gate.taken.length, 2)
})

test('another body under the same key is 409; another path is another key', async (t) => {
  const s = await serve(t)
  await s.post('/api/v1/telemetry', body, key)
  const other = await s.post('/api/v1/telemetry', [body[0]], key)
  assert.deepEqual([other.status, other.json['code']], [409, 'idempotency_conflict'])
  assert.equal((await s.post('/sensor-data', body, key)).status, 200)
})

test('the second of two at the same time waits for the first', async (t) => {
  const s = await serve(t)
  let release = (): void => undefined
  s.gate.durability = () => new Promise((resolve) => (release = resolve))
  const first = s.post('/api/v1/telemetry', body, key)
  while (s.gate.taken.length < 2) await new Promise((resolve) => setImmediate(resolve))
  const second = s.post('/api/v1/telemetry', body, key)
  await s.call('/livez')
  release()
  const replies = await Promise.all([first, second])
  assert.deepEqual(
    replies.map((r) => r.status),
    [202, 202],
  )
  assert.deepEqual(replies.map((r) => r.headers.get('idempotent-replayed')).sort(), [null, 'true'])
  assert.equal(s.gate.taken.length, 2)
})

test('a refusal is final and kept; a failure that passes is not', async (t) => {
  const s = await serve(t)
  const refused = [await s.post('/api/v1/telemetry', { x: 1 }, key), await s.post('/api/v1/telemetry', { x: 1 }, key)]
  assert.deepEqual(
    refused.map((r) => r.status),
    [422, 422],
  )
  assert.equal(refused[1]!.headers.get('idempotent-replayed'), 'true')
  assert.equal(s.gate.letters.length, 1)

  const later = { 'idempotency-key': 'k-2' }
  s.gate.durability = () => Promise.reject(new KymoError('disk_full'))
  assert.equal((await s.post('/api/v1/telemetry', body, later)).status, 503)
  s.gate.durability = () => Promise.resolve()
  const retried = await s.post('/api/v1/telemetry', body, later)
  assert.deepEqual([retried.status, retried.headers.get('idempotent-replayed')], [202, null])
})

test('a batch partly refused for lack of room may be completed under the same key', async (t) => {
  const s = await serve(t, { limits: { durableTimeoutMs: 20 } })
  s.gate.room = 1
  assert.equal((await s.post('/api/v1/telemetry', body, key)).status, 207)
  s.gate.giveRoom()
  assert.deepEqual((await s.post('/api/v1/telemetry', body, key)).json, { accepted: 2, rejected: 0 })
})

test('kept answers are bounded by count, by bytes and by age', async (t) => {
  const s = await serve(t, { limits: { idempotencyKeysMax: 3 } })
  for (let i = 0; i < 6; i++) await s.post('/api/v1/telemetry', body, { 'idempotency-key': `n${i}` })
  const replayed = async (n: number): Promise<string | null> =>
    (await s.post('/api/v1/telemetry', body, { 'idempotency-key': `n${n}` })).headers.get('idempotent-replayed')
  assert.equal(await replayed(5), 'true')
  assert.equal(await replayed(0), null)

  const small = await serve(t, { limits: { idempotencyBytesMax: 1000 } })
  for (let i = 0; i < 6; i++) await small.post('/api/v1/telemetry', body, { 'idempotency-key': `n${i}` })
  assert.equal((await small.post('/api/v1/telemetry', body, { 'idempotency-key': 'n0' })).headers.get('idempotent-replayed'), null)

  const brief = await serve(t, { limits: { idempotencyAgeMaxMs: -1 } })
  await brief.post('/api/v1/telemetry', body, key)
  assert.equal((await brief.post('/api/v1/telemetry', body, key)).headers.get('idempotent-replayed'), null)
})

test('a key must be visible ASCII of at most 255 characters', async (t) => {
  const s = await serve(t)
  for (const wrong of ['', 'x'.repeat(256), 'é']) {
    const reply = await s.post('/api/v1/telemetry', body, { 'idempotency-key': wrong })
    assert.deepEqual([reply.status, reply.json['code']], [400, 'request_invalid'], wrong)
  }
  assert.equal(s.gate.submits, 0)
})
