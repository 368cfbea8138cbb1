/** The few MQTT 3.1.1 packets that a publisher writes and reads (OASIS MQTT 3.1.1, section numbers as given). */

const connectHeader = 0x10
const publishHeader = 0x30
/** 2.2.3: four bytes of seven bits. */
const remainingLengthMax = 268_435_455

export interface ConnectFields {
  readonly clientId: string
  readonly keepAliveS: number
  readonly username?: string
  readonly password?: string
}

export const pingRequest: Uint8Array = Uint8Array.of(0xc0, 0)
export const disconnect: Uint8Array = Uint8Array.of(0xe0, 0)

/** 3.1, with Clean Session set: what was not acknowledged is published anew by the client. */
export function connectPacket(fields: ConnectFields): Buffer {
  const strings = [
    fields.clientId,
    ...(fields.username === undefined ? [] : [fields.username]),
    ...(fields.password === undefined ? [] : [fields.password]),
  ].map((s) => Buffer.from(s))
  const flags = 0x02 | (fields.username === undefined ? 0 : 0x80) | (fields.password === undefined ? 0 : 0x40)
  const length = 10 + strings.reduce((sum, s) => sum + 2 + s.length, 0)
  const packet = Buffer.alloc(headerLength(length) + length)
  let at = writeHeader(packet, 0, connectHeader, length)
  at += packet.write('\u0000\u0004MQTT\u0004', at, 'latin1')
  packet[at++] = flags
  at = packet.writeUInt16BE(fields.keepAliveS, at)
  for (const s of strings) {
    at = packet.writeUInt16BE(s.length, at)
    at += s.copy(packet, at)
  }
  return packet
}

/** 3.3. A packet id of 0 means QoS 0. */
export function publishPacket(topic: Uint8Array, payload: Uint8Array, packetId: number): Buffer {
  const length = 2 + topic.length + (packetId === 0 ? 0 : 2) + payload.length
  if (length > remainingLengthMax) throw new RangeError(`An MQTT packet holds at most ${remainingLengthMax} bytes.`)
  const packet = Buffer.allocUnsafe(headerLength(length) + length)
  let at = writeHeader(packet, 0, publishHeader | (packetId === 0 ? 0 : 0x02), length)
  at = packet.writeUInt16BE(topic.length, at)
  packet.set(topic, at)
  at += topic.length
  if (packetId !== 0) at = packet.writeUInt16BE(packetId, at)
  packet.set(payload, at)
  return packet
}

function headerLength(length: number): number {
  return length < 128 ? 2 : length < 16_384 ? 3 : length < 2_097_152 ? 4 : 5
}

function writeHeader(packet: Buffer, start: number, first: number, length: number): number {
  let at = start
  packet[at++] = first
  let rest = length
  do {
    packet[at++] = (rest & 0x7f) | (rest > 127 ? 0x80 : 0)
    rest >>>= 7
  } while (rest > 0)
  return at
}

export interface PacketReceiver {
  /** 3.2.2.3: 0 is accepted. */
  onConnack(returnCode: number): void
  onPuback(packetId: number): void
  onPong(): void
  onError(reason: string): void
}

const connackTexts: Readonly<Record<number, string>> = {
  1: 'it does not speak MQTT 3.1.1',
  2: 'it refuses the client id',
  3: 'it is not available',
  4: 'user name or password are wrong',
  5: 'these credentials are not allowed',
}

export function connackText(returnCode: number): string {
  return connackTexts[returnCode] ?? `return code ${returnCode}`
}

/** Takes chunks as they come; a publisher is only ever sent packets of at most four bytes. */
export class PacketReader {
  readonly #receiver: PacketReceiver
  #carry: Buffer = Buffer.alloc(0)

  constructor(receiver: PacketReceiver) {
    this.#receiver = receiver
  }

  push(chunk: Buffer): void {
    const bytes = this.#carry.length === 0 ? chunk : Buffer.concat([this.#carry, chunk])
    let at = 0
    while (bytes.length - at >= 2) {
      const first = bytes[at] ?? 0
      const length = bytes[at + 1] ?? 0
      if (length > 2) {
        this.#receiver.onError(`unexpected packet 0x${first.toString(16)} of ${length} or more bytes`)
        return
      }
      if (bytes.length - at < 2 + length) break
      if (!this.#one(first, length, bytes, at + 2)) return
      at += 2 + length
    }
    this.#carry = at === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(at))
  }

  #one(first: number, length: number, bytes: Buffer, at: number): boolean {
    if (first === 0x40 && length === 2) this.#receiver.onPuback(bytes.readUInt16BE(at))
    else if (first === 0x20 && length === 2) this.#receiver.onConnack(bytes[at + 1] ?? 0)
    else if (first === 0xd0 && length === 0) this.#receiver.onPong()
    else {
      this.#receiver.onError(`unexpected packet 0x${first.toString(16)}`)
      return false
    }
    return true
  }
}
