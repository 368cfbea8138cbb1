import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import test from 'node:test'
import zlib from 'node:zlib'
import { RawClient } from './raw.ts'
import { serve } from './support.ts'

const MiB = 1 << 20
const document = JSON.stringify([
  { device: 'd1', temperature: 1 },
  { device: 'd2', temperature: 2 },
])

test('gzip, deflate (both kinds), br and zstd are unpacked', async (t) => {
  const s = await serve(t)
  const packed: [string, Buffer][] = [
    ['gzip', zlib.gzipSync(document)],
    ['deflate', zlib.deflateSync(document)],
    ['deflate', zlib.deflateRawSync(document)],
    ['br', zlib.brotliCompressSync(document)],
    ['zstd', zlib.zstdCompressSync(document)],
    ['identity', Buffer.from(document)],
  ]
  for (const [coding, bytes] of packed) {
    const reply = await s.post('/api/v1/telemetry', bytes, { 'content-encoding': coding })
    assert.deepEqual([reply.status, reply.json], [202, { accepted: 2, rejected: 0 }], coding)
  }
  assert.equal(s.gate.taken.length, 12)
})

test('a gzip bomb is cut off at the limit: 413, its first 4 KiB kept', async (t) => {
  const s = await serve(t)
  const bomb = zlib.gzipSync(Buffer.alloc(200 * MiB, 0x20))
  const before = process.memoryUsage().rss
  const reply = await s.post('/api/v1/telemetry', bomb, { 'content-encoding': 'gzip' })
  assert.deepEqual([reply.status, reply.json['code']], [413, 'body_too_large'])
  assert.ok(process.memoryUsage().rss - before < 100 * MiB)
  assert.deepEqual([s.gate.letters[0]!.bytes.length, s.gate.letters[0]!.totalBytes], [4096, bomb.length])
  assert.deepEqual(s.gate.letters[0]!.bytes, bomb.subarray(0, 4096))
})

test('what says gzip and is not: 400 with the bytes kept; an unknown coding: 415 naming those that are known', async (t) => {
  const s = await serve(t)
  const wrong = await s.post('/api/v1/telemetry', document, { 'content-encoding': 'gzip' })
  assert.deepEqual([wrong.status, wrong.json['code']], [400, 'body_encoding'])
  assert.equal(s.gate.letters[0]!.bytes.toString(), document)
  const cut = await s.post('/api/v1/telemetry', zlib.gzipSync(document).subarray(0, 30), { 'content-encoding': 'gzip' })
  assert.deepEqual([cut.status, cut.json['code']], [400, 'body_encoding'])
  for (const coding of ['compress', '__proto__', 'gzip, gzip']) {
    const unknown = await s.post('/api/v1/telemetry', document, { 'content-encoding': coding })
    assert.deepEqual([unknown.status, unknown.headers.get('accept-encoding')], [415, 'gzip, deflate, br, zstd'], coding)
  }
})

test('a body of 10 MB: 413, size and first 4 KiB kept, the connection still serves', async (t) => {
  const s = await serve(t)
  const body = randomBytes(10 * MiB)
  const reply = await s.post('/api/v1/telemetry', body)
  assert.deepEqual([reply.status, reply.json['code']], [413, 'body_too_large'])
  assert.deepEqual([s.gate.letters[0]!.totalBytes, s.gate.letters[0]!.bytes], [10 * MiB, body.subarray(0, 4096)])
  assert.equal((await s.post('/api/v1/telemetry', document)).status, 202)
})

test('the same without Content-Length', async (t) => {
  const s = await serve(t)
  const request = http.request(`${s.url}/api/v1/telemetry`, { method: 'POST', headers: { 'content-type': 'application/json' } })
  const answered = once(request, 'response') as Promise<[http.IncomingMessage]>
  const chunk = Buffer.alloc(MiB, 0x20)
  for (let i = 0; i < 9; i++) request.write(chunk)
  const [response] = await answered
  assert.equal(response.statusCode, 413)
  request.end()
  response.resume()
  await once(response, 'close')
  assert.equal(s.gate.letters[0]!.bytes.length, 4096)
  assert.ok(s.gate.letters[0]!.totalBytes > 8 * MiB)
})

test('a body that is still coming long after its refusal is cut off', async (t) => {
  const s = await serve(t, { limits: { bodyBytesMax: 1000 } })
  const client = new RawClient(s.door.port)
  await client.send('POST /api/v1/telemetry HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n' + ' '.repeat(5000))
  assert.match(await client.until(/request_id/), /^HTTP\/1.1 413/)
  await client.closed()
})

test('a body in many small pieces is one body', async (t) => {
  const s = await serve(t)
  const client = new RawClient(s.door.port)
  const head = `POST /api/v1/telemetry HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${document.length}\r\n\r\n`
  for (const byte of head + document) await client.send(byte)
  assert.match(await client.until(/"rejected"/), /^HTTP\/1.1 202[^]*\{"accepted":2,"rejected":0\}$/)
  client.end()
  const chunked = new RawClient(s.door.port)
  await chunked.send('POST /api/v1/telemetry HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n')
  for (let i = 0; i < document.length; i += 10) {
    const piece = document.slice(i, i + 10)
    await chunked.send(`${piece.length.toString(16)}\r\n${piece}\r\n`)
  }
  await chunked.send('0\r\n\r\n')
  assert.match(await chunked.until(/"rejected"/), /^HTTP\/1.1 202/)
  chunked.end()
})

test('headers and bodies that never end: 408, the connection closed', async (t) => {
  const s = await serve(t, { limits: { headersTimeoutMs: 100, requestTimeoutMs: 200 } })
  const headers = new RawClient(s.door.port)
  await headers.send('GET /livez HTTP/1.1\r\nHost: local')
  assert.match(await headers.closed(), /^HTTP\/1.1 408[^]*"code":"request_timeout"/)
  const body = new RawClient(s.door.port)
  await body.send('POST /api/v1/telemetry HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"device"')
  await body.closed()
  assert.equal(s.gate.submits, 0)
})

test('all bodies together are bounded: 429, and room again afterwards', async (t) => {
  const s = await serve(t, { limits: { bodiesBytesMax: 3000 } })
  const waiting = new RawClient(s.door.port)
  await waiting.send('POST /api/v1/telemetry HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2600\r\n\r\n' + ' '.repeat(2500))
  const body = JSON.stringify({ device: 'd', temperature: 1, pad: 'x'.repeat(1000) })
  let reply = await s.post('/api/v1/telemetry', body)
  // The first request's bytes may still be on their way.
  for (let i = 0; i < 50 && reply.status !== 429; i++) reply = await s.post('/api/v1/telemetry', body)
  assert.deepEqual([reply.status, reply.json['code'], reply.headers.get('retry-after')], [429, 'overloaded', '1'])
  waiting.end()
  for (let i = 0; i < 50 && reply.status !== 202; i++) reply = await s.post('/api/v1/telemetry', body)
  assert.equal(reply.status, 202)
})

test('a client that leaves in the middle of its body leaves nothing behind', async (t) => {
  const s = await serve(t, { limits: { bodiesBytesMax: 3000 } })
  for (let i = 0; i < 5; i++) {
    const client = new RawClient(s.door.port)
    await client.send('POST /api/v1/telemetry HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2600\r\n\r\n' + ' '.repeat(2500))
    client.end()
    await client.closed()
  }
  let reply = await s.post('/api/v1/telemetry', document)
  for (let i = 0; i < 50 && reply.status !== 202; i++) reply = await s.post('/api/v1/telemetry', document)
  assert.equal(reply.status, 202)
  assert.equal(s.gate.letters.length, 0)
})

test('bodies that were answered no longer count', async (t) => {
  const s = await serve(t, { limits: { bodiesBytesMax: 3000 } })
  const body = JSON.stringify({ device: 'd', temperature: 1, pad: 'x'.repeat(1000) })
  for (let i = 0; i < 6; i++) assert.equal((await s.post('/api/v1/telemetry', body)).status, 202)
  for (let i = 0; i < 6; i++) assert.equal((await s.post('/api/v1/devices', { name: 'n', metadata: { pad: 'x'.repeat(1000) } })).status, 201)
  for (let i = 0; i < 6; i++) assert.equal((await s.post('/api/v1/telemetry', body, { 'content-encoding': 'gzip' })).status, 400)
})

test('after a refused body that was sent to its end, the same connection takes the next request', async (t) => {
  const s = await serve(t, { limits: { bodyBytesMax: 1000 } })
  const client = new RawClient(s.door.port)
  const rest = 4 * MiB
  await client.send(`POST /api/v1/telemetry HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${rest}\r\n\r\n`)
  const sent = client.send(Buffer.alloc(rest, 0x20)).then(() => client.send('GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n'))
  assert.match(await client.until(/ok\n$/), /^HTTP\/1.1 413[^]*HTTP\/1.1 200 OK[^]*ok\n$/)
  await sent
  client.end()
})
