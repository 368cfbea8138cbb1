import { PropertyId } from './properties.ts'

/** The properties of a message that go with it to whoever receives it, as they stand in a packet, without their length. */
export interface Forwarded {
  readonly bytes: Uint8Array
  /** Where the four bytes of the message expiry interval are; -1: the message does not expire. */
  readonly expiryAt: number
}

export const nothingForwarded: Forwarded = { bytes: new Uint8Array(0), expiryAt: -1 }

/**
 * A copy of what of the properties bytes[start, end), which were found valid, is passed on: payload format indicator, content type, response
 * topic, correlation data and user properties unaltered and in their order [MQTT-3.3.2-4] [MQTT-3.3.2-15] to [MQTT-3.3.2-18] [MQTT-3.3.2-20],
 * and the message expiry interval, to be lowered by what the message has waited [MQTT-3.3.2-6]. Not passed on: topic alias, subscription
 * identifiers, will delay.
 */
export function forwarded(bytes: Uint8Array, start: number, end: number): Forwarded {
  if (start === end) return nothingForwarded
  let length = 0
  for (let at = start; at < end;) {
    const next = propertyEnd(bytes, at)
    if (isForwarded(bytes[at]!)) length += next - at
    at = next
  }
  if (length === 0) return nothingForwarded
  const copy = new Uint8Array(length)
  let expiryAt = -1
  let to = 0
  // Neighbours are copied together: user properties may be 200,000 of five bytes.
  let run = start
  for (let at = start; at < end;) {
    const next = propertyEnd(bytes, at)
    if (!isForwarded(bytes[at]!)) {
      copy.set(bytes.subarray(run, at), to)
      to += at - run
      run = next
    } else if (bytes[at] === PropertyId.messageExpiryInterval) expiryAt = to + at - run + 1
    at = next
  }
  copy.set(bytes.subarray(run, end), to)
  return { bytes: copy, expiryAt }
}

/** The message expiry interval that a message came with; undefined: it does not expire. */
export function expiryOf({ bytes, expiryAt }: Forwarded): number | undefined {
  return expiryAt < 0 ? undefined : readUint32(bytes, expiryAt)
}

export function readUint32(bytes: Uint8Array, at: number): number {
  return bytes[at]! * 16_777_216 + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!)
}

export function writeUint32(into: Uint8Array, at: number, value: number): void {
  into[at] = value >>> 24
  into[at + 1] = value >>> 16
  into[at + 2] = value >>> 8
  into[at + 3] = value
}

function isForwarded(id: number): boolean {
  return id <= PropertyId.correlationData || id === PropertyId.userProperty
}

/** Where the property at `at` ends; of those that a PUBLISH or a will may have. */
function propertyEnd(bytes: Uint8Array, at: number): number {
  switch (bytes[at]) {
    case PropertyId.payloadFormatIndicator: {
      return at + 2
    }
    case PropertyId.messageExpiryInterval:
    case PropertyId.willDelayInterval: {
      return at + 5
    }
    case PropertyId.topicAlias: {
      return at + 3
    }
    case PropertyId.subscriptionIdentifier: {
      let last = at + 1
      while (bytes[last]! >= 0x80) last++
      return last + 1
    }
    case PropertyId.userProperty: {
      return fieldEnd(bytes, fieldEnd(bytes, at + 1))
    }
    default: {
      return fieldEnd(bytes, at + 1)
    }
  }
}

function fieldEnd(bytes: Uint8Array, at: number): number {
  return at + 2 + ((bytes[at]! << 8) | bytes[at + 1]!)
}
