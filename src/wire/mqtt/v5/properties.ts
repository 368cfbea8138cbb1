import { limits } from '../../../core/limits.ts'
import { Fields } from '../fields.ts'
import type { Violation } from '../packets.ts'
import { PacketType, protocolError, violation } from '../packets.ts'
import { ReasonCode } from './reason.ts'

export type UserProperty = readonly [name: string, value: string]

/** All properties (table 2-4), by the standard's names. Intervals are seconds. Absent: the packet does not say. */
export interface Properties {
  readonly payloadFormatIndicator?: boolean
  readonly messageExpiryInterval?: number
  readonly contentType?: string
  readonly responseTopic?: string
  readonly correlationData?: Uint8Array
  /** One at most in a SUBSCRIBE; any number in a PUBLISH of a server. */
  readonly subscriptionIdentifiers?: readonly number[]
  readonly sessionExpiryInterval?: number
  readonly assignedClientIdentifier?: string
  readonly serverKeepAlive?: number
  readonly authenticationMethod?: string
  readonly authenticationData?: Uint8Array
  readonly requestProblemInformation?: boolean
  readonly willDelayInterval?: number
  readonly requestResponseInformation?: boolean
  readonly responseInformation?: string
  readonly serverReference?: string
  readonly reasonString?: string
  readonly receiveMaximum?: number
  readonly topicAliasMaximum?: number
  readonly topicAlias?: number
  readonly maximumQoS?: 0 | 1
  readonly retainAvailable?: boolean
  /** In their order, which is part of the message [MQTT-3.3.2-18]. */
  readonly userProperties?: readonly UserProperty[]
  readonly maximumPacketSize?: number
  readonly wildcardSubscriptionAvailable?: boolean
  readonly subscriptionIdentifierAvailable?: boolean
  readonly sharedSubscriptionAvailable?: boolean
}

type Single = Omit<Properties, 'userProperties' | 'subscriptionIdentifiers'>
type Mutable = { -readonly [K in keyof Single]: Single[K] } & {
  userProperties?: UserProperty[]
  subscriptionIdentifiers?: number[]
}
type Named<T> = {
  [K in keyof Properties]-?: Required<Properties>[K] extends T ? (T extends Required<Properties>[K] ? K : never) : never
}[keyof Properties]

/** The property identifiers (table 2-4). */
export const PropertyId = {
  payloadFormatIndicator: 0x01,
  messageExpiryInterval: 0x02,
  contentType: 0x03,
  responseTopic: 0x08,
  correlationData: 0x09,
  subscriptionIdentifier: 0x0b,
  sessionExpiryInterval: 0x11,
  assignedClientIdentifier: 0x12,
  serverKeepAlive: 0x13,
  authenticationMethod: 0x15,
  authenticationData: 0x16,
  requestProblemInformation: 0x17,
  willDelayInterval: 0x18,
  requestResponseInformation: 0x19,
  responseInformation: 0x1a,
  serverReference: 0x1c,
  reasonString: 0x1f,
  receiveMaximum: 0x21,
  topicAliasMaximum: 0x22,
  topicAlias: 0x23,
  maximumQoS: 0x24,
  retainAvailable: 0x25,
  userProperty: 0x26,
  maximumPacketSize: 0x27,
  wildcardSubscriptionAvailable: 0x28,
  subscriptionIdentifierAvailable: 0x29,
  sharedSubscriptionAvailable: 0x2a,
} as const

/** Whose properties these are: a packet type, or the will within a CONNECT. */
export type PropertyOwner = (typeof PacketType)[keyof typeof PacketType] | typeof will
export const will = 0

/** How a property is read and written, and into which member. */
type Content =
  | { readonly type: 'flag'; readonly name: Named<boolean> }
  | { readonly type: 'qos'; readonly name: 'maximumQoS' }
  | { readonly type: 'uint16'; readonly name: Named<number>; readonly zero?: Violation }
  | { readonly type: 'uint32'; readonly name: Named<number>; readonly zero?: Violation }
  | { readonly type: 'text'; readonly name: Named<string> }
  | { readonly type: 'topic'; readonly name: Named<string> }
  | { readonly type: 'binary'; readonly name: Named<Uint8Array> }
  | { readonly type: 'identifiers'; readonly name: 'subscriptionIdentifiers' }
  | { readonly type: 'pairs'; readonly name: 'userProperties' }

export type Property = Content & { readonly id: number; readonly owners: number }

const { connect, connack, publish, puback, pubrec, pubrel, pubcomp, subscribe, suback, unsubscribe, unsuback, disconnect, auth } = PacketType
const messages = [publish, will]
const answers = [connack, puback, pubrec, pubrel, pubcomp, suback, unsuback, disconnect, auth]

function property(id: number, owners: readonly number[], content: Content): Property {
  return { ...content, id, owners: owners.reduce((set, owner) => set | (1 << owner), 0) }
}

const id = PropertyId

export const aliasZero = violation('MQTT-3.3.2-8', 'A topic alias is 0.', { reasonCode: ReasonCode.topicAliasInvalid })
const receiveMaximumZero = wrong('section 3.1.2.11.3', 'Receive Maximum is 0.')
const packetSizeZero = wrong('section 3.1.2.11.4', 'Maximum Packet Size is 0.')

/** Table 2-4. */
const properties: readonly Property[] = [
  property(id.payloadFormatIndicator, messages, { type: 'flag', name: 'payloadFormatIndicator' }),
  property(id.messageExpiryInterval, messages, { type: 'uint32', name: 'messageExpiryInterval' }),
  property(id.contentType, messages, { type: 'text', name: 'contentType' }),
  property(id.responseTopic, messages, { type: 'topic', name: 'responseTopic' }),
  property(id.correlationData, messages, { type: 'binary', name: 'correlationData' }),
  property(id.subscriptionIdentifier, [publish, subscribe], { type: 'identifiers', name: 'subscriptionIdentifiers' }),
  property(id.sessionExpiryInterval, [connect, connack, disconnect], { type: 'uint32', name: 'sessionExpiryInterval' }),
  property(id.assignedClientIdentifier, [connack], { type: 'text', name: 'assignedClientIdentifier' }),
  property(id.serverKeepAlive, [connack], { type: 'uint16', name: 'serverKeepAlive' }),
  property(id.authenticationMethod, [connect, connack, auth], { type: 'text', name: 'authenticationMethod' }),
  property(id.authenticationData, [connect, connack, auth], { type: 'binary', name: 'authenticationData' }),
  property(id.requestProblemInformation, [connect], { type: 'flag', name: 'requestProblemInformation' }),
  property(id.willDelayInterval, [will], { type: 'uint32', name: 'willDelayInterval' }),
  property(id.requestResponseInformation, [connect], { type: 'flag', name: 'requestResponseInformation' }),
  property(id.responseInformation, [connack], { type: 'text', name: 'responseInformation' }),
  property(id.serverReference, [connack, disconnect], { type: 'text', name: 'serverReference' }),
  property(id.reasonString, answers, { type: 'text', name: 'reasonString' }),
  property(id.receiveMaximum, [connect, connack], { type: 'uint16', name: 'receiveMaximum', zero: receiveMaximumZero }),
  property(id.topicAliasMaximum, [connect, connack], { type: 'uint16', name: 'topicAliasMaximum' }),
  property(id.topicAlias, [publish], { type: 'uint16', name: 'topicAlias', zero: aliasZero }),
  property(id.maximumQoS, [connack], { type: 'qos', name: 'maximumQoS' }),
  property(id.retainAvailable, [connack], { type: 'flag', name: 'retainAvailable' }),
  property(id.userProperty, [connect, will, publish, subscribe, unsubscribe, ...answers], { type: 'pairs', name: 'userProperties' }),
  property(id.maximumPacketSize, [connect, connack], { type: 'uint32', name: 'maximumPacketSize', zero: packetSizeZero }),
  property(id.wildcardSubscriptionAvailable, [connack], { type: 'flag', name: 'wildcardSubscriptionAvailable' }),
  property(id.subscriptionIdentifierAvailable, [connack], { type: 'flag', name: 'subscriptionIdentifierAvailable' }),
  property(id.sharedSubscriptionAvailable, [connack], { type: 'flag', name: 'sharedSubscriptionAvailable' }),
]

const byId: readonly (Property | undefined)[] = Array.from({ length: 128 }, (_, n) => properties.find((p) => p.id === n))

/** The properties that a packet may carry. */
export function propertiesOf(owner: PropertyOwner): readonly Property[] {
  return properties.filter(({ owners }) => (owners & (1 << owner)) !== 0)
}

const none: Properties = {}

/** Reads a property length and the properties behind it (section 2.2.2). What is wrong stays in `fields.failed`. */
export function readProperties(fields: Fields, owner: PropertyOwner): Properties {
  const length = fields.variable()
  const end = fields.at + length
  if (end > fields.end) fields.fail(lengthBeyond)
  if (length === 0 || fields.failed !== undefined) return none
  const section = new Fields(fields.bytes, fields.at, end, propertyTruncated)
  const found: Mutable = {}
  while (section.at < end && section.failed === undefined) readProperty(section, owner, found)
  fields.failed = section.failed
  fields.at = end
  return found
}

function readProperty(fields: Fields, owner: PropertyOwner, into: Mutable): void {
  // A variable byte integer, by the standard: of those that there are each is one byte.
  const p = byId[fields.byte()]
  if (p === undefined) return fields.fail(unknownProperty)
  if ((p.owners & (1 << owner)) === 0) return fields.fail(misplacedProperty)
  if (p.type === 'pairs') return readPair(fields, into)
  if (p.type === 'identifiers') return readIdentifier(fields, owner, into)
  if (into[p.name] !== undefined) return fields.fail(p.id === id.topicAlias ? doubleAlias : doubleProperty)
  if (p.type === 'text') into[p.name] = fields.text()
  else if (p.type === 'topic') into[p.name] = responseTopic(fields)
  else if (p.type === 'binary') into[p.name] = fields.binary()
  else if (p.type === 'flag' || p.type === 'qos') {
    const value = fields.byte()
    if (value > 1) return fields.fail(noBoolean)
    if (p.type === 'qos') into[p.name] = value === 0 ? 0 : 1
    else into[p.name] = value === 1
  } else {
    const value = p.type === 'uint16' ? fields.uint16() : fields.uint32()
    into[p.name] = value
    if (value === 0 && p.zero !== undefined) fields.fail(p.zero)
  }
}

/** A topic name without wildcards [MQTT-3.3.2-13] [MQTT-3.3.2-14], or nothing. */
function responseTopic(fields: Fields): string {
  const before = fields.failed
  if (fields.startsEmpty()) return fields.text()
  const topic = fields.topicName()
  if (before === undefined && fields.failed?.statement === 'MQTT-3.3.2-2') fields.failed = responseWildcard
  return topic
}

function readPair(fields: Fields, into: Mutable): void {
  const pair: UserProperty = [fields.text(), fields.text()]
  const list = (into.userProperties ??= [])
  if (list.length >= limits.mqttUserPropertiesMax) return fields.fail(tooManyUserProperties)
  list.push(pair)
}

function readIdentifier(fields: Fields, owner: PropertyOwner, into: Mutable): void {
  const value = fields.variable()
  if (value === 0) fields.fail(identifierZero)
  const list = (into.subscriptionIdentifiers ??= [])
  if (list.length > 0 && owner === subscribe) fields.fail(doubleProperty)
  if (list.length >= limits.mqttUserPropertiesMax) return fields.fail(tooManyUserProperties)
  list.push(value)
}

function wrong(statement: string, text: string): Violation {
  return violation(statement, text, { reasonCode: protocolError })
}

export const lengthBeyond = violation('section 2.2.2.1', 'A property length reaches beyond the end of its packet.')
export const propertyTruncated = violation('section 2.2.2.2', 'A property reaches beyond the property length.')
export const unknownProperty = violation('section 2.2.2.2', 'A property identifier is not known.')
export const misplacedProperty = violation('section 2.2.2.2', 'A property is not one of its packet.')
export const doubleProperty = wrong('section 2.2.2.2', 'A property is there twice.')
export const doubleAlias = wrong('section 3.3.2.3.4', 'A topic alias is there twice.')
export const noBoolean = wrong('section 2.2.2.2', 'A property is neither 0 nor 1.')
export const identifierZero = wrong('section 3.8.2.1.2', 'A subscription identifier is 0.')
export const responseWildcard = wrong('MQTT-3.3.2-14', 'A response topic holds a wildcard.')
export const tooManyUserProperties: Violation = {
  kind: 'limit',
  reasonCode: ReasonCode.quotaExceeded,
  statement: 'section 2.2.2.2',
  text: 'A packet has more user properties than the limit.',
}
