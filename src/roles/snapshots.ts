import fs from 'node:fs'
import path from 'node:path'
import type { Env, Timer } from '../core/env.ts'
import { asKymoError, KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import { Topic } from '../core/record.ts'
import type { Snapshot, SnapshotFile, SnapshotService } from '../core/snapshot.ts'
import { logFormat, readClosedLog, readLineage, segmentBase, segmentsBelow } from '../log/embedded/snapshot.ts'
import { link, listStore, type StoreSnapshot } from '../store/duckdb/snapshot.ts'
import { readSpans } from '../store/duckdb/spans.ts'
import { backupForecasts } from '../store/forecasts/backup.ts'
import { forecastsFile as forecastsKind } from '../store/forecasts/schema.ts'
import { backupMeta } from '../store/meta/backup.ts'
import { formatVersion as metaFormat } from '../store/meta/schema.ts'

export interface SnapshotsOptions {
  /** For the links; on the file system of log and store. */
  readonly dir: string
  readonly logDir: string
  readonly metaFile: string
  /** Absent: forecasts are in a database. */
  readonly forecastsFile?: string
  readonly log: { readonly id: string; end(topic: string): bigint }
  readonly store: { snapshot(into: string): Promise<StoreSnapshot> }
  readonly env: Env
  readonly version: string
  readonly leaseMs?: number
}

export interface Snapshots extends SnapshotService {
  stop(): Promise<void>
}

const described = 'snapshot.json'

/** Opens the snapshots of a server. What a server that was killed left is removed: who copied from it must begin anew. */
export function openSnapshots(o: SnapshotsOptions): Snapshots {
  fs.rmSync(o.dir, { recursive: true, force: true })
  const held = new Map<string, { readonly snapshot: Snapshot; timer: Timer }>()
  const making = new Map<string, Promise<unknown>>()
  let stopped = false

  const folder = (id: string): string => path.join(o.dir, id)
  const remove = async (id: string): Promise<boolean> => {
    await making.get(id)?.catch(() => undefined) // who asked for it is told
    const known = held.get(id)
    if (known === undefined) return false
    known.timer.cancel()
    held.delete(id)
    await fs.promises.rm(folder(id), { recursive: true, force: true })
    if (held.size === 0 && making.size === 0) await fs.promises.rm(o.dir, { recursive: true, force: true })
    return true
  }
  const lease = (id: string): Timer =>
    o.env.clock.after(o.leaseMs ?? limits.snapshotLeaseMs, () => {
      remove(id).catch((thrown: unknown) => o.env.logger.warn('a snapshot was not removed', { id, error: asKymoError(thrown).message }))
    })

  return {
    async create(id = o.env.random.uuid()) {
      if (stopped) throw new KymoError('shutting_down')
      if (held.size + making.size >= limits.snapshotsMax)
        throw new KymoError('overloaded', {
          detail: `${limits.snapshotsMax} snapshots are held already: another backup is under way, or one was broken off within the last minutes.`,
          retryAfterS: 60,
        })
      if (held.has(id) || making.has(id)) throw new KymoError('already_exists', { detail: `There is a snapshot ${id} already.` })
      try {
        const taking = take(o, id, folder(id))
        making.set(id, taking)
        const snapshot = await taking
        held.set(id, { snapshot, timer: lease(id) })
        return snapshot
      } catch (thrown) {
        await fs.promises.rm(folder(id), { recursive: true, force: true })
        throw thrown
      } finally {
        making.delete(id)
      }
    },
    get(id) {
      const known = held.get(id)
      if (known === undefined) return undefined
      known.timer.cancel()
      known.timer = lease(id)
      return { snapshot: known.snapshot, folder: folder(id) }
    },
    file(id, name) {
      const known = this.get(id)?.snapshot.files.find((file) => file.path === name)
      return known === undefined ? undefined : { path: path.join(folder(id), name), bytes: known.bytes }
    },
    remove,
    async stop() {
      stopped = true
      for (const id of held.keys()) await remove(id)
    },
  }
}

/**
 * The order makes it consistent. First where groups stand and the segments that there are, so that nothing that the store will need is deleted before
 * it is linked. Then the store: it holds all below an offset. Then metadata, which hold at least what groups have acknowledged. Last the ends of the
 * log, which are at or beyond where the store is. What lies between is read from the log when the copy is started, as after a crash.
 */
async function take(o: SnapshotsOptions, id: string, into: string): Promise<Snapshot> {
  fs.mkdirSync(into, { recursive: true, mode: 0o750 })
  linkLog(o.logDir, path.join(into, 'log'), true)
  fs.mkdirSync(path.join(into, 'store'), { mode: 0o750 })
  const store = await o.store.snapshot(path.join(into, 'store'))
  await backupMeta(o.metaFile, path.join(into, 'meta.sqlite'))
  // They are of readings that are in the log by now.
  const forecasts = await copyForecasts(o.forecastsFile, into)
  const topics = linkLog(o.logDir, path.join(into, 'log'), false)
  const ends = Object.fromEntries(topics.map((topic) => [topic, String(o.log.end(topic))]))
  const createdUs = o.env.clock.nowUs()
  // Segments that were begun since: none of these offsets may be without its file.
  linkLog(o.logDir, path.join(into, 'log'), false)
  const next = store.spans?.find((span) => span.log === o.log.id && span.topic === Topic.telemetry)?.next
  const snapshot: Snapshot = {
    id,
    created_us: createdUs,
    version: o.version,
    formats: { log: logFormat, meta: metaFormat, ...store.formats, ...forecasts.formats },
    log: { id: o.log.id, ends, ...lineageOf(o.env, o.logDir) },
    ...(next === undefined ? {} : { store_next: String(next) }),
    stalled_ms: store.stalledMs,
    files: [...storeFiles(store), fileIn(into, 'meta.sqlite'), ...forecasts.files, ...logFiles(into, ends)],
  }
  fs.writeFileSync(path.join(into, described), `${JSON.stringify(snapshot)}\n`, { mode: 0o640 })
  return snapshot
}

/** The data directory that nobody has open: its own files are the snapshot. Throws what says that a part is damaged or newer. */
export async function closedSnapshot(o: {
  readonly dataDir: string
  readonly logDir: string
  readonly storeDir: string
  readonly metaFile: string
  readonly forecastsFile?: string
  /** Where the copies of the SQLite files go. */
  readonly into: string
  readonly env: Env
  readonly version: string
}): Promise<Snapshot> {
  const log = readClosedLog(o.env.disk, o.logDir)
  const store = listStore(o.storeDir)
  const spans = await readSpans(o.storeDir)
  await backupMeta(o.metaFile, path.join(o.into, 'meta.sqlite'))
  const forecasts = await copyForecasts(o.forecastsFile, o.into)
  const ends = Object.fromEntries(log.topics.map(({ topic, end }) => [topic, String(end)]))
  const next = spans.find((span) => span.log === log.id && span.topic === Topic.telemetry)?.next
  return {
    id: o.env.random.uuid(),
    created_us: o.env.clock.nowUs(),
    version: o.version,
    formats: { log: logFormat, meta: metaFormat, ...store.formats, ...forecasts.formats },
    log: { id: log.id, ends, ...lineageOf(o.env, o.logDir) },
    ...(next === undefined ? {} : { store_next: String(next) }),
    stalled_ms: store.stalledMs,
    files: [
      ...storeFiles(store),
      fileIn(o.into, 'meta.sqlite'),
      ...forecasts.files,
      ...logFiles(path.dirname(o.logDir), ends, path.basename(o.logDir)),
    ],
  }
}

/** Nothing, where nobody has forecast anything. */
async function copyForecasts(
  from: string | undefined,
  into: string,
): Promise<{ readonly formats: { readonly forecasts?: number }; readonly files: readonly SnapshotFile[] }> {
  if (from === undefined || !fs.existsSync(from)) return { formats: {}, files: [] }
  await backupForecasts(from, path.join(into, 'forecasts.sqlite'))
  return { formats: { forecasts: forecastsKind.format }, files: [fileIn(into, 'forecasts.sqlite')] }
}

function lineageOf(env: Env, logDir: string): { readonly lineage?: string } {
  const lineage = readLineage(env.disk, logDir)
  return lineage === undefined ? {} : { lineage }
}

function storeFiles(store: StoreSnapshot): SnapshotFile[] {
  return store.files.map((file) => ({ ...file, path: path.join('store', file.path) }))
}

function fileIn(dir: string, name: string): SnapshotFile {
  return { path: name, bytes: fs.statSync(path.join(dir, name)).size, immutable: false }
}

/** Segments below the ends, where groups stand, and the log's id. */
function logFiles(dir: string, ends: Readonly<Record<string, string>>, folder = 'log'): SnapshotFile[] {
  const named = (name: string): SnapshotFile => ({ ...fileIn(dir, path.join(folder, name)), path: path.join('log', name) })
  const files = fs.existsSync(path.join(dir, folder, 'log.json')) ? [named('log.json')] : []
  for (const [topic, end] of Object.entries(ends)) {
    const names = fs.readdirSync(path.join(dir, folder, topic, '0'))
    const needed = new Set(
      segmentsBelow(
        names.map(segmentBase).filter((base) => base !== undefined),
        BigInt(end),
      ),
    )
    for (const name of names.toSorted()) {
      const base = segmentBase(name)
      if (name === 'groups' || (base !== undefined && needed.has(base))) files.push(named(path.join(topic, '0', name)))
    }
  }
  return files
}

/** Links what is not linked yet. What retention deletes at this moment is what nobody needs. Returns the topics. */
function linkLog(logDir: string, into: string, first: boolean): string[] {
  const linked = (from: string, to: string): void => {
    if (fs.existsSync(to)) return
    try {
      link(from, to)
    } catch (thrown) {
      if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT')) throw thrown
    }
  }
  const topics = fs.readdirSync(logDir).filter((name) => fs.existsSync(path.join(logDir, name, '0')))
  fs.mkdirSync(into, { recursive: true, mode: 0o750 })
  linked(path.join(logDir, 'log.json'), path.join(into, 'log.json'))
  for (const topic of topics) {
    const [from, to] = [path.join(logDir, topic, '0'), path.join(into, topic, '0')]
    fs.mkdirSync(to, { recursive: true, mode: 0o750 })
    // It is replaced, never written in place; only the first one is older than the store's copy.
    if (first) linked(path.join(from, 'groups'), path.join(to, 'groups'))
    for (const name of fs.readdirSync(from).sort()) if (segmentBase(name) !== undefined) linked(path.join(from, name), path.join(to, name))
  }
  return topics
}
