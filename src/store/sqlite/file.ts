import { backup, DatabaseSync } from 'node:sqlite'
import type { Env } from '../../core/env.ts'
import { KymoError, type Code } from '../../core/errors.ts'

/** A SQLite file of ours: what is in it, and what people call it. */
export interface SqliteKind {
  /** `metadata file`. */
  readonly noun: string
  /** Four ASCII characters: tells `file` and ourselves whose SQLite file this is. */
  readonly applicationId: number
  /** Format of the file. Grows by one with each change that an older version could not read. */
  readonly format: number
  /** What a new file is made with. */
  readonly schema: string
  /** What a file is told as that is damaged or of another program. */
  readonly corrupt: Code
}

/** Settings of the connection; makes the tables in a new file. Throws `store_format` for a newer file, `corrupt` of its kind for another's. */
export function prepareSqlite(db: DatabaseSync, kind: SqliteKind): void {
  // Before anything is set: the journal mode is kept in the file, and a file of somebody else's stays as it is.
  const known = isCurrent(db, kind)
  // FULL syncs the write-ahead log at every commit: what resolved survives power loss. NORMAL would only survive kill -9.
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216; PRAGMA cache_size = -8192')
  if (known) return
  // Another process may create the same file at this moment: look again with the write lock in hand.
  db.exec('BEGIN IMMEDIATE')
  try {
    if (!isCurrent(db, kind)) db.exec(`${kind.schema}; PRAGMA application_id = ${kind.applicationId}; PRAGMA user_version = ${kind.format}`)
    db.exec('COMMIT')
  } catch (thrown) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw thrown
  }
}

/** True: a file of this format. False: an empty one. */
function isCurrent(db: DatabaseSync, { noun, applicationId, format, corrupt }: SqliteKind): boolean {
  const found = pragma(db, 'user_version')
  const owner = pragma(db, 'application_id')
  if (owner === 0 && found === 0 && db.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get() === undefined) return false
  if (owner !== applicationId) throw new KymoError(corrupt, { detail: `The ${noun} is a SQLite file of another program.` })
  if (found === format) return true
  throw new KymoError('store_format', {
    detail: `The ${noun} has format ${found}; this version of Kymo knows format ${format}.`,
    facts: { found, known: format },
  })
}

function pragma(db: DatabaseSync, name: 'user_version' | 'application_id'): number {
  return Number(db.prepare(`PRAGMA ${name}`).get()?.[name] ?? 0)
}

// Result codes of SQLite, https://sqlite.org/rescode.html: the low byte is the primary code.
const primary = { busy: 5, locked: 6, readonly: 8, ioerr: 10, corrupt: 11, full: 13, cantopen: 14, notadb: 26 } as const
const ioerrFsync = 1034
const ioerrDirFsync = 1290

/** What SQLite reports, by kind: wait for a lock, wait for space, or stop. Anything unknown is a bug of ours. */
export function sqliteErrorOf(thrown: unknown, { noun, corrupt }: Pick<SqliteKind, 'noun' | 'corrupt'>): KymoError {
  if (thrown instanceof KymoError) return thrown
  const code = errcode(thrown)
  const detail = `The ${noun}: ${thrown instanceof Error ? thrown.message : String(thrown)}`
  const details = { detail, cause: thrown }
  if (code === ioerrFsync || code === ioerrDirFsync) return new KymoError('fsync_failed', details)
  switch (code === undefined ? undefined : code & 0xff) {
    case primary.full:
      return new KymoError('disk_full', { ...details, detail: `The disk of the ${noun} is full.` })
    case primary.busy:
    case primary.locked:
    case primary.readonly:
    case primary.ioerr:
    case primary.cantopen:
      return new KymoError('store_unavailable', details)
    case primary.corrupt:
    case primary.notadb:
      return new KymoError(corrupt, details)
    default:
      return new KymoError('bug', details)
  }
}

function errcode(thrown: unknown): number | undefined {
  if (thrown instanceof Error && 'errcode' in thrown && typeof thrown.errcode === 'number') return thrown.errcode
  return undefined
}

/**
 * Copies the file at `from` to `to` as it is at one moment, beside whoever writes it: all pages in one step, in one read transaction, on libuv's pool.
 * Rejects with `corrupt` of its kind when the copy is not sound.
 */
export async function backupSqlite(from: string, to: string, kind: Pick<SqliteKind, 'noun' | 'corrupt'>): Promise<void> {
  const opened = (file: string): DatabaseSync => {
    try {
      return new DatabaseSync(file, { readOnly: true })
    } catch (thrown) {
      throw sqliteErrorOf(thrown, kind)
    }
  }
  const source = opened(from)
  try {
    // -1 in C: all that remains. With fewer, a write between two steps would begin it anew.
    await backup(source, to, { rate: 0x7fff_ffff })
  } catch (thrown) {
    throw sqliteErrorOf(thrown, kind)
  } finally {
    source.close()
  }
  const copy = opened(to)
  try {
    const found = copy.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
    if (found !== 'ok') throw new KymoError(kind.corrupt, { detail: `The copy of ${from} is not sound: ${String(found)}`, facts: { file: from } })
  } catch (thrown) {
    throw sqliteErrorOf(thrown, kind)
  } finally {
    copy.close()
  }
}

/** Makes an empty file first: SQLite gives a new one, and the two beside it, the mode that the umask leaves. */
export function createPrivateFile(path: string, env: Env, noun: string): void {
  try {
    env.disk.open(path, 'create').close()
  } catch (thrown) {
    const exists = thrown instanceof Error && 'code' in thrown && thrown.code === 'EEXIST'
    if (!exists) throw new KymoError('store_unavailable', { detail: `The ${noun} ${path} cannot be created.`, cause: thrown })
  }
}
