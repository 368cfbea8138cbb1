import { createHash, randomUUID } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { KymoError } from '../../core/errors.ts'
import type { Snapshot } from '../../core/snapshot.ts'
import { diskError, sha256Of, syncFolder } from './files.ts'

/** Of the directory and of each backup in it (docs/format/backup.md). */
const backupFormat = 2
/** Of the directory, and of backups without the file that format 2 brought: earlier versions read them. */
const firstFormat = 1
const forecastsName = 'forecasts.sqlite'

/** The format that a backup of these files has. */
export function formatOf(files: readonly { readonly path: string }[]): number {
  return files.some((file) => file.path === forecastsName) ? backupFormat : firstFormat
}

export interface BackupFile {
  /** In a data directory. */
  readonly path: string
  readonly bytes: number
  /** The name of its content among the objects. */
  readonly sha256: string
}

/** One backup. Times are epoch microseconds. */
export interface Backup extends Omit<Snapshot, 'files' | 'id'> {
  readonly format: number
  readonly id: string
  /** It can be restored to any moment from here to `created_us`. */
  readonly from_us: number
  readonly files: readonly BackupFile[]
}

/** A backup whose own description cannot be read. */
export interface Unreadable {
  readonly id: string
  readonly error: KymoError
}

const marker = 'kymo-backup.json'

/** What a `make` that was killed leaves before its marker stands: its folders, with nothing in them. */
function isLeftOver(dir: string, name: string): boolean {
  if (name.startsWith('kymo.') || name === `${marker}.tmp`) return true
  return (name === 'objects' || name === 'backups') && fs.readdirSync(path.join(dir, name)).length === 0
}

/** A directory with backups: what they are made of stands once under `objects/`, named by its SHA-256. */
export class Repository {
  readonly dir: string

  private constructor(dir: string) {
    this.dir = dir
  }

  /** Throws `not_found` when there are no backups in `dir`, `backup_format` when a newer Kymo made them. */
  static open(dir: string): Repository {
    const file = path.join(dir, marker)
    let text: string
    try {
      text = fs.readFileSync(file, 'utf8')
    } catch (thrown) {
      throw new KymoError('not_found', { detail: `${dir} holds no backups of Kymo.`, cause: thrown })
    }
    checkFormat(parsed(text, file), file)
    return new Repository(path.resolve(dir))
  }

  /** Makes it where there is nothing yet. Throws `usage` for a directory of something else. */
  static make(dir: string): Repository {
    if (fs.existsSync(path.join(dir, marker))) return Repository.open(dir)
    try {
      fs.mkdirSync(dir, { recursive: true, mode: 0o750 })
      if (!fs.readdirSync(dir).every((name) => isLeftOver(dir, name)))
        throw new KymoError('usage', { detail: `${dir} is not empty and holds no backups. Name a directory of its own for them.` })
      fs.mkdirSync(path.join(dir, 'objects'), { recursive: true, mode: 0o750 })
      fs.mkdirSync(path.join(dir, 'backups'), { recursive: true, mode: 0o750 })
      replaceText(path.join(dir, marker), `${JSON.stringify({ format: firstFormat })}\n`)
    } catch (thrown) {
      throw diskError(thrown, dir)
    }
    return new Repository(path.resolve(dir))
  }

  object(sha256: string): string {
    return path.join(this.dir, 'objects', sha256.slice(0, 2), sha256)
  }

  has(sha256: string, bytes: number): boolean {
    return fs.statSync(this.object(sha256), { throwIfNoEntry: false })?.size === bytes
  }

  /** Gives a file that lies in this directory, and is on disk, its name among the objects. */
  adopt(file: string, sha256: string): void {
    const to = this.object(sha256)
    makeFolder(path.dirname(to))
    fs.renameSync(file, to)
  }

  /** Oldest first. */
  list(): { readonly backups: readonly Backup[]; readonly unreadable: readonly Unreadable[]; readonly unfinished: readonly string[] } {
    const backups: Backup[] = []
    const unreadable: Unreadable[] = []
    const unfinished: string[] = []
    for (const name of fs.readdirSync(path.join(this.dir, 'backups')).sort()) {
      if (name.endsWith('.partial')) unfinished.push(name.slice(0, -'.partial'.length))
      if (!name.endsWith('.json')) continue
      const id = name.slice(0, -'.json'.length)
      try {
        backups.push(this.read(id))
      } catch (thrown) {
        if (!(thrown instanceof KymoError)) throw thrown
        unreadable.push({ id, error: thrown })
      }
    }
    return { backups, unreadable, unfinished }
  }

  /** Throws `not_found`, `backup_format`, or `backup_damaged`. */
  read(id: string): Backup {
    const file = this.#description(id)
    if (!/^[\w.-]+$/.test(id) || !fs.existsSync(file))
      throw new KymoError('not_found', {
        detail: `There is no backup ${id} in ${this.dir}.`,
        facts: { fix: `Those that there are:  kymo backup list ${this.dir}` },
      })
    return backupOf(fs.readFileSync(file, 'utf8'), file)
  }

  /** From here to `finish` it is unfinished, and shown as such. */
  begin(id: string): void {
    replaceText(path.join(this.dir, 'backups', `${id}.partial`), `${JSON.stringify({ format: firstFormat, id })}\n`)
  }

  /** The moment from which the backup counts: all that it is made of is on disk before. */
  finish(backup: Backup): void {
    const objects = path.join(this.dir, 'objects')
    for (const name of new Set(backup.files.map((file) => file.sha256.slice(0, 2)))) syncFolder(path.join(objects, name))
    syncFolder(objects)
    replaceText(this.#description(backup.id), backupText(backup))
    fs.rmSync(path.join(this.dir, 'backups', `${backup.id}.partial`), { force: true })
  }

  /** A new snapshot's id, written down before a server is asked for it: see `abandoned`. */
  expect(): string {
    const id = randomUUID()
    fs.mkdirSync(path.join(this.dir, `tmp-${id}`), { mode: 0o750 })
    return id
  }

  /** Snapshots from which backups were being copied that were broken off. */
  abandoned(): string[] {
    return fs.readdirSync(this.dir).flatMap((name) => /^tmp-([0-9a-f-]{36})$/.exec(name)?.[1] ?? [])
  }

  /** Removes what backups that were broken off have left. Only with the directory's lock. */
  tidy(): void {
    const { unfinished } = this.list()
    for (const id of unfinished) fs.rmSync(path.join(this.dir, 'backups', `${id}.partial`), { force: true })
    for (const name of fs.readdirSync(this.dir)) if (name.startsWith('tmp-')) fs.rmSync(path.join(this.dir, name), { recursive: true, force: true })
  }

  /** Removes a backup, and the objects that no other one has. Only with the directory's lock. Returns the bytes that were freed. */
  remove(id: string): number {
    const { backups, unreadable } = this.list()
    const gone = this.read(id)
    // What it is made of is not known, so nothing may go that might be of it.
    const other = unreadable.find((one) => one.id !== id)
    if (other !== undefined) throw other.error
    fs.rmSync(this.#description(id))
    syncFolder(path.join(this.dir, 'backups'))
    const kept = new Set(backups.filter((one) => one.id !== id).flatMap((one) => one.files.map((file) => file.sha256)))
    let bytes = 0
    for (const file of gone.files) {
      if (kept.has(file.sha256) || !fs.existsSync(this.object(file.sha256))) continue
      fs.rmSync(this.object(file.sha256))
      bytes += file.bytes
    }
    return bytes
  }

  /** What is wrong with an object; undefined: nothing. */
  async check(file: BackupFile): Promise<string | undefined> {
    const object = this.object(file.sha256)
    const size = fs.statSync(object, { throwIfNoEntry: false })?.size
    if (size === undefined) return 'is missing'
    if (size !== file.bytes) return `has ${size} bytes instead of ${file.bytes}`
    return (await sha256Of(object)) === file.sha256 ? undefined : 'has other content than it had'
  }

  #description(id: string): string {
    return path.join(this.dir, 'backups', `${id}.json`)
  }
}

/** A description as it is written down, with its own checksum. */
export function backupText(backup: Backup): string {
  return `${JSON.stringify({ ...backup, sha256: digest(backup) })}\n`
}

/** The way back; `file` is named when it throws `backup_format` or `backup_damaged`. */
export function backupOf(text: string, file: string): Backup {
  const document = parsed(text, file)
  checkFormat(document, file)
  const { sha256, ...backup } = document
  if (sha256 !== digest(backup) || !isBackup(backup)) throw damaged(file, 'its checksum does not hold')
  return backup
}

/** Is it the path of a file in a data directory, and nothing else? */
export function isInside(name: string): boolean {
  if (name.includes('\\') || name.includes('\0') || path.posix.normalize(name) !== name || path.posix.isAbsolute(name)) return false
  const [first, ...rest] = name.split('/')
  return (
    name === 'meta.sqlite' ||
    name === forecastsName ||
    ((first === 'log' || first === 'store') && rest.length > 0 && rest.every((part) => part !== '' && part !== '..'))
  )
}

function digest(backup: object): string {
  return createHash('sha256').update(JSON.stringify(backup)).digest('hex')
}

export function damaged(file: string, what: string): KymoError {
  return new KymoError('backup_damaged', { detail: `${file}: ${what}.`, facts: { file } })
}

function parsed(text: string, file: string): Readonly<Record<string, unknown>> {
  try {
    const document: unknown = JSON.parse(text)
    if (typeof document === 'object' && document !== null) return { ...document }
  } catch {
    // Told below.
  }
  throw damaged(file, 'it is no JSON object')
}

function checkFormat(document: Readonly<Record<string, unknown>>, file: string): void {
  const { format } = document
  if (typeof format !== 'number') throw damaged(file, 'it names no format')
  if (format > backupFormat)
    throw new KymoError('backup_format', {
      detail: `${file} has format ${format}; this version of Kymo knows ${backupFormat}.`,
      facts: { file, found: format, known: backupFormat },
    })
}

/** The checksum vouches for what this program wrote; paths are looked at again, since they become files. */
function isBackup(value: object): value is Backup {
  if (!('files' in value) || !Array.isArray(value.files) || !('created_us' in value) || !('from_us' in value) || !('formats' in value)) return false
  return value.files.every((file: unknown) => {
    if (typeof file !== 'object' || file === null || !('path' in file) || !('sha256' in file) || !('bytes' in file)) return false
    if (typeof file.path !== 'string' || typeof file.sha256 !== 'string' || typeof file.bytes !== 'number') return false
    return /^[0-9a-f]{64}$/.test(file.sha256) && isInside(file.path)
  })
}

function makeFolder(folder: string): void {
  if (fs.existsSync(folder)) return
  fs.mkdirSync(folder, { recursive: true, mode: 0o750 })
  syncFolder(path.dirname(folder))
}

function replaceText(file: string, text: string): void {
  const fd = fs.openSync(`${file}.tmp`, 'w', 0o640)
  try {
    fs.writeFileSync(fd, text)
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(`${file}.tmp`, file)
  syncFolder(path.dirname(file))
}
