import assert from 'node:assert/strict'
import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import mqtt from 'mqtt'
import { nodeClock, nodeRandom } from '../../src/core/env/node-env.ts'
import type { Env } from '../../src/core/env.ts'
import { KymoError } from '../../src/core/errors.ts'
import { Metrics } from '../../src/core/metrics.ts'
import type { MqttAuthorizer } from '../../src/doors/mqtt/authorizer.ts'
import { openMqttDoor } from '../../src/doors/mqtt/door.ts'
import type { MqttDoor } from '../../src/doors/mqtt/door.ts'
import type { MqttLimits } from '../../src/doors/mqtt/limits.ts'
import { createFastGate } from './fast-gate.ts'
import { connect, hex, packet, pingreq, publish, subscribe } from './client-packets.ts'
import { quiet, testAuthorizer, testTopics } from './harness.ts'

const env: Env = { clock: nodeClock, random: nodeRandom, logger: quiet, disk: undefined as never }
const run = promisify(execFile)

function open(
  port = 0,
  onMessage?: (topic: string, text: string) => void,
  limits: Partial<MqttLimits> = {},
  authorizer: MqttAuthorizer = testAuthorizer,
  metrics = new Metrics(),
): Promise<MqttDoor> {
  const gate = createFastGate(onMessage)
  return openMqttDoor({ host: '127.0.0.1', port, gate, topics: testTopics, authorizer, env, metrics, limits })
}

/** A client of bytes. `read` resolves with the next ones in hex (the first 8,000 of them), `ended` with whether the end was a reset. */
async function raw(door: MqttDoor): Promise<{ socket: net.Socket; read: (bytes: number) => Promise<string>; ended: Promise<boolean> }> {
  const socket = net.connect(door.port, '127.0.0.1')
  await once(socket, 'connect')
  let chunks: Buffer[] = []
  let length = 0
  let wake: (() => void) | undefined
  socket.on('data', (chunk) => {
    chunks.push(chunk)
    length += chunk.length
    wake?.()
  })
  socket.on('error', () => undefined)
  const ended = new Promise<boolean>((resolve) => socket.on('close', resolve))
  return {
    socket,
    ended,
    async read(bytes) {
      while (length < bytes) await new Promise<void>((resolve) => (wake = resolve))
      const received = Buffer.concat(chunks)
      chunks = [received.subarray(bytes)]
      length -= bytes
      return hex(received.subarray(0, Math.min(bytes, 8000)))
    },
  }
}

describe('the door with MQTT.js', () => {
  let door: MqttDoor
  const seen: [string, string][] = []
  before(async () => {
    door = await open(0, (topic, text) => seen.push([topic, text]))
  })
  after(() => door.close(100))

  test('publish and subscribe at QoS 0, 1 and 2, with a topic and a payload of every size', async () => {
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${door.port}`, { clientId: 'js', protocolVersion: 4 })
    const granted = await client.subscribeAsync({ 'a/#': { qos: 2 }, b: { qos: 0 } })
    assert.deepEqual(
      granted.map((grant) => grant.qos),
      [2, 0],
    )
    const got: [string, number, number][] = []
    const expected: [string, number, number][] = []
    const all = new Promise<void>((resolve) => {
      client.on('message', (topic, payload, packet) => {
        got.push([topic, payload.length, packet.qos])
        if (got.length === 12) resolve()
      })
    })
    for (const size of [0, 1, 127, 16_300, 70_000, 900_000]) {
      for (const topic of ['a/é/x', 'b'] as const) {
        const qos = (got.length + size) % 3 === 0 ? 2 : 1
        expected.push([topic, size, topic === 'b' ? 0 : qos])
        await client.publishAsync(topic, Buffer.alloc(size, 120), { qos })
      }
    }
    await all
    const order = (list: [string, number, number][]): string[] => list.map((entry) => entry.join(' ')).sort()
    assert.deepEqual(order(got), order(expected))
    await client.endAsync()
  })

  test('telemetry reaches the gate and is acknowledged; many in flight', async () => {
    seen.length = 0
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${door.port}`, { clientId: 'many', protocolVersion: 4 })
    await Promise.all(Array.from({ length: 5000 }, (_, i) => client.publishAsync('devices/d/telemetry', `${i}`, { qos: 1 })))
    assert.deepEqual(
      seen.map(([, text]) => Number(text)),
      Array.from({ length: 5000 }, (_, i) => i),
    )
    await client.endAsync()
  })

  test('the door publishes messages of the server', async () => {
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${door.port}`, { protocolVersion: 4 })
    await client.subscribeAsync('commands/#', { qos: 1 })
    const came = new Promise<[string, Buffer]>((resolve) => client.once('message', (topic, payload) => resolve([topic, payload])))
    door.publish('commands/d1', Buffer.from('on'), 1)
    assert.equal(String((await came)[1]), 'on')
    await client.endAsync()
  })

  // MQTT.js 5 forgets the topic of a QoS 2 message that came with an alias: none is asked for there.
  for (const { topicAliasMaximum, levels } of [
    { topicAliasMaximum: 5, levels: [0, 1] as const },
    { topicAliasMaximum: 0, levels: [0, 1, 2] as const },
  ]) {
    test(`a client of MQTT 5: properties, identifiers, QoS ${levels.join(', ')}, ${topicAliasMaximum} aliases`, async () => {
      const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${door.port}`, {
        protocolVersion: 5,
        autoAssignTopicAlias: true,
        properties: { receiveMaximum: 3, ...(topicAliasMaximum === 0 ? {} : { topicAliasMaximum }) },
      })
      await client.subscribeAsync('five/#', { qos: 2, properties: { subscriptionIdentifier: 7 } })
      const got: string[] = []
      const all = new Promise<void>((resolve) => {
        client.on('message', (topic, payload, packet) => {
          const { subscriptionIdentifier, userProperties } = packet.properties ?? {}
          got.push(JSON.stringify([topic, String(payload), packet.qos, subscriptionIdentifier, userProperties]))
          if (got.length === 30) resolve()
        })
      })
      const expected: string[] = []
      for (let i = 0; i < 30; i++) {
        const qos = levels[i % levels.length]!
        expected.push(JSON.stringify([`five/${i % 5}`, `${i}`, qos, 7, { n: `${i}` }]))
        await client.publishAsync(`five/${i % 5}`, `${i}`, { qos, properties: { userProperties: { n: `${i}` } } })
      }
      await all
      await client.endAsync()
      assert.deepEqual(got.toSorted(), expected.toSorted())
    })
  }

  test('the port is told when it is in use', async () => {
    await assert.rejects(
      open(door.port),
      (error) => error instanceof KymoError && error.code === 'port_in_use' && error.details.facts?.['port'] === door.port,
    )
  })
})

describe('the door and the network', () => {
  test('a read of a thousand packets is answered whole, byte by byte as well', async () => {
    const door = await open()
    const { socket, read } = await raw(door)
    socket.write(connect())
    assert.equal(await read(4), '20 02 00 00')
    socket.write(Buffer.concat(Array.from({ length: 1000 }, (_, i) => publish('devices/d/telemetry', 'x', { qos: 1, id: i + 1 }))))
    const acks = await read(4000)
    assert.equal(acks.slice(-11), '40 02 03 e8')
    for (const byte of publish('devices/d/telemetry', 'x', { qos: 1, id: 5 })) socket.write(Uint8Array.of(byte))
    assert.equal(await read(4), '40 02 00 05')
    socket.destroy()
    await door.close(100)
  })

  test('a refused client can read why, although it had sent more', async () => {
    const door = await open(0, undefined, { authDelayMs: 5, lingerMs: 100 })
    const { socket, read, ended } = await raw(door)
    socket.write(Buffer.concat([connect({ username: 'u', password: 'wrong' }), publish('a', 'x'.repeat(200_000), { qos: 1 })]))
    assert.equal(await read(4), '20 02 00 04')
    socket.end()
    assert.equal(await ended, false)
    await door.close(100)
  })

  test('a client that ends or resets its connection is gone', async () => {
    const door = await open()
    for (const way of ['end', 'resetAndDestroy'] as const) {
      const { socket, read } = await raw(door)
      socket.write(connect())
      await read(4)
      assert.equal(door.connections(), 1)
      socket[way]()
      while (door.connections() > 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await door.close(100)
  })

  test('a subscriber that does not read slows neither the publisher nor its neighbour', async () => {
    const metrics = new Metrics()
    const door = await open(0, undefined, { socketBufferBytesMax: 256 * 1024 }, testAuthorizer, metrics)
    const slow = await raw(door)
    slow.socket.write(Buffer.concat([connect({ clientId: 'slow' }), subscribe(1, ['#', 0])]))
    await slow.read(9)
    slow.socket.pause()
    const quick = await raw(door)
    quick.socket.write(Buffer.concat([connect({ clientId: 'quick' }), subscribe(1, ['#', 0])]))
    await quick.read(9)
    const publisher = await raw(door)
    publisher.socket.write(connect({ clientId: 'publisher' }))
    await publisher.read(4)
    const message = publish('news', 'x'.repeat(100_000), { qos: 1, id: 1 })
    const delivered = publish('news', 'x'.repeat(100_000))
    // 15 MB: more than the kernel keeps for a connection of which nothing is read.
    for (let i = 0; i < 150; i++) {
      publisher.socket.write(message)
      assert.equal(await publisher.read(4), '40 02 00 01')
      await quick.read(delivered.length)
    }
    const dropped = metrics.counter('kymo_mqtt_dropped_total', '', { reason: 'slow_subscriber' }).value
    assert.ok(dropped > 0 && dropped < 150, `${dropped} were dropped for the slow one alone`)
    for (const end of [slow, quick, publisher]) end.socket.destroy()
    await door.close(100)
  })

  test('a neighbour is served while another connection sends what is hostile', async () => {
    const door = await open()
    const neighbour = await raw(door)
    neighbour.socket.write(connect({ clientId: 'neighbour' }))
    await neighbour.read(4)
    const hostile: Uint8Array[] = [
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      Uint8Array.of(0x10, 0xff, 0xff, 0xff, 0xff, 0x7f),
      Uint8Array.of(0x10, 0xff, 0xff, 0xff, 0x7f),
      connect({ flags: 0xff }),
      Buffer.concat([connect(), connect()]),
      Buffer.concat([connect(), Uint8Array.of(0x36, 5, 0, 1, 97, 0, 1)]),
      Buffer.concat([connect(), publish(Uint8Array.of(0xed, 0xa0, 0x80), 'x')]),
      Buffer.concat([connect(), subscribe(1, ['a#', 0])]),
      Buffer.concat([connect(), packet(0x82, [0, 0], [0, 1, 97, 0])]),
      new Uint8Array(100_000).fill(0xc0),
    ]
    for (const bytes of hostile) {
      const { socket, ended } = await raw(door)
      socket.write(bytes)
      neighbour.socket.write(pingreq)
      assert.equal(await neighbour.read(2), 'd0 00')
      await ended
    }
    assert.equal(door.connections(), 1)
    neighbour.socket.destroy()
    await door.close(100)
  })

  test('after stopAccepting no one comes in, and who is in stays', async () => {
    const door = await open()
    const { socket, read, ended } = await raw(door)
    socket.write(connect())
    await read(4)
    door.stopAccepting()
    await assert.rejects(raw(door), { code: 'ECONNREFUSED' })
    socket.write(publish('devices/d/telemetry', 'x', { qos: 1, id: 2 }))
    assert.equal(await read(4), '40 02 00 02')
    await door.close(100)
    await ended
  })
})

const absent = spawnSync('mosquitto_pub', ['--help']).error !== undefined ? 'mosquitto_pub and mosquitto_sub are not installed' : false

describe('the door with mosquitto_pub and mosquitto_sub', { skip: absent }, () => {
  for (const [version, qos] of ['mqttv311', 'mqttv5'].flatMap((level) => ['0', '1', '2'].map((one) => [level, one] as const))) {
    test(`${version}, QoS ${qos}: what mosquitto_pub sends, mosquitto_sub shows and the gate gets`, async () => {
      const seen: string[] = []
      const { promise: subscribed, resolve } = Promise.withResolvers<void>()
      const authorizer: MqttAuthorizer = {
        ...testAuthorizer,
        subscribe: () => {
          resolve()
          return true
        },
      }
      const door = await open(0, (_topic, text) => seen.push(text), {}, authorizer)
      const address = ['-h', '127.0.0.1', '-p', `${door.port}`, '-V', version, '-q', qos, '-t', 'portfolio/telemetry']
      const sub = spawn('mosquitto_sub', [...address, '-C', '1'])
      let shown = ''
      sub.stdout.on('data', (chunk: Buffer) => (shown += String(chunk)))
      const ended = once(sub, 'close')
      await subscribed
      await run('mosquitto_pub', [...address, '-m', '{"temperature":25.5}'])
      assert.deepEqual(await ended, [0, null])
      assert.equal(shown, '{"temperature":25.5}\n')
      assert.deepEqual(seen, ['{"temperature":25.5}'])
      await door.close(100)
    })
  }

  test('mosquitto_pub -t test -m hello is accepted and not decoded', async () => {
    const seen: string[] = []
    const door = await open(0, (_topic, text) => seen.push(text))
    await run('mosquitto_pub', ['-h', '127.0.0.1', '-p', `${door.port}`, '-t', 'test', '-m', 'hello'])
    assert.deepEqual(seen, [])
    await door.close(100)
  })

  test('wrong passwords are refused in words that it understands, in both versions', async () => {
    const door = await open(0, undefined, { authDelayMs: 5 })
    const address = ['-h', '127.0.0.1', '-p', `${door.port}`, '-t', 'test', '-m', 'x']
    await assert.rejects(run('mosquitto_pub', [...address, '-u', 'u', '-P', 'wrong']), /Connection Refused: bad user ?name or password/)
    await assert.rejects(run('mosquitto_pub', [...address, '-V', 'mqttv5', '-u', 'u', '-P', 'wrong']), /bad user ?name or password/i)
    await door.close(100)
  })
})
