import fs from 'node:fs'
import path from 'node:path'
import { asKymoError, KymoError } from '../../core/errors.ts'
import type { Position } from './source.ts'

export interface ImportCounts {
  readonly rows: number
  readonly messages: number
  readonly readings: number
  readonly rejected: number
}

/** How far an import has come: everything before `position` is durable on the server, or stands in the rejects. */
export interface ImportState {
  readonly kymo_import: 1
  readonly file: { readonly bytes: number; readonly sha256: string }
  /** How rows become messages, as JSON: another mapping is another import. */
  readonly mapping: string
  readonly server: string
  readonly position: Position
  readonly counts: ImportCounts
  readonly rejects_bytes: number
}

/** Writes a file so that it is there whole or not at all, and stays. */
export function writeWhole(file: string, text: string): void {
  const part = `${file}.part`
  const fd = fs.openSync(part, 'w')
  try {
    fs.writeSync(fd, text)
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(part, file)
  syncDir(path.dirname(file))
}

export function syncDir(dir: string): void {
  const fd = fs.openSync(dir, 'r')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

export function readState(file: string): ImportState | undefined {
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8')
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return undefined
    throw new KymoError('usage', { detail: `${file} cannot be read: ${asKymoError(thrown).message}`, facts: { command: 'kymo import' } })
  }
  const state = parsed(text)
  if (state === undefined) throw new KymoError('usage', { detail: `${file} is not the state of an import`, facts: { command: 'kymo import' } })
  return state
}

function parsed(text: string): ImportState | undefined {
  try {
    const state: unknown = JSON.parse(text)
    return isState(state) ? state : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

function isState(value: unknown): value is ImportState {
  return typeof value === 'object' && value !== null && 'kymo_import' in value && value.kymo_import === 1 && 'position' in value && 'counts' in value
}

export function writeState(file: string, state: ImportState): void {
  try {
    writeWhole(file, JSON.stringify(state) + '\n')
  } catch (thrown) {
    throw new KymoError('data_dir_unusable', { detail: `${file}: ${asKymoError(thrown).message}. Name another place with --state.`, cause: thrown })
  }
}

/** Rejected rows as NDJSON: line, reason, code of the server, the row. What a resume finds behind its mark is written again. */
export class Rejects {
  readonly #fd: number
  #bytes: number
  #text = ''
  #textBytes = 0

  constructor(file: string, keepBytes: number) {
    try {
      this.#fd = fs.openSync(file, keepBytes === 0 ? 'w' : 'r+')
      fs.ftruncateSync(this.#fd, keepBytes)
    } catch (thrown) {
      throw new KymoError('usage', { detail: `--rejects ${file}: ${asKymoError(thrown).message}`, facts: { command: 'kymo import' } })
    }
    this.#bytes = keepBytes
  }

  add(line: number, reason: string, code: string | undefined, record: string): void {
    const text = JSON.stringify({ line, reason, ...(code === undefined ? {} : { code }), record }) + '\n'
    this.#text += text
    this.#textBytes += Buffer.byteLength(text)
    if (this.#textBytes > 65_536) this.#write()
  }

  /** With what is not written yet. */
  get size(): number {
    return this.#bytes + this.#textBytes
  }

  /** Makes all of it durable. */
  sync(): void {
    this.#write()
    fs.fdatasyncSync(this.#fd)
  }

  close(): void {
    this.#write()
    fs.closeSync(this.#fd)
  }

  #write(): void {
    if (this.#text === '') return
    const bytes = Buffer.from(this.#text)
    this.#text = ''
    this.#textBytes = 0
    let done = 0
    while (done < bytes.length) done += fs.writeSync(this.#fd, bytes, done, bytes.length - done, this.#bytes + done)
    this.#bytes += bytes.length
  }
}
