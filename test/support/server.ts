import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import https from 'node:https'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { aliases } from '../../src/core/config-aliases.ts'

const root = path.resolve(import.meta.dirname, '../..')

export interface StartOptions {
  /** Absent: a directory of its own, removed by `dispose`. */
  readonly data?: string
  readonly httpPort?: number
  readonly mqttPort?: number
  /** Its roles have no MQTT door. */
  readonly httpOnly?: boolean
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** How long it may take until every door accepts. */
  readonly readyWithinMs?: number
}

interface LockFile {
  readonly pid: number
  readonly state: string
  readonly urls: { readonly http?: string; readonly mqtt?: string }
}

/** What a run that has ended left behind. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly output: string
}

const foreign = /^(?:KYMO_|NODE_TEST_|NO_COLOR$|FORCE_COLOR$)/
const aliasNames: ReadonlySet<string> = new Set(aliases.map(({ variable }) => variable))

/** The seeds' variables and ours would change what is started; only what a test gives counts. */
export function cleanEnv(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !foreign.test(name) && !aliasNames.has(name))
  return { ...Object.fromEntries(own), NO_COLOR: '1', ...extra }
}

const running = new Set<RunningServer>()
process.on('exit', () => {
  for (const server of running) server.killNow()
})

/** Runs `kymo …` to its end. */
export async function runKymo(
  args: readonly string[],
  o: { readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number } = {},
): Promise<Ended> {
  const child = spawn(process.execPath, ['src/cli/bin.js', ...args], {
    cwd: root,
    env: cleanEnv(o.env),
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: o.timeoutMs ?? 60_000,
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text))
  await once(child, 'close')
  return { code: child.exitCode, signal: child.signalCode, output }
}

/** A real `kymo start` in processes of its own: supervisor and server. */
export class RunningServer {
  readonly data: string
  readonly httpPort: number
  readonly mqttPort: number
  /** From the spawn to the first 200 of /readyz. */
  readonly readyMs: number
  readonly serverPid: number
  readonly #options: StartOptions
  readonly #ownsData: boolean
  readonly #child: ChildProcess
  readonly #output: { text: string }

  private constructor(o: {
    options: StartOptions
    data: string
    ownsData: boolean
    child: ChildProcess
    output: { text: string }
    httpPort: number
    mqttPort: number
    readyMs: number
    serverPid: number
  }) {
    this.#options = o.options
    this.data = o.data
    this.#ownsData = o.ownsData
    this.#child = o.child
    this.#output = o.output
    this.httpPort = o.httpPort
    this.mqttPort = o.mqttPort
    this.readyMs = o.readyMs
    this.serverPid = o.serverPid
    running.add(this)
  }

  static async start(options: StartOptions = {}): Promise<RunningServer> {
    const data = options.data ?? mkdtempSync(path.join(os.tmpdir(), 'kymo-e2e-'))
    return RunningServer.#launch(options, data, options.data === undefined)
  }

  static async #launch(options: StartOptions, data: string, ownsData: boolean): Promise<RunningServer> {
    const begin = performance.now()
    const args = [
      'src/cli/bin.js',
      'start',
      '--data',
      data,
      '--http-port',
      String(options.httpPort ?? 0),
      '--mqtt-port',
      String(options.mqttPort ?? 0),
    ]
    const child = spawn(process.execPath, [...args, ...(options.args ?? [])], {
      cwd: root,
      env: cleanEnv(options.env),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const output = { text: '' }
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output.text += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output.text += text))
    const deadline = begin + (options.readyWithinMs ?? 30_000)
    for (;;) {
      const lock = readLockFile(data)
      const mqtt = options.httpOnly === true ? 'mqtt://127.0.0.1:0' : lock?.urls.mqtt
      if (lock?.urls.http !== undefined && mqtt !== undefined && parentOf(lock.pid) === child.pid && (await isReady(lock.urls.http))) {
        const httpPort = Number(new URL(lock.urls.http).port)
        const mqttPort = Number(new URL(mqtt).port)
        return new RunningServer({
          options,
          data,
          ownsData,
          child,
          output,
          httpPort,
          mqttPort,
          readyMs: performance.now() - begin,
          serverPid: lock.pid,
        })
      }
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`kymo start ended with ${child.exitCode ?? child.signalCode} before it was ready:\n${output.text}`)
      }
      if (performance.now() > deadline) {
        const children = childrenOf(child.pid!)
        child.kill('SIGKILL')
        for (const pid of children) killPid(pid)
        throw new Error(`kymo start was not ready in time:\n${output.text}`)
      }
      await delay(20)
    }
  }

  get http(): string {
    return `http://127.0.0.1:${this.httpPort}`
  }

  /** Standard output and standard error so far, in the order of arrival. */
  get output(): string {
    return this.#output.text
  }

  /** The process that was started: the supervisor. */
  get pid(): number {
    return this.#child.pid!
  }

  /** The server process of this moment: a restart by the supervisor changes it. */
  currentServerPid(): number | undefined {
    return childrenOf(this.pid)[0]
  }

  async #ended(): Promise<Ended> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'close')
    running.delete(this)
    return { code: this.#child.exitCode, signal: this.#child.signalCode, output: this.output }
  }

  /** SIGTERM, and waits for the end. */
  async stop(): Promise<Ended> {
    this.#child.kill('SIGTERM')
    return this.#ended()
  }

  /** SIGKILL to both processes without a word; resolves when neither is left. */
  async kill(): Promise<void> {
    const pids = this.killNow()
    await this.#ended()
    // Killed, but not gone until its last thread is and somebody has asked how it ended.
    for (let waited = 0; pids.some((pid) => parentOf(pid) !== undefined) && waited < 3_000; waited += 5) await delay(5)
  }

  /** Gives the processes that were there. */
  killNow(): readonly number[] {
    const children = childrenOf(this.pid)
    // The supervisor first, so that it starts nothing anew.
    this.#child.kill('SIGKILL')
    for (const pid of children) killPid(pid)
    return children
  }

  /** The same data, ports and arguments, after `stop` or `kill`. */
  async restart(changes: Partial<StartOptions> = {}): Promise<RunningServer> {
    const options = { ...this.#options, httpPort: this.httpPort, mqttPort: this.mqttPort, ...changes }
    return RunningServer.#launch(options, this.data, this.#ownsData)
  }

  /** Ends it if it runs, and removes a directory of its own. */
  async dispose(): Promise<void> {
    if (running.has(this)) await this.kill()
    if (this.#ownsData) rmSync(this.data, { recursive: true, force: true })
  }
}

function readLockFile(data: string): LockFile | undefined {
  try {
    return JSON.parse(readFileSync(path.join(data, 'kymo.lock'), 'utf8')) as LockFile
  } catch (error) {
    if (error instanceof SyntaxError || (error instanceof Error && 'code' in error && error.code === 'ENOENT')) return undefined
    throw error
  }
}

async function isReady(url: string): Promise<boolean> {
  try {
    if (url.startsWith('https:')) return await isReadySecurely(url)
    const answer = await fetch(new URL('/readyz', url), { signal: AbortSignal.timeout(2_000) })
    await answer.arrayBuffer()
    return answer.status === 200
  } catch {
    // Nothing listens yet: that is the answer.
    return false
  }
}

/** Whoever answers there: its certificate is for the test itself to judge. */
function isReadySecurely(url: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const request = https.get(new URL('/readyz', url), { rejectUnauthorized: false, timeout: 2_000, agent: false }, (answer) => {
      answer.resume()
      answer.on('end', () => resolve(answer.statusCode === 200))
    })
    request.on('timeout', () => request.destroy()).on('error', reject)
  })
}

function killPid(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** Not every kernel lists a process's children; all tell the parent. */
function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && parentOf(Number(name)) === pid)
    .map(Number)
}

function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    // It has ended: a lock may outlive the process that wrote it.
    return undefined
  }
}

/** A zombie is gone: its parent has only not asked yet. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3)
    return state !== 'Z' && state !== 'X'
  } catch {
    // No such process.
    return false
  }
}
