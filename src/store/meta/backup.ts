import { backupSqlite } from '../sqlite/file.ts'
import { metaFile } from './schema.ts'

/** Copies the metadata file at `from` to `to` as it is at one moment, beside whoever writes it. Rejects with `meta_corrupt` when it is not sound. */
export function backupMeta(from: string, to: string): Promise<void> {
  return backupSqlite(from, to, metaFile)
}
