import process from 'node:process'
import type { Command } from 'commander'
import type { SystemStatus } from '../core/services.ts'
import { Api } from './api.ts'
import { Exit } from './exit.ts'
import { ago, bytes, count, table, time } from './format.ts'
import type { CommonOptions } from './options.ts'
import { examples, serverOptions, timeZoneOption } from './options.ts'
import type { Terminal } from './terminal.ts'

interface StatusOptions extends CommonOptions {
  readonly timeZone?: string
}

/** Offsets are decimal text in JSON, times RFC 3339. */
interface Ages {
  readonly raw: string | null
  readonly minutes: string | null
  readonly hours: string | null
}

interface RetentionAnswer extends Ages, Pick<SystemStatus['retention'], 'removed_bytes' | 'due_files'> {
  readonly store_bytes_max: number | null
  readonly raw_from: string | null
  readonly rules: readonly (Ages & {
    readonly labels: Readonly<Record<string, string>> | null
    readonly metrics: readonly string[] | null
    readonly series: number | null
  })[]
}

export type StatusAnswer = Omit<SystemStatus, 'lag' | 'started_us' | 'retention'> & {
  readonly retention: RetentionAnswer
  readonly started_at: string
  readonly lag: readonly {
    readonly group: string
    readonly partition: number
    readonly committed: string
    readonly end: string
    readonly bytes: number
    readonly oldest: string | null
  }[]
}

export function declare(command: Command, terminal: Terminal): void {
  serverOptions(command)
  timeZoneOption(command)
  examples(command, [
    ['kymo status', 'a page for people; exit code 6 when the server is not ready'],
    ['kymo status --json', 'the same as one JSON document'],
  ]).action(async (options: StatusOptions) => {
    const status = await new Api(options).json<StatusAnswer>('/api/v1/status')
    if (options.json === true) terminal.out(JSON.stringify(status))
    else for (const line of statusLines(status, options, Date.now(), terminal)) terminal.out(line)
    if (!status.ready) process.exitCode = Exit.dependency
  })
}

function statusLines(status: StatusAnswer, options: StatusOptions, nowMs: number, { colors }: Terminal): string[] {
  const { log_bytes, store_bytes, quota_bytes } = status.storage
  const startedMs = Date.parse(status.started_at)
  const state = status.draining ? colors.yellow('draining') : status.ready ? colors.green('ready') : colors.red('not ready')
  const lines = [
    `  kymo ${status.version}  ${state}   pid ${status.pid}   since ${time(startedMs, options.timeZone)} (${ago(startedMs, nowMs)})`,
    `  data in ${status.data_dir}   log ${bytes(log_bytes)}   store ${bytes(store_bytes)}${quota_bytes === undefined ? '' : `   quota ${bytes(quota_bytes)}`}`,
    '',
    `  messages ${count(status.messages_total)}   readings ${count(status.readings_total)}   rejected ${count(status.rejected_total)}`,
    `  devices ${count(status.devices)}   series ${count(status.series)}   MQTT connections ${count(status.mqtt_connections)}`,
    '',
  ]
  for (const part of status.components)
    lines.push(
      `  ${part.ok ? colors.green('✓') : part.optional === true ? colors.yellow('!') : colors.red('✗')} ${part.name}${part.detail === undefined ? '' : `   ${part.detail}`}`,
    )
  if (status.lag.length > 0) {
    const rows = status.lag.map((lag) => {
      const behind = BigInt(lag.end) - BigInt(lag.committed)
      return [
        lag.group,
        String(lag.partition),
        behind.toLocaleString('en-US'),
        bytes(lag.bytes),
        lag.oldest === null ? '-' : ago(Date.parse(lag.oldest), nowMs),
      ]
    })
    const columns = [
      { title: 'consumer' },
      { title: 'partition', align: 'right' },
      { title: 'records behind', align: 'right' },
      { title: 'bytes', align: 'right' },
      { title: 'oldest' },
    ] as const
    lines.push('', ...table(columns, rows, colors.dim).map((line) => `  ${line}`))
  }
  lines.push(...retentionLines(status.retention, options, colors.dim))
  return lines
}

/** Nothing where all is kept for ever and nothing has gone. */
function retentionLines(
  { rules, raw_from, store_bytes_max, removed_bytes: removed, due_files: due, ...ages }: RetentionAnswer,
  options: StatusOptions,
  dim: (text: string) => string,
): string[] {
  const gone = Object.entries(removed).filter(([, of]) => of > 0)
  const kept = [ages.raw, ages.minutes, ages.hours]
  if (rules.length === 0 && raw_from === null && store_bytes_max === null && gone.length === 0 && kept.every((age) => age === null)) return []
  const rows = [
    // The first that matches counts, and the general ages where none does.
    ...rules.map(({ labels, metrics, raw, minutes, hours, series }) => [
      [...Object.entries(labels ?? {}).map(([name, value]) => `${name}=${value}`), ...(metrics ?? [])].join(' '),
      ...[raw, minutes, hours].map((age) => age ?? '-'),
      series === null ? '-' : count(series),
    ]),
    [rules.length === 0 ? 'everything' : 'the rest', ...kept.map((age) => age ?? 'for ever'), ''],
  ]
  const columns = [{ title: 'kept' }, { title: 'readings' }, { title: 'minutes' }, { title: 'hours' }, { title: 'series', align: 'right' }] as const
  const facts = [
    ...(store_bytes_max === null ? [] : [`at most ${bytes(store_bytes_max)} of sealed files`]),
    ...(raw_from === null ? [] : [`readings before ${time(Date.parse(raw_from), options.timeZone)} have gone`]),
    ...(gone.length === 0 ? [] : [`removed since the start: ${gone.map(([reason, of]) => `${bytes(of)} by ${reason}`).join(', ')}`]),
    ...(due === 0 ? [] : [`${count(due)} files are due`]),
  ]
  return ['', ...table(columns, rows, dim).map((line) => `  ${line}`), ...facts.map((fact) => `  ${fact}`)]
}
