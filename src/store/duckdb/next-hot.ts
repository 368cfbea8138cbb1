import type { DuckDBConnection } from '@duckdb/node-api'
import fs from 'node:fs'
import type { Mark } from './ledger.ts'
import { createTables, hot, hotBlockBytes, takeOver, takeOverAtLast } from './schema.ts'
import { quoted } from './sealed/format.ts'

const catalog = 'next'

/** What the store knows of all series, as `series_state` keeps it (docs/format/store.md). */
export interface StateBytes {
  readonly mark: Pick<Mark, 'gen' | 'seq'>
  readonly bytes: Uint8Array
}

/**
 * The file that will be the hot one: filled beside commits, so that they wait only for what has come since. It has no write-ahead log, since it is nobody's
 * until its rename, before which it is whole and synced.
 */
export class NextHot {
  /** Where it lies; it gets its name from who calls `finish`. */
  readonly file: string
  #state: 'none' | 'attached' | 'filled' | 'broken' = 'none'
  #spoiled = 0

  constructor(file: string) {
    this.file = `${file}.tmp`
  }

  /**
   * Takes over what is there by now, also again. Between checkpoints of the hot file, on a connection that does nothing else. A failure leaves the rest to `finish`, where commits wait for it.
   */
  async prepare(connection: DuckDBConnection): Promise<void> {
    if (this.#state === 'broken') return
    const before = this.#spoiled
    try {
      if (this.#state === 'none') {
        for (const end of ['', '.wal']) fs.rmSync(this.file + end, { force: true })
        await connection.run(`ATTACH ${quoted(this.file)} AS ${catalog} (BLOCK_SIZE ${hotBlockBytes}, RECOVERY_MODE no_wal_writes)`)
        this.#state = 'attached'
      }
      await connection.run('BEGIN')
      if (this.#state === 'attached') await connection.run(createTables.replaceAll(`${hot}.`, `${catalog}.`))
      await this.#takeOver(connection)
      await connection.run('COMMIT')
      await connection.run(`CHECKPOINT ${catalog}`)
      this.#state = before === this.#spoiled ? 'filled' : 'broken'
    } catch (thrown) {
      this.#state = this.#state === 'none' ? 'none' : 'broken'
      await connection.run('ROLLBACK').catch(() => undefined) // it was committed, or never begun
      throw thrown
    }
  }

  /** What it has by now may be of a device that is erased: it is made anew, as what is deleted from a file may be in it still. */
  spoil(): void {
    this.#spoiled++
    if (this.#state === 'filled') this.#state = 'broken'
  }

  /** The rest, and durably: afterwards the file is complete and closed. Between two commits, when no query runs and no other transaction is open. */
  async finish(connection: DuckDBConnection, state: StateBytes, createdUs: number): Promise<void> {
    if (this.#state === 'broken') await this.drop(connection)
    if (this.#state !== 'filled') await this.prepare(connection)
    try {
      await connection.run('BEGIN')
      await this.#takeOver(connection)
      await connection.run(takeOverAtLast(catalog, createdUs))
      const keep = await connection.prepare(`INSERT INTO ${catalog}.series_state VALUES ($1, 0, 0, $2, $3)`)
      keep.bindUBigInt(1, BigInt(state.mark.gen))
      keep.bindUBigInt(2, BigInt(state.mark.seq))
      keep.bindBlob(3, state.bytes)
      await keep.run()
      keep.destroySync()
      await connection.run('COMMIT')
      await connection.run(`CHECKPOINT ${catalog}`)
    } catch (thrown) {
      this.#state = 'broken'
      await connection.run('ROLLBACK').catch(() => undefined) // as above
      throw thrown
    }
    await this.drop(connection)
  }

  /** Closes it as it is. When no query runs. */
  async drop(connection: DuckDBConnection): Promise<void> {
    await connection.run(`DETACH ${catalog}`)
    this.#state = 'none'
  }

  async #takeOver(connection: DuckDBConnection): Promise<void> {
    await connection.run(takeOver(catalog))
    const states = 'SELECT log, topic, part, operator, seen FROM'
    const rows = await (await connection.run(`SELECT count(*)::INTEGER FROM (${states} ${hot}.states EXCEPT ${states} ${catalog}.states)`)).getRows()
    // Some hundred bytes for each series and operator: only when there are others.
    if (rows[0]?.[0] !== 0) await connection.run(`DELETE FROM ${catalog}.states; INSERT INTO ${catalog}.states SELECT * FROM ${hot}.states`)
  }
}
