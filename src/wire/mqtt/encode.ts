import type { AckType, ConnackCode } from './packets.ts'
import { PacketType } from './packets.ts'
import { ReasonCode } from './v5/reason.ts'

/** CONNACK (section 3.2). Session present is 0 unless the connection was accepted [MQTT-3.2.2-4]. */
export function encodeConnack(sessionPresent: boolean, code: ConnackCode): Uint8Array {
  return Uint8Array.of(PacketType.connack << 4, 2, sessionPresent && code === 0 ? 1 : 0, code)
}

/** The CONNACK that a client of MQTT 5 understands: flags, reason code 0x84, no properties (MQTT 5, section 3.2). */
export function encodeUnsupportedVersion(): Uint8Array {
  return Uint8Array.of(PacketType.connack << 4, 3, 0, ReasonCode.unsupportedProtocolVersion, 0)
}

export const ackBytes = 4

/** Writes a PUBACK, PUBREC, PUBREL or PUBCOMP at `at`; returns where it ends. */
export function writeAck(into: Uint8Array, at: number, type: AckType, packetId: number): number {
  into[at] = type === PacketType.pubrel ? 0x62 : type << 4
  into[at + 1] = 2
  into[at + 2] = packetId >> 8
  into[at + 3] = packetId & 0xff
  return at + ackBytes
}

export function encodeAck(type: AckType, packetId: number): Uint8Array {
  const bytes = new Uint8Array(ackBytes)
  writeAck(bytes, 0, type, packetId)
  return bytes
}

/** SUBACK (section 3.9): a return code for each filter of the SUBSCRIBE, in its order [MQTT-3.9.3-1]. */
export function encodeSuback(packetId: number, codes: readonly number[]): Uint8Array {
  const lengthSize = lengthBytesOf(2 + codes.length)
  const bytes = new Uint8Array(1 + lengthSize + 2 + codes.length)
  bytes[0] = PacketType.suback << 4
  let at = writeLength(bytes, 1, 2 + codes.length)
  bytes[at++] = packetId >> 8
  bytes[at++] = packetId & 0xff
  for (const code of codes) bytes[at++] = code
  return bytes
}

export function encodeUnsuback(packetId: number): Uint8Array {
  return Uint8Array.of(PacketType.unsuback << 4, 2, packetId >> 8, packetId & 0xff)
}

/** Shared: nobody may write to it. */
export const pingresp: Uint8Array = Uint8Array.of(PacketType.pingresp << 4, 0)

/** An encoded PUBLISH; at QoS 1 or 2 its packet id stands at `idAt` (0 until `withPacketId`). */
export interface EncodedPublish {
  readonly bytes: Uint8Array
  /** 0 at QoS 0. */
  readonly idAt: number
}

/** PUBLISH (section 3.3) with DUP 0. RETAIN is 0 in what a subscription that is established receives [MQTT-3.3.1-9]. */
export function encodePublish(
  topic: Uint8Array,
  payload: Uint8Array,
  payloadStart: number,
  payloadEnd: number,
  qos: 0 | 1 | 2,
  retain = false,
): EncodedPublish {
  const remaining = 2 + topic.length + (qos === 0 ? 0 : 2) + payloadEnd - payloadStart
  const bytes = Buffer.allocUnsafe(1 + lengthBytesOf(remaining) + remaining)
  bytes[0] = (PacketType.publish << 4) | (qos << 1) | (retain ? 1 : 0)
  let at = writeLength(bytes, 1, remaining)
  bytes[at++] = topic.length >> 8
  bytes[at++] = topic.length & 0xff
  bytes.set(topic, at)
  at += topic.length
  const idAt = qos === 0 ? 0 : at
  if (qos !== 0) {
    bytes[at++] = 0
    bytes[at++] = 0
  }
  copyInto(bytes, at, payload, payloadStart, payloadEnd)
  return { bytes, idAt }
}

/** Up to here a loop is quicker than a view of the bytes is made. */
const loopBytesMax = 64

/** Copies from[start, end) to `at`. */
export function copyInto(into: Uint8Array, at: number, from: Uint8Array, start: number, end: number): void {
  if (end - start > loopBytesMax) into.set(from.subarray(start, end), at)
  else for (let i = start; i < end; i++) into[at++] = from[i]!
}

/** The part of `publish` up to its payload, with the packet id set: what stays in front of a shared payload. */
export function headWithPacketId(publish: EncodedPublish, packetId: number, dup: boolean): Uint8Array {
  return patched(publish.bytes.subarray(0, publish.idAt + 2), publish.idAt, packetId, dup)
}

/** A copy of `publish` with the packet id set. */
export function withPacketId(publish: EncodedPublish, packetId: number, dup: boolean): Uint8Array {
  return patched(publish.bytes, publish.idAt, packetId, dup)
}

function patched(bytes: Uint8Array, idAt: number, packetId: number, dup: boolean): Uint8Array {
  const copy = Buffer.allocUnsafe(bytes.length)
  copy.set(bytes)
  if (dup) copy[0]! |= 0x08
  copy[idAt] = packetId >> 8
  copy[idAt + 1] = packetId & 0xff
  return copy
}

export function lengthBytesOf(length: number): number {
  if (length < 128) return 1
  if (length < 16_384) return 2
  return length < 2_097_152 ? 3 : 4
}

export function writeLength(into: Uint8Array, at: number, length: number): number {
  let rest = length
  while (rest > 127) {
    into[at++] = (rest & 0x7f) | 0x80
    rest >>>= 7
  }
  into[at++] = rest
  return at
}
