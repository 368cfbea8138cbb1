import type { Batch, SeriesKey } from '../core/batch.ts'
import type { Retention } from '../core/config.ts'
import type { PlainError } from '../core/errors.ts'
import type { LogFields } from '../core/env.ts'
import type { OperatorState, QueryPage, RangeQuery, SeriesInfo, SeriesMatch, SeriesPage } from '../core/ports.ts'
import type { SqlQuery, SqlRows } from '../core/sql.ts'
import type { LogHandle } from '../log/embedded/log.ts'
import type { StoreStats } from '../store/duckdb/options.ts'
import type { StoreSnapshot } from '../store/duckdb/snapshot.ts'
import type { Committed, StoreCounts } from './served-store.ts'

/** How the store's thread is started. */
export interface StoreThreadStart {
  readonly dir: string
  readonly log: LogHandle
  readonly memoryLimitMb: number
  /** When the file that is being written is closed and sealed; absent: the limits' figures. */
  readonly seal?: { readonly bytes: number; readonly afterMs: number }
  readonly reserveBytes: number
  /** Absent: all is kept for ever. */
  readonly retention?: Retention
  /** See StoreRoleOptions. */
  readonly commitMessages?: number
}

/** Series as columns: 10,000 objects would hold the receiving thread for 15 ms. */
export interface InfoColumns {
  readonly tenants: readonly string[]
  readonly devices: readonly string[]
  readonly metrics: readonly string[]
  readonly firstUs: Float64Array
  readonly lastUs: Float64Array
}

export function toInfoColumns(infos: readonly SeriesInfo[]): InfoColumns {
  return {
    tenants: infos.map(({ key }) => key.tenant),
    devices: infos.map(({ key }) => key.device),
    metrics: infos.map(({ key }) => key.metric),
    firstUs: Float64Array.from(infos, (info) => info.firstUs),
    lastUs: Float64Array.from(infos, (info) => info.lastUs),
  }
}

export function fromInfoColumns({ tenants, devices, metrics, firstUs, lastUs }: InfoColumns): SeriesInfo[] {
  return tenants.map((tenant, i) => ({
    key: { tenant, device: devices[i]!, metric: metrics[i]! },
    firstUs: firstUs[i]!,
    lastUs: lastUs[i]!,
  }))
}

/** What the main thread asks. Each answer carries the id of its question. */
export type StoreAsk =
  | { readonly type: 'query'; readonly id: number; readonly query: RangeQuery }
  /** The asker takes so many more pages. */
  | { readonly type: 'more'; readonly id: number; readonly pages: number }
  | { readonly type: 'abort'; readonly id: number; readonly error: PlainError }
  | { readonly type: 'latest'; readonly id: number; readonly match: SeriesMatch }
  | { readonly type: 'series'; readonly id: number; readonly match: SeriesMatch; readonly page?: SeriesPage }
  | { readonly type: 'sql'; readonly id: number; readonly query: SqlQuery }
  | { readonly type: 'resume'; readonly id: number; readonly log: string; readonly topic: string; readonly partition: number }
  | { readonly type: 'snapshot'; readonly id: number; readonly into: string }
  | { readonly type: 'erasing'; readonly id: number }
  /** From now on these hold in place of those of the start. */
  | { readonly type: 'reconfigure'; readonly id: number; readonly retention: Retention; readonly seal: NonNullable<StoreThreadStart['seal']> }
  | { readonly type: 'close' }

export type StoreTell =
  | { readonly type: 'opened'; readonly sizes: StoreStats }
  | { readonly type: 'refused'; readonly error: PlainError }
  /** `keys` come with a query's first page only: they are the same for all. */
  | { readonly type: 'page'; readonly id: number; readonly page: Omit<QueryPage, 'keys'>; readonly keys?: readonly SeriesKey[] }
  | { readonly type: 'end'; readonly id: number }
  | { readonly type: 'failed'; readonly id: number; readonly error: PlainError }
  | { readonly type: 'batch'; readonly id: number; readonly batch: Batch }
  | { readonly type: 'infos'; readonly id: number; readonly infos: InfoColumns }
  | { readonly type: 'sql-rows'; readonly id: number; readonly answer: SqlRows | 'needs devices' }
  | {
      readonly type: 'resumed'
      readonly id: number
      readonly resumed: { readonly next: bigint; readonly states: readonly OperatorState[] } | undefined
    }
  | { readonly type: 'snapshot-taken'; readonly id: number; readonly snapshot: StoreSnapshot }
  /** Ids of erasures of which files still have rows, and the number of their series. */
  | { readonly type: 'erasing-still'; readonly id: number; readonly erasing: ReadonlyMap<string, number> }
  | { readonly type: 'reconfigured'; readonly id: number }
  | { readonly type: 'committed'; readonly commit: Committed; readonly sizes?: StoreStats; readonly counts: StoreCounts }
  /** Sealing and retention change sizes without a commit. */
  | { readonly type: 'sizes'; readonly sizes: StoreStats }
  | { readonly type: 'retry'; readonly error: PlainError }
  | { readonly type: 'log'; readonly level: 'debug' | 'info' | 'warn' | 'error'; readonly message: string; readonly fields?: LogFields }
  | { readonly type: 'fatal'; readonly error: PlainError }
  | { readonly type: 'closed' }

/** Pages on their way before the asker has taken any: 4 x 2,048 rows x 28 bytes. */
export const pagesAhead = 4
