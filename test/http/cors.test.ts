import assert from 'node:assert/strict'
import test from 'node:test'
import { corsOrigins, doorErrors } from '../../src/core/config-doors.ts'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { serve, type Served } from './support.ts'

const app = 'https://app.example.com'
const cors = new Set([app, 'http://localhost:5173'])

interface Asked {
  readonly status: number
  readonly allowed: string | null
  readonly headers: Headers
}

async function ask(s: Served, method: string, path: string, headers: Record<string, string>): Promise<Asked> {
  const reply = await s.call(path, { method, headers })
  return { status: reply.status, allowed: reply.headers.get('access-control-allow-origin'), headers: reply.headers }
}

test('preflights: only the origins of the settings, and only what is a preflight', async (t) => {
  const preflight = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization, content-type' }
  for (const auth of ['loopback', 'open', 'token'] as const) {
    const s = await serve(t, { auth, cors })
    for (const origin of cors) {
      const { status, allowed, headers } = await ask(s, 'OPTIONS', '/api/v1/telemetry', { origin, ...preflight })
      assert.deepEqual([status, allowed], [204, origin], auth)
      assert.match(headers.get('access-control-allow-methods') ?? '', /\bPOST\b.*\bDELETE\b/)
      assert.match(headers.get('access-control-allow-headers') ?? '', /\bauthorization\b.*\bcontent-type\b/)
      assert.match(headers.get('vary') ?? '', /\borigin\b/)
      assert.equal(headers.get('access-control-allow-credentials'), null)
      assert.equal(headers.get('access-control-max-age'), '600')
    }
    for (const origin of [
      'https://evil.example',
      'null',
      'https://app.example.com.evil.example',
      'http://app.example.com',
      'https://app.example.com:8443',
      `${app}/`,
    ]) {
      const { status, allowed, headers } = await ask(s, 'OPTIONS', '/api/v1/telemetry', { origin, ...preflight })
      assert.deepEqual([allowed, headers.get('access-control-allow-methods')], [null, null], origin)
      assert.equal(status, auth === 'token' ? 404 : 403, `${auth} ${origin}`)
    }
  }
})

test('answers: the origin is named and headers of ours may be read; who has no origin sees nothing of it', async (t) => {
  const s = await serve(t, { auth: 'token', cors })
  const authorization = `Bearer ${(await s.tokens.create({ name: 'x', scopes: ['read'] })).token}`
  const allowed = await ask(s, 'GET', '/api/v1/devices', { origin: app, authorization })
  assert.deepEqual([allowed.status, allowed.allowed, allowed.headers.get('cross-origin-resource-policy')], [200, app, 'cross-origin'])
  assert.match(allowed.headers.get('access-control-expose-headers') ?? '', /\bretry-after\b/)
  assert.match(allowed.headers.get('vary') ?? '', /\borigin\b/)
  // A page must be able to read why it was refused.
  const refused = await ask(s, 'GET', '/api/v1/devices', { origin: app })
  assert.deepEqual([refused.status, refused.allowed], [401, app])
  const other = await ask(s, 'GET', '/api/v1/devices', { origin: 'https://evil.example', authorization })
  assert.deepEqual([other.status, other.allowed, other.headers.get('cross-origin-resource-policy')], [200, null, 'same-origin'])
  assert.match((await ask(s, 'GET', '/', { accept: 'application/json' })).headers.get('vary') ?? '', /^accept.*, origin$/)
  const alone = await serve(t, { auth: 'token' })
  assert.equal((await ask(alone, 'GET', '/livez', { origin: app })).allowed, null)
  assert.equal((await ask(alone, 'GET', '/livez', {})).headers.get('vary'), null)
})

test('loopback: an allowed origin lifts the check of Origin, never that of Host', async (t) => {
  const s = await serve(t, { cors })
  assert.equal((await ask(s, 'GET', '/api/v1/devices', { origin: app })).status, 200)
  assert.equal((await ask(s, 'GET', '/api/v1/devices', { origin: 'https://evil.example' })).status, 403)
  const { RawClient } = await import('./raw.ts')
  for (const method of ['OPTIONS', 'GET']) {
    const client = new RawClient(s.door.port)
    await client.send(
      `${method} /api/v1/devices HTTP/1.1\r\nHost: evil.example\r\nOrigin: ${app}\r\nAccess-Control-Request-Method: GET\r\nConnection: close\r\n\r\n`,
    )
    assert.match(await client.closed(), /^HTTP\/1.1 403[^]*host_denied/, method)
  }
})

test('settings: origins as browsers write them; no wildcard', () => {
  const wrong = (origins: string): string[] => doorErrors(loadConfig({ flags: { 'http.cors.origins': origins } })).map(({ detail }) => detail)
  assert.deepEqual([...corsOrigins(loadConfig({ flags: { 'http.cors.origins': ` ${app}, http://localhost:5173,` } }))], [...cors])
  assert.deepEqual(wrong(`${app},http://localhost:5173`), [])
  for (const [text, complaint] of [
    ['*', /wildcard/],
    ['https://*.example.com', /wildcard/],
    ['app.example.com', /no origin/],
    ['ftp://app.example.com', /no origin/],
    [`${app}/`, /must be written as browsers send it: https:\/\/app\.example\.com$/],
    ['https://App.example.com:443', /must be written as browsers send it: https:\/\/app\.example\.com$/],
  ] as const) {
    assert.equal(wrong(text).length, 1, text)
    assert.match(wrong(text)[0] ?? '', complaint, text)
  }
})
