import { crc32 } from 'node:zlib'
import type { Disk } from '../../core/env.ts'

/** What `<topic>/<partition>/groups` holds: where groups stand, and how far the topic was known to be durable. */
export interface TopicFile {
  readonly log: string
  readonly durable: { readonly base: bigint; readonly bytes: number; readonly next: bigint }
  readonly groups: readonly { readonly name: string; readonly offset: bigint; readonly base: bigint; readonly at: number }[]
}

const fileName = 'groups'

/**
 * Replaces the file so that a crash leaves the old or the new one: write beside, sync, rename, sync the directory.
 * One line: CRC-32 of the rest in hexadecimal, a space, JSON.
 */
export function writeTopicFile(disk: Disk, dir: string, content: TopicFile): void {
  const json = JSON.stringify({
    format: 1,
    log: content.log,
    durable: { base: String(content.durable.base), bytes: content.durable.bytes, next: String(content.durable.next) },
    groups: content.groups.map((g) => ({ name: g.name, offset: String(g.offset), base: String(g.base), at: g.at })),
  })
  replaceFile(disk, dir, fileName, `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`)
}

export function replaceFile(disk: Disk, dir: string, name: string, text: string): void {
  const temporary = `${dir}/${name}.tmp`
  if (disk.exists(temporary)) disk.unlink(temporary)
  const file = disk.open(temporary, 'create')
  try {
    file.write(Buffer.from(text), 0)
    file.sync()
  } finally {
    file.close()
  }
  disk.rename(temporary, `${dir}/${name}`)
  disk.syncDir(dir)
}

export function readText(disk: Disk, path: string, bytesMax: number): string {
  const file = disk.open(path, 'read')
  try {
    const bytes = Buffer.alloc(Math.min(file.size(), bytesMax))
    return bytes.toString('utf8', 0, file.read(bytes, 0))
  } finally {
    file.close()
  }
}

/** Undefined when there is none; `'damaged'` when there is one that cannot be read. */
export function readTopicFile(disk: Disk, dir: string, logId: string): TopicFile | 'damaged' | undefined {
  const path = `${dir}/${fileName}`
  if (!disk.exists(path)) return undefined
  const text = readText(disk, path, 1024 * 1024)
  const json = text.slice(9).trimEnd()
  if (text[8] !== ' ' || crc32(json) !== Number.parseInt(text.slice(0, 8), 16)) return 'damaged'
  const content = parse(json)
  return content === undefined || content.log !== logId ? 'damaged' : content
}

interface Stored {
  readonly format: number
  readonly log: string
  readonly durable: { readonly base: string; readonly bytes: number; readonly next: string }
  readonly groups: readonly { readonly name: string; readonly offset: string; readonly base: string; readonly at: number }[]
}

/** The checksum has vouched for what this program wrote; only another format must be told apart. */
function parse(json: string): TopicFile | undefined {
  const stored = JSON.parse(json) as Stored
  if (stored.format !== 1) return undefined
  const { durable, groups } = stored
  return {
    log: stored.log,
    durable: { base: BigInt(durable.base), bytes: durable.bytes, next: BigInt(durable.next) },
    groups: groups.map((g) => ({ name: g.name, offset: BigInt(g.offset), base: BigInt(g.base), at: g.at })),
  }
}
