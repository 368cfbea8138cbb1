import fc from 'fast-check'
import type { Subscription5 } from '../../src/wire/mqtt/v5/packets.ts'
import type { Properties } from '../../src/wire/mqtt/v5/properties.ts'

export const text: fc.Arbitrary<string> = fc.string({ unit: 'binary', maxLength: 12 }).filter((t) => !t.includes('\0') && t.isWellFormed())
/** Whether it has what a name is refused for (sections 1.5.4 and 5.4.9). */
export const isName = (t: string): boolean => !/[\0-\u001f\u007f-\u009f]|\p{Noncharacter_Code_Point}/u.test(t)
export const name: fc.Arbitrary<string> = text.filter(isName)
export const topic: fc.Arbitrary<string> = name.filter((t) => t !== '' && !/[#+]/.test(t))
const filter: fc.Arbitrary<string> = fc.oneof(
  topic.filter((t) => !t.startsWith('$share')),
  topic.map((t) => `${t.replaceAll('$', 'x')}/+/#`),
  fc.constantFrom('#', '+', '$share/g/a/#', '$share/group/+'),
)
export const id: fc.Arbitrary<number> = fc.integer({ min: 1, max: 65_535 })
export const binary: fc.Arbitrary<Uint8Array> = fc.uint8Array({ maxLength: 20 })
export const qos: fc.Arbitrary<0 | 1 | 2> = fc.constantFrom(0, 1, 2)

const uint16 = fc.oneof(fc.integer({ min: 1, max: 65_535 }), fc.constantFrom(1, 255, 256, 65_535))
const uint32 = fc.oneof(fc.integer({ min: 1, max: 0xffff_ffff }), fc.constantFrom(1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff))
const identifier = fc.oneof(fc.integer({ min: 1, max: 268_435_455 }), fc.constantFrom(1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455))
const userProperties = fc.array(
  fc.tuple(text, text).map(([name, value]): readonly [string, string] => [name, value]),
  { minLength: 1, maxLength: 4 },
)
const optional: { requiredKeys: []; noNullPrototype: true } = { requiredKeys: [], noNullPrototype: true }

const told = { reasonString: text, userProperties }
export const message: fc.Arbitrary<Properties> = fc.record(
  {
    payloadFormatIndicator: fc.boolean(),
    messageExpiryInterval: uint32,
    contentType: text,
    responseTopic: topic,
    correlationData: binary,
    userProperties,
  },
  optional,
)
export const willProperties: fc.Arbitrary<Properties> = fc
  .tuple(message, fc.option(uint32, { nil: undefined }))
  .map(([properties, delay]) => (delay === undefined ? properties : { ...properties, willDelayInterval: delay }))
export const connectProperties: fc.Arbitrary<Properties> = fc
  .record(
    {
      sessionExpiryInterval: uint32,
      receiveMaximum: uint16,
      maximumPacketSize: uint32,
      topicAliasMaximum: uint16,
      requestResponseInformation: fc.boolean(),
      requestProblemInformation: fc.boolean(),
      userProperties,
      authenticationMethod: text,
      authenticationData: binary,
    },
    optional,
  )
  .map(({ authenticationData, ...rest }) =>
    rest.authenticationMethod === undefined || authenticationData === undefined ? rest : { ...rest, authenticationData },
  )
export const connackProperties: fc.Arbitrary<Properties> = fc.record(
  {
    ...told,
    sessionExpiryInterval: uint32,
    receiveMaximum: uint16,
    maximumQoS: fc.constantFrom<0 | 1>(0, 1),
    retainAvailable: fc.boolean(),
    maximumPacketSize: uint32,
    assignedClientIdentifier: text,
    topicAliasMaximum: uint16,
    wildcardSubscriptionAvailable: fc.boolean(),
    subscriptionIdentifierAvailable: fc.boolean(),
    sharedSubscriptionAvailable: fc.boolean(),
    serverKeepAlive: uint16,
    responseInformation: text,
    serverReference: text,
    authenticationMethod: text,
    authenticationData: binary,
  },
  optional,
)
export const ackProperties: fc.Arbitrary<Properties> = fc.record(told, optional)
export const subscribeProperties: fc.Arbitrary<Properties> = fc.record(
  { userProperties, subscriptionIdentifiers: identifier.map((n): readonly number[] => [n]) },
  optional,
)
export const unsubscribeProperties: fc.Arbitrary<Properties> = fc.record({ userProperties }, optional)
export const disconnectProperties: fc.Arbitrary<Properties> = fc.record({ ...told, sessionExpiryInterval: uint32 }, optional)
export const serverDisconnectProperties: fc.Arbitrary<Properties> = fc.record({ ...told, serverReference: text }, optional)
export const authProperties: fc.Arbitrary<Properties> = fc.record(
  { ...told, authenticationMethod: text, authenticationData: binary },
  { requiredKeys: ['authenticationMethod'], noNullPrototype: true },
)
export const subscriptions: fc.Arbitrary<Subscription5[]> = fc.array(
  fc
    .record(
      { filter, qos, noLocal: fc.boolean(), retainAsPublished: fc.boolean(), retainHandling: fc.constantFrom<0 | 1 | 2>(0, 1, 2) },
      { noNullPrototype: true },
    )
    .map((s) => (s.filter.startsWith('$share/') ? { ...s, noLocal: false } : s)),
  { minLength: 1, maxLength: 4 },
)
export const identifiers: fc.Arbitrary<number[]> = fc.array(identifier, { maxLength: 3 })
