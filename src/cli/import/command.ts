import fs from 'node:fs'
import process from 'node:process'
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { InvalidArgumentError } from 'commander'
import { KymoError } from '../../core/errors.ts'
import { timeFormats, timeReader } from '../../wire/table/time-format.ts'
import { Api } from '../api.ts'
import { Exit } from '../exit.ts'
import { count, printable } from '../format.ts'
import { collect, commaList, examples, oneOf, parseTimeZone, serverOptions } from '../options.ts'
import { Progress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'
import type { Reject } from './deliver.ts'
import { batchesOf, runImport } from './run.ts'
import type { ImportSource, SourceOptions } from './source.ts'
import { openSource } from './source.ts'
import type { ImportCounts, ImportState } from './state.ts'
import { readState, Rejects, writeState } from './state.ts'
import { fingerprintOf } from './text.ts'

interface ImportOptions extends SourceOptions {
  readonly url: string
  readonly token?: string
  readonly json?: boolean
  readonly dryRun?: boolean
  readonly yes?: boolean
  readonly resume?: boolean
  readonly restart?: boolean
  readonly state?: string
  readonly rejects?: string
  readonly skipInvalid?: boolean
}

const samplesShown = 3
const rejectsShown = 5
const saveEveryMs = 1_000
const tellEveryMs = 1_000

export function declare(command: Command, terminal: Terminal): void {
  command
    .argument('<file>', 'CSV, NDJSON or Parquet; CSV and NDJSON also as .gz or .zst; - reads standard input')
    .option('--format <format>', 'csv, ndjson or parquet (otherwise found from the file)', oneOf(['csv', 'ndjson', 'parquet'] as const))
    .option('--time-column <name>', 'column with the time; date,clock joins two (otherwise found by its name)')
    .option('--time-format <format>', timeFormats, checkTimeFormat)
    .option('--time-zone <zone>', 'of times that carry no offset, such as Europe/Berlin (otherwise UTC)', parseTimeZone)
    .option('--device-column <name>', 'column with the device id (otherwise found by its name)')
    .option('--device <id>', 'one device for all rows (otherwise the file name, where no column names it)')
    .option('--device-prefix <text>', 'put before the device id')
    .option('--columns <list>', 'a column per metric: which ones; column=metric renames. Otherwise all', commaList)
    .option('--metric-column <name>', "a row per value: the column with the metric's name")
    .option('--value-column <name>', 'a row per value: the column with the value')
    .option('--missing <value>', 'a cell that means "no value", such as -200; may be given again', collect)
    .option('--delimiter <char>', 'between CSV cells; tab for a tabulator (otherwise found from the header)', checkDelimiter)
    .option('--decimal-comma', 'numbers are written 21,5 (otherwise found from the first rows)')
    .option('--header <list>', 'names of the columns, for a CSV file without a header line', commaList)
    .option('--encoding <label>', 'utf-8, utf-16le, windows-1252 … (otherwise found from the file)')
    .option('--dry-run', 'show how the file is read, and send nothing')
    .option('--yes', 'do not ask; without a terminal it never asks')
    .option('--resume', 'go on where an import of this file stopped')
    .option('--restart', 'begin anew, whatever an earlier import has done')
    .option('--state <file>', 'where progress is kept (otherwise beside the file)')
    .option('--rejects <file>', 'write rows that are not taken there, with line and reason (NDJSON)')
    .option('--skip-invalid', 'rows that are not taken do not make the command fail')
  serverOptions(command)
  examples(command, [
    ['kymo import plant.csv --dry-run', 'how it would be read'],
    ['kymo import AirQualityUCI.csv.gz --missing -200 --columns T=temperature,RH=humidity', 'two columns, renamed; the device is the file name'],
    ['kymo import log.csv --time-format "DD/MM/YYYY HH.mm.ss" --time-column Date,Time --time-zone Europe/Rome', 'local times in two columns'],
    ['kymo import year.parquet --rejects bad.ndjson --resume', 'go on with what was interrupted'],
  ]).action(async (file: string, options: ImportOptions) => importFile(file, options, terminal))
}

function checkTimeFormat(text: string): string {
  if (timeReader(text, 'UTC') === undefined) throw new InvalidArgumentError(`Known: ${timeFormats}.`)
  return text
}

function checkDelimiter(text: string): string {
  const delimiter = text === '\\t' || text === 'tab' ? '\t' : text
  if (delimiter.length !== 1 || delimiter === '"' || delimiter.charCodeAt(0) > 0x7e)
    throw new InvalidArgumentError('One ASCII character is expected, or tab.')
  return delimiter
}

async function importFile(file: string, options: ImportOptions, terminal: Terminal): Promise<void> {
  const source = await openSource(file, options)
  try {
    await show(file, source, options, terminal)
    if (options.dryRun === true) return
    const api = new Api(options)
    await api.text('/livez')
    if (!(await agreed(options, terminal))) return
    await new Import({ file, source, options, terminal, api }).run()
  } finally {
    source.close()
  }
}

/** How the file is read, and its first messages. */
async function show(file: string, source: ImportSource, options: ImportOptions, terminal: Terminal): Promise<void> {
  const shown: string[] = []
  // Of standard input only what was read ahead could be shown; it must not be read twice.
  if (options.dryRun === true || (options.json !== true && file !== '-')) {
    for await (const page of source.pages(source.first)) {
      for (const batch of batchesOf(page, undefined)) shown.push(...batch.messages.slice(0, samplesShown - shown.length))
      break
    }
  }
  if (options.json === true) {
    terminal.out(
      JSON.stringify({ event: 'plan', file, format: source.format, shown: source.shown, ...(options.dryRun === true ? { messages: shown } : {}) }),
    )
    return
  }
  terminal.err(`  ${file}`)
  for (const line of source.shown) terminal.err(`    ${printable(line)}`)
  for (const message of shown) terminal.err(`    → ${printable(message).slice(0, 200)}`)
}

async function agreed(options: ImportOptions, terminal: Terminal): Promise<boolean> {
  if (options.yes === true || options.json === true || options.resume === true || !terminal.errTty || process.stdin.isTTY !== true) return true
  const asking = createInterface({ input: process.stdin, output: process.stderr })
  const said = await asking.question(`  Import it so into ${options.url}? [Y/n] `)
  asking.close()
  return /^(y(es)?)?$/i.test(said.trim())
}

interface ImportContext {
  readonly file: string
  readonly source: ImportSource
  readonly options: ImportOptions
  readonly terminal: Terminal
  readonly api: Api
}

class Import {
  readonly #c: ImportContext
  readonly #stateFile: string | undefined
  readonly #fingerprint: ImportState['file'] | undefined
  readonly #startedMs = performance.now()
  readonly #problems: string[] = []
  #state: ImportState | undefined
  #counts: ImportCounts = { rows: 0, messages: 0, readings: 0, rejected: 0 }
  #savedMs = Number.NEGATIVE_INFINITY
  #toldMs = performance.now()
  #rejects: Rejects | undefined

  constructor(c: ImportContext) {
    this.#c = c
    this.#stateFile = c.file === '-' ? undefined : (c.options.state ?? `${c.file}.kymo-import.json`)
    this.#fingerprint = c.file === '-' ? undefined : fingerprintOf(c.file)
    if (c.file === '-' && c.options.resume === true) throw this.#usage('standard input cannot be resumed')
  }

  async run(): Promise<void> {
    const { source, options, terminal, api } = this.#c
    const known = this.#earlier()
    this.#counts = known?.counts ?? this.#counts
    const from = known?.position ?? source.first
    const before = this.#counts
    if (options.rejects !== undefined) this.#rejects = new Rejects(options.rejects, known?.rejects_bytes ?? 0)
    if (known !== undefined && options.json !== true) terminal.err(`  goes on behind line ${count(known.position.line - 1)}`)
    const total = source.total
    const progress = new Progress(terminal, { label: 'importing', ...(total === undefined ? {} : { total }), quiet: options.json === true })
    const interrupted = terminal.interrupted()
    try {
      await runImport({
        source,
        url: new URL('/api/v1/telemetry', api.base).href,
        token: options.token,
        from,
        counts: this.#counts,
        key: this.#fingerprint?.sha256.slice(0, 16) ?? `stdin-${process.pid}-${Date.now()}`,
        signal: interrupted,
        onReject: (reject) => this.#reject(reject),
        onSettled: (counts, position) => {
          this.#counts = counts
          if (position !== undefined && this.#fingerprint !== undefined) this.#keep(position)
          const rate = this.#rate(before)
          progress.update(source.done(), `${count(counts.rows)} rows, ${count(rate)}/s`)
          this.#tell(rate)
        },
      })
    } finally {
      progress.end()
      this.#save()
      this.#rejects?.close()
    }
    if (!interrupted.aborted && this.#stateFile !== undefined) fs.rmSync(this.#stateFile, { force: true })
    this.#report(before, interrupted.aborted)
  }

  /** The state of an earlier run that this one goes on from. Throws usage where that has to be decided, or cannot be done. */
  #earlier(): ImportState | undefined {
    const { options } = this.#c
    if (this.#stateFile === undefined || options.restart === true) return undefined
    const state = readState(this.#stateFile)
    if (state === undefined) return undefined
    const same = state.file.sha256 === this.#fingerprint?.sha256
    if (options.resume !== true) {
      if (!same) return undefined
      throw this.#usage(`an import of this file stopped behind line ${state.position.line - 1}: go on with --resume, or begin anew with --restart`)
    }
    if (!same) throw this.#usage(`the file is not the one that was being imported (${this.#stateFile}); begin anew with --restart`)
    if (state.mapping !== this.#mapping())
      throw this.#usage('the file would be read in another way than before; give the same options, or begin anew with --restart')
    if (state.server !== this.#c.api.base.origin) throw this.#usage(`the import went to ${state.server}; begin anew with --restart`)
    return state
  }

  #mapping(): string {
    return JSON.stringify(this.#c.source.plan ?? { messages: this.#c.source.format })
  }

  #keep(position: ImportState['position']): void {
    this.#state = {
      kymo_import: 1,
      file: this.#fingerprint!,
      mapping: this.#mapping(),
      server: this.#c.api.base.origin,
      position,
      counts: this.#counts,
      rejects_bytes: this.#rejects?.size ?? 0,
    }
    const now = performance.now()
    if (now - this.#savedMs < saveEveryMs) return
    this.#savedMs = now
    this.#save()
  }

  #save(): void {
    if (this.#state === undefined || this.#stateFile === undefined) return
    this.#rejects?.sync()
    writeState(this.#stateFile, this.#state)
  }

  #reject(reject: Reject): void {
    this.#rejects?.add(reject.line, reject.reason, reject.code, reject.record)
    if (this.#problems.length >= rejectsShown) return
    const text = `line ${reject.line}: ${printable(reject.reason)}`
    this.#problems.push(text)
    if (this.#c.options.json !== true) this.#c.terminal.err(`  ${text}`)
  }

  #rate(before: ImportCounts): number {
    return ((this.#counts.rows - before.rows) / Math.max(1, performance.now() - this.#startedMs)) * 1_000
  }

  #tell(rate: number): void {
    const { options, terminal, source } = this.#c
    const now = performance.now()
    if (options.json !== true || now - this.#toldMs < tellEveryMs) return
    this.#toldMs = now
    const total = source.total
    const share = total === undefined || total === 0 ? undefined : source.done() / total
    const eta = share === undefined || share <= 0 ? null : (((now - this.#startedMs) / share) * (1 - share)) / 1_000
    terminal.out(
      JSON.stringify({
        event: 'progress',
        ...this.#counts,
        done: source.done(),
        total: total ?? null,
        rows_per_s: Math.round(rate),
        eta_s: eta === null ? null : Math.round(eta),
      }),
    )
  }

  #report(before: ImportCounts, interrupted: boolean): void {
    const { options, terminal, source } = this.#c
    const seconds = (performance.now() - this.#startedMs) / 1_000
    const { missing, emptyRows } = source.tally()
    const { rows, messages, readings, rejected } = this.#counts
    if (options.json === true) {
      terminal.out(
        JSON.stringify({
          event: interrupted ? 'interrupted' : 'done',
          ...this.#counts,
          missing_values: missing,
          empty_rows: emptyRows,
          seconds,
          rows_per_s: Math.round(this.#rate(before)),
          problems: this.#problems,
        }),
      )
    } else {
      terminal.out(`  rows ${count(rows)}  messages ${count(messages)}  readings ${count(readings)}  rejected ${count(rejected)}`)
      terminal.out(
        `  missing values ${count(missing)}  rows without any value ${count(emptyRows)}  ${seconds.toFixed(1)} s (${count(this.#rate(before))} rows/s)`,
      )
      if (rejected > rejectsShown) {
        terminal.out(
          `  ${count(rejected)} rows were not taken${options.rejects === undefined ? '; --rejects FILE keeps them' : `: ${options.rejects}`}`,
        )
      }
      if (interrupted) terminal.out(this.#stateFile === undefined ? '  interrupted' : '  interrupted; the same command with --resume goes on')
    }
    if (interrupted) process.exitCode = Exit.interrupted
    else if (rejected > 0 && options.skipInvalid !== true) process.exitCode = Exit.refused
  }

  #usage(detail: string): KymoError {
    return new KymoError('usage', { detail, facts: { command: 'kymo import' } })
  }
}
