import type { Disk } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { decodeSegmentHeader, frameHeader, frameSeed, segmentBase, segmentHeaderBytes, segmentName, type SegmentHeader } from './format.ts'
import { readBytes, SegmentScanner } from './scan.ts'
import type { TopicFile } from './topic-file.ts'

const tornFilesMax = 3

export interface Segment {
  readonly base: bigint
  bytes: number
  readonly createdUs: number
  /** Received time of its last record, when this process wrote or read that; otherwise the next segment's creation bounds it. */
  lastUs?: number
}

/** Damage that may hide records which were acknowledged. */
export interface Damage {
  readonly file: string
  readonly position: number
  readonly reason: string
}

export interface Recovered {
  readonly segments: Segment[]
  /** The offset that the next record gets. */
  readonly next: bigint
  /** Received time of the last record; 0 when the last segment is empty. */
  readonly lastReceivedUs: number
  readonly damage?: Damage
  /** Bytes that were cut off the end: never acknowledged, kept in a .torn file. */
  readonly tornBytes: number
}

export function damageError(damage: Damage): KymoError {
  return new KymoError('log_corrupt', {
    detail: `${damage.file}, byte ${damage.position}: ${damage.reason}. Nothing was removed: kymo log verify shows where, kymo log repair sets the damaged part aside.`,
    facts: { file: damage.file, position: damage.position },
  })
}

export function listSegments(disk: Disk, dir: string): Segment[] {
  const segments: Segment[] = []
  for (const name of disk.list(dir)) {
    const base = segmentBase(name)
    if (base !== undefined) segments.push({ base, bytes: disk.size(`${dir}/${name}`), createdUs: 0 })
  }
  return segments
}

/** The header of a segment, or why it is none. */
export function readSegmentHeader(disk: Disk, path: string, logId: string, base: bigint): SegmentHeader | string {
  const file = disk.open(path, 'read')
  try {
    const header = decodeSegmentHeader(readBytes(file, 0, segmentHeaderBytes))
    if (header === undefined) return 'the segment has no valid header'
    if (header.logId !== logId) return `the segment belongs to another log (${header.logId})`
    if (header.base !== base) return `the segment starts at offset ${header.base}, not as its name says`
    return header
  } finally {
    file.close()
  }
}

/** Why `header` does not follow `previous`, or undefined when it does. */
export function chainBreak(header: SegmentHeader, previous: Segment): string | undefined {
  if (header.previousBase !== previous.base) return `the segment that starts at offset ${header.previousBase} is missing before it`
  if (header.previousBytes !== previous.bytes) return `the segment before it has ${previous.bytes} bytes and should have ${header.previousBytes}`
  return undefined
}

/**
 * What a partition's directory holds after a stop of any kind. Of the last segment each frame is checked. What follows the last good
 * frame is torn (never acknowledged, cut off and kept beside) unless something vouches that it was durable: a later frame, which
 * says how many bytes were durable when it was written; the topic's file; or a later segment. Then it is damage. The other segments
 * are checked by header and size; their frames when they are read.
 */
export function recover(disk: Disk, dir: string, logId: string, known: TopicFile | undefined): Recovered {
  const segments = listSegments(disk, dir)
  let damage: Damage | undefined
  let floor = 0
  let tornBytes = 0
  for (let i = 0; i < segments.length; i++) {
    const segment = segments[i]!
    const path = `${dir}/${segmentName(segment.base)}`
    const header = readSegmentHeader(disk, path, logId, segment.base)
    if (typeof header !== 'string') {
      segments[i] = { ...segment, createdUs: header.createdUs }
      const broken = i === 0 ? undefined : chainBreak(header, segments[i - 1]!)
      if (broken !== undefined) damage ??= { file: path, position: 0, reason: broken }
      continue
    }
    const last = i === segments.length - 1
    if (!last || vouchedBytes(disk, path, segment, logId, known) > 0) {
      damage ??= { file: path, position: 0, reason: header }
      continue
    }
    tornBytes = setTornAside(disk, dir, segment, 0)
    segments.pop()
    // A segment is created only after the one before it is durable to its end.
    floor = segments.at(-1)?.bytes ?? 0
    if (segments.length === 0) return withoutSegments(segment.base, known, tornBytes)
  }
  if (segments.length === 0) return withoutSegments(0n, known, tornBytes)
  const tail = recoverTail(disk, dir, segments, logId, known, floor)
  damage ??= tail.damage
  return { segments, next: tail.next, lastReceivedUs: tail.lastReceivedUs, tornBytes: tornBytes + tail.tornBytes, ...(damage ? { damage } : {}) }

  function withoutSegments(next: bigint, file: TopicFile | undefined, torn: number): Recovered {
    const lost = file !== undefined && file.durable.next > next
    return {
      segments: [],
      next: lost ? file.durable.next : next,
      lastReceivedUs: 0,
      tornBytes: torn,
      ...(lost ? { damage: { file: `${dir}/${segmentName(file.durable.base)}`, position: 0, reason: 'the segment is missing' } } : {}),
    }
  }
}

interface Tail {
  readonly next: bigint
  readonly lastReceivedUs: number
  readonly tornBytes: number
  readonly damage?: Damage
}

function recoverTail(disk: Disk, dir: string, segments: Segment[], logId: string, known: TopicFile | undefined, floor: number): Tail {
  const segment = segments.at(-1)!
  const path = `${dir}/${segmentName(segment.base)}`
  const file = disk.open(path, 'write')
  try {
    const scanner = new SegmentScanner(file, frameSeed(logId, segment.base), segmentHeaderBytes, segment.bytes, segment.base)
    let lastReceivedUs = 0
    let step = scanner.next()
    for (; step === 'frame'; step = scanner.next()) lastReceivedUs = frameHeader(scanner.bytes, scanner.at).receivedUs
    const goodNext = scanner.expected
    const good = scanner.position
    let vouched = Math.max(floor, known?.durable.base === segment.base ? known.durable.bytes : 0)
    let next = goodNext
    if (step === 'damage') {
      while (scanner.resync()) {
        const header = frameHeader(scanner.bytes, scanner.at)
        vouched = Math.max(vouched, header.durable)
        next = scanner.expected
        lastReceivedUs = header.receivedUs
        while (scanner.next() === 'frame') {
          vouched = Math.max(vouched, frameHeader(scanner.bytes, scanner.at).durable)
          next = scanner.expected
        }
      }
    }
    const lostBehind = known !== undefined && known.durable.next > goodNext
    if (vouched > good || lostBehind) {
      const end = lostBehind && known.durable.next > next ? known.durable.next : next
      const reason = step === 'damage' ? 'the record there is damaged' : 'records are missing at the end'
      return { next: end, lastReceivedUs, tornBytes: 0, damage: { file: path, position: good, reason } }
    }
    const tornBytes = segment.bytes - good
    if (tornBytes > 0) {
      saveTorn(disk, dir, segment.base, good, readBytes(file, good, tornBytes))
      file.truncate(good)
      segment.bytes = good
    }
    // What survived without having been acknowledged is the log's from here on.
    file.sync()
    return { next: goodNext, lastReceivedUs, tornBytes }
  } finally {
    file.close()
  }
}

/** How many bytes of a segment whose header is not valid are known to have been durable. */
function vouchedBytes(disk: Disk, path: string, segment: Segment, logId: string, known: TopicFile | undefined): number {
  let vouched = known?.durable.base === segment.base ? known.durable.bytes : 0
  if (segment.bytes <= segmentHeaderBytes) return vouched
  const file = disk.open(path, 'read')
  try {
    const scanner = new SegmentScanner(file, frameSeed(logId, segment.base), segmentHeaderBytes, segment.bytes, segment.base)
    for (;;) {
      while (scanner.next() === 'frame') vouched = Math.max(vouched, frameHeader(scanner.bytes, scanner.at).durable)
      if (!scanner.resync()) return vouched
      vouched = Math.max(vouched, frameHeader(scanner.bytes, scanner.at).durable)
    }
  } finally {
    file.close()
  }
}

function setTornAside(disk: Disk, dir: string, segment: Segment, from: number): number {
  const path = `${dir}/${segmentName(segment.base)}`
  const file = disk.open(path, 'read')
  const bytes = readBytes(file, from, segment.bytes - from)
  file.close()
  saveTorn(disk, dir, segment.base, from, bytes)
  disk.unlink(path)
  disk.syncDir(dir)
  return bytes.length
}

/** Keeps what is cut off, and of such files the newest few. A full disk must not keep the log from opening: then they are dropped. */
function saveTorn(disk: Disk, dir: string, base: bigint, from: number, bytes: Uint8Array): void {
  const name = `${segmentName(base).replace('.seg', '')}-${String(from).padStart(10, '0')}.torn`
  const older = disk.list(dir).filter((other) => other.endsWith('.torn') && other !== name)
  for (const other of older.slice(0, Math.max(0, older.length - tornFilesMax + 1))) disk.unlink(`${dir}/${other}`)
  if (disk.exists(`${dir}/${name}`)) disk.unlink(`${dir}/${name}`)
  if (bytes.length === 0) return
  const file = disk.open(`${dir}/${name}`, 'create')
  try {
    file.write(bytes, 0)
    file.sync()
  } catch (thrown) {
    if (!isDiskFull(thrown)) throw thrown
    file.truncate(0)
  } finally {
    file.close()
  }
  disk.syncDir(dir)
}

export function isDiskFull(thrown: unknown): boolean {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined
  return code === 'ENOSPC' || code === 'EDQUOT'
}
