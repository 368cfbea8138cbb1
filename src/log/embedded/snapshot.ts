import type { Disk } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { decodeSegmentHeader, frameHeader, frameSeed, segmentBase, segmentHeaderBytes, segmentName, segmentVersion } from './format.ts'
import { listTopics, readLogId, writeLogId } from './log-id.ts'
import { readBytes, SegmentScanner } from './scan.ts'
import { readText, readTopicFile, replaceFile, writeTopicFile } from './topic-file.ts'
import { verifyTopic } from './verify.ts'

export { segmentBase, segmentName, segmentVersion as logFormat }

/** How far a topic reaches in a copy of the log: records below `end`. */
export interface TopicEnd {
  readonly topic: string
  readonly end: bigint
}

/** What a log that nobody has open holds. Throws `log_corrupt` when it is damaged, `not_found` when there is none. */
export function readClosedLog(disk: Disk, dir: string): { readonly id: string; readonly topics: readonly TopicEnd[] } {
  const id = disk.exists(dir) ? readLogId(disk, dir) : undefined
  if (id === undefined) throw new KymoError('not_found', { detail: `There is no log in ${dir}.` })
  const topics = listTopics(disk, dir).map((topic) => {
    const report = verifyTopic(disk, `${dir}/${topic}/0`, topic, id)
    const damage = report.damage[0]
    if (damage !== undefined)
      throw new KymoError('log_corrupt', { detail: `${damage.file}, byte ${damage.from}: ${damage.reason}.`, facts: { file: damage.file } })
    return { topic, end: report.next }
  })
  return { id, topics }
}

/** Of these segments those that a copy needs which ends before offset `end`: at least one, whose name keeps the offset. */
export function segmentsBelow(bases: readonly bigint[], end: bigint): bigint[] {
  const sorted = bases.toSorted((a, b) => (a < b ? -1 : 1))
  const below = sorted.filter((base) => base < end)
  return below.length > 0 ? below : sorted.filter((base) => base <= end).slice(-1)
}

export interface Walked {
  /** Bytes up to the first frame that was not wanted. */
  readonly bytes: number
  /** The offset after the last frame that was. */
  readonly next: bigint
  /** The latest received time of those; 0: there is none. */
  readonly receivedUs: number
  /** All of the file was wanted. */
  readonly whole: boolean
}

/**
 * Reads frames of a copied segment and checks them, as long as `wanted` says so. Throws `log_corrupt` at one that is not sound, and `log_format` for a
 * newer segment.
 */
export function walkSegment(
  disk: Disk,
  file: string,
  o: { readonly logId: string; readonly base: bigint; readonly wanted: (offset: bigint, receivedUs: number) => boolean },
): Walked {
  const handle = disk.open(file, 'read')
  try {
    const header = decodeSegmentHeader(readBytes(handle, 0, segmentHeaderBytes))
    if (header === undefined || header.base !== o.base || header.logId !== o.logId)
      throw new KymoError('log_corrupt', { detail: `${file} has no valid header.`, facts: { file } })
    const size = handle.size()
    const scanner = new SegmentScanner(handle, frameSeed(o.logId, o.base), segmentHeaderBytes, size, o.base)
    let receivedUs = 0
    for (let bytes = segmentHeaderBytes, next = o.base; ; bytes = scanner.after, next = scanner.expected) {
      const step = scanner.next()
      if (step === 'end') return { bytes, next, receivedUs, whole: true }
      // What follows the end of a copy is whatever was being written then.
      if (!o.wanted(next, step === 'frame' ? frameHeader(scanner.bytes, scanner.at).receivedUs : 0)) return { bytes, next, receivedUs, whole: false }
      if (step === 'damage')
        throw new KymoError('log_corrupt', { detail: `${file}, byte ${bytes}: no sound record.`, facts: { file, position: bytes } })
      receivedUs = Math.max(receivedUs, frameHeader(scanner.bytes, scanner.at).receivedUs)
    }
  } finally {
    handle.close()
  }
}

export interface CutOptions {
  readonly logId: string
  /** Records that were received later go; absent: none do. */
  readonly untilUs?: number
  /** Records below stay in any case. */
  readonly keep: bigint
}

/**
 * Ends a copied topic (a folder with segments and `groups`) before the first record that was received after `untilUs`, and writes down where groups
 * stand, none beyond that end. Returns the end.
 */
export function cutTopic(disk: Disk, dir: string, o: CutOptions): bigint {
  const bases = disk
    .list(dir)
    .map(segmentBase)
    .filter((base) => base !== undefined)
    .sort((a, b) => (a < b ? -1 : 1))
  const { untilUs = Number.POSITIVE_INFINITY, keep, logId } = o
  let end = bases[0] ?? 0n
  let last = { base: end, bytes: 0 }
  let ended = false
  for (const base of bases) {
    const file = `${dir}/${segmentName(base)}`
    if (ended) {
      disk.unlink(file)
      continue
    }
    const walked = walkSegment(disk, file, { logId, base, wanted: (offset, receivedUs) => offset < keep || receivedUs <= untilUs })
    last = { base, bytes: walked.bytes }
    end = walked.next
    if (walked.whole) continue
    ended = true
    const handle = disk.open(file, 'write')
    handle.truncate(walked.bytes)
    handle.sync()
    handle.close()
  }
  const known = readTopicFile(disk, dir, logId)
  const groups = known === undefined || known === 'damaged' ? [] : known.groups
  if (bases.length > 0)
    writeTopicFile(disk, dir, {
      log: logId,
      durable: { ...last, next: end },
      groups: groups.map((group) => (group.offset <= end ? group : { name: group.name, offset: end, base: 0n, at: 0 })),
    })
  disk.syncDir(dir)
  return end
}

const lineageFile = 'restored.json'

/** Which restore this log goes on from; undefined: it was never restored. */
export function readLineage(disk: Disk, dir: string): string | undefined {
  const file = `${dir}/${lineageFile}`
  if (!disk.exists(file)) return undefined
  const stored: unknown = JSON.parse(readText(disk, file, 4096))
  return typeof stored === 'object' && stored !== null && 'lineage' in stored && typeof stored.lineage === 'string' ? stored.lineage : undefined
}

export function writeLineage(disk: Disk, dir: string, lineage: string): void {
  replaceFile(disk, dir, lineageFile, `${JSON.stringify({ format: 1, lineage })}\n`)
}

/** The id of the copy's log; written down where the copy lacks it. */
export function keepLogId(disk: Disk, dir: string, id: string, nowUs: number): void {
  if (readLogId(disk, dir) !== id) writeLogId(disk, dir, id, nowUs)
}
