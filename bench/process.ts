import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** Linux's clock tick of /proc: USER_HZ, 100 on every architecture that Node runs on. */
const tickUs = 10_000

/** User and system time of all threads of a process so far, those that have ended included, in µs. */
export function cpuUs(pid: number): number {
  return statCpuUs(`/proc/${pid}/stat`).us
}

/**
 * The same of a process and all that it has started, those that have ended and were waited for included: a server with a process for each
 * connection.
 */
export function treeCpuUs(pid: number): number {
  let us = 0
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const { parent, own, ended } = familyOf(Number(name))
    if (Number(name) === pid) us += own + ended
    else if (parent === pid) us += own
  }
  return us
}

/** proc(5): fields 4 (parent), 14 and 15 (own time), 16 and 17 (of children that were waited for). One that has just ended has none. */
function familyOf(pid: number): { readonly parent: number; readonly own: number; readonly ended: number } {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return { parent: 0, own: 0, ended: 0 }
  }
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
  return { parent: fields[1]!, own: (fields[11]! + fields[12]!) * tickUs, ended: (fields[13]! + fields[14]!) * tickUs }
}

function statCpuUs(file: string): { readonly name: string; readonly us: number } {
  const stat = readFileSync(file, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { name: stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')')), us: (Number(fields[11]) + Number(fields[12])) * tickUs }
}

/** CPU of each living thread so far: thread id to its name and µs. */
export function threadsCpuUs(pid: number): ReadonlyMap<number, { readonly name: string; readonly us: number }> {
  const threads = new Map<number, { name: string; us: number }>()
  for (const tid of readdirSync(`/proc/${pid}/task`)) threads.set(Number(tid), statCpuUs(`/proc/${pid}/task/${tid}/stat`))
  return threads
}

/** Where the CPU went between two looks, per unit of work: threads of one name together, the busiest first. */
export function byThread(pid: number, before: ReturnType<typeof threadsCpuUs>, per: number): string {
  const spent = new Map<string, number>()
  for (const [tid, thread] of threadsCpuUs(pid)) {
    const name = tid === pid ? 'main' : thread.name
    spent.set(name, (spent.get(name) ?? 0) + (thread.us - (before.get(tid)?.us ?? 0)) / per)
  }
  const busy = [...spent].filter(([, us]) => us >= 0.01).toSorted((a, b) => b[1] - a[1])
  return busy.map(([name, us]) => `${name} ${us.toFixed(2)}`).join(', ')
}

export interface Memory {
  readonly rssMb: number
  /** Shared pages counted by their share: what adding up processes should add up. */
  readonly pssMb: number
}

export function memory(pids: readonly number[]): Memory {
  let rss = 0
  let pss = 0
  for (const pid of pids) {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
    rss += Number(/^Rss:\s+(\d+)/m.exec(text)?.[1] ?? 0)
    pss += Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? 0)
  }
  return { rssMb: rss / 1024, pssMb: pss / 1024 }
}

/** CPU of a process over `ms` of doing whatever it does, in percent of one core. */
export async function cpuPercent(pid: number, ms: number): Promise<number> {
  const before = cpuUs(pid)
  const began = performance.now()
  await delay(ms)
  return (100 * (cpuUs(pid) - before)) / 1000 / (performance.now() - began)
}

/** How busy the whole machine is over `ms`, in percent of all its cores: before a run, this is what others do on it. */
export async function machineBusyPercent(ms: number): Promise<number> {
  const look = (): { readonly idle: number; readonly all: number } => {
    const ticks = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.trim().split(/\s+/).slice(1, 9).map(Number)
    return { idle: ticks[3]! + ticks[4]!, all: ticks.reduce((sum, part) => sum + part, 0) }
  }
  const before = look()
  await delay(ms)
  const after = look()
  return 100 * (1 - (after.idle - before.idle) / (after.all - before.all))
}

export interface Distribution {
  readonly n: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export function distribution(samples: ArrayLike<number>): Distribution {
  const sorted = Float64Array.from(samples).toSorted()
  const at = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN
  return { n: sorted.length, p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? NaN }
}
