import path from 'node:path'
import type { Disk, DiskFile } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { salvageDictionaries } from '../../wire/batch/decode.ts'
import { claimDir } from './claim.ts'
import {
  decodeSegmentHeader,
  encodeGap,
  encodeSegmentHeader,
  frameBytesMin,
  frameHeader,
  frameOccupies,
  frameSeed,
  segmentHeaderBytes,
  segmentName,
} from './format.ts'
import { listTopics, readLogId, writeLogId } from './log-id.ts'
import { listSegments } from './recovery.ts'
import { readBytes, SegmentScanner } from './scan.ts'
import { readTopicFile, writeTopicFile } from './topic-file.ts'
import { verifyTopic, type DamagedRange } from './verify.ts'

/** What could not be saved: offsets [first, next) of a topic, and where its bytes were put. */
export interface LostRange {
  readonly topic: string
  readonly first: bigint
  readonly next: bigint
  readonly reason: string
  /** The file that keeps the damaged bytes; absent when there were none. */
  readonly keptIn?: string
}

export interface RepairReport {
  readonly lost: readonly LostRange[]
  /** Segment headers that were written anew; no record is lost by that. */
  readonly headers: number
}

/**
 * Makes a damaged log readable again. Damaged ranges are copied into `.damaged` files beside their segment and replaced by a gap
 * that names the lost offsets; readers pass it with a span that covers them. The log must be closed: `already_open` otherwise. A crash
 * in the middle leaves a log that can be repaired again.
 */
export function repairLog(dir: string, disk: Disk, nowUs: number): RepairReport {
  const root = path.resolve(dir)
  const release = claimDir(disk, root)
  try {
    const id = disk.exists(root) ? readLogId(disk, root) : undefined
    if (id === undefined) throw new KymoError('not_found', { detail: `There is no log in ${root}.` })
    writeLogId(disk, root, id, nowUs)
    const lost: LostRange[] = []
    let headers = 0
    for (const topic of listTopics(disk, root)) {
      const at = `${root}/${topic}/0`
      headers += mendHeaders(disk, at, id, nowUs)
      // Damage is passed first, with the dictionaries that could be saved from it; what still misses its dictionary goes in the second round.
      for (let round = 0; round < 2; round++) {
        for (const range of verifyTopic(disk, at, topic, id).damage) {
          if (round === 1 || range.orphaned !== true) lost.push(...passRange(disk, at, topic, range, id, nowUs))
        }
        headers += mendHeaders(disk, at, id, nowUs)
      }
      vouchAnew(disk, at, topic, id)
    }
    return { lost, headers }
  } finally {
    release()
  }
}

function passRange(disk: Disk, dir: string, topic: string, range: DamagedRange, logId: string, nowUs: number): LostRange[] {
  const keptIn = setAside(disk, dir, range)
  if (range.from >= segmentHeaderBytes) writeGap(disk, range, logId, nowUs)
  else if (range.next > range.first) recreate(disk, dir, range, logId, nowUs)
  if (range.next === range.first) return []
  return [{ topic, first: range.first, next: range.next, reason: range.reason, ...(keptIn === undefined ? {} : { keptIn }) }]
}

function setAside(disk: Disk, dir: string, range: DamagedRange): string | undefined {
  if (range.to === range.from || !disk.exists(range.file)) return undefined
  const source = disk.open(range.file, 'read')
  const bytes = readBytes(source, range.from, range.to - range.from)
  source.close()
  const stem = `${segmentName(range.base).replace('.seg', '')}-${String(range.from).padStart(10, '0')}`
  let name = `${dir}/${stem}.damaged`
  for (let n = 2; disk.exists(name); n++) name = `${dir}/${stem}-${n}.damaged`
  const kept = disk.open(name, 'create')
  try {
    kept.write(bytes, 0)
    kept.sync()
  } finally {
    kept.close()
  }
  disk.syncDir(dir)
  return name
}

function writeGap(disk: Disk, range: DamagedRange, logId: string, nowUs: number): void {
  const file = disk.open(range.file, 'write')
  try {
    const inPlace = range.to < file.size()
    // Frames start at multiples of 8; between two of them there is room for a gap, at the end it is made.
    const bytes = inPlace ? range.to - range.from : Math.max(frameBytesMin, frameOccupies(range.to - range.from))
    const seed = frameSeed(logId, range.base)
    const saved = salvageDictionaries(readBytes(file, range.from, range.to - range.from), seed)
    file.write(encodeGap(range.first, range.next, bytes, nowUs, seed, saved), range.from)
    if (!inPlace) fill(file, range.from + bytes)
    file.sync()
  } finally {
    file.close()
  }
}

/** The file ends exactly there. */
function fill(file: DiskFile, end: number): void {
  const size = file.size()
  if (size > end) file.truncate(end)
  else if (size < end) file.write(new Uint8Array(end - size), size)
}

/** A segment that is gone: one with nothing but the gap in its place. */
function recreate(disk: Disk, dir: string, range: DamagedRange, logId: string, nowUs: number): void {
  const name = `${dir}/${segmentName(range.base)}`
  const file = disk.open(name, disk.exists(name) ? 'write' : 'create')
  try {
    file.write(encodeSegmentHeader({ logId, base: range.base, previousBase: 0n, previousBytes: 0, createdUs: nowUs }), 0)
    file.write(encodeGap(range.first, range.next, frameBytesMin, nowUs, frameSeed(logId, range.base)), segmentHeaderBytes)
    file.truncate(segmentHeaderBytes + frameBytesMin)
    file.sync()
  } finally {
    file.close()
  }
  disk.syncDir(dir)
}

/** Each header states its own segment and the size of the one before. */
function mendHeaders(disk: Disk, dir: string, logId: string, nowUs: number): number {
  const segments = listSegments(disk, dir)
  let mended = 0
  for (const [i, segment] of segments.entries()) {
    const file = disk.open(`${dir}/${segmentName(segment.base)}`, 'write')
    try {
      const now = decodeSegmentHeader(readBytes(file, 0, segmentHeaderBytes))
      const previous = segments[i - 1]
      const wanted = {
        logId,
        base: segment.base,
        previousBase: previous?.base ?? now?.previousBase ?? 0n,
        previousBytes: previous?.bytes ?? now?.previousBytes ?? 0,
        createdUs: now?.createdUs ?? firstReceivedUs(file, logId, segment.base, segment.bytes) ?? nowUs,
      }
      const bytes = encodeSegmentHeader(wanted)
      if (now !== undefined && bytes.equals(encodeSegmentHeader(now))) continue
      file.write(bytes, 0)
      file.sync()
      mended++
    } finally {
      file.close()
    }
  }
  return mended
}

/** The topic's file says how much was durable; after a repair that is what there is now. */
function vouchAnew(disk: Disk, dir: string, topic: string, logId: string): void {
  const known = readTopicFile(disk, dir, logId)
  const last = listSegments(disk, dir).at(-1)
  if (known === undefined || known === 'damaged' || last === undefined || (known.durable.base === last.base && known.durable.bytes <= last.bytes))
    return
  const { next } = verifyTopic(disk, dir, topic, logId)
  writeTopicFile(disk, dir, { ...known, durable: { base: last.base, bytes: last.bytes, next } })
}

function firstReceivedUs(file: DiskFile, logId: string, base: bigint, size: number): number | undefined {
  if (size < segmentHeaderBytes) return undefined
  const scanner = new SegmentScanner(file, frameSeed(logId, base), segmentHeaderBytes, size, base)
  return scanner.next() === 'frame' ? frameHeader(scanner.bytes, scanner.at).receivedUs : undefined
}
