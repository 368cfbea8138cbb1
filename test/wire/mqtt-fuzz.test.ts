import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { encodeAck, encodePublish, encodeSuback, headWithPacketId, withPacketId } from '../../src/wire/mqtt/encode.ts'
import { ack, connect, disconnect, hex, packet, pingreq, publish, subscribe, unsubscribe } from '../mqtt/client-packets.ts'
import { read, Recorder } from './mqtt-recorder.ts'
import { fuzzRuns } from '../support/effort.ts'
import { isName } from './mqtt5-arbitraries.ts'

const name = fc.string({ unit: 'binary', minLength: 1, maxLength: 12 }).filter((text) => !/[#+]/.test(text) && isName(text) && text.isWellFormed())
const filter = fc.oneof(
  name,
  name.map((text) => `${text}/+/b`),
  name.map((text) => `${text}/#`),
  fc.constantFrom('#', '+', '+/+'),
)
const id = fc.integer({ min: 1, max: 65_535 })
const qos = fc.integer({ min: 0, max: 2 })
const payload = fc.oneof(
  { weight: 9, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  { weight: 1, arbitrary: fc.uint8Array({ minLength: 100, maxLength: 400 }) },
)

const anyPacket: fc.Arbitrary<Uint8Array> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .record({ name, payload, qos, id, dup: fc.boolean(), retain: fc.boolean() })
      .map((o) => publish(o.name, o.payload, { ...o, dup: o.dup && o.qos > 0 })),
  },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom(0x40, 0x50, 0x62, 0x70), id).map(([first, id]) => ack(first, id)) },
  {
    weight: 1,
    arbitrary: fc.tuple(id, fc.array(fc.tuple(filter, qos), { minLength: 1, maxLength: 4 })).map(([id, filters]) => subscribe(id, ...filters)),
  },
  { weight: 1, arbitrary: fc.tuple(id, fc.array(filter, { minLength: 1, maxLength: 4 })).map(([id, filters]) => unsubscribe(id, ...filters)) },
  {
    weight: 1,
    arbitrary: fc
      .record({ clientId: name, keepAlive: fc.integer({ min: 0, max: 65_535 }), username: name, password: name, clean: fc.boolean() })
      .map(connect),
  },
  { weight: 1, arbitrary: fc.constantFrom(pingreq, disconnect) },
)

/** A stream, cut at arbitrary places. */
function chunked(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b)
  return [0, ...places].map((from, i) => bytes.subarray(from, places[i] ?? bytes.length))
}

const cuts = fc.array(fc.nat(4000), { maxLength: 12 })

/** Changes a stream: bytes set, removed, doubled, or cut off. */
const mutation = fc.record({ kind: fc.constantFrom('set', 'remove', 'insert', 'cut'), at: fc.nat(4000), byte: fc.integer({ min: 0, max: 255 }) })
function mutate(bytes: Uint8Array, changes: readonly { kind: string; at: number; byte: number }[]): Uint8Array {
  const list = [...bytes]
  for (const { kind, at, byte } of changes) {
    const place = at % Math.max(1, list.length)
    if (kind === 'set') list[place] = byte
    else if (kind === 'remove') list.splice(place, 1)
    else if (kind === 'insert') list.splice(place, 0, byte)
    else list.length = place
  }
  return Uint8Array.from(list)
}

function checkChunking(bytes: Uint8Array, cuts: readonly number[], packetBytesMax: number): void {
  const whole = read([bytes], packetBytesMax)
  const inChunks = read(chunked(bytes, cuts), packetBytesMax)
  const byByte = read(
    Array.from(bytes, (byte) => Uint8Array.of(byte)),
    packetBytesMax,
  )
  const stopped = read(chunked(bytes, cuts), packetBytesMax, true)
  assert.deepEqual(inChunks, whole)
  assert.deepEqual(byByte, whole)
  assert.deepEqual(stopped, whole)
}

test('valid streams are read whole, however they are cut', () => {
  fc.assert(
    fc.property(fc.array(anyPacket, { maxLength: 12 }), cuts, (packets, cuts) => {
      const bytes = Buffer.concat(packets)
      checkChunking(bytes, cuts, 1 << 20)
      const { events, violation } = read([bytes])
      assert.equal(violation, undefined)
      assert.equal(events.length, packets.length)
    }),
    fuzzRuns(1000),
  )
})

test('changed streams and noise say the same however they are cut, and throw nothing', () => {
  fc.assert(
    fc.property(
      fc.array(anyPacket, { minLength: 1, maxLength: 6 }),
      fc.array(mutation, { minLength: 1, maxLength: 5 }),
      cuts,
      (packets, changes, cuts) => {
        checkChunking(mutate(Buffer.concat(packets), changes), cuts, 300)
      },
    ),
    fuzzRuns(2000),
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), cuts, (bytes, cuts) => checkChunking(bytes, cuts, 100)),
    fuzzRuns(2000),
  )
  const body = fc.uint8Array({ maxLength: 60 })
  const first = fc.constantFrom(0x10, 0x30, 0x32, 0x34, 0x82, 0xa2, 0x40)
  fc.assert(
    fc.property(fc.array(fc.tuple(first, body), { maxLength: 4 }), cuts, (packets, cuts) => {
      checkChunking(Buffer.concat(packets.map(([first, body]) => packet(first, body))), cuts, 1000)
    }),
    fuzzRuns(2000),
  )
})

test('what is kept of a stream never exceeds the packet limit and its header', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 30 }), fc.integer({ min: 10, max: 200 }), (chunks, max) => {
      const recorder = new Recorder(max)
      for (const chunk of [publish('t', 'x'.repeat(max)).subarray(0, 2), ...chunks]) {
        recorder.framer.push(chunk, 0, chunk.length)
        assert.ok(recorder.framer.pendingBytes <= max + 5)
      }
    }),
    fuzzRuns(1000),
  )
})

test('UTF-8: what is accepted is exactly what a strict decoder accepts, without control characters and what is no character', () => {
  const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  const nearText = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 6 }),
    fc
      .array(fc.constantFrom(0x0a, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5), {
        minLength: 1,
        maxLength: 5,
      })
      .map((bytes) => Uint8Array.from(bytes)),
  )
  fc.assert(
    fc.property(nearText, (bytes) => {
      let fine = !bytes.includes(0x23) && !bytes.includes(0x2b)
      try {
        if (!isName(strict.decode(bytes))) fine = false
      } catch (thrown) {
        assert.ok(thrown instanceof TypeError)
        fine = false
      }
      assert.equal(read([publish(bytes, '')]).violation === undefined, fine)
    }),
    fuzzRuns(10_000),
  )
})

test('what we encode is what the standard says', () => {
  fc.assert(
    fc.property(name, payload, qos, id, fc.boolean(), (topic, payload, qos, packetId, dup) => {
      const padded = Buffer.concat([Buffer.from('xx'), payload, Buffer.from('yy')])
      const encoded = encodePublish(Buffer.from(topic), padded, 2, 2 + payload.length, qos as 0 | 1 | 2)
      if (qos === 0) {
        assert.equal(hex(encoded.bytes), hex(publish(topic, payload)))
        return
      }
      const before = hex(encoded.bytes)
      const expected = hex(publish(topic, payload, { qos, id: packetId, dup }))
      assert.equal(hex(withPacketId(encoded, packetId, dup)), expected)
      const head = headWithPacketId(encoded, packetId, dup)
      assert.equal(hex(Buffer.concat([head, encoded.bytes.subarray(encoded.idAt + 2)])), expected)
      assert.equal(hex(encoded.bytes), before, 'what is shared stays as it is')
    }),
    fuzzRuns(1000),
  )
  assert.deepEqual(
    ([4, 5, 6, 7] as const).map((type) => hex(encodeAck(type, 0xabcd))),
    ['40 02 ab cd', '50 02 ab cd', '62 02 ab cd', '70 02 ab cd'],
  )
  assert.equal(
    hex(
      encodeSuback(
        0x0102,
        Array.from({ length: 126 }, () => 0x80),
      ),
    ),
    hex(packet(0x90, [1, 2], new Uint8Array(126).fill(0x80))),
  )
})
