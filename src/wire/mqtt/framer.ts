import { readConnect } from './connect.ts'
import { headerTable } from './header.ts'
import type { PacketSink } from './packets.ts'
import { PacketType, protocolError, violation } from './packets.ts'
import type { Spares } from './spares.ts'
import type { Side } from './stream.ts'
import { PacketStream } from './stream.ts'
import { readSubscribe } from './subscribe.ts'
import { readAck5, readAuth, readDisconnect5 } from './v5/answers.ts'
import type { PacketSink5 } from './v5/packets.ts'
import { readSubscribe5, readUnsubscribe5 } from './v5/subscribe.ts'

/**
 * What a server receives from a client. The level of the CONNECT decides how the stream is read from then on: level 5 where `sink5` is there
 * to take it, and is `unsupported` where it is not.
 */
export class Framer extends PacketStream<PacketSink, PacketSink5> {
  constructor(sink: PacketSink, packetBytesMax: number, sink5?: PacketSink5, spares?: Spares) {
    super(sink, packetBytesMax, fromClient, sink5, spares)
  }
}

const { connect, puback, pubrec, pubrel, pubcomp, subscribe, unsubscribe, pingreq, disconnect, auth } = PacketType
const types = [connect, puback, pubrec, pubrel, pubcomp, subscribe, unsubscribe, pingreq, disconnect]
const serversOnly = violation('section 2.2.1', 'A client sent a packet that only a server sends.', {
  statement5: 'section 2.1.2',
  reasonCode: protocolError,
})
const secondConnect = violation('MQTT-3.1.0-2', 'A second CONNECT.', { reasonCode: protocolError })

const fromClient: Side<PacketSink, PacketSink5> = {
  lenient: false,
  headers: headerTable(types, serversOnly),
  lengths: [-1, -1, 2, -1, 2, 2, 2, 2, -1, -1, -1, 2, 0, 0, 0, -1],
  read(type, bytes, start, end, sink, levels) {
    if (type === connect) return readConnect(bytes, start, end, sink, levels)
    if (type === subscribe || type === unsubscribe) return readSubscribe(bytes, start, end, sink, type === unsubscribe)
    if (type === pingreq) sink.pingreq()
    else sink.disconnect()
    return undefined
  },
  five: {
    headers: headerTable([...types, auth], serversOnly),
    lengths: [-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, -1, -1],
    identifiers: false,
    read(type, bytes, start, end, sink) {
      if (type === puback || type === pubrec || type === pubrel || type === pubcomp) return readAck5(type, bytes, start, end, sink)
      if (type === subscribe) return readSubscribe5(bytes, start, end, sink)
      if (type === unsubscribe) return readUnsubscribe5(bytes, start, end, sink)
      if (type === disconnect) return readDisconnect5(bytes, start, end, sink, false)
      if (type === auth) return readAuth(bytes, start, end, sink, false)
      return secondConnect
    },
  },
}
