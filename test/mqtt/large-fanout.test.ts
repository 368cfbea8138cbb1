import assert from 'node:assert/strict'
import { test } from 'node:test'
import { limits } from '../../src/core/limits.ts'
import { encodeSubscribe5 } from '../../src/wire/mqtt/v5/subscribe.ts'
import { type Client5, connect5, publish5 } from './client5.ts'
import { World } from './harness.ts'
import { attached, feed, stay, storedWorld } from './slow-sessions.ts'

const perTurn = 8
const many = 50

const sent = (world: World): number =>
  ['0', '1', '2'].reduce((sum, qos) => sum + world.count('kymo_mqtt_messages_total', { direction: 'out', qos }), 0)

/** Clients that subscribe to `all`. */
function audience(world: World, qos: 0 | 1 | 2 = 1, count = many): Client5[] {
  return Array.from({ length: count }, (_, i) => {
    const client = connect5(world, `s${i}`)
    client.subscribe('all', qos)
    return client
  })
}

/** Turns until nothing more is sent. */
function finish(world: World): void {
  for (let before = -1; before !== sent(world);) {
    before = sent(world)
    world.turn()
  }
}

test('[MQTT-4.6.0-6] a message to more subscribers than a turn has room for: so many in each turn, in order, acknowledged when all have it', () => {
  const world = new World({ fanoutPerTurn: perTurn })
  const all = audience(world)
  const [from, other] = [connect5(world, 'from'), connect5(world, 'other')]
  const beside = connect5(world, 'beside')
  beside.subscribe('chat', 1)
  from.line.send(publish5('all', '1', { qos: 1, id: 1 }), publish5('all', '2', { qos: 1, id: 2 }), publish5('chat', '3', { qos: 1, id: 3 }))
  for (let turns = 1; sent(world) < many * 2; turns++) {
    assert.equal(from.line.paused, true)
    const before = sent(world)
    world.turn()
    assert.ok(sent(world) > before && sent(world) - before <= perTurn, `${sent(world) - before} in a turn`)
    if (turns > 1) continue
    // Others go on.
    other.say('chat', 'x', { qos: 1, id: 9 })
    other.expect('puback 9')
    beside.expect('publish chat x 1/1')
  }
  finish(world)
  assert.equal(from.line.paused, false)
  from.expect('puback 1', 'puback 2', 'puback 3')
  for (const client of all) client.expect('publish all 1 1/1', 'publish all 2 1/2')
  beside.expect('publish chat 3 1/2')
})

test('of several such messages each turn has one share, and none is forgotten', () => {
  const world = new World({ fanoutPerTurn: perTurn, effortPerTurn: perTurn * 8 })
  const all = audience(world, 0)
  const from = [1, 2, 3].map((n) => connect5(world, `from${n}`))
  for (const [i, { line }] of from.entries()) line.send(publish5('all', `${i}`))
  for (let before = sent(world); before < many * 3; before = sent(world)) {
    world.turn()
    // The end of one leaves room for another's share.
    assert.ok(sent(world) > before && sent(world) - before < perTurn * 2, `${sent(world) - before} in a turn`)
  }
  for (const client of all) assert.deepEqual(client.log().toSorted(), ['publish all 0 0', 'publish all 1 0', 'publish all 2 0'])
})

test('a publisher that is gone: what it has begun is finished, for those who are there, for sessions that stay, and as retained', async () => {
  const { world, store } = storedWorld({ fanoutPerTurn: perTurn })
  const all = audience(world, 0)
  const kept = await stay(world, store, 'kept')
  kept.send(encodeSubscribe5(1, [{ filter: '#', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 2 }], {}))
  await attached(store)
  kept.log()
  const [zero, one] = [connect5(world, 'zero'), connect5(world, 'one')]
  zero.line.send(publish5('all', 'kept', { retain: true }))
  zero.line.hangUp()
  one.line.send(publish5('all', 'once more', { qos: 1, id: 1 }))
  one.line.hangUp()
  finish(world)
  await attached(store)
  for (const client of all) assert.deepEqual(client.log().toSorted(), ['publish all kept 0', 'publish all once more 0'])
  assert.deepEqual(kept.log(), ['publish all kept 0', 'publish all once more 1/1'])
  const late = connect5(world, 'late')
  late.subscribe('all', 0)
  await feed(world, many + 10)
  late.expect('publish all kept 0 retain')
  assert.deepEqual([world.broker.held.used, world.broker.sending.used], [0, 0])
})

test('who leaves or has unsubscribed before its turn gets nothing; a group is asked in its turn', () => {
  const world = new World({ fanoutPerTurn: perTurn })
  const all = audience(world)
  const [member, other] = [connect5(world, 'member'), connect5(world, 'other')]
  for (const client of [member, other]) client.subscribe('$share/g/all', 1)
  const from = connect5(world, 'from')
  from.line.send(publish5('all', 'x', { qos: 1, id: 1 }))
  const [gone, leaves] = [all.at(-1)!, all.at(-2)!]
  gone.line.hangUp()
  leaves.unsubscribe('all')
  member.line.hangUp()
  finish(world)
  assert.deepEqual(leaves.log(), ['unsuback 2 0'])
  assert.deepEqual(other.log(), ['publish all x 1/1'])
  for (const client of all.slice(0, -2)) client.expect('publish all x 1/1')
  from.expect('puback 1')
  for (const client of [...all, other]) if (client !== gone) client.line.hangUp()
  assert.deepEqual([world.broker.held.used, world.broker.sending.used], [0, 0])
})

test('subscriptions that are many and one client’s are one delivery; No Local is not forgotten', () => {
  const world = new World({ fanoutPerTurn: perTurn })
  const one = connect5(world, 'one')
  for (let i = 0; i < 12; i++)
    one.subscribe(['#', '+/b', 'a/#', 'a/+', 'a/b', '+/+', 'a/b/#', '+/b/#', '+/#', '+/+/#', 'a/+/#', '$share/g/a/b'][i]!, i < 5 ? 1 : 2, {
      identifier: i + 1,
    })
  const self = connect5(world, 'self')
  self.subscribe('a/b', 2, { noLocal: true })
  self.say('a/b', 'x', { qos: 2, id: 1 })
  finish(world)
  self.expect('pubrec 1')
  assert.deepEqual(one.log(), ['publish a/b x 2/1', 'publish a/b x 2/2'])
  assert.equal(one.messages[0]!.identifiers.length, 11)
})

test('QoS 2 of a session that stays: in one step with its packet id for those that stay, the others in turns, in order', async () => {
  const { world, store } = storedWorld({ fanoutPerTurn: perTurn })
  const all = audience(world)
  const kept = await stay(world, store, 'kept')
  kept.send(encodeSubscribe5(1, [{ filter: 'all', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 2 }], {}))
  await attached(store)
  kept.log()
  const from = await stay(world, store, 'from')
  from.log()
  from.line.send(publish5('all', '1', { qos: 2, id: 7 }), publish5('all', '2', { qos: 2, id: 8 }))
  for (let before = sent(world); before < many * 2; before = sent(world)) {
    assert.equal(from.line.paused, true)
    world.turn()
    assert.ok(sent(world) > before && sent(world) - before <= perTurn * 2, `${sent(world) - before} in a turn`)
    store.sync()
  }
  finish(world)
  await attached(store)
  assert.equal(from.line.paused, false)
  from.expect('pubrec 7', 'pubrec 8')
  for (const client of [...all, kept]) client.expect('publish all 1 1/1', 'publish all 2 1/2')
})

test('QoS 2 of a session that stays, cut off while it is on its way to many: they have it once, however often it comes', async () => {
  const { world, store } = storedWorld({ fanoutPerTurn: perTurn })
  const all = audience(world)
  const kept = await stay(world, store, 'kept')
  kept.send(encodeSubscribe5(1, [{ filter: 'all', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 2 }], {}))
  await attached(store)
  kept.log()
  // Nobody has it before the store does.
  const from = await stay(world, store, 'from')
  const before = sent(world)
  store.overloaded = true
  from.line.send(publish5('all', 'x', { qos: 2, id: 7 }))
  world.turn()
  assert.equal(sent(world), before)
  store.overloaded = false
  store.sync()
  assert.ok(sent(world) > before && sent(world) < before + many, `${sent(world) - before}`)
  from.line.hangUp()
  const again = await stay(world, store, 'from')
  again.send(publish5('all', 'x', { qos: 2, id: 7, dup: true }))
  finish(world)
  await attached(store)
  assert.deepEqual(again.log().slice(-1), ['pubrec 7'])
  for (const client of [...all, kept]) client.expect('publish all x 1/1')
  assert.equal(world.broker.held.used, 0)
})

test('what the server itself says goes to many in turns, too; what it says next stays behind it, and is not kept without end', async () => {
  const { world, store } = storedWorld({ fanoutPerTurn: perTurn })
  const all = audience(world)
  const kept = await stay(world, store, 'kept')
  kept.send(encodeSubscribe5(1, [{ filter: 'all', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 2 }], {}))
  await attached(store)
  kept.log()
  const few = connect5(world, 'few')
  few.subscribe('few', 1)
  const payload = Buffer.from('1')
  world.broker.publish('all', payload, 1, 'default')
  payload.fill(0)
  world.broker.publish('few', Buffer.from('2'), 1, 'default')
  world.broker.publish('all', Buffer.from('3'), 1, 'default')
  assert.ok(sent(world) <= perTurn)
  few.expect()
  for (let before = sent(world); before < many * 2; before = sent(world)) {
    world.turn()
    assert.ok(sent(world) > before && sent(world) - before < perTurn * 2 + 2, `${sent(world) - before} in a turn`)
  }
  finish(world)
  await attached(store)
  few.expect('publish few 2 1/1')
  for (const client of [...all, kept]) client.expect('publish all 1 1/1', 'publish all 3 1/2')
  world.broker.publish('all', Buffer.from('4'), 0, 'default')
  for (let i = 0; i <= limits.mqttOwnMessagesMax; i++) world.broker.publish('few', Buffer.from('x'), 0, 'default')
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'overload' }), 1)
  finish(world)
  assert.equal(few.log().length, limits.mqttOwnMessagesMax)
})

test('a will to more subscribers than a turn has room for: in turns, then as retained and for sessions that stay', async () => {
  const { world, store } = storedWorld({ fanoutPerTurn: perTurn })
  const all = audience(world)
  const kept = await stay(world, store, 'kept')
  kept.send(encodeSubscribe5(1, [{ filter: 'all', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 2 }], {}))
  await attached(store)
  kept.log()
  const will = { topic: 'all', payload: Buffer.from('gone'), qos: 1, retain: true, properties: {} } as const
  connect5(world, 'one', { will }).line.hangUp()
  assert.ok(sent(world) <= perTurn * 2)
  finish(world)
  await attached(store)
  for (const client of [...all, kept]) client.expect('publish all gone 1/1')
  const late = connect5(world, 'late')
  late.subscribe('all', 1)
  await feed(world, many + 10)
  late.expect('publish all gone 1/1 retain')
})
