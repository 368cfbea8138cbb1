import { DOUBLE, DuckDBDataChunk, TIMESTAMPTZ, DuckDBTimestampTZValue, VARCHAR, type DuckDBAppender, type DuckDBType } from '@duckdb/node-api'
import fs from 'node:fs'
import { fileError, identifier, literal, openEngine } from './engine.ts'

export interface ParquetColumn {
  readonly name: string
  readonly type: 'time' | 'number' | 'text'
}

/** `time`: epoch microseconds. */
export type ParquetCell = number | string | null

export interface ParquetWriter {
  /** A promise only when something has to be waited for before the next row. */
  row(cells: readonly ParquetCell[]): Promise<void> | undefined
  /** Completes the file. Rejects with disk_full or request_invalid. */
  end(): Promise<void>
  /** Removes what was written. */
  abandon(): void
}

/** Rows held in memory at a time: 8 columns of 8 bytes and text make some 25 MB. */
const partRows = 240_000
const rowGroupRows = 120_000
const chunkRows = 2_048

const types: Readonly<Record<ParquetColumn['type'], { readonly sql: string; readonly type: DuckDBType }>> = {
  time: { sql: 'TIMESTAMPTZ', type: TIMESTAMPTZ },
  number: { sql: 'DOUBLE', type: DOUBLE },
  text: { sql: 'VARCHAR', type: VARCHAR },
}

/**
 * Writes a Parquet file of any length with little memory: parts of some row groups each, beside the file, which are put together at the
 * end. zstd, time as TIMESTAMP(isAdjustedToUTC, MICROS).
 */
export async function createParquet(file: string, columns: readonly ParquetColumn[]): Promise<ParquetWriter> {
  const engine = await openEngine()
  const { connection } = engine
  const declared = columns.map(({ name, type }) => `${identifier(name)} ${types[type].sql}`).join(', ')
  await connection.run(`CREATE TABLE part (${declared})`)
  const chunk = DuckDBDataChunk.create(columns.map(({ type }) => types[type].type))
  const parts: string[] = []
  let gathered: ParquetCell[][] = columns.map(() => [])
  let appender: DuckDBAppender | undefined
  let rows = 0

  const send = async (): Promise<void> => {
    const n = gathered[0]?.length ?? 0
    if (n === 0) return
    appender ??= await connection.createAppender('part')
    chunk.reset()
    chunk.rowCount = n
    columns.forEach(({ type }, i) => {
      const cells = gathered[i]!
      const vector = chunk.getColumnVector(i)
      for (let row = 0; row < n; row++) {
        const cell = cells[row]!
        vector.setItem(row, cell === null || type !== 'time' ? cell : new DuckDBTimestampTZValue(BigInt(cell)))
      }
      vector.flush()
    })
    appender.appendDataChunk(chunk)
    gathered = columns.map(() => [])
  }

  const copy = (from: string, to: string): Promise<unknown> =>
    connection.run(`COPY ${from} TO ${literal(to)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE ${rowGroupRows})`)

  const endPart = async (): Promise<void> => {
    await send()
    appender?.flushSync()
    appender?.closeSync()
    appender = undefined
    const name = `${file}.${parts.length}`
    parts.push(name)
    await copy('part', name)
    await connection.run('TRUNCATE part')
    rows = 0
  }

  const clean = (): void => {
    for (const part of parts.splice(0)) fs.rmSync(part, { force: true })
  }

  const guarded = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work()
    } catch (thrown) {
      throw fileError(thrown, file)
    }
  }

  return {
    row: (cells) => {
      for (let i = 0; i < cells.length; i++) gathered[i]!.push(cells[i]!)
      rows++
      if (gathered[0]!.length < chunkRows) return undefined
      return guarded(() => (rows >= partRows ? endPart() : send()))
    },
    async end() {
      await guarded(async () => {
        if (rows > 0 || parts.length === 0) await endPart()
        const [only] = parts
        if (parts.length === 1 && only !== undefined) fs.renameSync(only, file)
        else await copy(`(SELECT * FROM read_parquet([${parts.map(literal).join(', ')}]))`, file)
      })
      clean()
      engine.close()
    },
    abandon() {
      appender?.closeSync()
      engine.close()
      clean()
      fs.rmSync(file, { force: true })
    },
  }
}
