import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig } from '../../src/core/config-resolve.ts'
import { configuredPull } from '../../src/doors/pull/mqtt/configured.ts'
import type { Dial } from '../../src/doors/pull/mqtt/link.ts'
import { probeBroker } from '../../src/doors/pull/mqtt/probe.ts'
import { VersionChoice } from '../../src/doors/pull/mqtt/version.ts'
import { encodeConnack, encodeSuback, pingresp } from '../../src/wire/mqtt/encode.ts'
import { encodeAuth, encodeConnack5, encodeDisconnect5 } from '../../src/wire/mqtt/v5/answers.ts'
import type { Properties } from '../../src/wire/mqtt/v5/properties.ts'
import { ReasonCode } from '../../src/wire/mqtt/v5/reason.ts'
import { encodeSuback5 } from '../../src/wire/mqtt/v5/subscribe.ts'
import { publish } from '../mqtt/client-packets.ts'
import { publish5, type PublishFields } from '../mqtt/client5.ts'
import { settled, SimClock } from '../sim/clock.ts'
import { BrokerSide, openWorld, type World, type WorldOptions } from './world.ts'

const five = (o: WorldOptions = {}): Promise<World> => openWorld({ version: '5', ...o })

const accept = (side: BrokerSide, properties: Properties = {}, sessionPresent = false): void =>
  side.send(encodeConnack5({ sessionPresent, reasonCode: ReasonCode.success, properties }))

/** What it said of this kind, without its name. */
const said = (side: BrokerSide, what: string): unknown[][] =>
  side.said.filter((one): one is unknown[] => Array.isArray(one) && one[0] === what).map(([, ...rest]) => rest)

/** A connection that is let in, with its subscriptions granted. */
async function up(w: World, o: { readonly properties?: Properties; readonly present?: boolean; readonly codes?: readonly number[] } = {}) {
  const side = await w.next()
  accept(side, o.properties, o.present)
  await settled()
  const [asked] = said(side, 'subscribe')
  if (asked !== undefined) side.send(encodeSuback5(Number(asked[0]), o.codes ?? asked.slice(1).map(() => 1)))
  await settled()
  return side
}

const message = (id: number, topic = 't/d1', o: PublishFields = {}): Uint8Array => publish5(topic, `{"n":${id}}`, { qos: 1, id, ...o })

test('MQTT 5: the session is asked to stay, the window is the gate’s, acknowledged once durable', async () => {
  const w = await five({ inflightMax: 500 })
  const side = await up(w)
  const [[clientId, cleanStart, username, properties]] = said(side, 'connect5') as [unknown[]]
  assert.match(String(clientId), /^kymo-[0-9a-f]{16}$/)
  assert.deepEqual([cleanStart, username], [false, 'u'])
  // No Maximum Packet Size: what is over it would never come, and leave no dead letter.
  assert.deepEqual(properties, { sessionExpiryInterval: 3_600, receiveMaximum: 500, topicAliasMaximum: 256 })
  assert.deepEqual(said(side, 'subscribe'), [[1, 'telemetry 1 1', 't/+ 1 1']])
  assert.deepEqual(w.pull.status(), { connected: true, detail: 'mqtt://broker.example:1883, 2 of 2 subscriptions by MQTT 5' })

  side.send(message(5, 't/d1', { properties: { contentType: 'application/json', userProperties: [['a', 'b']] } }), message(6), publish5('t/d2', '1'))
  assert.deepEqual(
    w.gate.taken.map(({ topic, packetId }) => [topic, packetId]),
    [
      ['t/d1', 5],
      ['t/d1', 6],
      ['t/d2', 0],
    ],
  )
  assert.deepEqual(side.acks, [])
  w.gate.sync()
  assert.deepEqual(side.acks, [5, 6])
  await w.pull.close(100)
  assert.deepEqual(said(side, 'disconnect'), [[0]], 'normal: the session stays for its expiry')
})

test('auto: 5, and at once 3.1.1 with a broker that refuses it, which is then remembered', async () => {
  for (const refusal of [
    encodeConnack(false, 1),
    encodeConnack5({ sessionPresent: false, reasonCode: ReasonCode.unsupportedProtocolVersion, properties: {} }),
  ]) {
    const w = await openWorld({ version: 'auto' })
    const first = await w.next()
    assert.equal(said(first, 'connect5').length, 1)
    const before = w.env.clock.monotonicMs()
    first.send(refusal)
    const second = await w.next()
    assert.ok(w.env.clock.monotonicMs() - before <= 50, 'at once')
    assert.equal(said(second, 'connect').length, 1)
    second.send(encodeConnack(false, 0))
    await settled()
    second.send(encodeSuback(1, [1, 1]))
    await settled()
    assert.match(w.pull.status().detail, /by MQTT 3\.1\.1$/)
    assert.deepEqual(
      w.logged.filter((line) => line.startsWith('warn')),
      [],
    )
    second.cut()
    assert.equal(said(await w.next(), 'connect').length, 1)
  }
})

test('auto: a broker that closes without a word is asked in the other version; what it speaks is looked for anew each time', () => {
  const choice = new VersionChoice('auto')
  const mute = (): [boolean, string] => [choice.ended('mute'), choice.next]
  assert.deepEqual(
    [mute(), mute(), mute()],
    [
      [false, '3.1.1'],
      [false, '5'],
      [false, '3.1.1'],
    ],
  )
  choice.accepted()
  assert.equal(choice.next, '5', 'what stands before a broker that is down is mute as well')
  choice.ended(undefined)
  assert.equal(choice.next, '5')
  assert.deepEqual([choice.ended('unsupported'), choice.next], [true, '3.1.1'])
  assert.deepEqual([choice.ended('unsupported'), choice.next], [false, '5'], 'it refuses both: no hurry')
  assert.deepEqual([choice.ended('unsupported'), choice.next], [false, '3.1.1'])
  choice.accepted()
  choice.ended(undefined)
  assert.deepEqual([choice.next, choice.ended('unsupported'), choice.next], ['3.1.1', true, '5'], 'a broker that was replaced')
  const fixed = new VersionChoice('5')
  assert.deepEqual([fixed.ended('unsupported'), fixed.ended('mute'), fixed.next], [false, false, '5'])
})

test('a version that was set is kept to: the refusal is told, and tried again slowly', async () => {
  const w = await five()
  const side = await w.next()
  side.send(encodeConnack(false, 1))
  await settled()
  assert.match(w.pull.status().detail, /it refuses the connection: unsupported protocol version; set mqtt\.pull\.version/)
  await w.env.clock.advance(29_000)
  assert.equal(w.dialled.length, 1)
  const mute = await openWorld({ version: 'auto' })
  ;(await mute.next()).cut('it closed the connection')
  assert.equal(said(await mute.next(), 'connect').length, 1)
})

test('what the broker sets is obeyed: keep alive, client id, session expiry', async () => {
  const w = await five({ keepAliveS: 60 })
  const side = await up(w, { properties: { serverKeepAlive: 4, assignedClientIdentifier: 'theirs', sessionExpiryInterval: 60 } })
  for (let i = 0; i < 3; i++) {
    await w.env.clock.advance(2_000)
    side.send(pingresp)
  }
  assert.equal(said(side, 'pingreq').length, 3)
  assert.match(w.logged.join('\n'), /warn the broker keeps the session for less than mqtt\.pull\.session_expiry_s \{"session_expiry_s":60\}/)
  side.cut()
  const again = await w.next()
  assert.equal(said(again, 'connect5')[0]?.[0], 'theirs')
  const started = await five({ meta: w.meta })
  assert.equal(said(await started.next(), 'connect5')[0]?.[0], 'theirs', 'after a restart too')
  const none = await five({ keepAliveS: 60 })
  const quiet = await up(none, { properties: { serverKeepAlive: 0 } })
  await none.env.clock.advance(31_000)
  assert.equal(said(quiet, 'pingreq').length, 1, 'without a keep alive of its own, ours')
})

test('what the broker says it cannot do is not asked for, and told in words', async () => {
  const topics = ['a', 'b/{device}', '$share/g/c']
  const w = await five({ topics })
  const side = await up(w, { properties: { wildcardSubscriptionAvailable: false, sharedSubscriptionAvailable: false } })
  assert.deepEqual(said(side, 'subscribe'), [[1, 'a 1 1']])
  assert.equal(
    w.pull.status().detail,
    'mqtt://broker.example:1883, 1 of 3 subscriptions by MQTT 5; it refuses b/+ (wildcard subscriptions not supported), ' +
      '$share/g/c (shared subscriptions not supported)',
  )
  assert.equal(w.pull.status().connected, false)

  const long = `x/${'y'.repeat(200)}`
  const small = await five({ topics: ['a', long, 'b'] })
  const narrow = await small.next()
  accept(narrow, { maximumPacketSize: 60 })
  await settled()
  assert.deepEqual(
    said(narrow, 'subscribe').map((one) => one[1]),
    ['a 1 1', 'b 1 1'],
  )
  for (const [id] of said(narrow, 'subscribe')) narrow.send(encodeSuback5(Number(id), [1]))
  await settled()
  assert.match(small.pull.status().detail, /2 of 3 subscriptions by MQTT 5; it refuses x\/y+ \(packet too large\)$/)
})

test('a shared subscription is asked for again whenever the session goes on, others are not', async () => {
  const topics = ['a', '$share/g/c']
  const w = await five({ topics })
  await up(w)
  const again = await five({ topics, meta: w.meta })
  const side = await up(again, { present: true })
  assert.deepEqual(said(side, 'subscribe'), [[1, '$share/g/c 1 1']])
  assert.match(again.pull.status().detail, /2 of 2 subscriptions/)
})

test('a refused subscription is told with its reason', async () => {
  const w = await five()
  await up(w, { codes: [ReasonCode.notAuthorized, ReasonCode.quotaExceeded] })
  assert.match(w.pull.status().detail, /it refuses telemetry \(not authorized\), t\/\+ \(quota exceeded\)/)
  assert.match(
    w.logged.join('\n'),
    /refuses the subscription to telemetry \(not authorized\), t\/\+ \(quota exceeded\): its rights for this user decide/,
  )
})

test('a broker that ends the connection says why; a session that another has taken is not fought for', async () => {
  const cases: readonly [number, Properties, RegExp, 'slow' | 'soon'][] = [
    [
      ReasonCode.sessionTakenOver,
      {},
      /session taken over; another client connected with the same client id: give each its own mqtt\.pull\.client_id/,
      'slow',
    ],
    [ReasonCode.serverMoved, { serverReference: 'b2:1883' }, /server moved, it names b2:1883; set mqtt\.pull\.url/, 'slow'],
    [ReasonCode.useAnotherServer, {}, /use another server; set mqtt\.pull\.url/, 'slow'],
    [ReasonCode.notAuthorized, {}, /not authorized/, 'slow'],
    [ReasonCode.administrativeAction, {}, /administrative action/, 'slow'],
    [ReasonCode.serverShuttingDown, { reasonString: `back\n\u{7}at ${'9'.repeat(900)}` }, /server shutting down \("back at 9{192}…"\)/, 'soon'],
    [ReasonCode.success, {}, /it ended the connection$/, 'soon'],
  ]
  for (const [code, properties, words, when] of cases) {
    const w = await five()
    const side = await up(w)
    side.send(message(1), encodeDisconnect5(code, properties))
    await settled()
    assert.match(w.pull.status().detail, words)
    assert.equal(side.over, true)
    await w.env.clock.advance(when === 'slow' ? 29_000 : 300)
    assert.equal(w.dialled.length, when === 'slow' ? 1 : 2, String(code))
  }
  const banned = await five()
  const side = await banned.next()
  side.send(encodeConnack5({ sessionPresent: false, reasonCode: ReasonCode.banned, properties: { reasonString: 'go away' } }))
  await settled()
  assert.match(banned.pull.status().detail, /it refuses the connection: banned \("go away"\)/)
})

test('a broker that keeps to the window is read; one that does not is told so', async () => {
  const w = await five({ inflightMax: 3 })
  const side = await up(w)
  side.send(message(1), message(2), message(3), publish5('t/d1', '{"zero":1}'))
  assert.equal(w.gate.taken.length, 4, 'QoS 0 does not count')
  assert.equal(side.paused, false, 'the broker holds back by itself')
  w.gate.sync()
  side.send(message(4), message(5))
  w.gate.room = 0
  side.send(message(6))
  w.gate.room = 10
  w.gate.sync()
  await settled()
  w.gate.sync()
  assert.deepEqual(side.acks, [1, 2, 3, 4, 5, 6])
  side.send(message(7), message(8), message(9), message(10))
  await settled()
  assert.deepEqual(said(side, 'disconnect'), [[ReasonCode.receiveMaximumExceeded]])
  assert.match(w.pull.status().detail, /it sent more than the 3 messages/)
  assert.equal(w.gate.taken.filter(({ packetId }) => packetId === 10).length, 0)

  const three = await openWorld({ inflightMax: 3 })
  const plain = await three.next()
  plain.send(encodeConnack(false, 0))
  await settled()
  plain.send(encodeSuback(1, [1, 1]))
  await settled()
  plain.send(...[1, 2, 3, 4].map((id) => publish('t/d1', '{"n":1}', { qos: 1, id })))
  assert.equal(plain.paused, true)
  w.gate.sync()
  three.gate.sync()
  assert.deepEqual(plain.acks, [1, 2, 3], '3.1.1 has no window: it is not read beyond')
})

test('topic aliases stand for the topic that they came with last, on one connection', async () => {
  const w = await five()
  const side = await up(w)
  const as = (id: number, topic: string, topicAlias: number): Uint8Array => message(id, topic, { properties: { topicAlias } })
  side.send(as(1, 't/d1', 1), as(2, 't/d2', 256), as(3, '', 1), as(4, '', 256), as(5, 't/d3', 1), as(6, '', 1), as(7, 'unasked', 2), as(8, '', 2))
  assert.deepEqual(
    w.gate.taken.map(({ topic, topicDevice, packetId }) => `${packetId} ${topic} ${topicDevice}`),
    ['1 t/d1 d1', '2 t/d2 d2', '3 t/d1 d1', '4 t/d2 d2', '5 t/d3 d3', '6 t/d3 d3'],
  )
  w.gate.sync()
  assert.deepEqual(side.acks, [1, 2, 3, 4, 5, 6, 7, 8])
  side.cut()
  const again = await up(w, { present: true })
  again.send(as(9, '', 1))
  await settled()
  assert.equal(said(again, 'disconnect').length, 1, 'a new connection knows no alias')
  assert.equal(w.gate.taken.length, 6)
  const over = await up(w, { present: true })
  over.send(as(9, 't/d1', 257))
  await settled()
  assert.deepEqual(said(over, 'disconnect'), [[ReasonCode.topicAliasInvalid]])
})

test('too large a message leaves its beginning as a dead letter, by its alias too', async () => {
  const w = await five({ packetBytesMax: 20_000 })
  const side = await up(w)
  const large = publish5('', 'x'.repeat(100_000), { qos: 1, id: 2, properties: { topicAlias: 9 } })
  side.send(message(1, 't/d7', { properties: { topicAlias: 9 } }), large, message(3))
  await settled()
  w.gate.sync()
  const [letter] = w.gate.letters
  assert.deepEqual([letter?.code, letter?.topic, letter?.text.length, letter?.total], ['body_too_large', 't/d7', 4_096, 100_000])
  assert.deepEqual(side.acks, [1, 2, 3])
})

test('what a broker must not send ends the connection, with the reason', async () => {
  const wrong: readonly [Uint8Array, RegExp, number][] = [
    [Buffer.from('HTTP/1.1 400\r\n'), /no MQTT 5: /, ReasonCode.malformedPacket],
    [publish5('t/d', 'x', { qos: 2, id: 1 }), /QoS 2/, ReasonCode.protocolError],
    [Uint8Array.of(0x40, 2, 0, 1), /did not send/, ReasonCode.protocolError],
    [encodeSuback5(9, [0]), /something else than we asked/, ReasonCode.protocolError],
    [encodeConnack5({ sessionPresent: false, reasonCode: 0, properties: {} }), /second CONNACK/, ReasonCode.protocolError],
    [encodeAuth(0x18, { authenticationMethod: 'x' }), /nobody asked for/, ReasonCode.protocolError],
  ]
  for (const [bytes, why, code] of wrong) {
    const w = await five()
    const side = await up(w)
    side.send(bytes)
    await settled()
    assert.match(w.pull.status().detail, why)
    assert.deepEqual([said(side, 'disconnect'), side.over], [[[code]], true], String(why))
  }
})

test('a probe speaks what the broker speaks, and takes no message of our group', async () => {
  const pull = configuredPull(
    loadConfig({ env: { KYMO_MQTT_PULL_URL: 'mqtt://broker.example', KYMO_MQTT_PULL_TOPICS: 'a,$share/g/b', KYMO_MQTT_PULL_CLIENT_ID: 'ours' } }),
  )
  assert.ok(pull !== undefined)
  const dialled: BrokerSide[] = []
  const dial: Dial = (_, __, events) => {
    const side = new BrokerSide(events)
    dialled.push(side)
    setImmediate(() => side.open())
    return side
  }
  const answer = probeBroker({ pull, name: 'doctor-1', clock: new SimClock(), dial })
  while (dialled[0]?.said.length !== 1) await settled()
  dialled[0].send(encodeConnack(false, 1))
  while (dialled[1]?.said.length !== 1) await settled()
  const side = dialled[1]
  const [clientId, clean] = said(side, 'connect')[0]!
  assert.deepEqual([clientId, clean], ['kymo-doctor-1', true])
  side.send(encodeConnack(false, 0))
  await settled()
  assert.deepEqual(said(side, 'subscribe'), [[1, 'a 1', '$share/g-doctor-1/b 1']])
  side.send(encodeSuback(1, [1, 0x80]))
  const found = await answer
  assert.ok('codes' in found)
  assert.deepEqual([found.version, ...found.codes], ['3.1.1', ['a', 1], ['$share/g/b', 0x80]])
})
