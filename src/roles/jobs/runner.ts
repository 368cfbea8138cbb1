import { spawn } from 'node:child_process'
import { once } from 'node:events'
import os from 'node:os'
import process from 'node:process'
import { createInterface } from 'node:readline'
import type { Code } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'

export interface RunEnd {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** The last event that it told; `done` when the work is complete. */
  readonly last: Readonly<Record<string, unknown>> | undefined
  readonly error: { readonly code: string; readonly detail: string } | undefined
}

export interface Running {
  readonly ended: Promise<RunEnd>
  /** Asks it to save where it is and end; kills it when it does not. */
  stop(): void
  kill(): void
}

/** A job whose work a role of this process does, in place of a command line. */
export interface InnerJob {
  readonly id: string
  readonly tenant: string
  readonly parameters: Readonly<Record<string, unknown>>
  /** Its folder, made: what is written there is there after a restart, and until the job is forgotten. */
  readonly dir: string
}

/** Told of progress; beside `event`, what is in it becomes the job's progress. */
export type OnEvent = (event: Readonly<Record<string, unknown>>) => void

/** Begins such a job; as `runCommand`, it tells of its progress, and ends with `done`. */
export type InnerRunner = (job: InnerJob, onEvent: OnEvent) => Running

/** Below what a server does for its devices: nice(2). */
const niceness = 10

/**
 * Runs one command line of this program in a process of its own: parsing and formatting cost the server's main thread nothing, memory is
 * capped, and a crash is the job's alone. The channel to it tells it when this process has died.
 */
export function runCommand(o: {
  readonly script: string
  readonly args: readonly string[]
  readonly token: string
  readonly onEvent: OnEvent
}): Running {
  const child = spawn(process.execPath, [`--max-old-space-size=${limits.jobHeapMbMax}`, o.script, ...o.args], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: { PATH: process.env['PATH'], KYMO_TOKEN: o.token, NO_COLOR: '1' },
  })
  let last: Readonly<Record<string, unknown>> | undefined
  let error: RunEnd['error']
  const hear = (line: string): void => {
    const event = objectOf(line)
    if (event === undefined) return
    if ('event' in event) {
      last = event
      o.onEvent(event)
    } else error = errorOf(event['error']) ?? error
  }
  for (const input of [child.stdout, child.stderr]) if (input !== null) createInterface({ input }).on('line', hear)
  const { pid } = child
  if (pid !== undefined) {
    try {
      os.setPriority(pid, niceness)
    } catch {
      // It has ended already, which `ended` tells.
    }
  }
  let timer: NodeJS.Timeout | undefined
  const ended = (async (): Promise<RunEnd> => {
    try {
      await once(child, 'close')
    } catch (thrown) {
      error = { code: 'bug', detail: thrown instanceof Error ? thrown.message : String(thrown) }
    }
    clearTimeout(timer)
    return { code: child.exitCode, signal: child.signalCode, last, error }
  })()
  return {
    ended,
    stop() {
      child.kill('SIGTERM')
      timer ??= setTimeout(() => child.kill('SIGKILL'), limits.jobStopTimeoutMs)
    },
    kill: () => void child.kill('SIGKILL'),
  }
}

/** What cannot be begun. */
export function failedAtOnce(code: Code, detail: string): Running {
  return {
    ended: Promise.resolve({ code: null, signal: null, last: undefined, error: { code, detail } }),
    stop: () => undefined,
    kill: () => undefined,
  }
}

function objectOf(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const parsed: unknown = JSON.parse(line)
    return typeof parsed === 'object' && parsed !== null ? { ...parsed } : undefined
  } catch {
    // What is no JSON is a warning of the runtime.
    return undefined
  }
}

function errorOf(value: unknown): RunEnd['error'] {
  if (typeof value !== 'object' || value === null || !('code' in value) || !('detail' in value)) return undefined
  // Parameters of the API are named as the flags, with underscores.
  const detail = String(value.detail).replaceAll(/--([a-z]+(?:-[a-z]+)*)/g, (_, name: string) => name.replaceAll('-', '_'))
  return { code: String(value.code), detail }
}
