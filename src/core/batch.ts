/** Names one series: what a device (within a tenant) measures. */
export interface SeriesKey {
  /** `default` when the credential names none; never taken from a payload. */
  readonly tenant: string
  readonly device: string
  readonly metric: string
}

/** Bits of `Batch.flags`. A row without bits is a plain number with a plausible time. */
export const Flag = {
  /** The value came as `true` or `false`; `value` is 1 or 0. */
  boolean: 1,
  /** The value is text (a string, or an integer beyond 2^53 kept to the digit); `value` is NaN, see `Batch.text`. */
  text: 2,
  /** An integer beyond 2^53 that lives in `text` exactly as it was written. Set together with `text`. */
  bigInteger: 4,
  /** Delivered with RETAIN=1 on the pull side: state, not a fresh sample. */
  retained: 8,
  /** Event time more than `clockAheadMaxUs` beyond received time: stored, but moves no watermark. */
  clockAhead: 16,
  /** Older than the dedupe operator can vouch for: merge on read, recompute touched buckets. Set by `dedupe`. */
  late: 32,
  /** The message had no time of its own; event time is arrival time. */
  arrivalTime: 64,
} as const

/**
 * Where messages without a time of their own came from, so that a redelivery is recognised
 * (`origin` columns are per message, not per row). Message m covers rows [firstRow[m], firstRow[m + 1]) or up to the
 * next origin's first row; rows of messages with their own time belong to no origin.
 */
export interface OriginColumns {
  readonly count: number
  readonly firstRow: Uint32Array
  /** 64-bit identity, as two halves: hash of (client, packet id, payload) for MQTT, of the Idempotency-Key for HTTP. */
  readonly hashHigh: Uint32Array
  readonly hashLow: Uint32Array
}

/**
 * Many readings as columns: row i says that series `keys[series[i]]` was `value[i]` at `timeUs[i]`.
 * Borrowed: whoever hands you a Batch may reuse its arrays after you acknowledged it. Copy to keep.
 */
export interface Batch {
  readonly rows: number
  /** May be longer than what `series` refers to (it can be a whole process's table); only append, never reorder. */
  readonly keys: readonly SeriesKey[]
  /** Index into `keys`, length >= rows. */
  readonly series: Uint32Array
  /** Event time, epoch microseconds UTC, an integer in a double (exact until the year 2255), length >= rows. */
  readonly timeUs: Float64Array
  /** Length >= rows. Booleans as 0/1; NaN where the row lives in `text`. */
  readonly value: Float64Array
  /** Bits of `Flag`, length >= rows. Absent: all zero. */
  readonly flags?: Uint8Array
  /** Row index to text, for rows with `Flag.text`. */
  readonly text?: ReadonlyMap<number, string>
  /** Row index (first row of its message) to the message's free metadata as JSON text. */
  readonly meta?: ReadonlyMap<number, string>
  readonly origin?: OriginColumns
}

export const emptyBatch: Batch = {
  rows: 0,
  keys: [],
  series: new Uint32Array(0),
  timeUs: new Float64Array(0),
  value: new Float64Array(0),
}
