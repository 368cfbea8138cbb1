import type { QueryAnswer } from '../client/index.ts'

/** Buckets of one series by time: what a plot and a table are made of. Times are epoch milliseconds. */
export interface Buckets {
  readonly time: number[]
  readonly mean: number[]
  readonly min: number[]
  readonly max: number[]
  readonly count: number[]
}

export const noBuckets: Buckets = { time: [], mean: [], min: [], max: [], count: [] }

/** Buckets without a number (text, or nothing at all) are left out. */
export function bucketsOf(answer: QueryAnswer): Buckets {
  const { time, avg = [], min = [], max = [], count = [] } = answer.columns
  const buckets: Buckets = { time: [], mean: [], min: [], max: [], count: [] }
  for (let i = 0; i < time.length; i++) {
    const [t, mean, low, high] = [time[i], avg[i], min[i], max[i]]
    if (typeof t !== 'number' || typeof mean !== 'number' || typeof low !== 'number' || typeof high !== 'number') continue
    buckets.time.push(t)
    buckets.mean.push(mean)
    buckets.min.push(low)
    buckets.max.push(high)
    buckets.count.push(Number(count[i] ?? 1))
  }
  return buckets
}

export type Point = readonly [timeMs: number, value: number]

/** The newest points of a series as they come, the oldest overwritten. */
export class PointRing {
  readonly #time: Float64Array
  readonly #value: Float64Array
  #next = 0
  #size = 0
  #points: readonly Point[] | undefined

  constructor(pointsMax: number) {
    this.#time = new Float64Array(pointsMax)
    this.#value = new Float64Array(pointsMax)
  }

  /** Oldest first; the same array until something is pushed or cleared. */
  get points(): readonly Point[] {
    return (this.#points ??= this.#read())
  }

  push(timeMs: number, value: number): void {
    this.#time[this.#next] = timeMs
    this.#value[this.#next] = value
    this.#next = (this.#next + 1) % this.#time.length
    this.#size = Math.min(this.#size + 1, this.#time.length)
    this.#points = undefined
  }

  clear(): void {
    this.#size = 0
    this.#points = undefined
  }

  #read(): readonly Point[] {
    const { length } = this.#time
    return Array.from({ length: this.#size }, (_, i) => {
      const at = (this.#next - this.#size + i + length) % length
      return [this.#time[at]!, this.#value[at]!] as const
    })
  }
}

/** Points added to buckets of `stepMs`, aligned to the epoch as the store's are. What lies before the last bucket is left to the next answer. */
export function withPoints(buckets: Buckets, points: readonly Point[], stepMs: number): Buckets {
  if (points.length === 0) return buckets
  const [time, mean, min, max, count] = [[...buckets.time], [...buckets.mean], [...buckets.min], [...buckets.max], [...buckets.count]]
  const sorted = points.toSorted((a, b) => a[0] - b[0])
  for (const [t, value] of sorted) {
    const start = Math.floor(t / stepMs) * stepMs
    const last = time.length - 1
    if (last >= 0 && start < time[last]!) continue
    if (last < 0 || start > time[last]!) {
      time.push(start)
      mean.push(value)
      min.push(value)
      max.push(value)
      count.push(1)
      continue
    }
    const n = count[last]! + 1
    count[last] = n
    mean[last]! += (value - mean[last]!) / n
    min[last] = Math.min(min[last]!, value)
    max[last] = Math.max(max[last]!, value)
  }
  return { time, mean, min, max, count }
}

/** Beyond this many times the usual distance between neighbours, readings are missing. */
const gapFactor = 3.5

/** Times and columns with a null wherever readings are missing, so that no line is drawn across. */
export function withGaps(
  { time, mean, min, max }: Buckets,
  stepMs: number,
): readonly [time: number[], min: (number | null)[], max: (number | null)[], mean: (number | null)[]] {
  const distances = time.slice(1).map((t, i) => t - time[i]!)
  const usual = distances.length === 0 ? stepMs : distances.toSorted((a, b) => a - b)[distances.length >> 1]!
  const gap = Math.max(usual, stepMs) * gapFactor
  const out: [number[], (number | null)[], (number | null)[], (number | null)[]] = [[], [], [], []]
  for (let i = 0; i < time.length; i++) {
    if (i > 0 && time[i]! - time[i - 1]! > gap) {
      out[0].push(time[i - 1]! + (time[i]! - time[i - 1]!) / 2)
      for (const column of [out[1], out[2], out[3]]) column.push(null)
    }
    out[0].push(time[i]!)
    out[1].push(min[i]!)
    out[2].push(max[i]!)
    out[3].push(mean[i]!)
  }
  return out
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1e3, m: 60e3, h: 3_600e3, d: 86_400e3, w: 7 * 86_400e3, mo: 30 * 86_400e3 }

const unitNames: Readonly<Record<string, string>> = { m: 'min', w: 'week', mo: 'month' }

/** `15m` in words, as the ranges to choose from are written. */
export function stepText(step: string): string {
  return step.replace(/^(\d+)(ms|s|m|h|d|w|mo)$/, (_all, count: string, unit: string) => `${count} ${unitNames[unit] ?? unit}`)
}

/** `15m` in milliseconds; 1 when it is none (then nothing is gathered into it). */
export function stepMsOf(step: string | undefined): number {
  const match = /^(\d+)(ms|s|m|h|d|w|mo)$/.exec(step ?? '')
  return match === null ? 1 : Number(match[1]) * (unitMs[match[2]!] ?? 1)
}
