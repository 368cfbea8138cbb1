import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import test from 'node:test'
import { KeyedRate } from '../../src/doors/rate.ts'
import type { Upgrade } from '../../src/doors/http/options.ts'
import { serve } from './support.ts'
import type { Served } from './support.ts'

/** Answers 101 and echoes. */
const echo: Upgrade = {
  path: '/mqtt',
  accept(_request, socket, head) {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n')
    if (head.length > 0) socket.write(head)
    socket.pipe(socket)
  },
}

async function ask(s: Served, headers: readonly string[], path = '/mqtt'): Promise<{ readonly socket: net.Socket; readonly text: string }> {
  const socket = net.connect(s.door.port, '127.0.0.1')
  socket.on('error', () => undefined)
  socket.write(`GET ${path} HTTP/1.1\r\n${['Connection: Upgrade', ...headers].join('\r\n')}\r\n\r\n`)
  const [first] = (await once(socket, 'data')) as [Buffer]
  return { socket, text: first.toString() }
}

const ws = 'Upgrade: websocket'

test('an upgrade to a path that is offered is handed on, others are answered as if they had not asked', async (t) => {
  const s = await serve(t, { upgrades: [echo] })
  const { socket, text } = await ask(s, ['Host: localhost', ws], '/mqtt?x=1')
  assert.match(text, /^HTTP\/1\.1 101 /)
  socket.write('hello')
  assert.equal(String((await once(socket, 'data'))[0]), 'hello')
  socket.destroy()
  // Java's client asks each HTTP/1.1 server for HTTP/2.
  const java = await ask(s, ['Host: localhost', 'Upgrade: h2c'], '/api/v1/devices')
  assert.match(java.text, /^HTTP\/1\.1 200 /)
  java.socket.destroy()
  const other = await ask(s, ['Host: localhost', ws], '/api/v1/devices')
  assert.match(other.text, /^HTTP\/1\.1 200 /)
  other.socket.destroy()
})

test('without upgrades none is taken', async (t) => {
  const s = await serve(t)
  const { socket, text } = await ask(s, ['Host: localhost', ws])
  assert.match(text, /^HTTP\/1\.1 404 /)
  socket.destroy()
})

test('Host and Origin of an upgrade are checked', async (t) => {
  const s = await serve(t, { upgrades: [echo], cors: new Set(['https://app.example.com']) })
  const own = `localhost:${s.door.port}`
  for (const [host, origin, taken] of [
    [own, undefined, true],
    [own, `http://${own}`, true],
    [own, 'https://app.example.com', true],
    ['localhost:80', 'http://localhost', true],
    ['localhost', 'http://localhost:80', true],
    [own, 'http://localhost', false],
    [own, 'https://evil.example', false],
    [own, 'null', false],
    ['evil.example', undefined, false],
    [`${own}\r\nHost: ${own}`, undefined, false],
  ] as const) {
    const { socket, text } = await ask(s, [`Host: ${host}`, ws, ...(origin === undefined ? [] : [`Origin: ${origin}`])])
    const refused = host.includes('\r\n') ? /^HTTP\/1\.1 400 [^]*2 Host headers/ : /^HTTP\/1\.1 403 [^]*"code":"host_denied"/
    assert.match(text, taken ? /^HTTP\/1\.1 101 / : refused, `${host} ${origin}`)
    socket.destroy()
  }
  const counted = (result: string): number => s.metrics.counter('kymo_http_upgrades_total', '', { path: '/mqtt', result }).value
  assert.deepEqual([counted('taken'), counted('refused')], [5, 5])
})

test('with tokens, too, pages of other origins may not: no token is needed to ask', async (t) => {
  const s = await serve(t, { upgrades: [echo], auth: 'token' })
  const taken = await ask(s, ['Host: kymo.example', ws])
  assert.match(taken.text, /^HTTP\/1\.1 101 /)
  taken.socket.destroy()
  const refused = await ask(s, ['Host: kymo.example', ws, 'Origin: https://evil.example'])
  assert.match(refused.text, /^HTTP\/1\.1 403 /)
  refused.socket.destroy()
})

test('connections that were handed on leave room for requests, and the door closes without them', async (t) => {
  const s = await serve(t, { upgrades: [echo], limits: { connectionsMax: 2 } })
  const taken: net.Socket[] = []
  for (let i = 0; i < 4; i++) taken.push((await ask(s, ['Host: localhost', ws])).socket)
  assert.equal((await s.call('/livez')).status, 200)
  const ended = Promise.all(taken.map((socket) => once(socket, 'close')))
  await s.door.close(1_000)
  // They are the other door's to close.
  for (const socket of taken) assert.equal(socket.destroyed, false)
  for (const socket of taken) socket.destroy()
  await ended
})

test('a door that drains takes no upgrade', async (t) => {
  const s = await serve(t, { upgrades: [echo] })
  s.door.stopAccepting()
  const { socket, text } = await ask(s, ['Host: localhost', ws])
  assert.match(text, /^HTTP\/1\.1 503 /)
  socket.destroy()
})

test('a failing upgrade is answered and ends nothing else', async (t) => {
  const failing: Upgrade = {
    path: '/mqtt',
    accept() {
      throw new Error('no')
    },
  }
  const s = await serve(t, { upgrades: [failing] })
  const { socket, text } = await ask(s, ['Host: localhost', ws])
  assert.match(text, /^HTTP\/1\.1 500 /)
  socket.destroy()
  assert.equal((await s.call('/livez')).status, 200)
})

test('upgrades count in the rate of requests, but for those of this machine', async (t) => {
  const requestRate = new KeyedRate({ monotonicMs: () => 0 } as never, { perS: 1, burst: 1, keysMax: 10 })
  const s = await serve(t, { upgrades: [echo], requestRate })
  for (let i = 0; i < 3; i++) {
    const { socket, text } = await ask(s, ['Host: localhost', ws])
    assert.match(text, /^HTTP\/1\.1 101 /)
    socket.destroy()
  }
})
