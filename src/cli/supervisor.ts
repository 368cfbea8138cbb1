import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import process from 'node:process'
import { Exit } from './exit.ts'

/** Child to parent: every door accepts. The ports are kept, so that a restarted server answers where it did before. */
export interface ReadyMessage {
  readonly kind: 'ready'
  readonly httpPort: number
  /** Absent: not open without TLS. */
  readonly mqttPort?: number
  readonly mqttsPort?: number
}
/** Parent to child: drain and end. */
export interface StopMessage {
  readonly kind: 'stop'
}
/** Parent to child: read the configuration anew. */
interface ReloadMessage {
  readonly kind: 'reload'
}

export interface Crash {
  /** How it ended: `SIGABRT`, `exit code 70`. */
  readonly how: string
  /** How many crashes lie within the window, this one included. */
  readonly recent: number
  /** Undefined: not started again. */
  readonly restartInMs: number | undefined
}

export interface SuperviseOptions {
  /** Arguments of `process.execPath`: flags, script, its arguments. Asked before every start. */
  readonly args: (restarts: number, ready: ReadyMessage | undefined) => readonly string[]
  readonly env: NodeJS.ProcessEnv
  readonly onCrash: (crash: Crash) => void
  /** First and longest wait before a restart. */
  readonly backoffMs?: { readonly first: number; readonly max: number }
  /** So many crashes within the window end it. */
  readonly crashesMax?: number
  readonly windowMs?: number
  /** npm passes a Ctrl-C on to a child that the terminal has told already: a second signal this soon is the same one. */
  readonly sameSignalMs?: number
  /** SIGHUP is passed on as a wish to reload; otherwise it ends the server, as the terminal is gone. */
  readonly reloadOnHangup?: boolean
}

/** Exit codes of a shell or container runtime for a process that died by SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGSEGV. */
const crashCodes: ReadonlySet<number> = new Set([Exit.bug, 132, 133, 134, 135, 136, 137, 139])
const askedToEnd: ReadonlySet<NodeJS.Signals> = new Set<NodeJS.Signals>(['SIGTERM', 'SIGINT', 'SIGHUP'])
const signalNumbers: Partial<Record<NodeJS.Signals, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGTERM: 15,
}

/**
 * Runs a server process and starts it again after a native abort, a kill or a bug; never after a clean end, nor after an
 * error of usage, configuration, port or storage, which would only come again. Gives the exit code. The child is told to stop
 * over IPC, and sees the channel close when this process dies.
 */
export function supervise(options: SuperviseOptions): Promise<number> {
  const backoff = options.backoffMs ?? { first: 200, max: 5_000 }
  const crashesMax = options.crashesMax ?? 5
  const windowMs = options.windowMs ?? 60_000
  const crashes: number[] = []
  let restarts = 0
  let ready: ReadyMessage | undefined
  let child: ChildProcess | undefined
  let timer: NodeJS.Timeout | undefined
  let stoppingSinceMs: number | undefined

  return new Promise((resolve) => {
    const finish = (code: number): void => {
      for (const signal of askedToEnd) process.removeListener(signal, onSignal)
      clearTimeout(timer)
      resolve(code)
    }
    const onSignal = (signal: NodeJS.Signals): void => {
      if (signal === 'SIGHUP' && options.reloadOnHangup === true) {
        // A child that is just ending reads the configuration when it comes back.
        if (child?.connected === true) child.send({ kind: 'reload' } satisfies ReloadMessage, () => undefined)
        return
      }
      const now = performance.now()
      if (stoppingSinceMs === undefined) {
        stoppingSinceMs = now
        if (child === undefined) finish(Exit.ok)
        else tellToStop(child)
      } else if (now - stoppingSinceMs > (options.sameSignalMs ?? 500)) {
        child?.kill('SIGKILL')
        finish(128 + (signalNumbers[signal] ?? 15))
      }
    }
    const onExit = (code: number | null, signal: NodeJS.Signals | null): void => {
      child = undefined
      const crashed = signal === null ? crashCodes.has(code ?? 0) : !askedToEnd.has(signal)
      if (!crashed || stoppingSinceMs !== undefined) {
        finish(signal === null ? (code ?? 0) : 128 + (signalNumbers[signal] ?? 0))
        return
      }
      const now = performance.now()
      crashes.push(now)
      while (crashes.length > 0 && now - (crashes[0] ?? now) > windowMs) crashes.shift()
      const giveUp = crashes.length >= crashesMax
      const restartInMs = giveUp ? undefined : Math.min(backoff.max, backoff.first * 2 ** (crashes.length - 1))
      options.onCrash({ how: signal ?? `exit code ${code}`, recent: crashes.length, restartInMs })
      if (restartInMs === undefined) finish(Exit.bug)
      else {
        timer = setTimeout(start, restartInMs)
        restarts++
      }
    }
    const start = (): void => {
      const started = spawn(process.execPath, options.args(restarts, ready), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: options.env })
      child = started
      let ended = false
      const once = (code: number | null, signal: NodeJS.Signals | null): void => {
        if (!ended) onExit(code, signal)
        ended = true
      }
      started.on('exit', once)
      // The process could not be made at all (out of processes or memory): counts as a crash.
      started.on('error', () => {
        if (started.pid === undefined) once(Exit.bug, null)
      })
      started.on('message', (message) => {
        if (isReady(message)) ready = message
      })
    }
    for (const signal of askedToEnd) process.on(signal, onSignal)
    start()
  })
}

function tellToStop(child: ChildProcess): void {
  const message: StopMessage = { kind: 'stop' }
  if (!child.connected) {
    child.kill('SIGTERM')
    return
  }
  child.send(message, (error) => {
    if (error !== null) child.kill('SIGTERM')
  })
}

function isReady(message: unknown): message is ReadyMessage {
  return typeof message === 'object' && message !== null && 'kind' in message && message.kind === 'ready'
}

export function isStop(message: unknown): message is StopMessage {
  return typeof message === 'object' && message !== null && 'kind' in message && message.kind === 'stop'
}

export function isReload(message: unknown): message is ReloadMessage {
  return typeof message === 'object' && message !== null && 'kind' in message && message.kind === 'reload'
}
