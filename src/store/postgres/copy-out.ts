import { to } from 'pg-copy-streams'
import type pg from 'pg'
import { KymoError } from '../../core/errors.ts'
import { epochUs } from './copy-in.ts'

export type ColumnType = 'int2' | 'int4' | 'int8' | 'float8' | 'time' | 'text'

/** Rows as columns: numbers by their place (NaN for NULL; times as epoch microseconds), texts of the rows that have one. */
export interface Columns {
  readonly rows: number
  readonly numbers: readonly Float64Array[]
  readonly texts: readonly ReadonlyMap<number, string>[]
}

const headerBytes = 19
const two32 = 4_294_967_296

/**
 * Runs a statement and gives its rows, at most `pageRows` at a time, as COPY's binary format brings them: nothing is parsed from text, and the server
 * waits
 * for a slow reader. Whoever leaves before the end must close the connection.
 */
export async function* copyOut(
  client: pg.ClientBase,
  sql: string,
  types: readonly ColumnType[],
  pageRows: number,
): AsyncGenerator<Columns, void, void> {
  const stream = client.query(to(`COPY (${sql}) TO STDOUT (FORMAT binary)`))
  const reader = new Rows(types, pageRows)
  for await (const chunk of stream) {
    if (!Buffer.isBuffer(chunk)) throw new KymoError('bug', { detail: 'COPY gave something else than bytes.' })
    reader.add(chunk)
    for (let page = reader.take(false); page !== undefined; page = reader.take(false)) yield page
  }
  const last = reader.take(true)
  if (last !== undefined) yield last
}

class Rows {
  readonly #types: readonly ColumnType[]
  readonly #pageRows: number
  #bytes: Buffer = Buffer.alloc(0)
  #at = 0
  #begun = false
  #rows = 0
  #numbers: Float64Array[] = []
  #texts: Map<number, string>[] = []

  constructor(types: readonly ColumnType[], pageRows: number) {
    this.#types = types
    this.#pageRows = pageRows
    this.#clear(Math.min(pageRows, 64))
  }

  add(chunk: Buffer): void {
    this.#bytes = this.#at === this.#bytes.length ? chunk : Buffer.concat([this.#bytes.subarray(this.#at), chunk])
    this.#at = 0
  }

  /** A full page; at the end what there is. */
  take(end: boolean): Columns | undefined {
    if (!this.#begun) {
      if (this.#bytes.length < headerBytes) return undefined
      this.#at = headerBytes
      this.#begun = true
    }
    while (this.#rows < this.#pageRows && this.#row()) this.#rows++
    const rows = this.#rows
    if (rows === 0 || (rows < this.#pageRows && !end)) return undefined
    const page = { rows, numbers: this.#numbers.map((column) => column.subarray(0, rows)), texts: this.#texts }
    this.#clear(end ? 0 : Math.min(this.#pageRows, 2 * rows))
    return page
  }

  #clear(capacity: number): void {
    this.#rows = 0
    this.#numbers = this.#types.map(() => new Float64Array(capacity))
    this.#texts = this.#types.map(() => new Map<number, string>())
  }

  /** Reads one row; false when not all of it is here, or it is the trailer. */
  #row(): boolean {
    const bytes = this.#bytes
    let at = this.#at
    if (at + 2 > bytes.length || bytes.readInt16BE(at) < 0) return false
    at += 2
    const row = this.#rows
    if (row >= this.#numbers[0]!.length) this.#numbers = this.#numbers.map((column) => doubled(column))
    for (let i = 0; i < this.#types.length; i++) {
      if (at + 4 > bytes.length) return false
      const length = bytes.readInt32BE(at)
      at += 4
      if (length < 0) {
        this.#numbers[i]![row] = Number.NaN
        continue
      }
      if (at + length > bytes.length) return false
      this.#field(i, row, at, length)
      at += length
    }
    this.#at = at
    return true
  }

  #field(i: number, row: number, at: number, length: number): void {
    const bytes = this.#bytes
    const type = this.#types[i]!
    if (type === 'text') this.#texts[i]!.set(row, bytes.toString('utf8', at, at + length))
    else this.#numbers[i]![row] = numberAt(bytes, type, at)
  }
}

function numberAt(bytes: Buffer, type: Exclude<ColumnType, 'text'>, at: number): number {
  switch (type) {
    case 'float8':
      return bytes.readDoubleBE(at)
    case 'int2':
      return bytes.readInt16BE(at)
    case 'int4':
      return bytes.readInt32BE(at)
    case 'int8':
      return bytes.readInt32BE(at) * two32 + bytes.readUInt32BE(at + 4)
    case 'time':
      return bytes.readInt32BE(at) * two32 + bytes.readUInt32BE(at + 4) + epochUs
  }
}

function doubled(column: Float64Array): Float64Array {
  const grown = new Float64Array(Math.max(64, column.length * 2))
  grown.set(column)
  return grown
}
