import { bytesOf, field, packet } from './client-packets.ts'

/**
 * Packets that a client may or may not send, and what is to come of it, made from a short description of both standards and not from our codec.
 * Statements of MQTT 5 unless the level says otherwise.
 */
export interface PacketCase {
  readonly name: string
  readonly level: 4 | 5
  /** Sent in place of the CONNECT; else behind one that was accepted. */
  readonly first: boolean
  readonly bytes: Uint8Array
  /**
   * The connection stays, or is closed without a word; or it is closed with one of these codes, in DISCONNECT or, in place of a CONNECT, in CONNACK.
   */
  readonly want: 'stays' | 'closes' | readonly number[]
  /** The first packet that is sent back, in hex. */
  readonly answer?: RegExp
}

export const malformed: readonly number[] = [0x81]
export const protocolError: readonly number[] = [0x82]
/** Two things are wrong, or the standard says neither: what is found first counts. */
export const either: readonly number[] = [0x81, 0x82]

export type Want = PacketCase['want']
export type Part = Uint8Array | number[]

let clients = 0
/** Each case is a client of its own. */
export const nextId = (): Uint8Array => field(`c${++clients}`)

export const illFormed: readonly string[] = [
  '00',
  '61 00',
  'c0 80',
  'c1 bf',
  'e0 9f bf',
  'ed a0 80',
  'ed bf bf',
  'f0 8f bf bf',
  'f4 90 80 80',
  'f5 80 80 80',
  '80',
  'ff',
  'c2',
  'e2 82',
]
export const disallowed: readonly string[] = ['01', '0a', '1f', '7f', 'c2 80', 'c2 9f', 'ef b7 90', 'ef bf be', 'ef bf bf', 'f0 9f bf bf']
export const fineText: readonly string[] = ['ef bb bf 61', 'c3 a9', 'ef bf bd', 'f0 9f 98 80', 'f0 aa 9b 94']

export const hexOf = (n: number): string => n.toString(16).padStart(2, '0')

/** First bytes of acknowledgements. */
export const types = { puback: 0x40, pubrec: 0x50, pubrel: 0x62, pubcomp: 0x70 } as const

/** Packets with nothing wrong, by type; of what only a server sends, as it would. */
export const bodies: Readonly<Record<number, Part>> = {
  0: [],
  1: Uint8Array.from([...field('MQTT'), 5, 2, 0, 0, 0, 0, 1, 0x78]),
  2: [0, 0, 0],
  3: [0, 1, 0x74, 0, 1, 0, 0x70],
  4: [0, 1],
  5: [0, 1],
  6: [0, 1],
  7: [0, 1],
  8: [0, 1, 0, 0, 1, 0x61, 0],
  9: [0, 1, 0, 0],
  10: [0, 1, 0, 0, 1, 0x61],
  11: [0, 1, 0, 0],
  12: [],
  13: [],
  14: [],
  15: [],
}

export const wrongFilters: readonly string[] = ['', 'a#', '#/a', 'a/#/b', '##', 'a+', '+a', 'a/+b', 'a/b+/c', '++']
export const rightFilters: readonly string[] = ['#', '+', '+/+', 'a/+/b', 'a/#', '/', '//', '+/#', '$SYS/#', '$share/g/#', '$share/g//', ' ', 'a b']

// --- CONNECT ---

/** Flags and fields, in either version. */
export function* connects(level: 4 | 5): Generator<PacketCase, void> {
  const none: Part = level === 5 ? [0] : []
  const make = (name: string, want: Want, answer: RegExp | undefined, ...parts: Part[]): PacketCase => ({
    name: `CONNECT, ${name}`,
    level,
    first: true,
    bytes: packet(0x10, ...parts),
    want: level === 5 || want === 'stays' ? want : 'closes',
    ...(answer === undefined ? {} : { answer }),
  })
  for (let flags = 0; flags < 256; flags++) {
    const hasWill = (flags & 4) !== 0
    const parts: Part[] = [field('MQTT'), [level, flags, 0, 0], none, nextId()]
    if (hasWill) parts.push(none, field('w'), field('m'))
    if ((flags & 0x80) !== 0) parts.push(field('u'))
    if ((flags & 0x40) !== 0) parts.push(field('p'))
    const wrong = (flags & 1) !== 0 || (hasWill ? (flags & 0x18) === 0x18 : (flags & 0x38) !== 0)
    const alone = level === 4 && (flags & 0xc0) === 0x40
    yield make(`flags ${hexOf(flags)}`, wrong || alone ? malformed : 'stays', undefined, ...parts)
  }
  for (const name of ['MQTX', 'mqtt', 'MQT', 'MQTTT', '', 'MQIsdp']) {
    yield make(
      `protocol name "${name}"`,
      'closes',
      name === 'MQIsdp' ? (level === 5 ? /^20 03 00 84 00$/ : /^20 02 00 01$/) : undefined,
      field(name),
      [level, 2, 0, 0],
      none,
      nextId(),
    )
  }
  for (const wrong of [0, 1, 2, 6, 127, 128 + level, 255]) {
    yield make(`level ${wrong}`, 'closes', /^20 02 00 01$/, field('MQTT'), [wrong, 2, 0, 0], none, nextId())
  }
  const named = (flags: number, ...payload: Part[]): Part[] => [field('MQTT'), [level, flags, 0, 0], none, ...payload]
  for (const [texts, want] of [
    [illFormed, malformed],
    [disallowed, malformed],
  ] as const) {
    for (const text of texts) {
      const bytes = field(bytesOf(text))
      yield make(`client id ${text}`, want, undefined, ...named(2, bytes))
      yield make(`user name ${text}`, want, undefined, ...named(0x82, nextId(), bytes))
      yield make(`will topic ${text}`, want, undefined, ...named(6, nextId(), none, bytes, field('')))
    }
  }
  for (const text of fineText) {
    const bytes = field(bytesOf(text))
    yield make(`client id ${text}`, 'stays', undefined, ...named(2, bytes))
    yield make(`user name ${text}`, 'stays', undefined, ...named(0x82, nextId(), bytes))
  }
  for (const text of [...illFormed, ...disallowed]) {
    yield make(`password ${text}`, 'stays', undefined, ...named(0xc2, nextId(), field('u'), field(bytesOf(text))))
    yield make(`will payload ${text}`, 'stays', undefined, ...named(6, nextId(), none, field('w'), field(bytesOf(text))))
  }
  for (const topic of ['', '+', '#', 'a/+', 'a/#'])
    yield make(`will topic "${topic}"`, malformed, undefined, ...named(6, nextId(), none, field(topic), field('')))
  yield make('no user name', malformed, undefined, ...named(0x82, nextId()))
  yield make('no password', malformed, undefined, ...named(0xc2, nextId(), field('u')))
  yield make('a user name without its flag', malformed, undefined, ...named(2, nextId(), field('u')))
  yield make('a password without its flag', malformed, undefined, ...named(0x82, nextId(), field('u'), field('p')))
  yield make('no client id', malformed, undefined, ...named(2))
  yield make('an empty client id with Clean Start 1', 'stays', undefined, ...named(2, field('')))
  if (level === 5) yield make('an empty client id with Clean Start 0', 'stays', undefined, ...named(0, field('')))
  else yield make('an empty client id with Clean Session 0', 'closes', /^20 02 00 02$/, ...named(0, field('')))
  yield { name: 'a second CONNECT', level, first: false, bytes: packet(0x10, ...named(2, nextId())), want: level === 5 ? protocolError : 'closes' }
}
