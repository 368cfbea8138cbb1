import type { DatabaseSync } from 'node:sqlite'
import type { KymoError } from '../../core/errors.ts'
import { prepareSqlite, sqliteErrorOf, type SqliteKind } from '../sqlite/file.ts'

/** Format of the file (docs/format/meta.md). */
export const formatVersion = 1

export const metaFile: SqliteKind = {
  noun: 'metadata file',
  // 'KYMO'
  applicationId: 0x4b594d4f,
  format: formatVersion,
  corrupt: 'meta_corrupt',
  schema: `
  CREATE TABLE document (
    collection TEXT NOT NULL,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (collection, tenant, id)
  ) STRICT, WITHOUT ROWID;
`,
}

/** Settings of the connection; makes the table in a new file. Throws `store_format` for a newer file, `meta_corrupt` for another's. */
export function prepareSchema(db: DatabaseSync): void {
  prepareSqlite(db, metaFile)
}

/** What SQLite reports, by kind: wait for a lock, wait for space, or stop. Anything unknown is a bug of ours. */
export function sqliteError(thrown: unknown): KymoError {
  return sqliteErrorOf(thrown, metaFile)
}
