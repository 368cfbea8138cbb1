import {
  BOOLEAN,
  DOUBLE,
  DuckDBDecimalValue,
  DuckDBListValue,
  DuckDBStructValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
  VARCHAR,
  type DuckDBDataChunk,
  type DuckDBType,
  type DuckDBValue,
} from '@duckdb/node-api'
import type { SqlParameter, SqlValue } from '../../../core/sql.ts'
import { formatRfc3339 } from '../../../wire/time.ts'

const rfc3339Us = { min: 0n, max: 253_402_300_799_999_999n } as const

/** A value of the engine as core/sql.ts describes it. */
export function sqlValue(value: DuckDBValue): SqlValue {
  if (value === null) return null
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value
    case 'number':
      return Number.isFinite(value) ? value : null
    case 'bigint': {
      const number = Number(value)
      return Number.isSafeInteger(number) ? number : String(value)
    }
    default:
      break
  }
  if (value instanceof DuckDBTimestampValue || value instanceof DuckDBTimestampTZValue) {
    const { micros } = value
    return micros >= rfc3339Us.min && micros <= rfc3339Us.max ? rfc3339(micros) : String(value)
  }
  if (value instanceof DuckDBDecimalValue) return value.toDouble()
  if (value instanceof DuckDBListValue) return value.items.map(sqlValue)
  if (value instanceof DuckDBStructValue) return Object.fromEntries(Object.entries(value.entries).map(([name, one]) => [name, sqlValue(one)]))
  return String(value)
}

/** Beyond 2^53 us a double no longer counts single microseconds. */
function rfc3339(micros: bigint): string {
  const number = Number(micros)
  return Number.isSafeInteger(number)
    ? formatRfc3339(number)
    : `${new Date(Number(micros / 1000n)).toISOString().slice(0, -1)}${String(micros % 1000n).padStart(3, '0')}Z`
}

/** About how many bytes a value is in an answer. */
export function sizeOf(value: SqlValue): number {
  if (typeof value === 'string') return value.length + 3
  if (value === null || typeof value !== 'object') return 8
  let size = 2
  for (const one of Array.isArray(value) ? (value as readonly SqlValue[]) : Object.values(value)) size += sizeOf(one) + 1
  return size
}

/** Reads rows of a chunk into `columns`, at most `rows` and until `bytes` are used up. Returns the bytes that are left, below 0 when they did not suffice. */
export function readRows(chunk: DuckDBDataChunk, columns: SqlValue[][], rows: number, bytes: number): number {
  const vectors = columns.map((_, c) => chunk.getColumnVector(c))
  let left = bytes
  for (let row = 0; row < rows; row++) {
    const cells = vectors.map((vector) => sqlValue(vector.getItem(row)))
    for (const cell of cells) left -= sizeOf(cell)
    if (left < 0) return left
    cells.forEach((cell, c) => columns[c]!.push(cell))
  }
  return left
}

/** Parameters as the engine takes them. */
export function bound(parameters: readonly SqlParameter[]): { readonly values: DuckDBValue[]; readonly types: DuckDBType[] } {
  const types = parameters.map((value) => (typeof value === 'number' ? DOUBLE : typeof value === 'boolean' ? BOOLEAN : VARCHAR))
  return { values: [...parameters], types }
}
