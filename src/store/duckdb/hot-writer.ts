import type { DuckDBConnection, DuckDBPreparedStatement } from '@duckdb/node-api'
import type { Erasing, OperatorState, Tables } from '../../core/ports.ts'
import type { Span } from '../../core/record.ts'
import { Ledger } from './ledger.ts'
import { HotTables } from './tables.ts'

export interface CommitArgument {
  readonly tables: Tables
  readonly span: Span
  readonly states?: readonly OperatorState[]
  readonly erase?: Erasing
}

/** What writes into the hot file: appenders and prepared statements, which are made anew when the next file begins. */
export class HotWriter {
  readonly tables: HotTables
  readonly ledger: Ledger
  readonly begin: DuckDBPreparedStatement
  #closed = false

  private constructor(tables: HotTables, ledger: Ledger, begin: DuckDBPreparedStatement) {
    this.tables = tables
    this.ledger = ledger
    this.begin = begin
  }

  static async open(connection: DuckDBConnection): Promise<HotWriter> {
    return new HotWriter(await HotTables.open(connection), await Ledger.open(connection), await connection.prepare('BEGIN'))
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.tables.close()
    this.ledger.close()
    this.begin.destroySync()
  }
}
