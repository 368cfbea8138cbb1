/**
 * Loaded into the server's process by bench/stalls.ts (`--import`): writes a line of JSON into $STALLS_FILE for each turn of the main thread's event
 * loop that held it for 5 ms or more. Beside the time of the clock it has the thread's CPU time, which other processes of a
 * shared machine do not lengthen.
 */
import fs from 'node:fs'
import { performance } from 'node:perf_hooks'
import process from 'node:process'
import { isMainThread } from 'node:worker_threads'

export interface Turn {
  readonly atMs: number
  readonly ms: number
  readonly cpuMs: number
}

const tellMs = 5
const file = process.env['STALLS_FILE']

if (isMainThread && file !== undefined && process.argv[1]?.endsWith('server.ts') === true) {
  const out = fs.openSync(file, 'a')
  const cpuMs = (): number => {
    const { user, system } = process.threadCpuUsage()
    return (user + system) / 1e3
  }
  let lastMs = performance.now()
  let lastCpuMs = cpuMs()
  let idleMs = performance.nodeTiming.idleTime
  const turn = (): void => {
    const nowMs = performance.now()
    const cpu = cpuMs()
    const idle = performance.nodeTiming.idleTime
    const ms = nowMs - lastMs - (idle - idleMs)
    if (ms >= tellMs) fs.writeSync(out, `${JSON.stringify({ atMs: performance.timeOrigin + nowMs, ms, cpuMs: cpu - lastCpuMs } satisfies Turn)}\n`)
    lastMs = nowMs
    lastCpuMs = cpu
    idleMs = idle
    setImmediate(turn).unref()
  }
  setImmediate(turn).unref()
}
