import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PacketType } from '../../src/wire/mqtt/packets.ts'
import { encodeProperties } from '../../src/wire/mqtt/v5/writer.ts'
import { connect5, publish5 } from './client5.ts'
import { ack, publish, subscribe } from './client-packets.ts'
import { World } from './harness.ts'

const { puback, pubrec, pubrel, pubcomp } = PacketType

test('[MQTT-4.3.3-4] QoS 2 out: PUBLISH, PUBREC, PUBREL, PUBCOMP; the packet id is free after that', () => {
  const world = new World()
  const [to, from] = [connect5(world, 'to'), connect5(world, 'from')]
  to.subscribe('a', 2)
  from.say('a', '1', { qos: 2, id: 9 })
  from.expect('pubrec 9')
  to.expect('publish a 1 2/1')
  to.ack(pubrec, 1)
  to.ack(pubrec, 1)
  to.expect('pubrel 1', 'pubrel 1')
  to.ack(pubcomp, 1)
  to.ack(pubrec, 1)
  to.expect('pubrel 1 92')
  to.ack(pubrec, 77, 0x80)
  to.expect()
  from.ack(pubrel, 9)
  from.ack(pubrel, 9)
  from.expect('pubcomp 9', 'pubcomp 9 92')
})

test('[MQTT-4.3.3-4] a PUBREC that refuses frees the packet id; an acknowledgement out of its turn ends the connection, in 3.1.1 too', () => {
  const world = new World()
  const [to, from] = [connect5(world, 'to', { properties: { receiveMaximum: 1 } }), connect5(world, 'from')]
  to.subscribe('a', 2)
  from.say('a', '1', { qos: 2, id: 1 })
  from.say('a', '2', { qos: 2, id: 2 })
  to.expect('publish a 1 2/1')
  to.ack(pubrec, 1, 0x97)
  to.expect('publish a 2 2/2')
  to.ack(puback, 2)
  to.expect('disconnect 82')
  let id = 2
  for (const [qos, wrong] of [
    [1, 0x50],
    [1, 0x70],
    [2, 0x40],
    [2, 0x70],
  ] as const) {
    const old = world.client('old')
    old.send(subscribe(1, ['a', 2]))
    from.say('a', 'x', { qos, id: ++id })
    old.packets()
    // What is not under way is passed over.
    old.send(ack(0x40, 9), ack(0x70, 9))
    old.expect()
    assert.equal(old.ended, false)
    old.send(ack(wrong, 1))
    old.expect()
    assert.equal(old.ended, true)
  }
})

test('[MQTT-3.3.4-9] no more is under way than the client takes, QoS 2 until its PUBCOMP; QoS 0 goes on', () => {
  const world = new World()
  const [to, from] = [connect5(world, 'to', { properties: { receiveMaximum: 2 } }), connect5(world, 'from')]
  to.subscribe('a', 2)
  for (const [id, qos] of [
    [1, 2],
    [2, 1],
    [3, 1],
    [4, 2],
  ] as const) {
    from.say('a', `${id}`, { qos, id })
  }
  from.say('a', 'zero')
  to.expect('publish a 1 2/1', 'publish a 2 1/2', 'publish a zero 0')
  to.ack(pubrec, 1)
  to.expect('pubrel 1')
  to.ack(pubcomp, 1)
  to.expect('publish a 3 1/3')
  to.ack(puback, 2)
  to.expect('publish a 4 2/4')
})

test('[MQTT-3.3.4-7] a client that exceeds Receive Maximum is told 0x93: QoS 1 that is not durable and QoS 2 without PUBREL count', () => {
  const world = new World({ receiveInflightMax: 3 })
  const client = connect5(world, 'c')
  client.say('a', 'x', { qos: 2, id: 1 })
  client.say('a', 'x', { qos: 2, id: 1, dup: true })
  client.say('devices/d/telemetry', '1', { qos: 1, id: 2 })
  client.say('devices/d/telemetry', '2', { qos: 1, id: 3 })
  client.expect('pubrec 1 10', 'pubrec 1')
  world.gate.sync()
  client.expect('puback 2', 'puback 3')
  client.ack(pubrel, 1)
  client.expect('pubcomp 1')
  for (const id of [4, 5, 6]) client.say('devices/d/telemetry', '3', { qos: 1, id })
  client.expect()
  client.say('devices/d/telemetry', '4', { qos: 1, id: 7 })
  client.expect('disconnect 93')
  assert.equal(client.line.ended, true)
})

test('[MQTT-3.4.2-1] [MQTT-3.5.2-1] PUBACK and PUBREC carry a reason: not authorized, reserved, no subscribers, payload format', () => {
  const world = new World()
  const client = connect5(world, 'c')
  client.subscribe('a', 1)
  client.say('secret/x', 'x', { qos: 1, id: 1 })
  client.say('secret/x', 'x', { qos: 2, id: 2 })
  client.say('secret/x', 'x')
  client.say('$SYS/x', 'x', { qos: 1, id: 3 })
  client.say('$share/x/y', 'x', { qos: 1, id: 4 })
  client.say('nobody', 'x', { qos: 1, id: 5 })
  client.say('a', Uint8Array.of(0xff), { qos: 1, id: 6, properties: { payloadFormatIndicator: true } })
  client.expect('puback 1 87', 'pubrec 2 87', 'puback 3 87', 'puback 4 90', 'puback 5 10', 'puback 6 99')
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'denied' }), 3)
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'payload_format' }), 1)
  // The refused QoS 2 exchange is over: its id is free.
  client.say('secret/x', 'x', { qos: 2, id: 2 })
  client.expect('pubrec 2 87')
  assert.equal(client.line.ended, false)
})

test('[MQTT-3.3.2-4] [MQTT-3.3.2-15] to [MQTT-3.3.2-20] what a message came with goes on unaltered and in its order; an alias does not', () => {
  const world = new World()
  const [to, from] = [connect5(world, 'to'), connect5(world, 'from')]
  to.subscribe('a', 0)
  const properties = {
    payloadFormatIndicator: true,
    contentType: 'text/plain',
    responseTopic: 'r',
    correlationData: Uint8Array.of(1, 0, 255),
    userProperties: [
      ['b', '1'],
      ['a', '2'],
      ['b', '1'],
    ],
  } as const
  from.say('a', 'x', { properties: { ...properties, topicAlias: 2 } })
  from.say('', 'y', { properties: { topicAlias: 2 } })
  to.expect('publish a x 0', 'publish a y 0')
  assert.deepEqual(Buffer.from(to.messages[0]!.properties), Buffer.from(encodeProperties(properties, PacketType.publish)))
  assert.equal(to.messages[1]!.properties.length, 0)
  const old = world.client('old')
  old.send(subscribe(1, ['a', 0]))
  old.packets()
  from.say('a', 'z', { properties })
  old.expect('30 04 00 01 61 7a')
})

test('[MQTT-3.3.2-12] an alias stands for the topic that it was sent with last, for telemetry as well', () => {
  const world = new World({ routesPerClientMax: 2 })
  const client = connect5(world, 'c')
  client.say('devices/a/telemetry', '1', { properties: { topicAlias: 1 } })
  for (const other of ['b', 'c', 'd']) client.say(`devices/${other}/telemetry`, '2')
  client.say('', '3', { properties: { topicAlias: 1 } })
  client.say('devices/b/telemetry', '4', { properties: { topicAlias: 1 } })
  client.say('', '5', { properties: { topicAlias: 1 } })
  assert.deepEqual(
    world.gate.taken.map(({ device, text }) => `${device}${text}`),
    ['a1', 'b2', 'c2', 'd2', 'a3', 'b4', 'b5'],
  )
})

test('[MQTT-3.1.2-26] [MQTT-3.1.2-27] a client is sent aliases up to its maximum, the name with each the first time', () => {
  const world = new World()
  const [to, from, none] = [connect5(world, 'to', { properties: { topicAliasMaximum: 1 } }), connect5(world, 'from'), connect5(world, 'none')]
  to.subscribe('#', 2)
  none.subscribe('#', 2)
  for (const [i, topic] of ['a', 'a', 'a', 'b', 'a', 'b', 'b', 'b', 'a'].entries()) from.say(topic, `${i}`, { qos: (i % 3) as 0 | 1 | 2, id: i + 1 })
  to.read()
  none.read()
  // A negative one came without the name. The second b in a row takes the alias.
  assert.deepEqual(
    to.messages.map(({ topic, alias }) => [topic, alias]),
    [
      ['a', 1],
      ['a', -1],
      ['a', -1],
      ['b', 0],
      ['a', -1],
      ['b', 1],
      ['b', -1],
      ['b', -1],
      ['a', 0],
    ],
  )
  assert.ok(none.messages.every(({ alias }) => alias === 0))
  assert.equal(none.messages.length, 9)
})

test('[MQTT-3.3.2-5] [MQTT-3.3.2-6] a message expires while it waits; what is left of its life goes with it', () => {
  const world = new World()
  const [to, from] = [connect5(world, 'to', { properties: { receiveMaximum: 1 } }), connect5(world, 'from')]
  to.subscribe('a', 1)
  const old = world.client('old')
  old.send(subscribe(1, ['a', 1]))
  old.packets()
  from.say('a', 'first', { qos: 1, id: 1, properties: { messageExpiryInterval: 100 } })
  from.say('a', 'short', { qos: 1, id: 2, properties: { messageExpiryInterval: 5 } })
  from.say('a', 'long', { qos: 1, id: 3, properties: { messageExpiryInterval: 100 } })
  to.expect('publish a first 1/1')
  world.clock.advance(6400)
  to.ack(puback, 1)
  to.expect('publish a long 1/2')
  assert.deepEqual(
    to.messages.map(({ expiryS }) => expiryS),
    [100, 94],
  )
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'expired' }), 1)
  assert.equal(old.packets().length, 3)
})

test('[MQTT-3.8.3-3] No Local; [MQTT-3.3.4-3] [MQTT-3.3.4-4] identifiers of all subscriptions that match, in one copy', () => {
  const world = new World()
  const [one, two] = [connect5(world, 'one'), connect5(world, 'two')]
  one.subscribe('a/#', 2, { noLocal: true, identifier: 3 })
  two.subscribe('a/#', 0, { identifier: 200_000 })
  two.subscribe('a/+', 1, { identifier: 5 })
  two.subscribe('a/b', 0)
  one.say('a/b', 'x', { qos: 2, id: 1 })
  one.expect('pubrec 1')
  two.expect('publish a/b x 1/1')
  assert.deepEqual(two.messages[0]!.identifiers.toSorted(), [200_000, 5].toSorted())
  two.say('a/b', 'y')
  one.expect('publish a/b y 0')
  assert.deepEqual(one.messages[0]!.identifiers, [3])
})

test('[MQTT-3.8.4-3] a subscription is replaced, with its identifier and its options', () => {
  const world = new World()
  const client = connect5(world, 'c')
  client.subscribe('a', 0, { identifier: 1, noLocal: true })
  client.subscribe('a', 1, { identifier: 2 })
  client.say('a', 'x', { qos: 1, id: 1 })
  client.expect('publish a x 1/1', 'puback 1')
  assert.deepEqual(client.messages[0]!.identifiers, [2])
})

test('[MQTT-3.8.4-6] [MQTT-3.9.3-1] SUBACK and UNSUBACK have a reason for each filter [MQTT-3.11.3-1]', () => {
  const world = new World({ subscriptionsPerClientMax: 3 })
  const client = connect5(world, 'c')
  client.subscribe('a', 2)
  for (const [filter, code] of [
    ['secret/x', '87'],
    ['$share/g/secret/x', '87'],
    ['a/'.repeat(200), '8f'],
    ['$share/g/b', '1'],
    ['b', '1'],
    ['c', '97'],
    ['a', '1'],
  ] as const) {
    client.send(subscribeOne(filter))
    client.expect(`suback 9 ${code}`)
  }
  client.unsubscribe('a', 'nothing', '$share/g/b')
  client.expect('unsuback 2 0 11 0')
})

function subscribeOne(filter: string): Uint8Array {
  const name = Buffer.from(filter)
  const length = 2 + 1 + 2 + name.length + 1
  const head = length < 128 ? [0x82, length] : [0x82, (length & 127) | 128, length >> 7]
  return Buffer.concat([Uint8Array.from([...head, 0, 9, 0, name.length >> 8, name.length & 255]), name, Uint8Array.of(1)])
}

test('held publishes keep their properties and their turn', () => {
  const world = new World()
  const [to, from] = [connect5(world, 'to'), connect5(world, 'from')]
  to.subscribe('devices/#', 1)
  world.gate.overloaded = true
  from.say('devices/d/telemetry', '1', { qos: 1, id: 1, properties: { contentType: 'x' } })
  from.say('secret/x', '', { qos: 1, id: 2 })
  from.expect()
  world.gate.overloaded = false
  world.gate.sync()
  world.gate.sync()
  from.expect('puback 1', 'puback 2 87')
  to.expect('publish devices/d/telemetry 1 1/1')
  assert.equal(to.messages[0]!.properties.length, 4)
})

test('a client of 3.1.1 takes QoS 2 as well', () => {
  const world = new World()
  const old = world.client('old')
  old.send(subscribe(1, ['a', 2]))
  old.expect('90 03 00 01 02')
  connect5(world, 'new').send(publish5('a', 'x', { qos: 2, id: 1 }))
  old.expect('34 06 00 01 61 00 01 78')
  old.send(Uint8Array.of(0x50, 2, 0, 1))
  old.expect('62 02 00 01')
  old.send(Uint8Array.of(0x70, 2, 0, 1), publish('a', 'y', { qos: 2, id: 1 }))
  old.expect('34 06 00 01 61 00 02 79', '50 02 00 01')
})
