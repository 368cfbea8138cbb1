import { limits } from '../../../core/limits.ts'
import { ClientFramer } from '../../../wire/mqtt/client.ts'
import { unexpectedByClient } from '../../../wire/mqtt/unexpected.ts'
import { encodeDisconnect5 } from '../../../wire/mqtt/v5/answers.ts'
import { encodeConnect5 } from '../../../wire/mqtt/v5/connect.ts'
import { ReasonCode } from '../../../wire/mqtt/v5/reason.ts'
import { encodeSubscribe5, encodeUnsubscribe5 } from '../../../wire/mqtt/v5/subscribe.ts'
import type { OpenDialect } from './dialect.ts'
import { connackFault, disconnectFault } from './reasons.ts'

/**
 * MQTT 5. No Maximum Packet Size is announced: a broker would then drop a message over it without a word, and it would leave no dead letter
 * [MQTT-3.1.2-25].
 */
export const openDialect5: OpenDialect = (packetBytesMax, to) => {
  const unexpected = (): void => to.unexpected('it sent a packet that nobody asked for')
  const stream = new ClientFramer({ ...unexpectedByClient(unexpected), pingresp: () => to.pong() }, packetBytesMax, {
    connack5({ sessionPresent, reasonCode, properties }) {
      if (reasonCode !== ReasonCode.success) return to.refused(connackFault(reasonCode, properties))
      to.accepted({
        sessionPresent,
        keepAliveS: properties.serverKeepAlive,
        sessionExpiryS: properties.sessionExpiryInterval,
        clientId: properties.assignedClientIdentifier,
        packetBytesMax: properties.maximumPacketSize ?? Number.POSITIVE_INFINITY,
        wildcards: properties.wildcardSubscriptionAvailable !== false,
        shared: properties.sharedSubscriptionAvailable !== false,
      })
    },
    suback5: (packetId, codes) => to.subscribed(packetId, codes),
    // What still comes of such a topic is acknowledged and left aside.
    unsuback5: () => undefined,
    publish5: (bytes, flags, topicStart, topicEnd, packetId, { alias }, start, end) =>
      to.publish(bytes, flags, topicStart, topicEnd, packetId, alias, start, end),
    oversized5: (bytes, flags, topicStart, topicEnd, packetId, { alias }, start, end, payloadBytes) =>
      to.oversized(bytes, flags, topicStart, topicEnd, packetId, alias, start, end, payloadBytes),
    acknowledged5: () => to.unexpected('it acknowledges a message that we did not send'),
    disconnect5: (reasonCode, properties) => to.refused(disconnectFault(reasonCode, properties ?? {})),
    // We name no authentication method, so that it may send none [MQTT-4.12.0-6].
    auth: unexpected,
  })
  stream.topicAliasMax = limits.mqttPullTopicAliasMax
  return {
    version: '5',
    stream,
    connect: ({ sessionExpiryS, receiveMaximum, ...o }) =>
      encodeConnect5({
        ...o,
        properties: {
          receiveMaximum,
          topicAliasMaximum: limits.mqttPullTopicAliasMax,
          ...(o.clean ? {} : { sessionExpiryInterval: sessionExpiryS }),
        },
      }),
    subscribe: (packetId, filters) =>
      encodeSubscribe5(
        packetId,
        // Retain Handling 1: a subscription that the session has already brings no retained messages again.
        filters.map((filter) => ({ filter, qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 1 })),
      ),
    unsubscribe: (packetId, filters) => encodeUnsubscribe5(packetId, filters),
    disconnect: (reasonCode) => encodeDisconnect5(reasonCode),
  }
}
