import { DuckDBInstance } from '@duckdb/node-api'
import { engineError } from './database.ts'
import { isEarlier, storeFormat } from './schema.ts'
import { quoted } from './sealed/format.ts'

/** What a file holds that was not sealed yet. */
export interface HotContents {
  readonly readings: number
  readonly late: number
  readonly series: number
  /** The latest time of a reading, in microseconds; absent: it has none. */
  readonly toUs?: number
}

const tables = ['series', 'readings', 'texts', 'late', 'rollup_1m', 'rollup_1h', 'pending', 'spans', 'states', 'series_state'] as const

/**
 * Opens a hot file that nobody writes, with its write-ahead log, and changes nothing of it. `all`: every row of every table is read, and with it the
 * checksum of each of its blocks. Rejects with `store_format` for a newer one, with `store_unavailable` or `bug` where the engine cannot read it.
 */
export async function inspectHot(file: string, all: boolean): Promise<HotContents> {
  try {
    const instance = await DuckDBInstance.create(':memory:', { threads: '1', memory_limit: '256MB', preserve_insertion_order: 'false' })
    try {
      const connection = await instance.connect()
      const row = async (sql: string): Promise<readonly unknown[]> => (await (await connection.run(sql)).getRows())[0] ?? []
      await connection.run(`ATTACH ${quoted(file)} AS hot (READ_ONLY)`)
      const [format] = await row('SELECT format FROM hot.store_info')
      if (Number(format) !== storeFormat) isEarlier(Number(format), file)
      if (all) for (const table of tables) await row(`SELECT bit_xor(hash(t)) FROM hot.${table} AS t`)
      const [readings, late, series, toUs] = await row(`SELECT (SELECT count(*) FROM hot.readings), (SELECT count(*) FROM hot.late),
        (SELECT count(*) FROM hot.series), (SELECT epoch_us(max(ts)) FROM hot.readings)`)
      return { readings: Number(readings), late: Number(late), series: Number(series), ...(toUs === null ? {} : { toUs: Number(toUs) }) }
    } finally {
      instance.closeSync()
    }
  } catch (thrown) {
    throw engineError(thrown)
  }
}
