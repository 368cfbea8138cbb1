import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import fc from 'fast-check'
import { PacketType } from '../../src/wire/mqtt/packets.ts'
import { encodeAck5, encodeAuth, encodeConnack5, encodeDisconnect5 } from '../../src/wire/mqtt/v5/answers.ts'
import { encodeConnect5 } from '../../src/wire/mqtt/v5/connect.ts'
import { encodePublish5 } from '../../src/wire/mqtt/v5/deliver.ts'
import { forwarded } from '../../src/wire/mqtt/v5/forward.ts'
import type { Properties } from '../../src/wire/mqtt/v5/properties.ts'
import { reasonCodes } from '../../src/wire/mqtt/v5/reason.ts'
import { encodeSuback5, encodeSubscribe5, encodeUnsuback5, encodeUnsubscribe5 } from '../../src/wire/mqtt/v5/subscribe.ts'
import { encodeProperties } from '../../src/wire/mqtt/v5/writer.ts'
import { hex } from '../mqtt/client-packets.ts'
import { fuzzRuns } from '../support/effort.ts'
import * as made from './mqtt5-arbitraries.ts'
import { corpus } from './mqtt5-corpus.ts'
import { bytes, read } from './mqtt5-recorder.ts'

/** The codec of MQTT.js, an outside reading of the standard. */
interface Library {
  generate(packet: object, o: { protocolVersion: 4 | 5 }): Uint8Array
  parser(o: { protocolVersion: 4 | 5 }): { on(event: 'packet' | 'error', heard: (what: unknown) => void): void; parse(bytes: Uint8Array): number }
}
const required: unknown = createRequire(import.meta.resolve('mqtt'))('mqtt-packet')
assert.ok(isLibrary(required))
const library: Library = required
function isLibrary(what: unknown): what is Library {
  return typeof what === 'object' && what !== null && 'generate' in what && 'parser' in what
}
const five = { protocolVersion: 5 } as const

/** What the library reads in a packet, without what it notes of the packet's form. */
function libraryReads(packet: Uint8Array, protocolVersion: 4 | 5 = 5): Record<string, unknown> {
  const heard: unknown[] = []
  const parser = library.parser({ protocolVersion })
  parser.on('packet', (what) => heard.push(what))
  parser.on('error', (what) => assert.fail(`${String(what)}: ${hex(packet)}`))
  parser.parse(Buffer.from(packet))
  assert.equal(heard.length, 1)
  const [first] = heard
  assert.ok(typeof first === 'object' && first !== null)
  const { length: _length, ...rest } = Object.fromEntries(Object.entries(first).filter(([, value]) => value !== undefined && value !== null))
  return rest
}

function weRead(packet: Uint8Array, from: 'client' | 'server'): unknown[] | undefined {
  const { events, violation } = read([packet], { from, level: 5 })
  assert.equal(violation, undefined, hex(packet))
  assert.equal(events.length, 1)
  return events[0]
}

/** The library keeps user properties by name, with a list where a name is there twice. */
function theirs(properties: Properties): Record<string, unknown> {
  const { userProperties, subscriptionIdentifiers, subscriptionIdentifierAvailable, ...same } = properties
  const users = new Map<string, string | string[]>()
  for (const [name, value] of userProperties ?? []) {
    const before = users.get(name)
    users.set(name, before === undefined ? value : [before, value].flat())
  }
  const list = subscriptionIdentifiers ?? []
  const renamed: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(same)) renamed[name] = value instanceof Uint8Array ? Buffer.from(value) : value
  if (userProperties !== undefined) renamed['userProperties'] = Object.fromEntries(users)
  if (list.length > 0) renamed['subscriptionIdentifier'] = list.length === 1 ? list[0] : list
  if (subscriptionIdentifierAvailable !== undefined) renamed['subscriptionIdentifiersAvailable'] = subscriptionIdentifierAvailable
  return renamed
}

/** As the library writes them: names in the order of first appearance. */
function grouped(properties: Properties): Properties {
  const { userProperties } = properties
  if (userProperties === undefined) return properties
  const names = [...new Set(userProperties.map(([name]) => name))]
  return { ...properties, userProperties: names.flatMap((name) => userProperties.filter(([other]) => other === name)) }
}

/** What the library's object can hold: a name that is a whole number would come first, an empty value counts as none. */
const orderly = ({ userProperties = [] }: Properties): boolean =>
  userProperties.every(([name, value]) => !/^\d+$/.test(name) && name !== '__proto__' && value !== '')

/** `packet` in our words, `object` in theirs, `event` what we are to hear. */
function agree(from: 'client' | 'server', packet: Uint8Array, object: Record<string, unknown>, event: unknown[]): void {
  const { properties, ...rest } = object
  const theirProperties = isEmpty(properties) ? {} : { properties }
  const parsed = libraryReads(packet)
  for (const [name, value] of Object.entries({ ...rest, ...theirProperties }))
    assert.deepEqual(plain(parsed[name]), plain(value), `${name} of ${hex(packet)}`)
  assert.equal('properties' in parsed, 'properties' in theirProperties)
  assert.deepEqual(weRead(packet, from), event)
  assert.deepEqual(weRead(library.generate({ ...rest, ...theirProperties }, five), from), event)
}

function isEmpty(value: unknown): boolean {
  return typeof value !== 'object' || value === null || Object.keys(value).length === 0
}

function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null))
}

const properties = (arbitrary: fc.Arbitrary<Properties>): fc.Arbitrary<Properties> => arbitrary.filter(orderly).map(grouped)
const code = (set: ReadonlySet<number>): fc.Arbitrary<number> => fc.constantFrom(...set)

test('CONNECT and CONNACK: MQTT.js means what we mean', () => {
  const will = fc.record({
    topic: made.topic,
    payload: made.binary.filter((b) => b.length > 0),
    qos: made.qos,
    retain: fc.boolean(),
    properties: properties(made.willProperties),
  })
  const connect = fc.record(
    {
      clientId: made.name.filter((t) => t !== ''),
      keepAliveS: fc.nat(65_535),
      username: made.name.filter((t) => t !== ''),
      password: made.binary.filter((b) => b.length > 0),
      will,
    },
    { requiredKeys: ['clientId', 'keepAliveS'], noNullPrototype: true },
  )
  // The library still wants a user name with a password.
  const theirConnect = connect.filter((o) => o.password === undefined || o.username !== undefined)
  fc.assert(
    fc.property(theirConnect, properties(made.connectProperties), (o, properties) => {
      const { will, keepAliveS, ...rest } = o
      const { willDelayInterval: delayS = 0, ...passedOn } = will?.properties ?? {}
      const section = encodeProperties(passedOn, PacketType.publish)
      const { password } = o
      const theirWill = will && {
        ...will,
        payload: Buffer.from(will.payload),
        ...(Object.keys(will.properties).length === 0 ? { properties: undefined } : { properties: theirs(will.properties) }),
      }
      const object = {
        cmd: 'connect',
        protocolId: 'MQTT',
        protocolVersion: 5,
        clean: true,
        keepalive: keepAliveS,
        ...rest,
        ...(password === undefined ? {} : { password: Buffer.from(password) }),
        ...(theirWill === undefined ? {} : { will: theirWill }),
        properties: theirs(properties),
      }
      const ours = weRead(encodeConnect5({ ...o, clean: true, properties }), 'client')
      const expected = {
        level: 5,
        cleanStart: true,
        keepAliveS,
        clientIdBytes: Buffer.byteLength(o.clientId),
        ...rest,
        properties,
        ...(will === undefined ? {} : { will: { ...will, delayS, forwarded: forwarded(section, 0, section.length) } }),
      }
      assert.deepEqual(ours, ['connect5', expected])
      const parsed = libraryReads(encodeConnect5({ ...o, clean: true, properties }))
      for (const [name, value] of Object.entries(object)) {
        if (name === 'properties' && isEmpty(value)) continue
        assert.deepEqual(plain(parsed[name]), plain(value), name)
      }
      const [, heard] = weRead(library.generate(object, five), 'client') ?? []
      // The library writes a will's properties in an order of its own.
      assert.deepEqual(plain({ ...Object(heard), will: undefined }), plain({ ...expected, will: undefined }))
    }),
    fuzzRuns(500),
  )
  fc.assert(
    fc.property(properties(made.connackProperties), (properties) => {
      agree(
        'server',
        encodeConnack5({ sessionPresent: true, reasonCode: 0, properties }),
        { cmd: 'connack', sessionPresent: true, reasonCode: 0, properties: theirs(properties) },
        ['connack5', { sessionPresent: true, reasonCode: 0, properties }],
      )
    }),
    fuzzRuns(500),
  )
})

test('PUBLISH: MQTT.js means what we mean', () => {
  const options = fc.record({ qos: made.qos, retain: fc.boolean(), packetId: made.id, topicAlias: fc.nat(65_535) })
  fc.assert(
    fc.property(made.topic, made.binary, properties(made.message), made.identifiers, options, (topic, payload, properties, identifiers, o) => {
      const section = encodeProperties(properties, PacketType.publish)
      const packet = encodePublish5(Buffer.from(topic), payload, 0, payload.length, {
        ...o,
        subscriptionIdentifiers: identifiers,
        forwarded: forwarded(section, 0, section.length),
      }).bytes
      const all = { ...properties, subscriptionIdentifiers: identifiers, ...(o.topicAlias === 0 ? {} : { topicAlias: o.topicAlias }) }
      const object = {
        cmd: 'publish',
        topic,
        payload: Buffer.from(payload),
        qos: o.qos,
        retain: o.retain,
        dup: false,
        ...(o.qos === 0 ? {} : { messageId: o.packetId }),
        ...(Object.keys(theirs(all)).length === 0 ? {} : { properties: theirs(all) }),
      }
      const parsed = libraryReads(packet)
      for (const [name, value] of Object.entries(object)) assert.deepEqual(plain(parsed[name]), plain(value), name)
      const [ours, theirOwn] = [weRead(packet, 'server'), weRead(library.generate(object, five), 'server')]
      const meaning = (event: unknown[] | undefined): unknown =>
        event?.map((part, i): unknown => (i === 4 && typeof part === 'object' ? { ...part, section: '' } : part))
      assert.deepEqual(meaning(theirOwn), meaning(ours))
    }),
    fuzzRuns(1000),
  )
})

test('the other packets: MQTT.js means what we mean', () => {
  const acks = [
    ['puback', 4, reasonCodes.publishReceived],
    ['pubrec', 5, reasonCodes.publishReceived],
    ['pubrel', 6, reasonCodes.publishReleased],
    ['pubcomp', 7, reasonCodes.publishReleased],
  ] as const
  const none = (p: Properties): Properties | undefined => (Object.keys(p).length === 0 ? undefined : p)
  fc.assert(
    fc.property(made.id, fc.nat(100), properties(made.ackProperties), (id, n, p) => {
      for (const [cmd, type, codes] of acks) {
        const reason = [...codes][n % codes.size] ?? 0
        const packet = encodeAck5(type, id, reason, p)
        const parsed = libraryReads(packet)
        assert.deepEqual([parsed['cmd'], parsed['messageId'], parsed['reasonCode']], [cmd, id, reason])
        assert.deepEqual(plain(parsed['properties']), plain(none(p) && theirs(p)))
        const generated = library.generate({ cmd, messageId: id, reasonCode: reason, ...(none(p) && { properties: theirs(p) }) }, five)
        const [name, , heardId, heardReason, heard] = weRead(generated, 'client') ?? []
        assert.deepEqual([name, heardId, heardReason, heard ?? {}], ['ack5', id, reason, p])
      }
    }),
    fuzzRuns(300),
  )
  fc.assert(
    fc.property(
      made.id,
      made.subscriptions,
      properties(made.subscribeProperties),
      properties(made.unsubscribeProperties),
      (messageId, list, s, u) => {
        const subscriptions = list.map((o) => ({ topic: o.filter, qos: o.qos, nl: o.noLocal, rap: o.retainAsPublished, rh: o.retainHandling }))
        agree('client', encodeSubscribe5(messageId, list, s), { cmd: 'subscribe', messageId, subscriptions, properties: theirs(s) }, [
          'subscribe5',
          { packetId: messageId, subscriptions: list, subscriptionIdentifier: s.subscriptionIdentifiers?.[0] ?? 0, properties: s },
        ])
        const unsubscriptions = list.map((o) => o.filter)
        agree(
          'client',
          encodeUnsubscribe5(messageId, unsubscriptions, u),
          { cmd: 'unsubscribe', messageId, unsubscriptions, properties: theirs(u) },
          ['unsubscribe5', messageId, unsubscriptions, u],
        )
      },
    ),
    fuzzRuns(500),
  )
  const codes = fc.array(code(reasonCodes.suback), { minLength: 1, maxLength: 5 })
  const left = fc.array(code(reasonCodes.unsuback), { minLength: 1, maxLength: 5 })
  fc.assert(
    fc.property(made.id, codes, left, properties(made.ackProperties), (messageId, granted, left, p) => {
      const object = { messageId, properties: theirs(p) }
      agree('server', encodeSuback5(messageId, granted, p), { cmd: 'suback', ...object, granted }, ['suback5', messageId, granted, p])
      agree('server', encodeUnsuback5(messageId, left, p), { cmd: 'unsuback', ...object, granted: left }, ['unsuback5', messageId, left, p])
    }),
    fuzzRuns(300),
  )
  fc.assert(
    fc.property(
      code(reasonCodes.clientDisconnect),
      properties(made.disconnectProperties),
      code(reasonCodes.clientAuth),
      properties(made.authProperties),
      (reason, d, authReason, a) => {
        const parsed = libraryReads(encodeDisconnect5(reason, d))
        assert.deepEqual([parsed['reasonCode'], plain(parsed['properties'])], [reason, plain(none(d) && theirs(d))])
        const generated = weRead(library.generate({ cmd: 'disconnect', reasonCode: reason, properties: theirs(d) }, five), 'client') ?? []
        assert.deepEqual([generated[1], generated[2] ?? {}], [reason, d])
        agree('client', encodeAuth(authReason, a), { cmd: 'auth', reasonCode: authReason, properties: theirs(a) }, ['auth', authReason, a])
      },
    ),
    fuzzRuns(300),
  )
})

test('MQTT 3.1.1: the library writes what the corpus says, and reads it', () => {
  for (const golden of corpus) {
    if (golden.level !== 4) continue
    const packet = bytes(golden.bytes)
    const parsed = libraryReads(packet, 4)
    assert.equal(hex(library.generate(parsed, { protocolVersion: 4 })), hex(packet), golden.name)
    const { messageId } = parsed
    if (typeof messageId === 'number') assert.ok(golden.event.includes(messageId), golden.name)
  }
})
