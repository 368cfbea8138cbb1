/**
 * The simplex of Nelder and Mead (1965), with the adaptive coefficients of Gao and Han (2012): a minimum of a function of a few numbers without its
 * derivatives. Deterministic. Yields after each step, in which the function is called once or twice, now and then `start.length` times.
 */
export function* minimise(
  f: (x: Float64Array) => number,
  start: readonly number[],
  stride: number,
  callsMax: number,
): Generator<undefined, { readonly x: Float64Array; readonly value: number }, void> {
  const n = start.length
  let calls = 0
  const at = (x: Float64Array): { x: Float64Array; value: number } => {
    calls++
    const value = f(x)
    return { x, value: Number.isNaN(value) ? Number.POSITIVE_INFINITY : value }
  }
  const simplex = Array.from({ length: n + 1 }, (_, k) => at(Float64Array.from(start, (v, i) => (k === i + 1 ? v + stride : v))))
  const [expansion, contraction, shrink] = [1 + 2 / n, 0.75 - 1 / (2 * n), 1 - 1 / n]
  while (calls < callsMax) {
    simplex.sort((a, b) => a.value - b.value)
    const [best, worst] = [simplex[0]!, simplex[n]!]
    if (worst.value - best.value <= 1e-9 * Math.abs(best.value) && spread(simplex.map((p) => p.x)) < 1e-4) break
    const centre = new Float64Array(n)
    for (const { x } of simplex.slice(0, n)) for (let i = 0; i < n; i++) centre[i]! += x[i]! / n
    const along = (by: number): { x: Float64Array; value: number } => at(centre.map((c, i) => c + by * (c - worst.x[i]!)))
    const reflected = along(1)
    if (reflected.value < best.value) {
      const expanded = along(expansion)
      simplex[n] = expanded.value < reflected.value ? expanded : reflected
    } else if (reflected.value < simplex[n - 1]!.value) simplex[n] = reflected
    else {
      const outside = reflected.value < worst.value
      const contracted = along(outside ? contraction : -contraction)
      if (contracted.value < Math.min(reflected.value, worst.value)) simplex[n] = contracted
      else for (let k = 1; k <= n; k++) simplex[k] = at(simplex[k]!.x.map((v, i) => best.x[i]! + shrink * (v - best.x[i]!)))
    }
    yield
  }
  simplex.sort((a, b) => a.value - b.value)
  return simplex[0]!
}

function spread(points: readonly Float64Array[]): number {
  let most = 0
  for (const x of points) for (let i = 0; i < x.length; i++) most = Math.max(most, Math.abs(x[i]! - points[0]![i]!))
  return most
}
