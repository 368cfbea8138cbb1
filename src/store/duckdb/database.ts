import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import fs from 'node:fs'
import path from 'node:path'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import { lockDirectory } from './lock.ts'
import type { FileView, FrozenFile } from './files.ts'
import { NextHot, type StateBytes } from './next-hot.ts'
import { createTables, hot, hotBlockBytes, isEarlier, storeFormat, tableNames, upgrades } from './schema.ts'
import { quoted } from './sealed/format.ts'
import type { Manifest } from './sealed/manifest.ts'
import { checkFiles, readManifest, removeFiles, sweep, syncFolder } from './sealed/manifest-file.ts'

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
  /** What was found at the start: sealed files, and hot files that wait to be sealed. */
  readonly found: FileView
  /** Of the hot files found then, those that do not know the bins of all that was computed again: they are of an earlier format. */
  readonly unsketched: readonly number[]
  readonly #dir: string
  readonly #instance: DuckDBInstance
  readonly #unlock: () => void
  #hot: number
  #next: NextHot | undefined
  #closed = false

  private constructor(dir: string, hot: number, found: FileView, unsketched: readonly number[], instance: DuckDBInstance, unlock: () => void) {
    this.#dir = dir
    this.#hot = hot
    this.found = found
    this.unsketched = unsketched
    this.#instance = instance
    this.#unlock = unlock
  }

  static async open(o: DatabaseOptions): Promise<Database> {
    const unlock = lockDirectory(o.dir)
    try {
      const manifest = tidied(o.dir)
      const numbers = fs
        .readdirSync(o.dir)
        .map((name) => hotFile.exec(name)?.[1])
        .filter((n) => n !== undefined)
        .map(Number)
        .sort((a, b) => a - b)
      const number = numbers.pop() ?? manifest.sealedTo + 1
      const file = fileOfHot(o.dir, number)
      const instance = await DuckDBInstance.create(':memory:', {
        threads: String(o.threads),
        memory_limit: `${o.memoryLimitMb}MB`,
        autoinstall_known_extensions: 'false',
        autoload_known_extensions: 'false',
        allow_community_extensions: 'false',
        temp_directory: path.join(o.dir, 'tmp'),
        max_temp_directory_size: '4GB',
        preserve_insertion_order: 'false',
        // Of what is in memory. A statement over many files has a hash table for each column of each, which takes a few blocks however small it is: with the usual 256 KiB,
        // 40 of 80 rows took 13 MB. Larger ones are as quick.
        default_block_size: '16384',
        checkpoint_threshold: '1TB',
        // What queries took is given back to the system: without this 400 MB more stayed after a few large ones.
        allocator_background_threads: 'true',
        allocator_flush_threshold: '16MB',
      })
      const connection = await instance.connect()
      await connection.run(`SET GLOBAL TimeZone = 'UTC'`).catch(() => undefined)
      await connection.run(`ATTACH ${quoted(file)} AS ${hot} (BLOCK_SIZE ${hotBlockBytes})`)
      const frozen: FrozenFile[] = []
      for (const n of numbers) frozen.push(await attachFrozen(connection, o.dir, n))
      await connection.run('PRAGMA disable_checkpoint_on_shutdown')
      await connection.run(`SET allowed_directories = [${quoted(o.dir)}]`)
      await connection.run('SET enable_external_access = false')
      await connection.run('SET lock_configuration = true')
      await prepare(connection, file, o.env)
      const unsketched: number[] = []
      for (const file of [{ hot: number, catalog: hot }, ...frozen]) if (!(await isSketched(connection, file.catalog))) unsketched.push(file.hot)
      connection.closeSync()
      const found = { manifest: { ...manifest, frozen: frozen.map(({ hot: n }) => ({ hot: n })) }, frozen }
      return new Database(o.dir, number, found, unsketched, instance, unlock)
    } catch (thrown) {
      unlock()
      throw thrown
    }
  }

  connect(): Promise<DuckDBConnection> {
    return this.#instance.connect()
  }

  /** The number of the file that is being written. */
  get hot(): number {
    return this.#hot
  }

  get walBytes(): number {
    return sizeOf(`${fileOfHot(this.#dir, this.#hot)}.wal`)
  }

  /** Of the file that is being written. */
  get hotBytes(): number {
    return sizeOf(fileOfHot(this.#dir, this.#hot)) + this.walBytes
  }

  /** Of one that is written no longer. */
  frozenBytes(hot: number): number {
    return sizeOf(fileOfHot(this.#dir, hot))
  }

  /** Readies the next hot file beside commits; see NextHot. */
  prepareNext(connection: DuckDBConnection): Promise<void> {
    this.#next ??= new NextHot(fileOfHot(this.#dir, this.#hot + 1))
    return this.#next.prepare(connection)
  }

  /** What was prepared must not stay: see NextHot. */
  spoilNext(): void {
    this.#next?.spoil()
  }

  /**
   * Begins the next hot file: it takes over series, offsets and states; the one before is read-only from now on, under the catalog that is returned.
   * No other connection may have a transaction open, nor the caller's one a statement prepared or an appender. The write-ahead log must have been
   * written into the file. The rename is the commit point: before it a start finds the old file alone, after it both; what fails then is `store_failed`.
   */
  async rotate(connection: DuckDBConnection, state: StateBytes, createdUs: number): Promise<FrozenFile> {
    const number = this.#hot + 1
    const file = fileOfHot(this.#dir, number)
    this.#next ??= new NextHot(file)
    await this.#next.finish(connection, state, createdUs)
    fs.renameSync(this.#next.file, file)
    this.#next = undefined
    try {
      syncFolder(this.#dir)
      await connection.run(`DETACH ${hot}`)
      await connection.run(`ATTACH ${quoted(file)} AS ${hot}`)
      const frozen = await attachFrozen(connection, this.#dir, this.#hot)
      this.#hot = number
      return frozen
    } catch (thrown) {
      // A start would go on with the new file: nothing more may be written into the old one.
      throw new KymoError('store_failed', { detail: `The next hot file is there and cannot be used: ${engineError(thrown).message}`, cause: thrown })
    }
  }

  get dir(): string {
    return this.#dir
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#instance.closeSync()
    if (this.#next !== undefined) fs.rmSync(this.#next.file, { force: true })
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
  let format = Number(rows[0]?.[0])
  if (!isEarlier(format, file)) return
  await connection.run('BEGIN')
  for (; format < storeFormat; format++) await connection.run(upgrades[format]!)
  await connection.run(`UPDATE ${hot}.store_info SET format = ${storeFormat}`)
  await connection.run('COMMIT')
}

/** Whether each correction of an hour has its bins. */
async function isSketched(connection: DuckDBConnection, catalog: string): Promise<boolean> {
  const corrected = await connection.run(`SELECT 1 FROM duckdb_columns()
    WHERE database_name = '${catalog}' AND table_name = '${tableNames.hour.corrected}' AND column_name = 'bins'`)
  if ((await corrected.getRows()).length === 0) return false
  const unknown = await connection.run(`SELECT 1 FROM ${catalog}.${tableNames.hour.corrected} WHERE n > 0 AND bins IS NULL LIMIT 1`)
  return (await unknown.getRows()).length === 0
}

function fileOfHot(dir: string, number: number): string {
  return path.join(dir, `hot-${number}.duckdb`)
}

/** The manifest, after everything that no start needs has been deleted. */
function tidied(dir: string): Manifest {
  const manifest = readManifest(dir)
  checkFiles(dir, manifest)
  removeFiles(dir, sweep(dir, manifest))
  return manifest
}

async function attachFrozen(connection: DuckDBConnection, dir: string, number: number): Promise<FrozenFile> {
  const catalog = `frozen_${number}`
  await connection.run(`ATTACH ${quoted(fileOfHot(dir, number))} AS ${catalog} (READ_ONLY)`)
  return { hot: number, catalog }
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
      detail:
        'The query needs more memory than the store may use. Ask for less time, fewer series or a larger step, or give it more (store.memory_mb).',
      cause: thrown,
    })
  }
  if (/^(IO Error|TransactionContext Error|Failed to)/.test(detail)) return new KymoError('store_unavailable', { detail, cause: thrown })
  return new KymoError('bug', { detail, cause: thrown })
}
