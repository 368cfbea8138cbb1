import type { Disk } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { decodeSegmentHeader, segmentHeaderBytes, segmentName } from './format.ts'
import { listSegments } from './recovery.ts'
import { readBytes } from './scan.ts'
import { readText, replaceFile } from './topic-file.ts'

const fileName = 'log.json'

/** Topics in `dir`: the directories with a partition 0. */
export function listTopics(disk: Disk, dir: string): string[] {
  return disk.list(dir).filter((name) => disk.exists(`${dir}/${name}/0`))
}

/**
 * The id of this log's life, from `log.json`; when that is missing or damaged, from the first segment that states it. Undefined when there
 * is no log in `dir` yet.
 */
export function readLogId(disk: Disk, dir: string): string | undefined {
  const path = `${dir}/${fileName}`
  if (disk.exists(path)) {
    const id = parse(readText(disk, path, 4096), path)
    if (id !== undefined) return id
  }
  for (const topic of listTopics(disk, dir)) {
    for (const { base } of listSegments(disk, `${dir}/${topic}/0`)) {
      const file = disk.open(`${dir}/${topic}/0/${segmentName(base)}`, 'read')
      try {
        const header = decodeSegmentHeader(readBytes(file, 0, segmentHeaderBytes))
        if (header !== undefined) return header.logId
      } finally {
        file.close()
      }
    }
  }
  return undefined
}

/** Written before anything else is. */
export function writeLogId(disk: Disk, dir: string, id: string, nowUs: number): string {
  replaceFile(disk, dir, fileName, `${JSON.stringify({ format: 1, id, created: new Date(nowUs / 1000).toISOString() })}\n`)
  return id
}

function parse(text: string, file: string): string | undefined {
  let stored: unknown
  try {
    stored = JSON.parse(text)
  } catch {
    // Damaged: the segments know the id too.
    return undefined
  }
  if (typeof stored !== 'object' || stored === null || !('id' in stored) || !('format' in stored)) return undefined
  if (stored.format !== 1)
    throw new KymoError('log_format', { detail: `${file} has format ${String(stored.format)}; this Kymo knows 1.`, facts: { file } })
  return typeof stored.id === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(stored.id) ? stored.id : undefined
}
