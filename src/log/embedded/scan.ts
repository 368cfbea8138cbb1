import type { DiskFile } from '../../core/env.ts'
import { frameBytesMin, frameIsValid, frameStride, nextOffset, plausibleLength } from './format.ts'

const windowBytes = 256 * 1024

/**
 * Walks the frames of one segment, with their checksums. After `next()` returned 'frame', `bytes`, `at` and `length` tell where it is
 * until the next call. 'damage' leaves `position` at the first byte that makes no sense; `resync` looks for what is good behind it.
 */
export class SegmentScanner {
  /** File position of the current frame, or of the damage or end. */
  position: number
  /** Offset that the next frame should have; -1n: any. */
  expected: bigint
  bytes: Buffer<ArrayBuffer> = Buffer.alloc(0)
  /** Where the current frame starts in `bytes`. */
  at = 0
  length = 0
  readonly size: number
  readonly #file: DiskFile
  readonly #seed: number
  #windowAt = 0
  #windowEnd = 0
  #stride = 0

  constructor(file: DiskFile, seed: number, from: number, size: number, expected: bigint) {
    this.#file = file
    this.#seed = seed
    this.position = from
    this.size = size
    this.expected = expected
  }

  /** File position behind the current frame. */
  get after(): number {
    return this.position + this.#stride
  }

  next(): 'frame' | 'end' | 'damage' {
    this.position += this.#stride
    this.#stride = 0
    if (this.position === this.size) return 'end'
    if (!this.#valid()) return 'damage'
    if (this.expected !== -1n && this.bytes.readBigUInt64LE(this.at + 8) !== this.expected) return 'damage'
    this.#accept()
    return 'frame'
  }

  /** After damage: moves to the next valid frame whose offset is not below `expected`. False when there is none. */
  resync(): boolean {
    const atLeast = this.expected
    for (let position = this.position + 8; position + frameBytesMin <= this.size; position += 8) {
      this.position = position
      if (!this.#valid() || this.bytes.readBigUInt64LE(this.at + 8) < atLeast) continue
      this.#accept()
      return true
    }
    this.position = this.size
    return false
  }

  #accept(): void {
    this.#stride = frameStride(this.bytes, this.at)
    this.expected = nextOffset(this.bytes, this.at)
  }

  #valid(): boolean {
    if (!this.#load(frameBytesMin)) return false
    this.length = plausibleLength(this.bytes, this.at)
    if (this.length === 0 || !this.#load(Math.max(this.length, frameBytesMin))) return false
    if (!frameIsValid(this.bytes, this.at, this.length, this.#seed)) return false
    const stride = frameStride(this.bytes, this.at)
    return stride >= frameBytesMin && this.position + stride <= this.size
  }

  /** Brings bytes [position, position + count) into the window. */
  #load(count: number): boolean {
    const end = this.position + count
    if (end > this.size) return false
    if (this.position >= this.#windowAt && end <= this.#windowEnd) {
      this.at = this.position - this.#windowAt
      return true
    }
    const wanted = Math.min(Math.max(count, windowBytes), this.size - this.position)
    if (this.bytes.length < wanted) this.bytes = Buffer.from(new ArrayBuffer(Math.max(wanted, Math.min(windowBytes, this.size))))
    const read = this.#file.read(this.bytes.subarray(0, wanted), this.position)
    this.#windowAt = this.position
    this.#windowEnd = this.position + read
    this.at = 0
    return end <= this.#windowEnd
  }
}

/** Reads exactly `count` bytes at `position`, or as many as there are. */
export function readBytes(file: DiskFile, position: number, count: number): Buffer<ArrayBuffer> {
  const bytes = Buffer.from(new ArrayBuffer(count))
  return bytes.subarray(0, file.read(bytes, position))
}
