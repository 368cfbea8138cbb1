import { notShortest } from './fields.ts'
import { headerBytes, oversizedNeed, packetTooLarge, publishIdZero, publishTruncated, readOversized } from './oversized.ts'
import type { AckType, PublishSink, Violation } from './packets.ts'
import { inFive, PacketType, violation } from './packets.ts'
import type { Spares } from './spares.ts'
import { checkTopicName } from './text.ts'
import { ackIdZero } from './v5/answers.ts'
import type { PublishSink5 } from './v5/packets.ts'
import type { Side5 } from './v5/reader.ts'
import { Reader5 } from './v5/reader.ts'

const none = new Uint8Array(0)
/** Up to here a partial packet's buffer is allocated at once; a longer one grows as its bytes arrive, so that a header alone costs nothing. */
const allocateAtOnceBytes = 4096
/** Fixed header: one byte, and a remaining length of one to four [section 2.2.3]. */
const headerBytesMax = 5

/** What a stream learns of the version that its peer speaks. */
export interface Levels<S5> {
  speak(level: 3 | 4): void
  /** From the next packet on it is MQTT 5. Returns who takes its packets; undefined: that version is not spoken here. */
  speak5(): S5 | undefined
}

/** Which packets one side of a connection may be sent, and how those other than PUBLISH and its acknowledgements are read. */
export interface Side<S, S5> {
  /** What the other side sends may hold characters that names should not have: it has let them in. */
  readonly lenient: boolean
  /** What is wrong with a first byte, by its value; undefined where nothing is. */
  readonly headers: readonly (Violation | undefined)[]
  /** Remaining length of packets that have only one, by type; -1 where it varies. */
  readonly lengths: readonly number[]
  /** Reads the packet of `type` whose content is bytes[start, end) and hands it to the sink. PINGREQ and PINGRESP of MQTT 5 as well. */
  read(type: number, bytes: Uint8Array, start: number, end: number, sink: S, levels: Levels<S5>): Violation | undefined
  readonly five: Side5<S5>
}

/**
 * Cuts a peer's byte stream into packets (MQTT 3.1.1, and 5 where there is a sink for it). Chunks are read in place; only the packet that a
 * chunk ends in is copied, into a buffer that never grows beyond the power of 2 above `packetBytesMax` + 5. After a violation nothing more is read. Of a PUBLISH
 * over the limit the beginning is read, if `oversizedBytes` says so, before the violation, or before the rest is passed over; that takes
 * no more than `oversizedBytes`, twice `limits.mqttTopicBytesMax` and 13.
 */
export class PacketStream<S extends PublishSink, S5 extends PublishSink5> implements Levels<S5> {
  /** Longest packet, fixed header included; checked as soon as the header is there. May change between packets. */
  packetBytesMax: number
  /** Payload bytes of a PUBLISH over the limit that are handed to the sink; 0: it is a violation at its header. */
  oversizedBytes = 0
  /** A PUBLISH over the limit, once its beginning was handed to the sink, is no violation: the rest of it is passed over. */
  passOversized = false
  /** MQTT 5: the greatest topic alias that the peer was told it may use (sections 3.1.2.11.5 and 3.2.2.3.8); set once, before one comes. */
  topicAliasMax = 0
  /** Complete packets seen. */
  packets = 0
  /** The protocol level that is spoken: 3 or 4 (3.1, 3.1.1), 5; 0 until it is known. */
  level: 0 | 3 | 4 | 5 = 0
  #partial: Uint8Array = none
  #length = 0
  /** Bytes of the partial packet once its header is complete, else 0. */
  #need = 0
  /** Whole length of a PUBLISH over the limit whose beginning is being gathered, else 0. */
  #oversized = 0
  #stopped = false
  #pushing = false
  /** What came behind the packet that stopped the reading: from `#restAt` on. */
  #rest: Uint8Array = none
  #restAt = 0
  #violation: Violation | undefined
  /** Bytes still to be passed over of a PUBLISH over the limit. */
  #passing = 0
  /** Where large buffers come from, and go; absent: each is made anew. */
  readonly #spares: Spares | undefined
  readonly #sink: S
  /** Undefined: MQTT 5 is not spoken here. */
  readonly #sink5: S5 | undefined
  readonly #side: Side<S, S5>
  /** Reads the packets once MQTT 5 is spoken. */
  #five: Reader5<S5> | undefined

  constructor(sink: S, packetBytesMax: number, side: Side<S, S5>, sink5: S5 | undefined, spares?: Spares) {
    this.#sink = sink
    this.#spares = spares
    this.packetBytesMax = packetBytesMax
    this.#side = side
    this.#sink5 = sink5
  }

  speak(level: 3 | 4): void {
    this.level = level
  }

  speak5(): S5 | undefined {
    if (this.#sink5 === undefined) return undefined
    this.level = 5
    this.#five ??= new Reader5(this.#sink5, this.#side.five)
    return this.#sink5
  }

  /** Bytes kept: of a partial packet, and what came behind the packet that stopped the reading. */
  get pendingBytes(): number {
    return this.#length + this.#rest.length - this.#restAt
  }

  /** Whether a PUBLISH over the limit has begun, and more of its beginning is waited for. */
  get overLimit(): boolean {
    return this.#oversized > 0 && this.#violation === undefined
  }

  /** Reads bytes[start, end), borrowed for the call. Returns what is wrong with the stream, again at each later call. */
  push(bytes: Uint8Array, start: number, end: number): Violation | undefined {
    if (this.#violation !== undefined) return this.#violation
    if (this.#stopped) {
      this.#keepRest(bytes, start, end)
      return undefined
    }
    return this.#read(bytes, start, end, false)
  }

  /** `own`: the bytes are the stream's own, up to their end. */
  #read(bytes: Uint8Array, start: number, end: number, own: boolean): Violation | undefined {
    this.#pushing = true
    try {
      let at = start
      while (at < end && this.#violation === undefined && !this.#stopped) {
        if (this.#passing > 0) at = this.#pass(at, end)
        else if (this.#length > 0) at = this.#complete(bytes, at, end)
        else {
          const next = this.#packet(bytes, at, end)
          if (next >= 0) at = next
          else if (this.#violation === undefined) at = this.#keep(bytes, at, end)
        }
      }
      if (at < end && this.#violation === undefined) {
        // A chunk of a thousand packets may be stopped at each: it is not copied each time, and not kept once most of it was read.
        if (own && this.#rest.length === 0 && at * 2 < end) {
          this.#rest = bytes
          this.#restAt = at
        } else this.#keepRest(bytes, at, end)
      }
    } finally {
      this.#pushing = false
    }
    if (this.#violation !== undefined && this.#five !== undefined) this.#violation = inFive(this.#violation)
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
    const at = this.#restAt
    this.#rest = none
    this.#restAt = 0
    return this.#violation ?? this.#read(rest, at, rest.length, true)
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
      if (bytes[body - 1] === 0 && this.#five !== undefined) return this.#fail(notShortest)
    }
    if (!this.#lengthFits(first, length, body - at)) return -1
    const next = body + length
    if (next > end) return -1
    this.#dispatch(bytes, first, body, next)
    return this.#violation === undefined ? next : -1
  }

  #headerFits(first: number): boolean {
    const wrong = (this.#five === undefined ? this.#side : this.#five.side).headers[first]
    if (wrong === undefined) return true
    this.#violation = wrong
    return false
  }

  #lengthFits(first: number, length: number, header: number): boolean {
    const exact = (this.#five === undefined ? this.#side : this.#five.side).lengths[first >> 4]!
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
    if (first >> 4 === PacketType.publish) {
      if (this.#five === undefined) this.#publish(bytes, first, start, end)
      else this.#violation = this.#five.publish(bytes, first, start, end, this.topicAliasMax)
    } else this.#other(bytes, first >> 4, start, end)
  }

  #other(bytes: Uint8Array, type: number, start: number, end: number): void {
    if (this.#five !== undefined && type !== PacketType.pingreq && type !== PacketType.pingresp) {
      this.#violation = this.#five.read(type, bytes, start, end)
    } else if (type >= PacketType.puback && type <= PacketType.pubcomp) {
      const packetId = (bytes[start]! << 8) | bytes[start + 1]!
      if (packetId === 0) this.#violation = ackIdZero
      else this.#sink.acknowledged(type as AckType, packetId)
    } else {
      this.#violation = this.#side.read(type, bytes, start, end, this.#sink, this)
    }
  }

  #publish(bytes: Uint8Array, first: number, start: number, end: number): void {
    const topicStart = start + 2
    if (topicStart > end) return void this.#fail(publishTruncated)
    const topicEnd = topicStart + ((bytes[start]! << 8) | bytes[start + 1]!)
    if (topicEnd > end) return void this.#fail(publishTruncated)
    const wrong = checkTopicName(bytes, topicStart, topicEnd, this.#side.lenient)
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
    // Its packet was lent for the call, as one that came whole is.
    if (this.#partial !== partial) this.#spares?.give(partial)
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
    if (this.#five !== undefined && header > 2 && this.#partial[header - 1] === 0) return void this.#fail(notShortest)
    if (this.#lengthFits(this.#partial[0]!, length, header)) this.#need = header + length
  }

  /** A chunk ended within a packet: its first bytes wait for the rest. Returns where the chunk goes on. */
  #keep(bytes: Uint8Array, start: number, end: number): number {
    if (this.#oversized > 0) return this.#gather(bytes, start, end)
    this.#append(bytes, start, end)
    this.#learnNeed()
    return end
  }

  #pass(at: number, end: number): number {
    const passed = Math.min(this.#passing, end - at)
    this.#passing -= passed
    return at + passed
  }

  /** Gathers the beginning of a PUBLISH over the limit, no more of it than the sink is to have. Returns where the chunk goes on. */
  #gather(bytes: Uint8Array, start: number, end: number): number {
    let at = start
    if (this.#length === 0) {
      // Its header came whole, else bytes would be here.
      at += headerBytes(bytes, start)
      this.#append(bytes, start, at)
    }
    for (;;) {
      this.#need =
        this.#five === undefined
          ? oversizedNeed(this.#partial, this.#length, this.#oversized, this.oversizedBytes)
          : this.#five.oversizedNeed(this.#partial, this.#length, this.#oversized, this.oversizedBytes)
      if (this.#length >= this.#need) {
        this.#readOversized()
        return at
      }
      if (at === end) return end
      const until = Math.min(end, at + this.#need - this.#length)
      this.#append(bytes, at, until)
      at = until
    }
  }

  #readOversized(): void {
    const wrong =
      this.#five === undefined
        ? readOversized(this.#partial, this.#length, this.#oversized, this.#sink, this.#side.lenient)
        : this.#five.oversized(this.#partial, this.#length, this.#oversized, this.topicAliasMax)
    if (!this.passOversized || wrong !== packetTooLarge) {
      this.#violation = wrong
      return
    }
    this.#passing = this.#oversized - this.#length
    this.#oversized = 0
    this.#length = 0
    this.#need = 0
  }

  #append(bytes: Uint8Array, start: number, end: number): void {
    const length = this.#length + end - start
    if (length > this.#partial.length) {
      const wanted =
        this.#need > 0 && this.#need <= allocateAtOnceBytes ? this.#need : Math.max(length, Math.min(this.#partial.length * 2, this.#need))
      const size = Math.max(wanted, length, 16)
      const grown = this.#spares?.take(size) ?? new Uint8Array(size)
      grown.set(this.#partial.subarray(0, this.#length))
      this.#spares?.give(this.#partial)
      this.#partial = grown
    }
    if (end - start === 1) this.#partial[this.#length] = bytes[start]!
    else this.#partial.set(bytes.subarray(start, end), this.#length)
    this.#length = length
  }

  #keepRest(bytes: Uint8Array, start: number, end: number): void {
    const kept = this.#rest.subarray(this.#restAt)
    const rest = new Uint8Array(kept.length + end - start)
    rest.set(kept)
    rest.set(bytes.subarray(start, end), kept.length)
    this.#rest = rest
    this.#restAt = 0
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

const lengthTooLong = violation('section 2.2.3', 'The remaining length has more than four bytes.', { statement5: 'section 2.1.4' })
const wrongLength = violation('section 2.2.3', 'A packet of fixed size has another remaining length.', { statement5: 'section 2.1.4' })
