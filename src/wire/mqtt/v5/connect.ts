import type { ConnectFields } from '../client.ts'
import type { Fields } from '../fields.ts'
import { notShortest } from '../fields.ts'
import type { Violation } from '../packets.ts'
import { PacketType, protocolError, violation } from '../packets.ts'
import { encodeText } from '../text.ts'
import { forwarded } from './forward.ts'
import type { PacketSink5, Will5 } from './packets.ts'
import type { Properties } from './properties.ts'
import { readProperties, will as willOwner } from './properties.ts'
import { packet } from './writer.ts'

/** Reads the CONNECT of MQTT 5 (section 3.1) whose content begins at `start` and whose protocol level is at `fields.at`. */
export function readConnect5(bytes: Uint8Array, start: number, fields: Fields, sink: PacketSink5): Violation | undefined {
  // The remaining length was read before the version was known; it is at least 10, so that a last byte of 0 is one too many.
  if (bytes[start - 1] === 0) return notShortest
  fields.at++
  const flags = fields.byte()
  if (fields.failed === undefined) fields.failed = checkFlags(flags)
  const keepAliveS = fields.uint16()
  const properties = readProperties(fields, PacketType.connect)
  const idAt = fields.at
  const clientId = fields.name()
  const clientIdBytes = Math.max(0, fields.at - idAt - 2)
  const will = (flags & 0x04) === 0 ? undefined : readWill(fields, flags)
  const username = (flags & 0x80) === 0 ? undefined : fields.name()
  const password = (flags & 0x40) === 0 ? undefined : fields.binary()
  if (fields.failed !== undefined) return fields.failed
  if (fields.at !== fields.end) return bytesBehind
  if (properties.authenticationData !== undefined && properties.authenticationMethod === undefined) return dataWithoutMethod
  sink.connect5({
    level: 5,
    cleanStart: (flags & 0x02) !== 0,
    keepAliveS,
    clientId,
    clientIdBytes,
    properties,
    ...(will === undefined ? {} : { will }),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  })
  return undefined
}

function readWill(fields: Fields, flags: number): Will5 {
  const at = fields.at
  const properties = readProperties(fields, willOwner)
  const end = fields.at
  const topic = fields.topicName()
  const payload = fields.binary()
  const { willDelayInterval: delayS = 0 } = properties
  const qos = (flags >> 3) & 3
  return {
    topic,
    payload,
    qos: qos === 0 ? 0 : qos === 1 ? 1 : 2,
    retain: (flags & 0x20) !== 0,
    delayS,
    properties,
    forwarded: forwarded(fields.bytes, fields.failed === undefined ? sectionAt(fields.bytes, at) : end, end),
  }
}

/** Behind the property length at `at`. */
function sectionAt(bytes: Uint8Array, at: number): number {
  while (bytes[at]! >= 0x80) at++
  return at + 1
}

function checkFlags(flags: number): Violation | undefined {
  if ((flags & 0x01) !== 0) return reservedFlag
  if ((flags & 0x04) === 0) {
    if ((flags & 0x18) !== 0) return qosWithoutWill
    if ((flags & 0x20) !== 0) return retainWithoutWill
  }
  return (flags & 0x18) === 0x18 ? willQos3 : undefined
}

export interface ConnectFields5 extends Omit<ConnectFields, 'password' | 'will'> {
  /** Needs no user name. */
  readonly password?: string | Uint8Array
  readonly properties?: Properties
  readonly will?: {
    readonly topic: string
    readonly payload: Uint8Array
    readonly qos: 0 | 1 | 2
    readonly retain: boolean
    readonly properties?: Properties
  }
}

/** CONNECT (section 3.1). `clean` is Clean Start. Throws RangeError for what a field cannot hold. */
export function encodeConnect5(o: ConnectFields5): Uint8Array {
  const { will, username, password } = o
  const flags =
    (o.clean ? 0x02 : 0) |
    (will === undefined ? 0 : 0x04 | (will.qos << 3) | (will.retain ? 0x20 : 0)) |
    (password === undefined ? 0 : 0x40) |
    (username === undefined ? 0 : 0x80)
  return packet(PacketType.connect << 4, (writer) => {
    writer.text('MQTT')
    writer.byte(5)
    writer.byte(flags)
    writer.uint16(o.keepAliveS)
    writer.properties(o.properties ?? {}, PacketType.connect)
    writer.text(o.clientId)
    if (will !== undefined) {
      writer.properties(will.properties ?? {}, willOwner)
      writer.text(will.topic)
      writer.binary(will.payload)
    }
    if (username !== undefined) writer.text(username)
    if (password !== undefined) writer.binary(typeof password === 'string' ? encodeText(password) : password)
  })
}

const reservedFlag = violation('MQTT-3.1.2-3', 'The reserved bit of the connect flags is set.')
const qosWithoutWill = violation('MQTT-3.1.2-11', 'Will QoS is set without a will.')
const retainWithoutWill = violation('MQTT-3.1.2-13', 'Will retain is set without a will.')
const willQos3 = violation('MQTT-3.1.2-12', 'The will asks for QoS 3.')
const bytesBehind = violation('MQTT-3.1.4-1', 'A CONNECT has bytes behind its last field.')
const dataWithoutMethod = violation('section 3.1.2.11.10', 'Authentication data is there without an authentication method.', {
  reasonCode: protocolError,
})
