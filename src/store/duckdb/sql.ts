/** Pieces of statements. Only numbers that Kymo itself made enter a text; what comes from outside never does. */

export { stepOf, type Level } from '../levels.ts'
/** Beyond every time that a reading can have, and exact as a number. */
export const lastTimeUs = Number.MAX_SAFE_INTEGER

/** Microseconds as a TIMESTAMP: comparing anything else with the column `ts` would disable zone maps. */
export function timestamp(us: number): string {
  if (!Number.isSafeInteger(us)) throw new RangeError(`${us} is not a time in microseconds`)
  return `make_timestamp(${us}::BIGINT)`
}

/** As one text that is cast: as a list of expressions, 100,000 numbers took 165 ms to bind instead of 22, and a statement has it up to a dozen times. */
export function integers(values: ArrayLike<number>, type: 'UINTEGER' | 'BIGINT'): string {
  for (let i = 0; i < values.length; i++) if (!Number.isSafeInteger(values[i])) throw new RangeError(`${values[i]} is not an integer`)
  return `unnest('[${Array.prototype.join.call(values, ',')}]'::${type}[])`
}

/** Aggregates of `readings`-shaped rows as the columns of a rollup row. An M2 of one row is 0 as `var_pop` is. */
export const rollupOfRows = `count(v)::UINTEGER AS n, sum(v) AS sum, var_pop(v) * count(v) AS m2, min(v) AS min, max(v) AS max,
  arg_min(v, ts) AS first, min(ts) AS first_ts, arg_max(v, ts) AS last, max(ts) AS last_ts`

/** The start of a row's bucket, in microseconds. Times are never negative. */
export function bucketOf(stepUs: number, column = 'ts'): string {
  return `(epoch_us(${column}) - epoch_us(${column}) % ${stepUs})`
}
