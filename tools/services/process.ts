import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as wait } from 'node:timers/promises'

/** A process that outlives the command that started it. `born` tells it from another one that got its number later. */
export interface Started {
  readonly pid: number
  readonly born: string
}

/** Whom a program runs as that refuses to be root. */
export interface Account {
  readonly uid: number
  readonly gid: number
}

export interface Launch {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string
  /** Where its output goes. */
  readonly logFile: string
  readonly env?: NodeJS.ProcessEnv
  readonly account?: Account
}

/** When a process began, in clock ticks since the machine did (proc(5), /proc/pid/stat, field 22); undefined: it is no more. */
function birth(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? undefined : fields[19]
  } catch {
    return undefined
  }
}

export function isRunning({ pid, born }: Started): boolean {
  return birth(pid) === born
}

export async function launch({ command, args, cwd, logFile, env, account }: Launch): Promise<Started> {
  const out = fs.openSync(logFile, 'a')
  try {
    const child = spawn(command, args, { cwd, env: env ?? process.env, detached: true, stdio: ['ignore', out, out], ...account })
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject))
    child.unref()
    const { pid } = child
    const born = pid === undefined ? undefined : birth(pid)
    if (pid === undefined || born === undefined) throw new Error(`${command} ended at once; see ${logFile}`)
    return { pid, born }
  } finally {
    fs.closeSync(out)
  }
}

/** Ends a process by a signal, and by SIGKILL where it is still there after `graceMs`. */
export async function halt(started: Started, signal: NodeJS.Signals, graceMs: number): Promise<void> {
  if (!isRunning(started)) return
  process.kill(started.pid, signal)
  for (const until = Date.now() + graceMs; isRunning(started); await wait(50)) {
    if (Date.now() > until) {
      process.kill(started.pid, 'SIGKILL')
      return halt(started, 'SIGKILL', graceMs)
    }
  }
}

/** Runs a program to its end and gives its output; throws with what it said when it fails. */
export function run(
  command: string,
  args: readonly string[],
  o: { readonly cwd?: string; readonly account?: Account; readonly env?: NodeJS.ProcessEnv } = {},
): string {
  const { account, ...rest } = o
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], ...rest, ...account })
}

/** Waits until `ready` gives true; throws with the end of the log when the process ends first, or after `timeoutMs`. */
export async function untilReady(what: string, started: Started, logFile: string, timeoutMs: number, ready: () => Promise<boolean>): Promise<void> {
  const until = Date.now() + timeoutMs
  for (; !(await ready()); await wait(100)) {
    const gone = !isRunning(started)
    if (!gone && Date.now() < until) continue
    const end = fs.existsSync(logFile) ? fs.readFileSync(logFile, 'utf8').split('\n').slice(-20).join('\n') : ''
    throw new Error(`${what} ${gone ? 'has ended' : `is not ready after ${timeoutMs / 1000} s`}; the end of ${logFile}:\n${end}`)
  }
}

export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.once('connect', () => (socket.destroy(), resolve(true))).once('error', () => resolve(false))
  })
}

/** Ports of loopback that nobody has at the moment. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => net.createServer())
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.once('error', reject).listen(0, '127.0.0.1', () => {
            const address = server.address()
            if (address === null || typeof address === 'string') reject(new Error('a listening socket without a port'))
            else resolve(address.port)
          })
        }),
    ),
  )
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

/** The first of these programs that is there: a name on the PATH, or a file. */
export function program(...candidates: readonly string[]): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(path.delimiter)
  return candidates
    .flatMap((one) => (path.isAbsolute(one) ? [one] : folders.map((folder) => path.join(folder, one))))
    .find((file) => fs.existsSync(file))
}
