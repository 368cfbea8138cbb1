import { isUtf8 } from 'node:buffer'
import { limits as core } from '../../core/limits.ts'
import type { Connect, Will } from '../../wire/mqtt/packets.ts'
import type { Connect5, Will5 } from '../../wire/mqtt/v5/packets.ts'
import type { Properties } from '../../wire/mqtt/v5/properties.ts'
import { ReasonCode } from '../../wire/mqtt/v5/reason.ts'
import type { ConnectAnswer, ConnectRequest, MqttPrincipal } from './authorizer.ts'
import type { Connection } from './connection.ts'
import { isReserved } from './filter.ts'
import type { MqttHost } from './host.ts'
import type { MqttLimits } from './limits.ts'
import type { Terms } from './terms.ts'
import { terms31, terms311, terms5 } from './terms.ts'

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
  return {
    terms: packet.level === 3 ? terms31 : terms311,
    clientId,
    clientIdBytes,
    clean,
    keepAliveS,
    will,
    username,
    password,
    properties: noProperties,
  }
}

export function requestOf5(packet: Connect5): ConnectionRequest {
  const { clientId, clientIdBytes, cleanStart: clean, keepAliveS, will, username, password, properties } = packet
  return { terms: terms5(properties), clientId, clientIdBytes, clean, keepAliveS, will, username, password, properties }
}

/** Why a connection is refused whoever it is; undefined: it is not. `retains`: retained messages are kept here. */
export function refusalOf(request: ConnectionRequest, limits: MqttLimits, retains: boolean): Refusal | undefined {
  const { terms, clientId, clientIdBytes, clean, will, properties } = request
  // 3.1 knows no client without an id.
  if ((clientId === '' && (terms.level === 3 || (terms.level === 4 && !clean))) || clientIdBytes > limits.clientIdBytesMax) {
    return { reasonCode: ReasonCode.clientIdentifierNotValid, text: 'The client id is empty or too long. [MQTT-3.1.3-8]' }
  }
  const unfit = will === undefined ? undefined : willRefusal(will.topic, limits)
  if (unfit !== undefined) return unfit
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

/** Its topic is taken as that of a PUBLISH would be. */
function willRefusal(topic: string, { topicBytesMax, topicLevelsMax }: MqttLimits): Refusal | undefined {
  if (isReserved(topic)) return { reasonCode: ReasonCode.topicNameInvalid, text: "The will's topic is the server's own." }
  if (Buffer.byteLength(topic) <= topicBytesMax && topic.split('/').length <= topicLevelsMax) return undefined
  return { reasonCode: ReasonCode.topicNameInvalid, text: "The will's topic is longer or deeper than the limit." }
}

/** The keep-alive that holds, in seconds: the client's, unless the server has a longest one. */
export function keepAliveOf({ keepAliveS, terms }: ConnectionRequest, { keepAliveSMax }: MqttLimits): number {
  if (terms.level !== 5 || keepAliveSMax === 0) return keepAliveS
  return keepAliveS === 0 ? keepAliveSMax : Math.min(keepAliveS, keepAliveSMax)
}

/** How long the session is to outlive its connection, in seconds: as the client asks, in 3.1.1 as the server says, and no longer than it allows. */
export function expiryOf({ terms, clean, properties }: ConnectionRequest, { sessionExpiryS, sessionExpirySMax }: MqttLimits): number {
  const asked = terms.level === 5 ? (properties.sessionExpiryInterval ?? 0) : clean ? 0 : sessionExpiryS
  return Math.min(asked, sessionExpirySMax)
}

/** What the CONNACK of MQTT 5 says (section 3.2.2.3): where something is otherwise than its absence would mean. */
export function connackProperties(request: ConnectionRequest, clientId: string, limits: MqttLimits, retains: boolean): Properties {
  const keepAliveS = keepAliveOf(request, limits)
  // Without a store a session ends with its connection, whatever was asked for.
  const expiryS = retains ? expiryOf(request, limits) : 0
  return {
    ...(expiryS === (request.properties.sessionExpiryInterval ?? 0) ? {} : { sessionExpiryInterval: expiryS }),
    ...(limits.receiveInflightMax < 65_535 ? { receiveMaximum: limits.receiveInflightMax } : {}),
    ...(retains ? {} : { retainAvailable: false }),
    maximumPacketSize: limits.packetBytesMax,
    ...(clientId === request.clientId ? {} : { assignedClientIdentifier: clientId }),
    ...(limits.topicAliasMax > 0 ? { topicAliasMaximum: limits.topicAliasMax } : {}),
    ...(keepAliveS === request.keepAliveS ? {} : { serverKeepAlive: keepAliveS }),
  }
}

/** Who a client is. `late`: its credentials are wrong, which is not to be told at once; `account`: whose password was tried. */
export type Admission =
  | { readonly principal: MqttPrincipal }
  | { readonly refusal: Refusal; readonly late: boolean; readonly account?: string | undefined }

const reasonCodes = {
  bad_credentials: ReasonCode.badUserNameOrPassword,
  not_authorized: ReasonCode.notAuthorized,
  client_id: ReasonCode.clientIdentifierNotValid,
} as const

/** Asks the authorizer; a client without an id gets one. Never rejects. */
export function authorize(host: MqttHost, { remoteAddress, certificate }: Connection, request: ConnectionRequest): Admission | Promise<Admission> {
  const { throttle, authorizer, counters, random, logger } = host
  const { username, password } = request
  const assigned = request.clientId === ''
  const clientId = assigned ? `auto-${random.uuid()}` : request.clientId
  const asked: ConnectRequest = { clientId, assigned, username, password, remoteAddress, certificate }
  const account = authorizer.account?.(asked)
  const judge = (answer: ConnectAnswer): Admission => {
    if (answer.ok) {
      if (account !== undefined) throttle.succeeded(remoteAddress, account)
      if (request.will === undefined || authorizer.publish(answer, request.will.topic, request.will.retain)) return { principal: answer }
      counters.dropped.denied.value++
      return { refusal: { reasonCode: ReasonCode.notAuthorized, text: 'The client may not publish its will.' }, late: false }
    }
    counters.authFailures.value++
    // MQTT 5 allows a password without a user name (section 3.1.2.9).
    const credentials = username !== undefined || password !== undefined
    const text = answer.reason ?? (credentials ? 'The credentials are not valid.' : 'Credentials are missing.')
    const late = credentials && answer.code !== 'client_id'
    // As many as may wait do: more are told at once that they were not looked at, which is what they would have been told before.
    if (late && !throttle.admits(remoteAddress)) return unseen(host)
    return { refusal: { reasonCode: reasonCodes[answer.code], text }, late, account }
  }
  if (account !== undefined && !throttle.admits(remoteAddress, account)) {
    counters.authFailures.value++
    return unseen(host)
  }
  const answer = authorizer.connect(asked)
  if (!(answer instanceof Promise)) return judge(answer)
  const looked = account === undefined ? undefined : throttle.looking(remoteAddress, account)
  return answer
    .then(judge, (thrown: unknown): Admission => {
      logger.error('mqtt authorizer failed', { client: clientId, error: String(thrown) })
      return { refusal: { reasonCode: ReasonCode.serverUnavailable, text: 'Who the client is could not be looked up.' }, late: false }
    })
    .finally(looked)
}

function unseen({ counters }: MqttHost): Admission {
  counters.authUnseen.value++
  return { refusal: { reasonCode: ReasonCode.serverUnavailable, text: 'Too many failed credentials; try again in some seconds.' }, late: false }
}

/** Answers wrong credentials as late as they are to be. */
export function answerLate(host: MqttHost, address: string, clientId: string, account: string | undefined, answer: () => void): void {
  const failures = host.throttle.failed(address, answer, account)
  if (failures !== core.authToldFailures) return
  host.logger.warn('mqtt passwords are being guessed', { address, client: clientId, failures: String(failures) })
}
