import { dirname } from 'node:path'
import type { Env } from '../../core/env.ts'
import { createPrivateFile } from '../sqlite/file.ts'
import { BatchedMeta, type SharedMetaStore } from './batched.ts'
import { inThreadEngine, ThreadEngine } from './engine.ts'
import type { DocumentsEngine } from './engine.ts'

/**
 * Opens or creates the metadata file (docs/format/meta.md). `thread`: in a worker thread, so that no disk wait reaches the caller's
 * event loop. Another process may have the file open too (`kymo tokens create` beside a running server).
 * Rejects with store_format (newer file), meta_corrupt, or store_unavailable (it cannot be opened).
 */
export async function openSqliteMeta(o: { readonly path: string; readonly env: Env; readonly thread: boolean }): Promise<SharedMetaStore> {
  const { path, env } = o
  const created = path !== ':memory:' && !env.disk.exists(path)
  if (created) {
    env.disk.mkdir(dirname(path))
    // Made by us first: SQLite gives a new file, and the two beside it, the mode that the umask leaves, and tokens live here.
    createPrivateFile(path, env, 'metadata file')
  }
  const engine: DocumentsEngine = o.thread ? await ThreadEngine.open(path, env.logger) : inThreadEngine(path)
  if (created) env.disk.syncDir(dirname(path))
  return new BatchedMeta(engine, env)
}
