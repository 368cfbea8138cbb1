import process from 'node:process'
import type { Command } from 'commander'
import { places } from '../core/config-engines.ts'
import { nodeClock, nodeDisk } from '../core/env/node-env.ts'
import { KymoError } from '../core/errors.ts'
import { repairLog } from '../log/embedded/repair.ts'
import { verifyLog } from '../log/embedded/verify.ts'
import { Exit } from './exit.ts'
import { bytes, count, table } from './format.ts'
import { takeLock } from './lock.ts'
import { examples, jsonOption } from './options.ts'
import { configFor } from './settings.ts'
import type { Terminal } from './terminal.ts'
import { version } from './version.ts'

interface LogOptions {
  readonly data?: string
  readonly json?: boolean
}

export function declare(command: Command, terminal: Terminal): void {
  dataOptions(command.command('verify').description('read every record and its checksum; changes nothing')).action((options: LogOptions) =>
    verify(options, terminal),
  )
  dataOptions(command.command('repair').description('set damaged ranges aside, so that the log can be read again; only while no server runs')).action(
    (options: LogOptions) => repair(options, terminal),
  )
  examples(command, [
    ['kymo log verify --data ./kymo-data', 'exit code 5 when something is damaged, with file and offset; may run beside a server'],
    ['kymo log repair --data ./kymo-data', 'keeps the damaged bytes in .damaged files and says which offsets are lost'],
  ])
}

function dataOptions(command: Command): Command {
  return jsonOption(command.option('--data <dir>', "the server's data directory (./kymo-data)"))
}

/** Offsets are beyond what JSON numbers hold: decimal text. */
function json(value: unknown): string {
  return JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? v.toString() : v))
}

async function verify(options: LogOptions, terminal: Terminal): Promise<void> {
  const { logDir } = places(await configFor({ data: options.data, env: terminal.env }))
  const report = verifyLog(logDir, nodeDisk)
  if (options.json === true) terminal.out(json(report))
  else {
    const rows = report.topics.map((t) => [
      t.topic,
      count(t.segments),
      count(t.records),
      bytes(t.bytes),
      `${t.first}`,
      `${t.next}`,
      count(t.damage.length),
      bytes(t.unfinishedBytes),
    ])
    const titles = ['topic', 'segments', 'records', 'size', 'first', 'next', 'damaged', 'unfinished']
    for (const line of table(
      titles.map((title, i) => (i === 0 ? { title } : { title, align: 'right' as const })),
      rows,
      terminal.colors.dim,
    ))
      terminal.out(line)
    for (const topic of report.topics) {
      for (const range of topic.damage) {
        terminal.out(
          `  ${terminal.colors.red('✗')} ${range.file}: bytes ${range.from} to ${range.to}, ` +
            `offsets ${range.first} to ${range.next}: ${range.reason}`,
        )
      }
    }
    terminal.out(report.ok ? `  ${terminal.colors.green('✓')} no damage in ${report.dir}` : '  kymo log repair sets the damaged ranges aside')
  }
  if (!report.ok) process.exitCode = Exit.storage
}

async function repair(options: LogOptions, terminal: Terminal): Promise<void> {
  const { dataDir, logDir } = places(await configFor({ data: options.data, env: terminal.env }))
  if (!nodeDisk.exists(logDir)) throw new KymoError('not_found', { detail: `There is no log in ${logDir}.` })
  const outcome = takeLock(dataDir, { version: version(), now: new Date() })
  if (!outcome.taken) {
    const { holder } = outcome
    throw new KymoError('already_open', {
      detail: `a server uses ${dataDir}${holder === undefined ? '' : ` (pid ${holder.pid}, ${holder.urls.http ?? 'starting'})`}`,
      facts: { fix: 'Stop it first; a log is repaired only while nobody writes to it.' },
    })
  }
  try {
    const report = repairLog(logDir, nodeDisk, nodeClock.nowUs())
    if (options.json === true) terminal.out(json(report))
    else {
      for (const lost of report.lost) {
        terminal.out(
          `  ${lost.topic}: offsets ${lost.first} to ${lost.next} are lost: ${lost.reason}` +
            (lost.keptIn === undefined ? '' : `. The bytes are kept in ${lost.keptIn}`),
        )
      }
      terminal.out(
        report.lost.length === 0 && report.headers === 0
          ? '  nothing was damaged'
          : `  ${count(report.lost.length)} damaged ranges set aside, ${count(report.headers)} headers written anew`,
      )
    }
  } finally {
    outcome.lock.release()
  }
}
