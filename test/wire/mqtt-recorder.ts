import { Framer } from '../../src/wire/mqtt/framer.ts'
import type { AckType, Connect, PacketSink, Subscription, Violation } from '../../src/wire/mqtt/packets.ts'

/** Writes down what the framer says, as plain values. `stopsAt`: stops the framer behind each packet of that number. */
export class Recorder implements PacketSink {
  readonly events: unknown[] = []
  readonly framer: Framer
  readonly #stops: boolean

  constructor(packetBytesMax: number, stops = false) {
    this.framer = new Framer(this, packetBytesMax)
    this.#stops = stops
  }
  publish(bytes: Uint8Array, flags: number, topicStart: number, topicEnd: number, packetId: number, start: number, end: number): void {
    const text = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString('latin1')
    this.#note(['publish', flags, text(topicStart, topicEnd), packetId, text(start, end)])
  }
  oversized(
    bytes: Uint8Array,
    flags: number,
    topicStart: number,
    topicEnd: number,
    packetId: number,
    start: number,
    end: number,
    payloadBytes: number,
  ): void {
    const text = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString('latin1')
    this.#note(['oversized', flags, text(topicStart, topicEnd), packetId, text(start, end), payloadBytes])
  }
  acknowledged(type: AckType, packetId: number): void {
    this.#note(['ack', type, packetId])
  }
  connect(packet: Connect): void {
    this.#note(['connect', packet])
  }
  unsupported(level: number): void {
    this.#note(['unsupported', level])
  }
  subscribe(packetId: number, subscriptions: readonly Subscription[]): void {
    this.#note(['subscribe', packetId, subscriptions])
  }
  unsubscribe(packetId: number, filters: readonly string[]): void {
    this.#note(['unsubscribe', packetId, filters])
  }
  pingreq(): void {
    this.#note(['pingreq'])
  }
  disconnect(): void {
    this.#note(['disconnect'])
  }
  #note(event: unknown[]): void {
    this.events.push(event)
    if (this.#stops) this.framer.stop()
  }
}

/** What a stream says when it comes in these chunks; each chunk's memory is overwritten as soon as it was read. */
export function read(
  chunks: readonly Uint8Array[],
  packetBytesMax = 1 << 20,
  stops = false,
): { events: unknown[]; violation: Violation | undefined; packets: number } {
  const recorder = new Recorder(packetBytesMax, stops)
  let violation: Violation | undefined
  for (const chunk of chunks) {
    const shared = Buffer.concat([Buffer.from('before'), chunk, Buffer.from('behind')])
    violation = recorder.framer.push(shared, 6, 6 + chunk.length)
    shared.fill(0xee)
    while (stops && violation === undefined && recorder.framer.pendingBytes > 0) {
      const { pendingBytes } = recorder.framer
      violation = recorder.framer.resume()
      if (recorder.framer.pendingBytes === pendingBytes) break
    }
    if (stops) violation ??= recorder.framer.resume()
  }
  return { events: recorder.events, violation, packets: recorder.framer.packets }
}
