import assert from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import { test } from 'node:test'
import type { MqttAuthorizer, MqttPrincipal } from '../../src/doors/mqtt/authorizer.ts'
import { encodeConnect5 } from '../../src/wire/mqtt/v5/connect.ts'
import type { ConnectFields5 } from '../../src/wire/mqtt/v5/connect.ts'
import { connect, publish, subscribe } from './client-packets.ts'
import { Client5, connect5, publish5 } from './client5.ts'
import { testAuthorizer, World } from './harness.ts'
import { storedWorld } from './slow-sessions.ts'

/** What a client of MQTT 5 is told that is not let in. */
function refused5(world: World, o: Partial<ConnectFields5>): Client5 {
  const client = new Client5(world.line())
  client.send(encodeConnect5({ clientId: 'c', clean: true, keepAliveS: 0, ...o }))
  return client
}

const denied = (world: World): number => world.count('kymo_mqtt_dropped_total', { reason: 'denied' })
const will = (topic: string, retain = false): NonNullable<ConnectFields5['will']> => ({
  topic,
  qos: 1,
  retain,
  payload: Buffer.from('gone'),
  properties: {},
})

test('a will that its client may not publish is refused with the connection, in both versions; so is one in the place of the server', () => {
  for (const [topic, code3, code5] of [
    ['secret/x', '05', 0x87],
    ['$SYS/broker/version', '05', 0x90],
    ['$share/g/x', '05', 0x90],
    ['a/'.repeat(128), '05', 0x90],
  ] as const) {
    const world = new World()
    const line = world.line()
    line.send(connect({ clientId: 'c', will: { topic, payload: 'gone' } }))
    line.expect(`20 02 00 ${code3}`)
    assert.equal(line.ended, true)
    const client = refused5(world, { will: will(topic) })
    assert.equal(client.answer?.reasonCode, code5)
    assert.match(client.answer?.properties.reasonString ?? '', /will/)
    assert.equal(world.broker.connections, 0)
  }
})

test('a will is asked about again when it is published, as what its client may do can have changed', () => {
  const revoked = new Set<string>()
  const authorizer: MqttAuthorizer = { ...testAuthorizer, publish: (_principal: MqttPrincipal, topic) => !revoked.has(topic) }
  const world = new World({}, { authorizer })
  const watcher = world.client('watcher')
  watcher.send(subscribe(1, ['#', 0]))
  watcher.take()
  world.client('a', { will: { topic: 'status/a', payload: 'gone' } }).hangUp()
  assert.equal(watcher.packets().length, 1)
  const b = world.client('b', { will: { topic: 'status/b', payload: 'gone' } })
  revoked.add('status/b')
  b.hangUp()
  watcher.expect()
  assert.equal(denied(world), 1)
})

test('who may publish to a topic may still be kept from retaining there', () => {
  const { world, store } = storedWorld()
  const client = connect5(world, 'five')
  client.say('volatile/x', '1', { qos: 1, id: 1 })
  client.say('volatile/x', '2', { qos: 1, id: 2, retain: true })
  client.say('volatile/x', '3', { qos: 2, id: 3, retain: true })
  client.say('volatile/x', '4', { retain: true })
  client.say('volatile/x', '5', { qos: 1, id: 3 })
  client.expect('puback 1 10', 'puback 2 87', 'pubrec 3 87', 'puback 3 10')
  assert.equal(denied(world), 3)
  const old = world.client('three')
  old.send(publish('volatile/x', '1', { qos: 1, id: 1 }))
  old.expect('40 02 00 01')
  assert.equal(store.figures().retained, 0)
  old.send(publish('volatile/x', '1', { qos: 1, id: 2, retain: true }))
  old.expect()
  assert.equal(old.ended, true)
  const line = world.line()
  line.send(connect({ clientId: 'w', will: { topic: 'volatile/x', payload: 'gone', retain: true } }))
  line.expect('20 02 00 05')
})

test('an alias stands for its topic: what may not be published may not be published by alias either', () => {
  const { world } = storedWorld()
  const watcher = connect5(world, 'watcher')
  watcher.subscribe('#', 0)
  const client = connect5(world, 'five')
  client.say('secret/x', '1', { qos: 1, id: 1, properties: { topicAlias: 1 } })
  client.say('', '2', { qos: 1, id: 2, properties: { topicAlias: 1 } })
  client.say('volatile/x', '3', { qos: 1, id: 3, properties: { topicAlias: 1 } })
  client.say('', '4', { qos: 1, id: 4, retain: true, properties: { topicAlias: 1 } })
  client.say('$SYS/x', '5', { qos: 1, id: 5, properties: { topicAlias: 1 } })
  client.say('', '6', { qos: 1, id: 6, properties: { topicAlias: 1 } })
  client.expect('puback 1 87', 'puback 2 87', 'puback 3', 'puback 4 87', 'puback 5 87', 'puback 6 87')
  watcher.expect('publish volatile/x 3 0')
})

test('the decision is asked for once per topic, not per message', () => {
  let asked = 0
  const authorizer: MqttAuthorizer = { ...testAuthorizer, publish: () => ++asked > 0 }
  const world = new World({}, { authorizer })
  const client = connect5(world, 'five')
  for (let id = 1; id <= 20; id++) client.say(id % 2 === 0 ? 'a' : 'b', 'x', { qos: 1, id, retain: id % 3 === 0 })
  assert.equal(asked, 4)
})

test('an authorizer may take its time over a connection; what the client sends meanwhile waits', async () => {
  const world = new World()
  const line = world.line()
  line.send(connect({ clientId: 'c', username: 'slow', password: 'right' }), subscribe(1, ['a', 0]), publish('a', 'x'))
  line.expect()
  assert.equal(line.paused, true)
  await turn()
  assert.deepEqual(line.packets(), ['20 02 00 00', '90 03 00 01 00', '30 04 00 01 61 78'])
  assert.equal(line.paused, false)
})

test('one that fails, or never answers, lets nobody in', async () => {
  const failing: MqttAuthorizer = { ...testAuthorizer, connect: () => Promise.reject(new Error('no answer')) }
  const world = new World({}, { authorizer: failing })
  const line = world.line()
  line.send(connect({ clientId: 'c' }))
  await turn()
  line.expect('20 02 00 03')
  assert.deepEqual([line.ended, world.errors], [true, ['mqtt authorizer failed']])
  const silent = new World({}, { authorizer: { ...testAuthorizer, connect: () => new Promise(() => undefined) } })
  const waiting = silent.line()
  waiting.send(connect({ clientId: 'c' }))
  silent.clock.advance(10_000)
  assert.equal(waiting.ended, true)
  assert.equal(silent.broker.connections, 0)
})

test('an authorizer names the client id that one without gets, and refuses one with a code of its own', () => {
  const authorizer: MqttAuthorizer = {
    ...testAuthorizer,
    connect: ({ clientId, assigned }) =>
      assigned
        ? { ok: true, tenant: 'default', id: 'x', clientId: 'sensor-7', mayPublish: true, maySubscribe: true }
        : { ok: false, code: 'client_id', reason: `not ${clientId}` },
  }
  const world = new World({}, { authorizer })
  assert.equal(refused5(world, { clientId: '' }).answer?.properties.assignedClientIdentifier, 'sensor-7')
  const other = refused5(world, { clientId: 'other' })
  assert.deepEqual([other.answer?.reasonCode, other.answer?.properties.reasonString], [0x85, 'not other'])
  const line = world.line()
  line.send(connect({ clientId: 'other' }))
  line.expect('20 02 00 02')
})

test('guessing one account is slowed twofold each time; its owner gets in from elsewhere at once, and from there after the delay', () => {
  const world = new World()
  const tell = (address: string, password: string, username = 'ada'): ReturnType<World['line']> => {
    const line = world.line(address)
    line.send(connect({ clientId: `c${password}${address}`, username, password }))
    return line
  }
  for (const ms of [1_000, 2_000, 4_000, 8_000, 8_000]) {
    const guess = tell('10.6.6.6', 'wrong')
    tell('10.6.6.6', 'right').expect('20 02 00 03')
    tell('10.6.6.6', 'wrong').expect('20 02 00 03')
    tell('10.7.7.7', 'right').expect('20 02 00 00')
    tell('10.6.6.6', 'right', 'bob').expect('20 02 00 00')
    world.clock.advance(ms - 1)
    guess.expect()
    world.clock.advance(1)
    guess.expect('20 02 00 04')
  }
  tell('10.6.6.6', 'right').expect('20 02 00 00')
  assert.equal(world.count('kymo_auth_unseen_total', { transport: 'mqtt' }), 10)
  assert.equal(world.count('kymo_auth_failures_total', { transport: 'mqtt' }), 15)
})

test('credentials that nobody can guess are looked at however many have failed', () => {
  const authorizer: MqttAuthorizer = { ...testAuthorizer, account: () => undefined }
  const world = new World({ authPendingPerAddressMax: 2 }, { authorizer })
  const tell = (password: string): ReturnType<World['line']> => {
    const line = world.line('10.6.6.6')
    line.send(connect({ clientId: 'c', username: 'u', password }))
    return line
  }
  const late = [tell('wrong'), tell('wrong')]
  for (const line of late) line.expect()
  tell('wrong').expect('20 02 00 03')
  tell('right').expect('20 02 00 00')
  world.clock.advance(1_000)
  for (const line of late) line.expect('20 02 00 04')
})

test('a publish to what is not allowed costs a client of MQTT 5 nothing but the message', () => {
  const world = new World()
  const client = connect5(world, 'five')
  client.send(publish5('secret/x', 'x', { qos: 2, id: 7 }), publish5('a', 'x', { qos: 2, id: 7 }))
  client.expect('pubrec 7 87', 'pubrec 7 10')
  assert.equal(client.line.ended, false)
})
