import process from 'node:process'
import type { Command } from 'commander'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { formatRfc3339, parseRfc3339 } from '../../wire/time.ts'
import { Api } from '../api.ts'
import { Exit } from '../exit.ts'
import { count, time } from '../format.ts'
import { commaList, examples, oneOf, parseDuration, serverOptions } from '../options.ts'
import { Progress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'
import { exportPages } from './pages.ts'
import { readExportState, writeExportState } from './state.ts'
import type { ExportFormat, RowWriter, WideColumn } from './writers.ts'
import { openWriter } from './writers.ts'

interface ExportOptions {
  readonly url: string
  readonly token?: string
  readonly json?: boolean
  readonly format?: ExportFormat
  readonly device?: readonly string[]
  readonly metric?: readonly string[]
  readonly from?: string
  readonly to?: string
  readonly since?: string
  readonly state?: string
  readonly overlap: number
  readonly wide?: boolean
}

const tellEveryMs = 1_000

export function declare(command: Command, terminal: Terminal): void {
  command
    .argument('[file]', 'where to; .csv, .ndjson or .parquet, the first two also with .gz or .zst; - or nothing: standard output', '-')
    .option('--format <format>', 'csv, ndjson or parquet (otherwise by the name of the file, or csv)', oneOf(['csv', 'ndjson', 'parquet'] as const))
    .option('--device <ids>', 'devices, separated by commas (otherwise all)', commaList)
    .option('--metric <names>', 'metrics, separated by commas (otherwise all)', commaList)
    .option('--from <time>', 'RFC 3339, epoch, or a time ago: -24h (otherwise from the beginning)')
    .option('--to <time>', 'first moment that no longer belongs to it (otherwise no end)')
    .option('--since <time>', 'as --from; last: behind what the export before had, as --state remembers it')
    .option('--state <file>', 'with --since last: where the end of this export is remembered')
    .option('--overlap <width>', 'with --since last: begin so much earlier, for readings that came late', parseDuration, 3_600_000)
    .option('--wide', 'CSV and Parquet: a row for each device and time, a column for each metric')
  serverOptions(command)
  examples(command, [
    ['kymo export all.parquet', 'everything'],
    ['kymo export --device dev-1 --from -7d --wide week.csv.gz', "one device's last week, a column for each metric"],
    ['kymo export --since last --state lake.json lake-$(date +%F).ndjson.zst', 'what is new since the last time, each night'],
  ]).action(async (file: string, options: ExportOptions) => exportTo(file, options, terminal))
}

function usage(detail: string): KymoError {
  return new KymoError('usage', { detail, facts: { command: 'kymo export' } })
}

function formatOf(file: string, wanted: ExportFormat | undefined): ExportFormat {
  const name = file.replace(/\.(gz|zst)$/, '')
  const found: ExportFormat = name.endsWith('.parquet') ? 'parquet' : /\.(ndjson|jsonl)$/.test(name) ? 'ndjson' : 'csv'
  const format = wanted ?? found
  if (format === 'parquet' && file === '-') throw usage('Parquet is not written to standard output: name a file')
  if (format === 'parquet' && name !== file) throw usage('Parquet is compressed within: leave .gz or .zst away')
  return format
}

interface Range {
  readonly from: string | undefined
  readonly to: string | undefined
}

/** What to ask for, and under which name it is remembered. */
function rangeOf(options: ExportOptions, api: Api): Range {
  const { from, to, since, state } = options
  if (since === undefined) {
    if (state !== undefined) throw usage('--state belongs to --since last')
    return { from, to }
  }
  if (from !== undefined) throw usage('give --from or --since, not both')
  if (since !== 'last') return { from: since, to }
  if (state === undefined) throw usage('--since last needs --state FILE, where the end of each export is remembered')
  if (to !== undefined) throw usage('--since last ends at the moment at which it begins: leave --to away')
  const before = readExportState(state)
  if (before === undefined) return { from: undefined, to: 'now' }
  if (before.server !== api.base.origin) throw usage(`${state} belongs to exports from ${before.server}`)
  if (before.question !== questionOf(options)) throw usage(`${state} belongs to exports of other devices or metrics`)
  const us = parseRfc3339(before.to)
  if (us === undefined) throw usage(`${state} is not the state of an export`)
  return { from: formatRfc3339(Math.max(0, us - options.overlap * 1_000)), to: 'now' }
}

function questionOf(options: ExportOptions): string {
  return JSON.stringify({ device: options.device ?? null, metric: options.metric ?? null })
}

async function exportTo(file: string, options: ExportOptions, terminal: Terminal): Promise<void> {
  const format = formatOf(file, options.format)
  if (options.wide === true && format === 'ndjson') throw usage('--wide is for CSV and Parquet')
  const api = new Api(options)
  const range = rangeOf(options, api)
  const columns = options.wide === true ? await wideColumns(api, options) : undefined
  const writer = await openWriter(file, format, columns, terminal)
  let outcome: Outcome
  try {
    outcome = await pour(
      api,
      { ...range, device: options.device, metric: options.metric, order: 'asc' },
      { writer, file, json: options.json === true, terminal },
    )
    if (outcome.interrupted) await writer.abandon()
    else await writer.end()
  } catch (thrown) {
    await writer.abandon()
    throw thrown
  }
  if (outcome.interrupted) process.exitCode = Exit.interrupted
  else if (options.state !== undefined && outcome.to !== null) {
    writeExportState(options.state, { kymo_export: 1, server: api.base.origin, question: questionOf(options), to: outcome.to })
  }
  report(file, options, outcome, terminal)
}

interface Outcome {
  readonly rows: number
  readonly empty: number
  readonly leftOut: number
  readonly to: string | null
  readonly seconds: number
  readonly interrupted: boolean
}

async function pour(
  api: Api,
  question: Parameters<typeof exportPages>[1],
  o: { readonly writer: RowWriter; readonly file: string; readonly json: boolean; readonly terminal: Terminal },
): Promise<Outcome> {
  const { writer, file, json, terminal } = o
  const interrupted = terminal.interrupted()
  const progress = new Progress(terminal, { label: 'exporting', quiet: json })
  const startedMs = performance.now()
  let toldMs = startedMs
  let rows = 0
  let empty = 0
  let to: string | null = null
  try {
    for await (const page of exportPages(api, question, interrupted)) {
      to = page.to
      empty += page.empty
      for (const row of page.rows) {
        const wait = writer.row(row)
        if (wait !== undefined) await wait
      }
      rows += page.rows.length
      const reached = page.rows.at(-1)
      progress.update(rows, reached === undefined ? '' : `rows, at ${time(reached.us / 1e3)}`)
      const now = performance.now()
      if (json && now - toldMs >= tellEveryMs) {
        toldMs = now
        tell(terminal, file, {
          event: 'progress',
          rows,
          rows_per_s: Math.round((rows / (now - startedMs)) * 1e3),
          at: reached === undefined ? null : formatRfc3339(reached.us),
        })
      }
      if (interrupted.aborted) break
    }
  } finally {
    progress.end()
  }
  return { rows, empty, leftOut: writer.leftOut, to, seconds: (performance.now() - startedMs) / 1e3, interrupted: interrupted.aborted }
}

/** Standard output may be the export itself: what is told of it goes to stderr then. */
function tell(terminal: Terminal, file: string, event: Readonly<Record<string, unknown>>): void {
  const line = JSON.stringify(event)
  if (file === '-') terminal.err(line)
  else terminal.out(line)
}

function report(file: string, options: ExportOptions, outcome: Outcome, terminal: Terminal): void {
  const { rows, empty, leftOut, to, seconds, interrupted } = outcome
  const rate = Math.round(rows / Math.max(seconds, 1e-3))
  if (options.json === true) {
    tell(terminal, file, {
      event: interrupted ? 'interrupted' : 'done',
      rows,
      without_value: empty,
      left_out: leftOut,
      to,
      seconds,
      rows_per_s: rate,
    })
    return
  }
  if (interrupted) terminal.err('  interrupted; nothing was written')
  else
    terminal.err(
      `  ${count(rows)} readings${file === '-' ? '' : ` to ${file}`}  ${seconds.toFixed(1)} s (${count(rate)}/s)${to === null ? '' : `  before ${to}`}`,
    )
  if (leftOut > 0) terminal.err(`  ${count(leftOut)} readings of metrics that appeared meanwhile have no column and were left out`)
}

/** The metrics that there are, in the order of their names; those that hold text as text. */
async function wideColumns(api: Api, options: ExportOptions): Promise<WideColumn[]> {
  const metrics = new Set<string>()
  const match = { device: options.device, metric: options.metric }
  for await (const { metric } of api.items<{ readonly metric: string }>('/api/v1/series', match)) {
    metrics.add(metric)
    if (metrics.size > limits.tableColumnsMax)
      throw usage(`more than ${limits.tableColumnsMax} metrics; choose some with --metric, or leave --wide away`)
  }
  const text = new Set<string>()
  for await (const { metric, value } of api.items<{ readonly metric: string; readonly value: unknown }>('/api/v1/latest', match)) {
    if (typeof value === 'string') text.add(metric)
  }
  return [...metrics].sort().map((metric) => ({ metric, text: text.has(metric) }))
}
