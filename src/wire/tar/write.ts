import { KymoError } from '../../core/errors.ts'

/** POSIX.1-2017, pax: everything is in blocks of so many bytes. */
export const blockBytes = 512

export interface TarEntry {
  /** With /, relative. */
  readonly path: string
  readonly bytes: number
  /** Seconds since 1970. */
  readonly mtime: number
  /** Permission bits; 0o640 when absent. */
  readonly mode?: number
}

const encoder = new TextEncoder()
/** What fits into the 11 octal digits of ustar. */
const sizeMax = 0o77777777777
const nameMax = 100

/** The header of a regular file: its content, and `padding` behind it, follow. A pax header goes before it where ustar cannot say the name or the size. */
export function tarHeader(entry: TarEntry): Uint8Array {
  const name = encoder.encode(entry.path)
  if (name.length === 0 || name.includes(0)) throw new KymoError('bug', { detail: `"${entry.path}" is no name for an archive.` })
  const records: (readonly [string, string])[] = []
  // Names that are not ASCII mean nothing in ustar; longer ones could be split, which pax spares.
  if (name.length > nameMax || name.some((byte) => byte > 126)) records.push(['path', entry.path])
  if (entry.bytes > sizeMax) records.push(['size', String(entry.bytes)])
  const own = block({
    name: name.subarray(0, nameMax),
    bytes: Math.min(entry.bytes, sizeMax),
    type: '0',
    mtime: entry.mtime,
    mode: entry.mode ?? 0o640,
  })
  if (records.length === 0) return own
  const body = encoder.encode(records.map(([key, value]) => paxRecord(key, value)).join(''))
  const header = block({ name: encoder.encode('PaxHeaders/kymo'), bytes: body.length, type: 'x', mtime: entry.mtime, mode: 0o640 })
  return joined([header, body, padding(body.length), own])
}

/** Zeros up to the next block. */
export function padding(bytes: number): Uint8Array {
  return new Uint8Array((blockBytes - (bytes % blockBytes)) % blockBytes)
}

/** Two blocks of zeros. */
export function tarEnd(): Uint8Array {
  return new Uint8Array(2 * blockBytes)
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: string): string {
  const rest = encoder.encode(` ${key}=${value}\n`).length
  let length = rest + String(rest).length
  while (rest + String(length).length !== length) length = rest + String(length).length
  return `${length} ${key}=${value}\n`
}

function block(o: {
  readonly name: Uint8Array
  readonly bytes: number
  readonly type: '0' | 'x'
  readonly mtime: number
  readonly mode: number
}): Uint8Array {
  const header = new Uint8Array(blockBytes)
  const text = (at: number, value: string): void => header.set(encoder.encode(value), at)
  const octal = (at: number, digits: number, value: number): void => text(at, `${Math.floor(value).toString(8).padStart(digits, '0')}\0`)
  header.set(o.name, 0)
  octal(100, 7, o.mode)
  octal(108, 7, 0)
  octal(116, 7, 0)
  octal(124, 11, o.bytes)
  octal(136, 11, Math.max(0, o.mtime))
  text(148, '        ')
  text(156, o.type)
  text(257, 'ustar\0')
  text(263, '00')
  octal(329, 7, 0)
  octal(337, 7, 0)
  const sum = header.reduce((a, b) => a + b, 0)
  text(148, `${sum.toString(8).padStart(6, '0')}\0 `)
  return header
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}
