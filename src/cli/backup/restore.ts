import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { nodeClock, nodeDisk } from '../../core/env/node-env.ts'
import { KymoError } from '../../core/errors.ts'
import { Topic } from '../../core/record.ts'
import type { DataFormats } from '../../core/snapshot.ts'
import { cutTopic, keepLogId, logFormat, writeLineage } from '../../log/embedded/snapshot.ts'
import { storeFormat } from '../../store/duckdb/schema.ts'
import { sealedFormat } from '../../store/duckdb/sealed/format.ts'
import { forecastsFile } from '../../store/forecasts/schema.ts'
import { formatVersion as metaFormat } from '../../store/meta/schema.ts'
import { takeLock } from '../lock.ts'
import { version } from '../version.ts'
import { diskError, readFile, syncFolder, writeFile } from './files.ts'
import { readArchive } from './archive.ts'
import { rangeText, type Plan } from './plan.ts'
import { damaged, type Backup, type Repository } from './repository.ts'

const known: Required<DataFormats> = {
  log: logFormat,
  store: storeFormat,
  sealed: sealedFormat,
  meta: metaFormat,
  forecasts: forecastsFile.format,
}

interface Making {
  /** The data directory to be made. */
  readonly target: string
  readonly untilUs?: number
  readonly signal: AbortSignal
  readonly onProgress?: (bytes: number) => void
}

/**
 * Makes the data directory `target` from a backup: in a folder beside it, which takes its name when all is there, whole and on disk. Throws `restore_refused`
 * when there is something already, `backup_format` or `backup_damaged`.
 */
export async function restore(o: Making & { readonly repository: Repository; readonly plan: Plan }): Promise<void> {
  const { plan, repository, signal } = o
  checkFormats(plan.backup)
  await make(o, async (building) => {
    let done = 0
    for (const file of plan.files) {
      signal.throwIfAborted()
      const to = path.join(building, file.path)
      fs.mkdirSync(path.dirname(to), { recursive: true, mode: 0o750 })
      const object = repository.object(file.sha256)
      if (!fs.existsSync(object)) throw damaged(object, `it is missing; it is ${file.path}`)
      const found = await writeFile(readFile(object), to, { signal, onBytes: (n) => o.onProgress?.((done += n)) })
      if (found.bytes !== file.bytes || found.sha256 !== file.sha256) throw damaged(object, `it is damaged; it is ${file.path}`)
    }
    return plan
  })
}

/** The same from an archive, which is read once. Its own moments alone can be reached. `onProgress`: bytes of the archive. */
export async function restoreArchive(o: Making & { readonly file: string }): Promise<Backup> {
  const { signal, untilUs } = o
  const plan = await make(o, async (building) => {
    const backup = await readArchive(o.file, {
      signal,
      ...(o.onProgress === undefined ? {} : { onProgress: o.onProgress }),
      async take(one) {
        const to = path.join(building, one.path)
        fs.mkdirSync(path.dirname(to), { recursive: true, mode: 0o750 })
        return writeFile(one.body, to, { signal })
      },
    })
    checkFormats(backup)
    if (untilUs !== undefined && (untilUs < backup.from_us || untilUs > backup.created_us))
      throw new KymoError('restore_refused', {
        detail: `${new Date(untilUs / 1000).toISOString()} cannot be reached from ${o.file}: what a store holds cannot be cut.`,
        facts: { fix: `Possible: ${rangeText(backup, backup.created_us)}` },
      })
    return { backup, topics: Object.keys(backup.log.ends) }
  })
  return plan.backup
}

async function make(o: Making, fill: (building: string) => Promise<Pick<Plan, 'backup' | 'topics'>>): Promise<Pick<Plan, 'backup' | 'topics'>> {
  const target = path.resolve(o.target)
  checkEmpty(target)
  const building = `${target}.restoring`
  try {
    fs.mkdirSync(path.dirname(target), { recursive: true, mode: 0o750 })
    const outcome = takeLock(building, { version: version(), now: new Date() })
    if (!outcome.taken) throw new KymoError('restore_refused', { detail: `Another restore into ${target} is under way.` })
    let plan: Pick<Plan, 'backup' | 'topics'>
    try {
      // What one that was killed has left.
      for (const name of fs.readdirSync(building))
        if (!name.startsWith('kymo.')) fs.rmSync(path.join(building, name), { recursive: true, force: true })
      plan = await fill(building)
      o.signal.throwIfAborted()
      endLog(plan, path.join(building, 'log'), o.untilUs)
      syncFolders(building)
    } finally {
      outcome.lock.release()
    }
    fs.rmSync(path.join(building, 'kymo.guard'), { force: true })
    checkEmpty(target)
    fs.renameSync(building, target)
    syncFolder(path.dirname(target))
    return plan
  } catch (thrown) {
    throw diskError(thrown, target)
  }
}

function endLog({ backup, topics }: Pick<Plan, 'backup' | 'topics'>, dir: string, untilUs: number | undefined): void {
  keepLogId(nodeDisk, dir, backup.log.id, nodeClock.nowUs())
  // What is written from here on is another continuation than that of the log that was backed up.
  writeLineage(nodeDisk, dir, randomUUID())
  for (const topic of topics.filter((one) => fs.existsSync(path.join(dir, one, '0')))) {
    const keep = topic === Topic.telemetry ? BigInt(backup.store_next ?? '0') : 0n
    cutTopic(nodeDisk, path.join(dir, topic, '0'), { logId: backup.log.id, keep, ...(untilUs === undefined ? {} : { untilUs }) })
  }
}

function checkFormats(backup: Backup): void {
  for (const part of ['log', 'store', 'sealed', 'meta', 'forecasts'] as const) {
    // A backup of an earlier version knows of no forecasts.
    const found = backup.formats[part] ?? 0
    if (found > known[part])
      throw new KymoError('backup_format', {
        detail: `The ${part} of backup ${backup.id} has format ${found} (Kymo ${backup.version}); this version knows ${known[part]}.`,
        facts: { part, found, known: known[part] },
      })
  }
}

function checkEmpty(target: string): void {
  if (!fs.existsSync(target)) return
  if (fs.statSync(target).isDirectory() && fs.readdirSync(target).length === 0) return
  throw new KymoError('restore_refused', {
    detail: `${target} is not empty. Nothing that is there is replaced.`,
    facts: { fix: 'Name a new directory with --data, and start on it:  kymo start --data NEW' },
  })
}

function syncFolders(dir: string): void {
  for (const entry of fs.readdirSync(dir, { withFileTypes: true })) if (entry.isDirectory()) syncFolders(path.join(dir, entry.name))
  syncFolder(dir)
}
