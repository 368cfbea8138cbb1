import { Dedupe } from '../../src/compute/window/dedupe.ts'
import { Rollup } from '../../src/compute/window/rollup.ts'
import type { SeriesKey } from '../../src/core/batch.ts'
import type { OperatorState, RollupColumns, Tables } from '../../src/core/ports.ts'
import { batchOf, type TestRow } from './store-batches.ts'

/** What heads a store, as the store role runs it: rows go through deduplication and rollups into the tables of one commit. */
export class StoreHead {
  #dedupe = new Dedupe()
  #rollup = new Rollup()

  /**
   * The tables of the next commit; they hold until the next call. `receivedUs`: when the rows arrived, which also closes the buckets that are
   * over by then; without it nothing is ahead of its time, and only readings close buckets.
   */
  push(rows: readonly TestRow[], receivedUs?: number): Tables {
    const tables: { [K in keyof Tables]: Tables[K][number][] } = { readings: [], late: [], rollups: [] }
    const closed = (columns: RollupColumns): void => void tables.rollups.push(columns)
    if (receivedUs !== undefined) this.#rollup.tick(receivedUs, closed)
    if (rows.length > 0)
      this.#dedupe.push(
        batchOf(rows),
        (out) => {
          tables.readings.push(out.inOrder)
          if (out.late.rows > 0) tables.late.push(out.late)
          this.#rollup.push(out.inOrder, closed)
        },
        receivedUs,
      )
    return tables
  }

  /** To be committed with the tables of everything below offset `at`. */
  states(at: bigint): OperatorState[] {
    return [
      { operator: 'dedupe', at, bytes: this.#dedupe.snapshot() },
      { operator: 'rollup', at, bytes: this.#rollup.snapshot() },
    ]
  }

  /** Goes on from committed states, with operators that know nothing else. */
  restore(states: readonly OperatorState[]): void {
    this.#dedupe = new Dedupe()
    this.#rollup = new Rollup()
    for (const { operator, bytes } of states) (operator === 'dedupe' ? this.#dedupe : this.#rollup).restore(bytes)
  }

  /** A device that is erased. */
  forget(tenant: string, device: string): void {
    this.#dedupe.forget(tenant, device)
    this.#rollup.forget(tenant, device)
  }

  /** The newest reading of a series, where there is a store and no state. */
  seed(key: SeriesKey, timeUs: number): void {
    this.#dedupe.seed(key, timeUs)
  }
}
