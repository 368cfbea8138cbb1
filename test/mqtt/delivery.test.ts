import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ack, hex, publish, puback, subscribe, unsubscribe } from './client-packets.ts'
import { World } from './harness.ts'
import type { Line } from './harness.ts'

const telemetry = 'devices/d1/telemetry'

/** A client with these subscriptions (filter, requested QoS). */
function subscriber(world: World, clientId: string, ...filters: readonly (readonly [string, number])[]): Line {
  const line = world.client(clientId)
  line.send(subscribe(1, ...filters))
  line.take()
  return line
}

const out = (topic: string, payload: string, o: { qos?: number; id?: number } = {}): string => hex(publish(topic, payload, o))

test('[MQTT-3.8.4-2] [MQTT-3.9.3-1] SUBACK has the id and a code for each filter: the QoS that was granted [MQTT-3.8.4-6], or 0x80', () => {
  const client = new World().client('c1')
  client.send(subscribe(0x1234, ['a', 0], ['b/+', 1], ['c/#', 2], ['$share/g/t', 1], ['$share/g', 1], ['secret/x', 1]))
  client.expect('90 08 12 34 00 01 02 01 80 80')
})

test('subscriptions of one client are limited, as are the length and depth of filters', () => {
  const client = new World({ subscriptionsPerClientMax: 2, topicBytesMax: 20, topicLevelsMax: 4 }).client('c1')
  client.send(subscribe(1, ['a', 0], ['x'.repeat(21), 0], ['1/2/3/4/5', 0], ['b', 0], ['c', 0], ['a', 1]))
  client.expect('90 08 00 01 00 80 80 00 80 01')
})

test('levels of all subscriptions are limited together', () => {
  const world = new World({ subscriptionNodesMax: 5 })
  const one = world.client('c1')
  one.send(subscribe(1, ['a/b/c', 0], ['a/b/d', 0], ['a/b/c', 1]))
  one.expect('90 05 00 01 00 80 01')
  one.send(unsubscribe(2, 'a/b/c'))
  one.expect('b0 02 00 02')
  const other = world.client('c2')
  other.send(subscribe(1, ['1/2/3/4/5', 0]))
  other.expect('90 03 00 01 00')
})

test('[MQTT-3.3.5-1] overlapping filters: one copy, at the highest QoS granted', () => {
  const world = new World()
  const client = subscriber(world, 's', ['a/#', 0], ['a/b', 1], ['+/b', 0])
  const publisher = world.client('p')
  publisher.send(publish('a/b', 'x', { qos: 1, id: 1 }))
  client.expect(out('a/b', 'x', { qos: 1, id: 1 }))
  publisher.send(publish('a/b', 'y'))
  client.expect(out('a/b', 'y'))
  publisher.send(publish('a/c', 'z', { qos: 1, id: 2 }))
  client.expect(out('a/c', 'z'))
})

test('[MQTT-3.3.1-9] RETAIN and DUP of the publisher are not passed on [MQTT-3.3.1-3]', () => {
  const world = new World()
  const client = subscriber(world, 's', ['a', 1])
  world.client('p').send(publish('a', 'x', { qos: 1, id: 3, dup: true, retain: true }))
  client.expect(out('a', 'x', { qos: 1, id: 1 }))
})

test('[MQTT-3.8.4-3] a subscription to the same filter replaces the first; [MQTT-3.10.4-2] after UNSUBSCRIBE nothing comes', () => {
  const world = new World()
  const client = subscriber(world, 's', ['a', 1])
  client.send(subscribe(2, ['a', 0]))
  client.take()
  const publisher = world.client('p')
  publisher.send(publish('a', 'x', { qos: 1, id: 1 }))
  client.expect(out('a', 'x'))
  client.send(unsubscribe(3, 'a', 'never'))
  client.expect('b0 02 00 03')
  publisher.send(publish('a', 'x', { qos: 1, id: 2 }))
  client.expect()
})

test('a telemetry topic is delivered as well, to its publisher too; a held publish once it is taken', () => {
  const world = new World()
  const client = subscriber(world, 's', ['devices/+/telemetry', 1])
  client.send(publish(telemetry, 'a', { qos: 1, id: 9 }))
  client.expect(out(telemetry, 'a', { qos: 1, id: 1 }))
  world.gate.overloaded = true
  client.send(publish(telemetry, 'b', { qos: 1, id: 10 }))
  client.expect()
  client.send(publish(telemetry, 'c'))
  client.expect(out(telemetry, 'c'))
  world.gate.overloaded = false
  world.gate.sync()
  client.expect(puback(9), out(telemetry, 'b', { qos: 1, id: 2 }))
})

test('a subscription made after the first publish is seen by the remembered route', () => {
  const world = new World()
  const publisher = world.client('p')
  publisher.send(publish(telemetry, 'a'))
  const client = subscriber(world, 's', ['#', 0])
  publisher.send(publish(telemetry, 'b'))
  client.expect(out(telemetry, 'b'))
  client.hangUp()
  publisher.send(publish(telemetry, 'c'))
  client.expect()
})

test('tenants do not hear each other', () => {
  const world = new World()
  const theirs = world.client('s', { username: 'b:u' })
  theirs.send(subscribe(1, ['#', 0]))
  theirs.take()
  const ours = world.client('s', { username: 'a:u' })
  ours.send(subscribe(1, ['#', 0]))
  ours.take()
  world.client('p', { username: 'a:v' }).send(publish('x', '1'), publish(telemetry, '2'))
  ours.expect(out('x', '1'), out(telemetry, '2'))
  theirs.expect()
  world.broker.publish('x', Buffer.from('3'), 0, 'b')
  theirs.expect(out('x', '3'))
  ours.expect()
  assert.equal(world.gate.taken[0]?.tenant, 'a')
})

test('what the server publishes must have a topic name', () => {
  const world = new World()
  for (const topic of ['', 'a/+', '#', 'a\0b', 'x'.repeat(70_000)])
    assert.throws(() => world.broker.publish(topic, new Uint8Array(0), 0, 'default'), { code: 'topic_invalid' })
})

test('the in-flight window: no more than its size without PUBACK, then in order', () => {
  const world = new World({ sendInflightMax: 2 })
  const client = subscriber(world, 's', ['a', 1])
  const publisher = world.client('p')
  for (let i = 1; i <= 5; i++) publisher.send(publish('a', `${i}`, { qos: 1, id: i }))
  client.expect(out('a', '1', { qos: 1, id: 1 }), out('a', '2', { qos: 1, id: 2 }))
  client.send(ack(0x40, 7))
  client.expect()
  client.send(ack(0x40, 2))
  client.expect(out('a', '3', { qos: 1, id: 3 }))
  client.send(ack(0x40, 1), ack(0x40, 3))
  client.expect(out('a', '4', { qos: 1, id: 4 }), out('a', '5', { qos: 1, id: 5 }))
})

test('[MQTT-2.3.1-4] a packet id is used again only after its PUBACK', () => {
  const world = new World({ sendInflightMax: 2 })
  const client = subscriber(world, 's', ['a', 1])
  const publisher = world.client('p')
  publisher.send(publish('a', 'x', { qos: 1, id: 1 }))
  client.expect(out('a', 'x', { qos: 1, id: 1 }))
  for (let i = 2; i <= 65_535; i++) {
    publisher.send(publish('a', 'x', { qos: 1, id: 1 }))
    client.send(ack(0x40, i))
  }
  client.take()
  publisher.send(publish('a', 'x', { qos: 1, id: 1 }))
  client.expect(out('a', 'x', { qos: 1, id: 2 }))
})

test('a queue beyond its count loses its oldest, and its bytes are bounded too', () => {
  const world = new World({ sendInflightMax: 1, sendQueueMax: 3 })
  const client = subscriber(world, 's', ['a', 1])
  const publisher = world.client('p')
  for (let i = 1; i <= 7; i++) publisher.send(publish('a', `${i}`, { qos: 1, id: i }))
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'queue_full' }), 3)
  client.expect(out('a', '1', { qos: 1, id: 1 }))
  for (const [acked, next] of [
    [1, '5'],
    [2, '6'],
    [3, '7'],
  ] as const) {
    client.send(ack(0x40, acked))
    client.expect(out('a', next, { qos: 1, id: acked + 1 }))
  }
  const bytes = new World({ sendInflightMax: 1, sendQueueBytesMax: 250 })
  subscriber(bytes, 's', ['a', 1])
  for (let i = 1; i <= 4; i++) bytes.client(`p${i}`).send(publish('a', 'x'.repeat(100), { qos: 1, id: i }))
  assert.equal(bytes.count('kymo_mqtt_dropped_total', { reason: 'queue_full' }), 1)
})

test('a client whose line is stuck loses QoS 0 and keeps QoS 1 in its queue; its neighbour gets all', () => {
  const world = new World({ socketBufferBytesMax: 1000 })
  const slow = subscriber(world, 'slow', ['a', 1])
  const quick = subscriber(world, 'quick', ['a', 1])
  const publisher = world.client('p')
  slow.stuck = true
  for (let i = 0; i < 5; i++) publisher.send(publish('a', 'x'.repeat(400)))
  assert.equal(world.count('kymo_mqtt_dropped_total', { reason: 'slow_subscriber' }), 2)
  assert.equal(quick.packets().length, 5)
  publisher.send(publish('a', 'y', { qos: 1, id: 1 }))
  assert.equal(slow.packets().length, 3)
  assert.equal(quick.packets().length, 1)
  slow.unstick()
  slow.expect(out('a', 'y', { qos: 1, id: 1 }))
  slow.stuck = true
  publisher.send(publish('a', 'x'.repeat(400)))
  assert.ok(world.broker.sending.used > 400)
  slow.hangUp()
  quick.hangUp()
  assert.equal(world.broker.sending.used, 0)
})

test('what all slow clients hold is bounded together and given back when they go', () => {
  const world = new World({ sendTotalBytesMax: 50_000, sendInflightMax: 1 })
  const slow = Array.from({ length: 10 }, (_, i) => subscriber(world, `s${i}`, ['a', 1]))
  const publisher = world.client('p')
  for (let i = 1; i <= 100; i++) publisher.send(publish('a', 'x'.repeat(1000), { qos: 1, id: i }))
  assert.ok(world.broker.sending.used <= 50_000 + 20 * 1010, `${world.broker.sending.used}`)
  assert.ok(world.count('kymo_mqtt_dropped_total', { reason: 'queue_full' }) > 0)
  for (const line of slow) line.hangUp()
  assert.equal(world.broker.sending.used, 0)
})

test('a client that never takes what waits for it is disconnected, one that takes some is not', () => {
  const world = new World({ socketBufferBytesMax: 1000 })
  const dead = subscriber(world, 'dead', ['a', 0])
  const slow = subscriber(world, 'slow', ['a', 0])
  const publisher = world.client('p')
  dead.stuck = slow.stuck = true
  for (let i = 0; i < 5; i++) publisher.send(publish('a', 'x'.repeat(400)))
  slow.bufferedBytes -= 100
  world.clock.advance(60_000)
  assert.deepEqual([dead.ended, slow.ended], [true, false])
  assert.equal(world.count('kymo_mqtt_disconnects_total', { reason: 'write_timeout' }), 1)
})

test('a client that sends without reading our answers is not read until it does', () => {
  const world = new World({ socketBufferBytesMax: 100 })
  const client = world.client('c1')
  client.stuck = true
  for (let i = 1; i <= 110; i++) client.send(publish('a', 'x', { qos: 1, id: i }))
  assert.equal(client.paused, true)
  assert.ok(client.bufferedBytes < 500)
  client.unstick()
  assert.equal(client.paused, false)
  assert.equal(client.packets().length, 110)
})

test('a large QoS 1 message has its own head for each subscriber and the same payload', () => {
  const world = new World()
  const clients = [subscriber(world, 's1', ['a', 1]), subscriber(world, 's2', ['a', 1])]
  const payload = 'z'.repeat(100_000)
  const publisher = world.client('p')
  publisher.send(publish('b', 'x'))
  for (let id = 1; id <= 2; id++) {
    publisher.send(publish('a', payload, { qos: 1, id: 40 + id }))
    for (const client of clients) client.expect(out('a', payload, { qos: 1, id }))
  }
})

test('what a turn brings for one client leaves in one write', () => {
  const world = new World()
  const client = subscriber(world, 's', ['a', 1])
  world.client('p').send(...Array.from({ length: 20 }, (_, i) => publish('a', `${i}`, { qos: i % 2, id: i + 1 })))
  assert.equal(client.writes, 1)
  assert.equal(client.packets().length, 20)
})

test('messages are counted by direction and QoS', () => {
  const world = new World()
  const client = subscriber(world, 's', ['a', 1])
  client.send(publish('a', 'x'), publish('a', 'x', { qos: 1, id: 1 }), publish('a', 'x', { qos: 2, id: 2 }))
  const counts = (direction: string): number[] => ['0', '1', '2'].map((qos) => world.count('kymo_mqtt_messages_total', { direction, qos }))
  assert.deepEqual(
    [counts('in'), counts('out')],
    [
      [1, 1, 1],
      [1, 2, 0],
    ],
  )
})

test('what several subscribers get in a turn is put together for all of them, and differs where it differs', () => {
  const world = new World()
  const both = ['s1', 's2'].map((id) => subscriber(world, id, ['a', 0], ['b', 0]))
  const [one, other] = [subscriber(world, 's3', ['a', 0]), subscriber(world, 's4', ['a', 0], ['c', 0])]
  for (const round of ['1', '2']) {
    const [a, b, c] = ['a', 'b', 'c'].map((topic) => [0, 1].map((i) => publish(topic, `${topic}${round}${i}`)))
    world.client('p').send(...a!, ...b!, ...c!)
    const hexOf = (...packets: readonly Uint8Array[]): string[] => packets.map((packet) => hex(packet))
    for (const line of both) line.expect(...hexOf(...a!, ...b!))
    one.expect(...hexOf(...a!))
    other.expect(...hexOf(...a!, ...c!))
  }
})
