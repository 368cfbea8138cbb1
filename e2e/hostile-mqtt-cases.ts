/** What e2e/hostile-mqtt.test.ts sends, one row each: single packets that are wrong, or that no client sends. */
import { Buffer } from 'node:buffer'
import { SimRandom } from '../test/sim/random.ts'
import { ack, connect, field, packet, publish, subscribe, unsubscribe } from '../test/mqtt/client-packets.ts'
import { connect5, none, properties, publish5, subscribe5, unsubscribe5, userProperty, vbi, type Level } from './hostile-mqtt-wire.ts'

export interface HostilePacket {
  readonly name: string
  /** Undefined: sent in place of CONNECT. */
  readonly greeted?: Level
  readonly bytes: Uint8Array
  /**
   * `closes`: the connection must end; `stays`: it must not; else either will do. A number: it ends, and DISCONNECT or CONNACK says this reason.
   */
  readonly outcome: 'closes' | 'stays' | 'either' | number
  /** The client closes its half behind the packet: what is incomplete stays so. */
  readonly half?: true
}

const text65k = 'x'.repeat(65_535)
const deep = Array.from({ length: 1_000 }, () => 'l').join('/')
const will5 = Buffer.concat([properties([0x18, 0, 0, 0, 1], userProperty('a', 'b')), field('hostile/will'), field('gone')])

/** Packets that are right, whole, and made of all that their kind may have. */
const right: readonly (readonly [string, Level | undefined, Uint8Array])[] = [
  ['CONNECT', undefined, connect({ clientId: 'mutant', will: { topic: 'hostile/will', payload: 'x', qos: 1 }, username: 'u', password: 'p' })],
  [
    'CONNECT 5',
    undefined,
    packet(
      0x10,
      field('MQTT'),
      [5, 0xce, 0, 60],
      properties([0x11, 0, 0, 0, 0], [0x21, 0, 9], [0x27, 0, 1, 0, 0], [0x22, 0, 3], [0x19, 1], userProperty('a', 'b')),
      [...field('mutant5'), ...will5, ...field('u'), ...field('p')],
    ),
  ],
  ['PUBLISH', 3, publish('hostile/m', 'payload', { qos: 1, id: 7 })],
  [
    'PUBLISH 5',
    5,
    publish5('hostile/m', 'payload', {
      qos: 1,
      id: 7,
      properties: properties([1, 1], [2, 0, 0, 0, 9], [0x23, 0, 1], [8, ...field('r')], [9, ...field('c')], userProperty('a', 'b'), [
        3,
        ...field('t'),
      ]),
    }),
  ],
  ['SUBSCRIBE', 3, subscribe(1, ['hostile/+', 1], ['hostile/#', 0])],
  [
    'SUBSCRIBE 5',
    5,
    packet(0x82, [0, 1], properties([0x0b, ...vbi(300)], userProperty('a', 'b')), field('hostile/+'), [0x2d], field('$share/g/hostile/#'), [1]),
  ],
  ['UNSUBSCRIBE', 3, unsubscribe(1, 'hostile/+', 'hostile/#')],
  ['UNSUBSCRIBE 5', 5, unsubscribe5(1, 'hostile/+', '$share/g/hostile/#')],
  ['PUBREC 5', 5, packet(0x50, [0, 9, 0x92], properties([0x1f, ...field('why')], userProperty('a', 'b')))],
  ['PUBREL', 3, ack(0x62, 9)],
  ['DISCONNECT 5', 5, packet(0xe0, [4], properties([0x11, 0, 0, 0, 0], [0x1f, ...field('why')]))],
]

/** Of a packet: its first byte, and its body without the length. */
function bodyOf(bytes: Uint8Array): readonly [number, Uint8Array] {
  let at = 1
  while (bytes[at]! >= 0x80) at++
  return [bytes[0]!, bytes.subarray(at + 1)]
}

function* mutations(): Generator<HostilePacket> {
  for (const [name, level, bytes] of right) {
    const greeted = level === undefined ? {} : { greeted: level }
    for (let length = 1; length < bytes.length; length++)
      yield { name: `${name} that ends after byte ${length}`, ...greeted, bytes: bytes.subarray(0, length), outcome: 'closes', half: true }
    const [first, body] = bodyOf(bytes)
    for (let length = 0; length < body.length; length += 2)
      yield {
        name: `${name} whose body has ${length} bytes`,
        ...greeted,
        bytes: packet(first, body.subarray(0, length)),
        outcome: 'either',
        half: true,
      }
    for (let at = 0; at < bytes.length; at++)
      for (const flipped of [0xff, 0x80]) {
        const changed = Uint8Array.from(bytes)
        changed[at]! ^= flipped
        yield { name: `${name} with byte ${at} ^ ${flipped.toString(16)}`, ...greeted, bytes: changed, outcome: 'either', half: true }
      }
  }
}

function* noise(): Generator<HostilePacket> {
  const random = new SimRandom(4)
  for (let n = 0; n < 60; n++) {
    const bytes = Uint8Array.from({ length: 1 + random.below(4_000) }, () => random.below(256))
    for (const greeted of [undefined, 3, 5] as const)
      yield { name: `noise ${n}`, ...(greeted === undefined ? {} : { greeted }), bytes, outcome: 'either', half: true }
  }
}

const rows: readonly HostilePacket[] = [
  { name: 'HTTP', bytes: Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), outcome: 'closes' },
  { name: 'TLS', bytes: Buffer.from('16030100a5010000a10303', 'hex'), outcome: 'closes' },
  { name: 'a length of five bytes', bytes: Uint8Array.of(0x10, 0xff, 0xff, 0xff, 0xff, 0x7f), outcome: 'closes' },
  { name: '256 MB in place of CONNECT', bytes: Uint8Array.of(0x10, 0xff, 0xff, 0xff, 0x7f), outcome: 'closes' },
  { name: '256 MB of PUBLISH', greeted: 3, bytes: Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 97), outcome: 'closes' },
  { name: '256 MB of PUBLISH 5', greeted: 5, bytes: Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 97, 0, 1), outcome: 0x95 },
  { name: '256 MB of SUBSCRIBE 5', greeted: 5, bytes: Uint8Array.of(0x82, 0xff, 0xff, 0xff, 0x7f, 0, 1), outcome: 0x95 },
  { name: 'a second CONNECT', greeted: 3, bytes: connect(), outcome: 'closes' },
  { name: 'a second CONNECT 5', greeted: 5, bytes: connect5('again'), outcome: 0x82 },
  { name: 'PINGREQ before CONNECT', bytes: Uint8Array.of(0xc0, 0), outcome: 'closes' },
  { name: 'PUBLISH before CONNECT', bytes: publish('a', 'x'), outcome: 'closes' },
  { name: 'protocol level 6', bytes: connect({ level: 6 }), outcome: 'closes' },
  { name: 'protocol name MQIsdq', bytes: connect({ name: 'MQIsdq' }), outcome: 'closes' },
  { name: 'reserved flag of CONNECT', bytes: connect({ flags: 0x03 }), outcome: 'closes' },
  { name: 'will of QoS 3', bytes: connect({ flags: 0x1e, will: { topic: 'a', payload: 'x' } }), outcome: 'closes' },
  { name: 'a client id of 65,535 bytes', bytes: connect({ clientId: text65k }), outcome: 0x02 },
  { name: 'a client id of 65,535 bytes, 5', bytes: connect5(text65k), outcome: 0x85 },
  { name: 'a client id that is no UTF-8', bytes: connect5(Uint8Array.of(0xc3, 0x28)), outcome: 0x81 },
  { name: 'a client id with U+0000', bytes: connect5('a\u0000b'), outcome: 0x81 },
  { name: 'a user name of 65,535 bytes', bytes: connect({ clientId: 'long-name', username: text65k }), outcome: 'stays' },
  { name: 'an empty client id for good', bytes: connect({ clientId: '', clean: false }), outcome: 0x02 },
  { name: 'a will to $SYS', bytes: connect({ will: { topic: '$SYS/broker/version', payload: '6' } }), outcome: 0x05 },
  { name: 'a will of 1,000 levels', bytes: connect({ will: { topic: deep, payload: 'x' } }), outcome: 0x05 },
  { name: 'authentication', bytes: connect5('auth', { properties: properties([0x15, ...field('SCRAM-SHA-1')]) }), outcome: 0x8c },
  {
    name: '10,000 user properties in CONNECT',
    bytes: connect5('users', { properties: properties(...Array.from({ length: 10_000 }, () => userProperty('a', 'b'))) }),
    outcome: 'closes',
  },
  { name: 'a receive maximum of 0', bytes: connect5('zero', { properties: properties([0x21, 0, 0]) }), outcome: 0x82 },
  { name: 'a packet size of 0', bytes: connect5('zero', { properties: properties([0x27, 0, 0, 0, 0]) }), outcome: 0x82 },
  { name: 'a property twice', bytes: connect5('twice', { properties: properties([0x21, 0, 9], [0x21, 0, 9]) }), outcome: 0x82 },
  { name: 'a property of PUBLISH in CONNECT', bytes: connect5('misplaced', { properties: properties([1, 1]) }), outcome: 'closes' },
  { name: 'a topic of 65,535 bytes', greeted: 3, bytes: publish(text65k, 'x'), outcome: 'closes' },
  { name: 'a topic of 65,535 bytes, 5', greeted: 5, bytes: publish5(text65k, 'x'), outcome: 0x90 },
  { name: 'a topic of 1,000 levels', greeted: 5, bytes: publish5(deep, 'x'), outcome: 0x90 },
  { name: 'a topic with a wildcard', greeted: 5, bytes: publish5('a/+', 'x'), outcome: 'closes' },
  { name: 'no topic and no alias', greeted: 5, bytes: publish5('', 'x'), outcome: 'closes' },
  { name: 'an alias of 0', greeted: 5, bytes: publish5('a', 'x', { properties: properties([0x23, 0, 0]) }), outcome: 0x94 },
  { name: 'an alias above the maximum', greeted: 5, bytes: publish5('a', 'x', { properties: properties([0x23, 0xff, 0xff]) }), outcome: 0x94 },
  { name: 'an alias that nobody has named', greeted: 5, bytes: publish5('', 'x', { properties: properties([0x23, 0, 7]) }), outcome: 'closes' },
  {
    name: 'a subscription identifier from a client',
    greeted: 5,
    bytes: publish5('a', 'x', { properties: properties([0x0b, 1]) }),
    outcome: 'closes',
  },
  {
    name: 'a text that is no UTF-8',
    greeted: 5,
    bytes: publish5('hostile/t', Uint8Array.of(0xc3), { properties: properties([1, 1]) }),
    outcome: 'stays',
  },
  { name: 'QoS 3', greeted: 5, bytes: packet(0x36, field('a'), [0, 1], none), outcome: 0x81 },
  { name: 'DUP of QoS 0', greeted: 5, bytes: packet(0x38, field('a'), none), outcome: 'closes' },
  { name: 'packet id 0', greeted: 5, bytes: publish5('a', 'x', { qos: 1, id: 0 }), outcome: 'closes' },
  {
    name: 'a megabyte of user properties',
    greeted: 5,
    bytes: publish5('hostile/u', 'x', { properties: properties(Buffer.alloc(1_045_000, userProperty('', ''))) }),
    outcome: 0x97,
  },
  {
    name: '1,000 user properties',
    greeted: 5,
    bytes: publish5('hostile/u', 'x', { properties: properties(Buffer.alloc(5_000, userProperty('', ''))) }),
    outcome: 'stays',
  },
  {
    name: '1,000 user properties in SUBSCRIBE',
    greeted: 5,
    bytes: packet(0x82, [0, 1], properties(...Array.from({ length: 1_000 }, () => userProperty('a', 'b'))), field('a'), [0]),
    outcome: 'closes',
  },
  { name: 'SUBSCRIBE without a filter', greeted: 5, bytes: packet(0x82, [0, 1], none), outcome: 0x82 },
  { name: 'SUBSCRIBE with an empty filter', greeted: 5, bytes: subscribe5(1, ['', 0]), outcome: 'closes' },
  { name: 'SUBSCRIBE with a#', greeted: 5, bytes: subscribe5(1, ['a#', 0]), outcome: 'closes' },
  { name: 'SUBSCRIBE of QoS 3', greeted: 5, bytes: subscribe5(1, ['a', 3]), outcome: 'closes' },
  { name: 'SUBSCRIBE with reserved options', greeted: 5, bytes: subscribe5(1, ['a', 0xc0]), outcome: 'closes' },
  { name: 'no local of a shared subscription', greeted: 5, bytes: subscribe5(1, ['$share/g/a', 4]), outcome: 0x82 },
  { name: '$share without a group', greeted: 5, bytes: subscribe5(1, ['$share//a', 0]), outcome: 'either' },
  { name: 'SUBSCRIBE of 1,000 levels', greeted: 5, bytes: subscribe5(1, [deep, 0]), outcome: 'stays' },
  { name: 'SUBSCRIBE of a filter of 65,535 bytes', greeted: 3, bytes: subscribe(1, [text65k, 0]), outcome: 'stays' },
  {
    name: 'more filters than one packet may have',
    greeted: 5,
    bytes: subscribe5(1, ...Array.from({ length: 1_001 }, (_, i) => [`f/${i}`, 0] as const)),
    outcome: 'closes',
  },
  {
    name: 'UNSUBSCRIBE of what is not there',
    greeted: 5,
    bytes: unsubscribe5(1, ...Array.from({ length: 900 }, (_, i) => `nothing/${i}`)),
    outcome: 'stays',
  },
  { name: 'PUBACK of nothing', greeted: 5, bytes: ack(0x40, 1), outcome: 'stays' },
  { name: 'PUBREC of nothing', greeted: 5, bytes: ack(0x50, 1), outcome: 'stays' },
  { name: 'PUBREL of nothing', greeted: 5, bytes: ack(0x62, 1), outcome: 'stays' },
  { name: 'PUBCOMP of nothing', greeted: 3, bytes: ack(0x70, 1), outcome: 'stays' },
  { name: 'PUBACK of id 0', greeted: 5, bytes: ack(0x40, 0), outcome: 'either' },
  { name: 'PUBREL with wrong flags', greeted: 3, bytes: ack(0x60, 1), outcome: 'closes' },
  { name: 'AUTH', greeted: 5, bytes: packet(0xf0, [0x18], properties([0x15, ...field('x')])), outcome: 0x82 },
  { name: 'AUTH in 3.1.1', greeted: 3, bytes: Uint8Array.of(0xf0, 0), outcome: 'closes' },
  { name: 'CONNACK from a client', greeted: 5, bytes: packet(0x20, [0, 0], none), outcome: 'closes' },
  { name: 'SUBACK from a client', greeted: 3, bytes: packet(0x90, [0, 1, 0]), outcome: 'closes' },
  { name: 'PINGREQ with a body', greeted: 5, bytes: packet(0xc0, [1]), outcome: 0x81 },
  { name: 'packet type 0', greeted: 3, bytes: Uint8Array.of(0, 0), outcome: 'closes' },
  { name: 'DISCONNECT that lengthens the session', greeted: 5, bytes: packet(0xe0, [0], properties([0x11, 0, 0, 1, 0])), outcome: 0x82 },
]

export const hostilePackets: readonly HostilePacket[] = [...rows, ...mutations(), ...noise()]
