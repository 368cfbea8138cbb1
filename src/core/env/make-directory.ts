import fs from 'node:fs'
import path from 'node:path'

/**
 * Makes a directory and those above it that are missing. Not `mkdir` with `recursive`: below /proc, where a directory is said not to exist and cannot
 * be made either, Node's tries for ever (libuv reports ENOENT for both).
 */
export function makeDirectory(dir: string): void {
  const whole = path.resolve(dir)
  if (isDirectory(whole)) return
  if (path.dirname(whole) !== whole) makeDirectory(path.dirname(whole))
  try {
    fs.mkdirSync(whole, { mode: 0o750 })
  } catch (thrown) {
    // Somebody else made it meanwhile.
    if (!isDirectory(whole)) throw thrown
  }
}

function isDirectory(dir: string): boolean {
  return fs.statSync(dir, { throwIfNoEntry: false })?.isDirectory() === true
}
