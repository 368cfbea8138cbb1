import type { Retention } from '../core/config.ts'
import type { Store } from '../core/ports.ts'
import type { SqlStore } from '../core/sql.ts'
import type { StoreStats } from '../store/duckdb/options.ts'

/** One commit that became durable and visible. */
export interface Committed {
  readonly partition: number
  /** Every record of it below is in the store. */
  readonly next: bigint
  readonly rows: number
  /** When the oldest of its readings was received; undefined when it had none. */
  readonly receivedUsOldest?: number
  readonly durationMs: number
}

/** Dropped, corrected and late rows since the start. */
export interface StoreCounts {
  readonly duplicates: number
  readonly corrections: number
  readonly late: number
}

/** What may change while a store runs. */
export interface StoreSettings {
  readonly retention: Retention
  /** When the file that is being written is closed and sealed. */
  readonly seal: { readonly bytes: number; readonly afterMs: number }
}

/** The store as the other roles see it: what fills it goes on by itself, here or in another process. */
export interface ServedStore extends Omit<Store, 'commit'>, SqlStore {
  /** Called after each commit of this process, when its records can be queried. Returns the way to stop. */
  onCommitted(listener: (commit: Committed) => void): () => void
  /** As of a moment ago. */
  stats(): StoreStats & StoreCounts
  /** Takes over when days are sealed and how long data is kept; rejects when it cannot. */
  reconfigure(settings: StoreSettings): Promise<void>
  /** Erasures that were committed and of which rows are still there, though nobody reads them; each with the number of its series. */
  erasing(): Promise<ReadonlyMap<string, number>>
}

/** Before anything is known of a store. */
export const nothingStored: StoreStats = {
  bytes: 0,
  series: 0,
  running: 0,
  waiting: 0,
  rawFromUs: 0,
  expiredBytes: { age: 0, size: 0, rules: 0 },
  rules: { series: [], dueFiles: 0 },
}
