import { instant } from '../pg/moments.ts'

export { instant, microseconds } from '../pg/moments.ts'

/** Pieces of statements. COPY takes no parameters: only numbers that Kymo itself made enter a text; what comes from outside never does. */

/** Microseconds as a timestamptz. */
export function moment(us: number): string {
  return `timestamptz '${instant(us)}'`
}

/** Moments as one array. */
export function moments(us: Iterable<number>): string {
  return `'{${Array.from(us, (one) => `"${instant(one)}"`).join(',')}}'::timestamptz[]`
}

export function ints(values: ArrayLike<number>): string {
  for (let i = 0; i < values.length; i++) if (!Number.isSafeInteger(values[i])) throw new RangeError(`${values[i]} is not an integer`)
  return `'{${Array.prototype.join.call(values, ',')}}'::int[]`
}

/** The start of the bucket of `stepUs`, aligned to the epoch. */
export function bucketOf(stepUs: number, column: string): string {
  return `date_bin(interval '${stepUs} microseconds', ${column}, timestamptz '1970-01-01 00:00:00+00')`
}

/**
 * A sum that is infinite where it is beyond a double: PostgreSQL's own fails then, and one device's 1e308 must not stop a store. Divided by 2^64
 * while it
 * is summed up, where there is such a value; what is too small to be divided counts for nothing beside it.
 */
export function sumOf(value: string): string {
  const scaled = `sum(${value} / 18446744073709551616::float8) FILTER (WHERE abs(${value}) > 1e200)`
  return `CASE WHEN greatest(-min(${value}), max(${value})) < 1e290 THEN sum(${value}) FILTER (WHERE abs(${value}) < 1e290)
    WHEN abs(${scaled}) < 9.7e288 THEN ${scaled} * 18446744073709551616::float8 ELSE ${scaled} * 'infinity'::float8 END`
}

/** The sum of squared deviations, infinite where a square may be beyond a double. `var_pop` follows Youngs and Cramer: nothing cancels. */
export function m2Of(value: string): string {
  return `CASE WHEN greatest(-min(${value}), max(${value})) < 1e140 THEN var_pop(${value}) FILTER (WHERE abs(${value}) < 1e140) * count(${value})
    ELSE 'infinity'::float8 END`
}

export const rollupColumns = 'bucket, series, n, sum, m2, min, max, first, first_time, last, last_time'

/** Aggregates of `time` and `value`, as the columns of a rollup row after bucket and series. */
export const rollupOfRows = `count(value)::int AS n, ${sumOf('value')} AS sum, ${m2Of('value')} AS m2, min(value) AS min, max(value) AS max,
  (array_agg(value ORDER BY time))[1] AS first, min(time) AS first_time, (array_agg(value ORDER BY time))[count(value)] AS last, max(time) AS last_time`
