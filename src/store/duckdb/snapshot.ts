import fs from 'node:fs'
import path from 'node:path'
import type { Clock } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import type { FileView } from './files.ts'
import type { SpanRow } from './ledger.ts'
import { storeFormat } from './schema.ts'
import { sealedFolder, sealedFormat } from './sealed/format.ts'
import { checkFiles, readManifest } from './sealed/manifest-file.ts'
import { filesOf } from './sealed/manifest.ts'

/** One file of a store. */
export interface StoreFile {
  /** From the store's folder. */
  readonly path: string
  readonly bytes: number
  /** It is never changed again: a link to it is as good as a copy. */
  readonly immutable: boolean
  /** As the store's manifest says it; absent: it says none. */
  readonly sha256?: string
}

export interface StoreSnapshot {
  readonly formats: { readonly store: number; readonly sealed: number }
  /** Where the store is in each log that it knows; undefined: only its file tells (of a store that is not open). */
  readonly spans: readonly SpanRow[] | undefined
  readonly files: readonly StoreFile[]
  /** How long commits waited for it. */
  readonly stalledMs: number
}

/**
 * Links the files of an open store into the folder `into`, but for the hot file, which goes on being written in place: see `copyHot`. To be called between two
 * commits, when its write-ahead log is empty. All of it happens in one turn of the thread that deletes files, so none goes meanwhile, and what is
 * linked stays however the store goes on. Throws `store_unavailable` where the file system knows no links.
 */
export function linkStore(o: {
  readonly dir: string
  readonly into: string
  readonly view: FileView
  readonly hot: number
  readonly spans: Iterable<SpanRow>
  readonly clock: Clock
  /** When commits began to wait, on its monotonic clock. */
  readonly sinceMs: number
}): StoreSnapshot {
  const files = filesOfStore(o.dir, o.view, o.hot)
  for (const { path: name, immutable } of files) {
    const to = path.join(o.into, name)
    fs.mkdirSync(path.dirname(to), { recursive: true, mode: 0o750 })
    if (immutable) linkSealed(path.join(o.dir, name), to)
    else if (name !== nameOfHot(o.hot)) fs.copyFileSync(path.join(o.dir, name), to, fs.constants.COPYFILE_EXCL)
  }
  return { formats, spans: [...o.spans].map((span) => ({ ...span })), files, stalledMs: o.clock.monotonicMs() - o.sinceMs }
}

/**
 * Copies the hot file beside commits: they go into its write-ahead log, and what they may write into the file are blocks that nothing in it names, as long as no
 * checkpoint is made. So the copy is the store as it was when the log was empty last. Returns the snapshot with the size of the copy.
 */
export async function copyHot(snapshot: StoreSnapshot, dir: string, into: string, hot: number): Promise<StoreSnapshot> {
  const name = nameOfHot(hot)
  const to = path.join(into, name)
  await fs.promises.copyFile(path.join(dir, name), to, fs.constants.COPYFILE_EXCL | fs.constants.COPYFILE_FICLONE)
  const { size } = await fs.promises.stat(to)
  return { ...snapshot, files: snapshot.files.map((file) => (file.path === name ? { ...file, bytes: size } : file)) }
}

/** What a store that nobody has open consists of. Throws `store_corrupt` when a file is missing, `store_format` for a newer store. */
export function listStore(dir: string): StoreSnapshot {
  if (!fs.existsSync(dir)) return { formats, spans: undefined, files: [], stalledMs: 0 }
  const manifest = readManifest(dir)
  checkFiles(dir, manifest)
  const sealed = filesOfStore(dir, { manifest, frozen: [] }, undefined)
  const hot = fs.readdirSync(dir).filter((name) => Number(/^hot-(\d+)\.duckdb(\.wal)?$/.exec(name)?.[1] ?? 0) > manifest.sealedTo)
  return { formats, spans: undefined, files: [...sealed, ...hot.map((name) => fileOf(dir, name, false))], stalledMs: 0 }
}

/** Of a file that is gone there can be no snapshot, as there can be no start: it is damage, and named. */
function linkSealed(from: string, to: string): void {
  try {
    link(from, to)
  } catch (thrown) {
    if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT')) throw thrown
    throw new KymoError('store_corrupt', { detail: `${from} is missing. Restore it from a backup.`, facts: { file: from }, cause: thrown })
  }
}

/** Links a file, or says what to do where that cannot be. */
export function link(from: string, to: string): void {
  try {
    fs.linkSync(from, to)
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined
    if (code !== 'EXDEV' && code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP' && code !== 'EMLINK') throw thrown
    throw new KymoError('store_unavailable', {
      detail: `${from} cannot be linked (${code}): a backup of a running server needs hard links, and all of its data on one file system.`,
      facts: { fix: 'Stop the server and back its directory up: kymo backup DIR --data …', file: from },
      cause: thrown,
    })
  }
}

function nameOfHot(hot: number): string {
  return `hot-${hot}.duckdb`
}

const formats = { store: storeFormat, sealed: sealedFormat } as const

function filesOfStore(dir: string, view: FileView, hot: number | undefined): StoreFile[] {
  const manifest = path.join(sealedFolder, 'manifest.json')
  const files = [...filesOf(view.manifest)].map(([name, file]): StoreFile => ({
    path: name,
    bytes: file.bytes,
    immutable: true,
    sha256: file.sha256,
  }))
  for (const { hot: n } of view.frozen) files.push(fileOf(dir, nameOfHot(n), true))
  if (hot !== undefined) files.push(fileOf(dir, nameOfHot(hot), false))
  if (fs.existsSync(path.join(dir, manifest))) files.push(fileOf(dir, manifest, false))
  return files
}

function fileOf(dir: string, name: string, immutable: boolean): StoreFile {
  return { path: name, bytes: fs.statSync(path.join(dir, name)).size, immutable }
}
