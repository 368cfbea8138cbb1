import { from } from 'pg-copy-streams'
import type pg from 'pg'

/** Microseconds from the epoch of Unix to that of PostgreSQL, 1 January 2000. */
export const epochUs = 946_684_800_000_000
const two32 = 4_294_967_296
/** Of the type text (pg_type.dat). */
const textOid = 25

/** "PGCOPY\n\377\r\n\0", no flags, no extension: PostgreSQL, COPY, "Binary Format". */
const header = Buffer.from('5047434f50590aff0d0a000000000000000000', 'hex')

/** Rows in PostgreSQL's binary format, in one buffer that grows and is used again. Each row: `row(fields)`, then so many fields. */
export class CopyRows {
  rows = 0
  #bytes: Buffer
  #view: DataView
  #at = header.length

  constructor(capacity = 64 * 1024) {
    this.#bytes = Buffer.allocUnsafeSlow(capacity)
    this.#view = new DataView(this.#bytes.buffer)
    header.copy(this.#bytes)
  }

  clear(): void {
    this.rows = 0
    this.#at = header.length
  }

  /** `fields` of numbers take at most 12 bytes each; texts make room for themselves. */
  row(fields: number): void {
    this.#room(2 + 12 * fields)
    this.#view.setInt16(this.#at, fields)
    this.#at += 2
    this.rows++
  }

  int2(value: number): void {
    this.#view.setInt32(this.#at, 2)
    this.#view.setInt16(this.#at + 4, value)
    this.#at += 6
  }

  int4(value: number): void {
    this.#view.setInt32(this.#at, 4)
    this.#view.setInt32(this.#at + 4, value)
    this.#at += 8
  }

  /** A timestamptz; epoch microseconds. */
  time(us: number): void {
    const t = us - epochUs
    const high = Math.floor(t / two32)
    this.#view.setInt32(this.#at, 8)
    this.#view.setInt32(this.#at + 4, high)
    this.#view.setUint32(this.#at + 8, t - high * two32)
    this.#at += 12
  }

  /** As its upper and lower 32 bits; 0 is NULL. */
  bits(high: number, low: number): void {
    if (high === 0 && low === 0) {
      this.null()
      return
    }
    this.#view.setInt32(this.#at, 8)
    this.#view.setInt32(this.#at + 4, high)
    this.#view.setInt32(this.#at + 8, low)
    this.#at += 12
  }

  /** NaN is NULL: a row of text has no number. */
  float8(value: number): void {
    if (value !== value) {
      this.null()
      return
    }
    this.#view.setInt32(this.#at, 8)
    this.#view.setFloat64(this.#at + 4, value)
    this.#at += 12
  }

  /** NULL where there is none. */
  text(value: string | undefined): void {
    if (value === undefined) {
      this.null()
      return
    }
    const length = Buffer.byteLength(value)
    // And for the fields after it.
    this.#room(4 + length + 64)
    this.#view.setInt32(this.#at, length)
    this.#at += 4 + this.#bytes.write(value, this.#at + 4, length)
  }

  /** A text[] of one dimension, as array_send writes it; `undefined` is NULL. */
  texts(values: readonly (string | undefined)[]): void {
    this.#room(24 + 4 * values.length + 64)
    const start = this.#at
    for (const word of [0, 1, 1, textOid, values.length, 1]) {
      this.#view.setInt32(this.#at, word)
      this.#at += 4
    }
    for (const value of values) this.text(value)
    this.#view.setInt32(start, this.#at - start - 4)
  }

  null(): void {
    this.#view.setInt32(this.#at, -1)
    this.#at += 4
  }

  /** The whole of it; valid until the next change. */
  finish(): Buffer {
    this.#room(2)
    this.#view.setInt16(this.#at, -1)
    return this.#bytes.subarray(0, this.#at + 2)
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#at + bytes))
    this.#bytes.copy(grown, 0, 0, this.#at)
    this.#bytes = grown
    this.#view = new DataView(grown.buffer)
  }
}

/** COPY … FROM STDIN of these rows into `target` (`table (columns)`). */
export async function copyInto(client: pg.ClientBase, target: string, rows: CopyRows): Promise<void> {
  if (rows.rows === 0) return
  const stream = client.query(from(`COPY ${target} FROM STDIN (FORMAT binary)`))
  await new Promise<void>((resolve, reject) => {
    stream.on('finish', resolve).on('error', reject)
    stream.end(rows.finish())
  })
}
