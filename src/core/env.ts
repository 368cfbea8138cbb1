/** What touches the world. Operators see none of it; log, doors and roles get it handed in, so that tests can simulate it. */
export interface Env {
  readonly clock: Clock
  readonly random: Random
  readonly disk: Disk
  readonly logger: Logger
}

export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Wall time, epoch microseconds UTC, an integer. May jump. */
  nowUs(): number
  /** Never goes back. */
  monotonicMs(): number
  /** Calls `fn` once after `ms`. */
  after(ms: number, fn: () => void): Timer
}

export interface Random {
  /** Uniform in [0, 1). */
  next(): number
  uuid(): string
}

export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  child(fields: LogFields): Logger
}
export type LogFields = Readonly<Record<string, string | number | boolean | bigint | null | undefined>>

/**
 * Files, synchronously: the log does its disk work in a thread of its own, where a blocking call is the cheapest and the
 * most predictable. Errors are Node's (`code` ENOSPC, EIO, ENOENT, …); callers tell a full disk from a failing one by it.
 */
export interface Disk {
  open(path: string, mode: 'read' | 'write' | 'create'): DiskFile
  exists(path: string): boolean
  /** Recursive. */
  mkdir(path: string): void
  /** Names (not paths), sorted; directories without a trailing slash. */
  list(dir: string): string[]
  size(path: string): number
  rename(from: string, to: string): void
  unlink(path: string): void
  /** Makes creations, renames and removals in `dir` durable. */
  syncDir(dir: string): void
  /** Bytes that an unprivileged writer can still use on the file system of `dir`. */
  freeBytes(dir: string): number
}

export interface DiskFile {
  /** Writes all of `bytes` at `position`, or throws; after a throw any prefix may have been written. */
  write(bytes: Uint8Array, position: number): void
  /** Reads up to bytes.length at `position`; returns how many bytes were read (0 at the end). */
  read(bytes: Uint8Array, position: number): number
  /** fdatasync: resolves data and size. A throw means that nothing may be assumed durable: stop. */
  sync(): void
  truncate(length: number): void
  size(): number
  close(): void
}
