import { limits } from '../../../core/limits.ts'
import { notShortest, variableTooLong } from '../fields.ts'
import type { Violation } from '../packets.ts'
import { protocolError, violation } from '../packets.ts'
import { checkText, checkTopicName } from '../text.ts'
import { readUint32 } from './forward.ts'
import {
  aliasZero,
  doubleAlias,
  doubleProperty,
  identifierZero,
  misplacedProperty,
  noBoolean,
  PropertyId,
  propertyTruncated,
  responseWildcard,
  tooManyUserProperties,
  unknownProperty,
} from './properties.ts'
import { ReasonCode } from './reason.ts'
import { tooLong, unfinished, variableAt, variableEnd } from './variable.ts'

/**
 * The properties of a PUBLISH: what is needed to take it in, and where all of them stand. `forwarded` copies what goes on with the message.
 * One object serves all packets of a stream.
 */
export class PublishProperties {
  /** The properties are bytes[start, end), without their length. Both 0 when there are none. */
  start = 0
  end = 0
  /** Topic alias; 0: none. */
  alias = 0
  /** Message expiry interval in seconds; -1: the message does not expire. */
  expiryS = -1
  /** Payload format indicator: 1 says that the payload is UTF-8. */
  payloadFormat = 0
  /** How many subscription identifiers there are (from a server only); `subscriptionIdentifiers` reads them. */
  identifiers = 0
}

/** Of a PUBLISH without properties. Shared: nobody may write to it. */
export const noProperties: PublishProperties = new PublishProperties()

/**
 * Checks the properties bytes[start, end) of a PUBLISH and notes them in `into` (section 3.3.2.3). Allocates nothing. `identifiers`: whether
 * subscription identifiers may be there, as only a server may send them; `lenient` is of its response topic, as `checkTopicName` says.
 */
export function scanProperties(
  bytes: Uint8Array,
  start: number,
  end: number,
  into: PublishProperties,
  identifiers: boolean,
  lenient = identifiers,
): Violation | undefined {
  into.start = start
  into.end = end
  into.alias = 0
  into.expiryS = -1
  into.payloadFormat = 0
  into.identifiers = 0
  let seen = 0
  let pairs = 0
  let at = start
  while (at < end) {
    const id = bytes[at++]!
    const bit = once[id]!
    if ((seen & bit) !== 0) return id === PropertyId.topicAlias ? doubleAlias : doubleProperty
    seen |= bit
    switch (id) {
      case PropertyId.topicAlias: {
        if (at + 2 > end) return propertyTruncated
        into.alias = (bytes[at]! << 8) | bytes[at + 1]!
        if (into.alias === 0) return aliasZero
        at += 2
        break
      }
      case PropertyId.payloadFormatIndicator: {
        if (at >= end) return propertyTruncated
        const value = bytes[at++]!
        if (value > 1) return noBoolean
        into.payloadFormat = value
        break
      }
      case PropertyId.messageExpiryInterval: {
        if (at + 4 > end) return propertyTruncated
        into.expiryS = readUint32(bytes, at)
        at += 4
        break
      }
      case PropertyId.correlationData:
      case PropertyId.contentType:
      case PropertyId.responseTopic: {
        const from = at + 2
        at = fieldEnd(bytes, at, end)
        if (at < 0) return propertyTruncated
        const wrong = id === PropertyId.correlationData ? undefined : checkField(bytes, from, at, id === PropertyId.responseTopic, lenient)
        if (wrong !== undefined) return wrong
        break
      }
      case PropertyId.userProperty: {
        // A megabyte of empty ones takes 20 ms. What a broker sends us was taken there.
        if (++pairs > limits.mqttPublishUserPropertiesMax && !lenient) return tooManyUserProperties
        for (let part = 0; part < 2; part++) {
          const from = at + 2
          at = fieldEnd(bytes, at, end)
          if (at < 0) return propertyTruncated
          const wrong = checkText(bytes, from, at)
          if (wrong !== undefined) return wrong
        }
        break
      }
      case PropertyId.subscriptionIdentifier: {
        if (!identifiers) return identifierFromClient
        const next = variableEnd(bytes, at, end)
        if (next < 0) return next === unfinished ? propertyTruncated : next === tooLong ? variableTooLong : notShortest
        if (bytes[at] === 0) return identifierZero
        into.identifiers++
        at = next
        break
      }
      default: {
        return knownElsewhere.has(id) ? misplacedProperty : unknownProperty
      }
    }
  }
  return undefined
}

/** The subscription identifiers among properties that were found valid, in their order. */
export function subscriptionIdentifiers(bytes: Uint8Array, { start, end, identifiers }: PublishProperties): number[] {
  const found: number[] = []
  for (let at = start; found.length < identifiers && at < end;) {
    const id = bytes[at++]!
    if (id === PropertyId.subscriptionIdentifier) {
      found.push(variableAt(bytes, at))
      while (bytes[at]! >= 0x80) at++
      at++
    } else if (id === PropertyId.topicAlias) at += 2
    else if (id === PropertyId.payloadFormatIndicator) at += 1
    else if (id === PropertyId.messageExpiryInterval) at += 4
    else {
      at = fieldEnd(bytes, at, end)
      if (id === PropertyId.userProperty) at = fieldEnd(bytes, at, end)
    }
  }
  return found
}

/** Where the length-prefixed field at `at` ends; -1: not within `end`. */
function fieldEnd(bytes: Uint8Array, at: number, end: number): number {
  if (at + 2 > end) return -1
  const to = at + 2 + ((bytes[at]! << 8) | bytes[at + 1]!)
  return to > end ? -1 : to
}

/** A response topic without characters is passed on like any other: it names no topic, and the standard does not forbid it. */
function checkField(bytes: Uint8Array, start: number, end: number, topic: boolean, lenient: boolean): Violation | undefined {
  if (!topic || start === end) return checkText(bytes, start, end)
  const wrong = checkTopicName(bytes, start, end, lenient)
  return wrong?.statement === 'MQTT-3.3.2-2' ? responseWildcard : wrong
}

/** A bit for each property that a PUBLISH may have once. */
const once = new Uint8Array(256)
for (const [bit, id] of [
  PropertyId.payloadFormatIndicator,
  PropertyId.messageExpiryInterval,
  PropertyId.contentType,
  PropertyId.responseTopic,
  PropertyId.correlationData,
  PropertyId.topicAlias,
].entries()) {
  once[id] = 1 << bit
}

const knownElsewhere: ReadonlySet<number> = new Set(Object.values(PropertyId))

const identifierFromClient = violation('MQTT-3.3.4-6', 'A client sent a PUBLISH with a subscription identifier.', { reasonCode: protocolError })
export const noTopic = violation('section 3.3.2.1', 'A PUBLISH has neither a topic name nor a topic alias.', { reasonCode: protocolError })
export const aliasUnknown = violation('section 3.3.2.3.4', 'A topic alias stands for no topic.', { reasonCode: protocolError })
export const aliasTooLarge = violation('MQTT-3.3.2-9', 'A topic alias is greater than the Topic Alias Maximum.', {
  reasonCode: ReasonCode.topicAliasInvalid,
})
export const propertyLengthMissing = violation('MQTT-2.2.2-1', 'A PUBLISH ends before its property length.')
