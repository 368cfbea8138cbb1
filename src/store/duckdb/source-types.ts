/** A half-open range of times in microseconds. */
export interface Between {
  readonly fromUs: number
  readonly toUs: number
}

/** Where rows are, as statements. */
export interface RowSources {
  /** Each `SELECT series, ts, v, flags`; identities may be those of late rows, which count above them. */
  readonly base: readonly string[]
  /** Each `SELECT series, ts, v, flags, seq, text, meta`: of several of one identity the highest seq counts. */
  readonly late: readonly string[]
  /** Each `SELECT series, ts, text, meta`, of base rows. */
  readonly texts: readonly string[]
}

/** What the sketches of hours are made of. */
export interface SketchSources {
  /** Each `SELECT series, bucket, bin, n, low, high`: what is to be added up for an hour that was not computed again. */
  readonly base: readonly string[]
  /** Each `SELECT series, bucket, gen, n, bins`: of several of one hour the highest gen counts, above `base`; with n = 0 it has no numbers. */
  readonly corrected: readonly string[]
}

/** Where the rollup rows of one width are. */
export interface RollupSources {
  /** Each `SELECT series, bucket, n, sum, m2, min, max, first, first_ts, last, last_ts`. */
  readonly rows: readonly string[]
  /** Each the same and `gen`: of several of one bucket the highest counts, above `rows`; with n = 0 there is no row. */
  readonly corrected: readonly string[]
}
