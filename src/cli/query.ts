import type { Command } from 'commander'
import { InvalidArgumentError } from 'commander'
import { aggregations } from '../core/ports.ts'
import type { ColumnsAnswer, QueryParameters } from './api.ts'
import { Api } from './api.ts'
import { count, table, time, value } from './format.ts'
import type { CommonOptions } from './options.ts'
import { commaList, examples, integerBetween, oneOf, parseTimeZone, serverOptions, timeZoneOption } from './options.ts'
import type { Terminal } from './terminal.ts'

interface QueryOptions extends CommonOptions {
  readonly device?: readonly string[]
  readonly metric?: readonly string[]
  readonly from: string
  readonly to?: string
  readonly step?: string
  readonly tz?: string
  readonly gaps?: boolean
  readonly agg?: readonly string[]
  readonly order: 'asc' | 'desc'
  readonly limit: number
  readonly all?: boolean
  readonly format?: 'table' | 'csv' | 'json' | 'ndjson'
  readonly timeZone?: string
}

const pageRows = 10_000

export function declare(command: Command, terminal: Terminal): void {
  command
    .option('--device <ids>', 'devices, separated by commas (otherwise all)', commaList)
    .option('--metric <names>', 'metrics, separated by commas (otherwise all)', commaList)
    .option('--from <time>', 'RFC 3339, epoch, or a time ago: -24h', '-1h')
    .option('--to <time>', 'first moment that no longer belongs to it (otherwise no end)')
    .option('--step <width>', 'buckets instead of readings: 30s, 5m, 1h, or by the calendar: 1d, 1w, 1mo, 1y')
    .option('--tz <zone>', 'the zone of that calendar, and of dates in --from and --to, such as Europe/Berlin (otherwise UTC)', parseTimeZone)
    .option('--gaps', 'with --step: a row for each bucket without readings too')
    .option('--agg <list>', `with --step: ${aggregations.join(', ')} (avg)`, parseAggregations)
    .option('--order <order>', 'by time: asc or desc', oneOf(['asc', 'desc'] as const), 'asc' as const)
    .option('--limit <n>', 'rows at most', integerBetween(1, 1_000_000_000), 1_000)
    .option('--all', 'no limit: page after page')
    .option('--format <format>', 'table, csv, or ndjson: a JSON object a row (json is the same)', oneOf(['table', 'csv', 'ndjson', 'json'] as const))
  serverOptions(command)
  timeZoneOption(command)
  examples(command, [
    ['kymo query --device dev-1 --metric temperature --from -24h --step 5m --agg avg,max', 'five-minute buckets of the last day'],
    ['kymo query --from 2026-10-01 --step 1d --tz Europe/Berlin --agg avg,p95 --gaps', 'days of Berlin, also those without readings'],
    ['kymo query --device dev-1 --order desc --limit 10', 'the newest ten readings of a device'],
    ['kymo query --from 2026-11-01 --all --format csv > november.csv', 'everything since then'],
  ]).action(async (options: QueryOptions) => query(options, terminal))
}

function parseAggregations(text: string): string[] {
  const given = commaList(text, undefined)
  for (const name of given)
    if (!aggregations.some((known) => known === name)) throw new InvalidArgumentError(`"${name}" is none of ${aggregations.join(', ')}.`)
  return given
}

async function query(options: QueryOptions, terminal: Terminal): Promise<void> {
  const api = new Api(options)
  const given = options.format ?? (options.json === true ? 'json' : 'table')
  const format = given === 'ndjson' ? 'json' : given
  // A table of days reads as days; what programs read is UTC unless they say otherwise.
  const zone = options.timeZone ?? (format === 'table' ? options.tz : undefined)
  const limit = options.all === true ? Number.POSITIVE_INFINITY : options.limit
  const parameters: QueryParameters = {
    device: options.device,
    metric: options.metric,
    from: options.from,
    to: options.to,
    step: options.step,
    tz: options.tz,
    gaps: options.gaps === true ? 'null' : undefined,
    agg: options.agg,
    order: options.order,
  }
  let rows = 0
  let cursor: string | undefined
  let last: ColumnsAnswer
  let partial = false
  do {
    last = await api.json<ColumnsAnswer>('/api/v1/query', { ...parameters, limit: Math.min(pageRows, limit - rows), cursor })
    await terminal.write(render(last, format, rows === 0, zone, terminal))
    rows += last.rows
    partial ||= last.partial === true
    cursor = last.next_cursor ?? undefined
  } while (cursor !== undefined && rows < limit)
  if (format === 'table') terminal.err(`  ${count(rows)} rows${cursor === undefined ? '' : '; there are more: --limit, or --all'}`)
  else if (cursor !== undefined) terminal.err(`  cut after ${count(rows)} rows; there are more: --limit, or --all`)
  for (const note of qualityOf(last.relative_error, partial)) terminal.err(`  ${note}`)
}

/** What is to be known of percentiles, in words; on standard error, as rows are for programs. */
function qualityOf(relativeError: number | undefined, partial: boolean): string[] {
  if (relativeError === undefined) return []
  const within = `percentiles are within ${value(relativeError * 100)} % of a reading, all other columns are exact`
  return partial ? [within, 'partial: buckets whose readings have gone have no percentiles (docs/reference/query.md)'] : [within]
}

function render(page: ColumnsAnswer, format: 'table' | 'csv' | 'json', first: boolean, zone: string | undefined, terminal: Terminal): string {
  const names = Object.keys(page.columns).filter((name) => name !== 'time' && name !== 'series')
  const { time: times, series } = page.columns
  const lines: string[] = []
  const cells: string[][] = []
  for (let row = 0; row < times.length; row++) {
    const key = page.series[series[row] ?? -1] ?? { device: '?', metric: '?' }
    const at = times[row] ?? Number.NaN
    const values = names.map((name) => page.columns[name]?.[row] ?? null)
    if (format === 'json')
      lines.push(
        JSON.stringify({ time: at, device: key.device, metric: key.metric, ...Object.fromEntries(names.map((name, i) => [name, values[i]])) }),
      )
    else cells.push([time(at, zone), key.device, key.metric, ...values.map((v) => (format === 'csv' ? (v === null ? '' : String(v)) : value(v)))])
  }
  if (format === 'csv') {
    if (first) lines.push(['time', 'device', 'metric', ...names].join(','))
    for (const row of cells) lines.push(row.map(csvCell).join(','))
  } else if (format === 'table') {
    const columns = [{ title: 'time' }, { title: 'device' }, { title: 'metric' }, ...names.map((title) => ({ title, align: 'right' as const }))]
    const drawn = table(columns, cells, terminal.colors.dim)
    lines.push(...(first ? drawn : drawn.slice(1)))
  }
  return lines.length === 0 ? '' : lines.join('\n') + '\n'
}

/** RFC 4180; text that a spreadsheet would run as a formula gets an apostrophe. A number may begin with a minus. */
export function csvCell(text: string): string {
  const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}
