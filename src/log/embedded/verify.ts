import path from 'node:path'
import type { Disk } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { ReaderKeys } from '../../wire/batch/decode.ts'
import { followDictionary } from './dictionary.ts'
import { frameHeader, frameSeed, gapKind, segmentHeaderBytes, segmentName, type SegmentHeader } from './format.ts'
import { listTopics, readLogId } from './log-id.ts'
import { chainBreak, listSegments, readSegmentHeader, type Segment } from './recovery.ts'
import { SegmentScanner } from './scan.ts'
import { readTopicFile, type TopicFile } from './topic-file.ts'

/** A range of a file that cannot be read, and the offsets that were in it. */
export interface DamagedRange {
  readonly file: string
  readonly base: bigint
  /** Bytes [from, to); equal when records are missing that should stand there. */
  readonly from: number
  readonly to: number
  /** Offsets [first, next); equal when no record is lost. */
  readonly first: bigint
  readonly next: bigint
  readonly reason: string
  /** The records are sound, but need names of series that are in a damaged range before them. Repair may be able to save those. */
  readonly orphaned?: true
}

export interface TopicReport {
  readonly topic: string
  readonly segments: number
  readonly records: number
  readonly bytes: number
  readonly first: bigint
  readonly next: bigint
  readonly damage: readonly DamagedRange[]
  /** Bytes at the end that were never acknowledged (a crash, or a write under way); opening the log cuts them off. */
  readonly unfinishedBytes: number
}

export interface LogReport {
  readonly dir: string
  readonly id: string | undefined
  readonly topics: readonly TopicReport[]
  readonly ok: boolean
}

/** Reads every record of the log in `dir` and its checksum. Changes nothing; may run beside the process that has it open. */
export function verifyLog(dir: string, disk: Disk): LogReport {
  const root = path.resolve(dir)
  if (!disk.exists(root)) throw new KymoError('not_found', { detail: `There is no log in ${root}.` })
  const id = readLogId(disk, root)
  const topics = id === undefined ? [] : listTopics(disk, root).map((topic) => verifyTopic(disk, `${root}/${topic}/0`, topic, id))
  return { dir: root, id, topics, ok: topics.every((topic) => topic.damage.length === 0) }
}

export function verifyTopic(disk: Disk, dir: string, topic: string, logId: string): TopicReport {
  const stored = readTopicFile(disk, dir, logId)
  const known = stored === 'damaged' ? undefined : stored
  const segments = listSegments(disk, dir)
  const first = segments[0]?.base ?? known?.durable.next ?? 0n
  const damage: DamagedRange[] = []
  let records = 0
  let next = first
  let unfinishedBytes = 0
  for (let i = 0; i < segments.length; i++) {
    const segment = segments[i]!
    const file = `${dir}/${segmentName(segment.base)}`
    const header = readSegmentHeader(disk, file, logId, segment.base)
    const reason = headerFault(header, segments[i - 1])
    if (reason !== undefined)
      damage.push({ file, base: segment.base, from: 0, to: segmentHeaderBytes, first: segment.base, next: segment.base, reason })
    const last = i === segments.length - 1
    const end = last ? (known !== undefined && known.durable.next > segment.base ? known.durable.next : undefined) : segments[i + 1]!.base
    const found = verifySegment(disk, file, segment, logId, end, last, known)
    damage.push(...found.damage)
    records += found.records
    next = found.next
    unfinishedBytes += found.unfinishedBytes
  }
  if (segments.length === 0 && known !== undefined && known.durable.bytes > 0) {
    const file = `${dir}/${segmentName(known.durable.base)}`
    damage.push({
      file,
      base: known.durable.base,
      from: 0,
      to: 0,
      first: known.durable.base,
      next: known.durable.next,
      reason: 'the segment is missing',
    })
    next = known.durable.next
  }
  return { topic, segments: segments.length, records, bytes: segments.reduce((sum, s) => sum + s.bytes, 0), first, next, damage, unfinishedBytes }
}

function headerFault(header: SegmentHeader | string, previous: Segment | undefined): string | undefined {
  if (typeof header === 'string') return header
  return previous === undefined ? undefined : chainBreak(header, previous)
}

interface SegmentReport {
  readonly records: number
  readonly next: bigint
  readonly damage: readonly DamagedRange[]
  readonly unfinishedBytes: number
}

/** `end`: the offset that must follow this segment, where that is known. */
function verifySegment(
  disk: Disk,
  path: string,
  segment: Segment,
  logId: string,
  end: bigint | undefined,
  last: boolean,
  known: TopicFile | undefined,
): SegmentReport {
  const { base, bytes } = segment
  const damage: DamagedRange[] = []
  let records = 0
  let vouched = known?.durable.base === base ? known.durable.bytes : 0
  if (bytes < segmentHeaderBytes) {
    const next = end ?? base
    return { records, next, damage: next > base ? [missing(path, base, bytes, base, next)] : [], unfinishedBytes: last ? bytes : 0 }
  }
  const file = disk.open(path, 'read')
  try {
    const scanner = new SegmentScanner(file, frameSeed(logId, base), segmentHeaderBytes, bytes, base)
    const keys = new ReaderKeys()
    const add = (range: DamagedRange): void => {
      const before = damage.at(-1)
      if (before?.orphaned === range.orphaned && before?.to === range.from && before.next === range.first) {
        damage[damage.length - 1] = { ...before, to: range.to, next: range.next }
      } else damage.push(range)
    }
    const count = (): void => {
      vouched = Math.max(vouched, frameHeader(scanner.bytes, scanner.at).durable)
      try {
        followDictionary(scanner.bytes, scanner.at, scanner.length, keys)
        if (scanner.bytes[scanner.at + 28] !== gapKind) records++
      } catch (thrown) {
        if (!(thrown instanceof KymoError)) throw thrown
        const first = scanner.bytes.readBigUInt64LE(scanner.at + 8)
        add({ file: path, base, from: scanner.position, to: scanner.after, first, next: scanner.expected, reason: thrown.message, orphaned: true })
      }
    }
    for (;;) {
      let step = scanner.next()
      for (; step === 'frame'; step = scanner.next()) count()
      const from = scanner.position
      const first = scanner.expected
      if (step === 'end') {
        if (end !== undefined && first < end) damage.push(missing(path, base, bytes, first, end))
        return settled({ records, next: end !== undefined && end > first ? end : first, damage, unfinishedBytes: 0 })
      }
      if (scanner.resync()) {
        const next = scanner.bytes.readBigUInt64LE(scanner.at + 8)
        add({ file: path, base, from, to: scanner.position, first, next, reason: 'the records there are damaged' })
        count()
        continue
      }
      const next = end ?? first
      damage.push({ file: path, base, from, to: bytes, first, next: next > first ? next : first, reason: 'the end is damaged' })
      return settled({ records, next: next > first ? next : first, damage, unfinishedBytes: 0 })
    }
  } finally {
    file.close()
  }

  /** In the last segment, what nothing vouches for was never acknowledged: no damage, but an unfinished end. */
  function settled(report: SegmentReport): SegmentReport {
    const torn = report.damage[0]
    if (!last || torn === undefined || vouched > torn.from || (end !== undefined && end > torn.first)) return report
    return { records, next: torn.first, damage: [], unfinishedBytes: bytes - torn.from }
  }
}

function missing(file: string, base: bigint, at: number, first: bigint, next: bigint): DamagedRange {
  return { file, base, from: at, to: at, first, next, reason: 'records are missing' }
}
