import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** Linux's clock tick of /proc: USER_HZ, 100 on every architecture that Node runs on. */
const tickUs = 10_000

/** User and system time of all threads of a process so far, those that have ended included, in µs. */
export function cpuUs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * tickUs
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
