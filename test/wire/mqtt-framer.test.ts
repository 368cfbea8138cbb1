import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ack, bytesOf, connect, disconnect, field, packet, pingreq, publish, subscribe, unsubscribe } from '../mqtt/client-packets.ts'
import { read, Recorder } from './mqtt-recorder.ts'

/** The conformance statement that a stream violates; undefined: none. */
function violated(...packets: readonly Uint8Array[]): string | undefined {
  return read([Buffer.concat(packets)]).violation?.statement
}

test('every packet of a client', () => {
  const stream = Buffer.concat([
    connect({
      clientId: 'c-é',
      clean: false,
      keepAlive: 600,
      will: { topic: 'w/t', payload: 'gone', qos: 2, retain: true },
      username: 'user',
      password: 'pass',
    }),
    publish('a/b', 'payload'),
    publish('a/b', '', { qos: 1, id: 0x1234, dup: true, retain: true }),
    publish('t', 'x', { qos: 2, id: 65_535 }),
    ack(0x40, 1),
    ack(0x50, 2),
    ack(0x62, 3),
    ack(0x70, 4),
    subscribe(5, ['a/+', 0], ['b/#', 1], ['c', 2]),
    unsubscribe(6, 'a/+', 'c'),
    pingreq,
    disconnect,
  ])
  const { events, violation } = read([stream])
  assert.equal(violation, undefined)
  assert.deepEqual(events, [
    [
      'connect',
      {
        level: 4,
        cleanSession: false,
        keepAliveS: 600,
        clientId: 'c-é',
        clientIdBytes: 4,
        will: { topic: 'w/t', payload: Uint8Array.from(Buffer.from('gone')), qos: 2, retain: true },
        username: 'user',
        password: Uint8Array.from(Buffer.from('pass')),
      },
    ],
    ['publish', 0, 'a/b', 0, 'payload'],
    ['publish', 0b1011, 'a/b', 0x1234, ''],
    ['publish', 0b0100, 't', 65_535, 'x'],
    ['ack', 4, 1],
    ['ack', 5, 2],
    ['ack', 6, 3],
    ['ack', 7, 4],
    [
      'subscribe',
      5,
      [
        { filter: 'a/+', qos: 0 },
        { filter: 'b/#', qos: 1 },
        { filter: 'c', qos: 2 },
      ],
    ],
    ['unsubscribe', 6, ['a/+', 'c']],
    ['pingreq'],
    ['disconnect'],
  ])
})

test('[MQTT-2.2.2-2] and what else the first byte may not be', () => {
  const allowed = new Set([0x10, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3a, 0x3b, 0x3c, 0x3d, 0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0])
  for (let first = 0; first < 256; first++) {
    assert.equal(violated(Uint8Array.of(first)) === undefined, allowed.has(first), `first byte ${first.toString(16)}`)
  }
  assert.equal(violated(Uint8Array.of(0x36)), 'MQTT-3.3.1-4')
  assert.equal(violated(Uint8Array.of(0x38)), 'MQTT-3.3.1-2')
  assert.equal(violated(Uint8Array.of(0x80)), 'MQTT-3.8.1-1')
  assert.equal(violated(Uint8Array.of(0xa0)), 'MQTT-3.10.1-1')
  assert.equal(violated(Uint8Array.of(0x60)), 'MQTT-3.6.1-1')
  assert.equal(violated(Uint8Array.of(0xc1)), 'MQTT-2.2.2-2')
})

test('remaining length: one to four bytes, as in table 2.4', () => {
  for (const [length, encoded] of [
    [127, '7f'],
    [128, '80 01'],
    [16_383, 'ff 7f'],
    [16_384, '80 80 01'],
    [2_097_151, 'ff ff 7f'],
    [2_097_152, '80 80 80 01'],
  ] as const) {
    const stream = Buffer.concat([bytesOf(`30 ${encoded}`), field('t'), Buffer.alloc(length - 3, 120)])
    const { events, violation } = read([stream], 4_000_000)
    assert.equal(violation, undefined)
    assert.deepEqual(events, [['publish', 0, 't', 0, 'x'.repeat(length - 3)]])
  }
  assert.equal(violated(bytesOf('30 ff ff ff ff')), 'section 2.2.3')
  assert.equal(violated(bytesOf('30 80 80 80 80 01')), 'section 2.2.3')
})

test('the length limit counts the whole packet and is enforced at its header', () => {
  const bytes = publish('t', 'x'.repeat(200))
  assert.equal(read([bytes], bytes.length).events.length, 1)
  const over = read([bytes.subarray(0, 3)], bytes.length - 1)
  assert.equal(over.violation?.kind, 'limit')
  const recorder = new Recorder(1 << 29)
  const before = process.memoryUsage().arrayBuffers
  recorder.framer.push(bytesOf('30 ff ff ff 7f 00'), 0, 6)
  assert.equal(recorder.framer.pendingBytes, 6)
  assert.ok(process.memoryUsage().arrayBuffers - before < 1 << 20, 'nothing is set aside for what a header announces')
})

test('of a PUBLISH over the limit the beginning is read when that is asked for, however it is cut', () => {
  const bytes = publish('a/b', 'x'.repeat(300), { qos: 1, id: 9, dup: true })
  for (let cut = 1; cut < bytes.length; cut++) {
    const recorder = new Recorder(100)
    recorder.framer.oversizedBytes = 40
    recorder.framer.push(bytes, 0, cut)
    const wrong = recorder.framer.push(bytes, cut, bytes.length)
    assert.equal(wrong?.kind, 'limit', `cut at ${cut}`)
    assert.deepEqual(recorder.events, [['oversized', 0b1010, 'a/b', 9, 'x'.repeat(40), 300]])
    assert.ok(recorder.framer.pendingBytes <= 50)
    recorder.framer.finish()
    assert.equal(recorder.events.length, 1)
  }
  for (let length = 0; length < 50; length++) {
    const recorder = new Recorder(100)
    recorder.framer.oversizedBytes = 40
    recorder.framer.push(bytes, 0, length)
    recorder.framer.finish()
    // Header 3, topic 5, packet id 2.
    assert.deepEqual(recorder.events, length < 10 ? [] : [['oversized', 0b1010, 'a/b', 9, 'x'.repeat(length - 10), 300]])
  }
  const longTopic = new Recorder(100)
  longTopic.framer.oversizedBytes = 40
  assert.equal(longTopic.framer.push(bytesOf('30 ff ff 7f ff ff'), 0, 6)?.kind, 'limit', 'a topic over its limit is not waited for')
  const truncated = new Recorder(3)
  truncated.framer.oversizedBytes = 40
  assert.equal(truncated.framer.push(bytesOf('30 02 00 09'), 0, 4)?.statement, 'section 3.3.2')
  assert.equal(new Recorder(3).framer.push(bytesOf('30 01'), 0, 2), undefined)
})

test('packets of fixed size have no other', () => {
  for (const wrong of ['40 03', '40 01', '50 00', '62 04', '70 01', 'c0 01', 'e0 02']) assert.equal(violated(bytesOf(wrong)), 'section 2.2.3', wrong)
})

test('[MQTT-2.3.1-1] packet id 0', () => {
  assert.equal(violated(publish('t', 'x', { qos: 1, id: 0 })), 'MQTT-2.3.1-1')
  assert.equal(violated(publish('t', 'x', { qos: 2, id: 0 })), 'MQTT-2.3.1-1')
  assert.equal(violated(subscribe(0, ['a', 0])), 'MQTT-2.3.1-1')
  assert.equal(violated(unsubscribe(0, 'a')), 'MQTT-2.3.1-1')
  assert.equal(violated(ack(0x40, 0)), 'MQTT-2.3.1-1')
})

test('[MQTT-1.5.3-1] [MQTT-1.5.3-2] strings are well-formed UTF-8 without NUL, wherever they stand', () => {
  const wrong: [string, string][] = [
    ['61 00 62', 'MQTT-1.5.3-2'],
    ['c0 80', 'MQTT-1.5.3-1'],
    ['c1 bf', 'MQTT-1.5.3-1'],
    ['e0 9f bf', 'MQTT-1.5.3-1'],
    ['ed a0 80', 'MQTT-1.5.3-1'],
    ['ed bf bf', 'MQTT-1.5.3-1'],
    ['f0 8f bf bf', 'MQTT-1.5.3-1'],
    ['f4 90 80 80', 'MQTT-1.5.3-1'],
    ['f5 80 80 80', 'MQTT-1.5.3-1'],
    ['80', 'MQTT-1.5.3-1'],
    ['ff', 'MQTT-1.5.3-1'],
    ['e2 82', 'MQTT-1.5.3-1'],
    ['61 e2 28 a1', 'MQTT-1.5.3-1'],
    ['f0 9f 98 28', 'MQTT-1.5.3-1'],
  ]
  for (const [text, statement] of wrong) {
    const bytes = bytesOf(text)
    assert.equal(violated(publish(bytes, 'x')), statement, `topic ${text}`)
    assert.equal(violated(packet(0x82, [0, 1], field(bytes), [0])), statement, `filter ${text}`)
    assert.equal(violated(packet(0xa2, [0, 1], field(bytes))), statement, `filter to leave ${text}`)
    assert.equal(violated(packet(0x10, field('MQTT'), [4, 2, 0, 0], field(bytes))), statement, `client id ${text}`)
    assert.equal(violated(packet(0x10, field('MQTT'), [4, 0x82, 0, 0], field('c'), field(bytes))), statement, `user name ${text}`)
    assert.equal(violated(packet(0x10, field('MQTT'), [4, 6, 0, 0], field('c'), field(bytes), field(''))), statement, `will topic ${text}`)
  }
  for (const text of ['c2 a0', 'df bf', 'e0 a0 80', 'ed 9f bf', 'ee 80 80', 'ef bb bf', 'ef bf bd', 'ef b7 b0', 'f0 90 80 80', 'f4 8f bf bd']) {
    assert.equal(violated(publish(bytesOf(text), 'x')), undefined, text)
  }
})

test('names hold no control characters, and nothing that is no character; a password and a payload may', () => {
  for (const text of ['01', '0a', '1f', '61 7f', 'c2 80', 'c2 9f', 'ef b7 90', 'ef b7 af', 'ef bf be', 'ef bf bf', 'f0 9f bf be', 'f4 8f bf bf']) {
    const bytes = bytesOf(text)
    const statement = 'section 1.5.3'
    assert.equal(violated(publish(bytes, 'x')), statement, `topic ${text}`)
    assert.equal(violated(packet(0x82, [0, 1], field(bytes), [0])), statement, `filter ${text}`)
    assert.equal(violated(packet(0xa2, [0, 1], field(bytes))), statement, `filter to leave ${text}`)
    assert.equal(violated(packet(0x10, field('MQTT'), [4, 2, 0, 0], field(bytes))), statement, `client id ${text}`)
    assert.equal(violated(packet(0x10, field('MQTT'), [4, 0x82, 0, 0], field('c'), field(bytes))), statement, `user name ${text}`)
    assert.equal(violated(packet(0x10, field('MQTT'), [4, 6, 0, 0], field('c'), field(bytes), field(bytes))), statement, `will topic ${text}`)
    assert.equal(violated(packet(0x10, field('MQTT'), [4, 0xc2, 0, 0], field('c'), field('u'), field(bytes))), undefined, `password ${text}`)
    assert.equal(violated(publish('t', bytes)), undefined, `payload ${text}`)
  }
})

test('[MQTT-1.5.3-3] a byte order mark stays', () => {
  const { events } = read([subscribe(1, ['\ufeffa', 0])])
  assert.deepEqual(events, [['subscribe', 1, [{ filter: '\ufeffa', qos: 0 }]]])
})

test('topic names: at least one character [MQTT-4.7.3-1], no wildcard [MQTT-3.3.2-2]', () => {
  assert.equal(violated(publish('', 'x')), 'MQTT-4.7.3-1')
  for (const topic of ['#', 'a/+', 'a+b', 'a#']) assert.equal(violated(publish(topic, 'x')), 'MQTT-3.3.2-2')
  for (const topic of ['/', ' ', 'a//b', '$SYS/x', '/a']) assert.equal(violated(publish(topic, 'x')), undefined)
  assert.equal(violated(connect({ will: { topic: 'a/#', payload: '' } })), 'MQTT-3.3.2-2')
  assert.equal(violated(connect({ will: { topic: '', payload: '' } })), 'MQTT-4.7.3-1')
})

test('[MQTT-4.7.1-2] [MQTT-4.7.1-3] wildcards fill whole levels, # only the last', () => {
  for (const filter of ['a#', '#/a', 'a/#/b', 'a/b#', '##']) assert.equal(violated(subscribe(1, [filter, 0])), 'MQTT-4.7.1-2', filter)
  for (const filter of ['a+', '+a', 'a/+b/c', 'a/b+', '++']) assert.equal(violated(unsubscribe(1, filter)), 'MQTT-4.7.1-3', filter)
  assert.equal(violated(subscribe(1, ['', 0])), 'MQTT-4.7.3-1')
  for (const filter of ['#', '+', 'a/#', '+/+', '/+', 'a/+/b', '/#', '+/#']) assert.equal(violated(subscribe(1, [filter, 0])), undefined, filter)
})

test('[MQTT-3.8.3-3] [MQTT-3.10.3-2] at least one filter; [MQTT-3.8.3-4] no QoS above 2; no more filters than the limit', () => {
  assert.equal(violated(packet(0x82, [0, 1])), 'MQTT-3.8.3-3')
  assert.equal(violated(packet(0xa2, [0, 1])), 'MQTT-3.10.3-2')
  for (const qos of [3, 4, 0x80, 0x81]) assert.equal(violated(subscribe(1, ['a', qos])), 'MQTT-3.8.3-4')
  const filters = Array.from({ length: 1001 }, (_, i) => [`${i}`, 0] as const)
  assert.equal(read([subscribe(1, ...filters)]).violation?.kind, 'limit')
  assert.equal(read([subscribe(1, ...filters.slice(1))]).violation, undefined)
})

test('CONNECT: protocol name, flags, will, password without user name, bytes behind the end', () => {
  assert.equal(violated(connect({ name: 'MQTX' })), 'MQTT-3.1.2-1')
  assert.equal(violated(connect({ flags: 3 })), 'MQTT-3.1.2-3')
  assert.equal(violated(connect({ flags: 0x0a })), 'MQTT-3.1.2-13')
  assert.equal(violated(connect({ flags: 0x22 })), 'MQTT-3.1.2-15')
  assert.equal(violated(connect({ flags: 0x1e })), 'MQTT-3.1.2-14')
  assert.equal(violated(connect({ flags: 0x42 })), 'MQTT-3.1.2-22')
  assert.equal(violated(packet(0x10, field('MQTT'), [4, 2, 0, 0], field('c'), [0])), 'section 3.1.3')
  assert.deepEqual(read([packet(0x10, field('MQTT'), [5, 2, 0, 0, 0], field('c'))]).events, [['unsupported', 5]])
  assert.deepEqual(read([packet(0x10, field('MQIsdp'), [4, 2, 0, 0], field('c'))]).events, [['unsupported', 4]])
})

test('a packet cut short inside a field is wrong, wherever it is cut', () => {
  const full = [
    connect({ clientId: 'c', will: { topic: 'w', payload: 'x' }, username: 'u', password: 'p' }),
    publish('topic', '', { qos: 1 }),
    subscribe(1, ['a', 0], ['b', 1]),
    unsubscribe(1, 'a', 'bc'),
  ]
  full.forEach((bytes, i) => {
    for (let length = 0; length < bytes.length - 2; length++) {
      const cut = Buffer.concat([Uint8Array.of(bytes[0]!, length), bytes.subarray(2, 2 + length)])
      // Cut behind its first filter, the packet is whole.
      const right = i === 2 ? length === 6 : i === 3 ? length === 5 : false
      assert.equal(violated(cut) === undefined, right, `packet ${i} cut to ${length}`)
    }
  })
})

test('after a violation nothing is read', () => {
  const recorder = new Recorder(1000)
  const bytes = Buffer.concat([pingreq, Uint8Array.of(0xf0), pingreq])
  const wrong = recorder.framer.push(bytes, 0, bytes.length)
  assert.ok(wrong)
  assert.equal(recorder.framer.push(pingreq, 0, 2), wrong)
  assert.deepEqual(recorder.events, [['pingreq']])
})

test('what the sink stops is kept, and goes on where it was', () => {
  const packets = Array.from({ length: 20 }, (_, i) => publish('t', `${i}`))
  const { events } = read([Buffer.concat(packets).subarray(0, 50), Buffer.concat(packets).subarray(50)], 1000, true)
  assert.deepEqual(
    events,
    packets.map((_, i) => ['publish', 0, 't', 0, `${i}`]),
  )
})
