import type { Violation } from './packets.ts'
import { PacketType, violation } from './packets.ts'

/** What is wrong with the flags of a PUBLISH, which either side may send. */
export function publishHeader(flags: number): Violation | undefined {
  if ((flags & 0x06) === 0x06) return violation('MQTT-3.3.1-4', 'A PUBLISH has QoS 3.')
  if ((flags & 0x0e) === 0x08) return violation('MQTT-3.3.1-2', 'A PUBLISH of QoS 0 has DUP set.')
  return undefined
}

/** What is wrong with the first byte of a packet, by its value: `sends` are the types, other than PUBLISH, that this side sends. */
export function headerTable(sends: readonly number[], elsewhere: Violation): readonly (Violation | undefined)[] {
  return Array.from({ length: 256 }, (_, first) => headerViolation(first >> 4, first & 0x0f, sends, elsewhere))
}

function headerViolation(type: number, flags: number, sends: readonly number[], elsewhere: Violation): Violation | undefined {
  if (type === PacketType.publish) return publishHeader(flags)
  if (!sends.includes(type)) return type === 0 || type === PacketType.auth ? reservedType : elsewhere
  const two = flagsAreTwo.get(type)
  if (two !== undefined) return flags === 2 ? undefined : two
  return flags === 0 ? undefined : reservedFlags
}

const reservedType = violation('section 2.2.1', 'The packet type is reserved.', { statement5: 'section 2.1.2' })
const reservedFlags = violation('MQTT-2.2.2-2', 'Reserved flags of the fixed header are set.', { statement5: 'MQTT-2.1.3-1' })
/** Packets whose flags are 0010. */
const flagsAreTwo: ReadonlyMap<number, Violation> = new Map([
  [PacketType.pubrel, violation('MQTT-3.6.1-1', 'The flags of a PUBREL are not 0010.')],
  [PacketType.subscribe, violation('MQTT-3.8.1-1', 'The flags of a SUBSCRIBE are not 0010.')],
  [PacketType.unsubscribe, violation('MQTT-3.10.1-1', 'The flags of an UNSUBSCRIBE are not 0010.')],
])
