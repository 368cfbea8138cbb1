import assert from 'node:assert/strict'
import test from 'node:test'
import { errorTable } from '../../src/core/errors.ts'
import { RawClient } from './raw.ts'
import { serve } from './support.ts'
import type { Served } from './support.ts'

async function rawGet(s: Served, path: string, headers: readonly string[], method = 'GET'): Promise<string> {
  const client = new RawClient(s.door.port)
  await client.send(`${method} ${path} HTTP/1.1\r\n${headers.join('\r\n')}\r\nConnection: close\r\n\r\n`)
  return client.closed()
}

test('loopback: a Host that is no local name is refused (DNS rebinding), also for what is open', async (t) => {
  const s = await serve(t)
  for (const host of ['localhost', `localhost:${s.door.port}`, '127.0.0.1:1', '[::1]:8080', 'LOCALHOST']) {
    assert.match(await rawGet(s, '/api/v1/devices', [`Host: ${host}`]), /^HTTP\/1.1 200/, host)
  }
  for (const host of ['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example', '10.0.0.1', 'evil@localhost', 'localhost:80:80', '']) {
    for (const path of ['/api/v1/devices', '/livez', '/']) {
      assert.match(await rawGet(s, path, [`Host: ${host}`]), /^HTTP\/1.1 403[^]*"code":"host_denied"/, `${host} ${path}`)
    }
  }
})

test('loopback and open: an Origin must be the server itself', async (t) => {
  for (const auth of ['loopback', 'open'] as const) {
    const s = await serve(t, { auth })
    const host = `localhost:${s.door.port}`
    const post = (origin: string): Promise<string> =>
      rawGet(s, '/api/v1/telemetry', [`Host: ${host}`, `Origin: ${origin}`, 'Content-Length: 0'], 'POST')
    assert.match(await post(`http://${host}`), /^HTTP\/1.1 400[^]*empty_body/)
    for (const origin of ['http://evil.example', 'null', 'http://localhost:1', `http://${host}.evil.example`, 'file://', 'x']) {
      assert.match(await post(origin), /^HTTP\/1.1 403[^]*host_denied/, origin)
    }
  }
})

test('no CORS: a preflight names no origin', async (t) => {
  const s = await serve(t)
  const reply = await s.call('/api/v1/telemetry', { method: 'OPTIONS' })
  assert.equal(reply.status, 204)
  assert.equal(reply.headers.get('allow'), 'OPTIONS, POST')
  assert.equal(reply.headers.get('access-control-allow-origin'), null)
})

test('token: each route needs its scope; admin may all; what is open stays open', async (t) => {
  const s = await serve(t, { auth: 'token' })
  const token = async (scope: 'ingest' | 'read' | 'admin'): Promise<{ authorization: string }> => ({
    authorization: `Bearer ${(await s.tokens.create({ name: scope, scopes: [scope] })).token}`,
  })
  const [ingest, read, admin] = [await token('ingest'), await token('read'), await token('admin')]
  const reading = { device: 'a', temperature: 1 }

  const none = await s.post('/api/v1/telemetry', reading)
  assert.deepEqual([none.status, none.json['code'], none.headers.get('www-authenticate')], [401, 'unauthenticated', 'Bearer realm="kymo"'])
  assert.equal((await s.post('/api/v1/telemetry', reading, { authorization: 'Bearer tk_wrong' })).status, 401)
  assert.equal((await s.post('/api/v1/telemetry', reading, { authorization: 'Basic abc' })).status, 401)
  assert.equal((await s.post('/api/v1/telemetry', reading, ingest)).status, 202)
  assert.equal(s.gate.taken[0]!.context.client, 't1')
  assert.equal((await s.post('/api/v1/telemetry', reading, { authorization: ingest.authorization.replace('Bearer', 'Token') })).status, 202)
  assert.deepEqual(
    [(await s.post('/api/v1/telemetry', reading, read)).status, (await s.post('/api/v1/telemetry', reading, admin)).status],
    [403, 202],
  )

  for (const path of [
    '/api/v1/devices',
    '/api/v1/latest',
    '/api/v1/query',
    '/devices',
    '/metrics',
    '/api/v1/status',
    '/api/v1/dead-letters',
    '/api/v1/live',
  ]) {
    const statuses = await Promise.all([{}, ingest].map(async (headers) => (await s.call(path, { headers })).status))
    assert.deepEqual(statuses, [401, 403], path)
    if (path !== '/api/v1/live') assert.equal((await s.call(path, { headers: read })).status, 200, path)
  }
  for (const path of ['/api/v1/tokens'])
    assert.deepEqual([(await s.call(path, { headers: read })).status, (await s.call(path, { headers: admin })).status], [403, 200])
  assert.equal((await s.post('/devices', {}, read)).status, 403)
  for (const path of ['/', '/livez', '/readyz', '/health', '/docs', '/openapi.json']) assert.equal((await s.call(path)).status, 200, path)
  assert.equal(s.metrics.families.get('kymo_auth_failures_total')!.cells.values().next().value!.cell instanceof Object, true)
  const failures = s.metrics.counter('kymo_auth_failures_total', '', { transport: 'http' })
  assert.ok(failures.value >= 10)
})

test('token: a token that was revoked opens nothing', async (t) => {
  const s = await serve(t, { auth: 'token' })
  const admin = { authorization: `Bearer ${(await s.tokens.create({ name: 'a', scopes: ['admin'] })).token}` }
  const made = await s.post('/api/v1/tokens', { name: 'sensor', scopes: ['ingest'] }, admin)
  assert.equal(made.status, 201)
  assert.equal(made.headers.get('location'), '/api/v1/tokens/t2')
  const sensor = { authorization: `Bearer ${String(made.json['token'])}` }
  assert.equal((await s.post('/api/v1/telemetry', { device: 'a', temperature: 1 }, sensor)).status, 202)
  const list = await s.call('/api/v1/tokens', { headers: admin })
  assert.doesNotMatch(list.text, /secret/)
  assert.equal((await s.call('/api/v1/tokens/t2', { method: 'DELETE', headers: admin })).status, 204)
  assert.equal((await s.call('/api/v1/tokens/t2', { method: 'DELETE', headers: admin })).status, 404)
  assert.equal((await s.post('/api/v1/telemetry', { device: 'a', temperature: 1 }, sensor)).status, 401)
  assert.equal((await s.post('/api/v1/tokens', { name: 'x', scopes: ['root'] }, admin)).status, 400)
})

test('every error is a problem document with its code from the table', async (t) => {
  const s = await serve(t)
  const cases: readonly (readonly [string, RequestInit | undefined, number, string])[] = [
    ['/nope', undefined, 404, 'not_found'],
    ['/api/v1/telemetry', undefined, 405, 'method_not_allowed'],
    ['/livez', { method: 'POST', body: 'x' }, 405, 'method_not_allowed'],
    ['/devices/a%ZZ', undefined, 400, 'request_invalid'],
    ['/%', undefined, 400, 'request_invalid'],
    ['/api/v1/devices?limit=0', undefined, 400, 'request_invalid'],
    ['/api/v1/devices?limit=ten', undefined, 400, 'request_invalid'],
    ['/api/v1/devices?limit=1&limit=2', undefined, 400, 'request_invalid'],
    ['/api/v1/query?devcie=a', undefined, 400, 'request_invalid'],
    ['/api/v1/devices/none', undefined, 404, 'device_not_found'],
    ['/api/v1/dead-letters/x', undefined, 400, 'request_invalid'],
    ['/api/v1/dead-letters/1', undefined, 404, 'not_found'],
    ['/api/v1/devices', { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } }, 400, 'body_not_json'],
    [
      '/api/v1/devices',
      { method: 'POST', body: new Uint8Array([0x7b, 0xff, 0x7d]), headers: { 'content-type': 'application/json' } },
      400,
      'body_not_utf8',
    ],
    ['/api/v1/devices', { method: 'POST', body: '<a/>', headers: { 'content-type': 'application/xml' } }, 415, 'media_type'],
    ['/api/v1/devices', { method: 'POST', body: '[]', headers: { 'content-type': 'application/json' } }, 400, 'request_invalid'],
    ['/api/v1/devices', { method: 'POST' }, 400, 'request_invalid'],
    [
      '/api/v1/devices',
      { method: 'POST', body: JSON.stringify({ name: 'x'.repeat(2 << 20) }), headers: { 'content-type': 'application/json' } },
      413,
      'body_too_large',
    ],
    ['/api/v1/devices', { method: 'POST', body: '{"id":"a b"}', headers: { 'content-type': 'application/json' } }, 400, 'request_invalid'],
  ]
  for (const [path, init, status, code] of cases) {
    const reply = await s.call(path, init)
    const at = `${init?.method ?? 'GET'} ${path}`
    assert.equal(reply.status, status, at)
    assert.equal(reply.headers.get('content-type'), 'application/problem+json; charset=utf-8', at)
    assert.deepEqual([reply.json['code'], reply.json['status'], reply.json['type']], [code, status, `/docs#error-${code}`], at)
    assert.equal(reply.json['id'], errorTable[code as keyof typeof errorTable].id, at)
    assert.equal(reply.json['title'], errorTable[code as keyof typeof errorTable].text, at)
    assert.equal(reply.json['request_id'], reply.headers.get('x-request-id'), at)
    assert.equal(typeof reply.json['detail'], 'string', at)
  }
})

test('what is wrong is named: unknown parameters with those that are known, fields by pointer', async (t) => {
  const s = await serve(t)
  const typo = await s.call('/api/v1/query?devcie=a&limit=0')
  assert.deepEqual(
    (typo.json['errors'] as { pointer: string }[]).map((e) => e.pointer),
    ['/devcie', '/limit'],
  )
  assert.match(String(typo.json['detail']), /devcie \(query\) is not known here; known are device, metric/)
  const fields = await s.post('/api/v1/tokens', { name: '', scopes: ['read', 'root'], extra: 1 })
  assert.deepEqual(
    (fields.json['errors'] as { pointer: string }[]).map((e) => e.pointer),
    ['/name', '/scopes/1', '/extra'],
  )
  const method = await s.call('/api/v1/devices/x', { method: 'DELETE' })
  assert.deepEqual([method.status, method.headers.get('allow')], [405, 'GET, HEAD, OPTIONS, PATCH'])
})

test('a bug says nothing of its inside, to the client', async (t) => {
  const s = await serve(t)
  s.store.readings = [{ device: 'a', metric: 'm', timeUs: 1, value: 1 }]
  s.store.slow = () => Promise.reject(new Error('secret path /home/x'))
  const reply = await s.call('/api/v1/query')
  assert.deepEqual([reply.status, reply.json['code']], [500, 'bug'])
  assert.doesNotMatch(reply.text, /secret/)
})

test('a request id of the client is kept when it is harmless', async (t) => {
  const s = await serve(t)
  assert.equal((await s.call('/nope', { headers: { 'x-request-id': 'abc-1' } })).json['request_id'], 'abc-1')
  assert.notEqual((await s.call('/nope', { headers: { 'x-request-id': 'a b' } })).json['request_id'], 'a b')
})

test('what is no HTTP, and headers beyond the limit, are answered on the bare socket', async (t) => {
  const s = await serve(t)
  const nonsense = new RawClient(s.door.port)
  await nonsense.send('HELLO\r\n\r\n')
  assert.match(await nonsense.closed(), /^HTTP\/1.1 400 Bad Request\r\ncontent-type: application\/problem\+json[^]*"code":"request_invalid"/)
  const long = new RawClient(s.door.port)
  await long.send(`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`)
  assert.match(await long.closed(), /^HTTP\/1.1 431[^]*"code":"headers_too_large"/)
})

test('security headers are on everything, a policy on pages', async (t) => {
  const s = await serve(t)
  for (const path of ['/', '/nope', '/api/v1/devices', '/docs']) {
    const { headers } = await s.call(path, { headers: { accept: 'text/html' } })
    assert.deepEqual(
      [headers.get('x-content-type-options'), headers.get('x-frame-options'), headers.get('referrer-policy')],
      ['nosniff', 'DENY', 'no-referrer'],
      path,
    )
    assert.deepEqual([headers.get('cross-origin-opener-policy'), headers.get('cross-origin-resource-policy')], ['same-origin', 'same-origin'], path)
    assert.match(headers.get('content-security-policy') ?? '', /^default-src '(?:none|self)'.*frame-ancestors 'none'/, path)
    assert.deepEqual([headers.get('server'), headers.get('x-powered-by'), headers.get('strict-transport-security')], [null, null, null], path)
    if (path.startsWith('/api')) assert.equal(headers.get('cache-control'), 'no-store')
  }
})
