/**
 * How far weights are held to equal ones, for one block of targets that do not overlap: with three blocks as strongly as the errors speak for others. Chosen on 74 series and horizons (ADR 23).
 */
const pull = 3
/** What weighs less is not worth its time in a forecast. */
const leastWeight = 0.05
/** Far more than the weights of a handful of members need to come to rest. */
const rounds = 2_000

/**
 * Weights of forecasters that are averaged: none negative, together 1. They make the squared error of the average small (stacking, Breiman 1996) and are drawn towards equal weights, the more the
 * fewer blocks of independent errors have been seen: what was best in four months by a little says next to nothing about the fifth. `errors`: of each, over the same targets; NaN where there is
 * none. Members whose weight would be small get 0. Equal weights where no target is common to all. The order of the members changes nothing but rounding.
 */
export function weightsOf(errors: readonly Float64Array[], blocks: number): number[] {
  const n = errors.length
  const equal = errors.map(() => 1 / n)
  const products = productsOf(errors)
  const mean = products.reduce((sum, row, i) => sum + row[i]!, 0) / n
  // Without errors, or where all are 0, nothing speaks for anyone.
  if (!(mean > 0 && mean < Number.POSITIVE_INFINITY)) return equal
  const held = (pull / Math.max(1, blocks)) * mean
  // No eigenvalue of the products is larger than their trace.
  const steepest = mean * n + held
  let weights = equal
  for (let round = 0; round < rounds; round++) {
    const before = weights
    weights = toSimplex(
      before.map((w, i) => {
        const slope = products[i]!.reduce((sum, product, k) => sum + product * before[k]!, held * (w - equal[i]!))
        return w - slope / steepest
      }),
    )
  }
  const kept = weights.map((w) => (w < leastWeight ? 0 : w))
  const all = kept.reduce((a, b) => a + b)
  return kept.map((w) => w / all)
}

/** Mean products of the errors of each two, over targets that all have answered. */
function productsOf(errors: readonly Float64Array[]): number[][] {
  const n = errors.length
  const products = errors.map(() => errors.map(() => 0))
  let count = 0
  const at = new Float64Array(n)
  for (let i = 0; i < (errors[0]?.length ?? 0); i++) {
    let sum = 0
    for (let k = 0; k < n; k++) sum += at[k] = errors[k]![i]!
    if (!Number.isFinite(sum)) continue
    count++
    for (let k = 0; k < n; k++) for (let other = 0; other <= k; other++) products[k]![other]! += at[k]! * at[other]!
  }
  return products.map((row, k) => row.map((_, other) => products[Math.max(k, other)]![Math.min(k, other)]! / count))
}

/** The nearest numbers that are not negative and add up to 1 (Duchi et al. 2008). */
function toSimplex(values: readonly number[]): number[] {
  let [sum, above] = [0, 0]
  for (const [i, value] of values.toSorted((a, b) => b - a).entries()) {
    sum += value
    const shift = (sum - 1) / (i + 1)
    if (value > shift) above = shift
  }
  return values.map((value) => Math.max(0, value - above))
}
