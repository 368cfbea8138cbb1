import fs from 'node:fs'
import path from 'node:path'
import { KymoError } from '../../core/errors.ts'
import type { Snapshot, SnapshotFile } from '../../core/snapshot.ts'
import { diskError, readFile, sha256Of, writeFile } from './files.ts'
import { formatOf, type Backup, type BackupFile, type Repository } from './repository.ts'
import { Segments, type Copy } from './segments.ts'

/** Where the files of a snapshot come from. */
export interface SnapshotSource {
  readonly snapshot: Snapshot
  /** Where a file lies, when this process can reach it. */
  local(name: string): string | undefined
  /** The file's bytes; only asked for what is not local. */
  stream(file: SnapshotFile): Promise<AsyncIterable<Uint8Array>>
}

export interface CopyOptions {
  readonly source: SnapshotSource
  readonly repository: Repository
  readonly signal: AbortSignal
  readonly onProgress?: (doneBytes: number) => void
}

export interface Copied {
  readonly backup: Backup
  /** Bytes that were not in the directory before, and those of them that are links to the server's own files. */
  readonly newBytes: number
  readonly linkedBytes: number
}

/**
 * Copies a snapshot into the directory: what is there already (by its SHA-256) is not copied again, what never changes is linked where that can be. Of
 * log segments each record is checked, and what lies beyond the snapshot's end is cut off. Only with the directory's lock. Broken off anywhere it leaves the other
 * backups as they are.
 */
export async function copySnapshot(o: CopyOptions): Promise<Copied> {
  const { repository, source, signal } = o
  const { snapshot } = source
  const { files, id: _, ...facts } = snapshot
  const id = idOf(repository, snapshot.created_us)
  const work = new Work(o)
  try {
    repository.begin(id)
    fs.mkdirSync(work.folder, { recursive: true, mode: 0o750 })
    const copied: BackupFile[] = []
    for (const file of files) {
      signal.throwIfAborted()
      copied.push(await work.take(file))
    }
    const backup: Backup = { format: formatOf(copied), id, ...facts, from_us: work.fromUs, files: copied }
    repository.finish(backup)
    fs.rmSync(work.folder, { recursive: true, force: true })
    return { backup, newBytes: work.newBytes, linkedBytes: work.linkedBytes }
  } catch (thrown) {
    throw diskError(thrown, repository.dir)
  }
}

/** `2026-11-21T10-22-33.123Z`: sorts by time, and is a file name everywhere. */
function idOf(repository: Repository, createdUs: number): string {
  const base = new Date(createdUs / 1000).toISOString().replaceAll(':', '-')
  const taken = new Set(fs.readdirSync(path.join(repository.dir, 'backups')).map((name) => name.replace(/\.(json|partial)$/, '')))
  let id = base
  for (let n = 2; taken.has(id); n++) id = `${base}-${n}`
  return id
}

class Work {
  readonly folder: string
  newBytes = 0
  linkedBytes = 0
  readonly #o: CopyOptions
  readonly #segments: Segments
  #done = 0
  #count = 0

  constructor(o: CopyOptions) {
    this.#o = o
    this.folder = path.join(o.repository.dir, `tmp-${o.source.snapshot.id}`)
    this.#segments = new Segments(o.source.snapshot)
  }

  get fromUs(): number {
    return this.#segments.fromUs
  }

  async take(file: SnapshotFile): Promise<BackupFile> {
    const { repository } = this.#o
    const before = this.#done
    const taken = await this.#take(file)
    this.#done = before + file.bytes
    this.#o.onProgress?.(this.#done)
    if (!repository.has(taken.sha256, taken.bytes)) throw new KymoError('bug', { detail: `${file.path} was copied and is not there.` })
    return { path: file.path, bytes: taken.bytes, sha256: taken.sha256 }
  }

  async #take(file: SnapshotFile): Promise<Copy> {
    const { repository, source } = this.#o
    if (file.sha256 !== undefined && repository.has(file.sha256, file.bytes)) return { bytes: file.bytes, sha256: file.sha256 }
    const temporary = path.join(this.folder, String(++this.#count))
    const local = source.local(file.path)
    const linked = file.immutable && local !== undefined && isLinked(local, temporary)
    let found = linked ? { bytes: file.bytes, sha256: file.sha256 ?? (await sha256Of(temporary)) } : await this.#copy(file, local, temporary)
    if (file.sha256 !== undefined && found.sha256 !== file.sha256)
      throw new KymoError('store_corrupt', {
        detail: `${file.path} has other content than when it was sealed. Nothing was backed up; earlier backups have it whole.`,
        facts: { file: file.path },
      })
    if (this.#segments.isOne(file)) found = await this.#segments.cut(file, temporary, found)
    if (repository.has(found.sha256, found.bytes)) fs.rmSync(temporary)
    else {
      repository.adopt(temporary, found.sha256)
      this.newBytes += found.bytes
      if (linked) this.linkedBytes += found.bytes
    }
    return found
  }

  async #copy(file: SnapshotFile, local: string | undefined, to: string): Promise<Copy> {
    const { source, signal } = this.#o
    const stream = local === undefined ? await source.stream(file) : readFile(local, file.bytes)
    const from = this.#done
    let bytes = 0
    const found = await writeFile(stream, to, { signal, onBytes: (n) => this.#o.onProgress?.(from + (bytes += n)) })
    if (found.bytes !== file.bytes)
      throw new KymoError('store_unavailable', { detail: `${file.path} came with ${found.bytes} bytes instead of ${file.bytes}. Try again.` })
    return found
  }
}

/** Another file system, or somebody else's file: then it is copied. */
function isLinked(from: string, to: string): boolean {
  try {
    fs.linkSync(from, to)
    return true
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code !== 'ENOENT') return false
    throw thrown
  }
}
