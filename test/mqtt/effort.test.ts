import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, hex, pingreq, publish, subscribe, unsubscribe } from './client-packets.ts'
import type { Line } from './harness.ts'
import { World } from './harness.ts'

const depth = 10
const topic = (n: number): string => `${'a/'.repeat(depth)}${n}`

/** All filters of `a` and `+` at ten levels: each message below matches 1,000 of them. */
function bombed(): World {
  const world = new World({ socketBufferBytesMax: Infinity })
  const holder = world.client('holder')
  const filters = Array.from(
    { length: 1_000 },
    (_, i) => [`${Array.from({ length: depth }, (__, l) => ((i >> l) & 1 ? '+' : 'a')).join('/')}/#`, 0] as const,
  )
  holder.send(subscribe(1, ...filters))
  world.turn()
  holder.take()
  return world
}

const received = (world: World): number => world.count('kymo_mqtt_messages_total', { direction: 'in', qos: '0' })
const flood = (from: number, count: number): Uint8Array => Buffer.concat(Array.from({ length: count }, (_, i) => publish(topic(from + i), 'x')))

test('of a chunk whose messages each match thousands of subscriptions a turn takes a few, and the rest comes in the turns after it', () => {
  const world = bombed()
  const hostile = world.client('hostile')
  hostile.send(flood(0, 200))
  const first = received(world)
  assert.ok(first > 0 && first <= 10, `${first} in the first turns`)
  assert.equal(hostile.paused, true)
  let turns = 0
  for (let before = first; received(world) < 200; before = received(world)) {
    world.turn()
    turns++
    assert.ok(received(world) > before && received(world) - before <= 10, `${received(world) - before} in a turn`)
  }
  assert.ok(turns > 20)
  world.turn()
  assert.equal(hostile.paused, false, 'it is read on in the end, and nothing was lost')
})

test('several such clients take turns; whoever publishes to few never waits', () => {
  const world = bombed()
  const hostile = Array.from({ length: 5 }, (_, n) => world.client(`hostile-${n}`))
  const neighbour = world.client('neighbour')
  neighbour.send(subscribe(1, ['chat', 1]))
  neighbour.take()
  hostile.forEach((line, n) => line.send(flood(n * 1_000, 100)))
  let before = received(world)
  for (let turn = 0; turn < 30; turn++) {
    neighbour.send(publish('chat', 'x', { qos: 1, id: turn + 1 }), pingreq)
    assert.equal(neighbour.packets().length, 3, 'PUBACK, message and PINGRESP')
    const taken = received(world) - before
    assert.ok(taken <= 20, `${taken} in a turn`)
    before = received(world)
  }
  const sent = (line: Line): void => line.send(pingreq)
  hostile.forEach(sent)
  for (let turn = 0; turn < 400 && received(world) < 500; turn++) world.turn()
  assert.equal(received(world), 500)
  for (const line of hostile) assert.deepEqual(line.packets(), ['d0 00'])
})

test('one that comes back to what was found before is as quick as ever; subscribing and unsubscribing without end waits as well', () => {
  const world = bombed()
  const restless = world.line()
  restless.send(connect({ clientId: 'restless' }))
  restless.take()
  const filters = Array.from({ length: 900 }, (_, i) => `${'x/'.repeat(20)}${i}`)
  const packets = Array.from({ length: 10 }, (_, i) => [
    subscribe(i + 1, ...filters.map((one) => [one, 0] as const)),
    unsubscribe(i + 1, ...filters),
  ]).flat()
  restless.send(Buffer.concat(packets))
  const first = restless.packets().length
  assert.ok(first < 20, `${first} answers at once`)
  let answers = first
  for (let turn = 0; turn < 100 && answers < 20; turn++) {
    world.turn()
    answers += restless.packets().length
  }
  assert.equal(answers, 20)
})

test('who hangs up while it stands in line is gone', () => {
  const world = bombed()
  const [gone, stays] = [world.client('gone'), world.client('stays')]
  gone.send(flood(0, 100))
  stays.send(flood(1_000, 20))
  gone.hangUp()
  for (let turn = 0; turn < 50; turn++) world.turn()
  assert.equal(stays.paused, false)
  assert.ok(received(world) < 100)
  assert.equal(world.broker.connections, 2)
})

test('levels of the filters of one client are limited, those of filters that went not counted', () => {
  const client = new World({ subscriptionLevelsPerClientMax: 6 }).client('c')
  client.send(subscribe(1, ['a/b/c/d', 0], ['1/2/3', 0], ['$share/g/+/#', 0], ['x', 0]))
  client.expect('90 06 00 01 00 80 00 80')
  client.send(unsubscribe(2, 'a/b/c/d'), subscribe(3, ['1/2/3/4', 0], ['x', 0], ['1/2/3/4', 1]))
  client.expect('b0 02 00 02', '90 05 00 03 00 80 01')
})

test('connections that are lost together end a turn’s worth at a time, each once with its will; one that is back sooner is not waited for', () => {
  const world = new World({ effortPerTurn: 640 })
  const ear = world.client('ear')
  ear.send(subscribe(1, ['gone/#', 0]))
  ear.take()
  const names = Array.from({ length: 100 }, (_, i) => `c${i}`)
  const lost = names.map((clientId) => world.client(clientId, { will: { topic: `gone/${clientId}`, payload: 'x' } }))
  for (let i = 0; i < 3; i++) world.turn()
  for (const line of lost) line.reset()
  const open = world.broker.connections - 1
  assert.ok(open < 100 && open >= 80, `${open} are open`)
  // The last one’s client connects anew: its old session is over, and its will is out.
  const back = world.client('c99')
  const wills: string[] = []
  for (let turns = 0; world.broker.connections > 2 || wills.length < 100; turns++) {
    assert.ok(turns < 100, `${world.broker.connections} connections, ${wills.length} wills`)
    const before = world.broker.connections
    wills.push(...ear.packets())
    assert.ok(before - world.broker.connections <= 12, `${before - world.broker.connections} in a turn`)
  }
  assert.deepEqual(wills.toSorted(), names.map((name) => hex(publish(`gone/${name}`, 'x'))).toSorted())
  assert.deepEqual(
    [world.count('kymo_mqtt_disconnects_total', { reason: 'closed' }), world.count('kymo_mqtt_disconnects_total', { reason: 'taken_over' })],
    [99, 1],
  )
  assert.equal(back.ended, false)
  for (const line of lost) line.reset()
  world.turn()
  assert.equal(world.broker.connections, 2)
})
