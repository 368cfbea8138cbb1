import { encodeAck, encodeConnack, encodeSuback, encodeUnsuback, encodeUnsupportedVersion } from '../../wire/mqtt/encode.ts'
import { ConnackCode, subscribeRefused } from '../../wire/mqtt/packets.ts'
import type { AckType } from '../../wire/mqtt/packets.ts'
import { encodeAck5, encodeConnack5, encodeDisconnect5 } from '../../wire/mqtt/v5/answers.ts'
import type { Properties } from '../../wire/mqtt/v5/properties.ts'
import { ReasonCode, reasonText } from '../../wire/mqtt/v5/reason.ts'
import { encodeSuback5, encodeUnsuback5 } from '../../wire/mqtt/v5/subscribe.ts'
import { fitting } from '../../wire/mqtt/v5/writer.ts'
import type { Terms } from './terms.ts'

/*
 * The server's answers in the version that the client speaks. Codes are MQTT 5's throughout; 3.1.1 is told what it has a word for. Undefined:
 * there is nothing to say in that version, or it does not fit what the client takes [MQTT-3.1.2-24].
 */

/** Codes from here on are failures (section 2.4). */
const failure = 0x80

const connackCodes: Readonly<Record<number, ConnackCode>> = {
  [ReasonCode.success]: ConnackCode.accepted,
  [ReasonCode.unsupportedProtocolVersion]: ConnackCode.unacceptableProtocol,
  [ReasonCode.clientIdentifierNotValid]: ConnackCode.identifierRejected,
  [ReasonCode.badUserNameOrPassword]: ConnackCode.badCredentials,
  [ReasonCode.notAuthorized]: ConnackCode.notAuthorized,
  [ReasonCode.topicNameInvalid]: ConnackCode.notAuthorized,
}

export function accepted({ level, packetBytesMax }: Terms, sessionPresent: boolean, properties: Properties): Uint8Array | undefined {
  if (level !== 5) return encodeConnack(sessionPresent, ConnackCode.accepted)
  return fitting(packetBytesMax, properties, (some) => encodeConnack5({ sessionPresent, reasonCode: ReasonCode.success, properties: some }))
}

export function refused({ level, packetBytesMax }: Terms, reasonCode: number, reasonString: string): Uint8Array | undefined {
  if (level !== 5) return encodeConnack(false, connackCodes[reasonCode] ?? ConnackCode.serverUnavailable)
  return fitting(packetBytesMax, { reasonString }, (properties) => encodeConnack5({ sessionPresent: false, reasonCode, properties }))
}

/** Of a protocol level that is not spoken, in the form that its speaker may understand. */
export function unsupportedLevel(level: number): Uint8Array {
  return level === 5 ? encodeUnsupportedVersion() : encodeConnack(false, ConnackCode.unacceptableProtocol)
}

/** DISCONNECT: a server of 3.1.1 has none. Reason strings are allowed here whatever the client said [MQTT-3.1.2-29]. */
export function disconnected({ level, packetBytesMax }: Terms, reasonCode: number, reasonString: string): Uint8Array | undefined {
  if (level !== 5) return undefined
  return fitting(packetBytesMax, { reasonString }, (properties) => encodeDisconnect5(reasonCode, properties))
}

/** PUBACK, PUBREC, PUBREL or PUBCOMP. */
export function acknowledgement(terms: Terms, type: AckType, packetId: number, reasonCode: number): Uint8Array {
  if (terms.level !== 5) return encodeAck(type, packetId)
  if (reasonCode < failure || !terms.problemInformation) return encodeAck5(type, packetId, reasonCode)
  const encode = (properties: Properties): Uint8Array => encodeAck5(type, packetId, reasonCode, properties)
  return fitting(terms.packetBytesMax, { reasonString: reasonText(reasonCode) }, encode) ?? encodeAck5(type, packetId, reasonCode)
}

/** `why`: of the first filter that was refused. */
export function subscribed(terms: Terms, packetId: number, codes: readonly number[], why: string | undefined): Uint8Array | undefined {
  if (terms.level !== 5) {
    return encodeSuback(
      packetId,
      codes.map((code) => (code < failure ? code : subscribeRefused)),
    )
  }
  return fitting(terms.packetBytesMax, reasons(terms, why), (properties) => encodeSuback5(packetId, codes, properties))
}

export function unsubscribed(terms: Terms, packetId: number, codes: readonly number[]): Uint8Array | undefined {
  if (terms.level !== 5) return encodeUnsuback(packetId)
  return fitting(terms.packetBytesMax, {}, (properties) => encodeUnsuback5(packetId, codes, properties))
}

function reasons({ problemInformation }: Terms, reasonString: string | undefined): Properties {
  return problemInformation && reasonString !== undefined ? { reasonString } : {}
}
