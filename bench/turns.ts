/**
 * Loaded into the server's process by bench/stalls.ts and bench/hostile.ts (`--import`): writes a line of JSON into $STALLS_FILE for each turn of the main
 * thread's event loop that held it for 5 ms or more, and for each pause of its garbage collector of 1 ms or more. Beside the time of the clock a turn has
 * the thread's CPU time, which other processes of a shared machine do not lengthen.
 */
import fs from 'node:fs'
import { constants, performance, PerformanceObserver } from 'node:perf_hooks'
import process from 'node:process'
import { isMainThread } from 'node:worker_threads'

export interface Turn {
  readonly atMs: number
  readonly ms: number
  readonly cpuMs: number
}

/** A pause of the garbage collector, within some turn. `full`: of the whole heap, not of its young part. */
export interface Pause {
  readonly atMs: number
  readonly gcMs: number
  readonly full: boolean
}

const tellMs = 5
const tellGcMs = 1
const file = process.env['STALLS_FILE']

if (isMainThread && file !== undefined && process.argv[1]?.endsWith('server.ts') === true) {
  const out = fs.openSync(file, 'a')
  const cpuMs = (): number => {
    const { user, system } = process.threadCpuUsage()
    return (user + system) / 1e3
  }
  const tell = (line: Turn | Pause): void => void fs.writeSync(out, `${JSON.stringify(line)}\n`)
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { startTime, duration } = entry
      const detail: unknown = 'detail' in entry ? entry.detail : undefined
      if (duration < tellGcMs) continue
      const kind: unknown = typeof detail === 'object' && detail !== null && 'kind' in detail ? detail.kind : undefined
      tell({ atMs: performance.timeOrigin + startTime, gcMs: duration, full: kind === constants.NODE_PERFORMANCE_GC_MAJOR })
    }
  }).observe({ entryTypes: ['gc'] })
  let lastMs = performance.now()
  let lastCpuMs = cpuMs()
  let idleMs = performance.nodeTiming.idleTime
  const turn = (): void => {
    const nowMs = performance.now()
    const cpu = cpuMs()
    const idle = performance.nodeTiming.idleTime
    const ms = nowMs - lastMs - (idle - idleMs)
    if (ms >= tellMs) tell({ atMs: performance.timeOrigin + nowMs, ms, cpuMs: cpu - lastCpuMs })
    lastMs = nowMs
    lastCpuMs = cpu
    idleMs = idle
    setImmediate(turn).unref()
  }
  setImmediate(turn).unref()
}

/** What was written since a moment (epoch milliseconds). */
export function told(text: string, sinceMs = 0): { readonly turns: readonly Turn[]; readonly pauses: readonly Pause[] } {
  const turns: Turn[] = []
  const pauses: Pause[] = []
  for (const line of text.split('\n')) {
    if (line === '') continue
    const one = JSON.parse(line) as Turn | Pause
    if (one.atMs < sinceMs) continue
    if ('gcMs' in one) pauses.push(one)
    else turns.push(one)
  }
  return { turns, pauses }
}
