import type { Command } from 'commander'
import { Api } from './api.ts'
import { declareErasures } from './erase.ts'
import { ago, count, table, time, value } from './format.ts'
import type { CommonOptions } from './options.ts'
import { examples, integerBetween, serverOptions, timeZoneOption } from './options.ts'
import type { Terminal } from './terminal.ts'

interface DevicesOptions extends CommonOptions {
  readonly limit: number
  readonly timeZone?: string
}

interface DeviceAnswer {
  readonly id: string
  readonly name: string
  readonly type: string
  readonly status: string
  readonly attributes: Readonly<Record<string, string>>
  readonly metadata: Readonly<Record<string, unknown>>
  readonly created_at: string
  readonly last_seen: string | null
}

interface LatestAnswer {
  readonly metric: string
  readonly time: string
  readonly value: number | string | boolean | null
  readonly unit?: string
}

const pageItems = 1_000

export function declare(command: Command, terminal: Terminal): void {
  command.argument('[id]', 'one device, with its latest values').option('--limit <n>', 'devices at most', integerBetween(1, 10_000_000), 1_000)
  serverOptions(command)
  timeZoneOption(command)
  declareErasures(command, terminal)
  examples(command, [
    ['kymo devices', 'all devices, with when they were last heard'],
    ['kymo devices dev-1', 'one device: attributes and latest values'],
  ]).action(async (id: string | undefined, options: DevicesOptions) => (id === undefined ? list(options, terminal) : show(id, options, terminal)))
}

async function list(options: DevicesOptions, terminal: Terminal): Promise<void> {
  const api = new Api(options)
  const nowMs = Date.now()
  const rows: string[][] = []
  let more = false
  for await (const device of api.items<DeviceAnswer>('/api/v1/devices', { limit: Math.min(pageItems, options.limit) })) {
    if (rows.length === options.limit) {
      more = true
      break
    }
    if (options.json === true) terminal.out(JSON.stringify(device))
    rows.push([
      device.id,
      device.name,
      device.type,
      device.status,
      device.attributes['firmware'] ?? '-',
      device.last_seen === null ? 'never' : ago(Date.parse(device.last_seen), nowMs),
    ])
  }
  if (options.json !== true) {
    const columns = [{ title: 'id' }, { title: 'name' }, { title: 'type' }, { title: 'status' }, { title: 'firmware' }, { title: 'last seen' }]
    for (const line of table(columns, rows, terminal.colors.dim)) terminal.out(line)
    terminal.err(`  ${count(rows.length)} devices${more ? '; there are more: --limit' : ''}`)
  }
}

async function show(id: string, options: DevicesOptions, terminal: Terminal): Promise<void> {
  const api = new Api(options)
  const device = await api.json<DeviceAnswer>(`/api/v1/devices/${encodeURIComponent(id)}`)
  const latest: LatestAnswer[] = []
  for await (const item of api.items<LatestAnswer>('/api/v1/latest', { device: [id.replaceAll(',', '\\,')] })) latest.push(item)
  if (options.json === true) {
    terminal.out(JSON.stringify({ ...device, latest }))
    return
  }
  const { dim } = terminal.colors
  const facts: [string, string][] = [
    ['id', device.id],
    ['name', device.name],
    ['type', device.type],
    ['status', device.status],
    ['created', time(Date.parse(device.created_at), options.timeZone)],
    [
      'last seen',
      device.last_seen === null
        ? 'never'
        : `${time(Date.parse(device.last_seen), options.timeZone)} (${ago(Date.parse(device.last_seen), Date.now())})`,
    ],
    ...Object.entries(device.attributes),
    ...Object.entries(device.metadata).map(([key, v]): [string, string] => [key, typeof v === 'string' ? v : JSON.stringify(v)]),
  ]
  for (const line of table([{ title: '' }, { title: '' }], facts).slice(1)) terminal.out(line)
  terminal.out('')
  const rows = latest.map((item) => [item.metric, value(item.value), item.unit ?? '', time(Date.parse(item.time), options.timeZone)])
  for (const line of table([{ title: 'metric' }, { title: 'value', align: 'right' }, { title: 'unit' }, { title: 'time' }], rows, dim))
    terminal.out(line)
}
