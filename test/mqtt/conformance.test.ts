import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ack, bytesOf, connect, disconnect, field, hex, packet, pingreq, puback, publish, subscribe, unsubscribe } from './client-packets.ts'
import { World } from './harness.ts'
import type { Line } from './harness.ts'

// Statements of MQTT 3.1.1 (OASIS) that the other files of this folder do not name, by session.

const telemetry = 'devices/d1/telemetry'
const out = (topic: string, payload: string, o: { qos?: number; id?: number } = {}): string => hex(publish(topic, payload, o))

function subscriber(world: World, ...filters: readonly (readonly [string, number])[]): Line {
  const line = world.client('subscriber')
  line.send(subscribe(1, ...filters))
  line.take()
  return line
}

test('[MQTT-4.8.0-1] [MQTT-3.1.4-1] a CONNECT that is wrong is closed without CONNACK, and what follows it is not obeyed', () => {
  const wrong: [string, Uint8Array][] = [
    ['MQTT-3.1.2-1', connect({ name: 'MQTX' })],
    ['MQTT-3.1.2-1', connect({ name: 'mqtt' })],
    ['MQTT-3.1.2-3', connect({ flags: 0x03 })],
    ['MQTT-3.1.2-13', connect({ flags: 0x12 })],
    ['MQTT-3.1.2-14', connect({ flags: 0x1e })],
    ['MQTT-3.1.2-15', connect({ flags: 0x22 })],
    ['MQTT-3.1.2-22', connect({ flags: 0x42 })],
    ['MQTT-3.1.3-3, no client id', packet(0x10, field('MQTT'), [4, 2, 0, 0])],
    ['MQTT-3.1.3-4, client id not UTF-8', packet(0x10, field('MQTT'), [4, 2, 0, 0], field(bytesOf('ff')))],
    ['MQTT-3.1.3-10, will topic not UTF-8', packet(0x10, field('MQTT'), [4, 6, 0, 0], field('c'), field(bytesOf('c0 80')), field(''))],
    ['MQTT-3.1.3-11, user name not UTF-8', packet(0x10, field('MQTT'), [4, 0x82, 0, 0], field('c'), field(bytesOf('ed a0 80')))],
    ['MQTT-3.1.2-19, no user name', packet(0x10, field('MQTT'), [4, 0x82, 0, 0], field('c'))],
    ['MQTT-3.1.2-21, no password', packet(0x10, field('MQTT'), [4, 0xc2, 0, 0], field('c'), field('u'))],
    ['MQTT-3.1.2-18, a user name without its flag', packet(0x10, field('MQTT'), [4, 2, 0, 0], field('c'), field('u'))],
    ['MQTT-2.2.2-2, reserved bits', packet(0x11, field('MQTT'), [4, 2, 0, 0], field('c'))],
    ['section 2.2.3, five bytes of length', bytesOf('10 80 80 80 80 01')],
  ]
  for (const [what, bytes] of wrong) {
    const world = new World()
    const line = world.line()
    line.send(bytes, publish(telemetry, 'x', { qos: 1 }))
    line.expect()
    assert.equal(line.ended, true, what)
    assert.equal(world.gate.taken.length, 0)
    assert.equal(world.broker.connections, 0)
  }
})

test('[MQTT-3.2.0-1] [MQTT-3.1.4-4] CONNACK comes first, and once, also to a client that did not wait for it', () => {
  const world = new World()
  const line = world.line()
  line.send(connect(), pingreq, subscribe(7, ['a', 0]), publish('a', 'x'))
  line.expect('20 02 00 00', 'd0 00', '90 03 00 07 00', out('a', 'x'))
})

test('[MQTT-3.1.4-5] [MQTT-3.2.2-4] [MQTT-3.2.2-5] a refused client gets its code without session present, is closed and not obeyed', () => {
  for (const [refused, answer] of [
    [connect({ level: 6 }), '20 02 00 01'],
    [connect({ clientId: '', clean: false }), '20 02 00 02'],
    [connect({ clientId: 'x'.repeat(257) }), '20 02 00 02'],
    [connect({ username: 'eve' }), '20 02 00 05'],
    [connect({ username: 'u', password: 'wrong' }), '20 02 00 04'],
  ] as const) {
    const world = new World()
    const line = world.line()
    line.send(refused, publish(telemetry, 'x', { qos: 1 }), pingreq)
    world.clock.advance(1000)
    line.expect(answer)
    assert.equal(line.ended, true)
    assert.equal(world.gate.taken.length, 0)
  }
})

test('[MQTT-3.1.3-5] client ids of 1 to 23 letters and digits are taken', () => {
  const world = new World()
  for (const clientId of ['a', '0123456789abcdefghijklm', 'NOPQRSTUVWXYZnopqrstuvw']) world.client(clientId)
  assert.equal(world.broker.connections, 3)
})

test('[MQTT-3.2.2-1] [MQTT-3.2.2-3] no session is present: neither with CleanSession 1 nor when one was never stored', () => {
  const world = new World()
  for (const clean of [false, false, true, false]) world.client('c', { clean })
  const again = world.client('c', { clean: false })
  world.client('p').send(publish('a', 'x'))
  again.expect()
})

test('[MQTT-3.1.2-8] the will is published for keep-alive, for a protocol error, and for a connection that is taken over', () => {
  const ends: [string, (world: World, client: Line) => void][] = [
    ['keep-alive', (world) => world.clock.advance(15_001)],
    ['a second CONNECT', (_, client) => client.send(connect({ clientId: 'c' }))],
    ['reserved bits in DISCONNECT [MQTT-3.14.1-1]', (_, client) => client.send(bytesOf('e1 00'))],
    ['a DISCONNECT with a body', (_, client) => client.send(bytesOf('e0 01 00'))],
    ['taken over', (world) => void world.client('c')],
  ]
  for (const [how, end] of ends) {
    const world = new World()
    const watcher = subscriber(world, ['will/#', 1])
    const client = world.client('c', { keepAlive: 10, will: { topic: 'will/c', payload: 'gone', qos: 2 } })
    watcher.expect()
    end(world, client)
    assert.equal(client.ended, true, how)
    watcher.expect(out('will/c', 'gone', { qos: 1, id: 1 }))
  }
})

test('[MQTT-3.1.2-12] no will, nothing is published; [MQTT-3.14.4-3] DISCONNECT discards it, whatever stands behind', () => {
  const world = new World()
  const watcher = subscriber(world, ['#', 0])
  world.client('c').hangUp()
  world.client('d', { will: { topic: 'w', payload: 'x' } }).send(disconnect, bytesOf('ff ff'))
  watcher.expect()
})

test('[MQTT-3.1.2-24] keep-alive: one and a half times, to the millisecond; a packet that never ends is no sign of life', () => {
  for (const keepAlive of [1, 7, 65_535]) {
    const world = new World()
    const client = world.client('c', { keepAlive })
    // While its packet is incomplete a client has the packet timeout at most, so nothing is sent here.
    world.clock.advance(keepAlive * 1500 - 1)
    assert.equal(client.ended, false)
    world.clock.advance(1)
    assert.equal(client.ended, true)
  }
  const world = new World()
  const client = world.client('c', { keepAlive: 10 })
  const bytes = publish('a', 'x'.repeat(500))
  for (let at = 0; at < 20 && !client.ended; at++) {
    client.send(bytes.subarray(at, at + 1))
    world.clock.advance(1000)
  }
  assert.equal(client.ended, true)
})

test('[MQTT-3.3.4-1] [MQTT-2.3.1-6] each QoS has its answer, with the packet id of the PUBLISH', () => {
  const client = new World().client('c')
  client.send(publish('a', 'x'), publish('a', 'x', { qos: 1, id: 0xffff }), publish('a', 'x', { qos: 2, id: 0x0100 }), ack(0x62, 0x0100))
  client.expect('40 02 ff ff', '50 02 01 00', '70 02 01 00')
})

test('[MQTT-4.3.3-2] QoS 2: subscribers get a message once however often it is sent, with or without DUP; after PUBREL it is a new one', () => {
  const world = new World()
  const watcher = subscriber(world, ['a', 1])
  const client = world.client('c')
  client.send(publish('a', '1', { qos: 2, id: 5 }))
  client.send(publish('a', '1', { qos: 2, id: 5, dup: true }), publish('a', '1', { qos: 2, id: 5 }))
  client.expect('50 02 00 05', '50 02 00 05', '50 02 00 05')
  watcher.expect(out('a', '1', { qos: 1, id: 1 }))
  client.send(ack(0x62, 5), ack(0x62, 5), publish('a', '2', { qos: 2, id: 5, dup: true }))
  client.expect('70 02 00 05', '70 02 00 05', '50 02 00 05')
  watcher.expect(out('a', '2', { qos: 1, id: 2 }))
})

test('[MQTT-4.3.3-2] QoS 2 under overload: the duplicate of a message that waits is not a second one', () => {
  const world = new World()
  const client = world.client('c')
  world.gate.overloaded = true
  client.send(publish(telemetry, '1', { qos: 2, id: 5 }), publish(telemetry, '1', { qos: 2, id: 5, dup: true }))
  client.expect()
  world.gate.overloaded = false
  world.gate.sync()
  world.gate.sync()
  assert.equal(world.gate.taken.length, 1)
  client.expect('50 02 00 05')
})

test('[MQTT-4.3.2-2] QoS 1: an id that was acknowledged is a new message, DUP or not', () => {
  const world = new World()
  const watcher = subscriber(world, ['a', 0])
  const client = world.client('c')
  client.send(publish('a', '1', { qos: 1, id: 5 }), publish('a', '1', { qos: 1, id: 5, dup: true }))
  client.expect(puback(5), puback(5))
  watcher.expect(out('a', '1'), out('a', '1'))
})

test('[MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4] PUBACK, PUBREC and PUBCOMP in the order of what they answer', () => {
  const world = new World()
  const client = world.client('c')
  client.send(publish(telemetry, 'a', { qos: 2, id: 3 }), publish('chat', 'b', { qos: 1, id: 2 }), publish(telemetry, 'c', { qos: 2, id: 1 }))
  world.gate.sync(1)
  client.expect('50 02 00 03', puback(2))
  world.gate.sync()
  client.expect('50 02 00 01')
  client.send(ack(0x62, 1), ack(0x62, 3))
  client.expect('70 02 00 01', '70 02 00 03')
})

test('[MQTT-4.6.0-5] [MQTT-4.6.0-6] messages of one topic are delivered in the order they came', () => {
  const world = new World()
  const watcher = subscriber(world, ['a', 1])
  const client = world.client('c')
  client.send(...Array.from({ length: 20 }, (_, i) => publish('a', `${i}`, { qos: 1, id: i + 1 })))
  watcher.expect(...Array.from({ length: 20 }, (_, i) => out('a', `${i}`, { qos: 1, id: i + 1 })))
})

test('acknowledgements of deliveries that nobody waits for change nothing; PUBREC is answered, so that its exchange ends', () => {
  const client = new World().client('c')
  client.send(ack(0x40, 9), ack(0x50, 9), ack(0x70, 9), pingreq)
  client.expect('62 02 00 09', 'd0 00')
  assert.equal(client.ended, false)
})

test('[MQTT-3.8.4-4] [MQTT-3.8.4-5] one SUBACK for a SUBSCRIBE, a code for each filter, as if they had come one by one', () => {
  const world = new World()
  const client = world.client('c')
  client.send(subscribe(3, ['a/#', 0], ['a/#', 2], ['+/b', 0], ['a/#', 0]))
  client.expect('90 06 00 03 00 02 00 00')
  world.client('p').send(publish('a/b', 'x', { qos: 1, id: 1 }))
  client.expect(out('a/b', 'x'))
})

test('[MQTT-3.10.4-1] UNSUBSCRIBE compares filters character by character; [MQTT-3.10.4-5] it is acknowledged when nothing was removed', () => {
  const world = new World()
  const client = subscriber(world, ['a/+', 0], ['B', 0])
  client.send(unsubscribe(2, 'a/b'), unsubscribe(3, 'a/#', 'b', 'A/+'), unsubscribe(4, 'B'))
  client.expect('b0 02 00 02', 'b0 02 00 03', 'b0 02 00 04')
  world.client('p').send(publish('a/b', 'x'), publish('B', 'y'))
  client.expect(out('a/b', 'x'))
})

test('[MQTT-3.10.4-6] [MQTT-3.8.4-1] many filters in one UNSUBSCRIBE have one UNSUBACK; answers come in the order of the requests', () => {
  const world = new World()
  const client = world.client('c')
  client.send(subscribe(9, ['a', 0], ['b', 0]), unsubscribe(8, 'a', 'b'), subscribe(7, ['c', 0]), pingreq, unsubscribe(6, 'c'), publish('a', 'x'))
  client.expect('90 04 00 09 00 00', 'b0 02 00 08', '90 03 00 07 00', 'd0 00', 'b0 02 00 06')
})

test('[MQTT-3.10.4-3] a QoS 1 delivery that was begun is completed after UNSUBSCRIBE', () => {
  const world = new World({ sendInflightMax: 1 })
  const client = subscriber(world, ['a', 1])
  const publisher = world.client('p')
  publisher.send(publish('a', '1', { qos: 1, id: 1 }), publish('a', '2', { qos: 1, id: 2 }))
  client.send(unsubscribe(2, 'a'))
  client.send(ack(0x40, 1))
  assert.deepEqual(client.packets().slice(0, 2), [out('a', '1', { qos: 1, id: 1 }), 'b0 02 00 02'])
})

test('[MQTT-4.7.2-1] a leading wildcard does not match topics that begin with $; a filter that says so does', () => {
  const world = new World()
  const client = subscriber(world, ['#', 0], ['+/x', 0], ['+/#', 0])
  world.client('p').send(publish('$own/x', '1'))
  client.expect()
  client.send(subscribe(2, ['$own/#', 0], ['$own/+', 0]))
  client.take()
  world.client('p').send(publish('$own/x', '2'), publish('own/$x', '3'))
  client.expect(out('$own/x', '2'), out('own/$x', '3'))
})

test('[MQTT-4.7.1-2] # matches its parent too; [MQTT-4.7.1-3] + matches one level, also an empty one', () => {
  const cases: [string, string[], string[]][] = [
    [
      'sport/tennis/player1/#',
      ['sport/tennis/player1', 'sport/tennis/player1/ranking', 'sport/tennis/player1/a/b'],
      ['sport/tennis', 'sport/tennis/player10'],
    ],
    ['sport/+', ['sport/', 'sport/a'], ['sport', 'sport/a/b']],
    ['+/+', ['/finance', 'a/', '/'], ['finance', 'a/b/c']],
    ['/+', ['/finance', '/'], ['finance', '/a/b']],
    ['+', ['finance'], ['/finance']],
    ['#', ['a', '/', '/a/b'], ['$a']],
  ]
  for (const [filter, matching, others] of cases) {
    const world = new World()
    const client = subscriber(world, [filter, 0])
    const publisher = world.client('p')
    for (const topic of [...matching, ...others]) publisher.send(publish(topic, ''))
    client.expect(...matching.map((topic) => out(topic, '')))
  }
})

test('[MQTT-4.7.3-4] topics are compared as they are: case, spaces, slashes and code points are not levelled', () => {
  const world = new World()
  const client = subscriber(world, ['A/é b', 0])
  const publisher = world.client('p')
  for (const topic of ['a/é b', 'A/e\u0301 b', '/A/é b', 'A/é b/', 'A//é b', 'A/é  b', 'A/é b']) publisher.send(publish(topic, topic))
  client.expect(out('A/é b', 'A/é b'))
})

test('[MQTT-4.7.3-3] a topic of 65,535 bytes is within the standard and beyond the limit: the connection ends, nobody else notices', () => {
  const world = new World()
  const other = world.client('other')
  const client = world.client('c')
  client.send(publish('t'.repeat(65_535), 'x', { qos: 1 }))
  assert.equal(client.ended, true)
  other.send(pingreq)
  other.expect('d0 00')
})

test('[MQTT-4.8.0-1] what a client may not send ends its connection at once, and the will tells', () => {
  const wrong: [string, Uint8Array][] = [
    ['MQTT-3.3.1-4, QoS 3', bytesOf('36 05 00 01 61 00 01')],
    ['MQTT-3.3.1-2, DUP at QoS 0', bytesOf('38 03 00 01 61')],
    ['MQTT-3.3.2-2, a wildcard', publish('a/#', 'x')],
    ['MQTT-4.7.3-1, no topic', publish('', 'x')],
    ['MQTT-1.5.3-2, U+0000', publish('a\0', 'x')],
    ['MQTT-1.5.3-1, no UTF-8', publish(bytesOf('ff'), 'x')],
    ['MQTT-2.3.1-1, packet id 0', publish('a', 'x', { qos: 1, id: 0 })],
    ['MQTT-3.6.1-1, PUBREL without its bits', ack(0x60, 1)],
    ['MQTT-3.8.1-1, SUBSCRIBE without its bits', packet(0x80, [0, 1], field('a'), [0])],
    ['MQTT-3.8.3-3, SUBSCRIBE of nothing', packet(0x82, [0, 1])],
    ['MQTT-3.8.3-4, QoS 3 asked for', subscribe(1, ['a', 3])],
    ['MQTT-3.8.3-4, reserved bits of the QoS', subscribe(1, ['a', 0x41])],
    ['MQTT-3.10.1-1, UNSUBSCRIBE without its bits', packet(0xa0, [0, 1], field('a'))],
    ['MQTT-3.10.3-2, UNSUBSCRIBE of nothing', packet(0xa2, [0, 1])],
    ['MQTT-2.2.2-2, PINGREQ with bits', bytesOf('c8 00')],
    ['section 2.2.1, type 0', bytesOf('00 00')],
    ['section 2.2.1, type 15', bytesOf('f0 00')],
    ["section 2.2.1, a server's packet", bytesOf('d0 00')],
    ['section 2.2.3, five bytes of length', bytesOf('30 ff ff ff ff 01')],
  ]
  for (const [what, bytes] of wrong) {
    const world = new World()
    const watcher = subscriber(world, ['#', 0])
    const client = world.client('c', { will: { topic: 'will', payload: 'gone' } })
    client.send(bytes, publish('late', 'x'), pingreq)
    client.expect()
    assert.equal(client.ended, true, what)
    watcher.expect(out('will', 'gone'))
  }
})
