import { limits } from '../../../core/limits.ts'
import { headerBytes, headTooLarge, packetTooLarge, publishIdZero, publishTruncated } from '../oversized.ts'
import { notShortest, variableTooLong } from '../fields.ts'
import { tooLong, unfinished, variableAt, variableEnd } from './variable.ts'
import type { Violation } from '../packets.ts'
import { checkTopicName } from '../text.ts'
import type { PublishSink5 } from './packets.ts'
import { lengthBeyond } from './properties.ts'
import { aliasTooLarge, aliasUnknown, noProperties, noTopic, propertyLengthMissing, PublishProperties, scanProperties } from './publish.ts'

/** Which packets of MQTT 5 one side of a connection may be sent, and how those other than PUBLISH are read. */
export interface Side5<S> {
  /** What is wrong with a first byte, by its value; undefined where nothing is. */
  readonly headers: readonly (Violation | undefined)[]
  /** Remaining length of packets that have only one, by type; -1 where it varies. */
  readonly lengths: readonly number[]
  /** A PUBLISH comes from a server: it may carry subscription identifiers, and a topic with characters that names should not have. */
  readonly identifiers: boolean
  /** Reads the packet of `type` whose content is bytes[start, end) and hands it to the sink. */
  read(type: number, bytes: Uint8Array, start: number, end: number, sink: S): Violation | undefined
}

/** Reads the packets of a stream that speaks MQTT 5. */
export class Reader5<S extends PublishSink5> {
  readonly side: Side5<S>
  readonly #sink: S
  /** Made for the first PUBLISH that has properties. */
  #properties: PublishProperties | undefined
  /** A bit for each topic alias that came with a topic name. */
  #aliases: Uint8Array | undefined

  constructor(sink: S, side: Side5<S>) {
    this.#sink = sink
    this.side = side
  }

  read(type: number, bytes: Uint8Array, start: number, end: number): Violation | undefined {
    return this.side.read(type, bytes, start, end, this.#sink)
  }

  /** PUBLISH (section 3.3). Allocates nothing. `aliasMax`: the greatest topic alias that the peer was allowed. */
  publish(bytes: Uint8Array, first: number, start: number, end: number, aliasMax: number): Violation | undefined {
    const topicStart = start + 2
    if (topicStart > end) return publishTruncated
    const topicEnd = topicStart + ((bytes[start]! << 8) | bytes[start + 1]!)
    if (topicEnd > end) return publishTruncated
    if (topicEnd > topicStart) {
      const wrong = checkTopicName(bytes, topicStart, topicEnd, this.side.identifiers)
      if (wrong !== undefined) return wrong
    }
    let at = topicEnd
    let packetId = 0
    if ((first & 0x06) !== 0) {
      at += 2
      if (at > end) return publishTruncated
      packetId = (bytes[topicEnd]! << 8) | bytes[topicEnd + 1]!
      if (packetId === 0) return publishIdZero
    }
    if (at === end) return propertyLengthMissing
    let properties = noProperties
    if (bytes[at] === 0) at++
    else {
      const from = variableEnd(bytes, at, end)
      if (from < 0) return from === unfinished ? propertyLengthMissing : from === tooLong ? variableTooLong : notShortest
      at = from + variableAt(bytes, at)
      if (at > end) return lengthBeyond
      properties = this.#properties ??= new PublishProperties()
      const wrong = scanProperties(bytes, from, at, properties, this.side.identifiers)
      if (wrong !== undefined) return wrong
    }
    if (properties.alias !== 0 || topicEnd === topicStart) {
      const wrong = this.#checkAlias(properties.alias, aliasMax, topicEnd > topicStart)
      if (wrong !== undefined) return wrong
    }
    this.#sink.publish5(bytes, first & 0x0f, topicStart, topicEnd, packetId, properties, at, end)
    return undefined
  }

  /** As `oversizedNeed`: the properties are gathered as well, up to the bytes of the longest topic. */
  oversizedNeed(bytes: Uint8Array, length: number, whole: number, payloadBytes: number): number {
    const topicAt = headerBytes(bytes, 0) + 2
    if (length < topicAt) return Math.min(whole, topicAt)
    const topicBytes = (bytes[topicAt - 2]! << 8) | bytes[topicAt - 1]!
    // It is refused whatever follows.
    if (topicBytes > limits.mqttTopicBytesMax) return topicAt
    const lengthFrom = topicAt + topicBytes + ((bytes[0]! & 0x06) === 0 ? 0 : 2)
    const from = variableEnd(bytes, lengthFrom, length)
    if (from === unfinished) return Math.min(whole, Math.max(length, lengthFrom) + 1)
    if (from < 0) return from === tooLong ? lengthFrom + 4 : length
    const propertyBytes = variableAt(bytes, lengthFrom)
    if (propertyBytes > limits.mqttTopicBytesMax) return length
    return Math.min(whole, from + propertyBytes + payloadBytes)
  }

  /** As `readOversized`. */
  oversized(bytes: Uint8Array, length: number, whole: number, aliasMax: number): Violation {
    const topicAt = headerBytes(bytes, 0) + 2
    if (whole < topicAt) return publishTruncated
    if (length < topicAt) return headTooLarge
    const topicEnd = topicAt + ((bytes[topicAt - 2]! << 8) | bytes[topicAt - 1]!)
    const lengthFrom = topicEnd + ((bytes[0]! & 0x06) === 0 ? 0 : 2)
    if (lengthFrom > whole) return publishTruncated
    if (lengthFrom > length) return headTooLarge
    const wrongTopic = topicEnd === topicAt ? undefined : checkTopicName(bytes, topicAt, topicEnd, this.side.identifiers)
    if (wrongTopic !== undefined) return wrongTopic
    const packetId = lengthFrom === topicEnd ? 0 : (bytes[topicEnd]! << 8) | bytes[topicEnd + 1]!
    if (lengthFrom > topicEnd && packetId === 0) return publishIdZero
    const from = variableEnd(bytes, lengthFrom, length)
    if (from === unfinished) return length === whole ? propertyLengthMissing : headTooLarge
    if (from < 0) return from === tooLong ? variableTooLong : notShortest
    const payloadAt = from + variableAt(bytes, lengthFrom)
    if (payloadAt > whole) return lengthBeyond
    if (payloadAt > length) return headTooLarge
    const properties = (this.#properties ??= new PublishProperties())
    const wrong = scanProperties(bytes, from, payloadAt, properties, this.side.identifiers)
    if (wrong !== undefined) return wrong
    const wrongAlias = this.#checkAlias(properties.alias, aliasMax, topicEnd > topicAt)
    if (wrongAlias !== undefined) return wrongAlias
    this.#sink.oversized5(bytes, bytes[0]! & 0x0f, topicAt, topicEnd, packetId, properties, payloadAt, length, whole - payloadAt)
    return packetTooLarge
  }

  /** An alias stands for the topic name that it came with last (section 3.3.2.3.4); what topic that is, the sink remembers. */
  #checkAlias(alias: number, aliasMax: number, named: boolean): Violation | undefined {
    if (alias === 0) return named ? undefined : noTopic
    if (alias > aliasMax) return aliasTooLarge
    const aliases = (this.#aliases ??= new Uint8Array((aliasMax >> 3) + 1))
    if (named) aliases[alias >> 3]! |= 1 << (alias & 7)
    else if ((aliases[alias >> 3]! & (1 << (alias & 7))) === 0) return aliasUnknown
    return undefined
  }
}
