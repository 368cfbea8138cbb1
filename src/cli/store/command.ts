import process from 'node:process'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { interruptible } from '../backup/interrupt.ts'
import { Exit } from '../exit.ts'
import { bytes, count } from '../format.ts'
import { examples, jsonOption } from '../options.ts'
import { Progress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'
import { trustOptions } from '../trust.ts'
import { declareMigrate } from './migrate.ts'
import { openStoreFiles } from './source.ts'
import { verifyStore, type StoreReport } from './verify.ts'

interface VerifyOptions {
  readonly data?: string
  readonly url?: string
  readonly token?: string
  readonly sample?: number
  readonly json?: boolean
}

export function declare(command: Command, terminal: Terminal): void {
  const verify = command
    .command('verify')
    .description('read every file of the store and its checksum, and compare rollups with readings; changes nothing')
    .option('--data <dir>', 'the data directory (./kymo-data); a server that runs there is asked and goes on')
    .addOption(new Option('--url <url>', 'a server, also of another machine, in place of a data directory').env('KYMO_URL'))
    .addOption(new Option('--token <token>', 'an API token with the scope admin, where the server asks for one').env('KYMO_TOKEN'))
    .option('--sample <n>', 'series whose rollups are compared; 0: none', wholeNumber)
  trustOptions(verify)
  jsonOption(verify)
  verify.action((options: VerifyOptions) => run(options, terminal))
  declareMigrate(command, terminal)
  examples(command, [
    ['kymo store verify --data ./kymo-data', 'exit code 5 when a file is missing or damaged, with what is lost; beside a server or without one'],
    ['kymo store verify --url http://10.0.0.5:8080 --token tk_…', 'of a server on another machine; its files come over the network'],
  ])
}

function wholeNumber(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('A number of series is expected.')
  return Number(text)
}

async function run(options: VerifyOptions, terminal: Terminal): Promise<void> {
  const { signal, done } = interruptible()
  const url = options.data === undefined ? options.url : undefined
  const source = await openStoreFiles({
    ...(url === undefined ? {} : { url }),
    ...(options.data === undefined ? {} : { data: options.data }),
    ...(options.token === undefined ? {} : { token: options.token }),
    terminal,
  })
  let report: StoreReport
  try {
    const total = source.files.reduce((sum, file) => sum + file.bytes, 0)
    const progress = new Progress(terminal, { label: 'verify', total, quiet: options.json === true })
    const sample = options.sample === undefined ? {} : { sample: options.sample }
    report = await verifyStore(source, { signal, ...sample, onBytes: (n) => progress.update(n, bytes(n)) }).finally(() => progress.end())
  } finally {
    await source.close()
    done()
  }
  if (options.json === true) terminal.out(JSON.stringify(report))
  else for (const line of lines(report, terminal)) terminal.out(line)
  if (!report.ok) process.exitCode = Exit.storage
}

function lines(report: StoreReport, { colors }: Terminal): string[] {
  const out = report.damage.flatMap(({ file, detail, lost }) => [`  ${colors.red('✗')} ${file} ${detail}`, `    lost: ${lost}`])
  const read = `${count(report.files)} files, ${bytes(report.bytes)}`
  const { compared } = report
  const sample =
    compared === undefined
      ? `rollups were not compared: ${report.not_compared ?? ''}`
      : `rollups of ${count(compared.series)} series compared with their readings in ${count(compared.buckets)} hours`
  if (report.ok) return [`  ${colors.green('✓')} ${read}: all whole`, `    ${sample}`]
  const fix = 'Nothing was removed, and reads of other files go on. A backup may have it whole:  kymo backup verify DIR, then kymo restore'
  return [...out, `  ${read}; ${count(report.whole)} whole; ${sample}`, `  → ${fix}`]
}
