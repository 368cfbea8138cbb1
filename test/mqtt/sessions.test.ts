import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ack, bytesOf, connect, disconnect, hex, pingreq, puback, publish, subscribe, unsubscribe } from './client-packets.ts'
import { World } from './harness.ts'

const telemetry = 'devices/d1/telemetry'

test('[MQTT-3.1.0-1] the first packet must be a CONNECT', () => {
  for (const first of [publish(telemetry, 'x', { qos: 1 }), pingreq, subscribe(1, ['#', 0]), unsubscribe(1, 'a'), disconnect, ack(0x40, 1)]) {
    const world = new World()
    const line = world.line()
    line.send(first)
    line.expect()
    assert.equal(line.ended, true)
    assert.equal(world.gate.taken.length, 0)
  }
})

test('[MQTT-3.1.0-2] a second CONNECT ends the connection', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(connect({ clientId: 'c1' }))
  client.expect()
  assert.equal(client.ended, true)
})

test('[MQTT-3.1.2-2] other protocol levels: CONNACK 0x01', () => {
  for (const [level, answer] of [
    [6, '20 02 00 01'],
    [3, '20 02 00 01'],
    [0x84, '20 02 00 01'],
  ] as const) {
    const line = new World().line()
    line.send(connect({ level }))
    line.expect(answer)
    assert.equal(line.ended, true)
  }
})

test('MQTT 3.1 is spoken like 3.1.1', () => {
  const line = new World().line()
  line.send(connect({ name: 'MQIsdp', level: 3 }))
  line.expect('20 02 00 00')
})

test('[MQTT-3.1.3-7] [MQTT-3.1.3-8] an empty client id is given one with a clean session, and refused without', () => {
  const world = new World()
  const one = world.line()
  one.send(connect({ clientId: '' }))
  one.expect('20 02 00 00')
  const other = world.line()
  other.send(connect({ clientId: '', clean: false }))
  other.expect('20 02 00 02')
  assert.equal(other.ended, true)
})

test('CleanSession 0 is accepted, with session present 0 [MQTT-3.2.2-3]', () => {
  const world = new World()
  const line = world.line()
  line.send(connect({ clean: false }))
  line.expect('20 02 00 00')
})

test('[MQTT-3.1.4-2] a client id that connects again closes the old connection, whose late messages change nothing', () => {
  const world = new World()
  const first = world.client('c1')
  first.send(publish(telemetry, 'x', { qos: 1, id: 1 }))
  const second = world.client('c1')
  assert.equal(first.ended, true)
  first.send(publish(telemetry, 'y', { qos: 1, id: 2 }))
  world.gate.sync()
  first.expect()
  second.expect()
  assert.equal(world.gate.taken.length, 1)
  assert.equal(world.broker.connections, 1)
  world.client('c1', { username: 'other:tenant' })
  assert.equal(second.ended, false, 'another tenant may have a client of the same id')
  world.client('c1')
  assert.equal(second.ended, true)
})

test('a failed password is answered late, and guesses in parallel are not looked at', () => {
  const world = new World({ authPendingPerAddressMax: 2 })
  const guess = (): ReturnType<World['line']> => {
    const line = world.line('10.6.6.6')
    line.send(connect({ username: 'u', password: 'wrong' }))
    return line
  }
  const [first, second, third] = [guess(), guess(), guess()]
  first.expect()
  assert.equal(first.paused, true)
  third.expect('20 02 00 03')
  const good = world.line('10.6.6.6')
  good.send(connect({ username: 'u', password: 'right' }))
  good.expect('20 02 00 03')
  second.hangUp()
  const again = guess()
  again.expect('20 02 00 03')
  const elsewhere = world.line('10.7.7.7')
  elsewhere.send(connect({ username: 'u', password: 'right' }))
  elsewhere.expect('20 02 00 00')
  world.clock.advance(1000)
  first.expect('20 02 00 04')
  assert.equal(first.ended, true)
  assert.equal(world.count('kymo_auth_failures_total', { transport: 'mqtt' }), 5)
})

test('not authorized is CONNACK 0x05', () => {
  const world = new World()
  const line = world.line()
  line.send(connect({ username: 'eve', password: 'x' }))
  world.clock.advance(1000)
  line.expect('20 02 00 05')
  assert.equal(line.ended, true)
})

test('[MQTT-3.3.5-2] publishing where it is not allowed ends the connection', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish('secret/x', 'x', { qos: 1 }))
  client.expect()
  assert.equal(client.ended, true)
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'denied' }), 1)
})

test('[MQTT-3.1.2-24] keep-alive: silence for one and a half times ends the connection; any packet starts it anew', () => {
  const world = new World()
  const client = world.client('c1', { keepAlive: 10 })
  world.clock.advance(14_000)
  client.send(pingreq)
  client.expect('d0 00')
  world.clock.advance(14_999)
  assert.equal(client.ended, false)
  world.clock.advance(2)
  assert.equal(client.ended, true)
  assert.equal(world.count('kymo_mqtt_disconnects_total', { reason: 'keep_alive' }), 1)
  assert.equal(world.clock.timers, 0)
})

test('keep-alive 0 is never over', () => {
  const world = new World()
  const client = world.client('c1')
  world.clock.advance(24 * 3600 * 1000)
  assert.equal(client.ended, false)
})

test('keep-alive does not run while it is the server that does not read', () => {
  const world = new World({ receiveInflightMax: 2 })
  const client = world.client('c1', { keepAlive: 1 })
  client.send(publish(telemetry, 'a', { qos: 1, id: 1 }), publish(telemetry, 'b', { qos: 1, id: 2 }))
  assert.equal(client.paused, true)
  world.clock.advance(60_000)
  assert.equal(client.ended, false)
  world.gate.sync()
  assert.equal(client.paused, false)
  world.clock.advance(1501)
  assert.equal(client.ended, true)
})

test('no CONNECT in time: closed, however it drips', () => {
  const world = new World()
  const silent = world.line()
  const dripping = world.line()
  const bytes = connect({ clientId: 'x'.repeat(200) })
  for (let i = 0; i < 10; i++) {
    dripping.send(bytes.subarray(i, i + 1))
    world.clock.advance(1000)
  }
  assert.equal(silent.ended, true)
  assert.equal(dripping.ended, true)
  assert.equal(world.broker.connections, 0)
  assert.equal(world.broker.partial.used, 0)
})

test('a packet that drips is given up although the client has no keep-alive', () => {
  const world = new World()
  const client = world.client('c1')
  const big = publish(telemetry, 'x'.repeat(5000), { qos: 1 })
  for (let i = 0; i < 130 && !client.ended; i++) {
    client.send(big.subarray(i, i + 1))
    world.clock.advance(1000)
  }
  assert.equal(client.ended, true)
  assert.equal(world.count('kymo_mqtt_disconnects_total', { reason: 'packet_timeout' }), 1)
})

test('a large packet on a slow line is not given up while it makes progress', () => {
  const world = new World()
  const client = world.client('c1', { keepAlive: 20 })
  const big = publish('chat', 'x'.repeat(100_000), { qos: 1, id: 3 })
  for (let at = 0; at < big.length; at += 2000) {
    client.send(big.subarray(at, at + 2000))
    world.clock.advance(10_000)
  }
  client.expect(puback(3))
})

test('connections are limited in total and for each address', () => {
  const world = new World({ connectionsMax: 3, connectionsPerAddressMax: 2 })
  const lines = [world.line('10.0.0.1'), world.line('10.0.0.1'), world.line('10.0.0.1'), world.line('10.0.0.2'), world.line('10.0.0.3')]
  assert.deepEqual(
    lines.map((line) => line.ended),
    [false, false, true, false, true],
  )
  lines[0]!.hangUp()
  assert.equal(world.line('10.0.0.1').ended, false)
  assert.equal(world.count('kymo_mqtt_connections'), 3)
  const v6 = new World({ connectionsPerAddressMax: 1 })
  assert.deepEqual(
    ['2001:db8:1:2::1', '2001:db8:1:2:9::7', '2001:db8:1:3::1'].map((address) => v6.line(address).ended),
    [false, true, false],
  )
})

test('[MQTT-3.1.2-8] [MQTT-3.1.2-10] the will is published when the client vanishes, and not after DISCONNECT', () => {
  const world = new World()
  const watcher = world.client('w')
  watcher.send(subscribe(1, ['status/+', 1]))
  watcher.expect('90 03 00 01 01')
  const will = { topic: 'status/c1', payload: 'gone', qos: 1, retain: true }
  world.client('c1', { will }).hangUp()
  watcher.expect(hex(publish('status/c1', 'gone', { qos: 1, id: 1 })))
  const polite = world.client('c1', { will })
  polite.send(disconnect)
  assert.equal(polite.ended, true)
  watcher.expect()
  const rude = world.client('c1', { will })
  rude.send(bytesOf('f0 00'))
  watcher.expect(hex(publish('status/c1', 'gone', { qos: 1, id: 2 })))
})

test('a will on a telemetry topic is telemetry, also when it has to wait for the gate', () => {
  const world = new World()
  const will = { topic: telemetry, payload: '{"online":false}' }
  world.client('c1', { will }).hangUp()
  assert.equal(world.gate.taken.length, 1)
  world.gate.overloaded = true
  world.client('c2', { will }).hangUp()
  assert.equal(world.gate.taken.length, 1)
  world.gate.overloaded = false
  world.clock.advance(100)
  assert.equal(world.gate.taken.at(-1)?.client, 'c2')
  assert.equal(world.broker.held.used, 0)
})

test('nothing is obeyed after DISCONNECT', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(disconnect, publish(telemetry, 'x', { qos: 1 }), pingreq)
  client.expect()
  assert.equal(world.gate.taken.length, 0)
})

test('a packet over the limit ends the connection at its header; before CONNECT the limit is lower', () => {
  const world = new World({ packetBytesMax: 1000, connectPacketBytesMax: 300 })
  const client = world.client('c1')
  client.send(publish('chat', 'x'.repeat(900), { qos: 1, id: 1 }))
  client.expect(puback(1))
  client.send(bytesOf('82 e9 07'))
  assert.equal(client.ended, true)
  const line = world.line()
  line.send(bytesOf('10 ad 02'))
  assert.equal(line.ended, true)
  assert.equal(world.count('kymo_mqtt_disconnects_total', { reason: 'limit' }), 2)
})

test('topics beyond the limits of length and depth end the connection', () => {
  for (const topic of ['a'.repeat(51), 'a/'.repeat(20)]) {
    const world = new World({ topicBytesMax: 50, topicLevelsMax: 10 })
    const client = world.client('c1')
    client.send(publish(topic, 'x'))
    assert.equal(client.ended, true)
  }
})

test('incomplete packets of all clients are bounded together', () => {
  const world = new World({ partialTotalBytesMax: 20_000 })
  const clients = Array.from({ length: 6 }, (_, i) => world.client(`c${i}`))
  for (const client of clients) client.send(publish('chat', 'x'.repeat(50_000)).subarray(0, 5_000))
  assert.deepEqual(
    clients.map((client) => client.ended),
    [false, false, false, false, true, true],
  )
  assert.ok(world.broker.partial.used <= 20_000 + 5_000)
})

test('more topics than the route cache holds are served all the same', () => {
  const world = new World({ routesPerClientMax: 8 })
  const client = world.client('gateway')
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 50; i++) client.send(publish(`devices/d${i}/telemetry`, `${i}`))
  }
  assert.deepEqual(
    world.gate.taken.map((message) => message.device),
    Array.from({ length: 150 }, (_, i) => `d${i % 50}`),
  )
})

test('a gate that throws ends that connection, and no other', () => {
  const world = new World()
  const one = world.client('c1')
  const other = world.client('c2')
  world.gate.failsWith = new Error('broken')
  one.send(publish(telemetry, 'x', { qos: 1 }))
  assert.equal(one.ended, true)
  assert.equal(world.errors.length, 1)
  world.gate.failsWith = undefined
  other.send(publish(telemetry, 'x', { qos: 1, id: 1 }))
  world.gate.sync()
  other.expect(puback(1))
})

test('closing waits for what was taken, acknowledges it, and reads nothing more', async () => {
  const world = new World()
  const client = world.client('c1', { will: { topic: telemetry, payload: 'will' } })
  client.send(publish(telemetry, 'a', { qos: 1, id: 1 }))
  const closed = world.broker.close(1000)
  assert.equal(client.paused, true)
  client.send(publish(telemetry, 'b', { qos: 1, id: 2 }))
  assert.equal(client.ended, false)
  world.gate.sync()
  await closed
  client.expect(puback(1))
  assert.equal(client.ended, true)
  assert.deepEqual(
    world.gate.taken.map((message) => message.text),
    ['a'],
    'no will, and nothing that came late',
  )
  assert.equal(world.line().ended, true)
})

test('closing gives up after its time when the log is stalled', async () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish(telemetry, 'a', { qos: 1, id: 1 }))
  const closed = world.broker.close(1000)
  world.clock.advance(1001)
  await closed
  client.expect()
  assert.equal(client.ended, true)
})

test('revoked credentials end their connections', () => {
  const world = new World()
  const one = world.client('c1', { username: 'tk_1' })
  const other = world.client('c2', { username: 'tk_2' })
  assert.equal(world.broker.disconnect('tk_1'), 1)
  assert.deepEqual([one.ended, other.ended], [true, false])
})
