import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeConnect5 } from '../../src/wire/mqtt/v5/connect.ts'
import { ReasonCode } from '../../src/wire/mqtt/v5/reason.ts'
import { Client5, connect5, publish5 } from './client5.ts'
import { bytesOf, packet, field, pingreq } from './client-packets.ts'
import { World } from './harness.ts'

const telemetry = 'devices/d1/telemetry'

test('[MQTT-3.1.4-5] CONNACK 0x00 says what differs from the defaults, and nothing else', () => {
  const client = connect5(new World({ receiveInflightMax: 20, packetBytesMax: 5000, topicAliasMax: 8 }), 'c')
  assert.deepEqual(client.answer, {
    sessionPresent: false,
    reasonCode: 0,
    properties: { receiveMaximum: 20, retainAvailable: false, maximumPacketSize: 5000, topicAliasMaximum: 8 },
  })
})

test('[MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] an empty client id is given one, with Clean Start 0 as well', () => {
  for (const clean of [true, false]) {
    const client = connect5(new World(), '', { clean })
    assert.equal(client.answer?.properties.assignedClientIdentifier, 'auto-uuid')
  }
})

test('[MQTT-3.2.2-3] a session that is asked to stay is told that it does not: expiry 0, session present 0', () => {
  const world = new World()
  const client = connect5(world, 'c', { properties: { sessionExpiryInterval: 60 } })
  assert.equal(client.answer?.properties.sessionExpiryInterval, 0)
  client.disconnect()
  assert.equal(connect5(world, 'c', { clean: false }).answer?.sessionPresent, false)
})

test('[MQTT-3.1.2-21] [MQTT-3.2.2-21] Server Keep Alive takes the place of the longer one of the client', () => {
  for (const [keepAliveS, said] of [
    [120, 60],
    [0, 60],
    [60, undefined],
    [10, undefined],
  ] as const) {
    const world = new World({ keepAliveSMax: 60 })
    const client = connect5(world, 'c', { keepAliveS })
    assert.equal(client.answer?.properties.serverKeepAlive, said)
    const holds = (said ?? keepAliveS) * 1500
    world.clock.advance(holds - 1)
    assert.equal(client.line.ended, false)
    world.clock.advance(2)
    client.expect('disconnect 8d')
    assert.equal(client.line.ended, true)
  }
})

test('[MQTT-3.1.3-8] [MQTT-4.12.0-1] [MQTT-3.2.2-13] [MQTT-3.2.2-6] what a connection is refused for, in CONNACK', () => {
  const will = { topic: 'w', payload: bytesOf('ff fe'), qos: 0, retain: false } as const
  for (const [fields, code] of [
    [{ clientId: 'x'.repeat(300) }, ReasonCode.clientIdentifierNotValid],
    [{ properties: { authenticationMethod: 'SCRAM-SHA-1' } }, ReasonCode.badAuthenticationMethod],
    [{ will: { ...will, retain: true } }, ReasonCode.retainNotSupported],
    [{ will: { ...will, properties: { payloadFormatIndicator: true } } }, ReasonCode.payloadFormatInvalid],
    [{ username: 'eve', password: 'x' }, ReasonCode.notAuthorized],
    [{ username: 'u', password: 'wrong' }, ReasonCode.badUserNameOrPassword],
    // MQTT 5 allows a password alone.
    [{ password: 'wrong' }, ReasonCode.badUserNameOrPassword],
  ] as const) {
    const world = new World()
    const client = new Client5(world.line())
    client.send(encodeConnect5({ clientId: 'c', clean: true, keepAliveS: 0, ...fields }))
    world.clock.advance(1000)
    client.expect(`connack ${code.toString(16)}`)
    assert.equal(client.answer?.sessionPresent, false)
    assert.notEqual(client.answer?.properties.reasonString, undefined)
    assert.equal(client.line.ended, true)
  }
})

test('[MQTT-3.1.4-1] a CONNECT that is malformed is refused with the reason', () => {
  for (const [bytes, code] of [
    [packet(0x10, field('MQTT'), [5, 3, 0, 0, 0], field('c')), '81'],
    [packet(0x10, field('MQTT'), [5, 2, 0, 0, 3, 0x21, 0, 0], field('c')), '82'],
  ] as const) {
    const client = new Client5(new World().line())
    client.send(bytes)
    client.expect(`connack ${code}`)
    assert.equal(client.line.ended, true)
  }
})

test('[MQTT-3.1.0-2] [MQTT-4.13.1-1] protocol errors end the connection with DISCONNECT and their reason', () => {
  for (const [send, code] of [
    [(c: Client5) => c.send(encodeConnect5({ clientId: 'c', clean: true, keepAliveS: 0 })), '82'],
    [(c: Client5) => c.authenticate(), '82'],
    [(c: Client5) => c.send(bytesOf('f1 00')), '81'],
    [(c: Client5) => c.send(publish5('', 'x', { properties: { topicAlias: 3 } })), '82'],
    [(c: Client5) => c.send(publish5('a', 'x', { properties: { topicAlias: 257 } })), '94'],
    [(c: Client5) => c.disconnect(0, { sessionExpiryInterval: 5 }), '82'],
    [(c: Client5) => c.send(publish5('a', 'x'.repeat(5000))), '95'],
    [(c: Client5) => c.send(publish5('a/'.repeat(200), 'x')), '90'],
  ] as const) {
    const client = connect5(new World({ packetBytesMax: 2000, topicAliasMax: 256 }), 'c')
    send(client)
    client.expect(`disconnect ${code}`)
    assert.notEqual(client.disconnects[0]?.properties.reasonString, undefined)
    assert.equal(client.line.ended, true)
  }
})

test('[MQTT-3.1.4-3] who is taken over is told 0x8E; a shutdown 0x8B; a revoked token 0x87', async () => {
  const world = new World()
  const first = connect5(world, 'c')
  const second = connect5(world, 'c')
  first.expect('disconnect 8e')
  world.broker.disconnect('open')
  second.expect('disconnect 87')
  const third = connect5(world, 'c')
  await world.broker.close(10)
  third.expect('disconnect 8b')
})

test('[MQTT-3.1.2-24] no packet is longer than the client takes: reasons are left out, messages dropped and counted', () => {
  const world = new World()
  const small = connect5(world, 'small', { properties: { maximumPacketSize: 25 } })
  small.subscribe('a', 2)
  const other = connect5(world, 'other')
  for (const qos of [0, 1, 2] as const) other.say('a', 'x'.repeat(30), { qos, id: qos + 1 })
  other.say('a', 'ok', { qos: 1, id: 7 })
  small.expect('publish a ok 1/1')
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'too_large' }), 3)
  small.send(bytesOf('f1 00'))
  small.expect('disconnect 81')
  assert.equal(small.disconnects[0]?.properties.reasonString, undefined)
})

test('[MQTT-3.1.2-29] Request Problem Information 0: reason strings in DISCONNECT only', () => {
  const seen = [true, false].map((requestProblemInformation) => {
    const client = connect5(new World(), 'c', { properties: { requestProblemInformation } })
    client.line.send(publish5('secret/x', 'x', { qos: 1 }))
    return client.line.take().length
  })
  assert.ok(seen[0]! > 5)
  assert.equal(seen[1], 5)
})

test('[MQTT-3.14.4-3] [MQTT-3.1.2-8] DISCONNECT 0x00 discards the will, 0x04 sends it, as a lost connection does', () => {
  const world = new World()
  const watcher = connect5(world, 'watcher')
  watcher.subscribe('w', 2)
  const will = { topic: 'w', payload: Buffer.from('gone'), qos: 2, retain: false, properties: { contentType: 't', willDelayInterval: 9 } } as const
  connect5(world, 'a', { will }).disconnect(0)
  watcher.expect()
  connect5(world, 'a', { will }).disconnect(4)
  watcher.expect('publish w gone 2/1')
  connect5(world, 'a', { will }).line.hangUp()
  watcher.expect('publish w gone 2/2')
  // Content type, and no Will Delay: the session ended with the connection.
  assert.deepEqual([...watcher.messages[0]!.properties], [...bytesOf('03 00 01 74')])
})

test('PINGREQ is answered, and telemetry acknowledged once it is durable', () => {
  const world = new World()
  const client = connect5(world, 'c')
  client.send(pingreq, publish5(telemetry, '1', { qos: 1, id: 5 }), publish5(telemetry, '2', { qos: 2, id: 6 }))
  client.expect('pingresp')
  world.gate.sync()
  client.expect('puback 5', 'pubrec 6')
})
