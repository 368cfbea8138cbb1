import type { DiskFile } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import type { ReaderKeys } from '../../wire/batch/decode.ts'
import { followDictionary } from './dictionary.ts'
import {
  decodeSegmentHeader,
  frameBytesMin,
  frameIsValid,
  frameSeed,
  frameStride,
  gapKind,
  nextOffset,
  plausibleLength,
  segmentBase,
  segmentHeaderBytes,
  segmentName,
} from './format.ts'
import type { ReadSide } from './read-side.ts'
import { readBytes, SegmentScanner } from './scan.ts'

const readBytesFirst = 256 * 1024
/** While looking for a place in a segment, other work of the thread gets its turn after so many bytes. */
const yieldBytes = 4 * 1024 * 1024

/** Frames next to each other in one segment, checked, in one buffer. */
export interface Run {
  bytes: Buffer<ArrayBuffer>
  /** Where frames start in `bytes`; `count` of them. */
  readonly starts: number[]
  count: number
  /** Bytes of `bytes` that these frames occupy. A gap occupies the segment beyond what is in `bytes`. */
  used: number
  readonly base: bigint
  /** Where in the segment the first frame starts. */
  readonly at: number
  readonly first: bigint
  next: bigint
  /** Nothing may be added: the delivery is large enough, or the segment ends. */
  full: boolean
}

/** A place in the segments of a topic, and the reader's dictionary as of there. */
export class SegmentCursor {
  readonly #side: ReadSide
  readonly #topic: number
  readonly #dir: string
  readonly #keys: ReaderKeys
  #file: DiskFile | undefined
  #base = 0n
  #position = 0
  #offset = -1n
  /** What was asked for, where the next span starts: before `#offset` when that is no longer there. */
  #first = -1n
  #seed = 0

  constructor(side: ReadSide, topicName: string, topic: number, keys: ReaderKeys) {
    this.#side = side
    this.#topic = topic
    this.#dir = `${side.dir}/${topicName}/0`
    this.#keys = keys
  }

  /** The next offset that will be read. */
  get offset(): bigint {
    return this.#offset
  }

  close(): void {
    this.#file?.close()
    this.#file = undefined
  }

  /**
   * Goes to `offset`, which is durable; does nothing when it is there. Where that is no longer kept (retention, a gap), goes to the first
   * one that is; the next span covers what is missing, so that spans follow each other without holes.
   */
  async seek(offset: bigint): Promise<void> {
    if (this.#file !== undefined && this.#first === offset) return
    this.close()
    for (let tries = 0; ; tries++) {
      const earliest = this.#side.board.earliest(this.#topic)
      const wanted = offset < earliest ? earliest : offset
      const base = this.#segmentOf(wanted)
      if (base !== undefined && this.#enter(base)) {
        await this.#walk(wanted)
        this.#first = offset
        return
      }
      // A segment that retention deletes is first declared gone, so what is missing twice in a row is lost.
      if (tries === 3) throw this.#missing(wanted)
    }
  }

  /** Reads frames from here on: at most about `bytesMax`, at least one. Undefined: they are in the next segment, which is entered. */
  take(spare: Buffer<ArrayBuffer> | undefined, bytesMax: number, end: bigint): Run | undefined {
    const run: Run = {
      bytes: spare ?? Buffer.from(new ArrayBuffer(Math.min(Math.max(bytesMax, frameBytesMin), readBytesFirst))),
      starts: [],
      count: 0,
      used: 0,
      base: this.#base,
      at: this.#position,
      first: this.#first,
      next: this.#offset,
      full: false,
    }
    this.more(run, bytesMax, end)
    if (run.count > 0) return run
    this.#enterNext()
    return undefined
  }

  /** Adds frames that became durable since. */
  more(run: Run, bytesMax: number, end: bigint): Run {
    let limit = Math.max(bytesMax, frameBytesMin)
    while (run.next < end && !run.full) {
      const want = Math.max(0, Math.min(run.bytes.length, limit) - run.used)
      const filled = run.used + this.#file!.read(run.bytes.subarray(run.used, run.used + want), run.at + run.used)
      const short = filled < run.used + want
      const needed = this.#parse(run, filled, bytesMax, end)
      if (needed === 0) continue
      if (short) {
        if (run.count === 0 && filled > run.used) throw this.damaged(0, 'the record there is cut off')
        run.full = true
      } else if (run.count > 0 && run.used + needed > bytesMax) run.full = true
      else {
        limit = Math.max(limit, run.used + needed)
        if (run.bytes.length < run.used + needed) grow(run, Math.max(run.used + needed, Math.min(limit, run.bytes.length * 2)))
      }
    }
    return run
  }

  /** The run is delivered: goes on behind it. */
  advance(run: Run): void {
    this.#position = run.at + run.used
    this.#offset = run.next
    this.#first = run.next
  }

  /** Takes only what the frame at `at` says of series; it stands `from` bytes behind this cursor's position. */
  follow(bytes: Buffer, at: number, length: number, from: number): void {
    try {
      followDictionary(bytes, at, length, this.#keys)
    } catch (thrown) {
      if (!(thrown instanceof KymoError) || thrown.code !== 'log_corrupt') throw thrown
      throw this.damaged(from, thrown.message)
    }
  }

  /** `at` counts from this cursor's position. */
  damaged(at: number, reason: string): KymoError {
    const file = `${this.#dir}/${segmentName(this.#base)}`
    const position = this.#position + at
    return new KymoError('log_corrupt', {
      detail: `${file}, byte ${position}: ${reason}. Nothing was removed: kymo log verify shows where, kymo log repair sets the damaged part aside.`,
      facts: { file, position },
    })
  }

  /** Takes frames up to `filled`. Returns how many bytes the next one needs that are not there, or 0 when nothing more is wanted. */
  #parse(run: Run, filled: number, bytesMax: number, end: bigint): number {
    while (run.next < end) {
      const at = run.used
      if (at + frameBytesMin > filled) return frameBytesMin
      const length = plausibleLength(run.bytes, at)
      const occupied = Math.max(length, frameBytesMin)
      if (length !== 0 && at + occupied > filled) return occupied
      const wrong = this.#wrong(run, at, length)
      if (wrong !== undefined && run.count === 0) throw this.damaged(at, wrong)
      // What is good is delivered first; the damage is met again at the start of the next run.
      if (wrong !== undefined || (run.count > 0 && at + occupied > bytesMax)) {
        run.full = true
        return 0
      }
      run.starts[run.count++] = at
      run.next = nextOffset(run.bytes, at)
      run.used += frameStride(run.bytes, at)
      // What follows a gap is not in this buffer at the place where it belongs.
      if (run.bytes[at + 28] === gapKind) {
        run.full = true
        return 0
      }
    }
    return 0
  }

  #wrong(run: Run, at: number, length: number): string | undefined {
    if (length === 0) return 'no record starts there'
    if (!frameIsValid(run.bytes, at, length, this.#seed)) return 'the checksum of the record does not hold'
    const offset = run.bytes.readBigUInt64LE(at + 8)
    return offset === run.next ? undefined : `offset ${offset} stands where ${run.next} should be`
  }

  #segmentOf(offset: bigint): bigint | undefined {
    if (!this.#side.disk.exists(this.#dir)) return undefined
    let found: bigint | undefined
    for (const name of this.#side.disk.list(this.#dir)) {
      const base = segmentBase(name)
      if (base !== undefined && base <= offset) found = base
    }
    return found
  }

  #enter(base: bigint): boolean {
    const path = `${this.#dir}/${segmentName(base)}`
    let file: DiskFile
    try {
      file = this.#side.disk.open(path, 'read')
    } catch (thrown) {
      if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return false
      throw thrown
    }
    this.close()
    this.#file = file
    this.#base = base
    this.#position = 0
    const header = decodeSegmentHeader(readBytes(file, 0, segmentHeaderBytes))
    if (header === undefined || header.logId !== this.#side.id || header.base !== base) throw this.damaged(0, 'the segment has no valid header')
    this.#position = segmentHeaderBytes
    this.#offset = base
    this.#seed = frameSeed(this.#side.id, base)
    this.#keys.restart()
    return true
  }

  #enterNext(): void {
    const offset = this.#offset
    const at = this.#position
    if (this.#side.board.earliest(this.#topic) > offset) {
      this.close()
      return
    }
    if (offset === this.#base || !this.#enter(offset)) {
      this.#position = at
      throw this.damaged(0, `the segment ends there, but offset ${offset} was durable`)
    }
  }

  /** From the segment's start to `offset`, for the dictionary; each frame is checked, since one that lies would give series wrong names. */
  async #walk(offset: bigint): Promise<void> {
    const file = this.#file!
    const scanner = new SegmentScanner(file, this.#seed, segmentHeaderBytes, file.size(), this.#base)
    let pause = yieldBytes
    while (scanner.expected < offset) {
      const step = scanner.next()
      if (step !== 'frame') {
        this.#position = scanner.position
        if (step === 'end') throw this.damaged(0, `the segment ends there, but offset ${offset} was durable`)
        throw this.damaged(0, 'the record there is damaged')
      }
      this.#position = scanner.position
      this.follow(scanner.bytes, scanner.at, scanner.length, 0)
      if (scanner.position > pause) {
        pause += yieldBytes
        await new Promise<void>((resolve) => setImmediate(resolve))
      }
    }
    this.#position = scanner.after
    this.#offset = scanner.expected
  }

  #missing(offset: bigint): KymoError {
    const file = `${this.#dir}/${segmentName(offset)}`
    return new KymoError('log_corrupt', { detail: `No segment holds offset ${offset}, which was durable.`, facts: { file, position: 0 } })
  }
}

function grow(run: Run, size: number): void {
  const grown = Buffer.from(new ArrayBuffer((size + 7) & ~7))
  run.bytes.copy(grown, 0, 0, run.used)
  run.bytes = grown
}
