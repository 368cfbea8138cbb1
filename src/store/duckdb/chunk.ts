import type { DuckDBDataChunk, DuckDBMaterializedResult } from '@duckdb/node-api'
import duckdb from '@duckdb/node-bindings'
import { rawChunk } from './appender.ts'

/** All of a result that is there as a whole, without a wait for each chunk. */
export function chunksOf(result: DuckDBMaterializedResult): DuckDBDataChunk[] {
  return Array.from({ length: result.chunkCount }, (_, i) => result.getChunk(i))
}

/** The memory of a column, which is there for as long as its chunk is. */
function memory(chunk: DuckDBDataChunk, column: number, width: number): Uint8Array {
  return duckdb.vector_get_data(duckdb.data_chunk_get_vector(rawChunk(chunk), column), chunk.rowCount * width)
}

/** Columns of a result without NULLs, read as memory: a tenth of the cost of value by value. */
function bytes(chunk: DuckDBDataChunk, column: number, width: number): ArrayBuffer {
  const data = memory(chunk, column, width)
  return data.buffer.slice(data.byteOffset, data.byteOffset + chunk.rowCount * width) as ArrayBuffer
}

/** Columns of a chunk as they lie in its memory: to be read before the chunk is let go, and not to be kept. */
export const viewUints = (chunk: DuckDBDataChunk, column: number): Uint32Array => {
  const data = memory(chunk, column, 4)
  return new Uint32Array(data.buffer, data.byteOffset, chunk.rowCount)
}
export const viewDoubles = (chunk: DuckDBDataChunk, column: number): Float64Array => {
  const data = memory(chunk, column, 8)
  return new Float64Array(data.buffer, data.byteOffset, chunk.rowCount)
}
export const viewBytes = (chunk: DuckDBDataChunk, column: number): Uint8Array => memory(chunk, column, 1)

export function readUints(chunk: DuckDBDataChunk, column: number): Uint32Array<ArrayBuffer> {
  return new Uint32Array(bytes(chunk, column, 4))
}

export function readBytes(chunk: DuckDBDataChunk, column: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes(chunk, column, 1))
}

export function readDoubles(chunk: DuckDBDataChunk, column: number): Float64Array<ArrayBuffer> {
  return new Float64Array(bytes(chunk, column, 8))
}

/** BIGINT, UBIGINT or TIMESTAMP below 2^53. */
export function readLongs(chunk: DuckDBDataChunk, column: number): Float64Array<ArrayBuffer> {
  const halves = new Uint32Array(bytes(chunk, column, 8))
  const values = new Float64Array(chunk.rowCount)
  for (let i = 0; i < values.length; i++) values[i] = halves[2 * i + 1]! * 4294967296 + halves[2 * i]!
  return values
}

/** Which rows of a column are not NULL, a bit each from the lowest of the first byte; undefined: all. */
export function readValidity(chunk: DuckDBDataChunk, column: number): Uint8Array | undefined {
  // The binding says null where there is no mask, which its types do not.
  const mask: Uint8Array | null = duckdb.vector_get_validity(
    duckdb.data_chunk_get_vector(rawChunk(chunk), column),
    Math.ceil(chunk.rowCount / 64) * 8,
  )
  return mask ?? undefined
}
