/** Reason codes (MQTT 5, section 2.4). From 0x80 on they are failures. */
export const ReasonCode = {
  /** In DISCONNECT: normal disconnection; in SUBACK: granted QoS 0. */
  success: 0x00,
  grantedQos1: 0x01,
  grantedQos2: 0x02,
  disconnectWithWill: 0x04,
  noMatchingSubscribers: 0x10,
  noSubscriptionExisted: 0x11,
  continueAuthentication: 0x18,
  reAuthenticate: 0x19,
  unspecifiedError: 0x80,
  malformedPacket: 0x81,
  protocolError: 0x82,
  implementationSpecificError: 0x83,
  unsupportedProtocolVersion: 0x84,
  clientIdentifierNotValid: 0x85,
  badUserNameOrPassword: 0x86,
  notAuthorized: 0x87,
  serverUnavailable: 0x88,
  serverBusy: 0x89,
  banned: 0x8a,
  serverShuttingDown: 0x8b,
  badAuthenticationMethod: 0x8c,
  keepAliveTimeout: 0x8d,
  sessionTakenOver: 0x8e,
  topicFilterInvalid: 0x8f,
  topicNameInvalid: 0x90,
  packetIdentifierInUse: 0x91,
  packetIdentifierNotFound: 0x92,
  receiveMaximumExceeded: 0x93,
  topicAliasInvalid: 0x94,
  packetTooLarge: 0x95,
  messageRateTooHigh: 0x96,
  quotaExceeded: 0x97,
  administrativeAction: 0x98,
  payloadFormatInvalid: 0x99,
  retainNotSupported: 0x9a,
  qosNotSupported: 0x9b,
  useAnotherServer: 0x9c,
  serverMoved: 0x9d,
  sharedSubscriptionsNotSupported: 0x9e,
  connectionRateExceeded: 0x9f,
  maximumConnectTime: 0xa0,
  subscriptionIdentifiersNotSupported: 0xa1,
  wildcardSubscriptionsNotSupported: 0xa2,
} as const

const texts = new Map<number, string>(
  Object.entries(ReasonCode).map(([name, code]) => [code, name.replaceAll(/[A-Z]|\d+/g, (part) => ` ${part.toLowerCase()}`)]),
)

/** The code's name in words: `not authorized`; of one that is reserved, its number. */
export function reasonText(code: number): string {
  return texts.get(code) ?? `reason code 0x${code.toString(16)}`
}

/** Which codes a packet may carry, by the packet's section. */
export const reasonCodes = {
  /** Section 3.2.2.2. */
  connack: setOf(0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f),
  /** PUBACK and PUBREC: sections 3.4.2.1 and 3.5.2.1. */
  publishReceived: setOf(0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99),
  /** PUBREL and PUBCOMP: sections 3.6.2.1 and 3.7.2.1. */
  publishReleased: setOf(0, 0x92),
  /** Section 3.9.3. */
  suback: setOf(0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2),
  /** Section 3.11.3. */
  unsuback: setOf(0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91),
  /** DISCONNECT of a client: section 3.14.2.1. */
  clientDisconnect: setOf(0, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99),
  /** DISCONNECT of a server. */
  serverDisconnect: setOf(0, ...codesOf(0x80, 0x83), 0x87, 0x89, 0x8b, ...codesOf(0x8d, 0x90), ...codesOf(0x93, 0xa2)),
  /** AUTH of a client and of a server: section 3.15.2.1. */
  clientAuth: setOf(0x18, 0x19),
  serverAuth: setOf(0, 0x18),
} as const

function codesOf(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}

function setOf(...codes: readonly number[]): ReadonlySet<number> {
  return new Set(codes)
}
