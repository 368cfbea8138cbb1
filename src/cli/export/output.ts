import fs from 'node:fs'
import path from 'node:path'
import type { Writable } from 'node:stream'
import { finished, pipeline } from 'node:stream/promises'
import { createGzip, createZstdCompress } from 'node:zlib'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { syncDir } from '../import/state.ts'
import type { Terminal } from '../terminal.ts'

/** Where text goes. A file is there under its name only when it is whole. */
export interface TextOutput {
  /** A promise only when the reader or the disk does not keep up. */
  write(text: string): Promise<void> | undefined
  end(): Promise<void>
  /** Removes what was written. */
  abandon(): void
}

export function partOf(file: string): string {
  return `${file}.part`
}

export function unwritable(file: string, thrown: unknown): KymoError {
  if (thrown instanceof KymoError) return thrown
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined
  if (code === 'ENOSPC' || code === 'EDQUOT') return new KymoError('disk_full', { detail: `${file}: the disk is full`, cause: thrown })
  return new KymoError('usage', { detail: `${file} cannot be written: ${asKymoError(thrown).message}`, facts: { command: 'kymo export' } })
}

/** Makes the part durable and gives it its name. */
export function publish(file: string): void {
  const fd = fs.openSync(partOf(file), 'r+')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(partOf(file), file)
  syncDir(path.dirname(path.resolve(file)))
}

const gatherChars = 64 * 1024

export function openTextOutput(file: string, terminal: Terminal): TextOutput {
  return file === '-' ? toTerminal(terminal) : toFile(file)
}

type Write = (text: string) => Promise<void> | undefined

/** Small texts together into writes of 64 Ki characters; `rest` takes what is left. */
function gathered(send: Write): { readonly write: Write; readonly rest: () => string } {
  let held = ''
  const rest = (): string => {
    const out = held
    held = ''
    return out
  }
  return {
    write(text) {
      held += text
      return held.length < gatherChars ? undefined : send(rest())
    },
    rest,
  }
}

function toTerminal(terminal: Terminal): TextOutput {
  const { write, rest } = gathered((text) => terminal.write(text))
  return {
    write,
    async end() {
      const left = rest()
      if (left !== '') await terminal.write(left)
    },
    abandon: () => undefined,
  }
}

function toFile(file: string): TextOutput {
  const part = partOf(file)
  const disk = fs.createWriteStream(part)
  const pack = file.endsWith('.gz') ? createGzip() : file.endsWith('.zst') ? createZstdCompress() : undefined
  const head: Writable = pack ?? disk
  const done = pack === undefined ? finished(disk) : pipeline(pack, disk)
  let failed: unknown
  done.catch((error: unknown) => (failed = error))
  const drained = (): Promise<void> => {
    if (failed !== undefined) return Promise.reject(unwritable(file, failed))
    return Promise.race([new Promise<void>((resolve) => head.once('drain', resolve)), done]).catch((error: unknown) => {
      throw unwritable(file, error)
    })
  }
  const { write, rest } = gathered((text) => (head.write(text) ? undefined : drained()))
  return {
    write,
    async end() {
      try {
        head.end(rest())
        await done
        publish(file)
      } catch (thrown) {
        throw unwritable(file, thrown)
      }
    },
    abandon() {
      head.destroy()
      disk.destroy()
      fs.rmSync(part, { force: true })
    },
  }
}
