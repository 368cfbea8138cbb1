import type { Disk } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'

const claimed = new WeakMap<Disk, Set<string>>()

/** One process opens a log once: two writers would overwrite each other. Returns the release; throws `already_open`. */
export function claimDir(disk: Disk, dir: string): () => void {
  let dirs = claimed.get(disk)
  if (dirs === undefined) claimed.set(disk, (dirs = new Set()))
  if (dirs.has(dir)) throw new KymoError('already_open', { detail: `The log in ${dir} is open in this process already.`, facts: { dir } })
  const taken = dirs
  taken.add(dir)
  return () => void taken.delete(dir)
}
