import { isUtf8 } from 'node:buffer'
import type { Connect, Will } from '../../wire/mqtt/packets.ts'
import type { Connect5, Will5 } from '../../wire/mqtt/v5/packets.ts'
import type { Properties } from '../../wire/mqtt/v5/properties.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import type { MqttPrincipal } from './authorizer.ts'
import type { Connection } from './connection.ts'
import type { MqttHost } from './host.ts'
import type { MqttLimits } from './limits.ts'
import type { Terms } from './terms.ts'
import { terms311, terms5 } from './terms.ts'

/** A CONNECT of either version. */
export interface ConnectionRequest {
  readonly terms: Terms
  readonly clientId: string
  readonly clientIdBytes: number
  readonly clean: boolean
  readonly keepAliveS: number
  readonly will: Will | Will5 | undefined
  readonly username: string | undefined
  readonly password: Uint8Array | undefined
  /** None in 3.1.1. */
  readonly properties: Properties
}

/** What a connection is refused with: a reason code of MQTT 5, and why. */
export interface Refusal {
  readonly reasonCode: number
  readonly text: string
}

const noProperties: Properties = {}

export function requestOf(packet: Connect): ConnectionRequest {
  const { clientId, clientIdBytes, cleanSession: clean, keepAliveS, will, username, password } = packet
  return { terms: terms311, clientId, clientIdBytes, clean, keepAliveS, will, username, password, properties: noProperties }
}

export function requestOf5(packet: Connect5): ConnectionRequest {
  const { clientId, clientIdBytes, cleanStart: clean, keepAliveS, will, username, password, properties } = packet
  return { terms: terms5(properties), clientId, clientIdBytes, clean, keepAliveS, will, username, password, properties }
}

/** Why a connection is refused whoever it is; undefined: it is not. `retains`: retained messages are kept here. */
export function refusalOf(request: ConnectionRequest, limits: MqttLimits, retains: boolean): Refusal | undefined {
  const { terms, clientId, clientIdBytes, clean, will, properties } = request
  if ((clientId === '' && terms.level !== 5 && !clean) || clientIdBytes > limits.clientIdBytesMax) {
    return { reasonCode: ReasonCode.clientIdentifierNotValid, text: 'The client id is empty or too long. [MQTT-3.1.3-8]' }
  }
  if (terms.level !== 5) return undefined
  if (properties.authenticationMethod !== undefined) {
    return { reasonCode: ReasonCode.badAuthenticationMethod, text: 'No authentication method is known here. [MQTT-4.12.0-1]' }
  }
  if (will === undefined) return undefined
  if (will.retain && !retains) return { reasonCode: ReasonCode.retainNotSupported, text: 'No messages are retained here. [MQTT-3.2.2-13]' }
  if ('properties' in will && will.properties.payloadFormatIndicator === true && !isUtf8(will.payload)) {
    return { reasonCode: ReasonCode.payloadFormatInvalid, text: 'The will is said to be UTF-8 and is not.' }
  }
  return undefined
}

/** The keep-alive that holds, in seconds: the client's, unless the server has a longest one. */
export function keepAliveOf({ keepAliveS, terms }: ConnectionRequest, { keepAliveSMax }: MqttLimits): number {
  if (terms.level !== 5 || keepAliveSMax === 0) return keepAliveS
  return keepAliveS === 0 ? keepAliveSMax : Math.min(keepAliveS, keepAliveSMax)
}

/** What the CONNACK of MQTT 5 says (section 3.2.2.3): where something is otherwise than its absence would mean. */
export function connackProperties(request: ConnectionRequest, clientId: string, limits: MqttLimits, retains: boolean): Properties {
  const keepAliveS = keepAliveOf(request, limits)
  return {
    // A session ends with its connection, whatever was asked for.
    ...((request.properties.sessionExpiryInterval ?? 0) > 0 ? { sessionExpiryInterval: 0 } : {}),
    ...(limits.receiveInflightMax < 65_535 ? { receiveMaximum: limits.receiveInflightMax } : {}),
    ...(retains ? {} : { retainAvailable: false }),
    maximumPacketSize: limits.packetBytesMax,
    ...(clientId === request.clientId ? {} : { assignedClientIdentifier: clientId }),
    ...(limits.topicAliasMax > 0 ? { topicAliasMaximum: limits.topicAliasMax } : {}),
    ...(keepAliveS === request.keepAliveS ? {} : { serverKeepAlive: keepAliveS }),
  }
}

/** Who a client is. `late`: its credentials are wrong, which is not to be told at once. */
export type Admission = { readonly principal: MqttPrincipal } | { readonly refusal: Refusal; readonly late: boolean }

/** Asks the authorizer; a client without an id gets one. */
export function authorize(host: MqttHost, { remoteAddress, certificate }: Connection, request: ConnectionRequest): Admission {
  const { throttle, authorizer, counters, random } = host
  const { username, password } = request
  const clientId = request.clientId === '' ? `auto-${random.uuid()}` : request.clientId
  // MQTT 5 allows a password without a user name (section 3.1.2.9).
  const credentials = username !== undefined || password !== undefined
  if (credentials && !throttle.admits(remoteAddress)) {
    counters.authFailures.value++
    return { refusal: { reasonCode: ReasonCode.serverUnavailable, text: 'Too many failed credentials.' }, late: false }
  }
  const answer = authorizer.connect({ clientId, username, password, remoteAddress, certificate })
  if (answer.ok) return { principal: answer }
  counters.authFailures.value++
  const reasonCode = answer.code === 'bad_credentials' ? ReasonCode.badUserNameOrPassword : ReasonCode.notAuthorized
  return { refusal: { reasonCode, text: credentials ? 'The credentials are not valid.' : 'Credentials are missing.' }, late: credentials }
}
