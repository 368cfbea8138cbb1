/** Bins of a feature at most: one for missing values, the others for quantiles, so that a bin is a byte. */
export const binsMax = 255

/** A feature's quantiles are taken from so many of its values, evenly picked. */
const sampled = 8_192

/**
 * Upper ends of bins that hold about as many values each: `bins` - 2 of them at most, ascending, for bin 0 is that of missing values and the last bin
 * has no end. Values in equal numbers in each bin, as far as equal values allow; where a feature has fewer different values than bins, each has its
 * own. Infinite values count as missing.
 */
export function binEdges(values: Float64Array, bins: number): Float64Array {
  const stride = Math.max(1, Math.floor(values.length / sampled))
  const sorted = values.filter((v, i) => i % stride === 0 && Number.isFinite(v)).sort()
  const distinct = sorted.filter((v, i) => i === 0 || v > sorted[i - 1]!)
  const edges: number[] = []
  const add = (below: number, above: number): void => {
    const edge = below / 2 + above / 2
    // Neighbouring doubles have nothing between them; then the lower one is the end of its bin.
    edges.push(edge < above ? edge : below)
  }
  if (distinct.length < bins) {
    for (let i = 1; i < distinct.length; i++) add(distinct[i - 1]!, distinct[i]!)
    return Float64Array.from(edges)
  }
  let at = 0
  for (let k = 1; k < bins - 1; k++) {
    const wanted = Math.floor((k * sorted.length) / (bins - 1))
    // The first place from there on at which the value changes.
    at = Math.max(at + 1, wanted)
    while (at < sorted.length && !(sorted[at]! > sorted[at - 1]!)) at++
    if (at >= sorted.length) break
    add(sorted[at - 1]!, sorted[at]!)
  }
  return Float64Array.from(edges)
}

/** 0: missing (or infinite). Else one more than the ends that lie below the value. */
export function binOf(edges: Float64Array, value: number): number {
  if (!Number.isFinite(value)) return 0
  let [low, high] = [0, edges.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (value > edges[middle]!) low = middle + 1
    else high = middle
  }
  return 1 + low
}
