/** The views that a user's SQL may name: docs/reference/sql.md. */
export const sqlViews = ['readings', 'readings_1m', 'readings_1h', 'device_telemetry', 'devices'] as const
export type SqlView = (typeof sqlViews)[number]

export type SqlParameter = string | number | boolean | null

/** One cell: 64-bit integers beyond 2^53 as decimal text, times as RFC 3339 (UTC), what is not finite as null, lists as arrays. */
export type SqlValue = string | number | boolean | null | readonly SqlValue[] | { readonly [name: string]: SqlValue }

/** Registered devices as columns of equal length, for the views that show them. Times in epoch microseconds. */
export interface SqlDevices {
  readonly device: readonly string[]
  readonly name: readonly string[]
  readonly type: readonly string[]
  readonly status: readonly string[]
  readonly firmware: readonly (string | null)[]
  readonly location: readonly (string | null)[]
  /** What the device says of itself, as a JSON object. */
  readonly attributes: readonly string[]
  readonly createdUs: readonly number[]
  readonly lastSeenUs: readonly (number | null)[]
}

/** One SELECT statement over the views, which show `tenant` and nothing else. */
export interface SqlQuery {
  readonly tenant: string
  readonly sql: string
  /** Values of `$1`, `$2`, … or `?`. */
  readonly parameters: readonly SqlParameter[]
  /** Rows of the answer. */
  readonly limit: number
  /** What `now()` is. */
  readonly nowUs: number
  /** Absent: the answer is `needs` when a view of the query shows devices. */
  readonly devices?: SqlDevices
}

export interface SqlColumn {
  /** Unique within the answer: a second `a` is `a:1`. */
  readonly name: string
  /** The engine's name of the type: DOUBLE, TIMESTAMP, VARCHAR … */
  readonly type: string
}

export interface SqlRows {
  readonly columns: readonly SqlColumn[]
  readonly rows: number
  /** Cell of row r and column c: `values[c][r]`. */
  readonly values: readonly (readonly SqlValue[])[]
  /** Why there are more rows than these: the limit of rows, or of bytes. */
  readonly truncated?: 'rows' | 'bytes'
}

/**
 * SQL of users, read-only. Rejects with `sql_invalid` (what the engine says, with line and column), `sql_refused` (a construct, function or
 * table that is not allowed), `query_deadline`, `query_too_large`, `overloaded`.
 */
export interface SqlStore {
  sql(query: SqlQuery, signal: AbortSignal): Promise<SqlRows | 'needs devices'>
}
