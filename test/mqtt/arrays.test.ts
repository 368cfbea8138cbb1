import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { hex, pingreq, puback, publish, subscribe } from './client-packets.ts'
import { nodeClock } from '../../src/core/env/node-env.ts'
import { ArrayTurns } from '../../src/doors/mqtt/array-turns.ts'
import { World } from './harness.ts'
import { fuzzRuns } from '../support/effort.ts'

const telemetry = 'devices/d1/telemetry'
const texts = (world: World): string[] => world.gate.taken.map((message) => message.text)
const numbers = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => `{"n":${from + i}}`)

test('an array is taken message by message, and acknowledged once when all of it is durable', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish(telemetry, ' [{"n":0}, {"n":1} ,{"n":2}]', { qos: 1, id: 7, dup: true }))
  assert.deepEqual(texts(world), numbers(0, 3))
  assert.deepEqual(world.gate.items, [0, 1, 2])
  assert.ok(world.gate.taken.every((message) => message.packetId === 7 && message.dup && message.device === 'd1'))
  world.gate.sync(2)
  client.expect()
  world.gate.sync()
  client.expect(puback(7))
  client.send(publish(telemetry, '{"n":3}', { qos: 1, id: 8 }))
  assert.equal(world.gate.items.at(-1), 0, 'a message that is no array has no index')
})

test('a bad item is a dead letter of its own; its neighbours are taken', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish(telemetry, '[{"n":0},bad,{"n":2} {"n":3}]', { qos: 1, id: 1 }))
  assert.deepEqual(texts(world), ['{"n":0}', '{"n":2}'])
  assert.deepEqual(
    world.gate.deadLetters.map(({ text, error }) => [text, error.code]),
    [
      ['bad', 'body_not_json'],
      ['{"n":3}]', 'body_not_json'],
    ],
  )
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'refused' }), 2)
  world.gate.sync(3)
  client.expect()
  world.gate.sync()
  client.expect(puback(1))
})

test('an empty array is acknowledged; one inside an array is its decoder to judge; only telemetry is looked into', () => {
  const world = new World()
  const client = world.client('c1')
  client.send(publish(telemetry, ' [ ]', { qos: 1, id: 1 }), publish('chat', '[1,2]', { qos: 1, id: 2 }), publish(telemetry, '[[1,2]]'))
  client.expect(puback(1), puback(2))
  assert.deepEqual(texts(world), ['[1,2]'])
})

test('items beyond the limit are one dead letter', () => {
  const world = new World({ arrayItemsMax: 2 })
  world.client('c1').send(publish(telemetry, '[1,2,3,4]'))
  assert.deepEqual(texts(world), ['1', '2'])
  assert.deepEqual(
    world.gate.deadLetters.map(({ text, error }) => [text, error.code]),
    [['3,4]', 'batch_too_long']],
  )
})

test('subscribers get the array as it came, once', () => {
  const world = new World({ arrayItemsPerTurn: 2 })
  const watcher = world.client('w')
  watcher.send(subscribe(1, [telemetry, 0]))
  watcher.packets()
  world.client('c1').send(publish(telemetry, '[1,2,3,4,5]'))
  watcher.expect()
  world.clock.advance(5)
  watcher.expect(hex(publish(telemetry, '[1,2,3,4,5]')))
})

test('a long array gives others their turn: nothing more of its client is read meanwhile, at QoS 0 either', () => {
  const world = new World({ arrayItemsPerTurn: 4 })
  const client = world.client('c1')
  const other = world.client('c2')
  client.send(
    publish(telemetry, `[${numbers(0, 10).join()}]`),
    publish(telemetry, '{"n":10}'),
    publish(telemetry, `[${numbers(11, 13).join()}]`, { qos: 1, id: 2 }),
  )
  assert.equal(world.gate.taken.length, 4)
  assert.equal(client.paused, true)
  world.gate.sync()
  assert.equal(world.gate.taken.length, 4, 'a sync does not make the turn come sooner')
  other.send(publish(telemetry, 'other', { qos: 1, id: 1 }), pingreq)
  world.gate.sync()
  other.expect('d0 00', puback(1))
  for (let i = 0; i < 10; i++) world.clock.advance(1)
  assert.deepEqual(
    texts(world).filter((text) => text !== 'other'),
    numbers(0, 13),
  )
  assert.equal(client.paused, false)
  world.gate.sync()
  client.expect(puback(2))
  assert.deepEqual([world.broker.held.used, world.broker.partial.used, world.count('kymo_mqtt_dropped_total', { reason: 'overload' })], [0, 0, 0])
})

test('many short arrays in one read have the same turn as a long one', () => {
  const world = new World({ arrayItemsPerTurn: 10 })
  const client = world.client('c1')
  client.send(...Array.from({ length: 20 }, (_, i) => publish(telemetry, '[1,2,3,4]', { qos: 1, id: i + 1 })))
  assert.ok(world.gate.taken.length <= 12)
  assert.equal(client.paused, true)
  for (let i = 0; i < 10; i++) world.clock.advance(1)
  assert.equal(world.gate.taken.length, 80)
  world.gate.sync()
  assert.deepEqual(
    client.packets(),
    Array.from({ length: 20 }, (_, i) => puback(i + 1)),
  )
})

test('arrays of several clients share a turn; a short one of somebody else waits for none of them', () => {
  const world = new World({ arrayItemsPerTurn: 64 })
  const hostile = Array.from({ length: 4 }, (_, n) => world.client(`hostile-${n}`))
  const of = (n: number): number => world.gate.taken.filter(({ client }) => client === `hostile-${n}`).length
  for (const client of hostile) client.send(publish(telemetry, `[${numbers(0, 200).join()}]`, { qos: 1, id: 1 }))
  // Each has its sixteenth of a turn in any case.
  assert.ok(world.gate.taken.length <= 64 + 3 * 4, `${world.gate.taken.length} at once`)
  const neighbour = world.client('neighbour')
  for (let turn = 1; world.gate.taken.length < 800 + (turn - 1) * 3; turn++) {
    assert.ok(turn < 20, 'it goes on')
    const before = world.gate.taken.length
    neighbour.send(publish(telemetry, '[1,2,3]', { qos: 1, id: turn }))
    assert.equal(world.gate.taken.length, before + 3, 'it waits for nobody')
    world.clock.advance(1)
    assert.ok(world.gate.taken.length - before <= 64 + 3, `${world.gate.taken.length - before} in a turn`)
    const [first, ...others] = hostile.map((_, n) => of(n))
    assert.ok(
      others.every((count) => count === 200 || first === 200 || Math.abs(count - first!) <= 64),
      `they share: ${first}, ${others.join()}`,
    )
  }
  world.gate.sync()
  for (const client of hostile) assert.deepEqual(client.packets(), [puback(1)])
  assert.deepEqual([world.broker.held.used, world.broker.partial.used], [0, 0])
})

test('between turns sockets are read, however long a turn takes', async () => {
  const seen: string[] = []
  let loops = true
  const loop = (): void => {
    seen.push('loop')
    if (loops) setImmediate(loop)
  }
  setImmediate(loop)
  await new Promise<void>((resolve) => {
    const turns = new ArrayTurns(2, nodeClock)
    let left = 20
    const clients = Array.from({ length: 3 }, () =>
      turns.open(function proceed(this: void) {
        seen.push('turn')
        // Longer than the time between turns.
        for (const until = nodeClock.monotonicMs() + 2; nodeClock.monotonicMs() < until;) continue
        if (left-- > 0) for (const client of clients) if (!client.waits) client.took(client.room)
        if (left === 0) resolve()
      }),
    )
    for (const client of clients) client.took(2)
  })
  loops = false
  let most = 0
  let run = 0
  for (const one of seen) most = Math.max(most, (run = one === 'turn' ? run + 1 : 0))
  assert.ok(most <= 2, `${most} clients had their turn, and no socket`)
})

test('an array that meets overload goes on where it was, and nothing overtakes it', () => {
  const world = new World()
  const client = world.client('c1')
  world.gate.room = 2
  client.send(publish(telemetry, `[${numbers(0, 5).join()}]`, { qos: 1, id: 1 }), publish(telemetry, '{"n":5}', { qos: 1, id: 2 }))
  assert.deepEqual(texts(world), numbers(0, 2))
  world.gate.sync()
  client.expect()
  world.gate.room = Infinity
  world.gate.overloaded = false
  world.gate.sync(0)
  assert.deepEqual(texts(world), numbers(0, 6))
  assert.deepEqual(world.gate.items, [0, 1, 2, 3, 4, 0])
  world.gate.sync()
  client.expect(puback(1), puback(2))
  assert.equal(world.broker.held.used, 0)
})

test('a client that goes in the middle of its array leaves nothing behind', () => {
  const world = new World({ arrayItemsPerTurn: 2 })
  const client = world.client('c1')
  client.send(publish(telemetry, '[1,2,3,4,5]', { qos: 1, id: 1 }))
  client.hangUp()
  world.clock.advance(200)
  world.gate.sync()
  assert.deepEqual([world.gate.taken.length, world.broker.held.used, world.clock.timers], [2, 0, 0])
})

test('a will that is an array is taken message by message, also when it has to wait', () => {
  const world = new World({ arrayItemsPerTurn: 2 })
  world.gate.room = 1
  world.client('c1', { will: { topic: telemetry, payload: '[1,2,3,4,5]' } }).hangUp()
  assert.deepEqual(texts(world), ['1'])
  world.gate.room = Infinity
  world.gate.overloaded = false
  for (let i = 0; i < 5; i++) world.clock.advance(100)
  assert.deepEqual(texts(world), ['1', '2', '3', '4', '5'])
  assert.equal(world.broker.held.used, 0)
})

test('whatever the gate and the turns do: each message once and in order, no acknowledgement before all are durable', () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ items: fc.nat(9), qos: fc.nat(1) }) },
    { weight: 2, arbitrary: fc.constant('sync' as const) },
    { weight: 3, arbitrary: fc.constant('turn' as const) },
    { weight: 1, arbitrary: fc.constant('relief' as const) },
    { weight: 1, arbitrary: fc.record({ room: fc.nat(6) }) },
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1, max: 5 }), (steps, arrayItemsPerTurn) => {
      const world = new World({ arrayItemsPerTurn, receiveInflightMax: 8 })
      const client = world.client('c')
      const wanted: string[] = []
      const lastOf: (string | undefined)[] = []
      let acked = 0
      const collect = (): void => {
        for (const packet of client.packets()) {
          assert.equal(packet, puback(acked + 1))
          const last = lastOf[acked++]
          if (last === undefined) continue
          const place = world.gate.taken.findIndex((taken) => taken.text === last)
          assert.ok(place >= 0 && place < world.gate.durable, `packet ${acked} was acknowledged before ${last} was durable`)
        }
      }
      let serial = 0
      for (const next of steps) {
        if (next === 'sync') world.gate.sync()
        else if (next === 'turn') world.clock.advance(1)
        else if (next === 'relief') {
          world.gate.room = Infinity
          world.gate.overloaded = false
        } else if ('room' in next) world.gate.room = next.room
        else if (!client.paused) {
          // QoS 0 is lost under overload, as the standard has it: it is sent only when all of it finds room.
          const qos = next.qos === 0 && (world.gate.room !== Infinity || world.gate.overloaded || world.broker.held.used > 0) ? 1 : next.qos
          const items = Array.from({ length: next.items }, () => `${serial++}`)
          wanted.push(...items)
          if (qos === 1) lastOf.push(items.at(-1))
          client.send(publish(telemetry, `[${items.join()}]`, { qos, id: lastOf.length }))
        }
        collect()
      }
      world.gate.room = Infinity
      world.gate.overloaded = false
      for (let i = 0; i < 100; i++) {
        world.clock.advance(1)
        world.gate.sync()
        collect()
      }
      assert.deepEqual(texts(world), wanted)
      assert.equal(acked, lastOf.length)
      assert.deepEqual([client.paused, world.broker.held.used, world.broker.partial.used], [false, 0, 0])
    }),
    fuzzRuns(500),
  )
})
