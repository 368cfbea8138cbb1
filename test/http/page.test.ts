import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import { RawClient } from './raw.ts'
import { serve } from './support.ts'

const script = 'console.log("page")\n'.repeat(50)

function folder(t: TestContext): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-page-'))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

function build(dir: string, title = 'built'): void {
  fs.mkdirSync(path.join(dir, 'page'), { recursive: true })
  fs.writeFileSync(path.join(dir, 'index.html'), `<!doctype html><title>${title}</title>`)
  fs.writeFileSync(path.join(dir, 'page/index-abc.js'), script)
  fs.writeFileSync(path.join(dir, 'page/index-abc.js.br'), zlib.brotliCompressSync(script))
  fs.writeFileSync(path.join(dir, 'page/index-abc.js.gz'), zlib.gzipSync(script))
  fs.writeFileSync(path.join(dir, 'secret.txt'), 'not of the page')
}

const html = { accept: 'text/html,application/xhtml+xml' }

test('the page goes to browsers, a health document to all others; both say what they depend on', async (t) => {
  const dir = folder(t)
  build(dir)
  const s = await serve(t, { pageFolder: dir })
  const json = await s.call('/')
  assert.equal(json.json['status'], 'healthy')
  assert.match(json.headers.get('vary') ?? '', /accept/)
  const page = await s.call('/', { headers: html })
  assert.deepEqual([page.status, page.headers.get('content-type'), page.headers.get('cache-control')], [200, 'text/html; charset=utf-8', 'no-cache'])
  assert.match(page.text, /<title>built<\/title>/)
  const policy = page.headers.get('content-security-policy') ?? ''
  for (const rule of [
    "default-src 'self'",
    "script-src 'self'",
    "object-src 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ]) {
    assert.ok(policy.includes(rule), `${rule} in ${policy}`)
  }
  assert.doesNotMatch(policy, /unsafe|https?:|\*/)
  const etag = page.headers.get('etag') ?? ''
  const again = await s.call('/', { headers: { ...html, 'if-none-match': `W/${etag}, "other"` } })
  assert.deepEqual([again.status, again.text, again.headers.get('etag')], [304, '', etag])
})

test('assets: cached for ever, in the encoding that the client takes', async (t) => {
  const dir = folder(t)
  build(dir)
  const s = await serve(t, { pageFolder: dir })
  const raw = async (accept: string): Promise<{ readonly head: string; readonly body: Buffer }> => {
    const client = new RawClient(s.door.port)
    await client.send(`GET /page/index-abc.js HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: ${accept}\r\nConnection: close\r\n\r\n`)
    const all = Buffer.from(await client.closed(), 'latin1')
    const at = all.indexOf('\r\n\r\n')
    return { head: all.subarray(0, at).toString().toLowerCase(), body: all.subarray(at + 4) }
  }
  const tags = new Set<string>()
  for (const [accept, encoding, unpack] of [
    ['gzip, deflate, br', 'br', promisify(zlib.brotliDecompress)],
    ['gzip', 'gzip', promisify(zlib.gunzip)],
    ['br;q=0, gzip;q=0.5', 'gzip', promisify(zlib.gunzip)],
    ['identity', undefined, async (bytes: Buffer) => bytes],
    ['*', 'br', promisify(zlib.brotliDecompress)],
  ] as const) {
    const { head, body } = await raw(accept)
    assert.match(head, /^http\/1.1 200/)
    assert.equal(/content-encoding: (\w+)/.exec(head)?.[1], encoding, accept)
    assert.match(head, /cache-control: public, max-age=31536000, immutable/)
    assert.match(head, /vary: accept, accept-encoding/)
    assert.match(head, /content-type: text\/javascript; charset=utf-8/)
    assert.equal((await unpack(body)).toString(), script)
    tags.add(/etag: (\S+)/.exec(head)?.[1] ?? '')
  }
  assert.equal(tags.size, 3, 'each encoding has a tag of its own')
})

test('only files that the build made can be asked for', async (t) => {
  const dir = folder(t)
  build(dir)
  const s = await serve(t, { pageFolder: dir })
  for (const name of ['nope.js', '..%2fsecret.txt', '..%2findex.html', 'index-abc.js.br', '..%5csecret.txt', 'index-abc.js%00']) {
    const reply = await s.call(`/page/${name}`)
    assert.equal(reply.status, 404, name)
    assert.equal(reply.json['code'], 'not_found')
  }
})

test('without a build it says how to make one; with one it is served without a restart, and so is the next', async (t) => {
  const dir = folder(t)
  const s = await serve(t, { pageFolder: path.join(dir, 'page-folder') })
  const missing = await s.call('/', { headers: html })
  assert.equal(missing.status, 503)
  assert.match(missing.text, /npm run build:page/)
  assert.match(missing.headers.get('content-security-policy') ?? '', /default-src 'none'/)
  assert.equal((await s.call('/')).json['status'], 'healthy')
  build(path.join(dir, 'page-folder'))
  assert.match((await s.call('/', { headers: html })).text, /built/)
  build(path.join(dir, 'page-folder'), 'newer')
  const later = new Date(Date.now() + 5_000)
  fs.utimesSync(path.join(dir, 'page-folder/index.html'), later, later)
  assert.match((await s.call('/', { headers: html })).text, /newer/)
})

test('it is open to all where tokens are asked for: it says nothing about the data', async (t) => {
  const dir = folder(t)
  build(dir)
  const s = await serve(t, { auth: 'token', pageFolder: dir })
  assert.equal((await s.call('/', { headers: html })).status, 200)
  assert.equal((await s.call('/page/index-abc.js')).status, 200)
  assert.equal((await s.call('/api/v1/status')).status, 401)
  assert.equal((await s.call('/api/v1/status/history')).status, 401)
})

test('the figures of the last minutes, from when the server was ready', async (t) => {
  const s = await serve(t)
  for (;;) {
    const items = (await s.call('/api/v1/status/history')).json['items'] as Record<string, number>[]
    if (items.length === 0) continue
    const { time, ...look } = items[0]!
    assert.ok(Math.abs(Date.now() - time!) < 60_000)
    assert.ok(look['store_lag_ms']! > 1e9, 'the oldest that waits came in 2023')
    delete look['store_lag_ms']
    assert.deepEqual(look, { messages_total: 1, readings_total: 2, devices_active: 1, storage_bytes: 0, dead_letters_waiting: 0 })
    break
  }
})
