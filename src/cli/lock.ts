import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { DatabaseSync } from 'node:sqlite'
import type { ConnectionOptions } from 'node:tls'
import { makeDirectory } from '../core/env/make-directory.ts'
import { KymoError } from '../core/errors.ts'
import type { ReloadResult } from './reload.ts'
import { trust } from './trust.ts'

/** `<data>/kymo.lock`: who serves this directory, for people and for a second start. */
export interface LockState {
  readonly pid: number
  readonly state: 'starting' | 'running' | 'stopping'
  /** RFC 3339. */
  readonly started: string
  readonly version: string
  readonly urls: { readonly http?: string; readonly mqtt?: string; readonly mqtts?: string }
  /** The file of the certificate at `urls.http`; absent: no TLS. */
  readonly certificate?: string
  /** What a SIGHUP does to it. */
  readonly hangup?: 'reload' | 'stop'
  /** What the latest reload of the configuration did. */
  readonly reload?: ReloadResult
}

export interface DataLock {
  /** What it says is for people: that it cannot be written any more stops nobody. */
  update(patch: Partial<Pick<LockState, 'state' | 'urls' | 'certificate' | 'hangup' | 'reload'>>): void
  release(): void
}

/** `holder` is absent while the other process has not said yet who it is. */
export type LockOutcome = { readonly taken: true; readonly lock: DataLock } | { readonly taken: false; readonly holder: LockState | undefined }

const sqliteBusy = 5

/**
 * Takes the data directory for this process, or tells who has it. What holds is a lock of the kernel on `kymo.guard` (SQLite's, since
 * Node has no other): it ends with the process however that ends, never outlives it, and is seen from other containers on the same volume,
 * where a pid says nothing.
 */
export function takeLock(dir: string, o: { readonly version: string; readonly now: Date }): LockOutcome {
  try {
    makeDirectory(dir)
    fs.accessSync(dir, fs.constants.W_OK | fs.constants.X_OK)
  } catch (cause) {
    throw new KymoError('data_dir_unusable', {
      detail: `The data directory ${dir} cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`,
      cause,
    })
  }
  const file = path.join(dir, 'kymo.lock')
  const guard = openGuard(path.join(dir, 'kymo.guard'))
  if (guard === undefined) return { taken: false, holder: readLock(file) }
  let state: LockState = { pid: process.pid, state: 'starting', started: o.now.toISOString(), version: o.version, urls: {} }
  const write = (): void => {
    fs.writeFileSync(`${file}.new`, JSON.stringify(state) + '\n', { mode: 0o640 })
    fs.renameSync(`${file}.new`, file)
  }
  write()
  return {
    taken: true,
    lock: {
      update(patch) {
        state = { ...state, ...patch }
        try {
          write()
        } catch (error) {
          process.emitWarning(`${file} could not be written: ${String(error)}`)
        }
      },
      release() {
        if (!guard.isOpen) return
        fs.rmSync(file, { force: true })
        guard.close()
      },
    },
  }
}

/** Undefined: another process has it. */
function openGuard(file: string): DatabaseSync | undefined {
  const guard = new DatabaseSync(file)
  try {
    guard.exec('BEGIN EXCLUSIVE')
    return guard
  } catch (error) {
    guard.close()
    if (error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy) return undefined
    throw error
  }
}

/** What `kymo.lock` says; undefined: nobody has written it, or it is being written. */
export function readLock(file: string): LockState | undefined {
  try {
    const parsed: unknown = JSON.parse(fs.readFileSync(file, 'utf8'))
    return typeof parsed === 'object' && parsed !== null && 'pid' in parsed && 'urls' in parsed ? (parsed as LockState) : undefined
  } catch (error) {
    if (error instanceof SyntaxError || (error instanceof Error && 'code' in error && error.code === 'ENOENT')) return undefined
    throw error
  }
}

/**
 * For commands on the server's own machine, which call it by an address that its certificate need not name: exactly the certificate whose file the
 * server has told is trusted, whatever its names. Undefined: the server speaks no TLS.
 */
export function pinned(holder: LockState | undefined): ConnectionOptions | undefined {
  if (holder?.certificate === undefined) return undefined
  try {
    const [own] = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/.exec(fs.readFileSync(holder.certificate, 'latin1')) ?? []
    return { ...trust(), ca: own ?? [], allowPartialTrustChain: true, checkServerIdentity: () => undefined }
  } catch {
    // Not readable to this user: trust what the command line says.
    return undefined
  }
}
