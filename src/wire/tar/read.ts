import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { blockBytes } from './write.ts'

/** A regular file of an archive. */
export interface TarFile {
  readonly path: string
  readonly bytes: number
  /** To be read once, before the next file is asked for; what is left of it is skipped. */
  readonly body: AsyncIterable<Uint8Array>
}

const decoder = new TextDecoder('utf-8', { fatal: true })
const digits = /^[0-7]*$/

/**
 * Files of a tar archive (ustar, pax, and what GNU tar writes for long names and large files), in order, in constant memory. Folders are passed over. Throws
 * `backup_damaged` for bytes that are no archive or end early, and for entries of another kind: links and devices have no place in what we read.
 */
export async function* readTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarFile, void, void> {
  const input = new Input(source)
  try {
    let extended = new Map<string, string>()
    for (;;) {
      const header = await input.exactly(blockBytes)
      if (header.every((byte) => byte === 0)) return
      checkSum(header)
      const type = String.fromCharCode(header[156]!)
      const own = sizeOf(header)
      if (type === 'x' || type === 'g' || type === 'L' || type === 'K') {
        if (own > limits.tarHeaderBytesMax) throw damaged(`has a header of ${own} bytes`)
        const body = await input.exactly(own)
        await input.skip(paddingOf(own))
        if (type === 'x') extended = paxRecords(body)
        if (type === 'L') extended.set('path', textOf(body))
        continue
      }
      const bytes = extended.has('size') ? wholeOf(extended.get('size') ?? '') : own
      const path = extended.get('path') ?? nameOf(header)
      extended = new Map()
      if (type === '5') continue
      if (type !== '0' && type !== '\0') throw damaged(`has ${path}, which is no file`)
      const body = input.body(bytes)
      yield { path, bytes, body: body.stream }
      await input.skip(body.left() + paddingOf(bytes))
    }
  } finally {
    await input.close()
  }
}

class Input {
  readonly #source: AsyncIterator<Uint8Array>
  #chunk: Uint8Array = new Uint8Array(0)

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** At least one byte and at most `max`. */
  async some(max: number): Promise<Uint8Array> {
    while (this.#chunk.length === 0) {
      const next: IteratorResult<Uint8Array, unknown> = await this.#source.next()
      if (next.done === true) throw damaged('ends before its end: it was broken off')
      this.#chunk = next.value
    }
    const part = this.#chunk.subarray(0, max)
    this.#chunk = this.#chunk.subarray(part.length)
    return part
  }

  async exactly(bytes: number): Promise<Uint8Array> {
    const all = new Uint8Array(bytes)
    for (let at = 0; at < bytes;) {
      const part = await this.some(bytes - at)
      all.set(part, at)
      at += part.length
    }
    return all
  }

  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0;) left -= (await this.some(left)).length
  }

  body(bytes: number): { readonly stream: AsyncIterable<Uint8Array>; readonly left: () => number } {
    let left = bytes
    const some = (max: number): Promise<Uint8Array> => this.some(max)
    async function* stream(): AsyncGenerator<Uint8Array, void, void> {
      while (left > 0) {
        const part = await some(left)
        left -= part.length
        yield part
      }
    }
    return { stream: stream(), left: () => left }
  }

  async close(): Promise<void> {
    await this.#source.return?.()
  }
}

function damaged(what: string): KymoError {
  return new KymoError('backup_damaged', { detail: `The archive ${what}.` })
}

function paddingOf(bytes: number): number {
  return (blockBytes - (bytes % blockBytes)) % blockBytes
}

/** The sum of all bytes, those of the sum itself as blanks. */
function checkSum(header: Uint8Array): void {
  let sum = 8 * 32
  header.forEach((byte, at) => (sum += at >= 148 && at < 156 ? 0 : byte))
  if (octalOf(header.subarray(148, 156)) !== sum) throw damaged('is damaged, or is none: a header has another checksum than it says')
}

/** Up to the first NUL. */
function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  try {
    return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end))
  } catch {
    throw damaged('has a name that is not UTF-8')
  }
}

function octalOf(field: Uint8Array): number {
  const text = textOf(field).trim()
  if (!digits.test(text)) throw damaged('has a header that cannot be read')
  return text === '' ? 0 : Number.parseInt(text, 8)
}

/** GNU writes what needs more than 11 octal digits as a big-endian number, with the first bit set. */
function sizeOf(header: Uint8Array): number {
  const field = header.subarray(124, 136)
  if ((field[0]! & 0x80) === 0) return octalOf(field)
  let size = field[0]! & 0x7f
  for (const byte of field.subarray(1)) size = size * 256 + byte
  return checked(size)
}

function wholeOf(text: string): number {
  if (!/^\d{1,16}$/.test(text)) throw damaged('has a size that is no number')
  return checked(Number(text))
}

function checked(size: number): number {
  if (!Number.isSafeInteger(size)) throw damaged('has a size that is no number')
  return size
}

function nameOf(header: Uint8Array): string {
  const name = textOf(header.subarray(0, 100))
  const isPosix = textOf(header.subarray(257, 263)) === 'ustar'
  const prefix = isPosix ? textOf(header.subarray(345, 500)) : ''
  return prefix === '' ? name : `${prefix}/${name}`
}

function paxRecords(body: Uint8Array): Map<string, string> {
  const records = new Map<string, string>()
  for (let at = 0; at < body.length;) {
    const blank = body.indexOf(32, at)
    const length = blank < 0 ? Number.NaN : wholeOf(textOf(body.subarray(at, blank)))
    if (!(length > blank - at + 1) || at + length > body.length || body[at + length - 1] !== 10)
      throw damaged('has an extended header that cannot be read')
    const record = textOf(body.subarray(blank + 1, at + length - 1))
    const equals = record.indexOf('=')
    if (equals > 0) records.set(record.slice(0, equals), record.slice(equals + 1))
    at += length
  }
  return records
}
