import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { freePorts, halt, launch, program, run, untilReady, type Account, type Started } from './process.ts'
import type { Service } from './service.ts'

const binaries = ['17', '16', '15'].map((version) => `/usr/lib/postgresql/${version}/bin`)

function tool(name: string): string | undefined {
  return program(...binaries.map((folder) => path.join(folder, name)), name)
}

function must(name: string): string {
  const found = tool(name)
  if (found === undefined) throw new Error(`${name} is missing (Debian: postgresql-15)`)
  return found
}

/** The server refuses to run as root: then Debian's own account for it is taken. */
function account(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined
  return { uid: Number(run('id', ['-u', 'postgres'])), gid: Number(run('id', ['-g', 'postgres'])) }
}

/** A folder that the account can reach: below `dir`, or in the system's folder for temporary files where `dir` is closed to others. */
function home(dir: string, as: Account | undefined): string {
  if (as === undefined) return dir
  fs.chownSync(dir, as.uid, as.gid)
  try {
    run('test', ['-x', dir], { account: as, cwd: '/' })
    return dir
  } catch {
    const link = path.join(dir, 'elsewhere')
    if (!fs.existsSync(link)) {
      const other = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-postgres-'))
      fs.chownSync(other, as.uid, as.gid)
      fs.writeFileSync(link, other)
    }
    return fs.readFileSync(link, 'utf8')
  }
}

function settings(port: number): string[] {
  const own = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', 'shared_buffers=128MB', 'max_connections=60', 'max_wal_size=512MB']
  return ['-p', String(port), ...own.flatMap((setting) => ['-c', setting])]
}

/** PostgreSQL with a standby that follows it by streaming replication (section 27.2 of its manual). */
export const postgres: Service = {
  name: 'postgres',
  missing: () => (tool('initdb') === undefined || tool('postgres') === undefined ? 'PostgreSQL 15 (Debian: postgresql-15)' : undefined),
  async start(dir) {
    const as = account()
    const user = as === undefined ? {} : { account: as }
    const place = home(dir, as)
    const where = { cwd: place, ...user }
    const [port = 0, standbyPort = 0] = await freePorts(2)
    const primaryDir = path.join(place, 'primary')
    const standbyDir = path.join(place, 'standby')
    const ready = (at: number) => (): Promise<boolean> => {
      try {
        run(must('pg_isready'), ['-h', '127.0.0.1', '-p', String(at), '-q', '-d', 'postgres', '-U', 'kymo'], { cwd: '/' })
        return Promise.resolve(true)
      } catch {
        return Promise.resolve(false)
      }
    }
    const server = async (name: string, data: string, at: number): Promise<Started> => {
      const logFile = path.join(place, `${name}.log`)
      const started = await launch({ command: must('postgres'), args: ['-D', data, ...settings(at)], logFile, ...where })
      await untilReady(`PostgreSQL (${name})`, started, logFile, 30_000, ready(at))
      return started
    }
    if (!fs.existsSync(path.join(primaryDir, 'PG_VERSION')))
      run(must('initdb'), ['-D', primaryDir, '-U', 'kymo', '-A', 'trust', '-E', 'UTF8', '--locale=C'], where)
    const primary = await server('primary', primaryDir, port)
    const psql = (sql: string): string =>
      run(must('psql'), ['-h', '127.0.0.1', '-p', String(port), '-U', 'kymo', '-d', 'postgres', '-v', 'ON_ERROR_STOP=1', '-qAtc', sql], where)
    if (psql("select 1 from pg_database where datname = 'kymo'") === '') psql('create database kymo')
    // The standby is taken anew at each start: the ports are others, and tests may have promoted it.
    fs.rmSync(standbyDir, { recursive: true, force: true })
    run(must('pg_basebackup'), ['-h', '127.0.0.1', '-p', String(port), '-U', 'kymo', '-D', standbyDir, '-R', '-X', 'stream', '-c', 'fast'], where)
    const standby = await server('standby', standbyDir, standbyPort)
    return {
      processes: { standby, primary },
      env: {
        KYMO_TEST_POSTGRES_URL: `postgres://kymo@127.0.0.1:${port}/kymo`,
        KYMO_TEST_POSTGRES_STANDBY_URL: `postgres://kymo@127.0.0.1:${standbyPort}/kymo`,
      },
    }
  },
  async stop(processes) {
    // SIGINT: fast shutdown; connections are closed, nothing is lost.
    for (const one of Object.values(processes)) await halt(one, 'SIGINT', 15_000)
  },
}
