import { limits } from '../../core/limits.ts'
import { isQuantile, quantileError, quantiles, type Aggregation, type Quantile } from '../../core/ports.ts'

/**
 * DDSketch (Masson, Rim, Lee: "DDSketch: A fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019) as tables: a bin is a
 * row, and merging is to add up the counts of the same bin. docs/format/sketch.md.
 */

/** Each bin is this many times as wide as the one below it (definition 4). */
const gamma = (1 + quantileError) / (1 - quantileError)
const logGamma = Math.log(gamma)
/** What is nearer to 0 counts as 0: the smallest normal double. */
const leastMagnitude = 2 ** -1022
/** Added to the bin of a magnitude, so that a negative value's bin is the positive one's with the sign changed, and 0 is that of zero. */
const keyOffset = 1 - Math.ceil(Math.log(leastMagnitude) / logGamma)

/** The bin of a number, an INTEGER; bins are in the order of their values. */
export function binOf(value: string): string {
  const magnitude = `least(abs(${value}), ${Number.MAX_VALUE}::DOUBLE)`
  const key = `(sign(${value}) * (ceil(ln(greatest(${magnitude}, ${leastMagnitude}::DOUBLE)) / ${logGamma}::DOUBLE) + ${keyOffset}))::INTEGER`
  return `CASE WHEN abs(${value}) < ${leastMagnitude}::DOUBLE THEN 0 ELSE ${key} END`
}

/** The type of the bins of one hour in one row: `v` is `onlyValue`. */
export const binList = 'STRUCT(bin INTEGER, n UBIGINT, v DOUBLE)[]'

/**
 * From bins with `n`, `low` and `high` the value that all readings of one have, or NULL: of whole numbers, and of what is said more than once. (Of each
 * number with digits after the point it would cost as much as the readings: 820 bytes an hour of 360 noisy ones instead of 350.)
 */
export const onlyValue = 'CASE WHEN low = high AND (n > 1 OR low = round(low)) THEN low END'

/** And back: between which values the readings of a bin lie, as far as is known. */
export function lowAndHigh(v: string): string {
  return `coalesce(${v}, '-infinity'::DOUBLE) AS low, coalesce(${v}, 'infinity'::DOUBLE) AS high`
}

/**
 * Bins of hours of which none has more than `sketchBinsMax`: above it those of the smallest magnitudes are put together, of each sign in one, and only
 * what falls there loses its bound. `bins`: a table of (series, b, bin, n, low, high), one row for each bin; so is the statement that is returned.
 */
export function boundedBins(bins: string): string {
  return `SELECT series, b, bin, sum(n)::UBIGINT AS n, min(low) AS low, max(high) AS high FROM (
      SELECT k.series, k.b, (sign(k.bin) * greatest(abs(k.bin), coalesce(f.least, 0)))::INTEGER AS bin, k.n, k.low, k.high
      FROM ${bins} k LEFT JOIN (SELECT series, b, list_reverse_sort(list(abs(bin)))[${limits.sketchBinsMax - 2}] AS least FROM ${bins}
        GROUP BY series, b HAVING count(*) > ${limits.sketchBinsMax}) f ON f.series = k.series AND f.b = k.b)
    GROUP BY series, b, bin`
}

/**
 * Tables that end with `q (series, b, total, …)`, which has a column for each quantile that is asked for. `bins`: SELECT series, b, bin, n, low, high,
 * of which several rows may be of one bin. Answers are kept between its least and greatest value, where these are known.
 */
export function quantilesOfBins(bins: string, asked: readonly Aggregation[]): string[] {
  // By the lower end of the bin: the upper end of the highest is no finite number.
  const middle = `least(pow(${gamma}::DOUBLE, abs(bin) - ${keyOffset + 1}) * ${(2 * gamma) / (gamma + 1)}::DOUBLE, ${Number.MAX_VALUE}::DOUBLE)`
  const value = `least(greatest(CASE WHEN bin = 0 THEN 0 WHEN bin > 0 THEN ${middle} ELSE -${middle} END, low), high)`
  const columns = asked.filter(isQuantile).map((name) => `arg_min(v, bin) FILTER (upto > floor(${quantiles[name]} * (total - 1))) AS "${name}"`)
  return [
    `bins AS (SELECT series, b, bin, sum(n)::DOUBLE AS n, min(low) AS low, max(high) AS high FROM (${bins}) GROUP BY series, b, bin)`,
    `ranked AS (SELECT series, b, bin, ${value} AS v, sum(n) OVER (PARTITION BY series, b ORDER BY bin ROWS UNBOUNDED PRECEDING) AS upto,
      sum(n) OVER (PARTITION BY series, b) AS total FROM bins)`,
    `q AS (SELECT series, b, any_value(total) AS total, ${columns.join(', ')} FROM ranked GROUP BY series, b)`,
  ]
}

export const quantileColumn = (name: Quantile): string => `q."${name}"`
