/**
 * Sums of products of all pairs of values in windows that slide over a series: what the normal equations of every autoregression with these windows
 * are made of. A pair of values at a distance d stands in many windows at different places, so its product is made once and the sums of neighbouring
 * places differ by the ends of a run only: O(n N + N²) in place of O(n N²).
 */
export interface LagMoments {
  /** Steps of a window: inputs, then targets. */
  readonly width: number
  /** Windows that were summed up. */
  readonly count: number
  /** width x width, both triangles: the sum of v[t + i] v[t + j] over windows that begin at t. */
  readonly products: Float64Array
  /** extras x width: the sum of e[k](t) v[t + i]. */
  readonly withExtras: Float64Array
  /** extras x extras. */
  readonly ofExtras: Float64Array
}

/** Windows begin at every step of [from, to). */
export interface Run {
  readonly from: number
  readonly to: number
}

/** About 5 ms of work. */
const productsPerPiece = 2_000_000

/**
 * Over the runs, in their order. `extras`: columns of as many numbers as `values`, of which a window that begins at t takes the one at t. Yields
 * after each piece. `values` must be finite wherever a window lies.
 */
export function* lagMoments(
  values: Float64Array,
  width: number,
  runs: readonly Run[],
  extras: readonly Float64Array[],
): Generator<undefined, LagMoments, void> {
  const products = new Float64Array(width * width)
  const withExtras = new Float64Array(extras.length * width)
  const ofExtras = new Float64Array(extras.length ** 2)
  let [count, done] = [0, 0]
  for (const { from, to } of runs) {
    const windows = to - from
    count += windows
    for (let distance = 0; distance < width; distance++) {
      alongDiagonal(values, products, { width, from, windows, distance })
      done += windows + 2 * (width - distance)
      if (done >= productsPerPiece) {
        done = 0
        yield
      }
    }
    for (let k = 0; k < extras.length; k++) {
      const extra = extras[k]!
      for (let i = 0; i < width; i++) {
        let sum = 0
        for (let t = from; t < to; t++) sum += extra[t]! * values[t + i]!
        withExtras[k * width + i]! += sum
        done += windows
        if (done >= productsPerPiece) {
          done = 0
          yield
        }
      }
      for (let other = 0; other <= k; other++) {
        let sum = 0
        for (let t = from; t < to; t++) sum += extra[t]! * extras[other]![t]!
        ofExtras[k * extras.length + other]! += sum
        if (other < k) ofExtras[other * extras.length + k]! += sum
      }
    }
  }
  return { width, count, products, withExtras, ofExtras }
}

/** The sum over the first place of the diagonal, then each next one: what the last window adds, less what the first one had. */
function alongDiagonal(
  v: Float64Array,
  products: Float64Array,
  { width, from, windows, distance }: { readonly width: number; readonly from: number; readonly windows: number; readonly distance: number },
): void {
  let sum = 0
  for (let t = from; t < from + windows; t++) sum += v[t]! * v[t + distance]!
  for (let i = 0; i + distance < width; i++) {
    const j = i + distance
    products[i * width + j]! += sum
    if (distance > 0) products[j * width + i]! += sum
    const first = from + i
    const next = first + windows
    if (j + 1 < width) sum += v[next]! * v[next + distance]! - v[first]! * v[first + distance]!
  }
}

/**
 * Both together: of the windows of either; with a sign of -1, of those of `a` without those of `b`. They must be of one width and the same extras.
 */
export function addMoments(a: LagMoments, b: LagMoments, sign: 1 | -1 = 1): LagMoments {
  const sum = (x: Float64Array, y: Float64Array): Float64Array => x.map((v, i) => v + sign * y[i]!)
  return {
    width: a.width,
    count: a.count + sign * b.count,
    products: sum(a.products, b.products),
    withExtras: sum(a.withExtras, b.withExtras),
    ofExtras: sum(a.ofExtras, b.ofExtras),
  }
}

/** The sums for some steps of the window alone, in the order given. */
export function ofSteps({ width, count, products, withExtras, ofExtras }: LagMoments, steps: Int32Array): LagMoments {
  const n = steps.length
  const extras = withExtras.length / width
  const kept = new Float64Array(n * n)
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) kept[i * n + j] = products[steps[i]! * width + steps[j]!]!
  const keptExtras = new Float64Array(extras * n)
  for (let k = 0; k < extras; k++) for (let i = 0; i < n; i++) keptExtras[k * n + i] = withExtras[k * width + steps[i]!]!
  return { width: n, count, products: kept, withExtras: keptExtras, ofExtras }
}
