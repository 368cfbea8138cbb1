import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'

/** An instance in memory that reads and writes Parquet files: one thread, capped memory, nothing spilled, no extensions fetched. */
export async function openEngine(): Promise<{ readonly connection: DuckDBConnection; close(): void }> {
  const instance = await DuckDBInstance.create(':memory:', {
    threads: '1',
    memory_limit: `${limits.tableEngineMbMax}MB`,
    max_temp_directory_size: '0MB',
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
    allow_community_extensions: 'false',
  })
  const connection = await instance.connect()
  return {
    connection,
    close() {
      connection.closeSync()
      instance.closeSync()
    },
  }
}

export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** What the engine says of a file, as an error of ours. */
export function fileError(thrown: unknown, file: string): KymoError {
  if (thrown instanceof KymoError) return thrown
  const said = thrown instanceof Error ? thrown.message.split('\n', 1)[0]! : String(thrown)
  if (/No space left on device/.test(said)) return new KymoError('disk_full', { detail: `${file}: ${said}`, cause: thrown })
  return new KymoError('request_invalid', { detail: `${file} cannot be read or written as Parquet: ${said}`, cause: thrown })
}
