import { Fields } from '../fields.ts'
import type { AckType, Violation } from '../packets.ts'
import { inFive, PacketType, protocolError, violation } from '../packets.ts'
import type { ClientSink5, Connack5, PublishSink5 } from './packets.ts'
import type { Properties } from './properties.ts'
import { readProperties } from './properties.ts'
import { ReasonCode, reasonCodes } from './reason.ts'
import { packet } from './writer.ts'

const nothing: Properties = {}

function wrongCode(statement: string, name: string): Violation {
  return violation(statement, `The reason code of ${name} is not one of its.`, { reasonCode: protocolError })
}

function ends(section: string, name: string): Violation {
  return violation(section, `${name} ends within a field.`)
}

function behind(section: string, name: string): Violation {
  return violation(section, `${name} has bytes behind its last field.`)
}

// --- PUBACK, PUBREC, PUBREL, PUBCOMP (sections 3.4 to 3.7) ---

const { puback, pubrec, pubrel, pubcomp } = PacketType
const ackCodes: Readonly<Record<AckType, ReadonlySet<number>>> = {
  [puback]: reasonCodes.publishReceived,
  [pubrec]: reasonCodes.publishReceived,
  [pubrel]: reasonCodes.publishReleased,
  [pubcomp]: reasonCodes.publishReleased,
}
const ackWrongCode: Readonly<Record<AckType, Violation>> = {
  [puback]: wrongCode('MQTT-3.4.2-1', 'a PUBACK'),
  [pubrec]: wrongCode('MQTT-3.5.2-1', 'a PUBREC'),
  [pubrel]: wrongCode('MQTT-3.6.2-1', 'a PUBREL'),
  [pubcomp]: wrongCode('MQTT-3.7.2-1', 'a PUBCOMP'),
}
const ackTruncated = ends('section 3.4.2', 'An acknowledgement')
const ackBehind = behind('section 3.4.2', 'An acknowledgement')
export const ackIdZero = violation('MQTT-2.3.1-1', 'An acknowledgement has packet id 0.', {
  statement5: 'MQTT-2.2.1-5',
  reasonCode: protocolError,
})

/** Reads bytes[start, end): two bytes stand for success without properties, three for no properties (section 3.4.2.1). */
export function readAck5(type: AckType, bytes: Uint8Array, start: number, end: number, sink: PublishSink5): Violation | undefined {
  if (start + 2 > end) return ackTruncated
  const packetId = (bytes[start]! << 8) | bytes[start + 1]!
  if (packetId === 0) return inFive(ackIdZero)
  const code = start + 2 === end ? ReasonCode.success : bytes[start + 2]!
  if (!ackCodes[type].has(code)) return ackWrongCode[type]
  if (end - start <= 3) {
    sink.acknowledged5(type, packetId, code, undefined)
    return undefined
  }
  const fields = new Fields(bytes, start + 3, end, ackTruncated)
  const properties = readProperties(fields, type)
  if (fields.failed !== undefined) return fields.failed
  if (fields.at !== end) return ackBehind
  sink.acknowledged5(type, packetId, code, properties)
  return undefined
}

/** 4, or 5 where the code must be said. */
export function ackBytes5(reasonCode: number): number {
  return reasonCode === ReasonCode.success ? 4 : 5
}

/** Writes a PUBACK, PUBREC, PUBREL or PUBCOMP without properties at `at`; returns where it ends. */
export function writeAck5(into: Uint8Array, at: number, type: AckType, packetId: number, reasonCode: number): number {
  into[at++] = type === pubrel ? 0x62 : type << 4
  into[at++] = ackBytes5(reasonCode) - 2
  into[at++] = packetId >> 8
  into[at++] = packetId & 0xff
  if (reasonCode !== ReasonCode.success) into[at++] = reasonCode
  return at
}

/** PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form. */
export function encodeAck5(type: AckType, packetId: number, reasonCode: number, properties: Properties = nothing): Uint8Array {
  if (Object.keys(properties).length === 0) {
    const bytes = new Uint8Array(ackBytes5(reasonCode))
    writeAck5(bytes, 0, type, packetId, reasonCode)
    return bytes
  }
  return packet(type === pubrel ? 0x62 : type << 4, (writer) => {
    writer.uint16(packetId)
    writer.byte(reasonCode)
    writer.properties(properties, type)
  })
}

// --- CONNACK (section 3.2) ---

const connackTruncated = ends('section 3.2', 'A CONNACK')
const connackBehind = behind('section 3.2', 'A CONNACK')
const connackFlags = violation('MQTT-3.2.2-1', 'Reserved flags of a CONNACK are set.')
const presentAndRefused = violation('MQTT-3.2.2-6', 'A CONNACK refuses the connection and says that its session is present.', {
  reasonCode: protocolError,
})
const connackCode = wrongCode('MQTT-3.2.2-8', 'a CONNACK')

/** Hands a CONNACK to the sink; the refusal of a server that knows 3.1.1 only, `20 02 00 01`, as what it means. */
export function readConnack5(bytes: Uint8Array, start: number, end: number, sink: ClientSink5): Violation | undefined {
  if (end - start === 2 && bytes[start] === 0 && bytes[start + 1] === 1) {
    sink.connack5({ sessionPresent: false, reasonCode: ReasonCode.unsupportedProtocolVersion, properties: nothing })
    return undefined
  }
  const fields = new Fields(bytes, start, end, connackTruncated)
  const flags = fields.byte()
  const reasonCode = fields.byte()
  if (fields.failed === undefined && (flags & 0xfe) !== 0) return connackFlags
  if (fields.failed === undefined && !reasonCodes.connack.has(reasonCode)) return connackCode
  const properties = readProperties(fields, PacketType.connack)
  if (fields.failed !== undefined) return fields.failed
  if (fields.at !== end) return connackBehind
  if (flags === 1 && reasonCode !== ReasonCode.success) return presentAndRefused
  sink.connack5({ sessionPresent: flags === 1, reasonCode, properties })
  return undefined
}

/** Session present is 0 unless the connection was accepted [MQTT-3.2.2-6]. */
export function encodeConnack5({ sessionPresent, reasonCode, properties }: Connack5): Uint8Array {
  return packet(PacketType.connack << 4, (writer) => {
    writer.byte(sessionPresent && reasonCode === ReasonCode.success ? 1 : 0)
    writer.byte(reasonCode)
    writer.properties(properties, PacketType.connack)
  })
}

// --- DISCONNECT (section 3.14) ---

const disconnectTruncated = ends('section 3.14', 'A DISCONNECT')
const disconnectBehind = behind('section 3.14', 'A DISCONNECT')
const disconnectCode = wrongCode('MQTT-3.14.2-1', 'a DISCONNECT')
const expiryFromServer = violation('MQTT-3.14.2-2', 'A server sent a session expiry interval in a DISCONNECT.', { reasonCode: protocolError })

/** Reads bytes[start, end): nothing stands for normal disconnection, a code alone for no properties (section 3.14.2). */
export function readDisconnect5(bytes: Uint8Array, start: number, end: number, sink: PublishSink5, fromServer: boolean): Violation | undefined {
  const code = start === end ? ReasonCode.success : bytes[start]!
  if (!(fromServer ? reasonCodes.serverDisconnect : reasonCodes.clientDisconnect).has(code)) return disconnectCode
  if (end - start <= 1) {
    sink.disconnect5(code, undefined)
    return undefined
  }
  const fields = new Fields(bytes, start + 1, end, disconnectTruncated)
  const properties = readProperties(fields, PacketType.disconnect)
  if (fields.failed !== undefined) return fields.failed
  if (fields.at !== end) return disconnectBehind
  if (fromServer && properties.sessionExpiryInterval !== undefined) return expiryFromServer
  sink.disconnect5(code, properties)
  return undefined
}

export function encodeDisconnect5(reasonCode: number, properties: Properties = nothing): Uint8Array {
  const bare = Object.keys(properties).length === 0
  return packet(PacketType.disconnect << 4, (writer) => {
    if (bare && reasonCode === ReasonCode.success) return
    writer.byte(reasonCode)
    if (!bare) writer.properties(properties, PacketType.disconnect)
  })
}

// --- AUTH (section 3.15) ---

const authTruncated = ends('section 3.15', 'An AUTH')
const authBehind = behind('section 3.15', 'An AUTH')
const authCode = wrongCode('MQTT-3.15.2-1', 'an AUTH')
const authMethod = violation('section 3.15.2.2.2', 'An AUTH names no authentication method.', { reasonCode: protocolError })

/** Reads bytes[start, end): nothing stands for success without properties (section 3.15.2.1). */
export function readAuth(bytes: Uint8Array, start: number, end: number, sink: PublishSink5, fromServer: boolean): Violation | undefined {
  const code = start === end ? ReasonCode.success : bytes[start]!
  if (!(fromServer ? reasonCodes.serverAuth : reasonCodes.clientAuth).has(code)) return authCode
  if (start === end) {
    sink.auth(code, nothing)
    return undefined
  }
  const fields = new Fields(bytes, start + 1, end, authTruncated)
  const properties = readProperties(fields, PacketType.auth)
  if (fields.failed !== undefined) return fields.failed
  if (fields.at !== end) return authBehind
  if (properties.authenticationMethod === undefined) return authMethod
  sink.auth(code, properties)
  return undefined
}

/** `properties` name the authentication method, unless this is a success that says nothing more. */
export function encodeAuth(reasonCode: number, properties: Properties = nothing): Uint8Array {
  return packet(PacketType.auth << 4, (writer) => {
    if (reasonCode === ReasonCode.success && Object.keys(properties).length === 0) return
    writer.byte(reasonCode)
    writer.properties(properties, PacketType.auth)
  })
}
