import { bytesOf, field, packet } from './client-packets.ts'
import { disallowed, fineText, hexOf, illFormed, malformed, nextId, protocolError, types } from './packet-cases.ts'
import type { PacketCase, Part, Want } from './packet-cases.ts'

// --- properties (table 2-4) ---

export const carriers = [
  'connect',
  'will',
  'publish',
  'puback',
  'pubrec',
  'pubrel',
  'pubcomp',
  'subscribe',
  'unsubscribe',
  'disconnect',
  'auth',
] as const
export type Carrier = (typeof carriers)[number]

const message: readonly Carrier[] = ['publish', 'will']
const acks: readonly Carrier[] = ['puback', 'pubrec', 'pubrel', 'pubcomp']

interface Property {
  readonly id: number
  readonly name: string
  /** A value that is fine wherever the property is. */
  readonly value: string
  /** Of packets of a client. */
  readonly in: readonly Carrier[]
  /** Values that are wrong, or fine, in hex, and what comes of them. */
  readonly values?: readonly (readonly [string, Want])[]
}

const flag = [
  ['00', 'stays'],
  ['01', 'stays'],
  ['02', protocolError],
  ['ff', protocolError],
] as const
const hexField = (text: string): string => {
  const bytes = text === '' ? 0 : text.split(' ').length
  return `00 ${bytes.toString(16).padStart(2, '0')}${text === '' ? '' : ` ${text}`}`
}
const texts: readonly (readonly [string, Want])[] = [
  ...illFormed.map((text) => [hexField(text), malformed] as const),
  ...fineText.map((text) => [hexField(text), 'stays'] as const),
  ['00 00', 'stays'],
]
const names = [...texts, ...disallowed.map((text) => [hexField(text), malformed] as const)]

const properties5: readonly Property[] = [
  { id: 0x01, name: 'Payload Format Indicator', value: '01', in: message, values: flag },
  {
    id: 0x02,
    name: 'Message Expiry Interval',
    value: '00 00 00 09',
    in: message,
    values: [
      ['00 00 00 00', 'stays'],
      ['ff ff ff ff', 'stays'],
    ],
  },
  { id: 0x03, name: 'Content Type', value: '00 01 70', in: message, values: texts },
  {
    id: 0x08,
    name: 'Response Topic',
    value: '00 01 70',
    in: message,
    values: [...names, ...['2b', '23', '61 2f 23', '61 2f 2b 2f 62'].map((text) => [hexField(text), protocolError] as const)],
  },
  {
    id: 0x09,
    name: 'Correlation Data',
    value: '00 01 70',
    in: message,
    values: [
      ['00 00', 'stays'],
      ['00 03 00 ff fe', 'stays'],
    ],
  },
  {
    id: 0x0b,
    name: 'Subscription Identifier',
    value: '01',
    in: ['subscribe'],
    values: [
      ['00', protocolError],
      ...['7f', '80 01', 'ff 7f', '80 80 01', 'ff ff 7f', '80 80 80 01', 'ff ff ff 7f'].map((value) => [value, 'stays'] as const),
      ...['80 00', '81 00', '80 80 00', '80 80 80 80 01', 'ff ff ff ff 7f', 'ff ff ff ff ff'].map((value) => [value, malformed] as const),
    ],
  },
  { id: 0x11, name: 'Session Expiry Interval', value: '00 00 00 00', in: ['connect', 'disconnect'] },
  { id: 0x12, name: 'Assigned Client Identifier', value: '00 01 70', in: [] },
  { id: 0x13, name: 'Server Keep Alive', value: '01 01', in: [] },
  { id: 0x15, name: 'Authentication Method', value: '00 01 70', in: ['connect', 'auth'], values: texts },
  { id: 0x16, name: 'Authentication Data', value: '00 01 70', in: ['connect', 'auth'] },
  { id: 0x17, name: 'Request Problem Information', value: '01', in: ['connect'], values: flag },
  { id: 0x18, name: 'Will Delay Interval', value: '00 00 00 01', in: ['will'], values: [['ff ff ff ff', 'stays']] },
  { id: 0x19, name: 'Request Response Information', value: '01', in: ['connect'], values: flag },
  { id: 0x1a, name: 'Response Information', value: '00 01 70', in: [] },
  { id: 0x1c, name: 'Server Reference', value: '00 01 70', in: ['disconnect'], values: texts },
  { id: 0x1f, name: 'Reason String', value: '00 01 70', in: [...acks, 'disconnect', 'auth'], values: texts },
  {
    id: 0x21,
    name: 'Receive Maximum',
    value: '01 01',
    in: ['connect'],
    values: [
      ['00 00', protocolError],
      ['00 01', 'stays'],
      ['ff ff', 'stays'],
    ],
  },
  {
    id: 0x22,
    name: 'Topic Alias Maximum',
    value: '01 01',
    in: ['connect'],
    values: [
      ['00 00', 'stays'],
      ['ff ff', 'stays'],
    ],
  },
  {
    id: 0x23,
    name: 'Topic Alias',
    value: '00 01',
    in: ['publish'],
    values: [
      ['00 00', [0x94]],
      ['00 0a', 'stays'],
      ['00 0b', [0x94]],
      ['ff ff', [0x94]],
    ],
  },
  { id: 0x24, name: 'Maximum QoS', value: '01', in: [] },
  { id: 0x25, name: 'Retain Available', value: '01', in: [] },
  {
    id: 0x26,
    name: 'User Property',
    value: '00 01 70 00 01 71',
    in: carriers,
    values: texts.flatMap(([text, want]) => [[`${text} 00 01 71`, want] as const, [`00 01 70 ${text}`, want] as const]),
  },
  {
    id: 0x27,
    name: 'Maximum Packet Size',
    value: '10 00 00 01',
    in: ['connect'],
    values: [
      ['00 00 00 00', protocolError],
      ['ff ff ff ff', 'stays'],
    ],
  },
  { id: 0x28, name: 'Wildcard Subscription Available', value: '01', in: [] },
  { id: 0x29, name: 'Subscription Identifier Available', value: '01', in: [] },
  { id: 0x2a, name: 'Shared Subscription Available', value: '01', in: [] },
]

/** The door's Topic Alias Maximum for these cases. */
export const topicAliasMax = 10

/** A packet with `section`: its property length and its properties. */
export function carry(carrier: Carrier, section: Part, ...behind: Part[]): Uint8Array {
  switch (carrier) {
    case 'connect': {
      return packet(0x10, field('MQTT'), [5, 2, 0, 0], section, nextId(), ...behind)
    }
    case 'will': {
      return packet(0x10, field('MQTT'), [5, 6, 0, 0], [0], nextId(), section, field('w'), field('m'), ...behind)
    }
    case 'publish': {
      return packet(0x32, field('t'), [0, 1], section, [0x70], ...behind)
    }
    case 'subscribe': {
      return packet(0x82, [0, 1], section, field('a'), [0], ...behind)
    }
    case 'unsubscribe': {
      return packet(0xa2, [0, 1], section, field('a'), ...behind)
    }
    case 'disconnect': {
      return packet(0xe0, [0], section, ...behind)
    }
    case 'auth': {
      return packet(0xf0, [0x18], section, ...behind)
    }
    default: {
      return packet(types[carrier], [0, 1, 0], section, ...behind)
    }
  }
}

/** What comes of a packet with nothing wrong about it. */
export function fine(carrier: Carrier, id?: number): Want {
  if (carrier === 'disconnect') return 'closes'
  if (carrier === 'auth') return protocolError
  if (carrier === 'connect' && id === 0x15) return [0x8c]
  return carrier === 'connect' && id === 0x16 ? protocolError : 'stays'
}

export const isFirst = (carrier: Carrier): boolean => carrier === 'connect' || carrier === 'will'
export const section = (...hex: readonly string[]): Uint8Array => {
  const bytes = bytesOf(hex.join(' '))
  return Uint8Array.from([bytes.length, ...bytes])
}

function* ofProperty(carrier: Carrier, property: Property): Generator<PacketCase, void> {
  const { id, name, value, values = [] } = property
  const one = `${hexOf(id)} ${value}`
  const make = (what: string, content: Uint8Array, want: Want): PacketCase => ({
    name: `${carrier}, ${name}: ${what}`,
    level: 5,
    first: isFirst(carrier),
    bytes: carry(carrier, content),
    want,
  })
  // Only a server may say which subscription a message is for [MQTT-3.3.4-6].
  if (carrier === 'publish' && id === 0x0b) yield make('of a client', section(one), protocolError)
  else if (!property.in.includes(carrier)) yield make('not of this packet', section(one), malformed)
  else {
    yield make('once', section(one), fine(carrier, id))
    yield make('twice', section(one, one), id === 0x26 ? fine(carrier) : protocolError)
    for (const [other, want] of values) yield make(other, section(`${hexOf(id)} ${other}`), want === 'stays' ? fine(carrier, id) : want)
  }
  if (id === 0x0b && carrier === 'publish') return
  const bytes = one.split(' ')
  for (let length = 1; length < bytes.length; length++)
    yield make(`${length} bytes of ${bytes.length}`, section(...bytes.slice(0, length)), malformed)
}

function* ofSections(carrier: Carrier): Generator<PacketCase, void> {
  const make = (what: string, content: Uint8Array, want: Want): PacketCase => ({
    name: `${carrier}, ${what}`,
    level: 5,
    first: isFirst(carrier),
    bytes: carry(carrier, content),
    want,
  })
  const known = new Set(properties5.map(({ id }) => id))
  for (let id = 0; id < 128; id++) if (!known.has(id)) yield make(`property ${hexOf(id)}`, section(hexOf(id), '01'), malformed)
  for (const id of ['80 00', '80 01', 'ff 7f', '80 80 01', 'ff ff 7f', '80 80 80 01', 'ff ff ff 7f', '80 80 80 80 01']) {
    yield make(`property ${id}`, section(id, '01'), malformed)
  }
  yield make('no properties', Uint8Array.of(0), fine(carrier))
  yield make('a property length with a byte too many', Uint8Array.of(0x80, 0), malformed)
  yield make('a property length of five bytes', Uint8Array.of(0x80, 0x80, 0x80, 0x80, 0x01), malformed)
  yield make('a property length beyond the packet', Uint8Array.of(0x7f), malformed)
  // All of what it may have, in the other order.
  const all = properties5.filter(({ id, in: owners }) => owners.includes(carrier) && id !== 0x15 && id !== 0x16).toReversed()
  yield make(
    'all of its properties',
    section(all.map(({ id, value }) => `${hexOf(id)} ${value}`).join(' ')),
    carrier === 'auth' ? protocolError : fine(carrier),
  )
}

/** Every property in every packet. */
export function* properties(): Generator<PacketCase, void> {
  for (const carrier of carriers) {
    for (const property of properties5) yield* ofProperty(carrier, property)
    yield* ofSections(carrier)
  }
}
