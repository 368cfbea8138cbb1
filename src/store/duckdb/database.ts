import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import fs from 'node:fs'
import path from 'node:path'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { lockDirectory } from './lock.ts'
import { checkFormat, createTables, hot, storeFormat } from './schema.ts'

export interface DatabaseOptions {
  readonly dir: string
  readonly env: Env
  /** Cap on what the engine takes for queries and buffers. */
  readonly memoryLimitMb: number
  /** Of one statement, the calling thread included. */
  readonly threads: number
}

/** Names that the files of a store have; `n` grows with each rotation. */
const hotFile = /^hot-(\d+)\.duckdb$/

/**
 * One instance with an in-memory root, to which the files of the store are attached. Checkpoints are run by `checkpoint` and never by
 * the engine itself: one that meets a full disk invalidates the database, and one beside running queries waits or is skipped.
 */
export class Database {
  readonly file: string
  readonly created: boolean
  readonly #dir: string
  readonly #instance: DuckDBInstance
  readonly #unlock: () => void
  #closed = false

  private constructor(dir: string, file: string, created: boolean, instance: DuckDBInstance, unlock: () => void) {
    this.#dir = dir
    this.file = file
    this.created = created
    this.#instance = instance
    this.#unlock = unlock
  }

  static async open(o: DatabaseOptions): Promise<Database> {
    const unlock = lockDirectory(o.dir)
    try {
      const newest = fs
        .readdirSync(o.dir)
        .map((name) => hotFile.exec(name)?.[1])
        .filter((n) => n !== undefined)
        .map(Number)
        .sort((a, b) => b - a)[0]
      const file = path.join(o.dir, `hot-${newest ?? 1}.duckdb`)
      const instance = await DuckDBInstance.create(':memory:', {
        threads: String(o.threads),
        memory_limit: `${o.memoryLimitMb}MB`,
        autoinstall_known_extensions: 'false',
        autoload_known_extensions: 'false',
        allow_community_extensions: 'false',
        temp_directory: path.join(o.dir, 'tmp'),
        max_temp_directory_size: '4GB',
        preserve_insertion_order: 'false',
        checkpoint_threshold: '1TB',
      })
      const connection = await instance.connect()
      await connection.run(`SET GLOBAL TimeZone = 'UTC'`).catch(() => undefined)
      await connection.run(`ATTACH '${file.replaceAll("'", "''")}' AS ${hot}`)
      await connection.run('PRAGMA disable_checkpoint_on_shutdown')
      await connection.run(`SET allowed_directories = ['${o.dir.replaceAll("'", "''")}']`)
      await connection.run('SET enable_external_access = false')
      await connection.run('SET lock_configuration = true')
      await prepare(connection, file, o.env)
      connection.closeSync()
      return new Database(o.dir, file, newest === undefined, instance, unlock)
    } catch (thrown) {
      unlock()
      throw thrown
    }
  }

  connect(): Promise<DuckDBConnection> {
    return this.#instance.connect()
  }

  get walBytes(): number {
    return sizeOf(`${this.file}.wal`)
  }

  get bytes(): number {
    return sizeOf(this.file) + this.walBytes
  }

  get dir(): string {
    return this.#dir
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#instance.closeSync()
    this.#unlock()
  }
}

async function prepare(connection: DuckDBConnection, file: string, env: Env): Promise<void> {
  const tables = await (
    await connection.run(`SELECT count(*)::INTEGER FROM duckdb_tables() WHERE database_name = '${hot}' AND table_name = 'store_info'`)
  ).getRows()
  if (tables[0]?.[0] === 0) {
    await connection.run('BEGIN')
    await connection.run(createTables)
    await connection.run(`INSERT INTO ${hot}.store_info VALUES (${storeFormat}, $1, make_timestamp($2::BIGINT))`, [
      env.random.uuid(),
      BigInt(env.clock.nowUs()),
    ])
    await connection.run('COMMIT')
    return
  }
  const rows = await (await connection.run(`SELECT format FROM ${hot}.store_info`)).getRows()
  checkFormat(Number(rows[0]?.[0]), file)
}

function sizeOf(file: string): number {
  return fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0
}

/** What the engine says, as an error of ours. `cause` of an interruption is not known here: the caller asks its signal first. */
export function engineError(thrown: unknown): KymoError {
  if (thrown instanceof KymoError) return thrown
  const detail = thrown instanceof Error ? thrown.message : String(thrown)
  if (/has been invalidated/.test(detail)) return new KymoError('store_failed', { detail, cause: thrown })
  if (/No space left on device/.test(detail)) return new KymoError('disk_full', { detail, cause: thrown })
  if (/Out of Memory|max_temp_directory_size/i.test(detail)) {
    return new KymoError('query_too_large', {
      detail: 'The query needs more memory than the store may use. Ask for less time, fewer series or a larger step.',
      cause: thrown,
    })
  }
  if (/^(IO Error|TransactionContext Error|Failed to)/.test(detail)) return new KymoError('store_unavailable', { detail, cause: thrown })
  return new KymoError('bug', { detail, cause: thrown })
}
