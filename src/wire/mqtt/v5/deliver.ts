import type { EncodedPublish } from '../encode.ts'
import { copyInto, lengthBytesOf, withPacketId, writeLength } from '../encode.ts'
import { PacketType } from '../packets.ts'
import type { Forwarded } from './forward.ts'
import { nothingForwarded, writeUint32 } from './forward.ts'
import { PropertyId } from './properties.ts'

/** What a PUBLISH of MQTT 5 is sent with. */
export interface PublishOptions5 {
  readonly qos: 0 | 1 | 2
  readonly retain?: boolean
  readonly dup?: boolean
  /** Of QoS 1 and 2; it may be set later by `withPacketId`. */
  readonly packetId?: number
  /** 0: none. With an alias that the peer knows the topic may be empty. */
  readonly topicAlias?: number
  /** Of the subscriptions that the message is delivered for [MQTT-3.3.4-3] [MQTT-3.3.4-4]. */
  readonly subscriptionIdentifiers?: readonly number[]
  /** What the message came with, see `forwarded`; `encodeProperties` makes the bytes of a message of one's own. */
  readonly forwarded?: Forwarded
  /** What is left of the message expiry interval [MQTT-3.3.2-6]; it takes the place of the one that is forwarded. */
  readonly expiryS?: number
}

/** An encoded PUBLISH of MQTT 5. `withPacketId` and `headWithPacketId` serve it as they do one of 3.1.1. */
export interface EncodedPublish5 extends EncodedPublish {
  /** Where the message expiry interval's four bytes are, in front of the payload; -1: there is none. */
  readonly expiryAt: number
  readonly payloadAt: number
}

/** The bytes that `writePublishHead5` writes. Throws RangeError for a packet of more than 268,435,455 bytes. */
export function publishHeadBytes5(topicBytes: number, payloadBytes: number, o: PublishOptions5): number {
  const content = contentBytes(topicBytes, o)
  const remaining = content + payloadBytes
  if (remaining > 268_435_455) throw new RangeError('A packet is longer than MQTT allows.')
  return 1 + lengthBytesOf(remaining) + content
}

/** Writes a PUBLISH (section 3.3) up to its payload, which has `payloadBytes`, at `at`; returns where the payload goes. */
export function writePublishHead5(into: Uint8Array, at: number, topic: Uint8Array, payloadBytes: number, o: PublishOptions5): number {
  const { forwarded = nothingForwarded, packetId = 0, topicAlias = 0 } = o
  into[at++] = (PacketType.publish << 4) | (o.dup === true ? 8 : 0) | (o.qos << 1) | (o.retain === true ? 1 : 0)
  at = writeLength(into, at, contentBytes(topic.length, o) + payloadBytes)
  into[at++] = topic.length >> 8
  into[at++] = topic.length & 0xff
  into.set(topic, at)
  at += topic.length
  if (o.qos !== 0) {
    into[at++] = packetId >> 8
    into[at++] = packetId & 0xff
  }
  at = writeLength(into, at, propertyBytes(o))
  if (topicAlias > 0) {
    into[at++] = PropertyId.topicAlias
    into[at++] = topicAlias >> 8
    into[at++] = topicAlias & 0xff
  }
  for (const identifier of o.subscriptionIdentifiers ?? []) {
    into[at++] = PropertyId.subscriptionIdentifier
    at = writeLength(into, at, identifier)
  }
  into.set(forwarded.bytes, at)
  if (o.expiryS !== undefined && forwarded.expiryAt >= 0) writeUint32(into, at + forwarded.expiryAt, o.expiryS)
  return at + forwarded.bytes.length
}

/** PUBLISH (section 3.3) of payload[start, end). */
export function encodePublish5(topic: Uint8Array, payload: Uint8Array, start: number, end: number, o: PublishOptions5): EncodedPublish5 {
  const headBytes = publishHeadBytes5(topic.length, end - start, o)
  const bytes = Buffer.allocUnsafe(headBytes + end - start)
  const payloadAt = writePublishHead5(bytes, 0, topic, end - start, o)
  copyInto(bytes, payloadAt, payload, start, end)
  const idAt = headBytes - contentBytes(topic.length, o) + 2 + topic.length
  const { bytes: section, expiryAt } = o.forwarded ?? nothingForwarded
  return {
    bytes,
    idAt: o.qos === 0 ? 0 : idAt,
    expiryAt: expiryAt < 0 ? -1 : payloadAt - section.length + expiryAt,
    payloadAt,
  }
}

/** A copy of `publish` for one receiver: with the packet id (of QoS 1 and 2), DUP at a repetition, and what is left of the message's life. */
export function withPacketId5(publish: EncodedPublish5, packetId: number, dup: boolean, expiryS?: number): Uint8Array {
  const copy = publish.idAt === 0 ? new Uint8Array(publish.bytes) : withPacketId(publish, packetId, dup)
  if (expiryS !== undefined && publish.expiryAt >= 0) writeUint32(copy, publish.expiryAt, expiryS)
  return copy
}

function contentBytes(topicBytes: number, o: PublishOptions5): number {
  const properties = propertyBytes(o)
  return 2 + topicBytes + (o.qos === 0 ? 0 : 2) + lengthBytesOf(properties) + properties
}

function propertyBytes(o: PublishOptions5): number {
  let bytes = (o.forwarded?.bytes.length ?? 0) + ((o.topicAlias ?? 0) > 0 ? 3 : 0)
  for (const identifier of o.subscriptionIdentifiers ?? []) bytes += 1 + lengthBytesOf(identifier)
  return bytes
}
