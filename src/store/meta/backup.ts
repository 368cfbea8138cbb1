import { backup, DatabaseSync } from 'node:sqlite'
import { KymoError } from '../../core/errors.ts'
import { sqliteError } from './schema.ts'

/**
 * Copies the metadata file at `from` to `to` as it is at one moment, beside whoever writes it: all pages in one step, in one read transaction, on
 * libuv's pool. Rejects with `meta_corrupt` when the copy is not sound.
 */
export async function backupMeta(from: string, to: string): Promise<void> {
  const source = opened(from)
  try {
    // -1 in C: all that remains. With fewer, a write between two steps would begin it anew.
    await backup(source, to, { rate: 0x7fff_ffff })
  } catch (thrown) {
    throw sqliteError(thrown)
  } finally {
    source.close()
  }
  const copy = opened(to)
  try {
    const found = copy.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
    if (found !== 'ok') throw new KymoError('meta_corrupt', { detail: `The copy of ${from} is not sound: ${String(found)}`, facts: { file: from } })
  } catch (thrown) {
    throw sqliteError(thrown)
  } finally {
    copy.close()
  }
}

function opened(file: string): DatabaseSync {
  try {
    return new DatabaseSync(file, { readOnly: true })
  } catch (thrown) {
    throw sqliteError(thrown)
  }
}
