import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { KymoError } from '../../src/core/errors.ts'
import { createOperator } from '../../src/doors/mqtt/operator.ts'
import { PacketType } from '../../src/wire/mqtt/packets.ts'
import { encodeConnect5 } from '../../src/wire/mqtt/v5/connect.ts'
import type { ConnectFields5 } from '../../src/wire/mqtt/v5/connect.ts'
import { encodeSubscribe5 } from '../../src/wire/mqtt/v5/subscribe.ts'
import { Client5, connect5 } from './client5.ts'
import { connect } from './client-packets.ts'
import { testAuthorizer, World } from './harness.ts'
import { attached, SlowSessions, stay, storedWorld } from './slow-sessions.ts'

const { puback, pubrel } = PacketType
const telemetry = 'devices/d/telemetry'
const will = { topic: 'w', payload: Buffer.from('gone'), qos: 1, retain: false, properties: { willDelayInterval: 0 } } as const

/** A client that has asked for a session that is to stay, and has no answer yet. */
function asks(world: World, clientId: string, o: Partial<ConnectFields5> = {}): Client5 {
  const client = new Client5(world.line())
  client.send(encodeConnect5({ clientId, clean: false, keepAliveS: 0, properties: { sessionExpiryInterval: 100 }, ...o }))
  return client
}

async function subscribes(client: Client5, store: SlowSessions, filter: string, qos: 0 | 1 | 2 = 1): Promise<void> {
  client.send(encodeSubscribe5(1, [{ filter, qos, noLocal: false, retainAsPublished: false, retainHandling: 0 }], {}))
  await attached(store)
  client.log()
}

for (const [code, five, three] of [
  ['too_many_sessions', 'connack 97', '20 02 00 03'],
  ['overloaded', 'connack 89', '20 02 00 03'],
  ['store_unavailable', 'connack 88', '20 02 00 03'],
] as const) {
  test(`a session that the store does not give is refused: ${code}`, async () => {
    const { world, store } = storedWorld()
    store.failsWith = new KymoError(code)
    const client = asks(world, 'c', { will })
    const line = world.line()
    line.send(connect({ clientId: 'old', clean: false }))
    await turn()
    client.expect(five)
    line.expect(three)
    assert.ok(client.line.ended && line.ended)
    store.failsWith = undefined
    assert.equal((await stay(world, store, 'c')).answer?.sessionPresent, false)
  })
}

test('a session that does not become durable is not left with a connection', async () => {
  const { world, store } = storedWorld()
  store.losesWrites = true
  const client = asks(world, 'c')
  await turn()
  client.expect('connack 88')
  assert.deepEqual([store.figures().sessions, store.figures().attached], [1, 0])
})

test('a connection that is lost while the store is asked: the session stays without one, nobody was let in and no will is published', async () => {
  const { world, store } = storedWorld()
  const to = connect5(world, 'to')
  to.subscribe('w', 1)
  const client = asks(world, 'c', { will })
  client.line.hangUp()
  await attached(store)
  assert.deepEqual([store.figures().sessions, store.figures().attached, store.figures().wills], [1, 0, 0])
  to.expect()
  assert.equal((await stay(world, store, 'c')).answer?.sessionPresent, true)
})

test('[MQTT-3.1.4-3] of two connections that ask at once the second has the session, and what it says of Clean Start counts', async () => {
  const { world, store } = storedWorld()
  const [first, second] = [asks(world, 'c'), asks(world, 'c')]
  await attached(store)
  assert.ok(first.line.ended)
  second.expect('connack 0 present')
  const third = asks(world, 'd')
  const fourth = asks(world, 'd', { clean: true, properties: {} })
  await attached(store)
  assert.ok(third.line.ended)
  fourth.expect('connack 0')
  fourth.line.hangUp()
  assert.equal(store.figures().sessions, 1)
})

test('what fails behind the store’s answer ends the connection, and the session is without one', async () => {
  const { world, store } = storedWorld()
  world.broker.retained.open = () => {
    throw new Error('broken')
  }
  const client = asks(world, 'c')
  await attached(store)
  assert.ok(client.line.ended)
  assert.deepEqual(world.errors, ['mqtt session failed'])
  assert.equal(store.figures().attached, 0)
})

test('SUBSCRIBE and QoS 2 wait while the store takes nothing, and are answered in order behind it', async () => {
  const { world, store } = storedWorld()
  const client = await stay(world, store, 'c')
  client.log()
  store.overloaded = true
  client.send(encodeSubscribe5(1, [{ filter: 'a', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0 }], {}))
  client.say('b', '1', { qos: 2, id: 1 })
  client.say(telemetry, '2', { qos: 2, id: 2 })
  client.say('b', '3', { qos: 1, id: 3 })
  world.gate.sync()
  store.sync()
  client.expect('puback 3 10')
  store.overloaded = false
  store.sync()
  client.expect()
  store.sync()
  client.expect('suback 1 1', 'pubrec 1 10', 'pubrec 2')
  assert.equal(world.broker.held.used, 0)
})

test('Session Present: with 3.1.1 and 5, of a session that stays, that is asked for anew, and of one that a connection has', async () => {
  const { world, store } = storedWorld()
  const present = async (o: Partial<ConnectFields5>): Promise<boolean | undefined> => {
    const client = asks(world, 'c', o)
    await attached(store)
    client.read()
    return client.answer?.sessionPresent
  }
  const passing = { properties: {} }
  assert.equal(await present({ clean: true }), false)
  assert.equal(await present({}), true)
  assert.equal(await present({ clean: true }), false)
  // It goes on, and ends with this connection: with the next one, that takes it over.
  assert.equal(await present(passing), true)
  assert.equal(await present({}), false)
  assert.equal(await present({ clean: true, ...passing }), false)
  assert.equal(await present({}), false)
  for (const [clean, answer] of [
    [false, '20 02 01 00'],
    [true, '20 02 00 00'],
    [false, '20 02 00 00'],
    [false, '20 02 01 00'],
  ] as const) {
    const line = world.line()
    line.send(connect({ clientId: 'c', clean }))
    await attached(store)
    line.expect(answer)
  }
})

test('a session stays as long as the server allows, which MQTT 5 is told; one of 3.1.1 as long as it says', async () => {
  const { world, store } = storedWorld({ sessionExpiryS: 500, sessionExpirySMax: 1000 })
  const expiry = async (): Promise<number | undefined> => {
    for await (const { expiryS } of store.sessions()) return expiryS
    return undefined
  }
  const short = await stay(world, store, 'c')
  assert.equal(short.answer?.properties.sessionExpiryInterval, undefined)
  assert.equal(await expiry(), 100)
  const long = await stay(world, store, 'c', { properties: { sessionExpiryInterval: 0xffff_ffff } })
  assert.equal(long.answer?.properties.sessionExpiryInterval, 1000)
  assert.equal(await expiry(), 1000)
  long.disconnect(0, { sessionExpiryInterval: 5000 })
  assert.equal(await expiry(), 1000)
  const line = world.line()
  line.send(connect({ clientId: 'c', clean: false }))
  await attached(store)
  line.hangUp()
  assert.equal(await expiry(), 500)
})

test('subscriptions of sessions that are away are there again after a restart, shared ones too', async () => {
  const { world, store } = storedWorld()
  for (const [client, filter] of [
    ['own', 'a/#'],
    ['one', '$share/g/a/1'],
  ] as const) {
    const there = await stay(world, store, client)
    await subscribes(there, store, filter)
    there.line.hangUp()
  }
  const again = storedWorld({}, store)
  await again.world.broker.restore()
  const from = connect5(again.world, 'from')
  for (const id of [1, 2]) from.say('a/1', `${id}`, { qos: 1, id })
  assert.equal(store.figures().deliveries, 4)
  const one = await stay(again.world, store, 'one')
  one.expect('connack 0 present', 'publish a/1 1 1/1', 'publish a/1 2 1/2')
  // It is there now, and first among its group.
  one.ack(puback, 1)
  from.say('a/1', '3', { qos: 1, id: 3 })
  one.expect('publish a/1 3 1/3')
})

test('what a member of a group has not got when its session ends goes to another, once', async () => {
  const { world, store } = storedWorld()
  const one = await stay(world, store, 'one')
  await subscribes(one, store, '$share/g/a', 2)
  const from = connect5(world, 'from')
  from.say('a', 'sent', { qos: 1, id: 1 })
  from.say('a', 'begun', { qos: 2, id: 2 })
  store.sync()
  one.expect('publish a sent 1/1', 'publish a begun 2/2')
  one.line.hangUp()
  from.say('a', 'waits', { qos: 2, id: 3 })
  const [other, passing] = [await stay(world, store, 'other'), connect5(world, 'passing')]
  await subscribes(other, store, '$share/g/a', 1)
  other.line.hangUp()
  passing.subscribe('$share/h/a', 1)
  await store.end('default', 'one')
  const back = await stay(world, store, 'other')
  back.expect('connack 0 present', 'publish a sent 1/1', 'publish a waits 1/2')
  passing.expect()
  await store.end('default', 'other')
  assert.equal(store.figures().deliveries, 0)
})

test('[MQTT-3.3.4-2] [MQTT-3.3.4-4] a session that stays gets a message of several subscriptions once, shared ones too: at their highest QoS, with all identifiers', async () => {
  const { world, store } = storedWorld()
  const from = connect5(world, 'from')
  for (const [n, filters] of [
    ['a', '$share/g/a'],
    ['$share/g/b', '$share/h/b', 'b'],
  ].entries()) {
    const client = await stay(world, store, `c${n}`)
    for (const [i, filter] of filters.entries()) {
      const options = {
        filter,
        qos: filter.startsWith('$share/g') ? 2 : 1,
        noLocal: false,
        retainAsPublished: filter === 'a',
        retainHandling: 2,
      } as const
      client.send(encodeSubscribe5(1, [options], { subscriptionIdentifiers: [i + 7] }))
      await attached(store)
    }
    client.log()
    from.say(n === 0 ? 'a' : 'b', 'x', { qos: 2, id: n + 1, retain: true })
    await attached(store)
    client.expect(`publish ${n === 0 ? 'a x 2/1 retain' : 'b x 2/1'}`)
    assert.deepEqual(
      client.messages[0]!.identifiers.toSorted(),
      filters.map((_, i) => i + 7),
    )
  }
})

test('an operator sees a session that is away, and ends it', async () => {
  const { world, store } = storedWorld()
  const client = await stay(world, store, 'c')
  await subscribes(client, store, 'a')
  client.line.hangUp()
  connect5(world, 'from').say('a', '1', { qos: 1, id: 1 })
  const operator = createOperator(world.broker, store)
  const { items } = await operator.sessions('default', { limit: 1 })
  const { detached_us, ...seen } = items[0]!
  assert.deepEqual(seen, { client_id: 'c', connected: false, expiry_s: 100, subscriptions: 1, inflight: 0, queued: 1 })
  assert.equal(detached_us, world.clock.nowUs())
  assert.equal(await operator.disconnect('default', 'c', { session: false }), undefined)
  assert.deepEqual(await operator.disconnect('default', 'c', { session: true }), { disconnected: false, session_ended: true })
  assert.equal((await operator.subscriptions('default', { limit: 10 })).items.length, 0)
  const again = await stay(world, store, 'c')
  assert.equal(again.answer?.sessionPresent, false)
  assert.deepEqual(await operator.disconnect('default', 'c', { session: false }), { disconnected: true, session_ended: false })
  assert.equal(store.figures().sessions, 1)
})

test('a session whose subscriptions its client may not have any more begins anew', async () => {
  const store: SlowSessions = new SlowSessions(() => world.clock.nowUs())
  let denied = ''
  const authorizer = { ...testAuthorizer, subscribe: (_: unknown, filter: string) => filter !== denied }
  const world: World = new World({}, { store, authorizer })
  const client = await stay(world, store, 'c')
  await subscribes(client, store, '$share/g/a')
  client.line.hangUp()
  connect5(world, 'from').say('a', 'not for everybody', { qos: 1, id: 1 })
  denied = 'a'
  const again = await stay(world, store, 'c')
  again.expect('connack 0')
  assert.equal(store.figures().deliveries, 0)
})

test('QoS 2 telemetry of a session that stays: on the disk first, then delivered with its packet id; lost in between, it is delivered once', async () => {
  const { world, store } = storedWorld()
  const to = connect5(world, 'to')
  to.subscribe('#', 2)
  const first = await stay(world, store, 'c')
  first.say(telemetry, '1', { qos: 2, id: 1 })
  first.say('b', '2', { qos: 2, id: 2 })
  store.sync()
  first.log()
  to.expect()
  assert.ok(world.broker.held.used > 0)
  first.line.hangUp()
  assert.equal(world.broker.held.used, 0)
  world.gate.sync()
  to.expect()
  const second = await stay(world, store, 'c')
  second.log()
  second.say(telemetry, '1', { qos: 2, id: 1, dup: true })
  assert.equal(world.gate.taken.at(-1)!.dup, true)
  world.gate.sync()
  to.expect(`publish ${telemetry} 1 2/1`)
  second.expect()
  // Delivered, and not told yet: the id is known when the client is back.
  second.line.hangUp()
  const third = await stay(world, store, 'c')
  third.log()
  third.say(telemetry, '1', { qos: 2, id: 1, dup: true })
  third.expect('pubrec 1')
  third.ack(pubrel, 1)
  store.sync()
  third.expect('pubcomp 1')
  to.expect()
  assert.equal(world.gate.taken.length, 2)
})
