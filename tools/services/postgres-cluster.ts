import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { freePorts, launch, program, run, untilReady, type Account, type Started } from './process.ts'

const binaries = ['17', '16', '15'].map((version) => `/usr/lib/postgresql/${version}/bin`)

/** The file of one of PostgreSQL's programs; undefined: it is not installed. */
export function postgresTool(name: string): string | undefined {
  return program(...binaries.map((folder) => path.join(folder, name)), name)
}

function must(name: string): string {
  const found = postgresTool(name)
  if (found === undefined) throw new Error(`${name} is missing (Debian: postgresql-15)`)
  return found
}

/** The server refuses to run as root: then Debian's own account for it is taken. */
function account(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined
  return { uid: Number(run('id', ['-u', 'postgres'])), gid: Number(run('id', ['-g', 'postgres'])) }
}

const linkOf = (dir: string): string => path.join(dir, 'elsewhere')

/** A folder that the account can reach: below `dir`, or in the system's folder for temporary files where `dir` is closed to others. */
function home(dir: string, as: Account | undefined): string {
  if (as === undefined) return dir
  fs.chownSync(dir, as.uid, as.gid)
  try {
    run('test', ['-x', dir], { account: as, cwd: '/' })
    return dir
  } catch {
    const link = linkOf(dir)
    if (!fs.existsSync(link)) {
      const other = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-postgres-'))
      fs.chownSync(other, as.uid, as.gid)
      fs.writeFileSync(link, other)
    }
    return fs.readFileSync(link, 'utf8')
  }
}

/** Removes what `home` has put elsewhere. */
export function purgeElsewhere(dir: string): void {
  const link = linkOf(dir)
  if (fs.existsSync(link)) fs.rmSync(fs.readFileSync(link, 'utf8'), { recursive: true, force: true })
}

export interface PostgresServer {
  readonly process: Started
  readonly port: number
  readonly data: string
  readonly url: string
  /** What a statement answers in its database `postgres`. */
  psql(sql: string): string
}

export interface PostgresCluster {
  /** A folder that the servers can write to. */
  readonly place: string
  /** Runs one of PostgreSQL's programs as the servers' account. */
  tool(name: string, ...args: string[]): string
  /** A server on a new or existing data directory, which takes connections when this resolves. */
  primary(name: string, settings?: readonly string[]): Promise<PostgresServer>
  /** One that follows another by streaming replication, from a fresh copy of it (section 27.2 of the manual). */
  standby(name: string, of: PostgresServer, settings?: readonly string[]): Promise<PostgresServer>
  /** A server on what is in this folder of `place`. */
  start(name: string, settings?: readonly string[]): Promise<PostgresServer>
}

/** Servers of PostgreSQL below a folder, on ports of their own; `trust` for everybody on this machine. */
export function postgresCluster(dir: string): PostgresCluster {
  const as = account()
  const place = home(dir, as)
  const where = { cwd: place, ...(as === undefined ? {} : { account: as }) }
  const tool = (name: string, ...args: string[]): string => run(must(name), args, where)
  const start = async (name: string, settings: readonly string[] = []): Promise<PostgresServer> => {
    const [port = 0] = await freePorts(1)
    const data = path.join(place, name)
    const own = [
      'listen_addresses=127.0.0.1',
      'unix_socket_directories=',
      'shared_buffers=128MB',
      'max_connections=60',
      'max_wal_size=512MB',
      ...settings,
    ]
    const logFile = path.join(place, `${name}.log`)
    const args = ['-D', data, '-p', String(port), ...own.flatMap((setting) => ['-c', setting])]
    const started = await launch({ command: must('postgres'), args, logFile, ...where })
    await untilReady(`PostgreSQL (${name})`, started, logFile, 30_000, () => {
      try {
        tool('pg_isready', '-h', '127.0.0.1', '-p', String(port), '-q', '-d', 'postgres', '-U', 'kymo')
        return Promise.resolve(true)
      } catch {
        return Promise.resolve(false)
      }
    })
    const psql = (sql: string): string =>
      tool('psql', '-h', '127.0.0.1', '-p', String(port), '-U', 'kymo', '-d', 'postgres', '-v', 'ON_ERROR_STOP=1', '-qAtc', sql).trim()
    return { process: started, port, data, url: `postgres://kymo@127.0.0.1:${port}/kymo`, psql }
  }
  return {
    place,
    tool,
    start,
    async primary(name, settings) {
      const data = path.join(place, name)
      if (!fs.existsSync(path.join(data, 'PG_VERSION'))) tool('initdb', '-D', data, '-U', 'kymo', '-A', 'trust', '-E', 'UTF8', '--locale=C')
      const server = await start(name, settings)
      if (server.psql("select 1 from pg_database where datname = 'kymo'") === '') server.psql('create database kymo')
      return server
    },
    async standby(name, of, settings) {
      const data = path.join(place, name)
      fs.rmSync(data, { recursive: true, force: true })
      const from = `host=127.0.0.1 port=${of.port} user=kymo application_name=${name}`
      tool('pg_basebackup', '-d', from, '-D', data, '-R', '-X', 'stream', '-c', 'fast')
      return start(name, settings)
    },
  }
}
