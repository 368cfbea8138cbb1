import fs from 'node:fs'
import { constants, PerformanceObserver } from 'node:perf_hooks'
import type { PerformanceEntry } from 'node:perf_hooks'
import type { Cell, Family, HistogramCell, Metrics } from '../../core/metrics.ts'

export const metricsType = 'text/plain; version=0.0.4; charset=utf-8'

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function sampleValue(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (value === Infinity) return '+Inf'
  return value === -Infinity ? '-Inf' : String(value)
}

function labelText(names: readonly string[], values: readonly string[], extra = ''): string {
  const pairs = names.map((name, i) => `${name}="${escapeLabel(values[i] ?? '')}"`)
  if (extra !== '') pairs.push(extra)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function histogramLines(family: Family, values: readonly string[], cell: HistogramCell): string {
  let text = ''
  let count = 0
  cell.counts.forEach((n, i) => {
    count += n
    const le = i < cell.buckets.length ? String(cell.buckets[i]) : '+Inf'
    text += `${family.name}_bucket${labelText(family.labels, values, `le="${le}"`)} ${count}\n`
  })
  const labels = labelText(family.labels, values)
  return `${text}${family.name}_sum${labels} ${sampleValue(cell.sum)}\n${family.name}_count${labels} ${count}\n`
}

/** All families in the Prometheus text format 0.0.4. Derived gauges are brought up to date first. */
export function renderMetrics(metrics: Metrics): string {
  let text = ''
  // A family's collect may set others: first all of them, then the text.
  for (const family of metrics.families.values()) family.collect?.()
  for (const family of metrics.families.values()) {
    text += `# HELP ${family.name} ${family.help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n# TYPE ${family.name} ${family.type}\n`
    for (const { labels, cell } of family.cells.values()) {
      if (family.type === 'histogram') text += histogramLines(family, labels, cell as HistogramCell)
      else text += `${family.name}${labelText(family.labels, labels)} ${sampleValue((cell as Cell).value)}\n`
    }
  }
  return text
}

function openFiles(): number {
  try {
    return fs.readdirSync('/proc/self/fd').length
  } catch {
    return Number.NaN // no /proc: not Linux
  }
}

/**
 * The process as prom-client names it, without its 55 ms of loading: CPU, memory, open files, garbage collection.
 * Returns what stops the measuring.
 */
export function processMetrics(metrics: Metrics): () => void {
  const cpu = metrics.counter('process_cpu_seconds_total', 'User and system CPU time of the process in seconds.')
  const start = metrics.gauge('process_start_time_seconds', 'Start of the process, seconds since the epoch.')
  start.value = Math.round(Date.now() / 1e3 - process.uptime())
  const resident = metrics.gauge('process_resident_memory_bytes', 'Resident memory in bytes.')
  const files = metrics.gauge('process_open_fds', 'Open file descriptors.')
  const heap = metrics.gauge('nodejs_heap_size_used_bytes', 'Used heap of the main thread in bytes.')
  const heapTotal = metrics.gauge('nodejs_heap_size_total_bytes', 'Heap of the main thread in bytes, with what is free in it.')
  const external = metrics.gauge('nodejs_external_memory_bytes', 'Memory outside the heap that the main thread holds, in bytes.', {}, () => {
    const usage = process.cpuUsage()
    cpu.value = (usage.user + usage.system) / 1e6
    const memory = process.memoryUsage()
    resident.value = memory.rss
    heap.value = memory.heapUsed
    heapTotal.value = memory.heapTotal
    external.value = memory.external
    files.value = openFiles()
  })
  const kinds: Readonly<Record<number, string>> = {
    [constants.NODE_PERFORMANCE_GC_MINOR]: 'minor',
    [constants.NODE_PERFORMANCE_GC_MAJOR]: 'major',
    [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 'incremental',
    [constants.NODE_PERFORMANCE_GC_WEAKCB]: 'weakcb',
  }
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const kind = kinds[(entry as PerformanceEntry & { detail?: { kind?: number } }).detail?.kind ?? -1] ?? 'other'
      metrics.histogram('nodejs_gc_duration_seconds', 'Garbage collection pauses.', { kind }).observe(entry.duration / 1e3)
    }
  })
  observer.observe({ entryTypes: ['gc'] })
  return () => {
    observer.disconnect()
  }
}
