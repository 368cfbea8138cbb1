import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ack, pingreq, puback, publish } from './client-packets.ts'
import { World } from './harness.ts'

const telemetry = 'devices/d1/telemetry'

test('PUBACK comes when the reading is durable, not before', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish(telemetry, '{"t":1}', { qos: 1, id: 7 }))
  client.expect()
  assert.deepEqual(world.gate.taken, [{ topic: telemetry, tenant: 'default', client: 'c1', device: 'd1', packetId: 7, dup: false, text: '{"t":1}' }])
  world.gate.sync(0)
  client.expect()
  world.gate.sync()
  client.expect(puback(7))
})

test('the gate is told DUP and the packet id of each message; QoS 0 has none', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish(telemetry, 'a', { qos: 1, id: 7, dup: true }), publish(telemetry, 'b'), publish(telemetry, 'c', { qos: 1, id: 8 }))
  assert.deepEqual(
    world.gate.taken.map(({ text, packetId, dup }) => [text, packetId, dup]),
    [
      ['a', 7, true],
      ['b', 0, false],
      ['c', 8, false],
    ],
  )
})

test('[MQTT-4.6.0-2] PUBACKs come in the order of the PUBLISHes, all of a sync in one write', () => {
  const world = new World()
  const client = world.client('c1')
  const ids = [5, 3, 900, 1, 65_535]
  client.send(...ids.map((id) => publish(telemetry, 'x', { qos: 1, id })))
  world.gate.sync(2)
  assert.equal(client.writes, 1)
  client.expect(puback(5), puback(3))
  world.gate.sync()
  assert.equal(client.writes, 1)
  client.expect(puback(900), puback(1), puback(65_535))
})

test('[MQTT-4.6.0-2] a publish that is only routed is acknowledged at once, but never before an earlier one', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish('chat', 'x', { qos: 1, id: 1 }))
  client.expect(puback(1))
  client.send(publish(telemetry, 'x', { qos: 1, id: 2 }), publish('chat', 'x', { qos: 1, id: 3 }))
  client.expect()
  world.gate.sync()
  client.expect(puback(2), puback(3))
})

test('the ring of acknowledgements grows and wraps', () => {
  const world = new World()
  const client = world.client('c1')
  let id = 0
  for (let round = 0; round < 20; round++) {
    const ids = Array.from({ length: 13 + round }, () => ++id)
    client.send(...ids.map((id) => publish(telemetry, 'x', { qos: 1, id })))
    const behind = 5
    world.gate.sync(world.gate.last - behind)
    const acked = client.packets()
    assert.equal(acked.at(-1), puback(id - behind))
  }
  world.gate.sync()
  assert.equal(client.packets().at(-1), puback(id))
})

test('a refused message is acknowledged once its dead letter is durable, and counted', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish(telemetry, 'bad', { qos: 1, id: 1 }))
  client.expect()
  world.gate.sync()
  client.expect(puback(1))
  assert.equal(world.gate.deadLetters.length, 1)
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'refused' }), 1)
})

test('a topic that its template refuses goes to the dead letters with its bytes', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish('devices/no!/telemetry', '{"t":1}', { qos: 1, id: 4 }))
  assert.equal(world.gate.deadLetters[0]?.error.code, 'topic_invalid')
  assert.equal(world.gate.deadLetters[0]?.text, '{"t":1}')
  client.expect()
  world.gate.sync()
  client.expect(puback(4))
})

test('overload withholds PUBACK, still answers PINGREQ, and offers in order again', () => {
  const world = new World()
  const client = world.client('c1')
  world.gate.overloaded = true
  client.send(
    publish(telemetry, 'a', { qos: 1, id: 1 }),
    publish('chat', 'x', { qos: 1, id: 2 }),
    publish(telemetry, 'b', { qos: 1, id: 3 }),
    pingreq,
  )
  client.expect('d0 00')
  client.send(publish(telemetry, 'zero'))
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'overload' }), 1)
  assert.equal(world.gate.taken.length, 0)
  world.gate.overloaded = false
  client.send(publish(telemetry, 'c', { qos: 1, id: 4 }))
  assert.equal(world.gate.taken.length, 0, 'who comes later waits behind')
  world.gate.sync(0)
  assert.deepEqual(
    world.gate.taken.map((message) => message.text),
    ['a', 'b', 'c'],
  )
  client.expect()
  world.gate.sync()
  client.expect(puback(1), puback(2), puback(3), puback(4))
  assert.equal(world.broker.held.used, 0)
})

test('held publishes are offered again after a while when the gate says nothing', () => {
  const world = new World()
  const client = world.client('c1')
  world.gate.overloaded = true
  client.send(publish(telemetry, 'a', { qos: 1, id: 1 }))
  world.gate.overloaded = false
  world.clock.advance(100)
  assert.equal(world.gate.taken.length, 1)
})

test('at the inflight limit reading stops; what was read already is kept and goes on in order', () => {
  const world = new World({ receiveInflightMax: 4 })
  const client = world.client('c1')
  const publishes = Array.from({ length: 10 }, (_, i) => publish(telemetry, `m${i}`, { qos: 1, id: i + 1 }))
  client.send(...publishes)
  assert.equal(client.paused, true)
  assert.equal(world.gate.taken.length, 4)
  world.gate.sync()
  assert.equal(world.gate.taken.length, 8)
  assert.equal(client.paused, true)
  world.gate.sync()
  world.gate.sync()
  assert.equal(client.paused, false)
  assert.deepEqual(
    world.gate.taken.map((message) => message.text),
    publishes.map((_, i) => `m${i}`),
  )
  assert.deepEqual(
    client.packets(),
    publishes.map((_, i) => puback(i + 1)),
  )
  assert.equal(world.broker.partial.used, 0)
})

test('bytes held during overload are bounded for one client, and for all', () => {
  const world = new World({ holdBytesMax: 10_000, holdTotalBytesMax: 15_000 })
  world.gate.overloaded = true
  const first = world.client('c1')
  for (let i = 1; i <= 9; i++) first.send(publish(telemetry, 'x'.repeat(1000), { qos: 1, id: i }))
  assert.equal(first.paused, true)
  assert.ok(world.broker.held.used < 12_000)
  const second = world.client('c2')
  for (let i = 1; i <= 7; i++) if (!second.paused) second.send(publish(telemetry, 'x'.repeat(1000), { qos: 1, id: i }))
  assert.equal(second.paused, true, 'the common budget pauses the second client earlier')
  assert.ok(world.broker.held.used < 17_000)
  world.gate.overloaded = false
  world.gate.sync(0)
  world.gate.sync()
  assert.equal(first.paused, false)
  assert.equal(second.paused, false)
  assert.equal(world.broker.held.used, 0)
})

test('a client that goes while its publishes are held leaves nothing behind', () => {
  const world = new World()
  world.gate.overloaded = true
  const client = world.client('c1')
  client.send(publish(telemetry, 'a', { qos: 1, id: 1 }), publish(telemetry, 'b', { qos: 1, id: 2 }))
  client.hangUp()
  assert.equal(world.broker.held.used, 0)
  world.gate.overloaded = false
  world.gate.sync(0)
  assert.equal(world.gate.taken.length, 0, 'never acknowledged: the client sends it again')
  assert.equal(world.broker.connections, 0)
})

test('[MQTT-4.3.3-2] QoS 2 inbound: PUBREC after durable, PUBCOMP for PUBREL, no second submit while the id is in flight', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish(telemetry, 'a', { qos: 2, id: 9 }))
  client.send(publish(telemetry, 'a', { qos: 2, id: 9, dup: true }))
  client.expect()
  assert.equal(world.gate.taken.length, 1)
  world.gate.sync()
  client.expect('50 02 00 09')
  client.send(publish(telemetry, 'a', { qos: 2, id: 9, dup: true }))
  client.expect('50 02 00 09')
  assert.equal(world.gate.taken.length, 1)
  client.send(ack(0x62, 9))
  client.expect('70 02 00 09')
  client.send(publish(telemetry, 'b', { qos: 2, id: 9 }))
  assert.equal(world.gate.taken.length, 2, 'after PUBREL the id is free')
  client.send(ack(0x62, 12))
  client.expect('70 02 00 0c')
})

test('QoS 2 ids without PUBREL are bounded', () => {
  const world = new World({ receiveInflightMax: 3 })
  const client = world.client('c1')
  for (let id = 1; id <= 4; id++) client.send(publish('chat', 'x', { qos: 2, id }))
  assert.equal(client.ended, true)
  assert.equal(world.count('kymo_mqtt_disconnects_total', { reason: 'limit' }), 1)
})
