import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KymoError } from '../../src/core/errors.ts'
import { PacketType } from '../../src/wire/mqtt/packets.ts'
import { connect5 } from './client5.ts'
import { publish, puback, subscribe } from './client-packets.ts'
import { World } from './harness.ts'
import { feed, SlowSessions, stay, storedWorld } from './slow-sessions.ts'

const { pubrel } = PacketType
const telemetry = 'devices/d/telemetry'

test('[MQTT-3.3.1-5] [MQTT-3.3.1-8] [MQTT-3.3.1-9] a new subscriber gets the newest retained message of each topic, with RETAIN', async () => {
  const { world } = storedWorld()
  const from = connect5(world, 'from')
  assert.equal(from.answer?.properties.retainAvailable, undefined)
  from.say('a/1', 'old', { retain: true })
  from.say('a/1', 'new', { retain: true })
  from.say('a/1', 'passing')
  from.say('a/2', 'other', { retain: true })
  from.say('$x/3', 'hidden', { retain: true })
  const to = connect5(world, 'to')
  to.subscribe('#', 1, { identifier: 7 })
  await feed(world)
  to.expect('publish a/1 new 0 retain', 'publish a/2 other 0 retain')
  assert.deepEqual(to.messages[0]!.identifiers, [7])
  from.say('a/1', 'live', { retain: true })
  to.expect('publish a/1 live 0')
  const old = world.client('old')
  old.send(subscribe(1, ['a/2', 1]))
  await feed(world)
  assert.equal(old.packets().length, 2)
})

test('[MQTT-3.3.1-6] [MQTT-3.3.1-7] RETAIN without bytes is delivered and removes what was retained; it is not kept', async () => {
  const { world, store } = storedWorld()
  const [from, to] = [connect5(world, 'from'), connect5(world, 'to')]
  to.subscribe('a', 1)
  from.say('a', '1', { retain: true })
  from.say('a', '', { retain: true })
  to.expect('publish a 1 0', 'publish a  0')
  assert.equal(store.figures().retained, 0)
  const late = connect5(world, 'late')
  late.subscribe('a', 1)
  await feed(world)
  late.expect()
})

test('a retained publish is acknowledged when it is durable, telemetry when both the gate and the store have it, all in order', () => {
  const { world, store } = storedWorld()
  const client = connect5(world, 'c')
  client.say('a', '1', { qos: 1, id: 1, retain: true })
  client.say(telemetry, '2', { qos: 2, id: 2, retain: true })
  client.say(telemetry, '3', { qos: 1, id: 3 })
  client.say('b', '4', { qos: 1, id: 4 })
  assert.deepEqual(
    world.gate.taken.map(({ text }) => text),
    ['2', '3'],
  )
  world.gate.sync()
  client.expect()
  store.sync()
  client.expect('puback 1 10', 'pubrec 2', 'puback 3', 'puback 4 10')
  client.ack(pubrel, 2)
  client.expect('pubcomp 2')
  client.say(telemetry, '5', { qos: 1, id: 5, retain: true })
  store.sync()
  client.expect()
  world.gate.sync()
  client.expect('puback 5')
})

test('while the store takes nothing a retained publish is held and what comes behind it waits, each delivered once', async () => {
  const { world, store } = storedWorld()
  const [client, to] = [connect5(world, 'c'), connect5(world, 'to')]
  to.subscribe('#', 0)
  store.overloaded = true
  client.say('a', '1', { qos: 1, id: 1, retain: true })
  client.say(telemetry, '2', { qos: 1, id: 2, retain: true })
  client.say('a', '3', { retain: true })
  client.say('b', '4', { qos: 1, id: 4 })
  to.expect('publish a 1 0', 'publish a 3 0', 'publish b 4 0')
  world.gate.sync()
  client.expect()
  assert.ok(world.broker.held.used > 0)
  store.overloaded = false
  store.sync()
  client.expect()
  store.sync()
  client.expect('puback 1')
  world.gate.sync()
  client.expect('puback 2', 'puback 4')
  assert.equal(world.broker.held.used, 0)
  to.expect(`publish ${telemetry} 2 0`)
  const late = connect5(world, 'late')
  late.subscribe('#', 0)
  await feed(world)
  late.expect(`publish ${telemetry} 2 0 retain`, 'publish a 3 0 retain')
})

test('what the store finds too large is not retained and its publisher is told; telemetry is taken all the same', () => {
  const { world, store } = storedWorld()
  const client = connect5(world, 'c')
  store.failsWith = new KymoError('record_too_large')
  client.say('a', '1', { qos: 1, id: 1, retain: true })
  client.say(telemetry, '2', { qos: 1, id: 2, retain: true })
  world.gate.sync()
  client.expect('puback 1 97', 'puback 2')
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'too_large' }), 2)
})

test('what is not retained because too much is was delivered all the same, and its publisher is told in MQTT 5; telemetry was taken', async () => {
  const store: SlowSessions = new SlowSessions(() => world.clock.nowUs(), { retainedMessagesMax: 1 })
  const world: World = new World({}, { store })
  const [client, to] = [connect5(world, 'c'), connect5(world, 'to')]
  to.subscribe('#', 0)
  client.say('a', '1', { qos: 1, id: 1, retain: true })
  client.say('b', '2', { qos: 1, id: 2, retain: true })
  client.say('b', '3', { qos: 2, id: 3, retain: true })
  client.say(telemetry, '4', { qos: 1, id: 4, retain: true })
  client.say('a', '5', { qos: 1, id: 5, retain: true })
  const old = world.client('old')
  old.send(publish('b', '6', { qos: 1, id: 6, retain: true }))
  const kept = await stay(world, store, 'kept')
  kept.say('b', '7', { qos: 2, id: 7, retain: true })
  kept.say('b', '8', { qos: 1, id: 8, retain: true })
  world.gate.sync()
  store.sync()
  client.expect('puback 1', 'puback 2 97', 'pubrec 3 97', 'puback 4', 'puback 5')
  assert.deepEqual(old.packets(), [puback(6)])
  kept.expect('connack 0', 'pubrec 7', 'puback 8 97')
  to.expect(
    'publish a 1 0',
    'publish b 2 0',
    'publish b 3 0',
    `publish ${telemetry} 4 0`,
    'publish a 5 0',
    'publish b 6 0',
    'publish b 7 0',
    'publish b 8 0',
  )
  // The refused exchange is over: its packet id is free for another message.
  client.say('b', '9', { qos: 2, id: 3, retain: false })
  client.expect('pubrec 3')
  to.expect('publish b 9 0')
  assert.equal(store.figures().dropped.retained_messages, 6)
  // Of a kept session at QoS 2 only what nobody has had is refused, and its packet id is free again.
  to.unsubscribe('#')
  to.expect('unsuback 2 0')
  kept.say('b', '9', { qos: 2, id: 9, retain: true })
  store.sync()
  kept.expect('pubrec 9 97')
  kept.say('a', '10', { qos: 2, id: 9, retain: true })
  store.sync()
  kept.expect('pubrec 9 10')
  const late = connect5(world, 'late')
  late.subscribe('a', 0)
  await feed(world)
  late.expect('publish a 10 0 retain')
})

test('a retained message has what its publisher gave it, for as long as it lives [MQTT-3.3.2-5] [MQTT-3.3.2-6]', async () => {
  const { world } = storedWorld()
  const from = connect5(world, 'from')
  from.say('a', '1', { retain: true, properties: { messageExpiryInterval: 10, contentType: 't' } })
  world.clock.advance(4_000)
  const to = connect5(world, 'to')
  to.subscribe('a', 0)
  await feed(world)
  to.expect('publish a 1 0 retain')
  assert.equal(to.messages[0]!.expiryS, 6)
  world.clock.advance(6_000)
  to.subscribe('a', 0)
  await feed(world)
  to.expect()
})

test('[MQTT-3.1.2-14] [MQTT-3.1.2-15] a will with RETAIN is retained, another is not; over 3.1.1 too, and when the store was full', async () => {
  const { world, store } = storedWorld()
  world.client('old', { will: { topic: 'w/old', payload: 'gone', retain: true } }).hangUp()
  const will = { topic: 'w/new', payload: Buffer.from('gone'), qos: 1, retain: true, properties: {} } as const
  store.overloaded = true
  connect5(world, 'new', { will }).line.hangUp()
  connect5(world, 'none', { will: { ...will, topic: 'w/none', retain: false } }).line.hangUp()
  assert.equal(store.figures().retained, 1)
  store.overloaded = false
  store.sync()
  const to = connect5(world, 'to')
  to.subscribe('w/+', 1)
  await feed(world)
  to.expect('publish w/old gone 0 retain', 'publish w/new gone 1/1 retain')
})

test('tenants have retained messages of their own', async () => {
  const { world } = storedWorld()
  world.client('x', { username: 'a:x' }).send(publish('t', 'of a', { retain: true }))
  const [a, b] = [world.client('y', { username: 'a:y' }), world.client('z', { username: 'b:z' })]
  for (const one of [a, b]) one.send(subscribe(1, ['t', 0]))
  await feed(world)
  assert.equal(a.packets().length, 2)
  assert.equal(b.packets().length, 1)
})

test('without a store RETAIN changes nothing', () => {
  const world = new World()
  const line = world.client('c')
  line.send(publish('a', 'x', { qos: 1, id: 1, retain: true }), publish(telemetry, 'x', { qos: 1, id: 2, retain: true }))
  world.gate.sync()
  line.expect(puback(1), puback(2))
})
