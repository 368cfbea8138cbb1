import fs from 'node:fs'
import path from 'node:path'
import type { Command } from 'commander'
import { InvalidArgumentError } from 'commander'
import { KymoError } from '../../core/errors.ts'
import { epochToUs, parseRfc3339 } from '../../wire/time.ts'
import { bytes, milliseconds } from '../format.ts'
import { examples, jsonOption } from '../options.ts'
import { Progress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'
import { interruptible } from './interrupt.ts'
import { planOf } from './plan.ts'
import { Repository, type Backup } from './repository.ts'
import { restore, restoreArchive } from './restore.ts'

interface RestoreOptions {
  readonly data: string
  readonly backup?: string
  readonly until?: number
  readonly json?: boolean
}

export function declare(command: Command, terminal: Terminal): void {
  command
    .argument('<dir-or-file>', 'where the backups are, or an archive that kymo backup -o has written')
    .requiredOption('--data <dir>', 'the data directory to be made; nothing may be there')
    .option('--backup <id>', 'which backup (the newest)')
    .option('--until <time>', 'only what was received until this moment: RFC 3339, or an epoch number', parseUntil)
  jsonOption(command)
  examples(command, [
    ['kymo restore /mnt/backups --data ./kymo-new', 'the newest backup; then: kymo start --data ./kymo-new'],
    ['kymo restore /mnt/backups --data ./kymo-new --until 2026-11-21T10:15:00Z', 'as it was then; kymo backup list shows which moments there are'],
    ['kymo restore kymo.tar.zst --data ./kymo-new', 'from an archive'],
  ]).action(async (from: string, options: RestoreOptions) => {
    const startedMs = performance.now()
    const until = options.until === undefined ? {} : { untilUs: options.until }
    const { signal, done } = interruptible()
    const isArchive = fs.statSync(from, { throwIfNoEntry: false })?.isFile() === true
    if (isArchive && options.backup !== undefined) throw new KymoError('usage', { detail: 'An archive holds one backup: leave --backup away.' })
    const begun = (total: number): Progress => new Progress(terminal, { label: 'restore', total, quiet: options.json === true })
    let backup: Backup
    let total: number
    try {
      if (isArchive) {
        const progress = begun(fs.statSync(from).size)
        const onProgress = (n: number): void => progress.update(n, bytes(n))
        backup = await restoreArchive({ file: from, target: options.data, ...until, signal, onProgress }).finally(() => progress.end())
        total = backup.files.reduce((sum, file) => sum + file.bytes, 0)
      } else {
        const repository = Repository.open(from)
        const plan = planOf(repository, { ...until, ...(options.backup === undefined ? {} : { id: options.backup }) })
        ;({ backup } = plan)
        total = plan.files.reduce((sum, file) => sum + file.bytes, 0)
        const progress = begun(total)
        const onProgress = (n: number): void => progress.update(n, bytes(n))
        await restore({ repository, plan, target: options.data, ...until, signal, onProgress }).finally(() => progress.end())
      }
    } finally {
      done()
    }
    const result = {
      id: backup.id,
      data: path.resolve(options.data),
      until: new Date((options.until ?? backup.created_us) / 1000).toISOString(),
      bytes: total,
      ms: Math.round(performance.now() - startedMs),
    }
    if (options.json === true) terminal.out(JSON.stringify({ event: 'done', ...result }))
    else {
      terminal.out(
        `  ${terminal.colors.green('✓')} ${result.data} is backup ${backup.id}, as of ${result.until}   ${bytes(total)} in ${milliseconds(result.ms)}`,
      )
      terminal.out(`    kymo start --data ${options.data}`)
    }
  })
}

function parseUntil(text: string): number {
  const us = /^\d{1,16}(\.\d{1,9})?$/.test(text) ? epochToUs(Number(text)) : parseRfc3339(text)
  if (us === undefined || Number.isNaN(us)) throw new InvalidArgumentError('A moment is RFC 3339, as 2026-11-21T10:15:00Z, or an epoch number.')
  return us
}
