import assert from 'node:assert/strict'
import { once } from 'node:events'
import fs from 'node:fs'
import https from 'node:https'
import net from 'node:net'
import { after, before, describe, it, type TestContext } from 'node:test'
import tls from 'node:tls'
import mqtt from 'mqtt'
import { createLogger, nodeClock, nodeEnv, nodeRandom } from '../../src/core/env/node-env.ts'
import type { Env, Logger } from '../../src/core/env.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { createTokenAuthorizer } from '../../src/doors/mqtt/authorizer.ts'
import type { ConnectRequest, MqttAuthorizer } from '../../src/doors/mqtt/authorizer.ts'
import { openMqttDoor, type MqttDoor } from '../../src/doors/mqtt/door.ts'
import { openCertificates, type Certificates as Keeper } from '../../src/doors/tls/certificates.ts'
import { HandshakeGate } from '../../src/doors/tls/handshakes.ts'
import type { ClientCertificates, TlsListener } from '../../src/doors/tls/listener.ts'
import { createFastGate } from '../mqtt/fast-gate.ts'
import { connect, hex, packet } from '../mqtt/client-packets.ts'
import { testAuthorizer, testTopics } from '../mqtt/harness.ts'
import { serve, type Served } from '../http/support.ts'
import { RawClient } from '../http/raw.ts'
import { Certificates, type Pair } from '../support/certificates.ts'
import { without } from '../support/programs.ts'

interface Secured {
  readonly keeper: Keeper
  readonly listener: TlsListener
  readonly env: Env
  readonly metrics: Metrics
  readonly said: string[]
}

function secured(t: TestContext, pair: Pair, clientCertificates: ClientCertificates = 'off', perS = 1_000): Secured {
  const said: string[] = []
  const logger: Logger = {
    ...createLogger({ level: 'error', format: 'text' }),
    warn: (text) => void said.push(text),
    error: (text) => void said.push(text),
    child: () => logger,
  }
  const env: Env = { clock: nodeClock, random: nodeRandom, logger, disk: undefined as never }
  const metrics = new Metrics()
  const files = {
    setting: 'x.tls',
    certFile: pair.cert,
    keyFile: pair.key,
    caFile: clientCertificates === 'off' ? '' : pair.ca,
    minVersion: 'TLSv1.2' as const,
  }
  const keeper = openCertificates('test', files, env, metrics)
  t.after(() => keeper.stop())
  return {
    keeper,
    listener: { certificates: keeper, handshakes: new HandshakeGate(nodeClock, perS, metrics), clientCertificates },
    env,
    metrics,
    said,
  }
}

function count(metrics: Metrics, name: string, label = ''): number {
  const entry = [...(metrics.families.get(name)?.cells.values() ?? [])].find(({ labels }) => label === '' || labels.includes(label))
  return entry !== undefined && 'value' in entry.cell ? entry.cell.value : 0
}

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; !what(); i++) {
    assert.ok(i < 1_000, 'never happened')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** A secured socket, or the code of what went wrong with it. */
function dial(port: number, o: tls.ConnectionOptions): Promise<tls.TLSSocket | string> {
  return new Promise((resolve) => {
    const socket = tls.connect({ port, host: '127.0.0.1', servername: 'localhost', ...o })
    socket.once('secureConnect', () => {
      shown.set(socket, socket.getPeerX509Certificate()?.subject)
      resolve(socket)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.once('close', () => resolve('closed'))
  })
}

async function dialled(port: number, o: tls.ConnectionOptions): Promise<tls.TLSSocket> {
  const socket = await dial(port, o)
  assert.ok(typeof socket !== 'string', String(socket))
  return socket
}

/** As it was shown in the handshake: a client does not keep it for longer. */
const shown = new WeakMap<tls.TLSSocket, string | undefined>()
const subjectAt = (socket: tls.TLSSocket): string => String(shown.get(socket) ?? socket.getPeerX509Certificate()?.subject)

describe('TLS at the doors', { skip: without('openssl') }, () => {
  let made: Certificates
  let ca: string
  before(() => {
    made = new Certificates()
    ca = fs.readFileSync(made.ca, 'latin1')
  })
  after(() => made.remove())

  const openMqtt = async (
    t: TestContext,
    s: Secured,
    o: { readonly plain?: boolean; readonly authorizer?: MqttAuthorizer; readonly onMessage?: (topic: string, text: string) => void } = {},
  ): Promise<MqttDoor> => {
    const door = await openMqttDoor({
      host: '127.0.0.1',
      port: 0,
      gate: createFastGate(o.onMessage),
      topics: testTopics,
      authorizer: o.authorizer ?? testAuthorizer,
      env: s.env,
      metrics: s.metrics,
      plain: o.plain ?? true,
      tls: { ...s.listener, port: 0 },
    })
    t.after(() => door.close(100))
    return door
  }
  const openHttp = (t: TestContext, s: Secured): Promise<Served> =>
    serve(t, { tls: { ...s.listener, hstsMaxAgeS: 60 }, metrics: s.metrics, env: { ...nodeEnv(s.env.logger) }, innerTokens: jobTokens })
  const jobTokens = {
    verify: (token: string) => (token === 'job_1' ? { tenant: 'default', id: 'job', scopes: new Set(['read'] as const) } : undefined),
  }

  const get = (
    s: Served,
    path: string,
    o: https.RequestOptions = {},
  ): Promise<{ status: number; headers: Record<string, unknown>; text: string; subject: string }> =>
    new Promise((resolve, reject) => {
      https
        .get(`https://127.0.0.1:${s.door.port}${path}`, { ca, ...o }, (answer) => {
          const { socket } = answer
          if (socket instanceof tls.TLSSocket && !shown.has(socket)) shown.set(socket, socket.getPeerX509Certificate()?.subject)
          const subject = socket instanceof tls.TLSSocket ? subjectAt(socket) : ''
          let text = ''
          answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
          answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text, subject }))
        })
        .on('error', reject)
    })

  it('MQTT: publishes over TLS and beside it, with messages of every size', async (t) => {
    const texts: string[] = []
    const s = secured(t, made.pair('mqtt'))
    const door = await openMqtt(t, s, { onMessage: (_topic, text) => void texts.push(text) })
    assert.ok(door.tlsPort !== undefined && door.tlsPort !== door.port)
    const client = await mqtt.connectAsync(`mqtts://localhost:${door.tlsPort}`, { ca, protocolVersion: 4 })
    const large = `{"device":"a","text":"${'x'.repeat(300_000)}"}`
    for (const text of ['{"device":"a","t":1}', large, '{"device":"a","t":2}']) await client.publishAsync('portfolio/telemetry', text, { qos: 1 })
    const plain = await mqtt.connectAsync(`mqtt://localhost:${door.port}`, { protocolVersion: 4 })
    await plain.publishAsync('portfolio/telemetry', '{"device":"b"}', { qos: 1 })
    assert.deepEqual(texts, ['{"device":"a","t":1}', large, '{"device":"a","t":2}', '{"device":"b"}'])
    // Both are in one broker.
    const heard = new Promise<string>((resolve) => client.once('message', (_topic, bytes) => resolve(String(bytes))))
    await client.subscribeAsync('news')
    await plain.publishAsync('news', 'hello', { qos: 1 })
    assert.equal(await heard, 'hello')
    await Promise.all([client.endAsync(), plain.endAsync()])
    assert.equal(count(s.metrics, 'kymo_tls_handshakes_total', 'ok'), 1)
  })

  it('MQTT: without the plain port only TLS is open', async (t) => {
    const s = secured(t, made.pair('only'))
    const door = await openMqtt(t, s, { plain: false })
    assert.equal(door.port, door.tlsPort)
    const socket = net.connect(door.port, '127.0.0.1')
    socket.on('error', () => undefined)
    socket.write(connect({ clientId: 'c' }))
    await once(socket, 'close')
    await until(() => s.said.length > 0)
    assert.match(s.said[0] ?? '', /^(?:::ffff:)?127\.0\.0\.1 spoke MQTT without TLS on the TLS port \d+$/)
    assert.equal(count(s.metrics, 'kymo_tls_handshakes_total', 'plain'), 1)
    ;(await dialled(door.port, { ca })).destroy()
  })

  it('a new certificate is for new connections; open ones go on, at both doors', async (t) => {
    const [pair, next] = [made.pair('before'), made.pair('after')]
    const s = secured(t, pair)
    const [door, http] = [await openMqtt(t, s), await openHttp(t, s)]
    const old = await dialled(door.tlsPort!, { ca })
    old.write(connect({ clientId: 'old' }))
    assert.equal(hex((await once(old, 'data'))[0] as Buffer), '20 02 00 00')
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
    t.after(() => agent.destroy())
    assert.equal((await get(http, '/livez', { agent })).subject, 'CN=before')

    made.replace(pair, next)
    assert.equal(s.keeper.reload().changed, true)
    const fresh = await dialled(door.tlsPort!, { ca })
    assert.deepEqual([subjectAt(old), subjectAt(fresh)], ['CN=before', 'CN=after'])
    old.write(packet(0xc0))
    assert.equal(hex((await once(old, 'data'))[0] as Buffer), 'd0 00')
    assert.deepEqual(
      [(await get(http, '/livez', { agent })).subject, (await get(http, '/livez', { agent: false })).subject],
      ['CN=before', 'CN=after'],
    )

    fs.writeFileSync(pair.key, fs.readFileSync(made.pair('stray').key))
    assert.equal(s.keeper.reload().error?.code, 'tls_key_mismatch')
    const still = await dialled(door.tlsPort!, { ca })
    assert.equal(subjectAt(still), 'CN=after')
    for (const socket of [old, fresh, still]) socket.destroy()
  })

  it('TLS 1.1 is refused, 1.2 and 1.3 are spoken', async (t) => {
    const s = secured(t, made.pair('versions'))
    const door = await openMqtt(t, s)
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = await dialled(door.tlsPort!, { ca, minVersion: version, maxVersion: version })
      assert.equal(socket.getProtocol(), version)
      socket.end()
    }
    await until(() => count(s.metrics, 'kymo_tls_handshakes_total', 'ok') === 2)
    const refused = await dial(door.tlsPort!, { ca, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' })
    assert.ok(typeof refused === 'string', 'TLS 1.1 was spoken')
    await until(() => count(s.metrics, 'kymo_tls_handshakes_total', 'failed') === 1)
    assert.match(s.said.join('\n'), /a TLS handshake with 127\.0\.0\.1 failed: the client speaks only TLS that is older than min_version/)
  })

  const connectWith = async (door: MqttDoor, o: tls.ConnectionOptions): Promise<string> => {
    const socket = await dial(door.tlsPort!, { ca, ...o })
    if (typeof socket === 'string') return socket
    return new Promise((resolve) => {
      socket.on('data', (bytes: Buffer) => {
        resolve(hex(bytes))
        socket.destroy()
      })
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
      socket.on('close', () => resolve('closed'))
      socket.write(connect({ clientId: 'c' }))
    })
  }
  const credentials = (pair: Pair): tls.ConnectionOptions => ({ cert: fs.readFileSync(pair.cert), key: fs.readFileSync(pair.key) })

  it('client certificates: required or asked for, verified, and shown to the authorizer', async (t) => {
    const asked: ConnectRequest[] = []
    const authorizer: MqttAuthorizer = {
      ...testAuthorizer,
      connect(request) {
        asked.push(request)
        return testAuthorizer.connect(request)
      },
    }
    const pair = made.pair('clients')
    const [device, stranger, ended] = [
      made.pair('sensor-7', { subject: '/CN=sensor-7' }),
      made.selfSigned('stranger'),
      made.pair('gone', { days: -2 }),
    ]
    for (const kind of ['require', 'request'] as const) {
      asked.length = 0
      const s = secured(t, pair, kind)
      const door = await openMqtt(t, s, { authorizer })
      assert.equal(await connectWith(door, credentials(device)), '20 02 00 00', kind)
      const { certificate } = asked[0]!
      assert.deepEqual([certificate?.subject, certificate?.altNames], ['CN=sensor-7', 'DNS:localhost, IP Address:127.0.0.1'])
      assert.match(certificate?.fingerprint ?? '', /^(?:[0-9A-F]{2}:){31}[0-9A-F]{2}$/)
      for (const bad of [stranger, ended]) assert.notEqual(await connectWith(door, credentials(bad)), '20 02 00 00', kind)
      assert.equal(asked.length, 1)
      const none = await connectWith(door, {})
      if (kind === 'require') assert.notEqual(none, '20 02 00 00')
      else assert.deepEqual([none, asked[1]?.certificate], ['20 02 00 00', undefined])
      // The log says so once a minute, the counter each time.
      await until(() => count(s.metrics, 'kymo_tls_handshakes_total', 'failed') === (kind === 'require' ? 3 : 2))
      assert.equal(s.said.length, 1, s.said.join('\n'))
    }
  })

  it('a certificate names its client: no other client id is let in with it', async (t) => {
    const s = secured(t, made.pair('named'), 'request')
    const tokens = {
      any: true,
      verify: () => undefined,
      create: () => Promise.reject(new Error()),
      list: () => Promise.resolve([]),
      revoke: () => Promise.resolve(false),
    }
    const door = await openMqtt(t, s, { authorizer: createTokenAuthorizer({ tokens, open: false, identity: 'cn' }) })
    const device = credentials(made.pair('client', { subject: '/O=Example/CN=c' }))
    assert.equal(await connectWith(door, device), '20 02 00 00')
    assert.equal(await connectWith(door, credentials(made.pair('sensor-8', { subject: '/O=Example/CN=sensor-8' }))), '20 02 00 02')
    assert.equal(await connectWith(door, {}), '20 02 00 05')
  })

  it('TLS spoken to a plain port is told and counted, at both doors', async (t) => {
    const s = secured(t, made.pair('wrongport'))
    const door = await openMqtt(t, s)
    assert.ok(typeof (await dial(door.port, { ca })) === 'string')
    const http = await serve(t, { metrics: s.metrics, env: nodeEnv(s.env.logger) })
    assert.ok(typeof (await dial(http.door.port, { ca })) === 'string')
    await until(() => s.said.length === 2)
    assert.match(s.said[0] ?? '', /127\.0\.0\.1 spoke TLS on mqtt\.port, which has none; the port for it is mqtt\.tls\.port/)
    assert.match(
      s.said[1] ?? '',
      /127\.0\.0\.1 spoke TLS on port \d+, which has none: http:\/\/, or set http\.tls\.cert_file and http\.tls\.key_file/,
    )
    assert.deepEqual([count(s.metrics, 'kymo_tls_on_plain_total', 'mqtt'), count(s.metrics, 'kymo_tls_on_plain_total', 'http')], [1, 1])
  })

  it('HTTP: the port speaks HTTPS; who calls it without is told so', async (t) => {
    const s = secured(t, made.pair('web'))
    const http = await openHttp(t, s)
    assert.match(http.door.url, /^https:/)
    assert.equal((await get(http, '/livez')).text, 'ok\n')
    for (const request of [`GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n`, 'P']) {
      const client = new RawClient(http.door.port)
      await client.send(request)
      assert.match(await client.closed(), /^HTTP\/1.1 400 [^]*"detail":"Port \d+ speaks HTTPS\. Call it by https:\/\/\."[^]*"code":"https_required"/)
    }
    assert.equal(count(s.metrics, 'kymo_tls_handshakes_total', 'plain'), 2)
    assert.equal(s.said.length, 1)
    // Bytes of a handshake and of HTTP may come in any pieces.
    const through = net.createServer((near) => {
      const far = net.connect(http.door.port, '127.0.0.1')
      const slowly = async (chunk: Buffer): Promise<void> => {
        for (const byte of chunk.subarray(0, 20)) {
          far.write(Buffer.of(byte))
          await new Promise((resolve) => setImmediate(resolve))
        }
        far.write(chunk.subarray(20))
      }
      let turn = Promise.resolve()
      near.on('data', (chunk: Buffer) => {
        turn = turn.then(() => slowly(chunk))
      })
      far.pipe(near)
      for (const socket of [near, far]) socket.on('error', () => undefined).on('close', () => (near.destroy(), far.destroy()))
    })
    through.listen(0, '127.0.0.1')
    await once(through, 'listening')
    t.after(() => through.close())
    const address = through.address()
    assert.ok(typeof address === 'object' && address !== null)
    const socket = await dialled(address.port, { ca })
    socket.write('GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    assert.match(String((await once(socket, 'data'))[0]), /^HTTP\/1.1 200/)
    socket.destroy()
  })

  it('HTTP: certificates of clients, where they are required', async (t) => {
    const s = secured(t, made.pair('strict'), 'require')
    const http = await openHttp(t, s)
    const { cert, key } = made.pair('browser')
    assert.equal((await get(http, '/livez', { cert: fs.readFileSync(cert), key: fs.readFileSync(key), agent: false })).status, 200)
    await assert.rejects(get(http, '/livez', { agent: false }))
    assert.equal((await fetch(`${http.door.innerUrl}/api/v1/devices`, { headers: { authorization: 'Bearer job_1' } })).status, 200)
  })

  it('HTTP: HSTS for names, not for addresses and localhost', async (t) => {
    const s = secured(t, made.pair('hsts'))
    const http = await serve(t, { tls: { ...s.listener, hstsMaxAgeS: 60 }, auth: 'open' })
    const at = async (host: string): Promise<unknown> =>
      (await get(http, '/livez', { headers: { host }, servername: 'localhost' })).headers['strict-transport-security']
    assert.equal(await at('iot.example.com'), 'max-age=60')
    assert.equal(await at('iot.example.com:8080'), 'max-age=60')
    for (const host of ['localhost', 'localhost:8080', 'a.localhost', '10.0.0.5', '[::1]:8080']) assert.equal(await at(host), undefined, host)
    const plain = await serve(t, { auth: 'open' })
    assert.equal((await plain.call('/livez', { headers: { host: 'iot.example.com' } })).headers.get('strict-transport-security'), null)
  })

  it('HTTP: the inner port takes tokens of jobs and nothing else', async (t) => {
    const http = await openHttp(t, secured(t, made.pair('inner')))
    assert.match(http.door.innerUrl, /^http:\/\/127\.0\.0\.1:\d+$/)
    const status = async (path: string, authorization?: string, method = 'GET'): Promise<number> => {
      const answer = await fetch(http.door.innerUrl + path, { method, ...(authorization === undefined ? {} : { headers: { authorization } }) })
      await answer.arrayBuffer()
      return answer.status
    }
    const { token } = await http.tokens.create({ name: 'x', scopes: ['admin'] })
    assert.deepEqual(
      [
        await status('/api/v1/devices'),
        await status('/livez'),
        await status('/api/v1/devices', `Bearer ${token}`),
        await status('/api/v1/devices', 'Bearer job_1'),
      ],
      [401, 401, 401, 200],
    )
    assert.equal(await status('/devices', 'Bearer job_1', 'POST'), 403)
    // And that token is good there only.
    const outside = await serve(t, { auth: 'token', innerTokens: jobTokens })
    assert.equal((await outside.call('/api/v1/devices', { headers: { authorization: 'Bearer job_1' } })).status, 401)
  })

  it('handshakes that do not end hold up nobody', async (t) => {
    const s = secured(t, made.pair('slow'), 'off', 50)
    const door = await openMqtt(t, s)
    const silent = Array.from({ length: 200 }, () => net.connect(door.tlsPort!, '127.0.0.1').on('error', () => undefined))
    const begun = Array.from({ length: 30 }, () => {
      const socket = net.connect(door.tlsPort!, '127.0.0.1').on('error', () => undefined)
      socket.write(Buffer.of(0x16, 3, 1))
      return socket
    })
    await Promise.all([...silent, ...begun].map((socket) => once(socket, 'connect')))
    const from = performance.now()
    ;(await dialled(door.tlsPort!, { ca })).destroy()
    assert.ok(performance.now() - from < 2_000, 'it waited for the others')
    for (const socket of [...silent, ...begun]) socket.destroy()
  })
})
