import { isQuantile, quantiles, type Aggregation, type Quantile } from '../../core/ports.ts'
import { gamma, keyOffset, leastMagnitude, logGamma } from '../../compute/window/sketch.ts'

/**
 * The sketch of compute/window/sketch.ts as a GROUP BY: its key is the bin, counts of the same bin add up. What has to be kept grows with the bins
 * that are met and not with the rows. Each bin's least and greatest value, between which its answer is kept, can only bring it nearer.
 */
export function binColumns(value: string): string {
  const magnitude = `least(greatest(abs(${value}), ${leastMagnitude}::DOUBLE), ${Number.MAX_VALUE}::DOUBLE)`
  const key = `(sign(${value}) * (ceil(ln(${magnitude}) / ${logGamma}::DOUBLE) + ${keyOffset}))::INTEGER`
  return `CASE WHEN abs(${value}) < ${leastMagnitude}::DOUBLE THEN 0 ELSE ${key} END AS bin, count(*) AS n, min(${value}) AS low, max(${value}) AS high`
}

/** Tables that end with `q (series, b, …)`, which has a column for each quantile that is asked for. `bins`: SELECT series, b, and `binColumns`. */
export function quantilesOfBins(bins: string, asked: readonly Aggregation[]): string[] {
  const middle = `(2 * pow(${gamma}::DOUBLE, least(abs(bin) - ${keyOffset}, 35480)) / ${gamma + 1}::DOUBLE)`
  const value = `least(greatest(CASE WHEN bin = 0 THEN 0 WHEN bin > 0 THEN ${middle} ELSE -${middle} END, low), high)`
  const columns = asked.filter(isQuantile).map((name) => `arg_min(v, bin) FILTER (upto > floor(${quantiles[name]} * (total - 1))) AS "${name}"`)
  return [
    `bins AS (${bins})`,
    `ranked AS (SELECT series, b, bin, ${value} AS v, sum(n::DOUBLE) OVER (PARTITION BY series, b ORDER BY bin ROWS UNBOUNDED PRECEDING) AS upto,
      sum(n::DOUBLE) OVER (PARTITION BY series, b) AS total FROM bins)`,
    `q AS (SELECT series, b, ${columns.join(', ')} FROM ranked GROUP BY series, b)`,
  ]
}

export const quantileColumn = (name: Quantile): string => `q."${name}"`
