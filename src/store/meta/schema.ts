import type { DatabaseSync } from 'node:sqlite'
import { KymoError } from '../../core/errors.ts'

/** 'KYMO' in ASCII: tells `file` and ourselves whose SQLite file this is. */
const applicationId = 0x4b594d4f
/** Format of the file (docs/format/meta.md). Grows by one with each change that an older version could not read. */
export const formatVersion = 1

const schema = `
  CREATE TABLE document (
    collection TEXT NOT NULL,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (collection, tenant, id)
  ) STRICT, WITHOUT ROWID;
`

/** Settings of the connection; makes the table in a new file. Throws `store_format` for a newer file, `meta_corrupt` for another's. */
export function prepareSchema(db: DatabaseSync): void {
  // Before anything is set: the journal mode is kept in the file, and a file of somebody else's stays as it is.
  const known = isCurrent(db)
  // FULL syncs the write-ahead log at every commit: what resolved survives power loss. NORMAL would only survive kill -9.
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216; PRAGMA cache_size = -8192')
  if (known) return
  // Another process may create the same file at this moment: look again with the write lock in hand.
  db.exec('BEGIN IMMEDIATE')
  try {
    if (!isCurrent(db)) db.exec(`${schema}; PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${formatVersion}`)
    db.exec('COMMIT')
  } catch (thrown) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw thrown
  }
}

/** True: a file of this format. False: an empty one. */
function isCurrent(db: DatabaseSync): boolean {
  const found = pragma(db, 'user_version')
  const owner = pragma(db, 'application_id')
  if (owner === 0 && found === 0 && db.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get() === undefined) return false
  if (owner !== applicationId) throw new KymoError('meta_corrupt', { detail: 'The metadata file is a SQLite file of another program.' })
  if (found === formatVersion) return true
  throw new KymoError('store_format', {
    detail: `The metadata file has format ${found}; this version of Kymo knows format ${formatVersion}.`,
    facts: { found, known: formatVersion },
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
export function sqliteError(thrown: unknown): KymoError {
  if (thrown instanceof KymoError) return thrown
  const code = errcode(thrown)
  const detail = `The metadata file: ${thrown instanceof Error ? thrown.message : String(thrown)}`
  const details = { detail, cause: thrown }
  if (code === ioerrFsync || code === ioerrDirFsync) return new KymoError('fsync_failed', details)
  switch (code === undefined ? undefined : code & 0xff) {
    case primary.full:
      return new KymoError('disk_full', { ...details, detail: 'The disk of the metadata file is full.' })
    case primary.busy:
    case primary.locked:
    case primary.readonly:
    case primary.ioerr:
    case primary.cantopen:
      return new KymoError('store_unavailable', details)
    case primary.corrupt:
    case primary.notadb:
      return new KymoError('meta_corrupt', details)
    default:
      return new KymoError('bug', details)
  }
}

function errcode(thrown: unknown): number | undefined {
  if (thrown instanceof Error && 'errcode' in thrown && typeof thrown.errcode === 'number') return thrown.errcode
  return undefined
}
