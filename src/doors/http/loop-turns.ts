import { performance } from 'node:perf_hooks'
import type { Metrics } from '../../core/metrics.ts'

/** Half-second stalls and longer ones are told apart by the maximum; below, a bucket for each factor of about two. */
const stallBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1]
const windowMs = 60_000

const help = 'The longest time that one turn of the main thread held its event loop: since the server was ready, and in the last one to two minutes.'

/**
 * Measures how long each turn of this thread's event loop holds it, in seconds: everything that runs between two waits, timers,
 * sockets and microtasks together, as nothing else gets its turn meanwhile. Exact, not sampled: an immediate that does not keep
 * the loop awake (`unref`) runs once a turn, and the time that the loop itself spent waiting (libuv's idle time) is taken off. It
 * wakes nothing, and costs 0.2 us a turn. Time that the kernel gives to other processes counts as a stall once the turn has begun.
 * Returns what stops the measuring.
 */
export function measureTurns(metrics: Metrics): () => void {
  const turns = metrics.histogram('kymo_event_loop_stall_seconds', 'How long each turn of the main thread held its event loop.', {}, stallBuckets)
  const sinceStart = metrics.gauge('kymo_event_loop_stall_max_seconds', help, { window: 'start' })
  let windowEndMs = performance.now() + windowMs
  let previous = 0
  let current = 0
  const slide = (nowMs: number): void => {
    previous = nowMs < windowEndMs + windowMs ? current : 0
    current = 0
    windowEndMs = nowMs + windowMs
  }
  const lately = metrics.gauge('kymo_event_loop_stall_max_seconds', help, { window: 'minute' }, () => {
    const now = performance.now()
    if (now >= windowEndMs) slide(now)
    lately.value = Math.max(previous, current)
  })

  let lastMs = performance.now()
  let idleMs = performance.nodeTiming.idleTime
  const turn = (): void => {
    const nowMs = performance.now()
    const idle = performance.nodeTiming.idleTime
    const seconds = Math.max(0, nowMs - lastMs - (idle - idleMs)) / 1e3
    lastMs = nowMs
    idleMs = idle
    turns.observe(seconds)
    if (nowMs >= windowEndMs) slide(nowMs)
    if (seconds > current) current = seconds
    if (seconds > sinceStart.value) sinceStart.value = seconds
    next = setImmediate(turn).unref()
  }
  let next = setImmediate(turn).unref()
  return () => clearImmediate(next)
}
