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
export type StatusAnswer = Omit<SystemStatus, 'lag' | 'started_us'> & {
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
    lines.push(`  ${part.ok ? colors.green('✓') : colors.red('✗')} ${part.name}${part.detail === undefined ? '' : `   ${part.detail}`}`)
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
  return lines
}
