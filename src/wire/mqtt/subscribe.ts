import { limits } from '../../core/limits.ts'
import type { PacketSink, Subscription, Violation } from './packets.ts'
import { violation } from './packets.ts'
import { checkTopicFilter, decodeText } from './text.ts'

/** Reads the SUBSCRIBE (section 3.8) or UNSUBSCRIBE (section 3.10) in bytes[start, end) and hands it to the sink. */
export function readSubscribe(bytes: Uint8Array, start: number, end: number, sink: PacketSink, unsubscribe: boolean): Violation | undefined {
  if (start + 2 > end) return truncated
  const packetId = (bytes[start]! << 8) | bytes[start + 1]!
  if (packetId === 0) return violation('MQTT-2.3.1-1', 'A SUBSCRIBE or UNSUBSCRIBE has packet id 0.')
  let at = start + 2
  if (at === end) return unsubscribe ? noFilterToLeave : noFilter
  const filters: string[] = []
  const subscriptions: Subscription[] = []
  while (at < end) {
    if (at + 2 > end) return truncated
    if (filters.length + subscriptions.length === limits.mqttFiltersPerPacketMax) return tooManyFilters
    const from = at + 2
    at = from + ((bytes[at]! << 8) | bytes[at + 1]!)
    if (at > end) return truncated
    const wrong = checkTopicFilter(bytes, from, at)
    if (wrong !== undefined) return wrong
    const filter = decodeText(bytes, from, at)
    if (unsubscribe) {
      filters.push(filter)
      continue
    }
    if (at === end) return truncated
    const qos = bytes[at++]!
    if (qos > 2) return reservedQos
    subscriptions.push({ filter, qos: qos as 0 | 1 | 2 })
  }
  if (unsubscribe) sink.unsubscribe(packetId, filters)
  else sink.subscribe(packetId, subscriptions)
  return undefined
}

const truncated = violation('section 3.8.3', 'A SUBSCRIBE or UNSUBSCRIBE ends within a field.')
const noFilter = violation('MQTT-3.8.3-3', 'A SUBSCRIBE names no filter.')
const noFilterToLeave = violation('MQTT-3.10.3-2', 'An UNSUBSCRIBE names no filter.')
export const tooManyFilters: Violation = {
  kind: 'limit',
  reasonCode: 0x97,
  statement: 'section 3.8.3',
  text: 'A packet names more filters than the limit.',
}
const reservedQos = violation('MQTT-3.8.3-4', 'A SUBSCRIBE asks for a QoS above 2 or sets reserved bits.')
