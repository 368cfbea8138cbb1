import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import type { Command } from 'commander'
import { Option } from 'commander'
import { KymoError } from '../../core/errors.ts'
import { Exit } from '../exit.ts'
import { bytes, count, milliseconds, table, time } from '../format.ts'
import { takeLock } from '../lock.ts'
import { examples, jsonOption, timeZoneOption } from '../options.ts'
import { trustOptions } from '../trust.ts'
import { Progress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'
import { version } from '../version.ts'
import { digestOf, readArchive, writeArchive } from './archive.ts'
import { copySnapshot } from './copy.ts'
import { interruptible } from './interrupt.ts'
import { rangeText, reachOf } from './plan.ts'
import { Repository, type Backup } from './repository.ts'
import { openSource } from './source.ts'

interface BackupOptions {
  readonly data?: string
  readonly url?: string
  readonly token?: string
  readonly storeUrl?: string
  readonly metaUrl?: string
  readonly forecastUrl?: string
  readonly output?: string
  readonly json?: boolean
}

/** `--json` belongs to the command above as well, which takes it; so options are asked for with those. */
interface ListOptions {
  readonly json?: boolean
  readonly timeZone?: string
  readonly backup?: string
}

export function declare(command: Command, terminal: Terminal): void {
  command
    .argument('[dir]', 'where the backups are kept; made when it is not there')
    .option('-o, --output <file>', 'one archive in place of a directory: *.tar, *.tar.gz or *.tar.zst; all is copied each time')
    .option('--data <dir>', 'the data directory (./kymo-data); a server that runs there is asked and goes on')
    .addOption(new Option('--url <url>', 'a server, also of another machine, in place of a data directory').env('KYMO_URL'))
    .addOption(new Option('--token <token>', 'an API token with the scope admin, where the server asks for one').env('KYMO_TOKEN'))
    .addOption(new Option('--store-url <url>', 'postgres://…: the store is there, and pg_dump copies it into the directory').env('KYMO_STORE_URL'))
    .addOption(new Option('--meta-url <url>', 'the metadata too, when they are in another database').env('KYMO_META_URL'))
    // Not from the environment: a data directory whose forecasts are elsewhere is backed up as what it is.
    .option('--forecast-url <url>', 'predictions and models, when they are in a database; what is in a data directory is a backup of its own')
  trustOptions(command)
  jsonOption(command)
  command.action(async (dir: string | undefined, options: BackupOptions) => {
    if (options.output !== undefined) {
      if (dir !== undefined) throw new KymoError('usage', { detail: 'Either a directory or --output', facts: { command: 'kymo backup' } })
      await archive(options.output, options, terminal)
      return
    }
    if (dir === undefined) throw new KymoError('usage', { detail: 'the directory for the backup is missing', facts: { command: 'kymo backup' } })
    const outside = [options.storeUrl ?? '', options.metaUrl ?? '', options.forecastUrl ?? ''].filter((url) => /^postgres(?:ql)?:/.test(url))
    if (outside.length > 0) {
      const { backUpPostgres } = await import('./postgres.ts')
      await backUpPostgres(outside, dir, terminal, options.json === true)
      return
    }
    await backUp(dir, options, terminal)
  })
  timeZoneOption(jsonOption(command.command('list').description('the backups in a directory')))
    .argument('<dir>')
    .action(list(terminal))
  jsonOption(command.command('verify').description('read everything that the backups are made of, and its checksums'))
    .argument('<dir-or-file>', 'a directory with backups, or an archive')
    .option('--backup <id>', 'only this one')
    .action(verify(terminal))
  jsonOption(command.command('delete').description('remove a backup, and what no other one needs'))
    .argument('<dir>')
    .argument('<id>', 'as kymo backup list shows it')
    .action(remove(terminal))
  examples(command, [
    ['kymo backup /mnt/backups --data /var/lib/kymo', 'beside a running server or of a stopped one; copies only what is not there yet'],
    ['kymo backup /mnt/backups --url http://10.0.0.5:8080 --token tk_…', 'of a server on another machine'],
    ['kymo backup /mnt/backups --store-url postgres://kymo@db/kymo', 'of a store in PostgreSQL, by pg_dump'],
    ['kymo backup list /mnt/backups', 'what can be restored, and to which moments'],
    ['kymo backup verify /mnt/backups', 'exit code 5 when a file is missing or damaged'],
    ['kymo backup -o kymo.tar.zst --data /var/lib/kymo', 'one file, to be taken elsewhere'],
    ['kymo restore /mnt/backups --data /var/lib/kymo-new', 'the way back; of an archive too'],
  ])
}

async function backUp(dir: string, options: BackupOptions, terminal: Terminal): Promise<void> {
  const startedMs = performance.now()
  const { signal, done } = interruptible()
  const repository = Repository.make(dir)
  await locked(repository, async () => {
    // Left of one that was killed; and the scratch folder is one of them.
    const abandoned = repository.abandoned()
    repository.tidy()
    const id = repository.expect()
    const source = await openSource({ ...given(options), id, abandoned, scratch: path.join(repository.dir, `tmp-meta-${process.pid}`), terminal })
    try {
      const total = source.snapshot.files.reduce((sum, file) => sum + file.bytes, 0)
      const progress = new Progress(terminal, { label: 'backup', total, quiet: options.json === true })
      const { backup, newBytes, linkedBytes } = await copySnapshot({
        source,
        repository,
        signal,
        onProgress: (n) => progress.update(n, bytes(n)),
      }).finally(() => progress.end())
      const result = {
        ...summary(backup, [backup]),
        dir: repository.dir,
        source: source.from,
        new_bytes: newBytes,
        linked_bytes: linkedBytes,
        stalled_ms: Math.round(source.snapshot.stalled_ms),
        ms: Math.round(performance.now() - startedMs),
      }
      if (options.json === true) terminal.out(JSON.stringify({ event: 'done', ...result }))
      else {
        terminal.out(`  ${terminal.colors.green('✓')} backup ${backup.id} in ${repository.dir}   ${milliseconds(result.ms)}`)
        terminal.out(`    ${count(backup.files.length)} files, ${bytes(result.bytes)}; new ${bytes(newBytes)}, of it linked ${bytes(linkedBytes)}`)
        terminal.out(`    can be restored to any moment from ${rangeText(backup, backup.created_us)}`)
      }
    } finally {
      await source.close().catch((thrown: unknown) => {
        // The server removes what nobody asks for.
        if (options.json !== true) terminal.err(`  the snapshot was not given back: ${thrown instanceof Error ? thrown.message : String(thrown)}`)
      })
      repository.tidy()
      done()
    }
  })
}

async function archive(file: string, options: BackupOptions, terminal: Terminal): Promise<void> {
  const startedMs = performance.now()
  const { signal, done } = interruptible()
  const scratch = `${path.resolve(file)}.${process.pid}.meta`
  try {
    const source = await openSource({ ...given(options), scratch, terminal })
    try {
      const total = source.snapshot.files.reduce((sum, one) => sum + one.bytes, 0)
      const progress = new Progress(terminal, { label: 'backup', total, quiet: options.json === true })
      const onProgress = (n: number): void => progress.update(n, bytes(n))
      const { backup, bytes: size } = await writeArchive({ source, file, signal, onProgress }).finally(() => progress.end())
      const facts = { ...summary(backup, [backup]), file: path.resolve(file), file_bytes: size, source: source.from }
      const result = { ...facts, stalled_ms: Math.round(source.snapshot.stalled_ms), ms: Math.round(performance.now() - startedMs) }
      if (options.json === true) terminal.out(JSON.stringify({ event: 'done', ...result }))
      else {
        terminal.out(`  ${terminal.colors.green('✓')} backup ${backup.id} is ${file}   ${bytes(size)}   ${milliseconds(result.ms)}`)
        terminal.out(
          `    ${count(backup.files.length)} files, ${bytes(result.bytes)}; can be restored to any moment from ${rangeText(backup, backup.created_us)}`,
        )
      }
    } finally {
      await source.close().catch((thrown: unknown) => {
        // The server removes what nobody asks for.
        if (options.json !== true) terminal.err(`  the snapshot was not given back: ${thrown instanceof Error ? thrown.message : String(thrown)}`)
      })
    }
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true })
    done()
  }
}

async function verifyArchive(file: string, json: boolean, terminal: Terminal): Promise<void> {
  const { signal, done } = interruptible()
  const progress = new Progress(terminal, { label: 'verify', total: fs.statSync(file).size, quiet: json })
  const onProgress = (n: number): void => progress.update(n, bytes(n))
  const backup = await readArchive(file, { take: digestOf, signal, onProgress }).finally(() => {
    progress.end()
    done()
  })
  const found = summary(backup, [backup])
  if (json) terminal.out(JSON.stringify({ ok: true, backups: 1, files: backup.files.length, bytes: found.bytes, damage: [] }))
  else terminal.out(`  ${terminal.colors.green('✓')} backup ${backup.id}, ${count(backup.files.length)} files, ${bytes(found.bytes)}: all whole`)
}

function given(o: BackupOptions): { url?: string; token?: string; data?: string } {
  // A data directory that is named goes before a server that only the environment names.
  const url = o.data === undefined ? o.url : undefined
  return {
    ...(url === undefined ? {} : { url }),
    ...(o.token === undefined ? {} : { token: o.token }),
    ...(o.data === undefined ? {} : { data: o.data }),
  }
}

async function locked<T>(repository: Repository, work: () => Promise<T>): Promise<T> {
  const outcome = takeLock(repository.dir, { version: version(), now: new Date() })
  if (!outcome.taken)
    throw new KymoError('already_open', { detail: `Another backup into ${repository.dir} is under way.`, facts: { fix: 'Wait until it is done.' } })
  try {
    return await work()
  } finally {
    outcome.lock.release()
  }
}

function summary(backup: Backup, all: readonly Backup[]): Record<string, unknown> & { readonly bytes: number } {
  return {
    id: backup.id,
    created: new Date(backup.created_us / 1000).toISOString(),
    version: backup.version,
    restorable_from: backup.from_us === 0 ? null : new Date(backup.from_us / 1000).toISOString(),
    restorable_to: new Date(reachOf(all, backup) / 1000).toISOString(),
    files: backup.files.length,
    bytes: backup.files.reduce((sum, file) => sum + file.bytes, 0),
  }
}

function list(terminal: Terminal) {
  return (dir: string, _own: ListOptions, self: Command): void => {
    const options: ListOptions = self.optsWithGlobals()
    const { backups, unreadable, unfinished } = Repository.open(dir).list()
    if (options.json === true) {
      const broken = unreadable.map(({ id, error }) => ({ id, code: error.code, detail: error.message }))
      terminal.out(JSON.stringify({ items: backups.map((backup) => summary(backup, backups)), unreadable: broken, unfinished }))
      return
    }
    const shown = (us: number): string => (us === 0 ? 'its beginning' : time(us / 1000, options.timeZone))
    const rows = backups.map((b) => [
      b.id,
      shown(b.from_us),
      shown(reachOf(backups, b)),
      count(b.files.length),
      bytes(summary(b, backups).bytes),
      b.version,
    ])
    const titles = [
      { title: 'id' },
      { title: 'restorable from' },
      { title: 'to' },
      { title: 'files', align: 'right' },
      { title: 'size', align: 'right' },
    ] as const
    for (const line of table([...titles, { title: 'version' }], rows, terminal.colors.dim)) terminal.out(line)
    for (const { id, error } of unreadable) terminal.out(`  ${terminal.colors.red('✗')} ${id}: ${error.message}`)
    for (const id of unfinished) terminal.out(`  ${terminal.colors.yellow('…')} ${id}: not finished; under way, or broken off`)
  }
}

function verify(terminal: Terminal) {
  return async (dir: string, _own: ListOptions, self: Command): Promise<void> => {
    const options: ListOptions = self.optsWithGlobals()
    if (fs.statSync(dir, { throwIfNoEntry: false })?.isFile() === true) return verifyArchive(dir, options.json === true, terminal)
    const repository = Repository.open(dir)
    const { backups, unreadable } = options.backup === undefined ? repository.list() : { backups: [repository.read(options.backup)], unreadable: [] }
    const objects = new Map(backups.flatMap((backup) => backup.files.map((file) => [file.sha256, file] as const)))
    const total = [...objects.values()].reduce((sum, file) => sum + file.bytes, 0)
    const progress = new Progress(terminal, { label: 'verify', total, quiet: options.json === true })
    const wrong = new Map<string, string>()
    let done = 0
    for (const file of objects.values()) {
      const fault = await repository.check(file)
      if (fault !== undefined) wrong.set(file.sha256, fault)
      progress.update((done += file.bytes), bytes(done))
    }
    progress.end()
    const damage = backups.flatMap(({ id, files }) =>
      files.flatMap(({ path: name, sha256 }) => {
        const fault = wrong.get(sha256)
        return fault === undefined ? [] : [{ backup: id, path: name, object: repository.object(sha256), detail: fault }]
      }),
    )
    for (const { id, error } of unreadable) damage.push({ backup: id, path: '', object: '', detail: error.message })
    const ok = damage.length === 0
    if (options.json === true)
      terminal.out(JSON.stringify({ ok, backups: backups.length + unreadable.length, files: objects.size, bytes: total, damage }))
    else {
      for (const one of damage)
        terminal.out(`  ${terminal.colors.red('✗')} ${one.backup}: ${one.path === '' ? '' : `${one.path} (${one.object}) `}${one.detail}`)
      if (ok)
        terminal.out(`  ${terminal.colors.green('✓')} ${count(backups.length)} backups, ${count(objects.size)} files, ${bytes(total)}: all whole`)
    }
    if (!ok) process.exitCode = Exit.storage
  }
}

function remove(terminal: Terminal) {
  return async (dir: string, id: string, _own: ListOptions, self: Command): Promise<void> => {
    const options: ListOptions = self.optsWithGlobals()
    const repository = Repository.open(dir)
    const freed = await locked(repository, () => Promise.resolve(repository.remove(id)))
    terminal.out(options.json === true ? JSON.stringify({ id, freed_bytes: freed }) : `  removed ${id}; ${bytes(freed)} freed`)
  }
}
