import type { DuckDBConnection } from '@duckdb/node-api'
import { KymoError } from '../../core/errors.ts'
import type { Cell } from '../../wire/table/cell.ts'
import type { ColumnKind, TableColumn } from '../../wire/table/plan.ts'
import { fileError, identifier, literal, openEngine } from './engine.ts'

/** A Parquet file as rows of plain cells. */
export interface ParquetTable {
  readonly columns: readonly TableColumn[]
  readonly rows: number
  /** Rows from `first` (counted from 0) on, a few thousand at a time, in the file's order. Rejects with request_invalid. */
  pages(first: number): AsyncGenerator<readonly (readonly Cell[])[]>
  close(): void
}

const wholeOrReal = /^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL)/

interface Read {
  readonly kind: ColumnKind
  /** What to select of it. */
  readonly sql: string
}

function readAs(name: string, type: string): Read {
  const column = identifier(name)
  if (type === 'TIMESTAMP WITH TIME ZONE') return { kind: 'moment', sql: `epoch_us(${column})::DOUBLE` }
  if (type.startsWith('TIMESTAMP') || type === 'DATE') return { kind: 'local', sql: `epoch_us(${column}::TIMESTAMP)::DOUBLE` }
  if (type === 'BOOLEAN') return { kind: 'any', sql: column }
  if (/^U?(BIG|HUGE)INT/.test(type)) return { kind: 'any', sql: column }
  if (wholeOrReal.test(type)) return { kind: 'any', sql: `${column}::DOUBLE` }
  if (/[[(]|^(STRUCT|MAP|UNION|BLOB|BIT)/.test(type)) return { kind: 'nested', sql: 'NULL' }
  return { kind: 'any', sql: `${column}::VARCHAR` }
}

/** Opens a file. Rejects with request_invalid when it is no Parquet file. */
export async function openParquet(file: string): Promise<ParquetTable> {
  const engine = await openEngine()
  const { connection } = engine
  const from = `read_parquet(${literal(file)})`
  try {
    const described = await (await connection.run(`DESCRIBE SELECT * FROM ${from}`)).getRows()
    const reads = described.map(([name, type]) => ({ name: String(name), ...readAs(String(name), String(type)) }))
    const counted = await (await connection.run(`SELECT sum(num_rows)::DOUBLE FROM parquet_file_metadata(${literal(file)})`)).getRows()
    return {
      columns: reads.map(({ name, kind }) => ({ name, kind })),
      rows: Number(counted[0]?.[0] ?? 0),
      pages: (first) =>
        pagesOf(connection, `SELECT ${reads.map(({ sql }) => sql).join(', ')} FROM ${from} ${first === 0 ? '' : `OFFSET ${first}`}`, file),
      close: () => engine.close(),
    }
  } catch (thrown) {
    engine.close()
    throw fileError(thrown, file)
  }
}

async function* pagesOf(connection: DuckDBConnection, sql: string, file: string): AsyncGenerator<readonly (readonly Cell[])[]> {
  try {
    const result = await connection.stream(sql)
    for (;;) {
      const chunk = await result.fetchChunk()
      if (chunk === null || chunk.rowCount === 0) return
      const page = chunk.getRows()
      yield page.map((row) => row.map(cellOf))
    }
  } catch (thrown) {
    throw fileError(thrown, file)
  }
}

function cellOf(value: unknown): Cell {
  if (typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean') return value
  if (value === null || value === undefined) return null
  // A double holds whole numbers up to 2^53; beyond, their digits are kept as text.
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString()
  throw new KymoError('bug', { detail: 'a column of the engine holds what no cell can' })
}
