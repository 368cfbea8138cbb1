import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { withPacketId } from '../../src/wire/mqtt/encode.ts'
import { Fields } from '../../src/wire/mqtt/fields.ts'
import { inFive, PacketType, violation } from '../../src/wire/mqtt/packets.ts'
import { encodeAck5, encodeAuth, encodeConnack5, encodeDisconnect5 } from '../../src/wire/mqtt/v5/answers.ts'
import { encodeConnect5 } from '../../src/wire/mqtt/v5/connect.ts'
import { encodePublish5, publishHeadBytes5, withPacketId5, writePublishHead5 } from '../../src/wire/mqtt/v5/deliver.ts'
import { expiryOf, forwarded } from '../../src/wire/mqtt/v5/forward.ts'
import type { Properties } from '../../src/wire/mqtt/v5/properties.ts'
import { readProperties } from '../../src/wire/mqtt/v5/properties.ts'
import { PublishProperties, scanProperties, subscriptionIdentifiers } from '../../src/wire/mqtt/v5/publish.ts'
import { reasonCodes, reasonText } from '../../src/wire/mqtt/v5/reason.ts'
import { encodeSuback5, encodeSubscribe5, encodeUnsuback5, encodeUnsubscribe5 } from '../../src/wire/mqtt/v5/subscribe.ts'
import { encodeProperties, fitting } from '../../src/wire/mqtt/v5/writer.ts'
import { hex } from '../mqtt/client-packets.ts'
import { fuzzRuns } from '../support/effort.ts'
import * as made from './mqtt5-arbitraries.ts'
import { corpus } from './mqtt5-corpus.ts'
import type { ReadOptions } from './mqtt5-recorder.ts'
import { bytes, hello5, read } from './mqtt5-recorder.ts'

const cuts = fc.array(fc.nat(4000), { maxLength: 12 })
const flag = fc.boolean()

function chunked(stream: Uint8Array, at: readonly number[]): Uint8Array[] {
  const places = [...new Set(at.map((cut) => cut % (stream.length + 1)))].sort((a, b) => a - b)
  return [0, ...places].map((from, i) => stream.subarray(from, places[i] ?? stream.length))
}

/** What was encoded is read as it was meant. */
function said(packet: Uint8Array, from: 'client' | 'server'): unknown[] {
  const { events, violation } = read([packet], { from, level: 5 })
  assert.equal(violation, undefined)
  assert.equal(events.length, 1)
  return events[0] ?? []
}

test('CONNECT there and back', () => {
  const will = fc.record({ topic: made.topic, payload: made.binary, qos: made.qos, retain: flag, properties: made.willProperties })
  const connect = fc.record(
    {
      clientId: made.name,
      keepAliveS: fc.nat(65_535),
      clean: flag,
      username: made.name,
      password: made.binary,
      properties: made.connectProperties,
      will,
    },
    { requiredKeys: ['clientId', 'keepAliveS', 'clean'] },
  )
  fc.assert(
    fc.property(connect, (o) => {
      const { clean: cleanStart, properties = {}, will, clientId, ...rest } = o
      const expected: Record<string, unknown> = { ...rest, level: 5, clientId, cleanStart, properties, clientIdBytes: Buffer.byteLength(clientId) }
      if (will !== undefined) {
        const { willDelayInterval: delayS = 0, ...passedOn } = will.properties
        const section = encodeProperties(passedOn, PacketType.publish)
        expected['will'] = { ...will, delayS, forwarded: forwarded(section, 0, section.length) }
      }
      assert.deepEqual(said(encodeConnect5(o), 'client'), ['connect5', expected])
    }),
    fuzzRuns(2000),
  )
})

test('CONNACK, acknowledgements, DISCONNECT and AUTH there and back', () => {
  const code = (set: ReadonlySet<number>): fc.Arbitrary<number> => fc.constantFrom(...set)
  const none = (properties: Properties): Properties | undefined => (Object.keys(properties).length === 0 ? undefined : properties)
  fc.assert(
    fc.property(flag, code(reasonCodes.connack), made.connackProperties, (present, reasonCode, properties) => {
      const sessionPresent = present && reasonCode === 0
      assert.deepEqual(said(encodeConnack5({ sessionPresent: present, reasonCode, properties }), 'server'), [
        'connack5',
        { sessionPresent, reasonCode, properties },
      ])
    }),
    fuzzRuns(500),
  )
  fc.assert(
    fc.property(
      made.id,
      code(reasonCodes.publishReceived),
      code(reasonCodes.publishReleased),
      made.ackProperties,
      (id, received, released, properties) => {
        for (const type of [4, 5, 6, 7] as const) {
          const reason = type < 6 ? received : released
          for (const from of ['client', 'server'] as const) {
            assert.deepEqual(said(encodeAck5(type, id, reason, properties), from), ['ack5', type, id, reason, none(properties)])
          }
        }
      },
    ),
    fuzzRuns(500),
  )
  fc.assert(
    fc.property(code(reasonCodes.clientDisconnect), made.disconnectProperties, (reason, properties) => {
      assert.deepEqual(said(encodeDisconnect5(reason, properties), 'client'), ['disconnect5', reason, none(properties)])
    }),
    fuzzRuns(300),
  )
  fc.assert(
    fc.property(code(reasonCodes.serverDisconnect), made.serverDisconnectProperties, (reason, properties) => {
      assert.deepEqual(said(encodeDisconnect5(reason, properties), 'server'), ['disconnect5', reason, none(properties)])
    }),
    fuzzRuns(300),
  )
  fc.assert(
    fc.property(code(reasonCodes.clientAuth), code(reasonCodes.serverAuth), made.authProperties, (client, server, properties) => {
      assert.deepEqual(said(encodeAuth(client, properties), 'client'), ['auth', client, properties])
      assert.deepEqual(said(encodeAuth(server, properties), 'server'), ['auth', server, properties])
    }),
    fuzzRuns(300),
  )
})

test('SUBSCRIBE, UNSUBSCRIBE and their answers there and back', () => {
  fc.assert(
    fc.property(made.id, made.subscriptions, made.subscribeProperties, made.unsubscribeProperties, made.ackProperties, (id, list, s, u, a) => {
      assert.deepEqual(said(encodeSubscribe5(id, list, s), 'client'), [
        'subscribe5',
        { packetId: id, subscriptions: list, subscriptionIdentifier: s.subscriptionIdentifiers?.[0] ?? 0, properties: s },
      ])
      const filters = list.map(({ filter }) => filter)
      assert.deepEqual(said(encodeUnsubscribe5(id, filters, u), 'client'), ['unsubscribe5', id, filters, u])
      const codes = filters.map((_, i) => [...reasonCodes.suback][(id + i) % reasonCodes.suback.size] ?? 0)
      assert.deepEqual(said(encodeSuback5(id, codes, a), 'server'), ['suback5', id, codes, a])
      const left = filters.map((_, i) => [...reasonCodes.unsuback][(id + i) % reasonCodes.unsuback.size] ?? 0)
      assert.deepEqual(said(encodeUnsuback5(id, left, a), 'server'), ['unsuback5', id, left, a])
    }),
    fuzzRuns(1000),
  )
})

test('what a packet cannot hold is not encoded', () => {
  const connack = (properties: Properties) => () => encodeConnack5({ sessionPresent: false, reasonCode: 0, properties })
  assert.throws(connack({ topicAlias: 1 }), RangeError, 'a property of another packet')
  assert.throws(connack({ receiveMaximum: 65_536 }), RangeError)
  assert.throws(connack({ sessionExpiryInterval: -1 }), RangeError)
  assert.throws(connack({ sessionExpiryInterval: 1.5 }), RangeError)
  assert.throws(connack({ reasonString: 'x'.repeat(65_536) }), RangeError)
  assert.throws(() => encodeSubscribe5(1, [], { subscriptionIdentifiers: [268_435_456] }), RangeError)
  assert.throws(() => publishHeadBytes5(1, 268_435_455, { qos: 0 }), RangeError)
  assert.doesNotThrow(connack({ maximumPacketSize: 0xffff_ffff }))
})

test('what only explains is left out when the packet is too long for its receiver', () => {
  const properties = { reasonString: 'because', userProperties: [['name', 'value']] } as const
  const encode = (p: Properties): Uint8Array => encodeAck5(4, 1, 0x87, p)
  const whole = encode(properties)
  assert.equal(hex(fitting(whole.length, properties, encode) ?? whole), hex(whole))
  assert.equal(hex(fitting(whole.length - 1, properties, encode) ?? whole), hex(encode({ reasonString: 'because' })))
  assert.equal(hex(fitting(10, properties, encode) ?? whole), '40 03 00 01 87')
  assert.equal(fitting(4, properties, encode), undefined)
})

test('reason codes in words', () => {
  assert.deepEqual([0x87, 0x9d, 0x02, 0x44].map(reasonText), ['not authorized', 'server moved', 'granted qos 2', 'reason code 0x44'])
})

test('PUBLISH: taken in from one, handed to another, with what goes on with it and nothing else', () => {
  const options = fc.record({ qos: made.qos, retain: flag, packetId: made.id, topicAlias: fc.nat(65_535), subscriptionIdentifiers: made.identifiers })
  fc.assert(
    fc.property(made.topic, made.binary, made.message, options, fc.nat(0xffff_ffff), flag, (topic, payload, properties, o, expiryS, dup) => {
      const name = Buffer.from(topic)
      const section = encodeProperties({ ...properties, topicAlias: 9, subscriptionIdentifiers: [5] }, PacketType.publish)
      const passedOn = forwarded(section, 0, section.length)
      assert.equal(hex(passedOn.bytes), hex(encodeProperties(properties, PacketType.publish)), 'unchanged and in order')
      assert.equal(expiryOf(passedOn), properties.messageExpiryInterval)
      const padded = Buffer.concat([Buffer.from('((('), payload, Buffer.from('))')])
      const packet = encodePublish5(name, padded, 3, 3 + payload.length, { ...o, forwarded: passedOn, expiryS })
      const event = said(packet.bytes, 'server')
      const { alias, expiryS: left, identifiers } = event[4] as { alias: number; expiryS: number; identifiers: number[] }
      assert.deepEqual(event.slice(0, 4), ['publish5', (o.qos << 1) | (o.retain ? 1 : 0), name.toString('latin1'), o.qos === 0 ? 0 : o.packetId])
      assert.equal(event[5], Buffer.from(payload).toString('latin1'))
      assert.deepEqual([alias, left, identifiers], [o.topicAlias, passedOn.expiryAt < 0 ? -1 : expiryS, o.subscriptionIdentifiers])
      // The head alone, in a buffer of the caller's; and an id, DUP and a shorter life, set later.
      const into = Buffer.alloc(publishHeadBytes5(name.length, payload.length, { ...o, forwarded: passedOn, expiryS }) + 4, 0xaa)
      const end = writePublishHead5(into, 2, name, payload.length, { ...o, forwarded: passedOn, expiryS })
      assert.equal(end, into.length - 2)
      assert.equal(hex(into.subarray(2, end)), hex(packet.bytes.subarray(0, packet.payloadAt)))
      const later = encodePublish5(name, payload, 0, payload.length, { ...o, packetId: 0, forwarded: passedOn })
      const repeated = { ...o, dup: dup && o.qos > 0, forwarded: passedOn, expiryS }
      assert.equal(hex(withPacketId5(later, o.packetId, dup, expiryS)), hex(encodePublish5(name, payload, 0, payload.length, repeated).bytes))
      if (o.qos > 0) assert.equal(hex(withPacketId5(later, o.packetId, false)), hex(withPacketId(later, o.packetId, false)))
    }),
    fuzzRuns(2000),
  )
})

const mutation = fc.record({ kind: fc.constantFrom('set', 'remove', 'insert', 'cut', 'swap'), at: fc.nat(4000), byte: fc.nat(255) })
type Mutation = typeof mutation extends fc.Arbitrary<infer T> ? T : never

function mutate(stream: Uint8Array, changes: readonly Mutation[]): Uint8Array {
  const list = [...stream]
  for (const { kind, at, byte } of changes) {
    const place = at % Math.max(1, list.length)
    if (kind === 'set') list[place] = byte
    else if (kind === 'remove') list.splice(place, 1)
    else if (kind === 'insert') list.splice(place, 0, byte)
    else if (kind === 'swap') list[place] = corpusBytes[at % corpusBytes.length] ?? 0
    else list.length = place
  }
  return Uint8Array.from(list)
}

const packets = corpus.map((golden) => bytes(golden.bytes))
const corpusBytes = Buffer.concat(packets)

/** Whatever it is, it is read the same however it is cut, and throws nothing. */
function checkCuts(stream: Uint8Array, at: readonly number[], o: ReadOptions): void {
  const whole = read([stream], o)
  const pieces = chunked(stream, at)
  assert.deepEqual(read(pieces, o), whole)
  assert.deepEqual(read(pieces, { ...o, stops: true }), whole)
  const byByte = Array.from(stream, (byte) => Uint8Array.of(byte))
  assert.deepEqual(read(byByte, o), whole)
}

test('packets of the corpus, changed, say the same however they are cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...packets), { minLength: 1, maxLength: 5 }),
      fc.array(mutation, { maxLength: 4 }),
      cuts,
      fc.constantFrom<'client' | 'server'>('client', 'server'),
      fc.constantFrom<4 | 5>(4, 5, 5),
      fc.constantFrom(40, 1000),
      flag,
      (list, changes, at, from, level, max, pass) => {
        const changed = mutate(Buffer.concat(list), changes)
        const stream = from === 'client' && level === 5 ? Buffer.concat([hello5, changed]) : changed
        checkCuts(stream, at, { from, level, max, oversizedBytes: 8, pass })
      },
    ),
    fuzzRuns(3000),
  )
})

test('properties of a PUBLISH: the fast check says what the full one says', () => {
  const missing = violation('', '')
  const section = fc
    .tuple(made.message, made.identifiers, fc.nat(20))
    .map(([properties, subscriptionIdentifiers, topicAlias]) =>
      encodeProperties(
        { ...properties, ...(topicAlias === 0 ? {} : { topicAlias }), ...(subscriptionIdentifiers.length === 0 ? {} : { subscriptionIdentifiers }) },
        PacketType.publish,
      ),
    )
  const noise = fc
    .array(fc.tuple(fc.constantFrom(1, 2, 3, 8, 9, 11, 35, 38, 17, 4), fc.uint8Array({ maxLength: 6 })), { maxLength: 4 })
    .map((parts) => Buffer.concat(parts.map(([first, rest]) => Buffer.concat([Uint8Array.of(first), rest]))))
  fc.assert(
    fc.property(fc.oneof(section, noise), fc.array(mutation, { maxLength: 2 }), (clean, changes) => {
      const changed = mutate(clean, changes).subarray(0, 16_000)
      const length = changed.length < 128 ? [changed.length] : [(changed.length & 127) | 128, changed.length >> 7]
      const fields = new Fields(Buffer.concat([Uint8Array.from(length), changed]), 0, length.length + changed.length, missing)
      const full = readProperties(fields, PacketType.publish)
      const fast = new PublishProperties()
      const wrong = scanProperties(changed, 0, changed.length, fast, true, false)
      assert.deepEqual(wrong && inFive(wrong).statement, fields.failed && inFive(fields.failed).statement)
      assert.equal(wrong?.reasonCode, fields.failed?.reasonCode)
      if (wrong !== undefined) return
      assert.deepEqual(
        [fast.alias, fast.expiryS, fast.payloadFormat, subscriptionIdentifiers(changed, fast)],
        [full.topicAlias ?? 0, full.messageExpiryInterval ?? -1, full.payloadFormatIndicator === true ? 1 : 0, full.subscriptionIdentifiers ?? []],
      )
    }),
    fuzzRuns(5000),
  )
})

test('of a PUBLISH over the limit the beginning is read, with its properties', () => {
  fc.assert(
    fc.property(made.topic, made.message, made.qos, fc.integer({ min: 0, max: 60 }), cuts, flag, (topic, properties, qos, kept, at, pass) => {
      const section = encodeProperties(properties, PacketType.publish)
      const payload = Buffer.alloc(300, 0x78)
      const packet = encodePublish5(Buffer.from(topic), payload, 0, 300, { qos, packetId: 7, forwarded: forwarded(section, 0, section.length) })
      const stream = Buffer.concat([hello5, packet.bytes, bytes('c0 00')])
      const o = { from: 'client', level: 5, max: 200, oversizedBytes: kept, pass } as const
      checkCuts(stream, at, o)
      const { events, violation } = read([stream], o)
      if (kept === 0) return assert.equal(events.length, 1)
      assert.deepEqual(events[1]?.slice(5), ['x'.repeat(kept), 300])
      assert.equal(events.length, pass ? 3 : 2)
      assert.equal(violation?.reasonCode, pass ? undefined : 0x95)
    }),
    fuzzRuns(500),
  )
})
