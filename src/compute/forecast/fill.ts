/** Between which values a series is believed; what lies outside is taken as missing by models that are pulled by it. */
export interface Bounds {
  readonly low: number
  readonly high: number
}

/** How far beyond its usual range a value is still believed: ten times the range of the middle 98 % on each side of it. */
const rangesBeyond = 10

/** Undefined: less than two different values in the middle 98 %, so there is no usual range. */
export function boundsOf(values: Float64Array): Bounds | undefined {
  const sorted = values.filter((v) => v === v).sort()
  if (sorted.length < 2) return undefined
  const low = sorted[Math.floor(0.01 * (sorted.length - 1))]!
  const high = sorted[Math.ceil(0.99 * (sorted.length - 1))]!
  // Below 100 values the first and last percent are the extremes themselves: then the middle half says what is usual.
  const range =
    sorted.length >= 100 ? high - low : 3 * (sorted[Math.ceil(0.75 * (sorted.length - 1))]! - sorted[Math.floor(0.25 * (sorted.length - 1))]!)
  if (!(range > 0)) return undefined
  const centre = sorted[sorted.length >> 1]!
  return { low: centre - rangesBeyond * range, high: centre + rangesBeyond * range }
}

/** Steps of a gap that is bridged by a straight line: an eighth of a season (three hours of a day), at least 2. */
export function shortGap(season: number): number {
  return Math.max(2, Math.floor(season / 8))
}

export interface Filled {
  /** Finite everywhere. */
  readonly values: Float64Array
  /**
   * 0: measured. 1: within a short gap. 2: within a long one, or before the first value: made up from the season before, for the inputs of a model
   * only.
   */
  readonly how: Uint8Array
}

/**
 * A series without holes, as models need for input. Short gaps get a straight line between their neighbours; the end of the series, where there is no
 * neighbour yet, the last value. Longer gaps repeat the season before. Undefined when there is no value at all. Values outside the bounds count as
 * missing.
 */
export function fill(values: Float64Array, season: number, bounds: Bounds): Filled | undefined {
  const n = values.length
  const out = new Float64Array(n)
  const how = new Uint8Array(n)
  const short = shortGap(season)
  let before = -1
  for (let i = 0; i <= n; i++) {
    const v = i < n ? values[i]! : Number.NaN
    const there = v >= bounds.low && v <= bounds.high
    if (i < n && !there) continue
    const gap = i - before - 1
    if (gap > 0) bridge(out, how, before, i, { n, season, next: there ? v : undefined, long: gap > short || before < 0 })
    if (i < n) out[i] = v
    before = i
  }
  return n === 0 || how[0] === 3 ? undefined : { values: out, how }
}

interface Gap {
  readonly n: number
  readonly season: number
  readonly next: number | undefined
  readonly long: boolean
}

function bridge(out: Float64Array, how: Uint8Array, before: number, end: number, { n, season, next, long }: Gap): void {
  if (before < 0) {
    how.fill(next === undefined ? 3 : 2, 0, end)
    out.fill(next ?? 0, 0, end)
    return
  }
  const from = out[before]!
  for (let i = before + 1; i < end && i < n; i++) {
    how[i] = long ? 2 : 1
    if (long && i - season >= 0 && season > 1) out[i] = out[i - season]!
    else out[i] = next === undefined || long ? from : from + ((next - from) * (i - before)) / (end - before)
  }
}

/** Nothing in these is missing or beyond the bounds: they can be used as they are. */
export function isWhole(values: Float64Array, from: number, bounds: Bounds): boolean {
  for (let i = from; i < values.length; i++) if (!(values[i]! >= bounds.low && values[i]! <= bounds.high)) return false
  return true
}

/** Steps since the last value; Infinity: there is none. */
export function silentSteps(values: Float64Array): number {
  for (let i = values.length - 1; i >= 0; i--) if (values[i]! === values[i]!) return values.length - 1 - i
  return Number.POSITIVE_INFINITY
}
