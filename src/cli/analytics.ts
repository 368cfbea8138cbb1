import type { Command } from 'commander'
import { limits } from '../core/limits.ts'
import type { QueryParameters } from './api.ts'
import { Api } from './api.ts'
import { count, table, time, value } from './format.ts'
import type { Column } from './format.ts'
import type { CommonOptions } from './options.ts'
import { examples, integerBetween, numberBetween, serverOptions, timeZoneOption } from './options.ts'
import type { Terminal } from './terminal.ts'

interface AnalyticsOptions extends CommonOptions {
  readonly hours: number
  readonly thresholdStddev: number
  readonly threshold: number
  readonly minutes: number
  readonly limit: number
  readonly timeZone?: string
}

type Cell = string | number | null
type Item = Readonly<Record<string, Cell>>

interface Part {
  readonly items: readonly Item[]
  /** There are more than `--limit`. */
  readonly truncated: boolean
}

/** Of one metric of a device. */
interface Statistics {
  readonly count: number
  readonly avg: number | null
  readonly min: number | null
  readonly max: number | null
  readonly stddev: number | null
}

const metrics = ['temperature', 'humidity', 'battery'] as const
type DeviceStatistics = { readonly device_id: string; readonly hours: number; readonly message_count: number } & Readonly<
  Record<(typeof metrics)[number], Statistics>
>

export function declare(command: Command, terminal: Terminal): void {
  command
    .argument('[device]', 'one device: its statistics and newest messages (otherwise all devices)')
    .option('--hours <n>', 'look back so many hours', integerBetween(1, 87_600), 24)
    .option('--threshold-stddev <n>', 'anomalies: standard deviations from the mean of the device', numberBetween(0, 1_000), 2)
    .option('--threshold <percent>', 'low batteries: below it', numberBetween(-1_000_000, 1_000_000), 20)
    .option('--minutes <n>', 'silent devices: for at least so long', integerBetween(1, 5_256_000), 60)
    .option('--limit <n>', 'rows of each part at most', integerBetween(1, limits.seedListRowsMax), 100)
  serverOptions(command)
  timeZoneOption(command)
  examples(command, [
    ['kymo analytics', 'all devices of the last day, temperature anomalies, low batteries, silent devices'],
    ['kymo analytics device-001 --hours 6', 'statistics and newest messages of a device'],
    ['kymo analytics --threshold-stddev 3 --threshold 30 --json', 'stricter anomalies, earlier warnings, as JSON'],
  ]).action(async (device: string | undefined, options: AnalyticsOptions) =>
    device === undefined ? fleet(options, terminal) : one(device, options, terminal),
  )
}

async function take(api: Api, path: string, query: QueryParameters, limit: number): Promise<Part> {
  const items: Item[] = []
  for await (const item of api.items<Item>(path, { ...query, limit: Math.min(limit + 1, limits.seedListRowsMax) })) {
    if (items.length === limit) return { items, truncated: true }
    items.push(item)
  }
  return { items, truncated: false }
}

async function fleet(options: AnalyticsOptions, terminal: Terminal): Promise<void> {
  const api = new Api(options)
  const { hours, thresholdStddev, threshold, minutes, limit } = options
  const summary = await take(api, '/analytics/summary', { hours }, limit)
  const anomalies = await take(api, '/analytics/anomalies', { hours, threshold_stddev: thresholdStddev }, limit)
  const low_battery = await take(api, '/analytics/low-battery', { threshold }, limit)
  const inactive = await take(api, '/analytics/inactive', { minutes }, limit)
  if (options.json === true) {
    terminal.out(JSON.stringify({ hours, threshold_stddev: thresholdStddev, threshold, minutes, summary, anomalies, low_battery, inactive }))
    return
  }
  const print = (title: string, part: Part, nothing: string, columns: readonly string[]): void =>
    printPart({ title, part, nothing, columns, options, terminal })
  print(`All devices, last ${hours} h`, summary, 'no device has sent anything', [
    'device_id',
    'message_count',
    'last_seen',
    'avg_temperature',
    'min_temperature',
    'max_temperature',
    'avg_humidity',
    'avg_battery',
    'min_battery',
  ])
  print(`Temperature anomalies, beyond ${thresholdStddev} standard deviations`, anomalies, 'none', [
    'device_id',
    'time',
    'temperature',
    'mean',
    'stddev',
    'z_score',
  ])
  print(`Low batteries, below ${threshold}`, low_battery, 'none', ['device_id', 'battery', 'time'])
  print(`Silent for ${minutes} minutes or more`, inactive, 'none', ['device_id', 'last_seen', 'minutes_inactive'])
}

async function one(device: string, options: AnalyticsOptions, terminal: Terminal): Promise<void> {
  const api = new Api(options)
  const { hours, limit } = options
  const path = `/analytics/devices/${encodeURIComponent(device)}`
  const statistics = await api.json<DeviceStatistics>(`${path}/statistics`, { hours })
  const latest = await take(api, `${path}/latest`, {}, Math.min(limit, 10))
  if (options.json === true) {
    terminal.out(JSON.stringify({ ...statistics, latest: latest.items }))
    return
  }
  const rows: Item[] = metrics.map((metric) => ({ metric, ...statistics[metric] }))
  const columns = ['metric', 'count', 'avg', 'min', 'max', 'stddev']
  const title = `${statistics.device_id}, last ${hours} h: ${count(statistics.message_count)} messages`
  printPart({ title, part: { items: rows, truncated: false }, nothing: '', columns, options, terminal })
  const part = { items: latest.items, truncated: false }
  printPart({ title: 'Newest messages', part, nothing: 'none', columns: ['time', ...metrics, 'firmware'], options, terminal })
}

const times: ReadonlySet<string> = new Set(['time', 'last_seen'])
const texts: ReadonlySet<string> = new Set(['device_id', 'metric', 'firmware', ...times])

function printPart(o: {
  readonly title: string
  readonly part: Part
  readonly nothing: string
  readonly columns: readonly string[]
  readonly options: AnalyticsOptions
  readonly terminal: Terminal
}): void {
  const { title, part, nothing, columns, options, terminal } = o
  terminal.out(terminal.colors.bold(`  ${title}`))
  if (part.items.length === 0) terminal.out(`  ${nothing}`)
  else {
    const heads = columns.map((name): Column => (texts.has(name) ? { title: name } : { title: name, align: 'right' }))
    const cell = (item: Item, name: string): string => {
      const given = item[name]
      if (times.has(name) && typeof given === 'string') return time(Date.parse(given), options.timeZone)
      return value(typeof given === 'number' ? Number(given.toPrecision(6)) : given)
    }
    const rows = part.items.map((item) => columns.map((name) => cell(item, name)))
    for (const line of table(heads, rows, terminal.colors.dim)) terminal.out(`  ${line}`)
  }
  terminal.out('')
  if (part.truncated) terminal.err(`  ${title}: cut after ${count(part.items.length)}; there are more: --limit`)
}
