import { DuckDBInstance } from '@duckdb/node-api'
import fs from 'node:fs'
import path from 'node:path'
import { engineError } from './database.ts'
import type { SpanRow } from './ledger.ts'
import { quoted } from './sealed/format.ts'

/** Where the store in `dir`, which nobody has open, is in each log that it knows. Changes nothing. */
export async function readSpans(dir: string): Promise<SpanRow[]> {
  const numbers = fs.existsSync(dir) ? fs.readdirSync(dir).map((name) => Number(/^hot-(\d+)\.duckdb$/.exec(name)?.[1] ?? 0)) : []
  const newest = Math.max(0, ...numbers)
  if (newest === 0) return []
  try {
    const instance = await DuckDBInstance.create(':memory:', { threads: '1' })
    try {
      const connection = await instance.connect()
      await connection.run(`ATTACH ${quoted(path.join(dir, `hot-${newest}.duckdb`))} AS hot (READ_ONLY)`)
      const found = await (await connection.run('SELECT log, topic, part, next::VARCHAR FROM hot.spans')).getRows()
      return found.map(([log, topic, part, next]) => ({
        log: String(log),
        topic: String(topic),
        partition: Number(part),
        next: BigInt(String(next)),
      }))
    } finally {
      instance.closeSync()
    }
  } catch (thrown) {
    throw engineError(thrown)
  }
}
