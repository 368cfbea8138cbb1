import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import { MqttPublisher } from '../../src/cli/mqtt-client/publisher.ts'
import { KymoError } from '../../src/core/errors.ts'
import { parseBrokerAddress } from '../../src/wire/mqtt/address.ts'
import { encodeConnect } from '../../src/wire/mqtt/client.ts'
import { encodeAck, encodeConnack, encodePublish, pingresp, withPacketId } from '../../src/wire/mqtt/encode.ts'
import { Framer } from '../../src/wire/mqtt/framer.ts'
import type { Connect, PacketSink } from '../../src/wire/mqtt/packets.ts'
import { fuzzRuns } from '../support/effort.ts'

interface Published {
  readonly topic: string
  readonly payload: string
  readonly qos: number
  readonly packetId: number
}

function unexpected(): never {
  throw new Error('a packet that a publisher does not send')
}

/** The server's own framer reads what the client writes. */
function sink(o: { connect?: (c: Connect) => void; publish?: (p: Published) => void; pingreq?: () => void; disconnect?: () => void }): PacketSink {
  const text = (b: Uint8Array, from: number, to: number): string => Buffer.from(b.subarray(from, to)).toString()
  return {
    connect: (packet) => o.connect?.(packet),
    publish: (b, flags, ts, te, packetId, ps, pe) =>
      o.publish?.({ topic: text(b, ts, te), payload: text(b, ps, pe), qos: (flags >> 1) & 3, packetId }),
    pingreq: () => o.pingreq?.(),
    disconnect: () => o.disconnect?.(),
    oversized: unexpected,
    acknowledged: unexpected,
    unsupported: unexpected,
    subscribe: unexpected,
    unsubscribe: unexpected,
  }
}

test("the server's framer understands every packet, of any size", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }).filter((s) => !/[#+\u0000-\u001f\u007f-\u009f]/.test(s) && s.isWellFormed()),
      fc.nat({ max: 40_000 }),
      fc.nat({ max: 65_535 }),
      (topic, size, packetId) => {
        const seen: Published[] = []
        const payload = 'x'.repeat(size)
        const framer = new Framer(sink({ connect: () => undefined, publish: (p) => seen.push(p) }), 1_000_000)
        const connect = encodeConnect({ clientId: 'c', keepAliveS: 1, clean: true })
        assert.equal(framer.push(connect, 0, connect.length), undefined)
        const encoded = encodePublish(Buffer.from(topic), Buffer.from(payload), 0, size, packetId === 0 ? 0 : 1)
        const packet = packetId === 0 ? encoded.bytes : withPacketId(encoded, packetId, false)
        assert.equal(framer.push(packet, 0, packet.length), undefined)
        assert.deepEqual(seen, [{ topic, payload, qos: packetId === 0 ? 0 : 1, packetId }])
      },
    ),
    fuzzRuns(100),
  )
  let connected: Connect | undefined
  const packet = encodeConnect({ clientId: 'dev-1', keepAliveS: 30, clean: true, username: 'kymo', password: 'tk_x' })
  assert.equal(new Framer(sink({ connect: (c) => (connected = c) }), 1_000).push(packet, 0, packet.length), undefined)
  assert.deepEqual(
    [connected?.clientId, connected?.keepAliveS, connected?.username, Buffer.from(connected!.password!).toString(), connected?.cleanSession],
    ['dev-1', 30, 'kymo', 'tk_x', true],
  )
})

test('a server that speaks something else, or publishes to who only publishes', async (t) => {
  for (const said of [Buffer.from('HTTP/1.1 400 Bad Request\r\n'), Buffer.concat([encodeConnack(false, 4).subarray(0, 2), Buffer.from([2, 0])])]) {
    const server = net.createServer((socket) => socket.on('error', () => undefined).end(said))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.after(() => server.close())
    await assert.rejects(
      new MqttPublisher({ url: `127.0.0.1:${(server.address() as net.AddressInfo).port}`, clientId: 'c' }).connect(),
      (error: unknown) => error instanceof KymoError && error.code === 'server_unreachable' && /no MQTT/.test(error.message),
    )
  }
})

interface FakeBroker {
  readonly port: number
  readonly published: Published[]
  readonly connects: string[]
  ack: boolean
  cut(): void
  code: 0 | 4 | 5
}

async function fakeBroker(t: { after(fn: () => void): void }): Promise<FakeBroker> {
  const sockets = new Set<net.Socket>()
  const published: Published[] = []
  const connects: string[] = []
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => undefined)
    const framer = new Framer(
      sink({
        connect: ({ clientId }) => {
          connects.push(clientId)
          socket.write(encodeConnack(false, broker.code))
        },
        publish(p) {
          published.push(p)
          if (broker.ack && p.qos === 1) socket.write(encodeAck(4, p.packetId))
        },
        pingreq: () => socket.write(pingresp),
      }),
      1_000_000,
    )
    socket.on('data', (chunk: Buffer) => assert.equal(framer.push(chunk, 0, chunk.length), undefined))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const broker: FakeBroker = {
    port: (server.address() as net.AddressInfo).port,
    published,
    connects,
    ack: true,
    code: 0,
    cut: () => sockets.forEach((socket) => socket.destroy()),
  }
  t.after(() => {
    broker.cut()
    server.close()
  })
  return broker
}

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 1_000 && !what(); i++) await delay(5)
  assert.ok(what())
}

test('QoS 1: every message is acknowledged once, in order, under its token', async (t) => {
  const broker = await fakeBroker(t)
  const acked: number[] = []
  const publisher = new MqttPublisher({ url: `mqtt://127.0.0.1:${broker.port}`, clientId: 'c', onAck: (token) => acked.push(token) })
  await publisher.connect()
  for (let i = 0; i < 500; i++) assert.ok(publisher.publish('t', Buffer.from(String(i)), 1, i))
  assert.equal(await publisher.end(5_000), 0)
  assert.deepEqual(
    acked,
    Array.from({ length: 500 }, (_, i) => i),
  )
  assert.deepEqual(
    broker.published.map((p) => Number(p.payload)),
    acked,
  )
})

test('a lost connection is made again, and what was not acknowledged is published anew', async (t) => {
  const broker = await fakeBroker(t)
  const acked: number[] = []
  const lost: string[] = []
  const publisher = new MqttPublisher({
    url: `127.0.0.1:${broker.port}`,
    clientId: 'c',
    backoffMs: { first: 1, max: 5 },
    onAck: (token) => acked.push(token),
    onLost(reason) {
      lost.push(reason)
      if (lost.length > 1) return
      // Taken while there is no connection: leaves with the next one.
      assert.equal(publisher.connected, false)
      assert.ok(publisher.publish('t', Buffer.from('10'), 1, 10))
      assert.equal(publisher.publish('t', Buffer.from('x'), 0), false)
    },
  })
  t.after(() => publisher.end(0))
  await publisher.connect()
  broker.ack = false
  for (let i = 0; i < 10; i++) publisher.publish('t', Buffer.from(String(i)), 1, i)
  await until(() => broker.published.length === 10)
  assert.equal(publisher.inflight, 10)
  broker.ack = true
  broker.cut()
  await until(() => lost.length > 0)
  assert.equal(await publisher.end(5_000), 0)
  assert.deepEqual(
    acked,
    Array.from({ length: 11 }, (_, i) => i),
  )
  assert.ok(lost.length >= 1)
  assert.deepEqual([...new Set(broker.connects)], ['c'])
})

test('no more than `inflightMax` wait for their acknowledgement', async (t) => {
  const broker = await fakeBroker(t)
  broker.ack = false
  const publisher = new MqttPublisher({ url: `127.0.0.1:${broker.port}`, clientId: 'c', inflightMax: 3 })
  await publisher.connect()
  assert.deepEqual(
    [1, 2, 3, 4].map((i) => publisher.publish('t', Buffer.from('x'), 1, i)),
    [true, true, true, false],
  )
  assert.equal(await publisher.end(10), 3)
})

test('a server that refuses the login, or is not there', async (t) => {
  const broker = await fakeBroker(t)
  broker.code = 4
  await assert.rejects(
    new MqttPublisher({ url: `127.0.0.1:${broker.port}`, clientId: 'c' }).connect(),
    (error: unknown) => error instanceof KymoError && error.code === 'unauthenticated' && /user name or password are wrong/.test(error.message),
  )
  await assert.rejects(
    new MqttPublisher({ url: '127.0.0.1:1', clientId: 'c' }).connect(),
    (error: unknown) => error instanceof KymoError && error.code === 'server_unreachable',
  )
})

test('addresses', () => {
  assert.deepEqual(parseBrokerAddress('example.org'), { host: 'example.org', port: 1883, secure: false })
  assert.deepEqual(parseBrokerAddress('mqtts://a%40b:c@[::1]:9'), { host: '::1', port: 9, secure: true, username: 'a@b', password: 'c' })
  assert.throws(() => parseBrokerAddress('http://x'), /is not an MQTT address/)
  for (const url of ['mqtt://u:se%ret@h', 'http://u:secret@h', 'mqtt://u:sec/ret@h:x', 'mqtt://u:sec@ret@h:99999'])
    assert.throws(
      () => parseBrokerAddress(url),
      (error: unknown) => error instanceof KymoError && error.code === 'usage' && !/sec?|ret/.test(error.message),
    )
})
