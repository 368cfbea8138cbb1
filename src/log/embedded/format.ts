import { crc32 } from 'node:zlib'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { LogRecord } from '../../core/record.ts'

/**
 * Bytes of a segment (docs/format/log.md). Numbers are little-endian; frames start at multiples of 8.
 *
 * Header, 64 bytes: magic (8), u32 version, u32 CRC of all other bytes, log id (16), u64 first offset, u64 first offset and u64
 * bytes of the segment before (both 0 when there is none), f64 created (epoch us).
 *
 * Frame: u32 CRC of bytes [4, length), u32 length, u64 offset, f64 received (epoch us), u32 durable, u8 kind, u8 0,
 * u16 key bytes; the key, padded to 8; the body. Occupies max(48, length rounded up to 8) bytes, a gap as many as it says.
 */
export const magic = Buffer.from('KYMOLOG\n', 'latin1')
export const segmentVersion = 1
export const segmentHeaderBytes = 64
export const frameHeaderBytes = 32
/** Every frame occupies at least so much, that repair can put a gap in its place. */
export const frameBytesMin = 48
/** Longer is no frame: the largest body, its key and the header. */
export const frameBytesMax = limits.logRecordBytesMax + 0x1_0000 + frameHeaderBytes

export const kinds = [
  'readings',
  'attributes',
  'tick',
  'dead-letter',
  'dead-letter-mark',
  'erasure',
  'sessions',
] as const satisfies readonly LogRecord['kind'][]
const kindNumbers = new Map<string, number>(kinds.map((kind, i) => [kind, i + 1]))
/**
 * Stands where `repair` took a damaged range out: its offset is the first that was lost; the body is u64 the next that was not, u64 the
 * bytes of the range, which the frame occupies all, and what could be saved of dictionaries, as batches without rows.
 */
export const gapKind = 255
const gapBodyAt = frameHeaderBytes
/** Where saved dictionaries start in a gap's frame. */
export const gapSavedAt = gapBodyAt + 16

export function kindNumber(kind: LogRecord['kind']): number {
  return kindNumbers.get(kind)!
}

export interface SegmentHeader {
  readonly logId: string
  readonly base: bigint
  readonly previousBase: bigint
  readonly previousBytes: number
  readonly createdUs: number
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(segmentHeaderBytes)
  magic.copy(bytes, 0)
  bytes.writeUInt32LE(segmentVersion, 8)
  bytes.write(header.logId.replaceAll('-', ''), 16, 'hex')
  bytes.writeBigUInt64LE(header.base, 32)
  bytes.writeBigUInt64LE(header.previousBase, 40)
  bytes.writeBigUInt64LE(BigInt(header.previousBytes), 48)
  bytes.writeDoubleLE(header.createdUs, 56)
  bytes.writeUInt32LE(headerCrc(bytes), 12)
  return bytes
}

/** Undefined when the bytes are not a header; throws `log_format` when they are one of another version. */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | undefined {
  if (bytes.length < segmentHeaderBytes || !bytes.subarray(0, 8).equals(magic) || bytes.readUInt32LE(12) !== headerCrc(bytes)) return undefined
  const version = bytes.readUInt32LE(8)
  if (version !== segmentVersion) {
    throw new KymoError('log_format', { detail: `A segment has format version ${version}; this Kymo knows ${segmentVersion}.` })
  }
  const hex = bytes.toString('hex', 16, 32)
  return {
    logId: `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`,
    base: bytes.readBigUInt64LE(32),
    previousBase: bytes.readBigUInt64LE(40),
    previousBytes: Number(bytes.readBigUInt64LE(48)),
    createdUs: bytes.readDoubleLE(56),
  }
}

function headerCrc(bytes: Buffer): number {
  return crc32(bytes.subarray(16, segmentHeaderBytes), crc32(bytes.subarray(0, 12)))
}

/**
 * Frame checksums start from this: a frame of another log or segment, or one that a payload imitates, is not valid here.
 */
export function frameSeed(logId: string, base: bigint): number {
  const bytes = Buffer.alloc(24)
  bytes.write(logId.replaceAll('-', ''), 0, 'hex')
  bytes.writeBigUInt64LE(base, 16)
  return crc32(bytes)
}

export function segmentName(base: bigint): string {
  return `${base.toString().padStart(20, '0')}.seg`
}

/** The first offset that a file name states; undefined when it names no segment. */
export function segmentBase(name: string): bigint | undefined {
  return /^\d{20}\.seg$/.test(name) ? BigInt(name.slice(0, 20)) : undefined
}

export function frameOccupies(length: number): number {
  return length <= frameBytesMin ? frameBytesMin : (length + 7) & ~7
}

export interface FrameHeader {
  readonly kind: number
  readonly offset: bigint
  readonly receivedUs: number
  /** Bytes of the segment that were durable when this frame was written. */
  readonly durable: number
}

/** Writes header and key; returns where the body goes. The CRC and the length come with `finishFrame` and `sealFrames`. */
export function startFrame(target: Buffer, at: number, header: FrameHeader, key: string): number {
  const keyBytes = target.write(key, at + frameHeaderBytes)
  const bodyAt = at + frameHeaderBytes + ((keyBytes + 7) & ~7)
  target.fill(0, at + frameHeaderBytes + keyBytes, bodyAt)
  // A write may hold thousands of records: as a BigInt it takes longer than all the rest of the header. No log reaches 2^53 records.
  const offset = Number(header.offset)
  target.writeUInt32LE(offset % 0x1_0000_0000, at + 8)
  target.writeUInt32LE(Math.floor(offset / 0x1_0000_0000), at + 12)
  target.writeDoubleLE(header.receivedUs, at + 16)
  target.writeUInt32LE(header.durable, at + 24)
  target[at + 28] = header.kind
  target[at + 29] = 0
  target.writeUInt16LE(keyBytes, at + 30)
  return bodyAt
}

/** Writes the length and clears the padding; returns where the next frame starts. */
export function finishFrame(target: Buffer, at: number, end: number): number {
  const next = at + frameOccupies(end - at)
  target.fill(0, end, next)
  target.writeUInt32LE(end - at, at + 4)
  return next
}

/** Writes the checksums of the finished frames in [start, end). */
export function sealFrames(target: Buffer, start: number, end: number, seed: number): void {
  for (let at = start; at < end;) {
    const length = target.readUInt32LE(at + 4)
    target.writeUInt32LE(crc32(target.subarray(at + 4, at + length), seed), at)
    at += frameOccupies(length)
  }
}

/** Could a frame start at `at`, by its header? Says nothing of its checksum. Returns its length, or 0. */
export function plausibleLength(bytes: Buffer, at: number): number {
  const length = bytes.readUInt32LE(at + 4)
  const kind = bytes[at + 28]!
  if (length < frameHeaderBytes || length > frameBytesMax || bytes[at + 29] !== 0) return 0
  if (kind === gapKind) return length >= gapBodyAt + 16 ? length : 0
  return kind >= 1 && kind <= kinds.length ? length : 0
}

/** Does a valid frame of `length` bytes start at `at`? All of it must lie in `bytes`. */
export function frameIsValid(bytes: Buffer, at: number, length: number, seed: number): boolean {
  return crc32(bytes.subarray(at + 4, at + length), seed) === bytes.readUInt32LE(at)
}

export function frameHeader(bytes: Buffer, at: number): FrameHeader {
  return {
    kind: bytes[at + 28]!,
    offset: bytes.readBigUInt64LE(at + 8),
    receivedUs: bytes.readDoubleLE(at + 16),
    durable: bytes.readUInt32LE(at + 24),
  }
}

/** Where the body of the frame at `at` starts, or undefined when key and body do not fit its length. */
export function frameBodyAt(bytes: Buffer, at: number, length: number): number | undefined {
  const bodyAt = at + frameHeaderBytes + ((bytes.readUInt16LE(at + 30) + 7) & ~7)
  return bodyAt <= at + Math.max(length, frameHeaderBytes) ? bodyAt : undefined
}

export function frameKey(bytes: Buffer, at: number): string {
  const keyBytes = bytes.readUInt16LE(at + 30)
  return keyBytes === 0 ? '' : bytes.toString('utf8', at + frameHeaderBytes, at + frameHeaderBytes + keyBytes)
}

/** The offset after the frame at `at`: one more, or as many as a gap stands for. */
export function nextOffset(bytes: Buffer, at: number): bigint {
  return bytes[at + 28] === gapKind ? bytes.readBigUInt64LE(at + frameHeaderBytes) : bytes.readBigUInt64LE(at + 8) + 1n
}

/** Bytes from the frame at `at` to the next one. */
export function frameStride(bytes: Buffer, at: number): number {
  return bytes[at + 28] === gapKind ? Number(bytes.readBigUInt64LE(at + frameHeaderBytes + 8)) : frameOccupies(bytes.readUInt32LE(at + 4))
}

/** A gap from offset `from` to `next` in place of `bytes` bytes, with as much of `saved` as fits. */
export function encodeGap(from: bigint, next: bigint, bytes: number, receivedUs: number, seed: number, saved: readonly Uint8Array[] = []): Buffer {
  const kept: Uint8Array[] = []
  let length = gapSavedAt
  for (const one of saved) {
    if (length + one.length > bytes) break
    kept.push(one)
    length += one.length
  }
  const frame = Buffer.alloc(frameOccupies(length))
  const bodyAt = startFrame(frame, 0, { kind: gapKind, offset: from, receivedUs, durable: 0 }, '')
  frame.writeBigUInt64LE(next, bodyAt)
  frame.writeBigUInt64LE(BigInt(bytes), bodyAt + 8)
  let end = bodyAt + 16
  for (const one of kept) {
    frame.set(one, end)
    end += one.length
  }
  finishFrame(frame, 0, end)
  sealFrames(frame, 0, frame.length, seed)
  return frame
}
