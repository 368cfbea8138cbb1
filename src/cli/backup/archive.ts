import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { Readable, type Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { SnapshotFile } from '../../core/snapshot.ts'
import { readTar, type TarFile } from '../../wire/tar/read.ts'
import { padding, tarEnd, tarHeader } from '../../wire/tar/write.ts'
import type { SnapshotSource } from './copy.ts'
import { diskError, readFile, syncFolder, writeFile } from './files.ts'
import { backupOf, backupText, formatOf, isInside, type Backup, type BackupFile } from './repository.ts'
import { Segments, type Copy } from './segments.ts'

/** The last file of an archive: without it, it was broken off. */
const described = 'kymo-backup.json'

const packers: readonly (readonly [RegExp, () => Transform | undefined])[] = [
  [/\.tar$/, () => undefined],
  [/\.(tar\.gz|tgz)$/, () => createGzip()],
  [/\.(tar\.zst|tzst)$/, () => createZstdCompress()],
]

export interface ArchiveOptions {
  readonly source: SnapshotSource
  readonly file: string
  readonly signal: AbortSignal
  readonly onProgress?: (doneBytes: number) => void
}

/**
 * Writes a snapshot into one tar archive: `file` is there when it is complete and on disk, and not before. Each file goes through once, in constant memory (segments of the
 * log by a copy beside it), and its SHA-256 into the description at the end. Throws `usage` for a name that is there or says no kind of archive, `store_corrupt` for a sealed file with other content.
 */
export async function writeArchive(o: ArchiveOptions): Promise<{ readonly backup: Backup; readonly bytes: number }> {
  const file = path.resolve(o.file)
  const packer = packers.find(([name]) => name.test(file))
  if (packer === undefined) throw new KymoError('usage', { detail: `${o.file}: an archive is called *.tar, *.tar.gz or *.tar.zst.` })
  if (fs.existsSync(file))
    throw new KymoError('usage', { detail: `${o.file} is there already. Nothing that is there is replaced: name another file.` })
  const partial = `${file}.${process.pid}.partial`
  const scratch = `${file}.${process.pid}.scratch`
  try {
    fs.mkdirSync(scratch, { recursive: true, mode: 0o750 })
    const parts = new Parts(o, scratch)
    const pack = packer[1]()
    const out = fs.createWriteStream(partial, { mode: 0o640, flush: true })
    const bytes = Readable.from(parts.all(), { objectMode: false })
    await (pack === undefined ? pipeline(bytes, out, { signal: o.signal }) : pipeline(bytes, pack, out, { signal: o.signal }))
    if (parts.backup === undefined) throw new KymoError('bug', { detail: 'The archive has no description.' })
    const { size } = fs.statSync(partial)
    fs.linkSync(partial, file) // unlike a rename it replaces nothing
    syncFolder(path.dirname(file))
    return { backup: parts.backup, bytes: size }
  } catch (thrown) {
    if (o.signal.aborted) o.signal.throwIfAborted()
    throw diskError(thrown, file)
  } finally {
    fs.rmSync(partial, { force: true })
    fs.rmSync(scratch, { recursive: true, force: true })
  }
}

class Parts {
  backup: Backup | undefined
  readonly #o: ArchiveOptions
  readonly #scratch: string
  readonly #segments: Segments
  #done = 0

  constructor(o: ArchiveOptions, scratch: string) {
    this.#o = o
    this.#scratch = scratch
    this.#segments = new Segments(o.source.snapshot)
  }

  async *all(): AsyncGenerator<Uint8Array, void, void> {
    const { files, id: _, ...facts } = this.#o.source.snapshot
    const mtime = facts.created_us / 1e6
    const written: BackupFile[] = []
    for (const file of files) {
      const found = this.#segments.isOne(file) ? yield* this.#segment(file, mtime) : yield* this.#file(file, mtime)
      written.push({ path: file.path, ...found })
    }
    const id = new Date(facts.created_us / 1000).toISOString().replaceAll(':', '-')
    this.backup = { format: formatOf(written), id, ...facts, from_us: this.#segments.fromUs, files: written }
    const text = Buffer.from(backupText(this.backup))
    if (text.length > limits.archiveDescriptionBytesMax)
      throw new KymoError('usage', { detail: 'There are too many files for one archive. Back up into a directory.' })
    yield tarHeader({ path: described, bytes: text.length, mtime })
    yield text
    yield padding(text.length)
    yield tarEnd()
  }

  async *#file(file: SnapshotFile, mtime: number): AsyncGenerator<Uint8Array, Copy, void> {
    yield tarHeader({ path: file.path, bytes: file.bytes, mtime })
    const found = yield* this.#body(await this.#open(file), true)
    if (found.bytes !== file.bytes)
      throw new KymoError('store_unavailable', { detail: `${file.path} came with ${found.bytes} bytes instead of ${file.bytes}. Try again.` })
    if (file.sha256 !== undefined && found.sha256 !== file.sha256)
      throw new KymoError('store_corrupt', {
        detail: `${file.path} has other content than when it was sealed. Nothing was backed up. kymo store verify names all such files.`,
        facts: { file: file.path },
      })
    return found
  }

  /** Where it ends is known when its records were read, and a header says the size before the content. */
  async *#segment(file: SnapshotFile, mtime: number): AsyncGenerator<Uint8Array, Copy, void> {
    const copy = path.join(this.#scratch, 'segment')
    const from = this.#done
    const copied = await writeFile(await this.#open(file), copy, { signal: this.#o.signal, onBytes: (n) => this.#o.onProgress?.((this.#done += n)) })
    const cut = await this.#segments.cut(file, copy, copied)
    yield tarHeader({ path: file.path, bytes: cut.bytes, mtime })
    const found = yield* this.#body(readFile(copy), false)
    fs.rmSync(copy)
    this.#done = from + file.bytes
    if (found.sha256 !== cut.sha256) throw new KymoError('store_unavailable', { detail: `${file.path} changed while it was copied. Try again.` })
    return found
  }

  async *#body(from: AsyncIterable<Uint8Array>, counts: boolean): AsyncGenerator<Uint8Array, Copy, void> {
    const hash = createHash('sha256')
    let bytes = 0
    for await (const chunk of from) {
      this.#o.signal.throwIfAborted()
      hash.update(chunk)
      bytes += chunk.length
      if (counts) this.#o.onProgress?.((this.#done += chunk.length))
      yield chunk
    }
    yield padding(bytes)
    return { bytes, sha256: hash.digest('hex') }
  }

  async #open(file: SnapshotFile): Promise<AsyncIterable<Uint8Array>> {
    const { source } = this.#o
    const local = source.local(file.path)
    return local === undefined ? source.stream(file) : readFile(local, file.bytes)
  }
}

/**
 * Reads an archive once from its beginning to its end, whatever packs it, and gives each file to `take`, which says what it was; only names inside a data directory
 * come to it. Returns the description, which the files fit. Throws `backup_damaged` or `backup_format`; what was taken before is worth nothing then.
 */
export async function readArchive(
  file: string,
  o: { readonly take: (one: TarFile) => Promise<Copy>; readonly signal: AbortSignal; readonly onProgress?: (packedBytes: number) => void },
): Promise<Backup> {
  const found = new Map<string, Copy>()
  let backup: Backup | undefined
  for await (const one of readTar(unpacked(file, o))) {
    o.signal.throwIfAborted()
    if (backup !== undefined) throw damaged(file, 'goes on after its description')
    if (one.path === described) {
      if (one.bytes > limits.archiveDescriptionBytesMax) throw damaged(file, 'has a description that is too long')
      backup = backupOf(await textOf(one.body), `${file} (${described})`)
      continue
    }
    if (!isInside(one.path)) throw damaged(file, `has ${JSON.stringify(one.path)}, which is no place in a data directory; nothing was written there`)
    if (found.has(one.path)) throw damaged(file, `has ${one.path} twice`)
    found.set(one.path, await o.take(one))
  }
  if (backup === undefined) throw damaged(file, 'has no description: it was broken off, or is no backup of Kymo')
  for (const { path: name, bytes, sha256 } of backup.files) {
    const here = found.get(name)
    if (here === undefined) throw damaged(file, `lacks ${name}`)
    if (here.bytes !== bytes || here.sha256 !== sha256) throw damaged(file, `has ${name} with other content than was backed up`)
  }
  if (found.size !== backup.files.length) throw damaged(file, 'has files that its description does not name')
  return backup
}

/** What a file of an archive is, for those who keep nothing of it. */
export async function digestOf(one: TarFile): Promise<Copy> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of one.body) {
    hash.update(chunk)
    bytes += chunk.length
  }
  return { bytes, sha256: hash.digest('hex') }
}

async function* unpacked(file: string, o: { readonly onProgress?: (packedBytes: number) => void }): AsyncGenerator<Uint8Array, void, void> {
  const head = Buffer.alloc(4)
  const fd = fs.openSync(file, 'r')
  try {
    fs.readSync(fd, head, 0, 4, 0)
  } finally {
    fs.closeSync(fd)
  }
  const unpack = head.readUInt16BE() === 0x1f8b ? createGunzip() : head.readUInt32LE() === 0xfd2fb528 ? createZstdDecompress() : undefined
  let read = 0
  const counted = (async function* () {
    for await (const chunk of readFile(file)) {
      o.onProgress?.((read += chunk.length))
      yield chunk
    }
  })()
  if (unpack === undefined) return yield* counted
  const piped = pipeline(Readable.from(counted, { objectMode: false }), unpack)
  piped.catch(() => undefined) // told by reading from it
  try {
    for await (const chunk of unpack) if (chunk instanceof Uint8Array) yield chunk
  } catch (thrown) {
    if (thrown instanceof KymoError) throw thrown
    throw damaged(file, `cannot be unpacked (${thrown instanceof Error ? thrown.message : String(thrown)})`)
  } finally {
    unpack.destroy()
  }
}

async function textOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

function damaged(file: string, what: string): KymoError {
  return new KymoError('backup_damaged', { detail: `${file} ${what}.`, facts: { file } })
}
