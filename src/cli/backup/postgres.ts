import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { KymoError } from '../../core/errors.ts'
import { parseAddress } from '../../store/pg/address.ts'
import { bytes } from '../format.ts'
import type { Terminal } from '../terminal.ts'

/** Where Debian has what is not on the PATH. */
const folders = ['17', '16', '15'].map((version) => `/usr/lib/postgresql/${version}/bin`)
const wordsMax = 2_000

export interface Dump {
  readonly file: string
  readonly bytes: number
  readonly schema: string
}

/**
 * Has pg_dump copy the schema of an address into a directory, as of one moment, beside whoever writes; the file has its name when it is whole,
 * readable and
 * on disk. Rejects with `usage` where pg_dump is missing, and with `store_unavailable` and its own words where it fails.
 */
export async function dumpPostgres(url: string, dir: string, now: Date): Promise<Dump> {
  const { schema, environment } = parseAddress(url)
  const [dump, restore] = ['pg_dump', 'pg_restore'].map(program) as [string, string]
  fs.mkdirSync(dir, { recursive: true })
  const file = path.join(dir, `postgres-${schema}-${now.toISOString().replaceAll(':', '-')}.dump`)
  const partial = `${file}.partial`
  try {
    await run(dump, ['--format=custom', '--no-password', `--schema=${schema}`, `--file=${partial}`], environment)
    await run(restore, ['--list', partial], {})
    const handle = fs.openSync(partial, 'r')
    fs.fsyncSync(handle)
    fs.closeSync(handle)
    fs.renameSync(partial, file)
  } finally {
    fs.rmSync(partial, { force: true })
  }
  return { file, bytes: fs.statSync(file).size, schema }
}

/** Dumps each address once, and tells how they come back. */
export async function backUpPostgres(urls: readonly string[], dir: string, terminal: Terminal, json: boolean): Promise<void> {
  for (const url of new Set(urls)) {
    const made = await dumpPostgres(url, dir, new Date())
    if (json) terminal.out(JSON.stringify({ event: 'done', ...made }))
    else {
      terminal.out(`  ${terminal.colors.green('✓')} ${made.file}   ${bytes(made.bytes)}`)
      terminal.out(`    schema ${made.schema}; back into a database that has none of that name: pg_restore --no-owner --dbname=… ${made.file}`)
    }
  }
}

function program(name: string): string {
  const places = [...(process.env['PATH'] ?? '').split(path.delimiter), ...folders].map((folder) => path.join(folder, name))
  const found = places.find((file) => fs.existsSync(file))
  if (found !== undefined) return found
  const detail = `${name} is not installed here (Debian: postgresql-client), and a store in PostgreSQL is copied by PostgreSQL's own programs`
  throw new KymoError('usage', { detail, facts: { command: 'kymo backup' } })
}

function run(command: string, args: readonly string[], environment: Readonly<Record<string, string>>): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...environment } })
    let said = ''
    child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-wordsMax)))
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0) resolve()
      else reject(new KymoError('store_unavailable', { detail: `${path.basename(command)} (${signal ?? `exit code ${code}`}): ${said.trim()}` }))
    })
  })
}
