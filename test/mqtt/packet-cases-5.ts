import { bytesOf, field, packet } from './client-packets.ts'
import {
  bodies,
  connects,
  disallowed,
  either,
  fineText,
  hexOf,
  illFormed,
  malformed,
  nextId,
  protocolError,
  rightFilters,
  types,
  wrongFilters,
} from './packet-cases.ts'
import type { PacketCase, Part, Want } from './packet-cases.ts'
import { carriers, carry, fine, isFirst, properties, section } from './packet-properties-5.ts'

// --- reason codes ---

const received = [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]
const released = [0, 0x92]
const left = [0, 4, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]

function* reasonCodes(): Generator<PacketCase, void> {
  for (let code = 0; code < 256; code++) {
    const of = (name: string, first: number, head: number[], behind: number[], want: Want, answer?: RegExp): PacketCase => ({
      name: `${name} with reason code ${hexOf(code)}${behind.length > 0 ? ' and no properties' : ''}`,
      level: 5,
      first: false,
      bytes: packet(first, [...head, code, ...behind]),
      want,
      ...(answer === undefined ? {} : { answer }),
    })
    for (const behind of [[], [0]]) {
      yield of('PUBACK', 0x40, [0, 1], behind, received.includes(code) ? 'stays' : protocolError, received.includes(code) ? /^d0/ : undefined)
      // A packet id that is not known.
      const answer = !received.includes(code) ? undefined : code < 0x80 ? /^62 .. 00 01 92/ : /^d0/
      yield of('PUBREC', 0x50, [0, 1], behind, received.includes(code) ? 'stays' : protocolError, answer)
      yield of(
        'PUBREL',
        0x62,
        [0, 1],
        behind,
        released.includes(code) ? 'stays' : protocolError,
        released.includes(code) ? /^70 .. 00 01 92/ : undefined,
      )
      yield of('PUBCOMP', 0x70, [0, 1], behind, released.includes(code) ? 'stays' : protocolError)
      yield of('DISCONNECT', 0xe0, [], behind, left.includes(code) ? 'closes' : protocolError)
    }
    yield of('AUTH', 0xf0, [], [4, 0x15, 0, 1, 0x70], protocolError)
  }
}

// --- fixed header (chapter 2) ---

const serversOnly = [2, 9, 11, 13]

function* fixedHeaders(): Generator<PacketCase, void> {
  for (let first = 0; first < 256; first++) {
    const type = first >> 4
    const flags = first & 15
    const body = bodies[type] ?? []
    const right = type === 3 ? (flags & 6) !== 6 && (flags & 14) !== 8 : flags === (type === 6 || type === 8 || type === 10 ? 2 : 0)
    const name = `first byte ${hexOf(first)}`
    if (type !== 3 || !right) {
      let want: Want = malformed
      if (serversOnly.includes(type) || type === 0) want = either
      else if (right) want = type === 1 || type === 15 ? protocolError : type === 14 ? 'closes' : 'stays'
      yield { name, level: 5, first: false, bytes: packet(first, body), want }
    }
    if (type === 1 && right) continue
    // What a client speaks is not known yet.
    for (const level of [4, 5] as const) yield { name: `${name}, before the CONNECT`, level, first: true, bytes: packet(first, body), want: 'closes' }
  }
  for (const type of [3, 4, 6, 8, 10, 12, 14, 15]) {
    const first = (type << 4) | (type === 3 || type === 6 || type === 8 || type === 10 ? 2 : 0)
    for (const length of ['80 80 80 80 01', 'ff ff ff ff 7f', 'ff ff ff ff ff']) {
      const bytes = Uint8Array.from([first, ...bytesOf(length)])
      yield { name: `type ${type}, a remaining length ${length}`, level: 5, first: false, bytes, want: malformed }
    }
    const body = Buffer.from(bodies[type] ?? [])
    const bytes = Buffer.concat([Uint8Array.of(first, 0x80 | body.length, 0), body])
    yield { name: `type ${type}, a remaining length with a byte too many`, level: 5, first: false, bytes, want: malformed }
  }
  yield { name: 'CONNECT, a remaining length of five bytes', level: 5, first: true, bytes: bytesOf('10 ff ff ff ff 7f'), want: 'closes' }
  yield { name: 'PINGREQ with a body', level: 5, first: false, bytes: bytesOf('c0 01 00'), want: malformed }
}

/** Each packet cut short, and with a byte behind its end. */
function* lengths(): Generator<PacketCase, void> {
  for (const carrier of carriers) {
    const whole = carry(carrier, [0])
    const short = { puback: [2, 3], pubrec: [2, 3], pubrel: [2, 3], pubcomp: [2, 3], disconnect: [0, 1], publish: [6], auth: [0] }
    const allowed: Readonly<Record<string, readonly number[]>> = short
    for (let length = 0; length < whole.length - 2; length++) {
      const bytes = Buffer.concat([Uint8Array.of(whole[0]!, length), whole.subarray(2, 2 + length)])
      let want: Want = either
      if (allowed[carrier]?.includes(length) === true) want = fine(carrier)
      // Without its level nobody knows how to answer.
      else if (isFirst(carrier)) want = length < 7 ? 'closes' : malformed
      yield { name: `${carrier}, ${length} bytes of ${whole.length - 2}`, level: 5, first: isFirst(carrier), bytes, want }
    }
    if (carrier === 'publish') continue
    const bytes = carry(carrier, [0], [0])
    yield { name: `${carrier}, a byte behind its end`, level: 5, first: isFirst(carrier), bytes, want: malformed }
  }
}

// --- topics and filters ---

const wrongShares = ['$share/', '$share//a', '$share/g', '$share/g/', '$share/+/a', '$share/#', '$share/g+/a', '$share/g#/a', '$share/g/a#']

function* topics(): Generator<PacketCase, void> {
  const make = (name: string, bytes: Uint8Array, want: Want, answer?: RegExp): PacketCase => ({
    name,
    level: 5,
    first: false,
    bytes,
    want,
    ...(answer === undefined ? {} : { answer }),
  })
  const say = (qos: number, topic: Uint8Array, content: Part, id = 1): Uint8Array =>
    packet(0x30 | (qos << 1), topic, qos === 0 ? [] : [id >> 8, id & 255], content, [0x70])
  for (const qos of [0, 1, 2]) {
    for (const topic of ['+', '#', 'a/+', 'a/#', 'a+', '#a'])
      yield make(`PUBLISH at QoS ${qos} to "${topic}"`, say(qos, field(topic), [0]), malformed)
    for (const text of [...illFormed, ...disallowed]) yield make(`PUBLISH at QoS ${qos} to ${text}`, say(qos, field(bytesOf(text)), [0]), malformed)
    for (const text of fineText) yield make(`PUBLISH at QoS ${qos} to ${text}`, say(qos, field(bytesOf(text)), [0]), 'stays')
    yield make(`PUBLISH at QoS ${qos} without a topic`, say(qos, field(''), [0]), protocolError)
    yield make(`PUBLISH at QoS ${qos} with an alias that has no topic`, say(qos, field(''), section('23 00 05')), protocolError)
    yield make(`PUBLISH at QoS ${qos} with a topic that is longer than the packet`, packet(0x30 | (qos << 1), [0, 200, 0x61]), malformed)
    if (qos > 0) yield make(`PUBLISH at QoS ${qos} with packet id 0`, say(qos, field('t'), [0], 0), protocolError)
  }
  const subscribeTo = (filter: Uint8Array, options = 0): Uint8Array => packet(0x82, [0, 1, 0], filter, [options])
  const leave = (filter: Uint8Array): Uint8Array => packet(0xa2, [0, 1, 0], filter)
  for (const filter of [...wrongFilters, ...wrongShares]) {
    yield make(`SUBSCRIBE to "${filter}"`, subscribeTo(field(filter)), malformed)
    yield make(`UNSUBSCRIBE from "${filter}"`, leave(field(filter)), malformed)
    yield make(`SUBSCRIBE to "a" and "${filter}"`, packet(0x82, [0, 1, 0], field('a'), [0], field(filter), [0]), malformed)
    yield make(`UNSUBSCRIBE from "a" and "${filter}"`, packet(0xa2, [0, 1, 0], field('a'), field(filter)), malformed)
  }
  for (const filter of rightFilters) {
    yield make(`SUBSCRIBE to "${filter}"`, subscribeTo(field(filter), 1), 'stays', /^90 04 00 01 00 01$/)
    yield make(`UNSUBSCRIBE from "${filter}"`, leave(field(filter)), 'stays', /^b0 04 00 01 00 11$/)
  }
  for (const text of [...illFormed, ...disallowed]) {
    yield make(`SUBSCRIBE to ${text}`, subscribeTo(field(bytesOf(text))), malformed)
    yield make(`UNSUBSCRIBE from ${text}`, leave(field(bytesOf(text))), malformed)
  }
  for (let options = 0; options < 256; options++) {
    const want = (options & 0xc0) !== 0 ? malformed : (options & 3) === 3 || (options & 0x30) === 0x30 ? protocolError : 'stays'
    const granted = want === 'stays' ? new RegExp(`^90 04 00 01 00 0${options & 3}$`) : undefined
    yield make(`SUBSCRIBE with options ${hexOf(options)}`, subscribeTo(field('a'), options), want, granted)
    const local = want === 'stays' && (options & 4) !== 0
    yield make(
      `shared SUBSCRIBE with options ${hexOf(options)}`,
      subscribeTo(field('$share/g/a'), options),
      local ? protocolError : want,
      local ? undefined : granted,
    )
  }
  yield make('SUBSCRIBE without a filter', packet(0x82, [0, 1, 0]), protocolError)
  yield make('UNSUBSCRIBE without a filter', packet(0xa2, [0, 1, 0]), protocolError)
  yield make('SUBSCRIBE with packet id 0', packet(0x82, [0, 0, 0], field('a'), [0]), protocolError)
  yield make('UNSUBSCRIBE with packet id 0', packet(0xa2, [0, 0, 0], field('a')), protocolError)
  for (const [name, first] of Object.entries(types)) yield make(`${name} with packet id 0`, packet(first, [0, 0]), protocolError)
}

// --- what the fields say together, and what comes again ---

function* wholes(): Generator<PacketCase, void> {
  const make = (name: string, bytes: Uint8Array, want: Want, answer?: RegExp, first = false): PacketCase => ({
    name,
    level: 5,
    first,
    bytes,
    want,
    ...(answer === undefined ? {} : { answer }),
  })
  const say = (qos: number, o: { topic?: string; content?: Part; text?: Part; flags?: number } = {}): Uint8Array =>
    packet(0x30 | (qos << 1) | (o.flags ?? 0), field(o.topic ?? 't'), qos === 0 ? [] : [0, 7], o.content ?? [0], o.text ?? [0x70])
  const ack = (qos: number, code?: string): RegExp | undefined =>
    qos === 0 ? /^d0/ : new RegExp(`^${qos === 1 ? '40' : '50'} .. 00 07${code === undefined ? '' : ` ${code}`}`)
  for (const qos of [0, 1, 2]) {
    for (const [text, lies] of [
      ...illFormed.map((one) => [one, one !== '00' && one !== '61 00'] as const),
      ...fineText.map((one) => [one, false] as const),
    ]) {
      const name = `PUBLISH at QoS ${qos} of ${text}`
      yield make(`${name}, said to be UTF-8`, say(qos, { content: section('01 01'), text: bytesOf(text) }), 'stays', ack(qos, lies ? '99' : '10'))
      yield make(`${name}, said to be bytes`, say(qos, { content: section('01 00'), text: bytesOf(text) }), 'stays', ack(qos, '10'))
    }
    for (const [topic, code] of [
      ['$SYS/broker/uptime', '87'],
      ['$SYS/', '87'],
      ['$share/g/a', '90'],
      ['$other/a', '10'],
    ] as const) {
      yield make(`PUBLISH at QoS ${qos} to "${topic}"`, say(qos, { topic }), 'stays', ack(qos, code))
    }
    if (qos === 0) continue
    for (const flags of [0, 8]) {
      const again = Array.from({ length: 3 }, () => say(qos, { flags }))
      yield make(`PUBLISH at QoS ${qos} with the same packet id, three times, flags ${flags}`, Buffer.concat(again), 'stays', ack(qos, '10'))
    }
  }
  const lie = section('01 01')
  const will = (topic: string, content: Part, text: Part): Uint8Array =>
    packet(0x10, field('MQTT'), [5, 6, 0, 0], [0], nextId(), content, field(topic), text)
  yield make('CONNECT with a will that is said to be UTF-8 and is not', will('w', lie, field(bytesOf('ff'))), [0x99], undefined, true)
  yield make('CONNECT with a will that is UTF-8', will('w', lie, field('é')), 'stays', undefined, true)
  for (const topic of ['$SYS/a', '$share/g/a']) yield make(`CONNECT with a will to "${topic}"`, will(topic, [0], field('')), [0x90], undefined, true)
  for (const data of ['', ' 16 00 01 70'])
    yield make(`CONNECT with an authentication method${data}`, carry('connect', section(`15 00 01 70${data}`)), [0x8c], undefined, true)
  // Of a session that ends with its connection.
  yield make('DISCONNECT that lengthens the session', packet(0xe0, [0], section('11 00 00 00 01')), protocolError)
  yield make('DISCONNECT that lengthens the session for ever', packet(0xe0, [4], section('11 ff ff ff ff')), protocolError)
  yield make('DISCONNECT with a session of 0', packet(0xe0, [0], section('11 00 00 00 00')), 'closes')
  for (const first of [0x00, 0x0a, 0x20, 0x36, 0x80, 0xd0])
    yield make(`first byte ${hexOf(first)} without a length`, Uint8Array.of(first, 0xc0), either)
  const twice = (type: number, ...parts: Part[]): Uint8Array => packet(type, [0, 1, 0], ...parts, ...parts)
  yield make('SUBSCRIBE to the same filter twice', twice(0x82, field('a'), [1]), 'stays', /^90 05 00 01 00 01 01$/)
  yield make('UNSUBSCRIBE from the same filter twice', twice(0xa2, field('a')), 'stays', /^b0 05 00 01 00 11 11$/)
}

/** Of MQTT 5. */
export const cases5 = {
  properties,
  reasonCodes,
  fixedHeaders,
  lengths,
  connects: (): Generator<PacketCase, void> => connects(5),
  topics,
  wholes,
} as const
