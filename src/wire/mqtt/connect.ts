import { Fields } from './fields.ts'
import type { Connect, PacketSink, Violation, Will } from './packets.ts'
import { violation } from './packets.ts'
import type { Levels } from './stream.ts'
import { readConnect5 } from './v5/connect.ts'
import type { PacketSink5 } from './v5/packets.ts'

const truncated = violation('section 3.1.3', 'A CONNECT ends within a field.', { statement5: 'MQTT-3.1.4-1' })

/** Reads the CONNECT in bytes[start, end) (section 3.1) and hands it to the sink; `levels` learns its protocol level before. */
export function readConnect(bytes: Uint8Array, start: number, end: number, sink: PacketSink, levels: Levels<PacketSink5>): Violation | undefined {
  const fields = new Fields(bytes, start, end, truncated)
  const name = fields.text()
  if (fields.failed !== undefined) return fields.failed
  if (name !== 'MQTT' && name !== 'MQIsdp') return violation('MQTT-3.1.2-1', 'The protocol name is neither MQTT nor MQIsdp.')
  if (fields.at >= end) return truncated
  const level = bytes[fields.at]!
  const five = level === 5 && name === 'MQTT' ? levels.speak5() : undefined
  if (five !== undefined) return readConnect5(bytes, start, fields, five)
  if (level !== (name === 'MQTT' ? 4 : 3)) {
    sink.unsupported(level)
    return undefined
  }
  levels.speak(level)
  if (fields.at + 4 > end) return truncated
  const flags = bytes[fields.at + 1]!
  // In 3.1 bit 0 is not used (its section 3.1), and there are clients that have it set.
  const wrong = checkConnectFlags(level === 3 ? flags & 0xfe : flags)
  if (wrong !== undefined) return wrong
  const keepAliveS = (bytes[fields.at + 2]! << 8) | bytes[fields.at + 3]!
  fields.at += 4
  const idAt = fields.at
  const clientId = fields.name()
  const clientIdBytes = Math.max(0, fields.at - idAt - 2)
  const will: Will | undefined =
    (flags & 0x04) === 0
      ? undefined
      : { topic: fields.topicName(), payload: fields.binary(), qos: ((flags >> 3) & 3) as 0 | 1 | 2, retain: (flags & 0x20) !== 0 }
  const username = (flags & 0x80) === 0 ? undefined : fields.name()
  const password = (flags & 0x40) === 0 ? undefined : fields.binary()
  if (fields.failed !== undefined) return fields.failed
  if (fields.at !== end) return violation('section 3.1.3', 'A CONNECT has bytes behind its last field.')
  const packet: Connect = {
    level,
    cleanSession: (flags & 0x02) !== 0,
    keepAliveS,
    clientId,
    clientIdBytes,
    ...(will === undefined ? {} : { will }),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  }
  sink.connect(packet)
  return undefined
}

/** What is wrong with the connect flags (section 3.1.2.3). */
function checkConnectFlags(flags: number): Violation | undefined {
  if ((flags & 0x01) !== 0) return violation('MQTT-3.1.2-3', 'The reserved bit of the connect flags is set.')
  if ((flags & 0x04) === 0) {
    if ((flags & 0x18) !== 0) return violation('MQTT-3.1.2-13', 'Will QoS is set without a will.')
    if ((flags & 0x20) !== 0) return violation('MQTT-3.1.2-15', 'Will retain is set without a will.')
  }
  if ((flags & 0x18) === 0x18) return violation('MQTT-3.1.2-14', 'The will asks for QoS 3.')
  if ((flags & 0xc0) === 0x40) return violation('MQTT-3.1.2-22', 'A password is flagged without a user name.')
  return undefined
}
