import { Buffer, isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import process from 'node:process'
import { pipeline } from 'node:stream'
import type { Readable, Transform } from 'node:stream'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { asKymoError, KymoError } from '../../core/errors.ts'

/** Text of a file, whatever it is packed and encoded in, as UTF-8 bytes without a byte order mark. */
export interface TextInput {
  readonly encoding: string
  /** How it is packed; undefined: it is not. */
  readonly packing: 'gzip' | 'zstd' | undefined
  /** The first bytes of the text. */
  readonly head: Buffer
  /** On disk; undefined: standard input. */
  readonly bytesTotal: number | undefined
  /** Of the file on disk, so far. */
  consumed(): number
  /**
   * The text from a byte of it on, in chunks that end at multiples of `chunkBytes` of the whole text: so the same file is cut at the
   * same places wherever reading begins. Standard input can be read once.
   */
  chunks(offset: number): AsyncGenerator<Buffer>
}

export const chunkBytes = 256 * 1024
const fingerprintBytes = 1 << 20

/** The first bytes of a file on disk, for telling what it is. Throws usage when it cannot be read. */
export function headOf(file: string, bytes: number): Buffer {
  try {
    const fd = fs.openSync(file, 'r')
    try {
      const buffer = Buffer.alloc(bytes)
      return buffer.subarray(0, fs.readSync(fd, buffer, 0, bytes, 0))
    } finally {
      fs.closeSync(fd)
    }
  } catch (thrown) {
    throw new KymoError('usage', { detail: `${file} cannot be read: ${asKymoError(thrown).message}`, facts: { command: 'kymo import' } })
  }
}

/** Tells one file from another: its size, beginning and end. */
export function fingerprintOf(file: string): { readonly bytes: number; readonly sha256: string } {
  const fd = fs.openSync(file, 'r')
  try {
    const bytes = fs.fstatSync(fd).size
    const hash = createHash('sha256').update(`${bytes}\n`)
    const buffer = Buffer.alloc(fingerprintBytes)
    for (const at of new Set([0, Math.max(0, bytes - fingerprintBytes)]))
      hash.update(buffer.subarray(0, fs.readSync(fd, buffer, 0, buffer.length, at)))
    return { bytes, sha256: hash.digest('hex') }
  } finally {
    fs.closeSync(fd)
  }
}

interface Sniffed {
  readonly encoding: string
  readonly bom: number
}

function sniff(head: Buffer, wanted: string | undefined): Sniffed {
  if (head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf) return { encoding: wanted ?? 'utf-8', bom: 3 }
  if (head[0] === 0xff && head[1] === 0xfe) return { encoding: wanted ?? 'utf-16le', bom: 2 }
  if (head[0] === 0xfe && head[1] === 0xff) return { encoding: wanted ?? 'utf-16be', bom: 2 }
  if (wanted !== undefined) return { encoding: wanted, bom: 0 }
  // A character may be cut at the end of what was read.
  for (let cut = 0; cut < 4; cut++) if (isUtf8(head.subarray(0, head.length - cut))) return { encoding: 'utf-8', bom: 0 }
  return { encoding: 'windows-1252', bom: 0 }
}

/** `-`: standard input. `encoding`: a label of the Encoding standard; otherwise found from the first bytes. Throws usage. */
export async function openText(file: string, wanted: string | undefined): Promise<TextInput> {
  if (wanted !== undefined) checkEncoding(wanted)
  const stdin = file === '-'
  const rest: AsyncIterator<Buffer | string, undefined> | undefined = stdin ? process.stdin[Symbol.asyncIterator]() : undefined
  const peeked: Buffer[] = []
  if (rest !== undefined) await peek(rest, peeked)
  const disk = stdin ? Buffer.concat(peeked) : headOf(file, chunkBytes)
  const packing = disk[0] === 0x1f && disk[1] === 0x8b ? ('gzip' as const) : isZstd(disk) ? ('zstd' as const) : undefined
  let consumed = 0
  const counted = async function* (source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      consumed += chunk.length
      yield chunk
    }
  }
  const raw = (start: number): AsyncIterable<Buffer> =>
    rest === undefined ? fs.createReadStream(file, { start, highWaterMark: chunkBytes }) : replay(peeked, rest)
  const unpacked = (start: number): AsyncIterable<Buffer> => {
    consumed = start
    if (packing === undefined) return counted(raw(start))
    const unpack: Transform = packing === 'gzip' ? createGunzip({ chunkSize: chunkBytes }) : createZstdDecompress({ chunkSize: chunkBytes })
    // pipeline hands a failure on to the reader, who throws it.
    return named(pipeline(counted(raw(start)), unpack, () => undefined) as Readable, file)
  }
  const head = packing === undefined ? disk : await firstBytes(stdin ? packedHead(disk, packing) : unpacked(0))
  const { encoding, bom } = sniff(head, wanted)
  const plain = encoding === 'utf-8' || encoding === 'utf8'
  const text = (start: number): AsyncIterable<Buffer> => (plain ? unpacked(start) : decoded(unpacked(start), encoding))
  const decodedHead = plain ? head.subarray(bom) : Buffer.from(new TextDecoder(encoding).decode(head))
  return {
    encoding,
    packing,
    head: decodedHead,
    bytesTotal: stdin ? undefined : fs.statSync(file).size,
    consumed: () => consumed,
    chunks(offset) {
      if (plain && packing === undefined && !stdin) return aligned(text(bom + offset), offset, 0)
      return aligned(text(0), 0, offset, plain ? bom : 0)
    },
  }
}

function isZstd(head: Buffer): boolean {
  return head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528
}

function checkEncoding(label: string): void {
  try {
    void new TextDecoder(label)
  } catch (error) {
    throw new KymoError('usage', { detail: `--encoding "${label}" is not known: utf-8, utf-16le, windows-1252, iso-8859-15 … are`, cause: error })
  }
}

async function peek(source: AsyncIterator<Buffer | string, undefined>, into: Buffer[]): Promise<void> {
  for (let bytes = 0; bytes < chunkBytes;) {
    const next = await source.next()
    if (next.done === true) return
    const chunk = Buffer.from(next.value)
    into.push(chunk)
    bytes += chunk.length
  }
}

async function* replay(peeked: readonly Buffer[], rest: AsyncIterator<Buffer | string, undefined>): AsyncGenerator<Buffer> {
  yield* peeked
  for (;;) {
    const next = await rest.next()
    if (next.done === true) return
    yield Buffer.from(next.value)
  }
}

/** What the beginning of a packed stream holds, without reading on. */
async function* packedHead(disk: Buffer, packing: 'gzip' | 'zstd'): AsyncGenerator<Buffer> {
  const unpack: Transform = packing === 'gzip' ? createGunzip() : createZstdDecompress()
  unpack.write(disk)
  yield await new Promise<Buffer>((resolve, reject) => {
    unpack.once('data', resolve)
    unpack.once('error', reject)
  })
  unpack.destroy()
}

async function firstBytes(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of source) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes >= chunkBytes) break
  }
  return Buffer.concat(chunks)
}

async function* decoded(source: AsyncIterable<Buffer>, encoding: string): AsyncGenerator<Buffer> {
  const decoder = new TextDecoder(encoding)
  for await (const chunk of source) yield Buffer.from(decoder.decode(chunk, { stream: true }))
  yield Buffer.from(decoder.decode())
}

async function* named(source: AsyncIterable<Buffer>, file: string): AsyncGenerator<Buffer> {
  try {
    yield* source
  } catch (thrown) {
    throw new KymoError('request_invalid', {
      detail: `${file} cannot be unpacked: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      cause: thrown,
    })
  }
}

/** `at`: where the source begins in the text; what lies before `from` is passed over, `drop` bytes before the text even more so. */
async function* aligned(source: AsyncIterable<Buffer>, at: number, from: number, drop = 0): AsyncGenerator<Buffer> {
  let position = at
  let dropping = drop
  let held: Buffer[] = []
  for await (const given of source) {
    let chunk = given
    if (dropping > 0) {
      const cut = Math.min(dropping, chunk.length)
      dropping -= cut
      chunk = chunk.subarray(cut)
    }
    if (position < from) {
      const cut = Math.min(from - position, chunk.length)
      position += cut
      chunk = chunk.subarray(cut)
    }
    while (chunk.length > 0) {
      const room = chunkBytes - (position % chunkBytes)
      const part = chunk.subarray(0, room)
      held.push(part)
      position += part.length
      chunk = chunk.subarray(part.length)
      if (position % chunkBytes === 0) {
        yield held.length === 1 ? held[0]! : Buffer.concat(held)
        held = []
      }
    }
  }
  if (held.length > 0) yield Buffer.concat(held)
}
