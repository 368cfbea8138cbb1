import { lengthBytesOf, writeLength } from './encode.ts'
import { headerTable } from './header.ts'
import type { ClientSink, Violation, Will } from './packets.ts'
import { PacketType, protocolError, subscribeRefused, violation } from './packets.ts'
import { PacketStream, type Side } from './stream.ts'
import { encodeText } from './text.ts'
import { readAck5, readAuth, readConnack5, readDisconnect5 } from './v5/answers.ts'
import type { ClientSink5 } from './v5/packets.ts'
import { readSubscriptionAck5 } from './v5/subscribe.ts'

/** What a client receives from a server. With `sink5` it is MQTT 5 from the first packet on, PINGRESP alone going to `sink`. */
export class ClientFramer extends PacketStream<ClientSink, ClientSink5> {
  constructor(sink: ClientSink, packetBytesMax: number, sink5?: ClientSink5) {
    super(sink, packetBytesMax, fromServer, sink5)
    this.speak5()
  }
}

const { connack, puback, pubrec, pubrel, pubcomp, suback, unsuback, pingresp, auth } = PacketType
const types = [connack, puback, pubrec, pubrel, pubcomp, suback, unsuback, pingresp]
const clientsOnly = violation('section 2.2.1', 'A server sent a packet that only a client sends.', {
  statement5: 'section 2.1.2',
  reasonCode: protocolError,
})

const fromServer: Side<ClientSink, ClientSink5> = {
  lenient: true,
  headers: headerTable(types, clientsOnly),
  lengths: [-1, -1, 2, -1, 2, 2, 2, 2, -1, -1, -1, 2, -1, 0, -1, -1],
  read(type, bytes, start, end, sink) {
    if (type === connack) return readConnack(bytes[start]!, bytes[start + 1]!, sink)
    if (type === suback) return readSuback(bytes, start, end, sink)
    if (type === unsuback) sink.unsuback((bytes[start]! << 8) | bytes[start + 1]!)
    else sink.pingresp()
    return undefined
  },
  five: {
    headers: headerTable([...types, PacketType.disconnect, auth], clientsOnly),
    lengths: [-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, -1, -1],
    identifiers: true,
    read(type, bytes, start, end, sink) {
      if (type === puback || type === pubrec || type === pubrel || type === pubcomp) return readAck5(type, bytes, start, end, sink)
      if (type === connack) return readConnack5(bytes, start, end, sink)
      if (type === PacketType.disconnect) return readDisconnect5(bytes, start, end, sink, true)
      if (type === auth) return readAuth(bytes, start, end, sink, true)
      return readSubscriptionAck5(type === suback ? suback : unsuback, bytes, start, end, sink)
    },
  },
}

/** CONNACK (section 3.2). A session that is present with a refusal contradicts itself [MQTT-3.2.2-4]. */
function readConnack(flags: number, code: number, sink: ClientSink): Violation | undefined {
  if ((flags & 0xfe) !== 0) return violation('section 3.2.2.1', 'Reserved flags of a CONNACK are set.')
  if (flags === 1 && code !== 0) return violation('MQTT-3.2.2-4', 'A CONNACK refuses the connection and says that its session is present.')
  sink.connack(flags === 1, code)
  return undefined
}

/** SUBACK (section 3.9). */
function readSuback(bytes: Uint8Array, start: number, end: number, sink: ClientSink): Violation | undefined {
  if (start + 3 > end) return violation('section 3.9.3', 'A SUBACK has no return code.')
  const codes: number[] = []
  for (let at = start + 2; at < end; at++) {
    const code = bytes[at]!
    if (code > 2 && code !== subscribeRefused) return violation('MQTT-3.9.3-2', 'A return code of a SUBACK is reserved.')
    codes.push(code)
  }
  sink.suback((bytes[start]! << 8) | bytes[start + 1]!, codes)
  return undefined
}

const connackTexts: Readonly<Record<number, string>> = {
  1: 'it does not speak MQTT 3.1.1',
  2: 'it refuses the client id',
  3: 'it is not available',
  4: 'user name or password are wrong',
  5: 'these credentials are not allowed',
}

/** What a CONNACK's refusal means (table 3.1), as the end of a sentence about the server. */
export function connackText(returnCode: number): string {
  return connackTexts[returnCode] ?? `return code ${returnCode}`
}

export interface ConnectFields {
  readonly clientId: string
  readonly keepAliveS: number
  /** Clean Session: the server forgets what it knew of this client id, and forgets again at the end. */
  readonly clean: boolean
  readonly username?: string
  /** Without a user name it goes with an empty one [MQTT-3.1.2-22]. */
  readonly password?: string
  readonly will?: Will
}

/** CONNECT (section 3.1). Throws RangeError for a field of more than 65,535 bytes. */
export function encodeConnect(o: ConnectFields): Uint8Array {
  const { will } = o
  const username = o.username ?? (o.password === undefined ? undefined : '')
  const flags =
    (o.clean ? 0x02 : 0) |
    (will === undefined ? 0 : 0x04 | (will.qos << 3) | (will.retain ? 0x20 : 0)) |
    (username === undefined ? 0 : 0x80) |
    (o.password === undefined ? 0 : 0x40)
  const fields = [o.clientId, will?.topic, will?.payload, username, o.password]
    .filter((field) => field !== undefined)
    .map((field) => (typeof field === 'string' ? encodeText(field) : field))
  const length = 10 + fields.reduce((sum, field) => sum + 2 + field.length, 0)
  const bytes = new Uint8Array(1 + lengthBytesOf(length) + length)
  bytes[0] = PacketType.connect << 4
  let at = writeLength(bytes, 1, length)
  at = writeField(bytes, at, encodeText('MQTT'))
  bytes[at++] = 4
  bytes[at++] = flags
  bytes[at++] = o.keepAliveS >> 8
  bytes[at++] = o.keepAliveS & 0xff
  for (const field of fields) at = writeField(bytes, at, field)
  return bytes
}

/** SUBSCRIBE (section 3.8): each filter at QoS `qos`. */
export function encodeSubscribe(packetId: number, filters: readonly string[], qos: 0 | 1 | 2): Uint8Array {
  return encodeFilters((PacketType.subscribe << 4) | 2, packetId, filters, qos)
}

/** UNSUBSCRIBE (section 3.10). */
export function encodeUnsubscribe(packetId: number, filters: readonly string[]): Uint8Array {
  return encodeFilters((PacketType.unsubscribe << 4) | 2, packetId, filters, undefined)
}

function encodeFilters(first: number, packetId: number, filters: readonly string[], qos: number | undefined): Uint8Array {
  const fields = filters.map(encodeText)
  const length = 2 + fields.reduce((sum, field) => sum + 2 + field.length + (qos === undefined ? 0 : 1), 0)
  const bytes = new Uint8Array(1 + lengthBytesOf(length) + length)
  bytes[0] = first
  let at = writeLength(bytes, 1, length)
  bytes[at++] = packetId >> 8
  bytes[at++] = packetId & 0xff
  for (const field of fields) {
    at = writeField(bytes, at, field)
    if (qos !== undefined) bytes[at++] = qos
  }
  return bytes
}

function writeField(into: Uint8Array, at: number, field: Uint8Array): number {
  if (field.length > 65_535) throw new RangeError('A field of an MQTT packet holds at most 65,535 bytes.')
  into[at] = field.length >> 8
  into[at + 1] = field.length & 0xff
  into.set(field, at + 2)
  return at + 2 + field.length
}

/** Shared: nobody may write to it. */
export const pingreq: Uint8Array = Uint8Array.of(PacketType.pingreq << 4, 0)
/** DISCONNECT (section 3.14). Shared: nobody may write to it. */
export const disconnect: Uint8Array = Uint8Array.of(PacketType.disconnect << 4, 0)
