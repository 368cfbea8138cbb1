import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { after, before, describe, test } from 'node:test'
import mqtt from 'mqtt'
import { WebSocket } from 'ws'
import { nodeClock, nodeRandom } from '../../src/core/env/node-env.ts'
import type { Env } from '../../src/core/env.ts'
import { Metrics } from '../../src/core/metrics.ts'
import { openMqttDoor } from '../../src/doors/mqtt/door.ts'
import type { MqttDoor } from '../../src/doors/mqtt/door.ts'
import type { MqttLimits } from '../../src/doors/mqtt/limits.ts'
import { connect, disconnect, hex, pingreq, publish, subscribe } from './client-packets.ts'
import { createFastGate } from './fast-gate.ts'
import { quiet, testAuthorizer, testTopics } from './harness.ts'

const env: Env = { clock: nodeClock, random: nodeRandom, logger: quiet, disk: undefined as never }

interface Served {
  readonly door: MqttDoor
  readonly url: string
  readonly port: number
  readonly taken: [string, string][]
  stop(): Promise<void>
}

/** The door behind an HTTP server that hands every upgrade on. */
async function serve(limits: Partial<MqttLimits> = {}): Promise<Served> {
  const taken: [string, string][] = []
  const gate = createFastGate((topic, text) => taken.push([topic, text]))
  const authorizer = testAuthorizer
  const door = await openMqttDoor({ host: '127.0.0.1', port: 0, gate, topics: testTopics, authorizer, env, metrics: new Metrics(), limits })
  const server = http.createServer()
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => undefined)
    door.upgrade(request, socket as net.Socket, head)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  return {
    door,
    taken,
    port,
    url: `ws://127.0.0.1:${port}/mqtt`,
    async stop() {
      await door.close(100)
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

interface Client {
  readonly ws: WebSocket
  /** The next bytes, in hex, whatever messages they came in. */
  read(bytes: number): Promise<string>
  readonly closed: Promise<[number, string]>
}

async function open(url: string, protocol: string | string[] = 'mqtt'): Promise<Client> {
  const ws = new WebSocket(url, protocol)
  let bytes = Buffer.alloc(0)
  let wake: (() => void) | undefined
  ws.on('message', (data, binary) => {
    assert.equal(binary, true, '[MQTT-6.0.0-1]')
    bytes = Buffer.concat([bytes, data as Buffer])
    wake?.()
  })
  ws.on('error', () => undefined)
  const closed = new Promise<[number, string]>((resolve) => ws.on('close', (code, reason) => resolve([code, reason.toString()])))
  await once(ws, 'open')
  return {
    ws,
    closed,
    async read(length) {
      while (bytes.length < length) await new Promise<void>((resolve) => (wake = resolve))
      const head = bytes.subarray(0, length)
      bytes = bytes.subarray(length)
      return hex(head)
    },
  }
}

/** The answer to a handshake without a WebSocket library. */
async function handshake(port: number, headers: readonly string[]): Promise<string> {
  const socket = net.connect(port, '127.0.0.1')
  const lines = ['GET /mqtt HTTP/1.1', 'Host: 127.0.0.1', 'Upgrade: websocket', 'Connection: Upgrade', ...headers]
  socket.end(`${lines.join('\r\n')}\r\n\r\n`)
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}

/** A frame as a client sends it (RFC 6455, section 5.2), masked with zeros. */
function frame(opcode: number, payload: Uint8Array, o: { readonly length?: number } = {}): Buffer {
  const length = o.length ?? payload.length
  const head = Buffer.alloc(length < 126 ? 6 : 14)
  head[0] = 0x80 | opcode
  head[1] = 0x80 | Math.min(length, 127)
  if (length >= 126) head.writeBigUInt64BE(BigInt(length), 2)
  return Buffer.concat([head, payload])
}

/** A socket behind the handshake, for what no library sends. */
async function raw(port: number): Promise<{ readonly socket: net.Socket; readonly ended: Promise<Buffer> }> {
  const socket = net.connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  const key = 'dGhlIHNhbXBsZSBub25jZQ=='
  socket.write(
    'GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n`,
  )
  const chunks: Buffer[] = []
  const ended = new Promise<Buffer>((resolve) => socket.on('close', () => resolve(Buffer.concat(chunks))))
  const [first] = (await once(socket, 'data')) as [Buffer]
  assert.match(first.toString(), /^HTTP\/1\.1 101 [^]*s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/)
  socket.on('data', (chunk) => chunks.push(chunk))
  return { socket, ended }
}

/** The code of the close frame that is the last of `bytes`. */
function closeCode(bytes: Buffer): number {
  const at = bytes.lastIndexOf(0x88)
  return bytes.readUInt16BE(at + 2)
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setImmediate(resolve))
}

describe('MQTT over WebSocket', () => {
  let s: Served
  before(async () => {
    s = await serve({ lingerMs: 100 })
  })
  after(() => s.stop())

  test('[MQTT-6.0.0-3] [MQTT-6.0.0-4] MQTT.js: telemetry is taken, messages come back, in packets of every size', async () => {
    const client = await mqtt.connectAsync(s.url, { clientId: 'js', protocolVersion: 4, reconnectPeriod: 0 })
    await client.subscribeAsync('a/#', { qos: 1 })
    const got: number[] = []
    const sizes = [0, 1, 125, 126, 70_000, 600_000]
    const all = new Promise<void>((resolve) => client.on('message', (_topic, payload) => got.push(payload.length) === sizes.length && resolve()))
    for (const size of sizes) await client.publishAsync('a/x', Buffer.alloc(size, 7), { qos: 1 })
    await all
    assert.deepEqual(got, sizes)
    await client.publishAsync('devices/d/telemetry', '21.5', { qos: 1 })
    assert.deepEqual(s.taken, [['devices/d/telemetry', '21.5']])
    await client.endAsync()
    await until(() => s.door.connections() === 0)
  })

  test('MQTT 5 is spoken over WebSocket as well', async () => {
    const client = await mqtt.connectAsync(s.url, { clientId: 'five', protocolVersion: 5, reconnectPeriod: 0 })
    const came = new Promise<unknown>((resolve) => client.once('message', (_topic, _payload, packet) => resolve(packet.properties?.contentType)))
    await client.subscribeAsync('five/#', { qos: 1 })
    await client.publishAsync('five/x', 'y', { qos: 1, properties: { contentType: 'text/plain' } })
    assert.equal(await came, 'text/plain')
    assert.equal(s.door.operator.client('default', 'five')?.protocol_level, 5)
    await client.endAsync()
  })

  test('[MQTT-6.0.0-2] a packet spans messages and frames, a message has several packets', async () => {
    const client = await open(s.url)
    for (const byte of connect({ clientId: 'bytes' })) client.ws.send(Uint8Array.of(byte))
    assert.equal(await client.read(4), '20 02 00 00')
    const packets = Buffer.concat([pingreq, subscribe(1, ['b', 0]), publish('b', 'x'), pingreq])
    for (let at = 0; at < packets.length; at += 3) client.ws.send(packets.subarray(at, at + 3), { fin: at + 3 >= packets.length })
    assert.equal(await client.read(14), 'd0 00 90 03 00 01 00 30 04 00 01 62 78 d0')
    client.ws.send(Buffer.concat([pingreq, pingreq, pingreq]))
    assert.equal(await client.read(7), '00 d0 00 d0 00 d0 00')
    client.ws.send(disconnect)
    assert.deepEqual(await client.closed, [1000, ''])
  })

  test('[MQTT-6.0.0-1] a text frame ends the connection, as if the network had: the will is published', async () => {
    const heir = await open(s.url)
    heir.ws.send(Buffer.concat([connect({ clientId: 'heir' }), subscribe(1, ['gone', 0])]))
    await heir.read(9)
    const client = await open(s.url)
    client.ws.send(connect({ clientId: 'text', will: { topic: 'gone', payload: 'x' } }))
    await client.read(4)
    client.ws.send('hello')
    assert.equal((await client.closed)[0], 1003)
    assert.equal(await heir.read(9), '30 07 00 04 67 6f 6e 65 78')
    heir.ws.send(disconnect)
    await until(() => s.door.connections() === 0)
  })

  test('[MQTT-6.0.0-3] [MQTT-6.0.0-4] the subprotocol is mqtt; that of MQTT 3.1 is taken as well, others and none are refused', async () => {
    for (const [offered, chosen] of [
      ['mqtt', 'mqtt'],
      [['other', 'mqttv3.1', 'mqtt'], 'mqtt'],
      ['mqttv3.1', 'mqttv3.1'],
    ] as const) {
      const { ws } = await open(s.url, [offered].flat())
      assert.equal(ws.protocol, chosen)
      ws.terminate()
    }
    const key = ['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==']
    assert.match(await handshake(s.port, key), /^HTTP\/1\.1 400 [^]*subprotocol mqtt/)
    assert.match(await handshake(s.port, [...key, 'Sec-WebSocket-Protocol: chat']), /^HTTP\/1\.1 400 /)
    // What the library refuses.
    assert.match(await handshake(s.port, ['Sec-WebSocket-Protocol: mqtt']), /^HTTP\/1\.1 400 /)
  })

  test('nothing is compressed, whatever the client offers', async () => {
    const client = new WebSocket(s.url, 'mqtt', { perMessageDeflate: true })
    await once(client, 'open')
    assert.equal(client.extensions, '')
    client.terminate()
  })

  test('a refused CONNECT gets its CONNACK and a close', async () => {
    const client = await open(s.url)
    client.ws.send(connect({ username: 'eve' }))
    assert.equal(await client.read(4), '20 02 00 05')
    assert.deepEqual(await client.closed, [1000, ''])
  })

  test('a ping is answered; frames that are no WebSocket, a message that is too large and one that says so are closed', async () => {
    const client = await open(s.url)
    client.ws.ping('hello')
    const [said] = (await once(client.ws, 'pong')) as [Buffer]
    assert.equal(said.toString(), 'hello')
    client.ws.terminate()
    for (const [bytes, code] of [
      [frame(3, Buffer.alloc(1)), 1002],
      [Buffer.from([0x82, 0x05, 1, 2, 3, 4, 5]), 1002],
      [frame(1, Buffer.from([0xff, 0xfe])), 1007],
      [frame(2, Buffer.alloc(0), { length: 1 << 30 }), 1009],
    ] as const) {
      const { socket, ended } = await raw(s.port)
      socket.write(bytes)
      // It closes although the client does not answer the close frame.
      assert.equal(closeCode(await ended), code)
    }
    await until(() => s.door.connections() === 0)
  })
})

test('a client that pings and reads nothing fills no buffer', async (t) => {
  const s = await serve({ socketBufferBytesMax: 4096, lingerMs: 100 })
  t.after(() => s.stop())
  const { socket, ended } = await raw(s.port)
  socket.pause()
  const ping = frame(9, Buffer.alloc(125))
  const pings = Buffer.concat(Array.from({ length: 500 }, () => ping))
  const times = 800
  for (let i = 0; i < times; i++) if (!socket.write(pings)) await once(socket, 'drain')
  socket.write(frame(8, Buffer.alloc(0)))
  await once(socket.resume(), 'data')
  // What the kernel's buffers hold, and not all of it.
  assert.ok((await ended).length < (times * 500 * 127) / 2)
})

test('too many connections: over WebSocket as over TCP, of one address and in all', async () => {
  const s = await serve({ connectionsPerAddressMax: 1 })
  const tcp = net.connect(s.door.port, '127.0.0.1')
  await once(tcp, 'connect')
  await until(() => s.door.connections() === 1)
  const client = await open(s.url)
  assert.equal((await client.closed)[0], 1013)
  tcp.destroy()
  await until(() => s.door.connections() === 0)
  assert.equal((await open(s.url)).ws.readyState, WebSocket.OPEN)
  await s.stop()
})

test('no CONNECT, and messages that stay incomplete, end the connection', async () => {
  const s = await serve({ connectTimeoutMs: 50 })
  assert.equal((await (await open(s.url)).closed)[0], 1000)
  await s.stop()
  const slow = await serve({ packetTimeoutMs: 50, lingerMs: 100 })
  const { socket, ended } = await raw(slow.port)
  socket.write(frame(2, connect({ clientId: 'slow', keepAlive: 0 })))
  await until(() => slow.door.connections() === 1)
  socket.write(frame(2, Buffer.alloc(10), { length: 1000 }))
  assert.equal(closeCode(await ended), 1000)
  await slow.stop()
})

test('what waits in incomplete messages counts with incomplete packets', async () => {
  const s = await serve({ partialTotalBytesMax: 100_000, lingerMs: 20 })
  const { socket, ended } = await raw(s.port)
  socket.write(frame(2, connect({ clientId: 'much' })))
  socket.write(frame(2, Buffer.alloc(300_000), { length: 900_000 }))
  assert.equal(closeCode(await ended), 1013)
  // It no longer counts: the next one may do the same with less.
  const next = await raw(s.port)
  next.socket.write(frame(2, connect({ clientId: 'less' })))
  next.socket.write(frame(2, Buffer.alloc(50_000), { length: 900_000 }))
  const other = await open(s.url)
  other.ws.send(connect({ clientId: 'other' }))
  assert.equal(await other.read(4), '20 02 00 00')
  next.socket.destroy()
  await s.stop()
})

test('a client that does not read is not read either, and does not slow the others', async () => {
  const s = await serve({ sendQueueMax: 10, socketBufferBytesMax: 64 * 1024 })
  const { socket } = await raw(s.port)
  socket.write(frame(2, connect({ clientId: 'deaf' })))
  socket.write(frame(2, subscribe(1, ['much', 0])))
  const publisher = await mqtt.connectAsync(s.url, { protocolVersion: 4, reconnectPeriod: 0 })
  await publisher.subscribeAsync('much')
  let heard = 0
  publisher.on('message', () => heard++)
  socket.pause()
  const payload = Buffer.alloc(50_000)
  for (let i = 0; i < 400; i++) await publisher.publishAsync('much', payload, { qos: 1 })
  await until(() => heard === 400)
  socket.destroy()
  await publisher.endAsync()
  await s.stop()
})

test('deliveries go on when the network has taken what waited', async () => {
  const s = await serve()
  const subscriber = await mqtt.connectAsync(s.url, { clientId: 'sub', protocolVersion: 4, reconnectPeriod: 0 })
  await subscriber.subscribeAsync('much', { qos: 1 })
  let heard = 0
  subscriber.on('message', () => heard++)
  const publisher = await mqtt.connectAsync(s.url, { clientId: 'pub', protocolVersion: 4, reconnectPeriod: 0 })
  const payload = Buffer.alloc(30_000)
  for (let i = 0; i < 500; i++) await publisher.publishAsync('much', payload, { qos: 1 })
  await until(() => heard === 500)
  await Promise.all([subscriber.endAsync(), publisher.endAsync()])
  await s.stop()
})

test('a door that closes tells its clients that it goes away', async () => {
  const s = await serve()
  const client = await open(s.url)
  client.ws.send(connect({ clientId: 'last' }))
  await client.read(4)
  await s.stop()
  assert.deepEqual(await client.closed, [1001, 'The server is shutting down.'])
})
