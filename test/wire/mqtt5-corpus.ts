import { encodeAck, encodeConnack, encodePublish, encodeSuback, encodeUnsuback, pingresp, withPacketId } from '../../src/wire/mqtt/encode.ts'
import { disconnect, encodeConnect, encodeSubscribe, encodeUnsubscribe, pingreq } from '../../src/wire/mqtt/client.ts'
import { encodeAck5, encodeAuth, encodeConnack5, encodeDisconnect5 } from '../../src/wire/mqtt/v5/answers.ts'
import { encodeConnect5 } from '../../src/wire/mqtt/v5/connect.ts'
import { encodePublish5 } from '../../src/wire/mqtt/v5/deliver.ts'
import { forwarded, nothingForwarded } from '../../src/wire/mqtt/v5/forward.ts'
import { encodeSuback5, encodeSubscribe5, encodeUnsuback5, encodeUnsubscribe5 } from '../../src/wire/mqtt/v5/subscribe.ts'
import { bytes } from './mqtt5-recorder.ts'

/** One packet, its bytes written from the standard; the fuzz tests change them as well. */
export interface Golden {
  readonly name: string
  readonly level: 4 | 5
  readonly from: 'client' | 'server' | 'both'
  readonly bytes: string
  readonly event: readonly unknown[]
  /** Absent: another form than ours, which is the shortest. */
  readonly encode?: () => Uint8Array
}

const raw = (...content: number[]): Uint8Array => Uint8Array.from(content)
const text = (content: string): Uint8Array => new Uint8Array(Buffer.from(content))
const userProperties = [['k', 'v']] as const
const plain = { alias: 0, expiryS: -1, payloadFormat: 0, identifiers: [], section: '' }
const message = {
  userProperties: [['a', 'b']],
  payloadFormatIndicator: true,
  messageExpiryInterval: 60,
  contentType: 't',
  responseTopic: 'r',
} as const
const willProperties = { ...message, correlationData: raw(7), willDelayInterval: 5 }
const connectProperties = {
  sessionExpiryInterval: 3600,
  authenticationMethod: 'm',
  authenticationData: raw(1, 2),
  requestProblemInformation: false,
  requestResponseInformation: true,
  receiveMaximum: 20,
  topicAliasMaximum: 10,
  userProperties,
  maximumPacketSize: 65_536,
}
const connackProperties = {
  sessionExpiryInterval: 120,
  assignedClientIdentifier: 'id',
  serverKeepAlive: 30,
  authenticationMethod: 'm',
  authenticationData: raw(9),
  responseInformation: 'i',
  serverReference: 's',
  reasonString: 'r',
  receiveMaximum: 100,
  topicAliasMaximum: 10,
  maximumQoS: 1,
  retainAvailable: true,
  userProperties,
  maximumPacketSize: 1_048_576,
  wildcardSubscriptionAvailable: true,
  subscriptionIdentifierAvailable: true,
  sharedSubscriptionAvailable: false,
} as const
const messageSection = "01 01 02 00 00 00 3c 03 00 01 'j' 08 00 01 'r' 09 00 02 00 ff 26 00 01 'k' 00 01 'v' 26 00 01 'k' 00 01 'w'"
const messageBytes = bytes(messageSection)
const willSection = "01 01 02 00 00 00 3c 03 00 01 't' 08 00 01 'r' 09 00 01 07 26 00 01 'a' 00 01 'b'"
const hexOf = (section: string): string => [...bytes(section)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
const a = { filter: 'a/+', qos: 1, noLocal: true, retainAsPublished: true, retainHandling: 2 } as const
const b = { filter: '#', qos: 0, noLocal: false, retainAsPublished: false, retainHandling: 0 } as const
const shared = { ...b, filter: '$share/g/t', qos: 2 } as const

const four: readonly Golden[] = [
  {
    name: 'CONNECT 3.1.1, all fields',
    level: 4,
    from: 'client',
    bytes: "10 1a 00 04 'MQTT' 04 ee 00 3c 00 01 'c' 00 01 'w' 00 02 'by' 00 01 'u' 00 01 'p'",
    event: [
      'connect',
      {
        level: 4,
        cleanSession: true,
        keepAliveS: 60,
        clientId: 'c',
        clientIdBytes: 1,
        will: { topic: 'w', payload: text('by'), qos: 1, retain: true },
        username: 'u',
        password: text('p'),
      },
    ],
    encode: () =>
      encodeConnect({
        clientId: 'c',
        clean: true,
        keepAliveS: 60,
        username: 'u',
        password: 'p',
        will: { topic: 'w', payload: text('by'), qos: 1, retain: true },
      }),
  },
  {
    name: 'CONNECT 3.1',
    level: 4,
    from: 'client',
    bytes: "10 0f 00 06 'MQIsdp' 03 02 00 0a 00 01 'c'",
    event: ['connect', { level: 3, cleanSession: true, keepAliveS: 10, clientId: 'c', clientIdBytes: 1 }],
  },
  { name: 'CONNACK', level: 4, from: 'server', bytes: '20 02 01 00', event: ['connack', true, 0], encode: () => encodeConnack(true, 0) },
  {
    name: 'PUBLISH QoS 0, retained',
    level: 4,
    from: 'both',
    bytes: "31 06 00 01 't' 'abc'",
    event: ['publish', 1, 't', 0, 'abc'],
    encode: () => encodePublish(text('t'), text('abc'), 0, 3, 0, true).bytes,
  },
  {
    name: 'PUBLISH QoS 2, repeated',
    level: 4,
    from: 'both',
    bytes: "3c 06 00 01 't' 12 34 '!'",
    event: ['publish', 12, 't', 0x1234, '!'],
    encode: () => withPacketId(encodePublish(text('t'), text('!'), 0, 1, 2), 0x1234, true),
  },
  { name: 'PUBACK', level: 4, from: 'both', bytes: '40 02 00 01', event: ['ack', 4, 1], encode: () => encodeAck(4, 1) },
  { name: 'PUBREC', level: 4, from: 'both', bytes: '50 02 00 02', event: ['ack', 5, 2], encode: () => encodeAck(5, 2) },
  { name: 'PUBREL', level: 4, from: 'both', bytes: '62 02 00 03', event: ['ack', 6, 3], encode: () => encodeAck(6, 3) },
  { name: 'PUBCOMP', level: 4, from: 'both', bytes: '70 02 00 04', event: ['ack', 7, 4], encode: () => encodeAck(7, 4) },
  {
    name: 'SUBSCRIBE',
    level: 4,
    from: 'client',
    bytes: "82 0c 00 05 00 03 'a/+' 02 00 01 '#' 02",
    event: [
      'subscribe',
      5,
      [
        { filter: 'a/+', qos: 2 },
        { filter: '#', qos: 2 },
      ],
    ],
    encode: () => encodeSubscribe(5, ['a/+', '#'], 2),
  },
  { name: 'SUBACK', level: 4, from: 'server', bytes: '90 04 00 05 01 80', event: ['suback', 5, [1, 0x80]], encode: () => encodeSuback(5, [1, 0x80]) },
  {
    name: 'UNSUBSCRIBE',
    level: 4,
    from: 'client',
    bytes: "a2 05 00 06 00 01 '#'",
    event: ['unsubscribe', 6, ['#']],
    encode: () => encodeUnsubscribe(6, ['#']),
  },
  { name: 'UNSUBACK', level: 4, from: 'server', bytes: 'b0 02 00 06', event: ['unsuback', 6], encode: () => encodeUnsuback(6) },
  { name: 'PINGREQ', level: 4, from: 'client', bytes: 'c0 00', event: ['pingreq'], encode: () => pingreq },
  { name: 'PINGRESP', level: 4, from: 'server', bytes: 'd0 00', event: ['pingresp'], encode: () => pingresp },
  { name: 'DISCONNECT', level: 4, from: 'client', bytes: 'e0 00', event: ['disconnect'], encode: () => disconnect },
]

const five: readonly Golden[] = [
  {
    name: 'CONNECT, no more than it must have',
    level: 5,
    from: 'client',
    bytes: "10 0e 00 04 'MQTT' 05 02 00 0a 00 00 01 'c'",
    event: ['connect5', { level: 5, cleanStart: true, keepAliveS: 10, clientId: 'c', clientIdBytes: 1, properties: {} }],
    encode: () => encodeConnect5({ clientId: 'c', clean: true, keepAliveS: 10 }),
  },
  {
    name: 'CONNECT, all fields and properties',
    level: 5,
    from: 'client',
    bytes:
      "10 5f 00 04 'MQTT' 05 f6 00 3c " +
      "24 11 00 00 0e 10 15 00 01 'm' 16 00 02 01 02 17 00 19 01 21 00 14 22 00 0a 26 00 01 'k' 00 01 'v' 27 00 01 00 00 00 01 'c' " +
      "1f 01 01 02 00 00 00 3c 03 00 01 't' 08 00 01 'r' 09 00 01 07 18 00 00 00 05 26 00 01 'a' 00 01 'b' 00 01 'w' 00 02 'by' 00 01 'u' 00 01 'p'",
    event: [
      'connect5',
      {
        level: 5,
        cleanStart: true,
        keepAliveS: 60,
        clientId: 'c',
        clientIdBytes: 1,
        properties: connectProperties,
        will: {
          topic: 'w',
          payload: text('by'),
          qos: 2,
          retain: true,
          delayS: 5,
          properties: willProperties,
          forwarded: { bytes: new Uint8Array(bytes(willSection)), expiryAt: 3 },
        },
        username: 'u',
        password: text('p'),
      },
    ],
    encode: () =>
      encodeConnect5({
        clientId: 'c',
        clean: true,
        keepAliveS: 60,
        username: 'u',
        password: 'p',
        properties: connectProperties,
        will: { topic: 'w', payload: text('by'), qos: 2, retain: true, properties: willProperties },
      }),
  },
  {
    name: 'CONNECT, a password without a user name',
    level: 5,
    from: 'client',
    bytes: "10 12 00 04 'MQTT' 05 40 00 00 00 00 01 'c' 00 02 ff fe",
    event: ['connect5', { level: 5, cleanStart: false, keepAliveS: 0, clientId: 'c', clientIdBytes: 1, properties: {}, password: raw(255, 254) }],
    encode: () => encodeConnect5({ clientId: 'c', clean: false, keepAliveS: 0, password: raw(255, 254) }),
  },
  {
    name: 'CONNACK, all properties',
    level: 5,
    from: 'server',
    bytes:
      "20 40 01 00 3d 11 00 00 00 78 12 00 02 'id' 13 00 1e 15 00 01 'm' 16 00 01 09 1a 00 01 'i' 1c 00 01 's' 1f 00 01 'r' 21 00 64 22 00 0a " +
      "24 01 25 01 26 00 01 'k' 00 01 'v' 27 00 10 00 00 28 01 29 01 2a 00",
    event: ['connack5', { sessionPresent: true, reasonCode: 0, properties: connackProperties }],
    encode: () => encodeConnack5({ sessionPresent: true, reasonCode: 0, properties: connackProperties }),
  },
  {
    name: 'CONNACK, refused',
    level: 5,
    from: 'server',
    bytes: '20 03 00 87 00',
    event: ['connack5', { sessionPresent: false, reasonCode: 0x87, properties: {} }],
    encode: () => encodeConnack5({ sessionPresent: true, reasonCode: 0x87, properties: {} }),
  },
  {
    name: 'CONNACK of a server that knows 3.1.1 only',
    level: 5,
    from: 'server',
    bytes: '20 02 00 01',
    event: ['connack5', { sessionPresent: false, reasonCode: 0x84, properties: {} }],
  },
  {
    name: 'PUBLISH without properties',
    level: 5,
    from: 'both',
    bytes: "32 07 00 01 't' 00 0a 00 'x'",
    event: ['publish5', 2, 't', 10, plain, 'x'],
    encode: () => encodePublish5(text('t'), text('x'), 0, 1, { qos: 1, packetId: 10 }).bytes,
  },
  {
    name: 'PUBLISH, all properties of a client',
    level: 5,
    from: 'both',
    bytes: `3b 2d 00 01 't' 00 01 25 23 00 07 ${messageSection} 'by'`,
    event: ['publish5', 11, 't', 1, { alias: 7, expiryS: 60, payloadFormat: 1, identifiers: [], section: `23 00 07 ${hexOf(messageSection)}` }, 'by'],
    encode: () =>
      encodePublish5(text('t'), text('(by)'), 1, 3, {
        qos: 1,
        retain: true,
        dup: true,
        packetId: 1,
        topicAlias: 7,
        forwarded: forwarded(messageBytes, 0, messageBytes.length),
      }).bytes,
  },
  {
    name: 'PUBLISH with subscription identifiers',
    level: 5,
    from: 'server',
    bytes: "30 0a 00 01 't' 05 0b 01 0b ff 7f 'x'",
    event: ['publish5', 0, 't', 0, { ...plain, identifiers: [1, 16_383], section: '0b 01 0b ff 7f' }, 'x'],
    encode: () => encodePublish5(text('t'), text('x'), 0, 1, { qos: 0, subscriptionIdentifiers: [1, 16_383], forwarded: nothingForwarded }).bytes,
  },
  {
    name: 'PUBLISH with an alias in place of the topic, and no payload',
    level: 5,
    from: 'both',
    bytes: '34 08 00 00 00 02 03 23 00 07',
    event: ['publish5', 4, '', 2, { ...plain, alias: 7, section: '23 00 07' }, ''],
    encode: () => encodePublish5(raw(), raw(), 0, 0, { qos: 2, packetId: 2, topicAlias: 7 }).bytes,
  },
  { name: 'PUBACK, two bytes', level: 5, from: 'both', bytes: '40 02 00 01', event: ['ack5', 4, 1, 0, undefined], encode: () => encodeAck5(4, 1, 0) },
  {
    name: 'PUBACK, three bytes',
    level: 5,
    from: 'both',
    bytes: '40 03 00 01 10',
    event: ['ack5', 4, 1, 0x10, undefined],
    encode: () => encodeAck5(4, 1, 0x10),
  },
  {
    name: 'PUBACK with a reason string',
    level: 5,
    from: 'both',
    bytes: "40 0d 00 01 87 09 1f 00 06 'denied'",
    event: ['ack5', 4, 1, 0x87, { reasonString: 'denied' }],
    encode: () => encodeAck5(4, 1, 0x87, { reasonString: 'denied' }),
  },
  { name: 'PUBREC', level: 5, from: 'both', bytes: '50 03 00 02 97', event: ['ack5', 5, 2, 0x97, undefined], encode: () => encodeAck5(5, 2, 0x97) },
  { name: 'PUBREL', level: 5, from: 'both', bytes: '62 03 00 03 92', event: ['ack5', 6, 3, 0x92, undefined], encode: () => encodeAck5(6, 3, 0x92) },
  {
    name: 'PUBREL with a user property',
    level: 5,
    from: 'both',
    bytes: "62 0b 00 03 00 07 26 00 01 'k' 00 01 'v'",
    event: ['ack5', 6, 3, 0, { userProperties }],
    encode: () => encodeAck5(6, 3, 0, { userProperties }),
  },
  { name: 'PUBCOMP, everything said', level: 5, from: 'both', bytes: '70 04 00 04 00 00', event: ['ack5', 7, 4, 0, {}] },
  {
    name: 'SUBSCRIBE, options and an identifier',
    level: 5,
    from: 'client',
    bytes: "82 10 00 05 03 0b 80 01 00 03 'a/+' 2d 00 01 '#' 00",
    event: ['subscribe5', { packetId: 5, subscriptions: [a, b], subscriptionIdentifier: 128, properties: { subscriptionIdentifiers: [128] } }],
    encode: () => encodeSubscribe5(5, [a, b], { subscriptionIdentifiers: [128] }),
  },
  {
    name: 'SUBSCRIBE, shared',
    level: 5,
    from: 'client',
    bytes: "82 10 00 05 00 00 0a '$share/g/t' 02",
    event: ['subscribe5', { packetId: 5, subscriptions: [shared], subscriptionIdentifier: 0, properties: {} }],
    encode: () => encodeSubscribe5(5, [shared]),
  },
  {
    name: 'SUBACK',
    level: 5,
    from: 'server',
    bytes: '90 06 00 05 00 01 02 87',
    event: ['suback5', 5, [1, 2, 0x87], {}],
    encode: () => encodeSuback5(5, [1, 2, 0x87]),
  },
  {
    name: 'UNSUBSCRIBE',
    level: 5,
    from: 'client',
    bytes: "a2 0d 00 06 07 26 00 01 'k' 00 01 'v' 00 01 '#'",
    event: ['unsubscribe5', 6, ['#'], { userProperties }],
    encode: () => encodeUnsubscribe5(6, ['#'], { userProperties }),
  },
  {
    name: 'UNSUBACK',
    level: 5,
    from: 'server',
    bytes: 'b0 05 00 06 00 00 11',
    event: ['unsuback5', 6, [0, 0x11], {}],
    encode: () => encodeUnsuback5(6, [0, 0x11]),
  },
  { name: 'PINGREQ', level: 5, from: 'client', bytes: 'c0 00', event: ['pingreq'], encode: () => pingreq },
  { name: 'PINGRESP', level: 5, from: 'server', bytes: 'd0 00', event: ['pingresp'], encode: () => pingresp },
  {
    name: 'DISCONNECT, nothing said',
    level: 5,
    from: 'both',
    bytes: 'e0 00',
    event: ['disconnect5', 0, undefined],
    encode: () => encodeDisconnect5(0),
  },
  {
    name: 'DISCONNECT with will',
    level: 5,
    from: 'client',
    bytes: 'e0 01 04',
    event: ['disconnect5', 4, undefined],
    encode: () => encodeDisconnect5(4),
  },
  {
    name: 'DISCONNECT with a session expiry interval',
    level: 5,
    from: 'client',
    bytes: 'e0 07 00 05 11 00 00 00 00',
    event: ['disconnect5', 0, { sessionExpiryInterval: 0 }],
    encode: () => encodeDisconnect5(0, { sessionExpiryInterval: 0 }),
  },
  {
    name: 'DISCONNECT of a server that moved',
    level: 5,
    from: 'server',
    bytes: "e0 0b 9d 09 1c 00 01 's' 1f 00 02 'by'",
    event: ['disconnect5', 0x9d, { serverReference: 's', reasonString: 'by' }],
    encode: () => encodeDisconnect5(0x9d, { serverReference: 's', reasonString: 'by' }),
  },
  { name: 'AUTH, success', level: 5, from: 'server', bytes: 'f0 00', event: ['auth', 0, {}], encode: () => encodeAuth(0) },
  {
    name: 'AUTH, go on',
    level: 5,
    from: 'both',
    bytes: "f0 0b 18 09 15 00 01 'm' 16 00 02 01 02",
    event: ['auth', 0x18, { authenticationMethod: 'm', authenticationData: raw(1, 2) }],
    encode: () => encodeAuth(0x18, { authenticationMethod: 'm', authenticationData: raw(1, 2) }),
  },
]

export const corpus: readonly Golden[] = [...four, ...five]
