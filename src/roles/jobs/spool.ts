import fs from 'node:fs'
import path from 'node:path'
import type { Disk } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'

/** Bytes between two looks at the disk, and between two calls of fdatasync: short ones, so that the log's own never wait long. */
const stepBytes = 8 * 1024 * 1024

/** Folders of jobs on disk: one for each, with what was uploaded and what came of it. */
export class Spool {
  readonly dir: string
  readonly #disk: Disk
  readonly #reserveBytes: number
  readonly #bytesMax: number

  constructor(o: { readonly dir: string; readonly disk: Disk; readonly reserveBytes: number; readonly bytesMax: number }) {
    this.dir = o.dir
    this.#disk = o.disk
    this.#reserveBytes = o.reserveBytes
    this.#bytesMax = o.bytesMax
  }

  folder(id: string): string {
    return path.join(this.dir, id)
  }

  /** The folder of a job, made when it is not there. */
  make(id: string): string {
    fs.mkdirSync(this.folder(id), { recursive: true })
    return this.folder(id)
  }

  /** What keeps it from growing; undefined: nothing. The log's reserve is left alone twice over: jobs yield before readings do. */
  async full(): Promise<KymoError | undefined> {
    await fs.promises.mkdir(this.dir, { recursive: true })
    if (this.#disk.freeBytes(this.dir) < 2 * this.#reserveBytes)
      return new KymoError('disk_full', { detail: 'The disk has no room for the files of jobs.' })
    if ((await bytesOf(this.dir)) < this.#bytesMax) return undefined
    return new KymoError('overloaded', {
      detail: `The files of all jobs take ${this.#bytesMax} bytes, which is the limit. Delete jobs that have ended.`,
      retryAfterS: 60,
    })
  }

  /** Writes a body to disk, durably. Removes what there is of it when that does not succeed. */
  async take(id: string, name: string, body: AsyncIterable<Uint8Array>): Promise<number> {
    const folder = this.folder(id)
    const file = path.join(folder, name)
    const full = await this.full()
    if (full !== undefined) throw full
    await fs.promises.mkdir(path.dirname(file), { recursive: true })
    try {
      const handle = await fs.promises.open(file, 'w')
      try {
        return await this.#write(handle, body)
      } finally {
        await handle.close()
      }
    } catch (thrown) {
      await this.remove(id)
      const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined
      if (code === 'ENOSPC') throw new KymoError('disk_full', { cause: thrown })
      if (code === 'ECONNRESET')
        throw new KymoError('request_invalid', { detail: 'The connection closed before the body was complete.', cause: thrown })
      throw thrown
    }
  }

  async #write(handle: fs.promises.FileHandle, body: AsyncIterable<Uint8Array>): Promise<number> {
    let bytes = 0
    let synced = 0
    for await (const chunk of body) {
      await handle.writeFile(chunk)
      bytes += chunk.length
      if (bytes - synced < stepBytes) continue
      synced = bytes
      await handle.datasync()
      const full = await this.full()
      if (full !== undefined) throw full
    }
    await handle.datasync()
    return bytes
  }

  remove(id: string): Promise<void> {
    return fs.promises.rm(this.folder(id), { recursive: true, force: true })
  }

  /** Size of a file of a job; undefined: it is not there. */
  sizeOf(id: string, name: string): number | undefined {
    return fs.statSync(path.join(this.folder(id), name), { throwIfNoEntry: false })?.size
  }

  /** Removes folders of jobs that are not known: an upload that was cut off. */
  async sweep(known: (id: string) => boolean): Promise<void> {
    const names = await fs.promises.readdir(this.dir).catch(() => [])
    for (const name of names) if (!known(name)) await this.remove(name)
  }
}

/** A few dozen files: counted anew each time, so that it is never wrong. */
async function bytesOf(dir: string): Promise<number> {
  let bytes = 0
  for (const entry of await fs.promises.readdir(dir, { recursive: true, withFileTypes: true })) {
    // It may have been removed since.
    if (entry.isFile())
      bytes += await fs.promises.stat(path.join(entry.parentPath, entry.name)).then(
        ({ size }) => size,
        () => 0,
      )
  }
  return bytes
}
