import assert from 'node:assert/strict'
import { test } from 'node:test'
import { limits } from '../../src/core/limits.ts'
import { field, packet } from '../mqtt/client-packets.ts'
import type { ReadOptions } from './mqtt5-recorder.ts'
import { bytes, hello5, read } from './mqtt5-recorder.ts'

/** What is wrong with the packets, which stand alone, as `statement code`; undefined: nothing. */
function wrong(stream: string | Uint8Array, o: Partial<ReadOptions> = {}): string | undefined {
  const all = typeof stream === 'string' ? bytes(stream) : stream
  const whole = read([all], { from: 'client', level: 5, ...o })
  const byByte = read(
    Array.from(all, (byte) => Uint8Array.of(byte)),
    { from: 'client', level: 5, ...o },
  )
  assert.deepEqual(byByte, whole, 'the same however it is cut')
  if (whole.violation === undefined) return undefined
  assert.deepEqual(Object.keys(whole.violation), ['kind', 'reasonCode', 'statement', 'text'])
  assert.deepEqual(whole.events, [], 'nobody hears of it')
  return `${whole.violation.statement} ${whole.violation.reasonCode.toString(16)}`
}

type Case = readonly [what: string, bytes: string, expected: string]

function table(title: string, cases: readonly Case[], o: Partial<ReadOptions> = {}): void {
  test(title, () => {
    for (const [what, stream, expected] of cases) assert.equal(wrong(stream, o), expected, what)
  })
}

table('the fixed header', [
  ['type 0', '00 00', 'section 2.1.2 81'],
  ['a server’s packet', '20 03 00 00 00', 'section 2.1.2 82'],
  ['flags of a PUBACK', '41 02 00 01', 'MQTT-2.1.3-1 81'],
  ['flags of an AUTH', 'f1 00', 'MQTT-2.1.3-1 81'],
  ['flags of a PUBREL', '60 02 00 01', 'MQTT-3.6.1-1 81'],
  ['flags of a SUBSCRIBE', '80 00', 'MQTT-3.8.1-1 81'],
  ['flags of an UNSUBSCRIBE', 'a0 00', 'MQTT-3.10.1-1 81'],
  ['QoS 3', '36 00', 'MQTT-3.3.1-4 81'],
  ['DUP at QoS 0', '38 00', 'MQTT-3.3.1-2 81'],
  ['a PINGREQ with content', 'c0 01 00', 'section 2.1.4 81'],
  ['a remaining length of five bytes', '30 80 80 80 80 01', 'section 2.1.4 81'],
  ['a remaining length with a byte too many', "30 84 00 00 01 't' 00", 'MQTT-1.5.5-1 81'],
])

test('a second CONNECT', () => {
  const { events, violation } = read([hello5, hello5], { from: 'client', level: 5 })
  assert.equal(events.length, 1)
  assert.equal(violation?.statement, 'MQTT-3.1.0-2')
  assert.equal(violation.reasonCode, 0x82)
})

const head = (flags: string): string => `00 04 'MQTT' 05 ${flags} 00 00`
table('CONNECT', [
  ['the reserved flag', `10 0e ${head('03')} 00 00 01 'c'`, 'MQTT-3.1.2-3 81'],
  ['will QoS without a will', `10 0e ${head('0a')} 00 00 01 'c'`, 'MQTT-3.1.2-11 81'],
  ['will retain without a will', `10 0e ${head('22')} 00 00 01 'c'`, 'MQTT-3.1.2-13 81'],
  ['will QoS 3', `10 0e ${head('1e')} 00 00 01 'c'`, 'MQTT-3.1.2-12 81'],
  ['a will that is not there', `10 0e ${head('06')} 00 00 01 'c'`, 'MQTT-3.1.4-1 81'],
  ['no properties at all', `10 0a ${head('02')}`, 'MQTT-3.1.4-1 81'],
  ['bytes behind', `10 0f ${head('02')} 00 00 01 'c' 00`, 'MQTT-3.1.4-1 81'],
  ['a remaining length with a byte too many', `10 8e 00 ${head('02')} 00 00 01 'c'`, 'MQTT-1.5.5-1 81'],
  ['a client id that is no UTF-8', `10 0e ${head('02')} 00 00 01 ff`, 'MQTT-1.5.4-1 81'],
  ['a client id with NUL', `10 0e ${head('02')} 00 00 01 00`, 'MQTT-1.5.4-2 81'],
  ['a will topic with a wildcard', `10 14 ${head('06')} 00 00 01 'c' 00 00 01 '#' 00 00`, 'MQTT-3.3.2-2 81'],
  ['receive maximum 0', `10 11 ${head('02')} 03 21 00 00 00 01 'c'`, 'section 3.1.2.11.3 82'],
  ['maximum packet size 0', `10 13 ${head('02')} 05 27 00 00 00 00 00 01 'c'`, 'section 3.1.2.11.4 82'],
  ['request problem information 2', `10 10 ${head('02')} 02 17 02 00 01 'c'`, 'section 2.2.2.2 82'],
  ['request response information 2', `10 10 ${head('02')} 02 19 02 00 01 'c'`, 'section 2.2.2.2 82'],
  ['session expiry twice', `10 18 ${head('02')} 0a 11 00 00 00 01 11 00 00 00 01 00 01 'c'`, 'section 2.2.2.2 82'],
  ['a property of PUBLISH', `10 11 ${head('02')} 03 23 00 01 00 01 'c'`, 'section 2.2.2.2 81'],
  ['will delay outside the will', `10 13 ${head('02')} 05 18 00 00 00 01 00 01 'c'`, 'section 2.2.2.2 81'],
  ['a property that there is not', `10 10 ${head('02')} 02 7f 00 00 01 'c'`, 'section 2.2.2.2 81'],
  ['a property identifier of two bytes', `10 11 ${head('02')} 03 91 01 00 00 01 'c'`, 'section 2.2.2.2 81'],
  ['a property that is cut off', `10 10 ${head('02')} 02 11 00 00 01 'c'`, 'section 2.2.2.2 81'],
  ['a property length beyond the packet', `10 0e ${head('02')} 05 00 01 'c'`, 'section 2.2.2.1 81'],
  ['a property length of two bytes for one', `10 0f ${head('02')} 80 00 00 01 'c'`, 'MQTT-1.5.5-1 81'],
  ['a property length of five bytes', `10 12 ${head('02')} 80 80 80 80 01 00 01 'c'`, 'section 1.5.5 81'],
  ['authentication data without a method', `10 12 ${head('02')} 04 16 00 01 01 00 01 'c'`, 'section 3.1.2.11.10 82'],
  ['payload format 2 in the will', `10 16 ${head('06')} 00 00 01 'c' 02 01 02 00 01 'w' 00 00`, 'section 2.2.2.2 82'],
  ['a response topic with a wildcard in the will', `10 18 ${head('06')} 00 00 01 'c' 04 08 00 01 '+' 00 01 'w' 00 00`, 'MQTT-3.3.2-14 82'],
])

const publish = (properties: string, o: { topic?: string; length: string }): string => `30 ${o.length} ${o.topic ?? "00 01 't'"} ${properties} 'x'`
table(
  'PUBLISH',
  [
    ['no property length', "30 03 00 01 't'", 'MQTT-2.2.2-1 81'],
    ['an unfinished property length', "30 04 00 01 't' 80", 'MQTT-2.2.2-1 81'],
    ['a property length with a byte too many', publish('80 00', { length: '06' }), 'MQTT-1.5.5-1 81'],
    ['a property length of five bytes', publish('80 80 80 80 01', { length: '09' }), 'section 1.5.5 81'],
    ['a property length beyond the packet', publish('03', { length: '05' }), 'section 2.2.2.1 81'],
    ['packet id 0', "32 06 00 01 't' 00 00 00", 'MQTT-2.2.1-3 82'],
    ['ends within the topic', '30 02 00 05', 'section 3.3.2 81'],
    ['ends within the packet id', "32 04 00 01 't' 00", 'section 3.3.2 81'],
    ['a wildcard', publish('00', { length: '05', topic: "00 01 '+'" }), 'MQTT-3.3.2-2 81'],
    ['a topic that is no UTF-8', publish('00', { length: '05', topic: '00 01 c0' }), 'MQTT-1.5.4-1 81'],
    ['a surrogate', publish('00', { length: '07', topic: '00 03 ed a0 80' }), 'MQTT-1.5.4-1 81'],
    ['NUL', publish('00', { length: '05', topic: '00 01 00' }), 'MQTT-1.5.4-2 81'],
    ['neither topic nor alias', publish('00', { length: '04', topic: '00 00' }), 'section 3.3.2.1 82'],
    ['neither topic nor alias, but properties', publish('02 01 01', { length: '06', topic: '00 00' }), 'section 3.3.2.1 82'],
    ['alias 0', publish('03 23 00 00', { length: '08' }), 'MQTT-3.3.2-8 94'],
    ['alias above the maximum', publish('03 23 00 0b', { length: '08' }), 'MQTT-3.3.2-9 94'],
    ['an alias that stands for nothing', publish('03 23 00 08', { length: '07', topic: '00 00' }), 'section 3.3.2.3.4 82'],
    ['alias twice', publish('06 23 00 01 23 00 02', { length: '0b' }), 'section 3.3.2.3.4 82'],
    ['payload format 2', publish('02 01 02', { length: '07' }), 'section 2.2.2.2 82'],
    ['payload format twice', publish('04 01 01 01 01', { length: '09' }), 'section 2.2.2.2 82'],
    ['expiry twice', publish('0a 02 00 00 00 01 02 00 00 00 01', { length: '0f' }), 'section 2.2.2.2 82'],
    ['content type twice', publish("08 03 00 01 'a' 03 00 01 'a'", { length: '0d' }), 'section 2.2.2.2 82'],
    ['response topic twice', publish("08 08 00 01 'a' 08 00 01 'a'", { length: '0d' }), 'section 2.2.2.2 82'],
    ['correlation data twice', publish("08 09 00 01 'a' 09 00 01 'a'", { length: '0d' }), 'section 2.2.2.2 82'],
    ['a response topic with a wildcard', publish("06 08 00 03 'a/#'", { length: '0b' }), 'MQTT-3.3.2-14 82'],
    ['a response topic with a control character', publish("06 08 00 03 'a' 07 'b'", { length: '0b' }), 'section 1.5.4 81'],
    ['a content type that is no UTF-8', publish('04 03 00 01 ff', { length: '09' }), 'MQTT-1.5.4-1 81'],
    ['a user property’s name with NUL', publish("07 26 00 01 00 00 01 'v'", { length: '0c' }), 'MQTT-1.5.4-2 81'],
    ['a user property’s value that is no UTF-8', publish("07 26 00 01 'k' 00 01 fe", { length: '0c' }), 'MQTT-1.5.4-1 81'],
    ['a user property without a value', publish("04 26 00 01 'k'", { length: '09' }), 'section 2.2.2.2 81'],
    ['an expiry that is cut off', publish('04 02 00 00 00', { length: '09' }), 'section 2.2.2.2 81'],
    ['an alias that is cut off', publish('02 23 00', { length: '07' }), 'section 2.2.2.2 81'],
    ['a payload format that is cut off', publish('01 01', { length: '06' }), 'section 2.2.2.2 81'],
    ['correlation data beyond the properties', publish('03 09 00 01', { length: '08' }), 'section 2.2.2.2 81'],
    ['a property of CONNECT', publish('03 21 00 05', { length: '08' }), 'section 2.2.2.2 81'],
    ['a property that there is not', publish('02 04 00', { length: '07' }), 'section 2.2.2.2 81'],
    ['property 0 behind an alias', publish('05 23 00 01 00 00', { length: '0a' }), 'section 2.2.2.2 81'],
    ['a subscription identifier of a client', publish('02 0b 01', { length: '07' }), 'MQTT-3.3.4-6 82'],
  ],
  { aliasMax: 10 },
)

table(
  'PUBLISH of a server',
  [
    ['subscription identifier 0', publish('02 0b 00', { length: '07' }), 'section 3.8.2.1.2 82'],
    ['a subscription identifier with a byte too many', publish('03 0b 81 00', { length: '08' }), 'MQTT-1.5.5-1 81'],
    ['a subscription identifier of five bytes', publish('06 0b 80 80 80 80 01', { length: '0b' }), 'section 1.5.5 81'],
    ['a subscription identifier that is cut off', publish('02 0b 80', { length: '07' }), 'section 2.2.2.2 81'],
  ],
  { from: 'server' },
)

const t30 = 't'.repeat(30)
table(
  'a PUBLISH over the limit whose beginning is wanted',
  [
    ['ends within the topic', `30 20 00 1f '${t30}'`, 'section 3.3.2 81'],
    ['no property length', `30 20 00 1e '${t30}'`, 'MQTT-2.2.2-1 81'],
    ['an unfinished property length', `30 21 00 1e '${t30}' 80`, 'MQTT-2.2.2-1 81'],
    ['packet id 0', `32 28 00 01 't' 00 00 00 '${'x'.repeat(34)}'`, 'MQTT-2.2.1-3 82'],
    ['a wildcard', `30 28 00 01 '#' 00 '${'x'.repeat(36)}'`, 'MQTT-3.3.2-2 81'],
    ['a property length beyond the packet', `30 28 00 01 't' 7f '${'x'.repeat(36)}'`, 'section 2.2.2.1 81'],
    ['a property length with a byte too many', `30 28 00 01 't' 80 00 '${'x'.repeat(35)}'`, 'MQTT-1.5.5-1 81'],
    ['a property length of five bytes', `30 28 00 01 't' 80 80 80 80 '${'x'.repeat(33)}'`, 'section 1.5.5 81'],
    ['a property of CONNECT', `30 28 00 01 't' 03 21 00 01 '${'x'.repeat(33)}'`, 'section 2.2.2.2 81'],
    ['an alias above the maximum', `30 28 00 01 't' 03 23 00 0b '${'x'.repeat(33)}'`, 'MQTT-3.3.2-9 94'],
    ['neither topic nor alias', `30 28 00 00 00 '${'x'.repeat(37)}'`, 'section 3.3.2.1 82'],
    ['a topic longer than any', '30 ff ff 7f ff ff', 'MQTT-3.2.2-15 95'],
    ['more properties than are waited for', `30 ff 7f 00 01 't' ff 7e 01 01`, 'MQTT-3.2.2-15 95'],
  ],
  { aliasMax: 10, max: 20, oversizedBytes: 8 },
)

table('acknowledgements', [
  ['one byte', '40 01 00', 'section 3.4.2 81'],
  ['packet id 0', '40 02 00 00', 'MQTT-2.2.1-5 82'],
  ['a code of PUBREL in PUBACK', '40 03 00 01 92', 'MQTT-3.4.2-1 82'],
  ['an unknown code in PUBREC', '50 03 00 01 7f', 'MQTT-3.5.2-1 82'],
  ['a code of PUBACK in PUBREL', '62 03 00 01 10', 'MQTT-3.6.2-1 82'],
  ['a code of PUBACK in PUBCOMP', '70 03 00 01 97', 'MQTT-3.7.2-1 82'],
  ['properties that are cut off', '40 04 00 01 00 01', 'section 2.2.2.1 81'],
  ['bytes behind', '40 05 00 01 00 00 00', 'section 3.4.2 81'],
  ['a reason string twice', '40 0a 00 01 00 06 1f 00 00 1f 00 00', 'section 2.2.2.2 82'],
  ['a property of PUBLISH', '40 06 00 01 00 02 01 01', 'section 2.2.2.2 81'],
])

table('SUBSCRIBE and UNSUBSCRIBE', [
  ['packet id 0', "82 07 00 00 00 00 01 't' 00", 'MQTT-2.2.1-3 82'],
  ['no filter', '82 03 00 01 00', 'MQTT-3.8.3-2 82'],
  ['no property length', '82 02 00 01', 'section 3.8.3 81'],
  ['a filter without options', "82 06 00 01 00 00 01 't'", 'section 3.8.3 81'],
  ['QoS 3', "82 07 00 01 00 00 01 't' 03", 'section 3.8.3.1 82'],
  ['retain handling 3', "82 07 00 01 00 00 01 't' 30", 'section 3.8.3.1 82'],
  ['a reserved bit', "82 07 00 01 00 00 01 't' 40", 'MQTT-3.8.3-5 81'],
  ['the other reserved bit', "82 07 00 01 00 00 01 't' 80", 'MQTT-3.8.3-5 81'],
  ['No Local on a shared subscription', "82 10 00 05 00 00 0a '$share/g/t' 04", 'MQTT-3.8.3-4 82'],
  ['an empty share name', "82 0f 00 05 00 00 09 '$share//t' 00", 'MQTT-4.8.2-1 81'],
  ['a share name without a filter', "82 0e 00 05 00 00 08 '$share/g' 00", 'MQTT-4.8.2-2 81'],
  ['a share name with an empty filter', "82 0f 00 05 00 00 09 '$share/g/' 00", 'MQTT-4.8.2-2 81'],
  ['a wildcard as share name', "82 10 00 05 00 00 0a '$share/+/t' 00", 'MQTT-4.8.2-2 81'],
  ['identifier 0', "82 09 00 01 02 0b 00 00 01 't' 00", 'section 3.8.2.1.2 82'],
  ['two identifiers', "82 0b 00 01 04 0b 01 0b 02 00 01 't' 00", 'section 2.2.2.2 82'],
  ['# not at the end', "82 09 00 01 00 00 03 '#/a' 00", 'MQTT-4.7.1-1 81'],
  ['+ within a level', "82 08 00 01 00 00 02 'a+' 00", 'MQTT-4.7.1-2 81'],
  ['an empty filter', '82 06 00 01 00 00 00 00', 'MQTT-4.7.3-1 81'],
  ['a filter that is no UTF-8', '82 07 00 01 00 00 01 ff 00', 'MQTT-1.5.4-1 81'],
  ['UNSUBSCRIBE, packet id 0', "a2 06 00 00 00 00 01 't'", 'MQTT-2.2.1-3 82'],
  ['UNSUBSCRIBE, no filter', 'a2 03 00 01 00', 'MQTT-3.10.3-2 82'],
  ['UNSUBSCRIBE, a subscription identifier', "a2 08 00 01 02 0b 01 00 01 't'", 'section 2.2.2.2 81'],
])

table('DISCONNECT and AUTH of a client', [
  ['a code that only a server sends', 'e0 01 8b', 'MQTT-3.14.2-1 82'],
  ['a code that there is not', 'e0 01 7f', 'MQTT-3.14.2-1 82'],
  ['properties that are cut off', 'e0 02 00 05', 'section 2.2.2.1 81'],
  ['bytes behind', 'e0 03 00 00 00', 'section 3.14 81'],
  ['AUTH, success', 'f0 00', 'MQTT-3.15.2-1 82'],
  ['AUTH, a code alone', 'f0 01 18', 'section 3.15 81'],
  ['AUTH without a method', 'f0 02 18 00', 'section 3.15.2.2.2 82'],
  ['AUTH, bytes behind', "f0 07 18 04 15 00 01 'm' 00", 'section 3.15 81'],
])

table(
  'what a server sends',
  [
    ['a client’s packet', 'c0 00', 'section 2.1.2 82'],
    ['CONNACK, a reserved flag', '20 03 02 00 00', 'MQTT-3.2.2-1 81'],
    ['CONNACK, a code that there is not', '20 03 00 01 00', 'MQTT-3.2.2-8 82'],
    ['CONNACK, present and refused', '20 03 01 87 00', 'MQTT-3.2.2-6 82'],
    ['CONNACK without properties', '20 02 00 00', 'section 3.2 81'],
    ['CONNACK, maximum QoS 2', '20 05 00 00 02 24 02', 'section 2.2.2.2 82'],
    ['CONNACK, retain available 2', '20 05 00 00 02 25 02', 'section 2.2.2.2 82'],
    ['CONNACK, bytes behind', '20 04 00 00 00 00', 'section 3.2 81'],
    ['SUBACK without a code', '90 03 00 01 00', 'section 3.9.3 81'],
    ['SUBACK, a code that there is not', '90 04 00 01 00 03', 'MQTT-3.9.3-2 82'],
    ['SUBACK, packet id 0', '90 04 00 00 00 00', 'MQTT-2.2.1-6 82'],
    ['UNSUBACK, a code of SUBACK', 'b0 04 00 01 00 01', 'MQTT-3.11.3-2 82'],
    ['DISCONNECT with a session expiry interval', 'e0 07 00 05 11 00 00 00 01', 'MQTT-3.14.2-2 82'],
    ['DISCONNECT with will', 'e0 01 04', 'MQTT-3.14.2-1 82'],
    ['AUTH, authenticate anew', "f0 06 19 04 15 00 01 'm'", 'MQTT-3.15.2-1 82'],
  ],
  { from: 'server' },
)

test('every property is refused where it does not belong, and twice where it does', () => {
  // Table 2-4, by hand: identifier, a value, and the packets that may have it (w: will).
  const properties: readonly (readonly [number, string, string])[] = [
    [0x01, '01', 'publish will'],
    [0x02, '00 00 00 01', 'publish will'],
    [0x03, "00 01 'a'", 'publish will'],
    [0x08, "00 01 'a'", 'publish will'],
    [0x09, "00 01 'a'", 'publish will'],
    [0x0b, '01', 'subscribe'],
    [0x11, '00 00 00 01', 'connect connack disconnect'],
    [0x12, "00 01 'a'", 'connack'],
    [0x13, '00 01', 'connack'],
    [0x15, "00 01 'a'", 'connect connack auth'],
    [0x16, "00 01 'a'", 'connack'],
    [0x17, '01', 'connect'],
    [0x18, '00 00 00 01', 'will'],
    [0x19, '01', 'connect'],
    [0x1a, "00 01 'a'", 'connack'],
    [0x1c, "00 01 'a'", 'connack disconnect'],
    [0x1f, "00 01 'a'", 'connack puback suback unsuback disconnect'],
    [0x21, '00 01', 'connect connack'],
    [0x22, '00 01', 'connect connack'],
    [0x23, '00 01', 'publish'],
    [0x24, '01', 'connack'],
    [0x25, '01', 'connack'],
    [0x26, "00 01 'a' 00 01 'b'", 'connect connack publish will puback subscribe suback unsubscribe unsuback disconnect'],
    [0x27, '00 00 00 01', 'connect connack'],
    [0x28, '01', 'connack'],
    [0x29, '01', 'connack'],
    [0x2a, '01', 'connack'],
  ]
  assert.equal(properties.length, 27)
  const section = (content: Uint8Array): Uint8Array => Buffer.concat([Uint8Array.of(content.length), content])
  const make: Readonly<Record<string, readonly ['client' | 'server', (p: Uint8Array) => Uint8Array]>> = {
    connect: ['client', (p) => packet(0x10, field('MQTT'), [5, 2, 0, 0], section(p), field('c'))],
    will: ['client', (p) => packet(0x10, field('MQTT'), [5, 6, 0, 0, 0], field('c'), section(p), field('w'), field(''))],
    connack: ['server', (p) => packet(0x20, [0, 0], section(p))],
    publish: ['client', (p) => packet(0x30, field('t'), section(p))],
    puback: ['client', (p) => packet(0x40, [0, 1, 0], section(p))],
    subscribe: ['client', (p) => packet(0x82, [0, 1], section(p), field('t'), [0])],
    suback: ['server', (p) => packet(0x90, [0, 1], section(p), [0])],
    unsubscribe: ['client', (p) => packet(0xa2, [0, 1], section(p), field('t'))],
    unsuback: ['server', (p) => packet(0xb0, [0, 1], section(p), [0])],
    disconnect: ['client', (p) => packet(0xe0, [0], section(p))],
    auth: ['client', (p) => packet(0xf0, [0x18], section(p))],
  }
  for (const [name, [from, packetWith]] of Object.entries(make)) {
    for (const [id, value, owners] of properties) {
      const one = Buffer.concat([Uint8Array.of(id), bytes(value)])
      const label = `property ${id} in ${name}`
      if (owners.split(' ').includes(name)) {
        assert.equal(read([packetWith(one)], { from, level: 5 }).violation, undefined, label)
        const twice = wrong(packetWith(Buffer.concat([one, one])), { from })
        if (id === 0x26) assert.equal(twice === undefined || name === 'auth', true, label)
        else assert.match(twice ?? '', / 82$/, `${label}, twice`)
      } else if (!(name === 'auth' && [0x16, 0x1f, 0x26].includes(id)) && !(name === 'connect' && id === 0x16)) {
        assert.match(wrong(packetWith(one), { from }) ?? '', id === 0x0b && name === 'publish' ? /82$/ : /81$/, label)
      }
    }
  }
})

test('bounds of ours are limits, not errors of the peer', () => {
  const limitOf = (stream: Uint8Array, o: Partial<ReadOptions> = {}): unknown => {
    const { violation } = read([stream], { from: 'client', level: 5, ...o })
    return [violation?.kind, violation?.reasonCode]
  }
  const filters = Array.from({ length: limits.mqttFiltersPerPacketMax + 1 }, () => [field('t'), [0]]).flat()
  assert.deepEqual(limitOf(packet(0x82, [0, 1, 0], ...filters)), ['limit', 0x97])
  const pairs = Buffer.concat(Array.from({ length: limits.mqttUserPropertiesMax + 1 }, () => bytes('26 00 00 00 00')))
  const length = [(pairs.length & 127) | 128, pairs.length >> 7]
  assert.deepEqual(limitOf(packet(0xe0, [0], length, pairs)), ['limit', 0x97])
  assert.deepEqual(limitOf(packet(0x30, field('t'), length, pairs)), [undefined, undefined], 'a message keeps all of its own')
  assert.deepEqual(limitOf(packet(0x30, field('t'), [0], Buffer.alloc(100)), { max: 50 }), ['limit', 0x95])
})

test('a door without a sink for level 5 hears that it is not spoken; level 6 is spoken nowhere', () => {
  assert.deepEqual(read([hello5], { from: 'client', level: 4 }), { events: [['unsupported', 5]], violation: undefined })
  assert.deepEqual(read([bytes("10 0e 00 04 'MQTT' 06 02 00 0a 00 00 01 'c'")], { from: 'client', level: 5 }).events, [['unsupported', 6]])
  assert.deepEqual(read([bytes("10 0e 00 06 'MQIsdp' 05 02 00 0a 00 00")], { from: 'client', level: 5 }).events, [['unsupported', 5]])
})
