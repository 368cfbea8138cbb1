import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import test from 'node:test'
import { createClient, KymoError } from '../../src/client/index.ts'
import { operationsOf, schemaSource } from '../../tools/client.ts'
import { isObject } from '../../tools/client-types.ts'
import type { Node } from '../../tools/client-types.ts'
import { json, scripted } from './support.ts'
import type { Sent } from './support.ts'

const root = path.resolve(import.meta.dirname, '../..')
const document = JSON.parse(readFileSync(path.join(root, 'docs/reference/openapi.json'), 'utf8')) as Node
const operations = operationsOf(document)

/** Rejects with KymoError; gives it. */
async function refused(call: Promise<unknown>): Promise<KymoError> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof KymoError) return error
  return assert.fail(`no KymoError but ${String(error)}`)
}

test('every operation of the document is a method, and asks with its method at its path', async (t) => {
  assert.ok(operations.length > 50)
  for (const operation of operations) {
    await t.test(`${operation.id}: client.${operation.group}.${operation.name}`, async () => {
      const { client, sent } = scripted([new Response('{}', { headers: { 'content-type': 'application/json' } })])
      const group: unknown = Reflect.get(client, operation.group)
      assert.ok(isObject(group))
      const call = group[operation.name]
      assert.ok(typeof call === 'function')
      const inPath = [...operation.path.matchAll(/\{([^}]+)\}/g)].map((match) => [match[1]!, 'a b/c'])
      const body = operation.bodyType === undefined ? {} : { body: operation.bodyType.includes('json') ? { a: 1 } : 'text' }
      await (call as (request: unknown) => Promise<unknown>)({ ...Object.fromEntries(inPath), ...body })
      const [request] = sent
      assert.equal(request!.method, operation.method)
      assert.equal(request!.url.pathname, operation.path.replaceAll(/\{[^}]+\}/g, 'a%20b%2Fc'))
      assert.equal(request!.headers.get('content-type'), operation.bodyType ?? null)
      assert.equal(request!.headers.has('idempotency-key'), operation.headers.includes('idempotency-key'))
    })
  }
})

test('parameters go where the document says: path, query, headers, body', async () => {
  const { client, sent } = scripted([json({})], { token: 'tk_1', url: 'http://kymo.test/behind/a/proxy/', headers: { 'x-site': 'a' } })
  await client.readings.query({ device: ['a', 'b,c'], metric: 'x,y', from: '-1h', limit: 5, cursor: undefined })
  await client.devices.update({ id: 'dév/1', ifMatch: '"7"', body: { name: 'n' } })
  await client.compatibility.influxWriteV2({ precision: 's', body: 'm,device=a v=1 1' })
  const [query, update, write] = sent as [Sent, Sent, Sent]
  assert.equal(query.url.pathname, '/behind/a/proxy/api/v1/query')
  assert.deepEqual(
    [...query.url.searchParams],
    [
      ['device', 'a'],
      ['device', 'b\\,c'],
      ['metric', 'x,y'],
      ['from', '-1h'],
      ['limit', '5'],
    ],
  )
  assert.equal(query.headers.get('authorization'), 'Bearer tk_1')
  assert.equal(query.headers.get('x-site'), 'a')
  assert.equal(update.url.pathname, '/behind/a/proxy/api/v1/devices/d%C3%A9v%2F1')
  assert.equal(update.headers.get('if-match'), '"7"')
  assert.equal(update.body, '{"name":"n"}')
  assert.equal(write.body, 'm,device=a v=1 1')
  assert.throws(() => createClient({ url: 'localhost:8080' }), /http:\/\/host:port is expected/)
  // These would be other routes: /api/v1/devices/ and /api/v1/.
  for (const id of ['', '.', '..']) await assert.rejects(client.devices.get({ id }), TypeError)
})

test('an error tells code, status, detail, fields, request and when to come back', async () => {
  const problem = {
    type: '/docs#error-value_invalid',
    title: 'A value is not valid.',
    status: 422,
    detail: 'The body does not fit.',
    code: 'value_invalid',
    id: 'KYMO-E305',
    request_id: 'r-1',
    errors: [{ pointer: '/name', detail: 'must be string' }],
  }
  const error = await refused(scripted([json(problem, { status: 422 })]).client.devices.create({ body: {} }))
  assert.equal(error.code, 'value_invalid')
  assert.equal(error.status, 422)
  assert.equal(error.message, 'The body does not fit.')
  assert.deepEqual(error.errors, [{ pointer: '/name', detail: 'must be string' }])
  assert.equal(error.requestId, 'r-1')
  assert.equal(error.retryAfter, undefined)
  assert.equal(error.problem.id, 'KYMO-E305')
  const busy = await refused(
    scripted([json({ code: 'overloaded' }, { status: 429, headers: { 'retry-after': '7' } })], { retries: 0 }).client.tokens.list(),
  )
  assert.equal(busy.retryAfter, 7)
  const dated = new Date(Date.now() + 60_000).toUTCString()
  const later = await refused(scripted([new Response('', { status: 503, headers: { 'retry-after': dated } })], { retries: 0 }).client.tokens.list())
  assert.ok(later.retryAfter! > 50 && later.retryAfter! <= 60)
  assert.equal(later.code, 'server_unreachable')
})

test('what is not of our server is said so: a proxy’s page with an error, or with success', async () => {
  const page = (status: number): Response => new Response('<h1>Bad gateway</h1>', { status, headers: { 'content-type': 'text/html' } })
  const bad = await refused(scripted([page(403)]).client.devices.list())
  assert.equal(bad.code, 'forbidden')
  assert.equal(bad.detail, '<h1>Bad gateway</h1>')
  const good = await refused(scripted([page(200)]).client.devices.list())
  assert.equal(good.code, 'answer_unexpected')
  assert.match(good.detail, /text\/html/)
})

test('no answer is server_unreachable; it names the reason, and a timeout ends an attempt', async () => {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  await new Promise((resolve) => server.close(resolve))
  const dead = createClient({ url: `http://127.0.0.1:${port}`, retries: 0 })
  const error = await refused(dead.devices.list())
  assert.equal(error.code, 'server_unreachable')
  assert.equal(error.status, 0)
  assert.equal(error.detail, `No answer from http://127.0.0.1:${port}: ECONNREFUSED`)
  const never = scripted([
    (_, signal) =>
      new Promise<Response>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })),
  ])
  const late = await refused(never.client.devices.list({}, { timeoutMs: 20, retries: 1 }))
  assert.match(late.detail, /nothing within 20 ms/)
  assert.equal(never.sent.length, 2)
})

test('429 and 503 are tried again, after Retry-After, as often as was said', async () => {
  const busy = json({ code: 'overloaded', detail: 'busy' }, { status: 503, headers: { 'retry-after': '0' } })
  const twice = scripted([busy, busy, json({ items: [], next_cursor: null })])
  assert.deepEqual(await twice.client.devices.list(), { items: [], next_cursor: null })
  assert.equal(twice.sent.length, 3)
  const often = scripted([busy])
  await refused(often.client.devices.list({}, { retries: 1 }))
  assert.equal(often.sent.length, 2)
  const wait = scripted([json({}, { status: 429, headers: { 'retry-after': '1' } }), json({ items: [], next_cursor: null })])
  const from = performance.now()
  await wait.client.devices.list()
  assert.ok(performance.now() - from >= 990)
  // Nobody is kept waiting for minutes: that is the caller's to decide.
  const long = scripted([json({}, { status: 429, headers: { 'retry-after': '3600' } })])
  assert.equal((await refused(long.client.devices.list())).retryAfter, 3600)
  assert.equal(long.sent.length, 1)
  const invalid = scripted([json({ code: 'value_invalid' }, { status: 422 })])
  await refused(invalid.client.devices.list())
  assert.equal(invalid.sent.length, 1)
})

test('only what may be repeated is: a POST has to have an Idempotency-Key, and keeps it', async () => {
  const busy = json({ code: 'overloaded' }, { status: 503, headers: { 'retry-after': '0' } })
  for (const attempt of [
    scripted([busy]).client.devices.create({ body: {} }),
    scripted([busy]).client.devices.update({ id: 'a', body: {} }),
    scripted([busy]).client.readings.sql({ body: { sql: 'SELECT 1' } }),
  ]) {
    await refused(attempt)
  }
  const create = scripted([busy])
  await refused(create.client.devices.create({ body: {} }))
  assert.equal(create.sent.length, 1)
  const telemetry = scripted([busy, busy, json({ accepted: 1, rejected: 0 }, { status: 202 })])
  assert.deepEqual(await telemetry.client.send({ device_id: 'a', v: 1 }), { accepted: 1, rejected: 0 })
  const keys = telemetry.sent.map(({ headers }) => headers.get('idempotency-key'))
  assert.equal(keys.length, 3)
  assert.match(keys[0]!, /^[0-9a-f]{32}$/)
  assert.equal(new Set(keys).size, 1)
  const own = scripted([json({ accepted: 1, rejected: 0 })])
  await own.client.send([{ device_id: 'a', v: 1 }], { idempotencyKey: 'mine' })
  await own.client.send([{ device_id: 'a', v: 1 }])
  assert.equal(own.sent[0]!.headers.get('idempotency-key'), 'mine')
  assert.notEqual(own.sent[1]!.headers.get('idempotency-key'), keys[0])
  assert.equal(own.sent[0]!.body, '[{"device_id":"a","v":1}]')
})

test('a signal ends a call under way, one between attempts, and one not yet begun, with its reason', async () => {
  const reason = new Error('enough')
  const hang = scripted([
    (_, signal) =>
      new Promise<Response>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })),
  ])
  const stop = new AbortController()
  const call = hang.client.devices.list({}, { signal: stop.signal })
  stop.abort(reason)
  await assert.rejects(call, reason)
  const busy = scripted([json({}, { status: 503, headers: { 'retry-after': '30' } })])
  const stopLater = new AbortController()
  const waiting = busy.client.devices.list({}, { signal: stopLater.signal, onResponse: () => setTimeout(() => stopLater.abort(reason), 5) })
  await assert.rejects(waiting, reason)
  assert.equal(busy.sent.length, 1)
  const none = scripted([json({})])
  await assert.rejects(none.client.devices.list({}, { signal: AbortSignal.abort(reason) }), reason)
  assert.equal(none.sent.length, 0)
})

test('lists are iterated over all their pages, each fetched when it is needed', async () => {
  const list = scripted([json({ items: [1, 2], next_cursor: 'c1' }), json({ items: [], next_cursor: 'c2' }), json({ items: [3], next_cursor: null })])
  const seen: unknown[] = []
  for await (const device of list.client.devices.all({ limit: 2 })) {
    seen.push(device)
    assert.equal(list.sent.length, seen.length < 3 ? 1 : 3)
  }
  assert.deepEqual(seen, [1, 2, 3])
  assert.deepEqual(
    list.sent.map(({ url }) => url.search),
    ['?limit=2', '?limit=2&cursor=c1', '?limit=2&cursor=c2'],
  )
})

test('query answers as rows, over all pages; text and the response itself where they are asked for', async () => {
  const answer = (values: number[], next: string | null): Response =>
    json({
      order: 'asc',
      rows: values.length,
      truncated: next !== null,
      next_cursor: next,
      series: [{ device: 'a', metric: 't', unit: 'C' }],
      columns: { time: values.map((v) => v * 1000), series: values.map(() => 0), value: values },
    })
  const { client, sent } = scripted([answer([1, 2], 'n'), answer([3], null)])
  const rows = []
  for await (const row of client.rows({ device: 'a' })) rows.push(row)
  assert.deepEqual(rows[2], { device: 'a', metric: 't', unit: 'C', time: 3000, value: 3 })
  assert.equal(rows.length, 3)
  assert.equal(sent[1]!.url.searchParams.get('cursor'), 'n')
  const csv = scripted([new Response('a,b\n', { headers: { 'content-type': 'text/csv' } })])
  assert.equal(await csv.client.readings.query({ format: 'csv' }, { as: 'text' }), 'a,b\n')
  assert.equal((await refused(csv.client.readings.query({ format: 'csv' }))).code, 'answer_unexpected')
  const raw = await csv.client.readings.query({}, { as: 'response' })
  assert.equal(raw.headers.get('content-type'), 'text/csv')
  assert.equal(await scripted([new Response(null, { status: 204 })]).client.deadLetters.dismiss({ id: '1' }), undefined)
})

test('the generator refuses what it does not know, and two operations of one name', () => {
  const operation = (operationId: string, schema: unknown): Node => ({
    operationId,
    tags: ['things'],
    responses: { 200: { content: { 'application/json': { schema } } } },
  })
  const source = (schema: unknown): string => schemaSource({ paths: { '/a': { get: operation('getThing', schema) } } })
  assert.throws(() => source({ type: 'object', patternProperties: {} }), /patternProperties/)
  assert.throws(() => source({ type: 'text' }), /"text"/)
  assert.throws(() => source({ $ref: '#/components/schemas/none' }), /nowhere/)
  assert.match(
    source({ type: 'object', title: 'A thing', required: ['a'], properties: { a: { enum: ["it's", 1] } } }),
    /interface AThing \{\s+readonly a: 'it\\'s' \| 1\s+\}/,
  )
  const two = { '/a': { get: operation('getThing', {}) }, '/b': { get: operation('getThings', {}), post: operation('get', {}) } }
  assert.throws(() => operationsOf({ paths: two }), /two operations would be things\.get/)
})
