import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeConnack, encodeSuback, pingresp } from '../../src/wire/mqtt/encode.ts'
import { publish } from '../mqtt/client-packets.ts'
import { settled } from '../sim/clock.ts'
import { type BrokerSide, openWorld, TestGate, type World } from './world.ts'

async function up(w: World, o: { present?: boolean; codes?: readonly number[] } = {}): Promise<BrokerSide> {
  const side = await w.next()
  side.send(encodeConnack(o.present === true, 0))
  await settled()
  const asked = side.said.find((s): s is [string, number] => Array.isArray(s) && s[0] === 'subscribe')
  if (asked !== undefined) side.send(encodeSuback(asked[1], o.codes ?? [1, 1]))
  await settled()
  return side
}

const message = (id: number, o: { topic?: string; dup?: boolean; retain?: boolean; text?: string } = {}): Uint8Array =>
  publish(o.topic ?? 't/d1', o.text ?? `{"n":${id}}`, { qos: 1, id, ...o })

function cell(w: World, name: string): number {
  const [only] = [...w.metrics.families.get(name)!.cells.values()]
  assert.ok(only !== undefined && 'value' in only.cell)
  return only.cell.value
}

test('a persistent session at QoS 1; acknowledged once durable, in order, in one write', async () => {
  const w = await openWorld()
  assert.deepEqual(w.pull.status(), { connected: false, detail: 'mqtt://broker.example:1883 connecting' })
  const side = await up(w)
  const [first, second] = side.said as [unknown[], unknown[]]
  assert.match(String(first[1]), /^kymo-[0-9a-f]{16}$/)
  assert.deepEqual(first.slice(2), [false, 'u', 'geheim'])
  assert.deepEqual(second, ['subscribe', 1, 'telemetry 1', 't/+ 1'])
  assert.deepEqual(w.pull.status(), { connected: true, detail: 'mqtt://broker.example:1883, 2 of 2 subscriptions by MQTT 3.1.1' })
  assert.equal(cell(w, 'kymo_mqtt_pull_connected'), 1)

  side.send(message(5), message(6, { topic: 'telemetry' }), message(7, { dup: true }), publish('t/d2', '1'))
  assert.deepEqual(
    w.gate.taken.map(({ transport, client, topic, topicDevice, packetId, dup, retained }) => [
      transport,
      client,
      topic,
      topicDevice,
      packetId,
      dup,
      retained,
    ]),
    [
      ['mqtt-pull', 'mqtt://broker.example:1883', 't/d1', 'd1', 5, false, false],
      ['mqtt-pull', 'mqtt://broker.example:1883', 'telemetry', undefined, 6, false, false],
      ['mqtt-pull', 'mqtt://broker.example:1883', 't/d1', 'd1', 7, true, false],
      ['mqtt-pull', 'mqtt://broker.example:1883', 't/d2', 'd2', 0, false, false],
    ],
  )
  assert.deepEqual(side.acks, [], 'nothing before it is durable')
  w.gate.sync()
  assert.deepEqual(side.acks, [5, 6, 7])
  assert.doesNotMatch(w.logged.join('\n'), /geheim/)
})

test('the session goes on after a restart: same client id, same identity, nothing subscribed anew; a new one has a new identity', async () => {
  const w = await openWorld()
  const side = await up(w)
  side.send(message(1))
  const again = await openWorld({ meta: w.meta })
  const second = await up(again, { present: true })
  assert.deepEqual(
    second.said.map((s) => (s as unknown[])[0]),
    ['connect'],
  )
  assert.equal((second.said[0] as unknown[])[1], (side.said[0] as unknown[])[1])
  assert.equal(again.pull.status().connected, true)
  second.send(message(1, { dup: true }))
  assert.equal(again.gate.taken[0]?.identity, w.gate.taken[0]?.identity)
  second.cut()
  const third = await up(again, { present: false })
  assert.equal((third.said[1] as unknown[])[0], 'subscribe', 'the broker has forgotten us')
  third.send(message(1))
  assert.notEqual(again.gate.taken[1]?.identity, w.gate.taken[0]?.identity)
})

test('nothing is taken before the identity of its session is durable', async () => {
  const w = await openWorld()
  const side = await w.next()
  // A session that the broker knows and we do not: a data directory that was lost, under a client id that was set.
  w.meta.fails = true
  side.send(encodeConnack(true, 0), message(1))
  await settled()
  assert.deepEqual(w.gate.taken, [])
  assert.match(w.pull.status().detail, /cannot be kept: the disk is full/)
  w.meta.fails = false
  await w.env.clock.advance(1_000)
  const next = await w.next()
  next.send(encodeConnack(true, 0), message(1, { dup: true }))
  await settled()
  assert.equal(w.gate.taken.length, 1)
})

test('topics that are no longer wanted are left; what still comes of them is acknowledged and counts as not asked for', async () => {
  const w = await openWorld({ topics: ['a', 'b'] })
  await up(w)
  const again = await openWorld({ meta: w.meta, topics: ['b', 'c'] })
  const side = await up(again, { present: true, codes: [1] })
  assert.deepEqual(side.said.slice(1), [
    ['unsubscribe', 1, 'a'],
    ['subscribe', 2, 'c 1'],
  ])
  side.send(message(9, { topic: 'a' }))
  assert.deepEqual([side.acks, again.gate.taken.length], [[9], 0])
  assert.equal(again.pull.status().detail, 'mqtt://broker.example:1883, 2 of 2 subscriptions by MQTT 3.1.1')
})

test('while the gate takes nothing, nothing is read, and little is held here', async () => {
  const w = await openWorld()
  const side = await up(w)
  w.gate.room = 3
  const many = Array.from({ length: 50_000 }, (_, i) => message(i + 1))
  side.send(...many)
  assert.equal(w.gate.taken.length, 3)
  assert.ok(side.paused && side.networkBytes > 500_000, 'the rest waits in the network')
  w.gate.sync()
  assert.deepEqual(side.acks, [1, 2, 3])
  w.gate.room = 10_000
  w.gate.sync()
  await settled()
  w.gate.room = 1e9
  while (side.acks.length < 50_000) {
    const before = side.acks.length
    w.gate.sync()
    await settled()
    assert.ok(side.acks.length > before, 'it goes on')
  }
  assert.deepEqual(
    w.gate.taken.map(({ packetId }) => packetId),
    many.map((_, i) => i + 1),
    'each once, in order',
  )
})

test('no more than the limit waits for durability; what the broker does not read is not piled up', async () => {
  const w = await openWorld()
  const side = await up(w)
  side.send(...Array.from({ length: 40_000 }, (_, i) => message(i + 1)))
  assert.equal(w.gate.taken.length, 16_384)
  assert.ok(side.paused)
  w.gate.sync()
  await settled()
  assert.ok(w.gate.taken.length > 16_384)

  const slow = await up(await openWorld({ gate: w.gate }))
  slow.waitingBytes = 300 * 1024
  slow.send(message(1))
  w.gate.sync()
  assert.equal(slow.paused, true)
  slow.drained()
  assert.equal(slow.paused, false)
})

test('a lost connection comes back after a wait that doubles; what was not acknowledged is given up and comes again', async () => {
  const w = await openWorld()
  const first = await up(w)
  first.send(message(1), message(2))
  first.cut('reset')
  assert.equal(cell(w, 'kymo_mqtt_pull_connected'), 0)
  assert.match(w.pull.status().detail, /is not connected: reset/)
  w.gate.sync()
  assert.deepEqual(first.acks, [], 'nothing is written into a connection that is gone')
  const waits: number[] = []
  for (let i = 0; i < 10; i++) {
    const from = w.env.clock.monotonicMs()
    while (w.dialled.length === i + 1) await w.env.clock.advance(10)
    waits.push(w.env.clock.monotonicMs() - from)
    w.dialled.at(-1)!.cut('nobody listens there')
  }
  waits.forEach((wait, i) => {
    const ceiling = Math.min(30_000, 250 * 2 ** i)
    assert.ok(wait >= ceiling / 2 - 20 && wait <= ceiling + 20, `${i}: ${wait}`)
  })
  assert.equal(w.logged.filter((line) => line.startsWith('warn') && line.includes('nobody listens')).length, 1, 'the same reason is told once')
})

test('a connection that stood for a while makes the next wait short; one that ends at once does not', async () => {
  const w = await openWorld()
  for (let i = 0; i < 8; i++) {
    const side = await up(w, { present: i > 0 })
    side.cut()
  }
  const before = w.env.clock.monotonicMs()
  const side = await up(w, { present: true })
  assert.ok(w.env.clock.monotonicMs() - before >= 15_000)
  await w.env.clock.advance(11_000)
  side.cut()
  await w.env.clock.advance(300)
  assert.equal(w.dialled.length, 10)
})

test('refusals are told and tried again slowly: login, own door', async () => {
  const w = await openWorld()
  const side = await w.next()
  side.send(encodeConnack(false, 5))
  await settled()
  assert.match(w.pull.status().detail, /these credentials are not allowed/)
  assert.match(w.logged.join('\n'), /warn mqtt:\/\/broker\.example:1883: these credentials are not allowed/)
  await w.env.clock.advance(29_000)
  assert.equal(w.dialled.length, 1)
  await up(w)
  assert.equal(w.pull.status().connected, true, 'somebody has mended it')

  const own = await openWorld({ own: true })
  const mine = await own.next()
  assert.deepEqual(mine.said, [], 'no CONNECT')
  assert.match(own.pull.status().detail, /Kymo's own MQTT door/)
})

test('a subscription that is refused is told, counted as not connected, and asked for again each minute', async () => {
  const w = await openWorld()
  const side = await up(w, { codes: [1, 0x80] })
  assert.deepEqual(w.pull.status(), { connected: false, detail: 'mqtt://broker.example:1883, 1 of 2 subscriptions by MQTT 3.1.1; it refuses t/+' })
  assert.match(w.logged.join('\n'), /refuses the subscription to t\/\+/)
  side.send(message(1, { topic: 'telemetry' }))
  assert.equal(w.gate.taken.length, 1, 'what is granted comes')
  const asked = (): unknown => side.said.findLast((said) => (said as unknown[])[0] === 'subscribe')
  for (let i = 0; (asked() as unknown[])[1] === 1; i++) {
    assert.ok(i < 61)
    await w.env.clock.advance(1_000)
    side.send(pingresp)
  }
  assert.deepEqual(asked(), ['subscribe', 2, 't/+ 1'])
  side.send(encodeSuback(2, [1]))
  await settled()
  assert.equal(w.pull.status().connected, true)
  const weak = await openWorld()
  await up(weak, { codes: [0, 1] })
  assert.match(weak.pull.status().detail, /grants only QoS 0 to telemetry/)
})

test('a broker that falls silent is given up; one that is not read for a while is not', async () => {
  const w = await openWorld()
  const side = await up(w)
  await w.env.clock.advance(15_500)
  side.send(pingresp)
  await w.env.clock.advance(15_000)
  assert.equal(side.over, false)
  await w.env.clock.advance(15_000)
  await settled()
  assert.equal(side.over, true)
  assert.match(w.pull.status().detail, /has said nothing for 15 s/)

  const held = await openWorld()
  const quiet = await up(held)
  held.gate.room = 0
  quiet.send(message(1))
  await held.env.clock.advance(120_000)
  assert.equal(quiet.over, false)
  assert.ok(quiet.said.filter((s) => (s as unknown[])[0] === 'pingreq').length >= 7, 'the broker hears of us all the while')
  const mute = await openWorld()
  await mute.next()
  await mute.env.clock.advance(10_100)
  assert.match(mute.pull.status().detail, /no answer to CONNECT within 10 s/)
})

test('too large a message leaves its beginning as a dead letter, and the next ones come', async () => {
  const w = await openWorld({ packetBytesMax: 20_000 })
  const side = await up(w)
  w.gate.room = 0
  side.send(message(1, { text: 'x'.repeat(200_000) }), message(2))
  w.gate.room = 10
  w.gate.sync()
  await settled()
  const [letter] = w.gate.letters
  assert.deepEqual(
    [letter?.code, letter?.client, letter?.topic, letter?.text.length, letter?.total],
    ['body_too_large', 'mqtt://broker.example:1883', 't/d1', 4_096, 200_000],
  )
  w.gate.sync()
  await settled()
  w.gate.sync()
  assert.deepEqual(side.acks, [1, 2])
})

test('arrays, empty messages, topics without a device, retained ones', async () => {
  const w = await openWorld({ packetBytesMax: 65_536 })
  const side = await up(w)
  side.send(
    message(1, { text: '[{"n":1},{"n":2}]' }),
    message(2, { text: '' }),
    message(3, { topic: `t/${'x'.repeat(300)}` }),
    message(4, { text: '[]' }),
    message(5, { retain: true }),
  )
  w.gate.sync()
  assert.deepEqual(side.acks, [1, 2, 3, 4, 5])
  assert.deepEqual(
    w.gate.taken.map(({ text, item, retained }) => [text, item, retained]),
    [
      ['{"n":1}', 0, false],
      ['{"n":2}', 1, false],
      ['{"n":5}', 0, true],
    ],
  )
  assert.equal(w.gate.letters[0]?.code, 'topic_invalid')
  // A long one takes several turns, in which others of the event loop get theirs.
  side.send(message(6, { text: `[${Array.from({ length: 1_000 }, (_, i) => `{"n":${i}}`).join()}]` }), message(7))
  assert.ok(w.gate.taken.length < 500)
  for (let i = 0; i < 10; i++) await w.env.clock.advance(2)
  w.gate.sync()
  await settled()
  assert.deepEqual(side.acks.slice(-2), [6, 7])
  assert.equal(w.gate.taken.length, 3 + 1_000 + 1)
})

test('what is no MQTT, or was not asked for, ends the connection; a fault of ours is told and the message stays with the broker', async () => {
  const wrong: readonly [Uint8Array, RegExp][] = [
    [Buffer.from('HTTP/1.1 400\r\n'), /no MQTT 3\.1\.1/],
    [publish('t/d', 'x', { qos: 2 }), /QoS 2/],
    [Uint8Array.of(0x40, 2, 0, 1), /did not send/],
    [encodeSuback(9, [0]), /something else than we asked/],
    [encodeConnack(false, 0), /second CONNACK/],
  ]
  for (const [bytes, why] of wrong) {
    const w = await openWorld()
    const side = await up(w)
    side.send(bytes)
    await settled()
    assert.match(w.pull.status().detail, why)
    assert.equal(side.over, true)
  }
  const w = await openWorld()
  const side = await up(w)
  w.gate.throws = new Error('oops')
  side.send(message(1))
  await settled()
  assert.match(w.logged.join('\n'), /error taking messages of mqtt:\/\/broker\.example:1883 failed: oops/)
  assert.deepEqual([side.acks, side.over], [[], true])
})

test('the end: nothing more is read, what is durable is acknowledged, the session stays', async () => {
  const gate = new TestGate()
  const w = await openWorld({ gate })
  const side = await up(w)
  side.send(message(1), message(2))
  w.pull.stopReading()
  side.send(message(3))
  assert.equal(gate.taken.length, 2)
  gate.sync()
  await w.pull.close(1_000)
  assert.deepEqual(side.acks, [1, 2])
  assert.deepEqual(side.said.at(-1), ['disconnect'])
  assert.equal(gate.taken.length, 2)
  await w.env.clock.advance(120_000)
  assert.equal(w.dialled.length, 1, 'no further try')
})
