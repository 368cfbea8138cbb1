import { limits } from '../../../core/limits.ts'
import { Fields } from '../fields.ts'
import type { Violation } from '../packets.ts'
import { PacketType, protocolError, violation } from '../packets.ts'
import { tooManyFilters } from '../subscribe.ts'
import type { ClientSink5, PacketSink5, Subscription5 } from './packets.ts'
import type { Properties } from './properties.ts'
import { readProperties } from './properties.ts'
import { reasonCodes } from './reason.ts'
import { packet } from './writer.ts'

const { subscribe, suback, unsubscribe, unsuback } = PacketType

/** Reads the SUBSCRIBE (section 3.8) in bytes[start, end) and hands it to the sink. */
export function readSubscribe5(bytes: Uint8Array, start: number, end: number, sink: PacketSink5): Violation | undefined {
  const fields = new Fields(bytes, start, end, truncated)
  const packetId = packetIdOf(fields)
  const properties = readProperties(fields, subscribe)
  if (fields.failed === undefined && fields.at === end) return noFilter
  const subscriptions: Subscription5[] = []
  while (fields.at < end && fields.failed === undefined) {
    if (subscriptions.length === limits.mqttFiltersPerPacketMax) return tooManyFilters
    const filter = readFilter(fields)
    const options = fields.byte()
    if (fields.failed === undefined) fields.failed = checkOptions(filter, options)
    const qos = options & 3
    const handling = (options >> 4) & 3
    subscriptions.push({
      filter,
      qos: qos === 0 ? 0 : qos === 1 ? 1 : 2,
      noLocal: (options & 0x04) !== 0,
      retainAsPublished: (options & 0x08) !== 0,
      retainHandling: handling === 0 ? 0 : handling === 1 ? 1 : 2,
    })
  }
  if (fields.failed !== undefined) return fields.failed
  sink.subscribe5({ packetId, subscriptions, subscriptionIdentifier: properties.subscriptionIdentifiers?.[0] ?? 0, properties })
  return undefined
}

/** Reads the UNSUBSCRIBE (section 3.10) in bytes[start, end) and hands it to the sink. */
export function readUnsubscribe5(bytes: Uint8Array, start: number, end: number, sink: PacketSink5): Violation | undefined {
  const fields = new Fields(bytes, start, end, truncated)
  const packetId = packetIdOf(fields)
  const properties = readProperties(fields, unsubscribe)
  if (fields.failed === undefined && fields.at === end) return noFilterToLeave
  const filters: string[] = []
  while (fields.at < end && fields.failed === undefined) {
    if (filters.length === limits.mqttFiltersPerPacketMax) return tooManyFilters
    filters.push(readFilter(fields))
  }
  if (fields.failed !== undefined) return fields.failed
  sink.unsubscribe5(packetId, filters, properties)
  return undefined
}

function packetIdOf(fields: Fields): number {
  const packetId = fields.uint16()
  if (packetId === 0) fields.fail(idZero)
  return packetId
}

const sharePrefix = '$share/'

function readFilter(fields: Fields): string {
  const filter = fields.topicFilter()
  if (fields.failed === undefined && filter.startsWith(sharePrefix)) fields.failed = checkShare(filter)
  return filter
}

/** `$share/name/filter`: the name is not empty, is no wildcard, and a filter follows it (section 4.8.2). */
function checkShare(filter: string): Violation | undefined {
  const slash = filter.indexOf('/', sharePrefix.length)
  const name = filter.slice(sharePrefix.length, slash < 0 ? undefined : slash)
  if (name === '') return shareNameEmpty
  return slash < 0 || slash + 1 === filter.length || name === '+' || name === '#' ? shareShape : undefined
}

function checkOptions(filter: string, options: number): Violation | undefined {
  if ((options & 0xc0) !== 0) return reservedOptions
  if ((options & 0x03) === 3) return qos3
  if ((options & 0x30) === 0x30) return retainHandling3
  return (options & 0x04) !== 0 && filter.startsWith(sharePrefix) ? noLocalShared : undefined
}

function protocol(statement: string, text: string): Violation {
  return violation(statement, text, { reasonCode: protocolError })
}

const truncated = violation('section 3.8.3', 'A SUBSCRIBE or UNSUBSCRIBE ends within a field.')
const idZero = protocol('MQTT-2.2.1-3', 'A SUBSCRIBE or UNSUBSCRIBE has packet id 0.')
const noFilter = protocol('MQTT-3.8.3-2', 'A SUBSCRIBE names no filter.')
const noFilterToLeave = protocol('MQTT-3.10.3-2', 'An UNSUBSCRIBE names no filter.')
const reservedOptions = violation('MQTT-3.8.3-5', 'Reserved bits of subscription options are set.')
const qos3 = protocol('section 3.8.3.1', 'A SUBSCRIBE asks for QoS 3.')
const retainHandling3 = protocol('section 3.8.3.1', 'A SUBSCRIBE has Retain Handling 3.')
const noLocalShared = protocol('MQTT-3.8.3-4', 'A shared subscription has No Local set.')
const shareNameEmpty = violation('MQTT-4.8.2-1', 'The share name of a shared subscription is empty.')
const shareShape = violation('MQTT-4.8.2-2', 'A shared subscription has a wildcard as share name, or no filter behind it.')

/** SUBSCRIBE (section 3.8). */
export function encodeSubscribe5(packetId: number, subscriptions: readonly Subscription5[], properties: Properties = {}): Uint8Array {
  return packet((subscribe << 4) | 2, (writer) => {
    writer.uint16(packetId)
    writer.properties(properties, subscribe)
    for (const { filter, qos, noLocal, retainAsPublished, retainHandling } of subscriptions) {
      writer.text(filter)
      writer.byte(qos | (noLocal ? 0x04 : 0) | (retainAsPublished ? 0x08 : 0) | (retainHandling << 4))
    }
  })
}

/** UNSUBSCRIBE (section 3.10). */
export function encodeUnsubscribe5(packetId: number, filters: readonly string[], properties: Properties = {}): Uint8Array {
  return packet((unsubscribe << 4) | 2, (writer) => {
    writer.uint16(packetId)
    writer.properties(properties, unsubscribe)
    for (const filter of filters) writer.text(filter)
  })
}

/** SUBACK (section 3.9): a reason code for each filter of the SUBSCRIBE, in its order [MQTT-3.9.3-1]. */
export function encodeSuback5(packetId: number, codes: readonly number[], properties: Properties = {}): Uint8Array {
  return encodeCodes(suback, packetId, codes, properties)
}

/** UNSUBACK (section 3.11): a reason code for each filter of the UNSUBSCRIBE, in its order [MQTT-3.11.3-1]. */
export function encodeUnsuback5(packetId: number, codes: readonly number[], properties: Properties = {}): Uint8Array {
  return encodeCodes(unsuback, packetId, codes, properties)
}

function encodeCodes(type: typeof suback | typeof unsuback, packetId: number, codes: readonly number[], properties: Properties): Uint8Array {
  return packet(type << 4, (writer) => {
    writer.uint16(packetId)
    writer.properties(properties, type)
    for (const code of codes) writer.byte(code)
  })
}

/** Reads the SUBACK or UNSUBACK in bytes[start, end) and hands it to the sink. */
export function readSubscriptionAck5(
  type: typeof suback | typeof unsuback,
  bytes: Uint8Array,
  start: number,
  end: number,
  sink: ClientSink5,
): Violation | undefined {
  const fields = new Fields(bytes, start, end, ackTruncated)
  const packetId = fields.uint16()
  if (packetId === 0) fields.fail(ackIdZero)
  const properties = readProperties(fields, type)
  if (fields.failed !== undefined) return fields.failed
  if (fields.at === end) return noCode
  const allowed = type === suback ? reasonCodes.suback : reasonCodes.unsuback
  const codes: number[] = []
  for (let at = fields.at; at < end; at++) {
    if (!allowed.has(bytes[at]!)) return type === suback ? subackCode : unsubackCode
    codes.push(bytes[at]!)
  }
  if (type === suback) sink.suback5(packetId, codes, properties)
  else sink.unsuback5(packetId, codes, properties)
  return undefined
}

const ackTruncated = violation('section 3.9', 'A SUBACK or UNSUBACK ends within a field.')
const ackIdZero = protocol('MQTT-2.2.1-6', 'A SUBACK or UNSUBACK has packet id 0.')
const noCode = violation('section 3.9.3', 'A SUBACK or UNSUBACK has no reason code.')
const subackCode = protocol('MQTT-3.9.3-2', 'A reason code of a SUBACK is not one of its.')
const unsubackCode = protocol('MQTT-3.11.3-2', 'A reason code of an UNSUBACK is not one of its.')
