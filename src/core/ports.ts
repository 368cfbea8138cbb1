import type { Batch, SeriesKey } from './batch.ts'
import type { Calendar } from './calendar.ts'
import type { Delivery, LogRecord, Span } from './record.ts'

/** Where acknowledged records come from. */
export interface Source {
  /** One consumer at a time. Ends when `signal` aborts; a later `open` starts again at the first unacknowledged record. */
  open(signal: AbortSignal): AsyncIterable<Delivery>
  close(): Promise<void>
}

/** Where records go. */
export interface Sink {
  /** Resolves when durable: the pending promise IS the back-pressure. Records are borrowed until then. */
  write(records: readonly LogRecord[], span: Span | undefined, signal: AbortSignal): Promise<void>
  close(): Promise<void>
}

export interface ReaderOptions {
  readonly topic: string
  /** Committed offsets are kept under this name and retention waits for it. Absent: every partition, nothing is kept. */
  readonly group?: string
  /**
   * `committed` falls back to `earliest` for a group that is new. An offset starts there (one-partition logs); offsets by partition, without a group:
   * those partitions are read, and no others.
   */
  readonly start: 'committed' | 'earliest' | 'latest' | { readonly offset: bigint } | { readonly offsets: ReadonlyMap<number, bigint> }
  /** Gather up to this much before delivering: bytes of the log, and how long to wait for more once there is something. */
  readonly batch?: { readonly bytesMax?: number; readonly lingerMs?: number | (() => number) }
}

export interface PartitionLag {
  readonly partition: number
  /** First offset still kept, next offset that the group will read, offset after the last durable record. */
  readonly earliest: bigint
  readonly committed: bigint
  readonly end: bigint
  /** Bytes between committed and end. */
  readonly bytes: number
  /** Received time of the first record not yet committed; undefined when there is none. */
  readonly oldestUs?: number
}

/** A topic as it is at some moment. */
export interface TopicPlaces {
  /** The topic's life, as in `Span.log`. */
  readonly log: string
  /** Of each partition, in order: the first offset that is still kept, and the offset after the last durable record. */
  readonly partitions: readonly { readonly partition: number; readonly earliest: bigint; readonly end: bigint }[]
  /** On disk, once: copies on other machines are not counted. */
  readonly bytes: number
}

/**
 * The ordered, durable stream. `write` resolves after fsync (or the broker's acks=all), never before; on `unavailable` nothing of the call was
 * kept, or, where there are many partitions, perhaps a part of it: it is offered again, and what comes twice is known by its identity. Records of
 * one key keep their order. A reader sees only what is durable. Once `write` has resolved the log is done with the records, their bytes included: the
 * caller writes into them anew.
 */
export interface StreamLog extends Sink {
  reader(options: ReaderOptions): Source
  lag(topic: string, group: string): Promise<readonly PartitionLag[]>
  places(topic: string): Promise<TopicPlaces>
}

/** Which series. Absent lists mean all; both given: all combinations that exist. */
export interface SeriesMatch {
  readonly tenant: string
  /** Of every tenant, whatever `tenant` says: for Kymo's own roles, never from a request. */
  readonly everyTenant?: true
  readonly devices?: readonly string[]
  readonly metrics?: readonly string[]
}

/** Made from rollups or readings alike. */
export const statistics = ['avg', 'min', 'max', 'sum', 'count', 'stddev', 'first', 'last'] as const
export type Statistic = (typeof statistics)[number]

/** Quantiles are within this share of the value whose rank among the n of a bucket is floor(q (n - 1)): docs/format/sketch.md. */
export const quantileError = 0.01
/** No value (NaN) where readings of the bucket have gone by age or size, and no sketch has all of them. */
export const quantiles = { median: 0.5, p5: 0.05, p10: 0.1, p25: 0.25, p50: 0.5, p75: 0.75, p90: 0.9, p95: 0.95, p99: 0.99 } as const
export type Quantile = keyof typeof quantiles
const quantileNames = ['median', 'p5', 'p10', 'p25', 'p50', 'p75', 'p90', 'p95', 'p99'] as const satisfies readonly Quantile[]

export const aggregations = [...statistics, ...quantileNames] as const
export type Aggregation = Statistic | Quantile

export function isQuantile(name: Aggregation): name is Quantile {
  return Object.hasOwn(quantiles, name)
}

/** Where a page ended: strictly after (in the query's order) this (time, device, metric). */
export interface Position {
  readonly timeUs: number
  readonly device: string
  readonly metric: string
}

/** Half-open [fromUs, toUs). Results are ordered by (time, device, metric), ascending or descending. */
export interface RangeQuery {
  readonly match: SeriesMatch
  readonly fromUs: number
  readonly toUs: number
  /** Buckets of this width, aligned to the epoch (UTC). Neither this nor `calendar`: raw readings. */
  readonly stepUs?: number
  /** In place of `stepUs`: buckets that are days, weeks, months or years of a time zone. */
  readonly calendar?: Calendar
  /** Of buckets: which aggregates; each becomes a column. */
  readonly aggregations?: readonly Aggregation[]
  /**
   * A row for each series that matches and each bucket that meets the range, be it without readings: its count is 0 and the rest NaN. Absent:
   * buckets without readings are no rows.
   */
  readonly gaps?: 'null'
  readonly order: 'asc' | 'desc'
  /** Rows in all; the caller asks for one more than it shows to know whether there is more. */
  readonly limit: number
  readonly after?: Position
}

/** Part of an answer, as columns. Row i belongs to keys[series[i]]. Raw: column `value`; buckets: one per aggregation. */
export interface QueryPage {
  readonly rows: number
  readonly keys: readonly SeriesKey[]
  readonly series: Uint32Array
  /** Event time, or the bucket's start. */
  readonly timeUs: Float64Array
  readonly columns: Readonly<Record<string, Float64Array>>
  /** Buckets only: one or more have numbers and yet no quantile. */
  readonly partial?: true
  /** Raw only. */
  readonly flags?: Uint8Array
  readonly text?: ReadonlyMap<number, string>
  readonly meta?: ReadonlyMap<number, string>
}

/** A page of series: at most `limit`, ordered by device and metric (UTF-16 units), strictly after `after`. */
export interface SeriesPage {
  readonly limit: number
  readonly after?: Pick<SeriesKey, 'device' | 'metric'>
}

/** What one series has in the store. */
export interface SeriesInfo {
  readonly key: SeriesKey
  readonly firstUs: number
  readonly lastUs: number
}

/** Rows for one commit. All batches are what the operators let through; nothing here is deduplicated again. */
export interface Tables {
  /** In-order rows that are new. */
  readonly readings: readonly Batch[]
  /** Rows with `Flag.late` or `Flag.clockAhead`, and corrections: identities that may exist already; the later arrival wins. */
  readonly late: readonly Batch[]
  /** Closed buckets of the rollups. */
  readonly rollups: readonly RollupColumns[]
}

/**
 * Buckets of one width. Mean and M2 (sum of squared deviations) merge by Chan et al. (1979); sums of squares cancel.
 * A row with count 0 asks the store to compute the bucket again from its rows: a reading came for it that no open bucket took.
 * Buckets with a count come in the order of time for each series, and at most once.
 */
export interface RollupColumns {
  readonly stepUs: number
  readonly rows: number
  readonly keys: readonly SeriesKey[]
  readonly series: Uint32Array
  /** Bucket start. */
  readonly timeUs: Float64Array
  readonly count: Float64Array
  readonly mean: Float64Array
  readonly m2: Float64Array
  readonly min: Float64Array
  readonly max: Float64Array
  readonly first: Float64Array
  readonly firstUs: Float64Array
  readonly last: Float64Array
  readonly lastUs: Float64Array
  /** Absent: count x mean, which is not exact for integers. */
  readonly sum?: Float64Array
}

export interface OperatorState {
  readonly operator: string
  /** The log offset that this state has seen everything below. */
  readonly at: bigint
  readonly bytes: Uint8Array
}

/** The device whose data a commit erases, and the id by which that is asked for. */
export interface Erasing {
  readonly id: string
  readonly tenant: string
  readonly device: string
}

/**
 * The time-series store. Rows, operator state and the span they came from become durable together, or not at all.
 * `commit` is compare-and-set: it fails with `span_conflict` unless the stored next offset equals `span.first` (a store that
 * has seen nothing of this log accepts any first); a caller resumes at `resume()` after a conflict. Late rows: the touched rollup
 * buckets are recomputed in the same transaction. `erase`: with this commit nobody reads any more what the device has, rows of the commit included;
 * `states` must come with it, which know nothing of the device either. Files follow by and by. Owner of its threads and files; one process opens one store.
 */
export interface Store {
  commit(
    c: { readonly tables: Tables; readonly span: Span; readonly states?: readonly OperatorState[]; readonly erase?: Erasing },
    signal: AbortSignal,
  ): Promise<void>
  /** What was committed last for this partition: the next offset, and operator states (whose `at` may lie before it). */
  resume(log: string, topic: string, partition: number): Promise<{ readonly next: bigint; readonly states: readonly OperatorState[] } | undefined>
  /** Pages of at most a few thousand rows; abort interrupts the engine. Deduplicated at every moment. */
  query(q: RangeQuery, signal: AbortSignal): AsyncIterable<QueryPage>
  /** The last reading of each series (by event time, rows with clock ahead excluded unless there is no other). */
  latest(match: SeriesMatch, signal: AbortSignal): Promise<Batch>
  /** Ordered by device and metric; all of them, or a page. */
  series(match: SeriesMatch, signal: AbortSignal, page?: SeriesPage): Promise<readonly SeriesInfo[]>
  close(): Promise<void>
}

/** Pure and replayable: no I/O, no clock. Time arrives as data and as ticks (received time). */
export interface Operator<Out> {
  push(batch: Batch, emit: (out: Out) => void): void
  tick(receivedUs: number, emit: (out: Out) => void): void
  snapshot(): Uint8Array
  restore(state: Uint8Array): void
}

/** A JSON document with an id, unique within (collection, tenant). */
export interface MetaDocument {
  readonly id: string
  readonly [field: string]: unknown
}

export interface MetaRow<D extends MetaDocument = MetaDocument> {
  readonly doc: D
  /** Starts at 1, grows with each write of this document. */
  readonly version: number
}

export type MetaWrite =
  /** `expect`: 0 = must not exist, n = must be at version n, absent = whatever. */
  | { readonly op: 'put'; readonly collection: string; readonly tenant: string; readonly doc: MetaDocument; readonly expect?: number }
  | { readonly op: 'delete'; readonly collection: string; readonly tenant: string; readonly id: string; readonly expect?: number }

/**
 * Metadata: devices, tokens and what later issues add, as documents in named collections. Writes of one call are atomic and
 * durable when it resolves; a failed expectation rejects with `already_exists` or `version_conflict` and writes nothing.
 */
export interface MetaStore {
  get(collection: string, tenant: string, id: string): Promise<MetaRow | undefined>
  /** Ordered by id, strictly after `after`; `where` compares top-level fields for equality. */
  list(
    collection: string,
    tenant: string,
    o: { readonly after?: string; readonly limit: number; readonly where?: Readonly<Record<string, string | number | boolean>> },
  ): Promise<readonly MetaRow[]>
  count(collection: string, tenant: string): Promise<number>
  write(writes: readonly MetaWrite[]): Promise<readonly MetaRow[]>
  close(): Promise<void>
}
