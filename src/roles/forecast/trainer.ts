import { fork, type ChildProcess } from 'node:child_process'
import path from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import type { Env, Timer } from '../../core/env.ts'
import { fromPlainError, KymoError, type PlainError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { Task, TaskResult } from './training-task.ts'

export interface Asked {
  readonly id: number
  readonly task: Task
}

export type Told =
  | { readonly type: 'progress'; readonly id: number; readonly share: number }
  | { readonly type: 'done'; readonly id: number; readonly result: TaskResult }
  | { readonly type: 'failed'; readonly id: number; readonly error: PlainError }

/** Both ends are of one build: that it is a message of ours is all that has to be known. */
export function isAsked(message: unknown): message is Asked {
  return typeof message === 'object' && message !== null && 'id' in message && 'task' in message
}

function isTold(message: unknown): message is Told {
  return typeof message === 'object' && message !== null && 'id' in message && 'type' in message
}

export interface Trainer {
  /** One after the other. Rejects with what the child says, with `bug` when it ended without a word, and with the signal's reason. */
  run(task: Task, o: { readonly signal: AbortSignal; readonly onProgress: (share: number) => void }): Promise<TaskResult>
  /** Of the child that runs now; undefined: there is none. */
  readonly pid: number | undefined
  stop(): void
}

/** The next series of a job is there before. */
const idleMs = 10_000

interface Waiting {
  readonly id: number
  readonly onProgress: (share: number) => void
  readonly resolve: (result: TaskResult) => void
  readonly reject: (error: Error) => void
}

/** Trains in a child process that is started for the first task, and ended when there is none for a while. */
export function openTrainer(env: Pick<Env, 'clock'>, heapMb: number = limits.trainerHeapMbMax): Trainer {
  let child: ChildProcess | undefined
  let current: Waiting | undefined
  let idle: Timer | undefined
  let last: Promise<unknown> = Promise.resolve()
  let ids = 0

  const ended = (one: ChildProcess, code: number | null, signal: NodeJS.Signals | null, complaint: string): void => {
    if (child === one) child = undefined
    const waits = current
    if (waits === undefined) return
    current = undefined
    const memory = /heap out of memory|allocation failed/i.test(complaint)
      ? `It needed more than ${heapMb} MB of memory. Train on less: forecast.history.`
      : ''
    waits.reject(new KymoError('bug', { detail: `The process that trains ended with ${signal ?? `exit code ${code}`}. ${memory}`.trim() }))
  }

  const start = (): ChildProcess => {
    const program = fileURLToPath(new URL(`./child${path.extname(import.meta.url)}`, import.meta.url))
    const one = fork(program, [], {
      execArgv: [`--max-old-space-size=${heapMb}`],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { PATH: process.env['PATH'] },
    })
    let complaint = ''
    one.stderr?.setEncoding('utf8').on('data', (text: string) => (complaint = (complaint + text).slice(-4_000)))
    one.on('message', (message: unknown) => {
      const waits = current
      if (!isTold(message) || waits === undefined || message.id !== waits.id) return
      if (message.type === 'progress') {
        waits.onProgress(message.share)
        return
      }
      current = undefined
      if (message.type === 'done') waits.resolve(message.result)
      else waits.reject(fromPlainError(message.error))
    })
    // What it was told may not have reached it: its end says so.
    one.on('error', () => undefined)
    one.on('close', (code, signal) => ended(one, code, signal, complaint))
    // A child without a task keeps no server alive.
    one.unref()
    one.channel?.unref()
    return one
  }

  const runNow = async (task: Task, o: Parameters<Trainer['run']>[1]): Promise<TaskResult> => {
    o.signal.throwIfAborted()
    idle?.cancel()
    child ??= start()
    const one = child
    const id = ++ids
    const kill = (): void => {
      one.kill('SIGKILL')
      if (child === one) child = undefined
      const waits = current
      current = undefined
      waits?.reject(o.signal.reason instanceof Error ? o.signal.reason : new Error('given up'))
    }
    o.signal.addEventListener('abort', kill, { once: true })
    try {
      return await new Promise<TaskResult>((resolve, reject) => {
        current = { id, onProgress: o.onProgress, resolve, reject }
        const asked: Asked = { id, task }
        one.send(asked, (error) => {
          if (error !== null && current?.id === id && child !== one) ended(one, one.exitCode, one.signalCode, '')
        })
      })
    } finally {
      o.signal.removeEventListener('abort', kill)
      idle = env.clock.after(idleMs, () => {
        child?.disconnect()
        child = undefined
      })
    }
  }

  return {
    run(task, o) {
      const turn = last.then(() => runNow(task, o))
      last = turn.catch(() => undefined)
      return turn
    },
    get pid() {
      return child?.pid
    },
    stop() {
      idle?.cancel()
      child?.kill('SIGKILL')
    },
  }
}
