import { ClientFramer, connackText, disconnect, encodeConnect, encodeSubscribe, encodeUnsubscribe } from '../../../wire/mqtt/client.ts'
import { ConnackCode } from '../../../wire/mqtt/packets.ts'
import { unexpectedByClient } from '../../../wire/mqtt/unexpected.ts'
import { type OpenDialect, plainTerms } from './dialect.ts'

/** MQTT 3.1.1. */
export const openDialect3: OpenDialect = (packetBytesMax, to) => {
  const stream = new ClientFramer(
    {
      ...unexpectedByClient(() => to.unexpected('it acknowledges a message that we did not send')),
      connack(sessionPresent, code) {
        if (code === ConnackCode.accepted) return to.accepted({ ...plainTerms, sessionPresent })
        const how = code === ConnackCode.unacceptableProtocol ? 'unsupported' : undefined
        to.refused({ text: connackText(code), refused: code !== ConnackCode.serverUnavailable, how })
      },
      suback: (packetId, codes) => to.subscribed(packetId, codes),
      // What still comes of such a topic is acknowledged and left aside.
      unsuback: () => undefined,
      pingresp: () => to.pong(),
      publish: (bytes, flags, topicStart, topicEnd, packetId, start, end) => to.publish(bytes, flags, topicStart, topicEnd, packetId, 0, start, end),
      oversized: (bytes, flags, topicStart, topicEnd, packetId, start, end, payloadBytes) =>
        to.oversized(bytes, flags, topicStart, topicEnd, packetId, 0, start, end, payloadBytes),
    },
    packetBytesMax,
  )
  return {
    version: '3.1.1',
    stream,
    connect: (o) => encodeConnect(o),
    subscribe: (packetId, filters) => encodeSubscribe(packetId, filters, 1),
    unsubscribe: encodeUnsubscribe,
    disconnect: () => disconnect,
  }
}
