import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bytesOf, disconnect, hex, publish, puback, subscribe } from './client-packets.ts'
import { World } from './harness.ts'

const telemetry = 'devices/d1/telemetry'
const small = { packetBytesMax: 10_000 }
const big = 'x'.repeat(4096) + 'y'.repeat(50_000)

test('a publish over the limit is kept: size, beginning, origin; then the connection ends without PUBACK', () => {
  const world = new World(small)
  const client = world.client('c1')
  client.send(publish(telemetry, big, { qos: 1, id: 3 }))
  assert.equal(client.ended, true)
  world.gate.sync()
  client.expect()
  assert.equal(world.gate.deadLetters.length, 1)
  const { error, text, totalBytes, client: from, topic } = world.gate.deadLetters[0]!
  assert.deepEqual([error.code, text, totalBytes, from, topic], ['body_too_large', 'x'.repeat(4096), big.length, 'c1', telemetry])
  assert.match(error.message, /54096 bytes.*10000/)
  assert.equal(world.count('kymo_mqtt_disconnects_total', { reason: 'limit' }), 1)
  assert.equal(world.broker.partial.used, 0)
})

test('it is kept however the bytes arrive, and no more of them is held than is kept', () => {
  const bytes = publish(telemetry, big, { qos: 1, id: 3 })
  for (const step of [1, 2, 3, 5, 100, 4096, 5000, 40_000]) {
    const world = new World(small)
    const client = world.client('c1')
    let most = 0
    for (let at = 0; at < bytes.length && !client.ended; at += step) {
      client.send(bytes.subarray(at, at + step))
      most = Math.max(most, world.broker.partial.used)
    }
    assert.equal(client.ended, true)
    assert.deepEqual(
      world.gate.deadLetters.map((letter) => [letter.text, letter.totalBytes]),
      [['x'.repeat(4096), big.length]],
      `in steps of ${step}`,
    )
    assert.ok(most < 4200, `${most} bytes were held`)
  }
})

test('what is there is kept when the connection ends before', () => {
  const bytes = publish(telemetry, big)
  const ends: [string, (world: World, client: ReturnType<World['client']>) => void][] = [
    ['the peer hangs up', (_, client) => client.hangUp()],
    ['the client id is taken over', (world) => void world.client('c1')],
    ['nothing more comes', (world) => world.clock.advance(121_000)],
  ]
  for (const [how, end] of ends) {
    const world = new World(small)
    const client = world.client('c1')
    client.send(bytes.subarray(0, bytes.length - big.length + 10))
    assert.equal(world.gate.deadLetters.length, 0)
    end(world, client)
    assert.deepEqual(
      world.gate.deadLetters.map((letter) => [letter.text, letter.totalBytes]),
      [['x'.repeat(10), big.length]],
      how,
    )
    assert.equal(world.broker.partial.used, 0)
  }
  const world = new World(small)
  const client = world.client('c1')
  client.send(bytes.subarray(0, 10))
  client.hangUp()
  assert.equal(world.gate.deadLetters.length, 0, 'without its topic it is not known to be telemetry')
})

test('only telemetry is kept; what else is wrong with the packet comes first', () => {
  const closed = (...packets: Uint8Array[]): World => {
    const world = new World({ ...small, topicBytesMax: 50 })
    const client = world.client('c1')
    client.send(...packets)
    assert.equal(client.ended, true)
    assert.equal(world.gate.deadLetters.length, 0)
    return world
  }
  closed(publish('chat', big))
  closed(publish('secret/telemetry', big))
  closed(publish('devices/+/telemetry', big))
  closed(publish(telemetry, big, { qos: 1, id: 0 }))
  closed(publish(`devices/${'d'.repeat(60)}/telemetry`, big))
  closed(Buffer.concat([bytesOf('30 ff ff 7f ff ff'), Buffer.alloc(70_000, 97)]))
  closed(subscribe(1, ['a'.repeat(20_000), 0]))
  const line = new World(small).line()
  line.send(publish(telemetry, 'x'.repeat(200_000)))
  assert.equal(line.ended, true)
})

test('a topic that its template refuses is kept as well', () => {
  const world = new World(small)
  world.client('c1').send(publish('devices/no!/telemetry', big))
  assert.equal(world.gate.deadLetters[0]?.error.code, 'body_too_large')
})

test('what came before it is acknowledged by the order of things, and what comes behind it is not read', () => {
  const world = new World(small)
  const client = world.client('c1')
  client.send(publish('chat', 'x', { qos: 1, id: 1 }), publish(telemetry, big), publish(telemetry, 'late'), disconnect)
  client.expect(puback(1))
  assert.equal(world.gate.taken.length, 0)
})

test('one address cannot fill the dead letters: of those beyond its burst one is kept in each interval; others are not touched', () => {
  const world = new World({ ...small, oversizedBurst: 3, oversizedIntervalMs: 1000, oversizedAddressesMax: 2 })
  const send = (address: string): number => {
    const before = world.gate.deadLetters.length
    const line = world.line(address)
    line.send(bytesOf('10 0d 00 04 4d 51 54 54 04 02 00 00 00 01 61'))
    line.send(publish(telemetry, big))
    assert.equal(line.ended, true)
    return world.gate.deadLetters.length - before
  }
  assert.deepEqual(
    [1, 2, 3, 4, 5].map(() => send('10.0.0.1')),
    [1, 1, 1, 0, 0],
  )
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'oversized' }), 2)
  assert.equal(send('10.0.0.2'), 1)
  world.clock.advance(1000)
  assert.deepEqual([send('10.0.0.1'), send('10.0.0.1')], [1, 0])
  world.clock.advance(60_000)
  assert.deepEqual(
    [1, 2, 3, 4].map(() => send('10.0.0.1')),
    [1, 1, 1, 0],
  )
})

test('under overload it is not kept, and counted: it was not acknowledged', () => {
  const world = new World(small)
  const client = world.client('c1')
  world.gate.overloaded = true
  client.send(publish(telemetry, big, { qos: 1 }))
  assert.equal(client.ended, true)
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'overload' }), 1)
})

test('a gate that throws over it ends that connection only', () => {
  const world = new World(small)
  const client = world.client('c1')
  world.gate.deadLetter = () => {
    throw new Error('broken')
  }
  const bytes = publish(telemetry, big)
  client.send(bytes.subarray(0, 1000))
  client.hangUp()
  assert.deepEqual([world.errors.length, world.broker.connections], [1, 0])
})

test('no bytes with RETAIN on a telemetry topic: acknowledged, passed on, neither telemetry nor dead letter', () => {
  const world = new World()
  const watcher = world.client('w')
  watcher.send(subscribe(1, ['#', 0]))
  watcher.packets()
  const client = world.client('c1')
  client.send(publish(telemetry, '', { qos: 1, id: 4, retain: true }))
  client.expect(puback(4))
  client.send(publish(telemetry, '', { retain: true }), publish('devices/no!/telemetry', '', { qos: 2, id: 5, retain: true }))
  client.expect('50 02 00 05')
  assert.deepEqual([world.gate.taken.length, world.gate.deadLetters.length], [0, 0])
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'empty_retained' }), 3)
  watcher.expect(hex(publish(telemetry, '')), hex(publish(telemetry, '')), hex(publish('devices/no!/telemetry', '')))
  client.send(publish(telemetry, '', { qos: 1, id: 6 }), publish(telemetry, ' ', { qos: 1, id: 7, retain: true }))
  assert.deepEqual(
    world.gate.taken.map((message) => message.text),
    ['', ' '],
    'without RETAIN, or with a byte, it is for the decoder to judge',
  )
  world.client('c2', { will: { topic: telemetry, payload: '', retain: true } }).hangUp()
  assert.equal(world.gate.taken.length, 2)
  world.client('c3', { will: { topic: telemetry, payload: '' } }).hangUp()
  assert.equal(world.gate.taken.length, 3)
})
