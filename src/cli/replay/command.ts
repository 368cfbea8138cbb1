import { createReadStream, statSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { createGunzip } from 'node:zlib'
import type { Command } from 'commander'
import { InvalidArgumentError, Option } from 'commander'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { Api } from '../api.ts'
import { Exit } from '../exit.ts'
import { count } from '../format.ts'
import { collect, commaList, examples, serverOptions } from '../options.ts'
import { Progress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'
import type { CsvRecord } from './csv.ts'
import { CsvReader, guessDelimiter } from './csv.ts'
import type { RowMapping } from './mapping.ts'
import { mapColumns, messageOf } from './mapping.ts'
import type { Outlet } from './outlet.ts'
import { HttpOutlet, MqttOutlet } from './outlet.ts'
import { parseTime, timeParser } from './time-format.ts'

interface ReplayOptions {
  readonly url: string
  readonly token?: string
  readonly json?: boolean
  readonly deviceColumn?: string
  readonly devicePrefix?: string
  readonly device?: string
  readonly timeColumn?: string
  readonly timeFormat: string
  readonly metrics?: readonly string[]
  readonly missing?: readonly string[]
  readonly delimiter?: string
  readonly speed: number
  readonly start?: number
  readonly mqtt?: string
  readonly topic: string
  readonly http?: string
  readonly skipInvalid?: boolean
}

const invalidShownMax = 5

export function declare(command: Command, terminal: Terminal): void {
  command
    .argument('<file>', 'CSV with a header line, plain or .gz; - reads standard input')
    .option('--device-column <name>', 'column with the device id')
    .option('--device-prefix <text>', 'put before what the device column says')
    .option('--device <id>', 'one device for all rows (otherwise the file name)')
    .option('--time-column <name>', 'column with the time (otherwise timestamp, time, datetime, date or ts)')
    .option('--time-format <format>', 'auto; s, ms, us, ns for epoch numbers; step:30m:2004-03-01T00:00Z for row numbers', checkTimeFormat, 'auto')
    .option('--metrics <list>', 'columns to send, separated by commas; column=metric renames. Otherwise all', commaList)
    .option('--missing <value>', 'a cell that means "no value", such as -200; may be given again', collect)
    .option('--delimiter <char>', 'between cells (otherwise found from the header)', checkDelimiter)
    .addOption(new Option('--speed <n>', 'times as fast as it was recorded, or max').argParser(parseSpeed).default(Number.POSITIVE_INFINITY, 'max'))
    .option('--start <time>', 'move all times so that the first row is at this one: RFC 3339, or now', parseStart)
    .option('--mqtt <url>', 'send over MQTT, such as mqtt://127.0.0.1:1883')
    .option('--topic <topic>', 'MQTT topic; {device} becomes the device id', 'portfolio/telemetry')
    .option('--http <url>', 'send over HTTP to this server (otherwise --url)')
    .option('--skip-invalid', 'rows that cannot be read do not make the command fail')
  serverOptions(command)
  examples(command, [
    [
      'kymo replay AirQualityUCI_hourly.csv.gz --missing -200 --metrics T=temperature,RH=humidity',
      'two columns of a gzip file, renamed; the device is the file name',
    ],
    [
      'kymo replay intel_lab_30min.csv --device-column sensor --device-prefix mote- --time-column step_30min ' +
        '--time-format step:30m:2004-03-01T00:00Z --metrics temperature_c,humidity_pct',
      'row numbers as time',
    ],
    ['kymo replay day.csv --speed 60 --start now --mqtt mqtt://127.0.0.1:1883', 'a minute a second, as if it were now'],
  ]).action(async (file: string, options: ReplayOptions) => replay(file, options, terminal))
}

function checkTimeFormat(text: string): string {
  timeParser(text)
  return text
}

function checkDelimiter(text: string): string {
  const delimiter = text === '\\t' || text === 'tab' ? '\t' : text
  if (delimiter.length !== 1 || delimiter === '"') throw new InvalidArgumentError('One character is expected, or tab.')
  return delimiter
}

export function parseSpeed(text: string): number {
  if (text === 'max') return Number.POSITIVE_INFINITY
  const speed = Number(text)
  if (!(speed > 0)) throw new InvalidArgumentError('A number above 0 is expected, or max.')
  return speed
}

function parseStart(text: string): number {
  const us = text === 'now' ? Date.now() * 1_000 : parseTime(text)
  if (!Number.isFinite(us)) throw new InvalidArgumentError('A time such as 2026-11-20T12:00:00Z is expected, or now.')
  return us
}

interface Counts {
  rows: number
  sent: number
  readings: number
  missingValues: number
  emptyRows: number
  invalidRows: number
}

async function replay(file: string, options: ReplayOptions, terminal: Terminal): Promise<void> {
  const quiet = options.json === true
  const outlet = await openOutlet(options)
  const counts: Counts = { rows: 0, sent: 0, readings: 0, missingValues: 0, emptyRows: 0, invalidRows: 0 }
  const input = openInput(file)
  const progress = new Progress(terminal, { label: 'replaying', ...(input.bytes === undefined ? {} : { total: input.bytes }), quiet })
  const interrupted = terminal.interrupted()
  const startedMs = performance.now()
  const onInvalid = (line: number, what: string): void => {
    counts.invalidRows++
    if (!quiet && counts.invalidRows <= invalidShownMax) terminal.err(`  line ${line}: ${what}`)
  }
  if (!quiet) terminal.err(`  ${file} to ${outlet.name}`)
  await sendRows(input.text, {
    file,
    options,
    outlet,
    counts,
    interrupted,
    onInvalid,
    onRow: () => progress.update(input.consumed(), `${count(counts.rows)} rows`),
  })
  await outlet.end()
  progress.end()
  const seconds = (performance.now() - startedMs) / 1_000
  report(terminal, { quiet, counts, outlet, seconds })
  if (outlet.rejected > 0 || (counts.invalidRows > 0 && options.skipInvalid !== true)) process.exitCode = Exit.refused
}

interface SendContext {
  readonly file: string
  readonly options: ReplayOptions
  readonly outlet: Outlet
  readonly counts: Counts
  readonly interrupted: AbortSignal
  readonly onInvalid: (line: number, what: string) => void
  readonly onRow: () => void
}

async function sendRows(text: AsyncIterable<string>, c: SendContext): Promise<void> {
  let mapping: RowMapping | undefined
  const pace = new Pace(c.options.speed, c.interrupted)
  let shiftUs: number | undefined
  for await (const record of recordsOf(text, c.options.delimiter)) {
    if (c.interrupted.aborted) return
    if (mapping === undefined) {
      mapping = mapColumns(record.cells, mappingOptions(c.file, c.options))
      continue
    }
    c.counts.rows++
    c.onRow()
    const row = mapping.map(record)
    if (typeof row === 'string') {
      c.onInvalid(record.line, row)
      continue
    }
    const readings = Object.keys(row.values).length
    c.counts.missingValues += row.missing
    if (readings === 0) {
      c.counts.emptyRows++
      continue
    }
    shiftUs ??= c.options.start === undefined ? 0 : c.options.start - row.timeUs
    if (pace.needsWait(row.timeUs) && c.outlet instanceof HttpOutlet) await c.outlet.flush()
    await pace.until(row.timeUs)
    await c.outlet.send(messageOf(shiftUs === 0 ? row : { ...row, timeUs: row.timeUs + shiftUs }))
    c.counts.sent++
    c.counts.readings += readings
  }
  if (mapping === undefined) throw new KymoError('request_invalid', { detail: `${c.file} is empty: not even a header line` })
}

/** Holds rows back until their recorded time has come; rows that go back in time leave at once. */
class Pace {
  readonly #speed: number
  readonly #signal: AbortSignal
  #firstUs: number | undefined
  #startMs = 0

  constructor(speed: number, signal: AbortSignal) {
    this.#speed = speed
    this.#signal = signal
  }

  needsWait(timeUs: number): boolean {
    return this.#waitMs(timeUs) > 1
  }

  async until(timeUs: number): Promise<void> {
    const waitMs = this.#waitMs(timeUs)
    if (waitMs <= 1) return
    try {
      await delay(waitMs, undefined, { signal: this.#signal })
    } catch (error) {
      if (!this.#signal.aborted) throw error
    }
  }

  #waitMs(timeUs: number): number {
    if (this.#speed === Number.POSITIVE_INFINITY) return 0
    if (this.#firstUs === undefined) {
      this.#firstUs = timeUs
      this.#startMs = performance.now()
    }
    return this.#startMs + (timeUs - this.#firstUs) / 1_000 / this.#speed - performance.now()
  }
}

function mappingOptions(file: string, options: ReplayOptions): Parameters<typeof mapColumns>[1] {
  return {
    device:
      options.device ??
      (file === '-'
        ? 'stdin'
        : path
            .basename(file)
            .replace(/\.gz$/i, '')
            .replace(/\.[^.]+$/, '')),
    parseTime: timeParser(options.timeFormat),
    missing: options.missing ?? [],
    ...(options.deviceColumn === undefined ? {} : { deviceColumn: options.deviceColumn }),
    ...(options.devicePrefix === undefined ? {} : { devicePrefix: options.devicePrefix }),
    ...(options.timeColumn === undefined ? {} : { timeColumn: options.timeColumn }),
    ...(options.metrics === undefined ? {} : { metrics: options.metrics }),
  }
}

async function openOutlet(options: ReplayOptions): Promise<Outlet> {
  if (options.mqtt !== undefined && options.http !== undefined)
    throw new KymoError('usage', { detail: 'give --mqtt or --http, not both', facts: { command: 'kymo replay' } })
  if (options.mqtt !== undefined) return MqttOutlet.open(options.mqtt, options.topic, options.token)
  const api = new Api({ url: options.http ?? options.url, ...(options.token === undefined ? {} : { token: options.token }) })
  await api.text('/livez')
  return new HttpOutlet(new URL('/api/v1/telemetry', api.base).href, options.token)
}

interface Input {
  readonly text: AsyncIterable<string>
  /** Of the file as it lies on disk; unknown for standard input. */
  readonly bytes: number | undefined
  consumed(): number
}

function openInput(file: string): Input {
  if (file === '-') return { text: process.stdin.setEncoding('utf8'), bytes: undefined, consumed: () => 0 }
  let bytes: number
  try {
    bytes = statSync(file).size
  } catch (thrown) {
    throw new KymoError('usage', { detail: `${file} cannot be read: ${asKymoError(thrown).message}`, facts: { command: 'kymo replay' } })
  }
  const raw = createReadStream(file)
  // pipeline hands a failure on to the reader of `text`, who throws it.
  const text: Readable = file.endsWith('.gz') ? pipeline(raw, createGunzip(), () => undefined) : raw
  text.setEncoding('utf8')
  return { text, bytes, consumed: () => raw.bytesRead }
}

async function* recordsOf(text: AsyncIterable<string>, delimiter: string | undefined): AsyncGenerator<CsvRecord> {
  let reader: CsvReader | undefined = delimiter === undefined ? undefined : new CsvReader(delimiter)
  let held = ''
  for await (const chunk of text) {
    if (reader === undefined) {
      held += chunk
      const end = held.indexOf('\n')
      if (end < 0) continue
      reader = new CsvReader(guessDelimiter(held.slice(0, end)))
      yield* reader.push(held)
    } else yield* reader.push(chunk)
  }
  if (reader === undefined) {
    reader = new CsvReader(guessDelimiter(held))
    yield* reader.push(held)
  }
  yield* reader.end()
}

function report(
  terminal: Terminal,
  o: { readonly quiet: boolean; readonly counts: Counts; readonly outlet: Outlet; readonly seconds: number },
): void {
  const { counts, outlet, seconds } = o
  if (o.quiet) {
    terminal.out(
      JSON.stringify({
        rows: counts.rows,
        messages: counts.sent,
        readings: counts.readings,
        acknowledged: outlet.acked,
        rejected: outlet.rejected,
        missing_values: counts.missingValues,
        empty_rows: counts.emptyRows,
        invalid_rows: counts.invalidRows,
        seconds,
        problems: outlet.problems,
      }),
    )
    return
  }
  terminal.out(
    `  rows ${count(counts.rows)}  messages ${count(counts.sent)}  readings ${count(counts.readings)}  ` +
      `acknowledged ${count(outlet.acked)}  rejected ${count(outlet.rejected)}`,
  )
  terminal.out(
    `  missing values ${count(counts.missingValues)}  rows without any value ${count(counts.emptyRows)}  ` +
      `invalid rows ${count(counts.invalidRows)}  ${seconds.toFixed(1)} s (${count(counts.sent / Math.max(seconds, 1e-3))} messages/s)`,
  )
  for (const problem of outlet.problems) terminal.out(`  rejected: ${problem}`)
}
