import { bytesOf, connect, field, packet, publish, subscribe, unsubscribe } from './client-packets.ts'
import { bodies, connects, disallowed, hexOf, illFormed, rightFilters, types, wrongFilters } from './packet-cases.ts'
import type { PacketCase, Part, Want } from './packet-cases.ts'

/** Of MQTT 3.1.1: what is wrong is closed without a word. */
export function* cases311(): Generator<PacketCase, void> {
  const make = (name: string, bytes: Uint8Array, want: Want, answer?: RegExp): PacketCase => ({
    name,
    level: 4,
    first: false,
    bytes,
    want,
    ...(answer === undefined ? {} : { answer }),
  })
  yield* connects(4)
  // 3.1, which says its name otherwise and knows no client without an id.
  const hello31 = (clientId: string): Uint8Array => connect({ name: 'MQIsdp', level: 3, clientId })
  yield { name: 'CONNECT of 3.1', level: 4, first: true, bytes: hello31('old'), want: 'stays', answer: /^20 02 00 00$/ }
  yield { name: 'CONNECT of 3.1 without a client id', level: 4, first: true, bytes: hello31(''), want: 'closes', answer: /^20 02 00 02$/ }
  // Its bit 0 of the flags is not used.
  for (let flags = 0; flags < 256; flags++) {
    const hasWill = (flags & 4) !== 0
    const parts: Part[] = [field('MQIsdp'), [3, flags, 0, 0], field(`old-${flags}`)]
    if (hasWill) parts.push(field('w'), field('m'))
    if ((flags & 0x80) !== 0) parts.push(field('u'))
    if ((flags & 0x40) !== 0) parts.push(field('p'))
    const wrong = (hasWill ? (flags & 0x18) === 0x18 : (flags & 0x38) !== 0) || (flags & 0xc0) === 0x40
    yield { name: `CONNECT of 3.1, flags ${hexOf(flags)}`, level: 4, first: true, bytes: packet(0x10, ...parts), want: wrong ? 'closes' : 'stays' }
  }
  const bodies311: Readonly<Record<number, Part>> = {
    ...bodies,
    1: connect().subarray(2),
    2: [0, 0],
    3: [0, 1, 0x74, 0, 1],
    8: [0, 1, 0, 1, 0x61, 0],
    9: [0, 1, 0],
  }
  const bodyOf = (type: number): Part => (type === 10 ? [0, 1, 0, 1, 0x61] : type === 11 ? [0, 1] : (bodies311[type] ?? []))
  for (let first = 0; first < 256; first++) {
    const type = first >> 4
    const flags = first & 15
    const right = type === 3 ? (flags & 6) !== 6 && (flags & 14) !== 8 : flags === (type === 6 || type === 8 || type === 10 ? 2 : 0)
    const sent = right && type > 2 && type < 15 && ![9, 11, 13, 14].includes(type)
    yield make(`first byte ${hexOf(first)}`, packet(first, bodyOf(type)), sent ? 'stays' : 'closes')
  }
  // Of packets that have one length only, another.
  for (const [type, right] of [
    [4, 2],
    [5, 2],
    [6, 2],
    [7, 2],
    [12, 0],
    [14, 0],
  ] as const) {
    const first = (type << 4) | (type === 6 ? 2 : 0)
    for (let length = 0; length < 5; length++)
      if (length !== right) yield make(`type ${type} of ${length} bytes`, packet(first, [0, 1, 0, 0, 0].slice(0, length)), 'closes')
  }
  for (const type of [3, 4, 8, 10, 12, 14]) {
    const first = (type << 4) | (type === 3 || type === 8 || type === 10 ? 2 : 0)
    yield make(`type ${type}, a remaining length of five bytes`, Uint8Array.of(first, 0x80, 0x80, 0x80, 0x80, 0x01), 'closes')
  }
  for (const whole of [publish('t', 'p', { qos: 1 }), subscribe(1, ['a', 0]), unsubscribe(1, 'a')]) {
    const content = whole.length - 2 - (whole[0] === 0x32 ? 1 : 0)
    for (let length = 0; length < content; length++)
      yield make(
        `type ${whole[0]! >> 4}, ${length} bytes of ${content}`,
        Buffer.concat([Uint8Array.of(whole[0]!, length), whole.subarray(2, 2 + length)]),
        'closes',
      )
    if (whole[0] !== 0x32) yield make(`type ${whole[0]! >> 4}, a byte behind its end`, packet(whole[0]!, whole.subarray(2), [0]), 'closes')
  }
  for (const text of [...illFormed, ...disallowed]) {
    const bytes = bytesOf(text)
    yield make(`PUBLISH to ${text}`, publish(bytes, 'x'), 'closes')
    yield make(`SUBSCRIBE to ${text}`, packet(0x82, [0, 1], field(bytes), [0]), 'closes')
    yield make(`UNSUBSCRIBE from ${text}`, packet(0xa2, [0, 1], field(bytes)), 'closes')
    yield make(`PUBLISH of ${text}`, publish('t', bytes), 'stays')
  }
  for (const topic of ['', '+', '#', 'a/+', 'a/#']) yield make(`PUBLISH to "${topic}"`, publish(topic, 'x', { qos: 1 }), 'closes')
  for (const filter of wrongFilters) {
    yield make(`SUBSCRIBE to "${filter}"`, subscribe(1, [filter, 0]), 'closes')
    yield make(`UNSUBSCRIBE from "${filter}"`, unsubscribe(1, filter), 'closes')
    yield make(`SUBSCRIBE to "a" and "${filter}"`, subscribe(1, ['a', 0], [filter, 0]), 'closes')
  }
  for (const filter of rightFilters) {
    yield make(`SUBSCRIBE to "${filter}"`, subscribe(1, [filter, 1]), 'stays', /^90 03 00 01 01$/)
    yield make(`UNSUBSCRIBE from "${filter}"`, unsubscribe(1, filter), 'stays', /^b0 02 00 01$/)
  }
  for (let qos = 0; qos < 256; qos++) yield make(`SUBSCRIBE at QoS ${qos}`, subscribe(1, ['a', qos]), qos < 3 ? 'stays' : 'closes')
  for (const qos of [1, 2]) yield make(`PUBLISH at QoS ${qos} with packet id 0`, publish('t', 'x', { qos, id: 0 }), 'closes')
  yield make('SUBSCRIBE with packet id 0', subscribe(0, ['a', 0]), 'closes')
  yield make('UNSUBSCRIBE with packet id 0', unsubscribe(0, 'a'), 'closes')
  yield make('SUBSCRIBE without a filter', packet(0x82, [0, 1]), 'closes')
  yield make('UNSUBSCRIBE without a filter', packet(0xa2, [0, 1]), 'closes')
  for (const [name, first] of Object.entries(types)) yield make(`${name} with packet id 0`, packet(first, [0, 0]), 'closes')
  // The first byte is enough.
  for (const first of [0x00, 0x0a, 0x20, 0x36, 0x80, 0xf0])
    yield make(`first byte ${hexOf(first)} without a length`, Uint8Array.of(first, 0xc0), 'closes')
  // What comes again.
  const twice = (one: Uint8Array): Uint8Array => Buffer.concat([one, one])
  for (const dup of [false, true]) {
    const say = (qos: number): Uint8Array => publish('t', 'x', { qos, id: 7, dup })
    yield make(`PUBLISH at QoS 1 with the same packet id, DUP ${dup}`, twice(say(1)), 'stays', /^40 02 00 07$/)
    yield make(`PUBLISH at QoS 2 with the same packet id, three times, DUP ${dup}`, Buffer.concat([twice(say(2)), say(2)]), 'stays', /^50 02 00 07$/)
  }
  yield make('SUBSCRIBE to the same filter twice', subscribe(1, ['a', 1], ['a', 2]), 'stays', /^90 04 00 01 01 02$/)
  yield make('UNSUBSCRIBE from the same filter twice', unsubscribe(1, 'a', 'a'), 'stays', /^b0 02 00 01$/)
  for (const [name, first] of Object.entries(types)) {
    const answer = name === 'pubrec' ? /^62 02 00 09$/ : name === 'pubrel' ? /^70 02 00 09$/ : /^d0 00$/
    yield make(`${name} of what is not under way`, packet(first, [0, 9]), 'stays', answer)
  }
  for (const topic of ['$SYS/broker/uptime', '$share/g/a', '$SYS/', '$other/a', '$'])
    yield make(`PUBLISH to "${topic}"`, publish(topic, 'x', { qos: 2, id: 7 }), 'stays', /^50 02 00 07$/)
}
