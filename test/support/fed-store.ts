import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import type { SqlDevices, SqlParameter, SqlValue } from '../../src/core/sql.ts'
import type { KeepMinutes } from '../../src/store/duckdb/series-state.ts'
import { openDuckdbStore, type DuckdbStore } from '../../src/store/duckdb/store.ts'
import { signal, spanOf, type TestRow } from './store-batches.ts'
import { StoreHead } from './store-head.ts'

/** A store that is fed as a server feeds it, through deduplication and rollups, and asked with SQL. `nowUs`: of its statements. */
export class FedStore {
  store!: DuckdbStore
  nowUs = 0
  readonly root = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-fed-'))
  readonly #keepMinutes: KeepMinutes
  readonly #devices: SqlDevices
  readonly #head = new StoreHead()
  #next = 0

  constructor(keepMinutes: KeepMinutes, devices: SqlDevices) {
    this.#keepMinutes = keepMinutes
    this.#devices = devices
  }

  async open(): Promise<void> {
    const env = nodeEnv(silentLogger)
    this.store = await openDuckdbStore({ dir: path.join(this.root, 'store'), env, memoryLimitMb: 256, sealBytes: 0, keepMinutes: this.#keepMinutes })
  }

  async reopen(): Promise<void> {
    await this.store.close()
    await this.open()
  }

  async end(): Promise<void> {
    await this.store.close()
    fs.rmSync(this.root, { recursive: true, force: true })
  }

  /** One commit. */
  async feed(rows: readonly TestRow[], receivedUs: number): Promise<void> {
    await this.store.commit({ tables: this.#head.push(rows, receivedUs), span: spanOf(this.#next, ++this.#next) }, signal)
  }

  async rows(sql: string, parameters: readonly SqlParameter[] = []): Promise<SqlValue[][]> {
    const query = { tenant: 'default', sql, parameters, limit: 100_000, nowUs: this.nowUs, devices: this.#devices }
    const answer = await this.store.sql(query, signal)
    if (answer === 'needs devices') throw new Error('devices were given')
    if (answer.truncated !== undefined) throw new Error(`${sql} has too many rows`)
    return Array.from({ length: answer.rows }, (_, r) => answer.values.map((column) => column[r]!))
  }
}

/** Sums may have been made in another order: twelve digits count. */
export function rounded(rows: readonly SqlValue[][]): SqlValue[][] {
  return rows.map((row) => row.map((cell) => (typeof cell === 'number' ? Number(cell.toPrecision(12)) : cell)))
}

export const noDevices: SqlDevices = {
  device: [],
  name: [],
  type: [],
  status: [],
  firmware: [],
  location: [],
  attributes: [],
  createdUs: [],
  lastSeenUs: [],
}
