import fs from 'node:fs'
import path from 'node:path'
import { KymoError } from '../../../core/errors.ts'
import { sealedFolder } from './format.ts'
import { emptyManifest, filesOf, parseManifest, type Manifest } from './manifest.ts'

const manifestName = 'manifest.json'

/**
 * The manifest of the store in `dir`; the empty one before the first rotation. A rotation writes it before anything is sealed, so
 * sealed files without one are damage (`store_corrupt`), not orphans.
 */
export function readManifest(dir: string): Manifest {
  const file = path.join(dir, sealedFolder, manifestName)
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8')
  } catch (thrown) {
    if (!isMissing(thrown)) throw thrown
    if (sealedFiles(dir).some((name) => name.endsWith('.duckdb')))
      throw new KymoError('store_corrupt', { detail: `${file} is missing beside sealed files. Restore it from a backup.`, facts: { file } })
    return emptyManifest
  }
  return parseManifest(text, file)
}

/** The commit point of rotation, sealing, merge and retention: after this returns, the manifest is what a start reads. */
export function writeManifest(dir: string, manifest: Manifest): void {
  const folder = path.join(dir, sealedFolder)
  makeFolder(folder)
  const file = path.join(folder, manifestName)
  const fd = fs.openSync(`${file}.tmp`, 'w', 0o640)
  try {
    fs.writeFileSync(fd, `${JSON.stringify(manifest)}\n`)
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(`${file}.tmp`, file)
  syncFolder(folder)
}

/** Throws `store_corrupt` naming the first file that the manifest has and the disk has not, or that has another length. */
export function checkFiles(dir: string, manifest: Manifest): void {
  for (const [name, { bytes }] of filesOf(manifest)) {
    const size = fs.statSync(path.join(dir, name), { throwIfNoEntry: false })?.size
    if (size === bytes) continue
    const what = size === undefined ? 'is missing' : `has ${size} bytes instead of ${bytes}`
    throw new KymoError('store_corrupt', { detail: `${path.join(dir, name)} ${what}. Restore it from a backup.`, facts: { file: name } })
  }
  for (const { hot } of manifest.frozen) {
    const name = `hot-${hot}.duckdb`
    if (!fs.existsSync(path.join(dir, name)))
      throw new KymoError('store_corrupt', { detail: `${path.join(dir, name)} is missing; it was not sealed yet.`, facts: { file: name } })
  }
}

/**
 * Paths from `dir` of what no start needs: temporary files, runs that are not in the manifest (of a sealing that did not reach its commit, or
 * merged or dropped since), and hot files that are sealed. Not to be called while a child seals or merges.
 */
export function sweep(dir: string, manifest: Manifest): string[] {
  const known = filesOf(manifest)
  const orphans = sealedFiles(dir).filter((file) => !known.has(file))
  if (fs.existsSync(path.join(dir, sealedFolder, `${manifestName}.tmp`))) orphans.push(path.join(sealedFolder, `${manifestName}.tmp`))
  for (const name of fs.readdirSync(dir)) {
    const hot = /^hot-(\d+)\.duckdb(\.wal)?$/.exec(name)?.[1]
    if (hot !== undefined && Number(hot) <= manifest.sealedTo) orphans.push(name)
    if (/^hot-\d+\.duckdb\.tmp(\.wal)?$/.test(name)) orphans.push(name)
  }
  return orphans
}

/** Paths from `dir` of all files of runs, temporary ones included. */
function sealedFiles(dir: string): string[] {
  const folder = path.join(dir, sealedFolder)
  if (!fs.existsSync(folder)) return []
  return fs
    .readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) =>
      fs
        .readdirSync(path.join(folder, entry.name))
        .filter((name) => /^\d+-(raw|1m|1h)\.duckdb(\.tmp)?(\.wal)?$/.test(name))
        .map((name) => path.join(sealedFolder, entry.name, name)),
    )
}

/** Deletes what `sweep` found, and folders of partitions that have become empty. */
export function removeFiles(dir: string, files: readonly string[]): void {
  const folders = new Set<string>()
  for (const file of files) {
    fs.rmSync(path.join(dir, file), { force: true })
    folders.add(path.dirname(path.join(dir, file)))
  }
  for (const folder of folders) {
    if (!fs.existsSync(folder)) continue
    syncFolder(folder)
    if (path.basename(path.dirname(folder)) === sealedFolder && fs.readdirSync(folder).length === 0) fs.rmdirSync(folder)
  }
}

/** Makes a folder and those above it, durably. */
export function makeFolder(folder: string): void {
  if (fs.existsSync(folder)) return
  makeFolder(path.dirname(folder))
  fs.mkdirSync(folder, { recursive: true, mode: 0o750 })
  syncFolder(path.dirname(folder))
}

export function syncFolder(folder: string): void {
  const fd = fs.openSync(folder, 'r')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

function isMissing(thrown: unknown): boolean {
  return thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT'
}
