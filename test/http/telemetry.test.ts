import assert from 'node:assert/strict'
import test from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { limits } from '../../src/core/limits.ts'
import { serve } from './support.ts'

const reading = (n: number): unknown => ({ device: `d${n}`, temperature: n })

test('one message is taken: 202, with who sent it and through which path', async (t) => {
  const s = await serve(t)
  const reply = await s.post('/api/v1/telemetry', reading(1))
  assert.equal(reply.status, 202)
  assert.deepEqual(reply.json, { accepted: 1, rejected: 0 })
  const { context, document } = s.gate.taken[0]!
  assert.deepEqual(document, { device: 'd1', temperature: 1 })
  assert.deepEqual(
    [context.transport, context.tenant, context.topic, context.shape, context.client],
    ['http', 'default', '/api/v1/telemetry', 'any', '127.0.0.1'],
  )
})

test('the answer waits for durability', async (t) => {
  const s = await serve(t)
  let release = (): void => undefined
  s.gate.durability = () => new Promise((resolve) => (release = resolve))
  let answered = false
  const pending = s.post('/api/v1/telemetry', reading(1)).then((reply) => ((answered = true), reply))
  while (s.gate.taken.length === 0) await new Promise((resolve) => setImmediate(resolve))
  await new Promise((resolve) => setTimeout(resolve, 30))
  assert.equal(answered, false)
  release()
  assert.equal((await pending).status, 202)
})

test('not durable is 503, never 202', async (t) => {
  const s = await serve(t)
  s.gate.durability = () => Promise.reject(new KymoError('disk_full'))
  const reply = await s.post('/api/v1/telemetry', reading(1))
  assert.equal(reply.status, 503)
  assert.equal(reply.json['code'], 'disk_full')
  assert.equal(reply.headers.get('retry-after'), '5')
})

test('an array: 202 all, 207 mixed, 422 none; each item has its index', async (t) => {
  const s = await serve(t)
  const all = await s.post('/api/v1/telemetry', [reading(1), reading(2)])
  assert.deepEqual([all.status, all.json], [202, { accepted: 2, rejected: 0 }])
  assert.deepEqual(
    s.gate.taken.map((m) => m.context.item),
    [0, 1],
  )

  const mixed = await s.post('/api/v1/telemetry', [reading(1), { temperature: 5 }, reading(3), { device: 'x', temperature: '25' }])
  assert.equal(mixed.status, 207)
  assert.deepEqual(mixed.json, {
    accepted: 2,
    rejected: 2,
    results: [
      {
        index: 1,
        status: 422,
        code: 'device_missing',
        detail: new KymoError('device_missing').message,
        errors: [{ pointer: '/device', detail: 'is missing' }],
      },
      {
        index: 3,
        status: 422,
        code: 'value_invalid',
        detail: new KymoError('value_invalid').message,
        errors: [{ pointer: '/temperature', detail: 'must be a number' }],
      },
    ],
  })

  const none = await s.post('/api/v1/telemetry', [{ a: 1 }, { device: 'x', value: 'y' }])
  assert.equal(none.status, 422)
  assert.equal(none.headers.get('content-type'), 'application/problem+json; charset=utf-8')
  assert.equal(none.json['rejected'], 2)
  assert.equal((none.json['results'] as unknown[]).length, 2)
})

test('a single message that is refused answers with its own status', async (t) => {
  const s = await serve(t)
  const broken = await s.post('/api/v1/telemetry', '{"device":')
  assert.equal(broken.status, 400)
  assert.equal(broken.json['code'], 'body_not_json')
  assert.equal(broken.json['status'], 400)
  const wrong = await s.post('/api/v1/telemetry', { temperature: 1 })
  assert.equal(wrong.status, 422)
  assert.deepEqual(wrong.json['errors'], [{ pointer: '/device', detail: 'is missing' }])
  assert.equal(s.gate.letters.length, 2)
})

test('a broken item or a broken array does not touch the items before it', async (t) => {
  const s = await serve(t)
  const item = await s.post('/api/v1/telemetry', '[{"device":"a","v":1},{bad},{"device":"b","v":2}]')
  assert.deepEqual([item.status, item.json['accepted'], item.json['rejected']], [207, 2, 1])
  const cut = await s.post('/api/v1/telemetry', '[{"device":"a","v":1},{"device":"b","v":2},{"device"')
  assert.deepEqual([cut.status, cut.json['accepted'], cut.json['rejected']], [207, 2, 1])
  assert.equal(s.gate.letters.at(-1)!.bytes.toString(), '{"device"')
})

test('NDJSON by content type and by its looks; blank lines are no items', async (t) => {
  const s = await serve(t)
  const lines = '{"device":"a","v":1}\r\n\n{"device":"b","v":2}\n{"v":3}\n'
  const told = await s.post('/api/v1/telemetry', lines, { 'content-type': 'application/x-ndjson' })
  assert.deepEqual([told.status, told.json['accepted'], told.json['rejected']], [207, 2, 1])
  assert.equal((told.json['results'] as { index: number }[])[0]!.index, 2)
  const sniffed = await s.post('/api/v1/telemetry', lines)
  assert.deepEqual([sniffed.status, sniffed.json['accepted'], sniffed.json['rejected']], [207, 2, 1])
  const pretty = await s.post('/api/v1/telemetry', '{\n "device":"a",\n "values": {"x":1}\n}\n')
  assert.deepEqual([pretty.status, pretty.json], [202, { accepted: 1, rejected: 0 }])
})

test('an empty array is nothing to refuse; an empty body is', async (t) => {
  const s = await serve(t)
  assert.deepEqual((await s.post('/api/v1/telemetry', '[]')).json, { accepted: 0, rejected: 0 })
  for (const body of ['', '  \n']) {
    const reply = await s.post('/api/v1/telemetry', body)
    assert.deepEqual([reply.status, reply.json['code']], [400, 'empty_body'])
  }
})

test('text/plain, no type, and what curl -d sends are taken when they are JSON; XML is 415 and kept', async (t) => {
  const s = await serve(t)
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/senml+json', 'application/json; charset=utf-8']) {
    assert.equal((await s.post('/api/v1/telemetry', reading(1), { 'content-type': type })).status, 202, type)
  }
  const xml = await s.post('/api/v1/telemetry', '<a/>', { 'content-type': 'application/xml' })
  assert.deepEqual([xml.status, xml.json['code']], [415, 'media_type'])
  assert.equal(s.gate.letters.at(-1)!.bytes.toString(), '<a/>')
  assert.equal(s.gate.letters.at(-1)!.context.contentType, 'application/xml')
})

test('a large batch tells the first refusals and counts the others', async (t) => {
  const s = await serve(t, { limits: { resultsMax: 3 } })
  const reply = await s.post('/api/v1/telemetry', [reading(0), ...Array.from({ length: 10 }, () => ({ bad: 1 }))])
  assert.equal(reply.json['rejected'], 10)
  assert.equal((reply.json['results'] as unknown[]).length, 3)
  assert.equal(reply.json['results_omitted'], 7)
})

test('more items than the limit: those within it are taken, the rest is refused and kept', async (t) => {
  const s = await serve(t, { limits: { batchItemsMax: 2 } })
  const reply = await s.post('/api/v1/telemetry', [reading(1), reading(2), reading(3)])
  assert.deepEqual([reply.status, reply.json['accepted'], reply.json['rejected']], [207, 2, 1])
  assert.deepEqual(
    (reply.json['results'] as { status: number; code: string }[]).map((r) => [r.status, r.code]),
    [[413, 'batch_too_long']],
  )
  assert.match(s.gate.letters[0]!.bytes.toString(), /"d3"/)
})

test('overloaded: nothing taken is 429 with Retry-After', async (t) => {
  const s = await serve(t)
  s.gate.overloaded = true
  const reply = await s.post('/api/v1/telemetry', [reading(1), reading(2)])
  assert.deepEqual([reply.status, reply.json['code'], reply.headers.get('retry-after')], [429, 'overloaded', '1'])
})

test('overloaded within a batch: waits for room and loses nothing', async (t) => {
  const s = await serve(t)
  s.gate.room = 2
  const pending = s.post('/api/v1/telemetry', [1, 2, 3, 4].map(reading))
  while (!s.gate.overloaded) await new Promise((resolve) => setImmediate(resolve))
  s.gate.giveRoom()
  assert.deepEqual((await pending).json, { accepted: 4, rejected: 0 })
  assert.deepEqual(
    s.gate.taken.map((m) => (m.document as { device: string }).device),
    ['d1', 'd2', 'd3', 'd4'],
  )
})

test('room that does not come: what was taken is acknowledged, the rest is 429 item by item', async (t) => {
  const s = await serve(t, { limits: { durableTimeoutMs: 20 } })
  s.gate.room = 1
  const reply = await s.post('/api/v1/telemetry', [1, 2, 3].map(reading))
  assert.deepEqual([reply.status, reply.json['accepted'], reply.json['rejected']], [207, 1, 2])
  assert.deepEqual(
    (reply.json['results'] as { index: number; status: number }[]).map((r) => [r.index, r.status]),
    [
      [1, 429],
      [2, 429],
    ],
  )
})

test('what was taken when the log stalls is 503 soon, and may be sent again under its key', async (t) => {
  const s = await serve(t, { limits: { stalledLookMs: 20 } })
  let durable = (): void => undefined
  s.gate.durability = () => new Promise((resolve) => (durable = resolve))
  const key = { 'idempotency-key': 'k1' }
  const pending = s.post(
    '/api/v1/telemetry',
    [
      { device: 'a', v: 1 },
      { device: 'b', v: 2 },
    ],
    key,
  )
  while (s.gate.taken.length < 2) await new Promise((resolve) => setImmediate(resolve))
  s.gate.stalled = new KymoError('disk_full', { detail: 'The disk is full.', retryAfterS: 2 })
  const reply = await pending
  assert.deepEqual([reply.status, reply.json['code'], reply.headers.get('retry-after')], [503, 'disk_full', '2'])
  assert.match(String(reply.json['detail']), /^The disk is full\. .*may still become durable.*counts once.*Idempotency-Key/)
  durable()
  s.gate.stalled = undefined
  s.gate.durability = () => Promise.resolve()
  const again = await s.post(
    '/api/v1/telemetry',
    [
      { device: 'a', v: 1 },
      { device: 'b', v: 2 },
    ],
    key,
  )
  assert.deepEqual([again.status, again.headers.get('idempotent-replayed'), s.gate.taken.length], [202, null, 4])
  assert.deepEqual([s.gate.taken[3]!.context.idempotencyKey, s.gate.taken[3]!.context.item], ['k1', 1])
})

test('a stall that passes between two looks is waited out', async (t) => {
  const looks: (() => void)[] = []
  const { env } = await serve(t)
  const after = (ms: number, fn: () => void): { cancel(): void } => {
    if (ms !== 77) return env.clock.after(ms, fn)
    looks.push(fn)
    return { cancel: () => undefined }
  }
  const clock = { nowUs: () => env.clock.nowUs(), monotonicMs: () => env.clock.monotonicMs(), after }
  const s = await serve(t, { limits: { stalledLookMs: 77 }, env: { ...env, clock } })
  let durable = (): void => undefined
  s.gate.durability = () => new Promise((resolve) => (durable = resolve))
  const pending = s.post('/api/v1/telemetry', { device: 'a', v: 1 })
  while (looks.length === 0) await new Promise((resolve) => setImmediate(resolve))
  for (const stalled of [true, false, true, false]) {
    s.gate.stalled = stalled ? new KymoError('log_unavailable') : undefined
    looks.at(-1)!()
  }
  durable()
  assert.equal((await pending).status, 202)
})

test('a stalled log is 503 before anything is taken', async (t) => {
  const s = await serve(t)
  s.gate.stalled = new KymoError('log_quota', { retryAfterS: 7 })
  const reply = await s.post('/api/v1/telemetry', reading(1))
  assert.deepEqual([reply.status, reply.json['code'], reply.headers.get('retry-after')], [503, 'log_quota', '7'])
  assert.equal(s.gate.submits, 0)
})

test('of refused items only so many wait for durability at a time; none is lost, and the answer counts all', async (t) => {
  const s = await serve(t)
  let durableLetters = 0
  let most = 0
  s.gate.durability = () => {
    most = Math.max(most, s.gate.letters.length - durableLetters)
    durableLetters = s.gate.letters.length
    return Promise.resolve()
  }
  const count = 3 * limits.httpRefusedPendingMax + 7
  const reply = await s.post('/api/v1/telemetry', [reading(1), ...Array.from({ length: count }, () => ({ temperature: 1 })), reading(2)])
  assert.deepEqual([reply.status, reply.json['accepted'], reply.json['rejected']], [207, 2, count])
  assert.deepEqual([s.gate.letters.length, durableLetters], [count, count])
  assert.equal(most, limits.httpRefusedPendingMax)
})

test('a bystander is answered before a body whose one item is looked through in steps', async (t) => {
  const s = await serve(t)
  let bystander: Promise<number> | undefined
  const order: string[] = []
  const submit = s.gate.submit.bind(s.gate)
  s.gate.submit = (...o) => {
    // With the first item taken the others of this body are still to be found.
    bystander ??= fetch(`${s.url}/livez`).then((answer) => (order.push('bystander'), answer.status))
    return submit(...o)
  }
  const long = `{"device":"long","note":"${'x'.repeat(7 << 20)}"}`
  const reply = await s.post('/api/v1/telemetry', `[{"device":"a","temperature":1},${long},{"device":"b","temperature":2}]`)
  order.push('body')
  assert.equal(await bystander, 200)
  assert.deepEqual([reply.status, order], [202, ['bystander', 'body']])
  assert.deepEqual(
    s.gate.taken.map((m) => m.context.item),
    [0, 1, 2],
  )
})

test('a large batch does not hold up others', async (t) => {
  const s = await serve(t, { limits: { sliceMs: 1 } })
  const big = s.post(
    '/api/v1/telemetry',
    Array.from({ length: 50_000 }, (_, n) => reading(n)),
  )
  while (s.gate.taken.length === 0) await new Promise((resolve) => setImmediate(resolve))
  const before = s.gate.taken.length
  assert.equal((await s.call('/livez')).status, 200)
  assert.ok(before < 50_000 && s.gate.taken.length < 50_000, 'another request was answered while the batch was under way')
  assert.deepEqual((await big).json, { accepted: 50_000, rejected: 0 })
})
