import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import type { Clock, Disk, DiskFile, Env, LogFields, Logger, Random } from '../env.ts'
import { makeDirectory } from './make-directory.ts'

const originUs = Math.round((Date.now() - performance.now()) * 1000)
let driftUs = 0
let checkedAtMs = 0

/** Wall time in microseconds: performance.now() for resolution, followed back to Date.now() so that a stepped clock is seen. */
function nowUs(): number {
  const monotonicMs = performance.now()
  if (monotonicMs - checkedAtMs > 100) {
    checkedAtMs = monotonicMs
    const wallUs = Date.now() * 1000
    const ours = originUs + driftUs + monotonicMs * 1000
    if (Math.abs(wallUs - ours) > 2000) driftUs += wallUs - ours
  }
  return Math.round(originUs + driftUs + monotonicMs * 1000)
}

export const nodeClock: Clock = {
  nowUs,
  monotonicMs: () => performance.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, ms)
    return { cancel: () => clearTimeout(timer) }
  },
}

export const nodeRandom: Random = { next: () => Math.random(), uuid: () => randomUUID() }

class NodeDiskFile implements DiskFile {
  readonly #fd: number
  constructor(fd: number) {
    this.#fd = fd
  }
  write(bytes: Uint8Array, position: number): void {
    let done = 0
    while (done < bytes.length) done += fs.writeSync(this.#fd, bytes, done, bytes.length - done, position + done)
  }
  read(bytes: Uint8Array, position: number): number {
    let done = 0
    while (done < bytes.length) {
      const n = fs.readSync(this.#fd, bytes, done, bytes.length - done, position + done)
      if (n === 0) break
      done += n
    }
    return done
  }
  sync(): void {
    fs.fdatasyncSync(this.#fd)
  }
  truncate(length: number): void {
    fs.ftruncateSync(this.#fd, length)
  }
  size(): number {
    return fs.fstatSync(this.#fd).size
  }
  close(): void {
    fs.closeSync(this.#fd)
  }
}

export const nodeDisk: Disk = {
  open(file, mode) {
    const flags = mode === 'read' ? 'r' : mode === 'write' ? 'r+' : 'wx+'
    return new NodeDiskFile(fs.openSync(file, flags, 0o640))
  },
  exists: (file) => fs.existsSync(file),
  mkdir: makeDirectory,
  list: (dir) => fs.readdirSync(dir).sort(),
  size: (file) => fs.statSync(file).size,
  rename: (from, to) => fs.renameSync(from, to),
  unlink: (file) => fs.unlinkSync(file),
  syncDir(dir) {
    const fd = fs.openSync(dir, 'r')
    try {
      fs.fsyncSync(fd)
    } finally {
      fs.closeSync(fd)
    }
  },
  freeBytes(dir) {
    const s = fs.statfsSync(path.resolve(dir))
    return s.bavail * s.bsize
  },
}

const levels = { debug: 10, info: 20, warn: 30, error: 40 } as const
export type LogLevel = keyof typeof levels

/** One JSON object a line on stderr, or short text when a person reads it. */
export function createLogger(o: {
  /** A function: asked for each line, so that a running program can be told to say more. */
  readonly level: LogLevel | (() => LogLevel)
  readonly format: 'json' | 'text'
  readonly fields?: LogFields
  readonly write?: (line: string) => void
}): Logger {
  const write = o.write ?? ((line: string) => void process.stderr.write(line))
  const given = o.level
  const threshold = typeof given === 'function' ? () => levels[given()] : () => levels[given]
  const emit = (level: LogLevel, message: string, fields?: LogFields): void => {
    if (levels[level] < threshold()) return
    const all = { ...o.fields, ...fields }
    if (o.format === 'json') {
      write(
        JSON.stringify({ time: new Date().toISOString(), level, message, ...all }, (_, v: unknown) => (typeof v === 'bigint' ? v.toString() : v)) +
          '\n',
      )
    } else {
      const facts = Object.entries(all)
        .filter(([, v]) => v !== undefined)
        .map(([k, v]) => `${k}=${String(v)}`)
        .join(' ')
      write(`  ${new Date().toISOString().slice(11, 19)}  ${level === 'info' ? '' : level + ': '}${message}${facts === '' ? '' : '   ' + facts}\n`)
    }
  }
  return {
    debug: (m, f) => emit('debug', m, f),
    info: (m, f) => emit('info', m, f),
    warn: (m, f) => emit('warn', m, f),
    error: (m, f) => emit('error', m, f),
    child: (fields) => createLogger({ ...o, fields: { ...o.fields, ...fields } }),
  }
}

export const silentLogger: Logger = createLogger({ level: 'error', format: 'json', write: () => undefined })

export function nodeEnv(logger: Logger): Env {
  return { clock: nodeClock, random: nodeRandom, disk: nodeDisk, logger }
}
