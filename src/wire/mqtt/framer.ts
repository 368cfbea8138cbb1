import { readConnect } from './connect.ts'
import { headerBytes, oversizedNeed, packetTooLarge, publishIdZero, publishTruncated, readOversized } from './oversized.ts'
import type { AckType, PacketSink, Violation } from './packets.ts'
import { PacketType, violation } from './packets.ts'
import { readSubscribe } from './subscribe.ts'
import { checkTopicName } from './text.ts'

const none = new Uint8Array(0)
/** Up to here a partial packet's buffer is allocated at once; a longer one grows as its bytes arrive, so that a header alone costs nothing. */
const allocateAtOnceBytes = 4096
/** Fixed header: one byte, and a remaining length of one to four [section 2.2.3]. */
const headerBytesMax = 5

/**
 * Cuts a client's byte stream into packets (MQTT 3.1.1, what a server receives). Chunks are read in place; only the packet that
 * a chunk ends in is copied, into a buffer that never grows beyond `packetBytesMax` + 5. After a violation nothing more is read. Of a
 * PUBLISH over the limit the beginning is read, if `oversizedBytes` says so, before the violation.
 */
export class Framer {
  /** Longest packet, fixed header included; checked as soon as the header is there. May change between packets. */
  packetBytesMax: number
  /** Payload bytes of a PUBLISH over the limit that are handed to the sink; 0: it is a violation at its header. */
  oversizedBytes = 0
  /** Complete packets seen. */
  packets = 0
  #partial: Uint8Array = none
  #length = 0
  /** Bytes of the partial packet once its header is complete, else 0. */
  #need = 0
  /** Whole length of a PUBLISH over the limit whose beginning is being gathered, else 0. */
  #oversized = 0
  #stopped = false
  #pushing = false
  #rest: Uint8Array = none
  #violation: Violation | undefined
  readonly #sink: PacketSink

  constructor(sink: PacketSink, packetBytesMax: number) {
    this.#sink = sink
    this.packetBytesMax = packetBytesMax
  }

  /** Bytes kept: of a partial packet, and what came behind the packet that stopped the reading. */
  get pendingBytes(): number {
    return this.#length + this.#rest.length
  }

  /** Reads bytes[start, end), borrowed for the call. Returns what is wrong with the stream, again at each later call. */
  push(bytes: Uint8Array, start: number, end: number): Violation | undefined {
    if (this.#violation !== undefined) return this.#violation
    if (this.#stopped) {
      this.#keepRest(bytes, start, end)
      return undefined
    }
    this.#pushing = true
    try {
      let at = this.#length === 0 ? start : this.#complete(bytes, start, end)
      while (at < end && this.#violation === undefined && !this.#stopped) {
        const next = this.#packet(bytes, at, end)
        if (next < 0) break
        at = next
      }
      if (at < end && this.#violation === undefined) {
        if (this.#stopped) this.#keepRest(bytes, at, end)
        else this.#keep(bytes, at, end)
      }
    } finally {
      this.#pushing = false
    }
    return this.#violation
  }

  /** Called by the sink: no further packet until `resume`. What the chunk still holds is copied. */
  stop(): void {
    this.#stopped = true
  }

  /** Goes on with what was kept by `stop`. */
  resume(): Violation | undefined {
    this.#stopped = false
    if (this.#pushing || this.#rest.length === 0) return this.#violation
    const rest = this.#rest
    this.#rest = none
    return this.push(rest, 0, rest.length)
  }

  /** The stream is over: what is there of a PUBLISH over the limit goes to the sink. */
  finish(): void {
    if (this.#oversized > 0 && this.#violation === undefined) this.#readOversized()
  }

  /** Reads one packet at `at`; returns where it ended, or -1: incomplete (or wrong, see #violation). */
  #packet(bytes: Uint8Array, at: number, end: number): number {
    const first = bytes[at]!
    if (!this.#headerFits(first) || at + 1 >= end) return -1
    let length = bytes[at + 1]!
    let body = at + 2
    if (length > 127) {
      length = readLength(bytes, at + 1, end)
      if (length === incomplete) return -1
      if (length === tooLong) return this.#fail(lengthTooLong)
      body = at + headerBytes(bytes, at)
    }
    if (!this.#lengthFits(first, length, body - at)) return -1
    const next = body + length
    if (next > end) return -1
    this.#dispatch(bytes, first, body, next)
    return this.#violation === undefined ? next : -1
  }

  #headerFits(first: number): boolean {
    const wrong = headerViolations[first]
    if (wrong === undefined) return true
    this.#violation = wrong
    return false
  }

  #lengthFits(first: number, length: number, header: number): boolean {
    const exact = exactLength[first >> 4]!
    if (exact >= 0 && length !== exact) this.#violation = wrongLength
    else if (length + header > this.packetBytesMax) {
      if (first >> 4 !== PacketType.publish || this.oversizedBytes === 0) this.#violation = packetTooLarge
      else this.#oversized = length + header
      return false
    }
    return this.#violation === undefined
  }

  #dispatch(bytes: Uint8Array, first: number, start: number, end: number): void {
    this.packets++
    const type = first >> 4
    if (type === PacketType.publish) {
      this.#publish(bytes, first, start, end)
    } else if (type >= PacketType.puback && type <= PacketType.pubcomp) {
      const packetId = (bytes[start]! << 8) | bytes[start + 1]!
      if (packetId === 0) this.#violation = ackIdZero
      else this.#sink.acknowledged(type as AckType, packetId)
    } else if (type === PacketType.pingreq) {
      this.#sink.pingreq()
    } else if (type === PacketType.disconnect) {
      this.#sink.disconnect()
    } else if (type === PacketType.connect) {
      this.#violation = readConnect(bytes, start, end, this.#sink)
    } else {
      this.#violation = readSubscribe(bytes, start, end, this.#sink, type === PacketType.unsubscribe)
    }
  }

  #publish(bytes: Uint8Array, first: number, start: number, end: number): void {
    const topicStart = start + 2
    if (topicStart > end) return void this.#fail(publishTruncated)
    const topicEnd = topicStart + ((bytes[start]! << 8) | bytes[start + 1]!)
    if (topicEnd > end) return void this.#fail(publishTruncated)
    const wrong = checkTopicName(bytes, topicStart, topicEnd)
    if (wrong !== undefined) return void this.#fail(wrong)
    let payloadStart = topicEnd
    let packetId = 0
    if ((first & 0x06) !== 0) {
      payloadStart += 2
      if (payloadStart > end) return void this.#fail(publishTruncated)
      packetId = (bytes[topicEnd]! << 8) | bytes[topicEnd + 1]!
      if (packetId === 0) return void this.#fail(publishIdZero)
    }
    this.#sink.publish(bytes, first & 0x0f, topicStart, topicEnd, packetId, payloadStart, end)
  }

  #fail(wrong: Violation): -1 {
    this.#violation = wrong
    return -1
  }

  /** Adds to the partial packet until it is whole and reads it; returns where the chunk goes on. */
  #complete(bytes: Uint8Array, start: number, end: number): number {
    if (this.#oversized > 0) return this.#gather(bytes, start, end)
    let at = start
    while (this.#need === 0) {
      if (at === end) return at
      this.#append(bytes, at, at + 1)
      at++
      this.#learnNeed()
      if (this.#violation !== undefined) return end
      if (this.#oversized > 0) return this.#gather(bytes, at, end)
    }
    const until = Math.min(end, at + this.#need - this.#length)
    this.#append(bytes, at, until)
    if (this.#length < this.#need) return end
    const partial = this.#partial
    const length = this.#length
    this.#length = 0
    this.#need = 0
    if (length > allocateAtOnceBytes) this.#partial = none
    this.#packet(partial, 0, length)
    return until
  }

  /** The partial packet's whole length, when its header is there. */
  #learnNeed(): void {
    if (this.#length < 2) return
    const length = readLength(this.#partial, 1, this.#length)
    if (length === incomplete) return
    if (length === tooLong) {
      this.#violation = lengthTooLong
      return
    }
    const header = headerBytes(this.#partial, 0)
    if (this.#lengthFits(this.#partial[0]!, length, header)) this.#need = header + length
  }

  /** A chunk ended within a packet: its first bytes wait for the rest. */
  #keep(bytes: Uint8Array, start: number, end: number): void {
    if (this.#oversized > 0) return void this.#gather(bytes, start, end)
    this.#append(bytes, start, end)
    this.#learnNeed()
  }

  /** Gathers the beginning of a PUBLISH over the limit, no more of it than the sink is to have; ends with a violation. */
  #gather(bytes: Uint8Array, start: number, end: number): number {
    let at = start
    if (this.#length === 0) {
      // Its header came whole, else bytes would be here.
      at += headerBytes(bytes, start)
      this.#append(bytes, start, at)
    }
    while (this.#violation === undefined) {
      this.#need = oversizedNeed(this.#partial, this.#length, this.#oversized, this.oversizedBytes)
      if (this.#length >= this.#need) this.#readOversized()
      else if (at === end) break
      else {
        const until = Math.min(end, at + this.#need - this.#length)
        this.#append(bytes, at, until)
        at = until
      }
    }
    return end
  }

  #readOversized(): void {
    this.#violation = readOversized(this.#partial, this.#length, this.#oversized, this.#sink)
  }

  #append(bytes: Uint8Array, start: number, end: number): void {
    const length = this.#length + end - start
    if (length > this.#partial.length) {
      const wanted =
        this.#need > 0 && this.#need <= allocateAtOnceBytes ? this.#need : Math.max(length, Math.min(this.#partial.length * 2, this.#need))
      const grown = new Uint8Array(Math.max(wanted, length, 16))
      grown.set(this.#partial.subarray(0, this.#length))
      this.#partial = grown
    }
    if (end - start === 1) this.#partial[this.#length] = bytes[start]!
    else this.#partial.set(bytes.subarray(start, end), this.#length)
    this.#length = length
  }

  #keepRest(bytes: Uint8Array, start: number, end: number): void {
    const rest = new Uint8Array(this.#rest.length + end - start)
    rest.set(this.#rest)
    rest.set(bytes.subarray(start, end), this.#rest.length)
    this.#rest = rest
  }
}

const incomplete = -1
const tooLong = -2

/** The remaining length at `at`, in bytes[…, end): seven bits a byte, low ones first [section 2.2.3]. */
function readLength(bytes: Uint8Array, at: number, end: number): number {
  let length = 0
  for (let i = 0; i < headerBytesMax - 1; i++) {
    if (at + i >= end) return incomplete
    const byte = bytes[at + i]!
    length |= (byte & 0x7f) << (7 * i)
    if (byte < 0x80) return length
  }
  return tooLong
}

const lengthTooLong = violation('section 2.2.3', 'The remaining length has more than four bytes.')
const wrongLength = violation('section 2.2.3', 'A packet of fixed size has another remaining length.')
const ackIdZero = violation('MQTT-2.3.1-1', 'An acknowledgement has packet id 0.')

/** Remaining length of packets that have only one, by type; -1 where it varies. */
const exactLength: readonly number[] = [-1, -1, 2, -1, 2, 2, 2, 2, -1, -1, -1, 2, 0, 0, 0, -1]

/** What is wrong with a first byte from a client, by its value; undefined where nothing is. */
const headerViolations: readonly (Violation | undefined)[] = Array.from({ length: 256 }, (_, first) => headerViolation(first >> 4, first & 0x0f))

function headerViolation(type: number, flags: number): Violation | undefined {
  if (type === PacketType.publish) {
    if ((flags & 0x06) === 0x06) return violation('MQTT-3.3.1-4', 'A PUBLISH has QoS 3.')
    if ((flags & 0x0e) === 0x08) return violation('MQTT-3.3.1-2', 'A PUBLISH of QoS 0 has DUP set.')
    return undefined
  }
  if (type === 0 || type === 15) return violation('section 2.2.1', 'The packet type is reserved.')
  if (type === PacketType.connack || type === PacketType.suback || type === PacketType.unsuback || type === PacketType.pingresp) {
    return violation('section 2.2.1', 'A client sent a packet that only a server sends.')
  }
  if (type === PacketType.pubrel) return flags === 2 ? undefined : violation('MQTT-3.6.1-1', 'The flags of a PUBREL are not 0010.')
  if (type === PacketType.subscribe) return flags === 2 ? undefined : violation('MQTT-3.8.1-1', 'The flags of a SUBSCRIBE are not 0010.')
  if (type === PacketType.unsubscribe) return flags === 2 ? undefined : violation('MQTT-3.10.1-1', 'The flags of an UNSUBSCRIBE are not 0010.')
  return flags === 0 ? undefined : violation('MQTT-2.2.2-2', 'Reserved flags of the fixed header are set.')
}
