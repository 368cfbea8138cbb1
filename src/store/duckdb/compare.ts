import type { Env } from '../../core/env.ts'
import { asKymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { RangeQuery } from '../../core/ports.ts'
import { openDuckdbStore, type DuckdbStore } from './store.ts'

const hourUs = 3600e6
const names = ['count', 'min', 'max'] as const

/** A bucket whose rollup says another thing than its readings. */
export interface Mismatch {
  readonly device: string
  readonly metric: string
  readonly bucketUs: number
  readonly detail: string
}

export interface Compared {
  readonly series: number
  readonly buckets: number
  readonly mismatches: readonly Mismatch[]
  /** What the store could not answer, and why it was not compared to its end. */
  readonly failed?: string
}

/**
 * Asks for hours of a sample of series twice, as rollups and as readings, and compares number, minimum and maximum. `dir` is a store of its own: it is opened as a server
 * does. Hours of which retention has taken the readings away are not comparable. Series and hours are spread evenly from a random start, so that each call looks at others.
 */
export async function compareRollups(o: {
  readonly dir: string
  readonly env: Env
  readonly tenant: string
  readonly series: number
  readonly hours: number
  readonly signal: AbortSignal
}): Promise<Compared> {
  const mismatches: Mismatch[] = []
  let [compared, buckets] = [0, 0]
  let store: DuckdbStore | undefined
  try {
    store = await openDuckdbStore({
      dir: o.dir,
      env: o.env,
      memoryLimitMb: 256,
      sealBytes: Number.POSITIVE_INFINITY,
      sealAfterMs: limits.hotAgeMaxMs * 1e6,
    })
    const { rawFromUs } = store.stats()
    for (const { key, firstUs, lastUs } of spread(await store.series({ tenant: o.tenant }, o.signal), o.series)) {
      compared++
      const first = Math.floor(Math.max(firstUs, rawFromUs) / hourUs)
      const hours = Array.from({ length: Math.max(0, Math.min(Math.floor(lastUs / hourUs) - first + 1, hoursMax)) }, (_, i) => first + i)
      for (const hour of spread(hours, o.hours)) {
        o.signal.throwIfAborted()
        const match = { tenant: o.tenant, devices: [key.device], metrics: [key.metric] }
        const range = { match, fromUs: hour * hourUs, toUs: (hour + 1) * hourUs, order: 'asc' } as const
        const rolled = await one(store, { ...range, stepUs: hourUs, aggregations: names, limit: 1 }, o.signal)
        const read = await fromReadings(store, { ...range, limit: limits.queryRowsMax }, o.signal)
        if (read === undefined || (read.rows === 0 && rolled.count > 0)) continue
        buckets++
        const wrong = names.filter((name) => rolled.count + read.count > 0 && rolled[name] !== read[name])
        if (wrong.length === 0) continue
        const detail = wrong.map((name) => `${name} ${rolled[name]} instead of ${read[name]}`).join(', ')
        mismatches.push({ device: key.device, metric: key.metric, bucketUs: hour * hourUs, detail })
      }
    }
    return { series: compared, buckets, mismatches }
  } catch (thrown) {
    o.signal.throwIfAborted()
    return { series: compared, buckets, mismatches, failed: asKymoError(thrown).message }
  } finally {
    await store?.close()
  }
}

/** 20 years. */
const hoursMax = 20 * 366 * 24

/** At most `n` of them, at even distances. */
function spread<T>(all: readonly T[], n: number): T[] {
  if (all.length <= n) return [...all]
  const step = all.length / n
  const from = Math.random() * step
  return Array.from({ length: n }, (_, i) => all[Math.min(all.length - 1, Math.floor(from + i * step))]!)
}

interface Bucket {
  readonly count: number
  readonly min: number
  readonly max: number
}

async function one(store: DuckdbStore, query: RangeQuery, signal: AbortSignal): Promise<Bucket> {
  for await (const { rows, columns } of store.query(query, signal))
    if (rows > 0) return { count: columns['count']![0]!, min: columns['min']![0]!, max: columns['max']![0]! }
  return { count: 0, min: Number.NaN, max: Number.NaN }
}

/** Undefined: there are more than one query gives. */
async function fromReadings(store: DuckdbStore, query: RangeQuery, signal: AbortSignal): Promise<(Bucket & { readonly rows: number }) | undefined> {
  let [rows, count, min, max] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for await (const page of store.query(query, signal)) {
    rows += page.rows
    for (const value of page.columns['value']!.subarray(0, page.rows)) {
      if (Number.isNaN(value)) continue
      count++
      min = Math.min(min, value)
      max = Math.max(max, value)
    }
  }
  return rows >= query.limit ? undefined : { rows, count, min, max }
}
