import {
  DOUBLE,
  DuckDBDataChunk,
  TIMESTAMP,
  UBIGINT,
  UINTEGER,
  UTINYINT,
  VARCHAR,
  type DuckDBAppender,
  type DuckDBConnection,
  type DuckDBType,
} from '@duckdb/node-api'
import duckdb from '@duckdb/node-bindings'
import { hot } from './schema.ts'

export const chunkRows = 2048
const word = 2 ** 32

interface NumberColumn<A> {
  readonly type: DuckDBType
  readonly array: A
  readonly buffer: ArrayBuffer
}
export interface TextColumn {
  readonly type: DuckDBType
  readonly texts: (string | undefined)[]
}
export type Column = NumberColumn<unknown> | TextColumn

function numberColumn<A extends { readonly buffer: ArrayBuffer }>(type: DuckDBType, array: A): NumberColumn<A> {
  return { type, array, buffer: array.buffer }
}
export const u8Column = (): NumberColumn<Uint8Array> => numberColumn(UTINYINT, new Uint8Array(chunkRows))
export const u32Column = (): NumberColumn<Uint32Array> => numberColumn(UINTEGER, new Uint32Array(chunkRows))
export const f64Column = (): NumberColumn<Float64Array> => numberColumn(DOUBLE, new Float64Array(chunkRows))
/** Two halves a row: written with `setLong`. */
export const timeColumn = (): NumberColumn<Uint32Array> => numberColumn(TIMESTAMP, new Uint32Array(2 * chunkRows))
export const u64Column = (): NumberColumn<Uint32Array> => numberColumn(UBIGINT, new Uint32Array(2 * chunkRows))
export const textColumn = (): TextColumn => ({ type: VARCHAR, texts: [] })

/** A 64-bit integer (microseconds, say) as its two halves. */
export function setLong(halves: Uint32Array, row: number, value: number): void {
  const high = Math.floor(value / word)
  halves[2 * row] = value - high * word
  halves[2 * row + 1] = high
}

/**
 * Fills a table through the engine's appender. The caller asks for the `next` row and writes it into the arrays of its columns;
 * full chunks are copied as they are, at a tenth of the cost of the API's setters. Nothing belongs to the transaction before `flush`.
 */
export class TableAppender {
  readonly #appender: DuckDBAppender
  readonly #columns: readonly Column[]
  readonly #chunk: DuckDBDataChunk
  #rows = 0
  #sent = false

  private constructor(appender: DuckDBAppender, columns: readonly Column[]) {
    this.#appender = appender
    this.#columns = columns
    this.#chunk = DuckDBDataChunk.create(columns.map((c) => c.type))
  }

  static async open(connection: DuckDBConnection, table: string, columns: readonly Column[]): Promise<TableAppender> {
    return new TableAppender(await connection.createAppender(table, 'main', hot), columns)
  }

  next(): number {
    if (this.#rows === chunkRows) this.#send()
    return this.#rows++
  }

  /** Hands the rows to the transaction that is open on the connection. */
  flush(): void {
    this.#send()
    if (!this.#sent) return
    this.#sent = false
    this.#appender.flushSync()
  }

  /** Forgets rows that were not flushed. */
  clear(): void {
    this.#rows = 0
    this.#sent = false
    this.#appender.clear()
  }

  close(): void {
    this.#appender.closeSync()
  }

  #send(): void {
    const rows = this.#rows
    if (rows === 0) return
    this.#rows = 0
    const chunk = rawChunk(this.#chunk)
    duckdb.data_chunk_reset(chunk)
    this.#chunk.rowCount = rows
    for (let c = 0; c < this.#columns.length; c++) {
      const column = this.#columns[c]!
      if ('buffer' in column) {
        duckdb.copy_data_to_vector(duckdb.data_chunk_get_vector(chunk, c), 0, column.buffer, 0, (rows * column.buffer.byteLength) / chunkRows)
      } else {
        const vector = this.#chunk.getColumnVector(c)
        for (let i = 0; i < rows; i++) vector.setItem(i, column.texts[i] ?? null)
        vector.flush()
      }
    }
    this.#appender.appendDataChunk(this.#chunk)
    this.#sent = true
  }
}

/** The native chunk behind the API's object, whose columns are read and written as plain memory. */
export function rawChunk(chunk: DuckDBDataChunk): duckdb.DataChunk {
  return (chunk as unknown as { readonly chunk: duckdb.DataChunk }).chunk
}
