import { count, milliseconds } from '../format.ts'
import type { Terminal } from '../terminal.ts'
import type { Judged, Measure } from './assertion.ts'
import { shown } from './assertion.ts'
import type { LatencyHistogram } from './histogram.ts'
import type { LedgerResult } from './ledger.ts'
import type { RunResult } from './run.ts'

export interface LoadReport {
  readonly target: string
  readonly ledger: LedgerResult
  readonly latency: LatencyHistogram
  readonly run: RunResult
  readonly serverCpuSeconds: number | undefined
  readonly problems: ReadonlyMap<string, number>
  readonly judged: readonly Judged[]
}

/** A side that used this much of a core had little left: Node runs its work in one thread, mostly. */
const busyShare = 0.85
/** A schedule that slipped by more was not kept. */
const behindNotableMs = 100

export function measuresOf(ledger: LedgerResult, latency: LatencyHistogram, run: RunResult): Record<Measure, number> {
  return {
    lost: ledger.lost,
    doubled: ledger.doubled,
    wrong: ledger.wrong,
    errors: ledger.errors,
    sent: ledger.sent,
    acked: ledger.acked,
    stored: ledger.stored,
    rate: run.seconds > 0 ? ledger.sent / run.seconds : 0,
    p50: latency.quantileMs(0.5),
    p95: latency.quantileMs(0.95),
    p99: latency.quantileMs(0.99),
    max: latency.maxMs,
  }
}

export function printReport(terminal: Terminal, report: LoadReport): void {
  const { ledger, latency, run } = report
  const { colors } = terminal
  const m = measuresOf(ledger, latency, run)
  for (const one of report.judged) {
    terminal.out(`    ${one.holds ? colors.green('✓') : colors.red('✗')} ${one.assertion.text.padEnd(16)} ${shown(one)}`)
  }
  terminal.out(
    `    sent ${count(m.sent)} (${count(m.rate)}/s)  acked ${count(m.acked)}  stored ${count(m.stored)} (read back)  errors ${count(m.errors)}`,
  )
  const odd = [
    [m.lost, 'acknowledged but not found'],
    [m.doubled, 'stored more than once'],
    [m.wrong, 'stored with another value'],
    [ledger.unconfirmed, 'stored without an acknowledgement'],
    [ledger.foreign, 'rows that the run does not explain'],
  ] as const
  for (const [n, what] of odd) if (n > 0) terminal.out(`    ${count(n)} ${what}`)
  if (latency.count > 0)
    terminal.out(`    ack latency   p50=${milliseconds(m.p50)} p95=${milliseconds(m.p95)} p99=${milliseconds(m.p99)} max=${milliseconds(m.max)}`)
  terminal.out(
    `    client CPU ${percent(run.clientCpuSeconds, run.seconds)}  ` +
      `server CPU ${percent(report.serverCpuSeconds, run.seconds)}        (${limitOf(report)})`,
  )
  if (run.behindMs > behindNotableMs)
    terminal.out(`    the schedule slipped by up to ${milliseconds(run.behindMs)}; latencies count from when a message was due`)
  for (const [problem, n] of report.problems) terminal.out(`    ${count(n)} times: ${problem}`)
}

export function jsonReport(report: LoadReport): string {
  const { ledger, latency, run } = report
  const m = measuresOf(ledger, latency, run)
  return JSON.stringify({
    target: report.target,
    seconds: run.seconds,
    ...ledger,
    rate: m.rate,
    ack_latency_ms: latency.count === 0 ? null : { p50: m.p50, p95: m.p95, p99: m.p99, max: m.max },
    behind_ms: run.behindMs,
    client_cpu_seconds: run.clientCpuSeconds,
    server_cpu_seconds: report.serverCpuSeconds ?? null,
    problems: Object.fromEntries(report.problems),
    assertions: report.judged.map(({ assertion, value, holds }) => ({ text: assertion.text, value: Number.isNaN(value) ? null : value, holds })),
  })
}

function percent(cpuSeconds: number | undefined, seconds: number): string {
  return cpuSeconds === undefined || seconds <= 0 ? 'unknown' : `${Math.round((cpuSeconds / seconds) * 100)} %`
}

function limitOf(report: LoadReport): string {
  const client = report.run.clientCpuSeconds / report.run.seconds
  const server = (report.serverCpuSeconds ?? 0) / report.run.seconds
  if (client >= busyShare && client >= server) return 'the client was the limit: more than one kymo load would send more'
  if (server >= busyShare) return 'the server was the limit'
  return 'neither side was the limit'
}
