import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { places } from '../../core/config-engines.ts'
import { KymoError } from '../../core/errors.ts'
import { checkFiles, readManifest } from '../../store/duckdb/sealed/manifest-file.ts'
import { emptyManifest, filesOf, parseManifest, type Manifest } from '../../store/duckdb/sealed/manifest.ts'
import { readFile } from '../backup/files.ts'
import { openSource } from '../backup/source.ts'
import { takeLock } from '../lock.ts'
import { configFor } from '../settings.ts'
import type { Terminal } from '../terminal.ts'
import { version } from '../version.ts'

/** One file of a store; `expected`: as the manifest says. */
export interface StoreFile {
  /** From the store's folder. */
  readonly path: string
  readonly expected?: { readonly bytes: number; readonly sha256: string }
  readonly bytes: number
}

/** A store that stands still while it is looked at. */
export interface StoreSource {
  readonly from: 'server' | 'directory'
  readonly manifest: Manifest
  readonly files: readonly StoreFile[]
  /** Where a file lies, when this process can reach it. */
  local(name: string): string | undefined
  stream(file: StoreFile): Promise<AsyncIterable<Uint8Array>>
  /** A folder with all of it that may be written, on the same file system; undefined: there can be none. */
  copy(): string | undefined
  close(): Promise<void>
}

export interface StoreOptions {
  readonly data?: string
  readonly url?: string
  readonly token?: string
  readonly terminal: Terminal
}

/** The store of the server at `url`; else of the one that serves the data directory; else the directory itself, which is held meanwhile. */
export async function openStoreFiles(o: StoreOptions): Promise<StoreSource> {
  let storeDir: string | undefined
  if (o.url === undefined) {
    const where = places(await configFor({ data: o.data, env: o.terminal.env }))
    ;({ storeDir } = where)
    if (!fs.existsSync(storeDir)) throw new KymoError('not_found', { detail: `There is no store ${storeDir}.` })
    const outcome = takeLock(where.dataDir, { version: version(), now: new Date() })
    if (outcome.taken) {
      try {
        return fromDirectory(where, () => outcome.lock.release())
      } catch (thrown) {
        outcome.lock.release()
        throw thrown
      }
    }
  }
  try {
    return await fromServer(o)
  } catch (thrown) {
    // A server does not tell paths to who asks over the network: on its own machine they are found here.
    if (thrown instanceof KymoError && thrown.code === 'store_corrupt' && storeDir !== undefined) checkFiles(storeDir, readManifest(storeDir))
    throw thrown
  }
}

/** The next start removes what is there, when this process is killed. */
function scratchIn(dataDir: string): string {
  return path.join(dataDir, 'snapshots', `verify-${process.pid}`)
}

function fromDirectory({ dataDir, storeDir }: { readonly dataDir: string; readonly storeDir: string }, release: () => void): StoreSource {
  const manifest = readManifest(storeDir)
  const local = (name: string): string => path.join(storeDir, name)
  const sizeOf = (name: string): number => fs.statSync(local(name), { throwIfNoEntry: false })?.size ?? 0
  const hot = fs.readdirSync(storeDir).filter((name) => Number(/^hot-(\d+)\.duckdb(\.wal)?$/.exec(name)?.[1] ?? 0) > manifest.sealedTo)
  const files: StoreFile[] = [
    ...[...filesOf(manifest)].map(([name, expected]) => ({ path: name, expected, bytes: expected.bytes })),
    ...manifest.frozen.map(({ hot: n }) => `hot-${n}.duckdb`).flatMap((name) => (hot.includes(name) ? [] : [{ path: name, bytes: 0 }])),
    ...hot.toSorted().map((name) => ({ path: name, bytes: sizeOf(name) })),
  ]
  const scratch = scratchIn(dataDir)
  return {
    from: 'directory',
    manifest,
    files,
    local,
    stream: (file) => Promise.resolve(readFile(local(file.path), file.bytes)),
    copy() {
      try {
        for (const name of [...files.map((file) => file.path), path.join('sealed', 'manifest.json')]) {
          const to = path.join(scratch, name)
          fs.mkdirSync(path.dirname(to), { recursive: true, mode: 0o750 })
          if (filesOf(manifest).has(name)) fs.linkSync(local(name), to)
          else if (fs.existsSync(local(name))) fs.copyFileSync(local(name), to)
        }
        return scratch
      } catch {
        // No hard links there, or no room: then it is not compared, which is told.
        return undefined
      }
    },
    close: async () => {
      await fs.promises.rm(scratch, { recursive: true, force: true })
      fs.rmSync(path.dirname(scratch), { recursive: true, force: true })
      release()
    },
  }
}

async function fromServer(o: StoreOptions): Promise<StoreSource> {
  const { terminal } = o
  const given = { ...(o.url === undefined ? {} : { url: o.url }), ...(o.data === undefined ? {} : { data: o.data }) }
  const source = await openSource({ ...given, ...(o.token === undefined ? {} : { token: o.token }), scratch: '', terminal })
  const all = source.snapshot.files.filter((file) => file.path.startsWith('store/'))
  const named = (name: string): string => path.posix.join('store', name)
  const stream = async (name: string): Promise<AsyncIterable<Uint8Array>> => {
    const file = all.find((one) => one.path === named(name))
    if (file === undefined) throw new KymoError('bug', { detail: `The snapshot has no ${name}.` })
    const local = source.local(file.path)
    return local === undefined ? source.stream(file) : readFile(local, file.bytes)
  }
  try {
    const name = path.posix.join('sealed', 'manifest.json')
    const manifest = all.some((file) => file.path === named(name)) ? parseManifest(await text(await stream(name)), name) : emptyManifest
    return {
      from: 'server',
      manifest,
      files: all
        .filter((file) => file.path !== named(name))
        .map((file) => ({
          path: file.path.slice('store/'.length),
          bytes: file.bytes,
          ...(file.sha256 === undefined ? {} : { expected: { bytes: file.bytes, sha256: file.sha256 } }),
        })),
      local: (one) => source.local(named(one)),
      stream: (file) => stream(file.path),
      copy: () => source.local('store'),
      close: () => source.close(),
    }
  } catch (thrown) {
    await source.close()
    throw thrown
  }
}

async function text(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}
