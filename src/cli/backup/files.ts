import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { KymoError } from '../../core/errors.ts'

const chunkBytes = 1024 * 1024

/** Writes `source` to a new file and makes it durable; returns what it has. At most `bytesMax` bytes are taken. */
export async function writeFile(
  source: AsyncIterable<Uint8Array>,
  to: string,
  o: { readonly signal: AbortSignal; readonly onBytes?: (bytes: number) => void },
): Promise<{ readonly bytes: number; readonly sha256: string }> {
  const hash = createHash('sha256')
  const handle = await fs.promises.open(to, 'wx', 0o640)
  let bytes = 0
  try {
    for await (const chunk of source) {
      o.signal.throwIfAborted()
      hash.update(chunk)
      await handle.writeFile(chunk)
      bytes += chunk.length
      o.onBytes?.(chunk.length)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  return { bytes, sha256: hash.digest('hex') }
}

/** The first `bytes` of a file, which may be growing. */
export function readFile(file: string, bytes?: number): AsyncIterable<Uint8Array> {
  if (bytes === 0) return (async function* () {})()
  return fs.createReadStream(file, { highWaterMark: chunkBytes, ...(bytes === undefined ? {} : { end: bytes - 1 }) })
}

export async function sha256Of(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of readFile(file)) hash.update(chunk)
  return hash.digest('hex')
}

export function syncFolder(folder: string): void {
  const fd = fs.openSync(folder, 'r')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** What the file system says, as an error of ours. */
export function diskError(thrown: unknown, where: string): unknown {
  if (thrown instanceof KymoError || !(thrown instanceof Error) || !('code' in thrown)) return thrown
  if (thrown.code === 'ENOSPC' || thrown.code === 'EDQUOT')
    return new KymoError('disk_full', { detail: `${where}: there is no room left.`, cause: thrown })
  if (thrown.code === 'EACCES' || thrown.code === 'EPERM' || thrown.code === 'EROFS' || thrown.code === 'ENOTDIR')
    return new KymoError('data_dir_unusable', { detail: `${where} cannot be used: ${thrown.message}`, cause: thrown })
  return thrown
}
