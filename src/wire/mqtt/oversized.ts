import { limits } from '../../core/limits.ts'
import type { PublishSink, Violation } from './packets.ts'
import { protocolError, violation } from './packets.ts'
import { checkTopicName } from './text.ts'

/** The fixed header's bytes: one, and a remaining length of one to four [section 2.2.3]. */
export function headerBytes(bytes: Uint8Array, start: number): number {
  let n = 2
  while (bytes[start + n - 1]! >= 0x80) n++
  return n
}

/**
 * How many of a PUBLISH's first bytes are to be gathered, as far as bytes[0, length) tell: up to the length of its topic, then up to
 * `payloadBytes` of its payload. `whole`: the packet's length. At most 5 + 2 + `limits.mqttTopicBytesMax` + 2 + `payloadBytes`.
 */
export function oversizedNeed(bytes: Uint8Array, length: number, whole: number, payloadBytes: number): number {
  const topicAt = headerBytes(bytes, 0) + 2
  if (length < topicAt) return Math.min(whole, topicAt)
  const topicBytes = (bytes[topicAt - 2]! << 8) | bytes[topicAt - 1]!
  // It is refused whatever follows.
  if (topicBytes > limits.mqttTopicBytesMax) return topicAt
  return Math.min(whole, topicAt + topicBytes + idBytes(bytes) + payloadBytes)
}

/**
 * Hands the beginning of a PUBLISH over the limit, bytes[0, length), to the sink when its fields are all there and valid. Returns what is
 * wrong with the packet: there is always something, `packetTooLarge` itself when the sink has it. `lenient`: as `checkTopicName` says.
 */
export function readOversized(bytes: Uint8Array, length: number, whole: number, sink: PublishSink, lenient: boolean): Violation {
  const topicAt = headerBytes(bytes, 0) + 2
  if (whole < topicAt) return publishTruncated
  if (length < topicAt) return headTooLarge
  const topicEnd = topicAt + ((bytes[topicAt - 2]! << 8) | bytes[topicAt - 1]!)
  const payloadAt = topicEnd + idBytes(bytes)
  if (payloadAt > whole) return publishTruncated
  if (payloadAt > length) return headTooLarge
  const wrong = checkTopicName(bytes, topicAt, topicEnd, lenient)
  if (wrong !== undefined) return wrong
  const packetId = payloadAt === topicEnd ? 0 : (bytes[topicEnd]! << 8) | bytes[topicEnd + 1]!
  if (payloadAt > topicEnd && packetId === 0) return publishIdZero
  sink.oversized(bytes, bytes[0]! & 0x0f, topicAt, topicEnd, packetId, payloadAt, length, whole - payloadAt)
  return packetTooLarge
}

function idBytes(bytes: Uint8Array): number {
  return (bytes[0]! & 0x06) === 0 ? 0 : 2
}

export const packetTooLarge: Violation = {
  kind: 'limit',
  reasonCode: 0x95,
  statement: 'section 4.8',
  text: 'A packet is longer than the limit.',
  statement5: 'MQTT-3.2.2-15',
}
/** The same where not even the beginning is read. */
export const headTooLarge: Violation = { ...packetTooLarge }
export const publishTruncated = violation('section 3.3.2', 'A PUBLISH ends within a field.')
export const publishIdZero = violation('MQTT-2.3.1-1', 'A PUBLISH of QoS 1 or 2 has packet id 0.', {
  statement5: 'MQTT-2.2.1-3',
  reasonCode: protocolError,
})
