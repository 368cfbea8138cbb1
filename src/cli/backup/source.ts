import fs from 'node:fs'
import path from 'node:path'
import { Readable } from 'node:stream'
import type { ConnectionOptions } from 'node:tls'
import { places } from '../../core/config-engines.ts'
import { createLogger, nodeEnv } from '../../core/env/node-env.ts'
import { KymoError } from '../../core/errors.ts'
import type { Snapshot, SnapshotFile } from '../../core/snapshot.ts'
import { closedSnapshot } from '../../roles/snapshots.ts'
import { Api } from '../api.ts'
import { pinned, takeLock } from '../lock.ts'
import { configFor } from '../settings.ts'
import type { Terminal } from '../terminal.ts'
import { version } from '../version.ts'
import type { SnapshotSource } from './copy.ts'

const renewEveryMs = 60_000
/** Files that are written in place: what is backed up is a copy of one moment. */
const copied: readonly string[] = ['meta.sqlite', 'forecasts.sqlite']

export interface OpenSource extends SnapshotSource {
  readonly from: 'server' | 'directory'
  close(): Promise<void>
}

/**
 * What is to be backed up: the server at `url`; else the one that serves the data directory; else the directory itself, which is held while it is
 * copied. `scratch` is a folder for the copies of SQLite files.
 */
export async function openSource(o: {
  readonly url?: string
  readonly token?: string
  readonly data?: string
  readonly scratch: string
  /** Of the snapshot that a server is asked for. */
  readonly id?: string
  /** Snapshots that the server may still hold for nobody. */
  readonly abandoned?: readonly string[]
  readonly terminal: Terminal
}): Promise<OpenSource> {
  if (o.url !== undefined) return fromServer(o.url, o)
  const where = places(await configFor({ data: o.data, env: o.terminal.env }))
  if (!fs.existsSync(where.dataDir))
    throw new KymoError('not_found', {
      detail: `There is no data directory ${where.dataDir}.`,
      facts: { fix: 'Name it with --data DIR, or a server with --url http://host:8080' },
    })
  const outcome = takeLock(where.dataDir, { version: version(), now: new Date() })
  if (!outcome.taken) {
    const url = outcome.holder?.urls.http
    if (url === undefined)
      throw new KymoError('already_open', { detail: `${where.dataDir} is in use by a process that is just starting or stopping. Try again.` })
    return fromServer(url, o, pinned(outcome.holder))
  }
  try {
    fs.mkdirSync(o.scratch, { recursive: true, mode: 0o750 })
    const env = nodeEnv(createLogger({ level: 'warn', format: 'text' }))
    const snapshot = await closedSnapshot({ ...where, into: o.scratch, env, version: version() })
    return {
      from: 'directory',
      snapshot,
      local: (name) => (copied.includes(name) ? path.join(o.scratch, name) : under(where, name)),
      stream: (file) => Promise.reject(new KymoError('bug', { detail: `${file.path} is not local.` })),
      close: () => Promise.resolve(outcome.lock.release()),
    }
  } catch (thrown) {
    outcome.lock.release()
    throw thrown
  }
}

function under(where: { readonly logDir: string; readonly storeDir: string }, name: string): string {
  const [part, ...rest] = name.split('/')
  return path.join(part === 'log' ? where.logDir : where.storeDir, ...rest)
}

interface Answer {
  readonly snapshot: Snapshot
  readonly folder: string
}

async function fromServer(
  url: string,
  { token, id, abandoned = [] }: { readonly token?: string; readonly id?: string; readonly abandoned?: readonly string[] },
  tls?: ConnectionOptions,
): Promise<OpenSource> {
  const api = new Api({ url, ...(token === undefined ? {} : { token }) }, tls)
  // One that is not there any more, or is another server's, is none of ours.
  for (const left of abandoned) await api.request('DELETE', `/api/v1/snapshots/${left}`).catch(() => undefined)
  const { snapshot, folder } = await api.post<Answer>('/api/v1/snapshots', id === undefined ? {} : { id })
  const route = `/api/v1/snapshots/${snapshot.id}`
  // On the same machine its files are read, and linked, where they lie.
  const near = isThere(path.join(folder, 'snapshot.json'), snapshot.id)
  const renewing = setInterval(() => void api.json(route).catch(() => undefined), renewEveryMs).unref() // a lost one is told by the next file
  return {
    from: 'server',
    snapshot,
    local: (name) => (near ? path.join(folder, name) : undefined),
    async stream(file: SnapshotFile) {
      // No time limit of the whole: a file may be large.
      const response = await api.request('GET', `${route}/file`, {
        query: { path: file.path },
        accept: 'application/octet-stream',
        signal: new AbortController().signal,
      })
      if (response.body === null) throw new KymoError('server_unreachable', { detail: `${file.path} came without a body.` })
      return Readable.fromWeb(response.body)
    },
    async close() {
      clearInterval(renewing)
      await api.request('DELETE', route)
    },
  }
}

function isThere(file: string, id: string): boolean {
  try {
    const found: unknown = JSON.parse(fs.readFileSync(file, 'utf8'))
    return typeof found === 'object' && found !== null && 'id' in found && found.id === id
  } catch {
    // Another machine, or not ours to read: the files come over HTTP.
    return false
  }
}
