/** Values kept to within 1/128 of themselves: 7 bits of mantissa. */
const mantissaBits = 7
const perOctave = 1 << mantissaBits
/** Microseconds up to 2^40 (12 days). */
const octaves = 40

/** Latencies in microseconds, log-linear (as HdrHistogram): constant memory, quantiles within 0.8 %. */
export class LatencyHistogram {
  readonly #counts = new Float64Array((octaves - mantissaBits + 2) * perOctave)
  #total = 0
  #maxUs = 0

  get count(): number {
    return this.#total
  }

  get maxMs(): number {
    return this.#total === 0 ? Number.NaN : this.#maxUs / 1_000
  }

  record(us: number): void {
    const value = us < 0 ? 0 : Math.round(us)
    const at = Math.min(indexOf(value), this.#counts.length - 1)
    this.#counts[at] = (this.#counts[at] ?? 0) + 1
    this.#total++
    if (value > this.#maxUs) this.#maxUs = value
  }

  /** Milliseconds below or at which a share of `q` (0 to 1) of the values lies; NaN without values. */
  quantileMs(q: number): number {
    if (this.#total === 0) return Number.NaN
    const wanted = Math.max(1, Math.ceil(q * this.#total))
    let seen = 0
    for (let i = 0; i < this.#counts.length; i++) {
      seen += this.#counts[i] ?? 0
      if (seen >= wanted) return Math.min(upperBound(i), this.#maxUs) / 1_000
    }
    return this.#maxUs / 1_000
  }
}

function indexOf(value: number): number {
  if (value < 2 * perOctave) return value
  const exponent = Math.floor(Math.log2(value))
  const shift = exponent - mantissaBits
  return (shift + 1) * perOctave + (Math.floor(value / 2 ** shift) - perOctave)
}

/** The largest whole value that falls into bucket i. */
function upperBound(i: number): number {
  if (i < 2 * perOctave) return i
  const shift = Math.floor(i / perOctave) - 1
  return (perOctave + (i % perOctave) + 1) * 2 ** shift - 1
}
