import path from 'node:path'
import type { Disk, DiskFile } from '../../src/core/env.ts'
import type { SimRandom } from './random.ts'

const sectorBytes = 512

type Change = { readonly kind: 'write'; readonly position: number; readonly bytes: Buffer } | { readonly kind: 'truncate'; readonly length: number }

/** A file's content: what is in the page cache, what is on the platter, and the changes between the two. */
class Inode {
  content: Buffer = Buffer.alloc(0)
  durable: Buffer = Buffer.alloc(0)
  changes: Change[] = []
}

class Directory {
  readonly entries = new Map<string, Inode | Directory>()
  readonly durable = new Map<string, Inode | Directory>()
  /** Each is atomic (a rename both ends at once), and they reach the disk in this order. */
  changes: ((entries: Map<string, Inode | Directory>) => void)[] = []

  change(apply: (entries: Map<string, Inode | Directory>) => void): void {
    apply(this.entries)
    this.changes.push(apply)
  }
}

export class SimDiskError extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(`${code}: ${message}`)
    this.code = code
  }
}

/**
 * A disk that keeps its promises and no more: data are durable after `sync`, names after `syncDir`. `crash` gives the disk as it may
 * look afterwards: of what was not synced, each write is there, is missing, or is torn (a prefix, or some sectors), and of the changes to a
 * directory some first ones. Faults: `failSyncs`, `capacityBytes`, `flip`, `crashAt`.
 */
export class SimDisk implements Disk {
  readonly #random: SimRandom
  readonly #root: Directory
  #capacityBytes: number
  #usedBytes = 0
  #dead = false
  #failSyncs = 0
  #operations = 0
  #crashAt = Number.POSITIVE_INFINITY

  constructor(random: SimRandom, capacityBytes = Number.MAX_SAFE_INTEGER, root = new Directory()) {
    this.#random = random
    this.#capacityBytes = capacityBytes
    this.#root = root
    this.#usedBytes = contentBytes(root)
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  get operations(): number {
    return this.#operations
  }

  get dead(): boolean {
    return this.#dead
  }

  set capacityBytes(bytes: number) {
    this.#capacityBytes = bytes
  }

  /** The next `count` syncs fail, and what they should have made durable may be lost. */
  failSyncs(count: number): void {
    this.#failSyncs = count
  }

  /** The machine stops in the middle of the `n`th change from now: everything after it fails, until `crash`. */
  crashAt(n: number): void {
    this.#crashAt = this.#operations + n
  }

  /** A bit of what is stored turns over. */
  flip(file: string, byte: number, bit = 0): void {
    const inode = this.#file(file)
    for (const content of [inode.content, inode.durable]) if (byte < content.length) content[byte]! ^= 1 << bit
  }

  /** The content as a reader sees it. */
  content(file: string): Buffer {
    return Buffer.from(this.#file(file).content)
  }

  /** Sets the content, durably: for tests that damage what is stored. */
  replace(file: string, content: Uint8Array): void {
    const inode = this.#file(file)
    inode.content = Buffer.from(content)
    inode.durable = Buffer.from(content)
    inode.changes = []
  }

  /** The power fails. Returns the disk as the machine finds it when it comes back; this one answers nothing any more. */
  crash(): SimDisk {
    this.#dead = true
    return new SimDisk(this.#random, this.#capacityBytes, this.#survivingDirectory(this.#root))
  }

  open(file: string, mode: 'read' | 'write' | 'create'): DiskFile {
    this.#alive()
    const dir = this.#dir(path.dirname(file))
    const name = path.basename(file)
    let inode = dir.entries.get(name)
    if (mode === 'create') {
      if (inode !== undefined) throw new SimDiskError('EEXIST', file)
      if (this.#usedBytes >= this.#capacityBytes) throw new SimDiskError('ENOSPC', file)
      this.#operation(() => undefined)
      const created = new Inode()
      dir.change((entries) => void entries.set(name, created))
      inode = created
    }
    if (!(inode instanceof Inode)) throw new SimDiskError('ENOENT', file)
    return this.#handle(inode, file, mode !== 'read')
  }

  exists(file: string): boolean {
    this.#alive()
    return this.#find(file) !== undefined
  }

  mkdir(dir: string): void {
    this.#alive()
    let at = this.#root
    for (const name of parts(dir)) {
      let next = at.entries.get(name)
      if (next === undefined) {
        this.#operation(() => undefined)
        const made = new Directory()
        at.change((entries) => void entries.set(name, made))
        next = made
      }
      if (!(next instanceof Directory)) throw new SimDiskError('ENOTDIR', dir)
      at = next
    }
  }

  list(dir: string): string[] {
    this.#alive()
    return [...this.#dir(dir).entries.keys()].toSorted()
  }

  size(file: string): number {
    this.#alive()
    return this.#file(file).content.length
  }

  rename(from: string, to: string): void {
    this.#alive()
    const dir = this.#dir(path.dirname(from))
    if (path.dirname(from) !== path.dirname(to)) throw new SimDiskError('EXDEV', 'the simulated disk renames within a directory')
    const inode = this.#file(from)
    this.#operation(() => undefined)
    const replaced = dir.entries.get(path.basename(to))
    if (replaced instanceof Inode) this.#usedBytes -= replaced.content.length
    dir.change((entries) => {
      entries.delete(path.basename(from))
      entries.set(path.basename(to), inode)
    })
  }

  unlink(file: string): void {
    this.#alive()
    const inode = this.#file(file)
    this.#operation(() => undefined)
    this.#usedBytes -= inode.content.length
    this.#dir(path.dirname(file)).change((entries) => void entries.delete(path.basename(file)))
  }

  syncDir(dir: string): void {
    this.#alive()
    const directory = this.#dir(dir)
    this.#operation(() => undefined)
    this.#syncFault(dir)
    directory.durable.clear()
    for (const [name, node] of directory.entries) directory.durable.set(name, node)
    directory.changes = []
  }

  freeBytes(): number {
    this.#alive()
    return Math.max(0, this.#capacityBytes - this.#usedBytes)
  }

  #handle(inode: Inode, file: string, writable: boolean): DiskFile {
    let closed = false
    const check = (write: boolean): void => {
      this.#alive()
      if (closed || (write && !writable)) throw new SimDiskError('EBADF', file)
    }
    return {
      write: (bytes, position) => {
        check(true)
        this.#write(inode, bytes, position, file)
      },
      read: (bytes, position) => {
        check(false)
        return position >= inode.content.length ? 0 : inode.content.copy(bytes, 0, position)
      },
      sync: () => {
        check(true)
        this.#operation(() => undefined)
        this.#syncFault(file)
        inode.durable = Buffer.from(inode.content)
        inode.changes = []
      },
      truncate: (length) => {
        check(true)
        this.#operation(() => undefined)
        this.#usedBytes += length - inode.content.length
        apply(inode, { kind: 'truncate', length })
      },
      size: () => {
        check(false)
        return inode.content.length
      },
      close: () => {
        closed = true
      },
    }
  }

  #write(inode: Inode, bytes: Uint8Array, position: number, file: string): void {
    const growth = Math.max(0, position + bytes.length - inode.content.length)
    const room = this.#capacityBytes - this.#usedBytes
    const part = (length: number): void => {
      const before = inode.content.length
      apply(inode, { kind: 'write', position, bytes: Buffer.from(bytes.subarray(0, length)) })
      this.#usedBytes += inode.content.length - before
    }
    if (growth > room) {
      part(Math.max(0, bytes.length - growth + room))
      throw new SimDiskError('ENOSPC', file)
    }
    this.#operation(() => part(this.#random.below(bytes.length + 1)))
    part(bytes.length)
  }

  /** Counts a change; when the machine is to stop at this one, `partly` happens and no more. */
  #operation(partly: () => void): void {
    if (++this.#operations < this.#crashAt) return
    partly()
    this.#dead = true
    throw new SimDiskError('EIO', 'the machine stopped')
  }

  #syncFault(what: string): void {
    if (this.#failSyncs === 0) return
    this.#failSyncs--
    throw new SimDiskError('EIO', `sync of ${what}`)
  }

  #alive(): void {
    if (this.#dead) throw new SimDiskError('EIO', 'the machine stopped')
  }

  #find(file: string): Inode | Directory | undefined {
    let at: Inode | Directory | undefined = this.#root
    for (const name of parts(file)) at = at instanceof Directory ? at.entries.get(name) : undefined
    return at
  }

  #file(file: string): Inode {
    const found = this.#find(file)
    if (!(found instanceof Inode)) throw new SimDiskError('ENOENT', file)
    return found
  }

  #dir(dir: string): Directory {
    const found = this.#find(dir)
    if (!(found instanceof Directory)) throw new SimDiskError('ENOENT', dir)
    return found
  }

  #survivingDirectory(directory: Directory): Directory {
    const entries = new Map(directory.durable)
    const survive = this.#random.chance(0.3) ? directory.changes.length : this.#random.below(directory.changes.length + 1)
    for (const change of directory.changes.slice(0, survive)) change(entries)
    const survivor = new Directory()
    for (const [name, node] of entries) {
      const copy = node instanceof Directory ? this.#survivingDirectory(node) : this.#survivingFile(node)
      survivor.entries.set(name, copy)
      survivor.durable.set(name, copy)
    }
    return survivor
  }

  #survivingFile(inode: Inode): Inode {
    const survivor = new Inode()
    survivor.content = Buffer.from(inode.durable)
    for (const change of inode.changes) {
      const fate = this.#random.next()
      if (fate < 0.25) continue
      if (fate < 0.5 || change.kind === 'truncate') apply(survivor, change)
      else if (fate < 0.75) apply(survivor, { ...change, bytes: change.bytes.subarray(0, this.#random.below(change.bytes.length + 1)) })
      else this.#someSectors(survivor, change)
    }
    survivor.durable = Buffer.from(survivor.content)
    survivor.changes = []
    return survivor
  }

  #someSectors(survivor: Inode, change: Extract<Change, { kind: 'write' }>): void {
    const end = change.position + change.bytes.length
    for (let at = change.position; at < end;) {
      const next = Math.min(end, (Math.floor(at / sectorBytes) + 1) * sectorBytes)
      if (this.#random.chance(0.5)) {
        apply(survivor, { kind: 'write', position: at, bytes: change.bytes.subarray(at - change.position, next - change.position) })
      }
      at = next
    }
  }
}

function apply(inode: Inode, change: Change): void {
  if (change.kind === 'truncate') inode.content = resized(inode.content, change.length)
  else if (change.bytes.length > 0) {
    const end = change.position + change.bytes.length
    if (end > inode.content.length) inode.content = resized(inode.content, end)
    change.bytes.copy(inode.content, change.position)
  }
  inode.changes.push(change)
}

function resized(content: Buffer, length: number): Buffer {
  if (length <= content.length) return Buffer.from(content.subarray(0, length))
  const grown = Buffer.alloc(length)
  content.copy(grown)
  return grown
}

function parts(file: string): string[] {
  return file.split('/').filter((part) => part !== '')
}

function contentBytes(directory: Directory): number {
  let bytes = 0
  for (const node of directory.entries.values()) bytes += node instanceof Directory ? contentBytes(node) : node.content.length
  return bytes
}
