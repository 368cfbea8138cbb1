import { quotedString, type DuckDBConnection, type DuckDBPreparedStatement } from '@duckdb/node-api'
import type { OperatorState } from '../../core/ports.ts'
import type { Span } from '../../core/record.ts'
import { erasedKey } from './dictionary.ts'
import { hot } from './schema.ts'
import { union, type Sources } from './sources.ts'
import { integers } from './sql.ts'

/** How far a partition of a log is stored. */
export interface SpanRow {
  readonly log: string
  readonly topic: string
  readonly partition: number
  next: bigint
}

export function spanName(span: Pick<Span, 'log' | 'topic' | 'partition'>): string {
  return `${span.log}\u0000${span.topic}\u0000${span.partition}`
}

/** A series that was erased, of which files still have rows. */
export interface ErasedSeries {
  readonly series: number
  /** Id of the erasure. */
  readonly erasure: string
  /** Number of the hot file that was written at that time: neither that nor an earlier file may stay as it is. */
  readonly hot: number
}

/** Where the tables stood when the state of the series was written down. */
export interface Mark {
  readonly gen: number
  readonly readings: number
  readonly seq: number
}

/**
 * The small tables that every commit touches: spans, operator states, and the written state of the series. All of it runs in
 * the transaction that is open on the connection.
 */
export class Ledger {
  readonly #connection: DuckDBConnection
  readonly #forget: DuckDBPreparedStatement
  readonly #keep: DuckDBPreparedStatement

  private constructor(connection: DuckDBConnection, forget: DuckDBPreparedStatement, keep: DuckDBPreparedStatement) {
    this.#connection = connection
    this.#forget = forget
    this.#keep = keep
  }

  static async open(connection: DuckDBConnection): Promise<Ledger> {
    return new Ledger(
      connection,
      await connection.prepare(`DELETE FROM ${hot}.states WHERE log = $1 AND topic = $2 AND part = $3 AND operator = $4`),
      await connection.prepare(`INSERT INTO ${hot}.states VALUES ($1, $2, $3, $4, $5, $6)`),
    )
  }

  close(): void {
    for (const statement of [this.#forget, this.#keep]) statement.destroySync()
  }

  /** When the hot file was made. */
  async createdUs(): Promise<number> {
    const rows = await (await this.#connection.run(`SELECT epoch_us(created)::DOUBLE FROM ${hot}.store_info`)).getRows()
    return Number(rows[0]?.[0])
  }

  async spans(): Promise<Map<string, SpanRow>> {
    const rows = (await (await this.#connection.run(`SELECT log, topic, part, next FROM ${hot}.spans`)).getRowsJS()) as [
      string,
      string,
      number,
      bigint,
    ][]
    return new Map(rows.map(([log, topic, partition, next]) => [spanName({ log, topic, partition }), { log, topic, partition, next }]))
  }

  /**
   * Moves the span and commits, in one call: each takes a turn on libuv's pool, where it waits for queries. Compare-and-set in the
   * statement itself: it fails, and the commit with it, unless the stored offset is the span's first. `known`: this log was seen before.
   */
  async commit(span: Span, known: boolean, gen: number): Promise<void> {
    if (!known) {
      await this.#connection.run(`INSERT INTO ${hot}.spans VALUES ($1, $2, $3, $4, $5)`, [
        span.log,
        span.topic,
        span.partition,
        span.next,
        BigInt(gen),
      ])
      await this.#connection.run('COMMIT')
      return
    }
    const where = `log = ${quotedString(span.log)} AND topic = ${quotedString(span.topic)} AND part = ${span.partition}`
    await this.#connection
      .run(`UPDATE ${hot}.spans SET next = CASE WHEN next = ${span.first} THEN ${span.next} ELSE error('span_conflict') END, gen = ${gen}
      WHERE ${where}; COMMIT`)
  }

  async states(log: string, topic: string, partition: number): Promise<OperatorState[]> {
    const sql = `SELECT operator, seen, bytes FROM ${hot}.states WHERE log = $1 AND topic = $2 AND part = $3 ORDER BY operator`
    const rows = (await (await this.#connection.run(sql, [log, topic, partition])).getRowsJS()) as [string, bigint, Uint8Array][]
    return rows.map(([operator, at, bytes]) => ({ operator, at, bytes: new Uint8Array(bytes) }))
  }

  async keepState(span: Span, state: OperatorState): Promise<void> {
    for (const statement of [this.#forget, this.#keep]) {
      statement.bindVarchar(1, span.log)
      statement.bindVarchar(2, span.topic)
      statement.bindUInteger(3, span.partition)
      statement.bindVarchar(4, state.operator)
    }
    await this.#forget.run()
    this.#keep.bindUBigInt(5, state.at)
    this.#keep.bindBlob(6, state.bytes)
    await this.#keep.run()
    this.#keep.clearBindings()
  }

  /** Writes the series' state down, so that the next start reads only what comes after. */
  async keepMark(mark: Mark, bytes: Uint8Array): Promise<void> {
    await this.#connection.run(`DELETE FROM ${hot}.series_state`)
    await this.#connection.run(`DELETE FROM ${hot}.pending`)
    await this.#connection.run(`DELETE FROM ${hot}.minutes_kept`)
    const keep = await this.#connection.prepare(`INSERT INTO ${hot}.series_state SELECT $1, $2, (SELECT count(*) FROM ${hot}.texts), $3, $4`)
    keep.bindUBigInt(1, BigInt(mark.gen))
    keep.bindUBigInt(2, BigInt(mark.readings))
    keep.bindUBigInt(3, BigInt(mark.seq))
    keep.bindBlob(4, bytes)
    await keep.run()
    keep.destroySync()
  }

  /** What was erased and is still in files. */
  async erased(): Promise<ErasedSeries[]> {
    const rows = await (await this.#connection.run(`SELECT series, erasure, hot::DOUBLE FROM ${hot}.erased`)).getRows()
    return rows.map(([series, erasure, file]) => ({ series: Number(series), erasure: String(erasure), hot: Number(file) }))
  }

  /** Takes the names of series away and notes that their rows are to go. `pending` and `minutes_kept` belong to the state of series, and go with it. */
  async erase(rows: readonly ErasedSeries[]): Promise<void> {
    if (rows.length === 0) return
    const [first] = rows
    const ids = integers(
      rows.map((row) => row.series),
      'UINTEGER',
    )
    const { tenant, device, metric } = erasedKey
    const blank = `tenant = ${quotedString(tenant)}, device = ${quotedString(device)}, metric = ${quotedString(metric)}`
    await this.#connection.run(`UPDATE ${hot}.series SET ${blank} WHERE id IN (SELECT ${ids})`)
    for (const table of ['pending', 'minutes_kept']) await this.#connection.run(`DELETE FROM ${hot}.${table} WHERE series IN (SELECT ${ids})`)
    await this.#connection.run(`INSERT INTO ${hot}.erased SELECT ${ids}, $1, $2`, [first!.erasure, BigInt(first!.hot)])
  }

  /** No file has rows of these series any more. */
  async forgetErased(ids: readonly number[]): Promise<void> {
    await this.#connection.run(`DELETE FROM ${hot}.erased WHERE series IN (SELECT ${integers(ids, 'UINTEGER')})`)
  }

  /** The texts of these series at these times. */
  async texts(sources: Sources, series: readonly number[], timesUs: readonly number[]): Promise<Map<number, string>> {
    const { texts, late } = sources.rows(series, {
      fromUs: timesUs.reduce((a, b) => Math.min(a, b)),
      toUs: timesUs.reduce((a, b) => Math.max(a, b)) + 1,
    })
    const sql = `WITH w AS (SELECT ${integers(series, 'UINTEGER')} AS series, ${integers(timesUs, 'BIGINT')} AS us)
      SELECT series, arg_max(text, seq) FROM (
        SELECT t.series, t.text, 0::UBIGINT AS seq FROM (${union(texts)}) t JOIN w ON t.series = w.series AND t.ts = make_timestamp(w.us)
        UNION ALL SELECT l.series, l.text, l.seq FROM (${union(late)}) l JOIN w ON l.series = w.series AND l.ts = make_timestamp(w.us))
      WHERE text IS NOT NULL GROUP BY series`
    const rows = (await (await this.#connection.run(sql)).getRowsJS()) as [number, string][]
    return new Map(rows)
  }
}
