import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ClientFramer, disconnect, encodeConnect, encodeSubscribe, encodeUnsubscribe, pingreq } from '../../src/wire/mqtt/client.ts'
import type { AckType, ClientSink, Violation } from '../../src/wire/mqtt/packets.ts'
import * as client from '../mqtt/client-packets.ts'
import { ack, hex, packet, publish } from '../mqtt/client-packets.ts'
import { fuzzRuns } from '../support/effort.ts'

interface Said {
  readonly events: unknown[]
  readonly violation: Violation | undefined
}

/** What a stream says when it comes in these chunks; each chunk's memory is overwritten as soon as it was read. */
function read(chunks: readonly Uint8Array[], o: { max?: number; stops?: boolean; pass?: boolean } = {}): Said {
  const events: unknown[] = []
  const note = (...event: unknown[]): void => {
    events.push(event)
    if (o.stops === true) framer.stop()
  }
  const text = (bytes: Uint8Array, from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString('latin1')
  const sink: ClientSink = {
    publish: (b, flags, ts, te, id, s, e) => note('publish', flags, text(b, ts, te), id, text(b, s, e)),
    oversized: (b, flags, ts, te, id, s, e, whole) => note('oversized', flags, text(b, ts, te), id, text(b, s, e), whole),
    acknowledged: (type: AckType, id) => note('ack', type, id),
    connack: (present, code) => note('connack', present, code),
    suback: (id, codes) => note('suback', id, codes),
    unsuback: (id) => note('unsuback', id),
    pingresp: () => note('pingresp'),
  }
  const framer = new ClientFramer(sink, o.max ?? 1 << 20)
  framer.oversizedBytes = 8
  framer.passOversized = o.pass ?? true
  let violation: Violation | undefined
  for (const chunk of chunks) {
    const shared = Buffer.concat([Buffer.from('before'), chunk, Buffer.from('behind')])
    violation = framer.push(shared, 6, 6 + chunk.length)
    shared.fill(0xee)
    for (let before = -1; o.stops === true && violation === undefined && framer.pendingBytes !== before;) {
      before = framer.pendingBytes
      violation = framer.resume()
    }
    assert.ok(framer.pendingBytes <= (o.max ?? 1 << 20) + 5)
  }
  return { events, violation }
}

const name = fc.string({ unit: 'binary', minLength: 1, maxLength: 12 }).filter((text) => !/[\0#+]/.test(text) && text.isWellFormed())
const id = fc.integer({ min: 1, max: 65_535 })
const anyPacket: fc.Arbitrary<Uint8Array> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .record({ name, payload: fc.uint8Array({ maxLength: 400 }), qos: fc.integer({ min: 0, max: 2 }), id, dup: fc.boolean(), retain: fc.boolean() })
      .map((o) => publish(o.name, o.payload, { ...o, dup: o.dup && o.qos > 0 })),
  },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom(0x40, 0x50, 0x62, 0x70, 0xb0), id).map(([first, n]) => ack(first, n)) },
  { weight: 1, arbitrary: fc.constantFrom('20 02 00 00', '20 02 01 00', '20 02 00 05', 'd0 00').map(client.bytesOf) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(id, fc.array(fc.constantFrom(0, 1, 2, 0x80), { minLength: 1, maxLength: 200 }))
      .map(([n, codes]) => packet(0x90, [n >> 8, n & 255], codes)),
  },
)
const cuts = fc.array(fc.nat(6_000), { maxLength: 12 })

function chunked(bytes: Uint8Array, at: readonly number[]): Uint8Array[] {
  const places = [...new Set(at.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b)
  return [0, ...places].map((from, i) => bytes.subarray(from, places[i] ?? bytes.length))
}

function checkChunking(bytes: Uint8Array, at: readonly number[], o: { max: number; pass: boolean }): void {
  const whole = read([bytes], o)
  assert.deepEqual(read(chunked(bytes, at), o), whole)
  assert.deepEqual(
    read(
      Array.from(bytes, (byte) => Uint8Array.of(byte)),
      o,
    ),
    whole,
  )
  assert.deepEqual(read(chunked(bytes, at), { ...o, stops: true }), whole)
}

test('what a server sends is read whole, however it is cut; of what is over the limit the beginning, and the rest is passed over', () => {
  fc.assert(
    fc.property(fc.array(anyPacket, { maxLength: 12 }), cuts, fc.constantFrom(1 << 20, 300, 60), (packets, at, max) => {
      const bytes = Buffer.concat(packets)
      checkChunking(bytes, at, { max, pass: true })
      const { events, violation } = read([bytes], { max })
      const firstTooLarge = packets.findIndex((p) => p.length > max && (p[0]! & 0xf0) !== 0x30)
      if (firstTooLarge >= 0) assert.equal(violation?.kind, 'limit')
      else assert.equal(violation, undefined)
      assert.equal(events.length, firstTooLarge < 0 ? packets.length : firstTooLarge)
    }),
    fuzzRuns(500),
  )
})

test('names that we would refuse are taken from a server, of what is over the limit too', () => {
  for (const odd of ['a\u0080b', '\u0001', 'a\u007f', '\ufffe', 'a\u{1fffe}']) {
    const bytes = publish(odd, new Uint8Array(80), { qos: 1, id: 1 })
    for (const max of [1 << 20, 40]) {
      const { events, violation } = read([bytes], { max })
      assert.equal(violation, undefined)
      assert.deepEqual([events.length, Array.isArray(events[0]) && events[0][0]], [1, max === 40 ? 'oversized' : 'publish'])
    }
  }
})

test('noise and damaged streams say the same however they are cut, and throw nothing', () => {
  fc.assert(
    fc.property(
      fc.array(anyPacket, { minLength: 1, maxLength: 6 }),
      fc.array(fc.tuple(fc.nat(4_000), fc.nat(255)), { maxLength: 5 }),
      cuts,
      fc.boolean(),
      (packets, changes, at, pass) => {
        const bytes = Buffer.concat(packets)
        for (const [place, byte] of changes) bytes[place % bytes.length] = byte
        checkChunking(bytes, at, { max: 200, pass })
      },
    ),
    fuzzRuns(1000),
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), cuts, (bytes, at) => checkChunking(bytes, at, { max: 100, pass: true })),
    fuzzRuns(1000),
  )
})

test('what only a client sends, and what contradicts itself, ends the stream', () => {
  const wrong: readonly [string, string][] = [
    ['10 00', 'section 2.2.1'],
    ['82 00', 'section 2.2.1'],
    ['c0 00', 'section 2.2.1'],
    ['e0 00', 'section 2.2.1'],
    ['f0 00', 'section 2.2.1'],
    ['21 02 00 00', 'MQTT-2.2.2-2'],
    ['20 03 00 84 00', 'section 2.2.3'],
    ['20 02 02 00', 'section 3.2.2.1'],
    ['20 02 01 05', 'MQTT-3.2.2-4'],
    ['90 02 00 01', 'section 3.9.3'],
    ['90 03 00 01 03', 'MQTT-3.9.3-2'],
    ['60 02 00 01', 'MQTT-3.6.1-1'],
    ['d0 01 00', 'section 2.2.3'],
    ['36 00', 'MQTT-3.3.1-4'],
  ]
  for (const [bytes, statement] of wrong) assert.equal(read([client.bytesOf(bytes)]).violation?.statement, statement, bytes)
})

test('what a client writes is what the standard says', () => {
  const o = { clientId: 'kymo-1', keepAliveS: 300 }
  assert.equal(hex(encodeConnect({ ...o, clean: true })), hex(client.connect({ clientId: 'kymo-1', keepAlive: 300 })))
  assert.equal(
    hex(encodeConnect({ ...o, clean: false, username: 'ü', password: 'p' })),
    hex(client.connect({ clientId: 'kymo-1', keepAlive: 300, clean: false, username: 'ü', password: 'p' })),
  )
  // A token without a user name: a password needs one, be it empty [MQTT-3.1.2-22].
  assert.equal(
    hex(encodeConnect({ ...o, clean: false, password: 'tk' })),
    hex(client.connect({ clientId: 'kymo-1', keepAlive: 300, clean: false, username: '', password: 'tk' })),
  )
  const filters = Array.from({ length: 50 }, (_, i) => `devices/${i}/+/é`)
  assert.equal(hex(encodeSubscribe(0x0102, filters, 1)), hex(client.subscribe(0x0102, ...filters.map((f) => [f, 1] as const))))
  assert.equal(hex(encodeUnsubscribe(7, filters)), hex(client.unsubscribe(7, ...filters)))
  assert.equal(hex(pingreq), hex(client.pingreq))
  assert.equal(hex(disconnect), hex(client.disconnect))
  assert.throws(() => encodeConnect({ ...o, clean: true, password: 'x'.repeat(65_536) }), RangeError)
})
