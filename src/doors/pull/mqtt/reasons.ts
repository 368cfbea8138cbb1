import type { Properties } from '../../../wire/mqtt/v5/properties.ts'
import { ReasonCode, reasonText } from '../../../wire/mqtt/v5/reason.ts'
import type { Fault } from './dialect.ts'

/** Of what a broker says in words of its own, in logs and in the status. */
const foreignTextMax = 200

/** Where waiting helps: the others want somebody to change something (MQTT 5, sections 3.2.2.2 and 3.14.2.1). */
const passing = new Set<number>([
  ReasonCode.success,
  ReasonCode.unspecifiedError,
  ReasonCode.malformedPacket,
  ReasonCode.protocolError,
  ReasonCode.implementationSpecificError,
  ReasonCode.serverUnavailable,
  ReasonCode.serverBusy,
  ReasonCode.serverShuttingDown,
  ReasonCode.keepAliveTimeout,
  ReasonCode.receiveMaximumExceeded,
  ReasonCode.topicAliasInvalid,
  ReasonCode.packetTooLarge,
  ReasonCode.messageRateTooHigh,
  ReasonCode.quotaExceeded,
  ReasonCode.connectionRateExceeded,
  ReasonCode.maximumConnectTime,
])

/** Where the code's name does not say what to do. */
const remedies: ReadonlyMap<number, string> = new Map<number, string>([
  [ReasonCode.unsupportedProtocolVersion, 'set mqtt.pull.version to what it speaks, or to auto'],
  [ReasonCode.sessionTakenOver, 'another client connected with the same client id: give each its own mqtt.pull.client_id'],
  [ReasonCode.useAnotherServer, 'set mqtt.pull.url to it; credentials go nowhere else unasked'],
  [ReasonCode.serverMoved, 'set mqtt.pull.url to where it is now; credentials go nowhere else unasked'],
])

/** A text of the broker's as it is shown: one line, without control characters, cut. */
function foreign(text: string): string {
  const line = text.replaceAll(/[\p{C}\s]+/gu, ' ').trim()
  return line.length > foreignTextMax ? `${line.slice(0, foreignTextMax)}…` : line
}

function saying(reasonCode: number, { reasonString, serverReference }: Properties): string {
  const said = reasonString === undefined ? '' : ` ("${foreign(reasonString)}")`
  const where = serverReference === undefined ? '' : `, it names ${foreign(serverReference)}`
  const remedy = remedies.get(reasonCode)
  return `${reasonText(reasonCode)}${said}${where}${remedy === undefined ? '' : `; ${remedy}`}`
}

/** What a CONNACK that refuses means, as the end of a sentence about the broker. */
export function connackFault(reasonCode: number, properties: Properties): Fault {
  const how = reasonCode === ReasonCode.unsupportedProtocolVersion ? 'unsupported' : undefined
  return { text: `it refuses the connection: ${saying(reasonCode, properties)}`, refused: !passing.has(reasonCode), how }
}

/** What a DISCONNECT of the broker's means. A session that another client has taken is not taken back at once. */
export function disconnectFault(reasonCode: number, properties: Properties): Fault {
  const why = reasonCode === ReasonCode.success ? '' : `: ${saying(reasonCode, properties)}`
  return { text: `it ended the connection${why}`, refused: !passing.has(reasonCode) }
}

/** Filters that were refused and, where the broker says it (3.1.1 does not), why. */
export function refusedText(refused: Iterable<readonly [filter: string, reasonCode: number]>): string {
  return Array.from(refused, ([filter, code]) => (code === ReasonCode.unspecifiedError ? filter : `${filter} (${reasonText(code)})`)).join(', ')
}

/** Whether it is, or may be, the rights of our user that are missing. */
export function wantsRights(reasonCode: number): boolean {
  return reasonCode === ReasonCode.unspecifiedError || reasonCode === ReasonCode.notAuthorized
}
