import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { Store } from '../../core/ports.ts'

/** What is read of the store. */
export type Readings = Pick<Store, 'query' | 'latest' | 'series'>

/** One series among others: names may hold anything. */
export function nameOf({ tenant, device, metric }: SeriesKey): string {
  return JSON.stringify([tenant, device, metric])
}

/** The beginning of the step that a moment lies in. */
export function stepOf(us: number, stepUs: number): number {
  return Math.floor(us / stepUs) * stepUs
}

/** A query that takes longer is given up. */
export function inTime(signal?: AbortSignal): AbortSignal {
  const deadline = AbortSignal.timeout(limits.queryDeadlineMs)
  return signal === undefined ? deadline : AbortSignal.any([deadline, signal])
}

/** Time of the last reading of each of these series that has any, by `nameOf`; a wrong clock counts only where there is nothing else. */
export async function lastTimes(store: Readings, keys: readonly SeriesKey[], signal: AbortSignal): Promise<Map<string, number>> {
  const found = new Map<string, number>()
  const wanted = new Set(keys.map(nameOf))
  for (const [tenant, group] of Map.groupBy(keys, (key) => key.tenant)) {
    const match = { tenant, devices: [...new Set(group.map(({ device }) => device))], metrics: [...new Set(group.map(({ metric }) => metric))] }
    const batch = await store.latest(match, signal)
    for (let row = 0; row < batch.rows; row++) {
      const name = nameOf(batch.keys[batch.series[row]!]!)
      if (wanted.has(name)) found.set(name, batch.timeUs[row]!)
    }
  }
  return found
}

export interface Window {
  readonly fromUs: number
  readonly toUs: number
  readonly stepUs: number
}

/**
 * Means by step of several series of one tenant in one query, by `nameOf`; NaN where nothing was measured. Asked for with the combinations of their
 * devices and metrics: what is not wanted of those is left out. Rejects with query_too_large for more steps than a series may have.
 */
export async function means(
  store: Readings,
  keys: readonly SeriesKey[],
  { fromUs, toUs, stepUs }: Window,
  signal: AbortSignal,
): Promise<Map<string, Float64Array>> {
  const steps = Math.max(0, Math.round((toUs - fromUs) / stepUs))
  if (steps > limits.forecastStepsMax)
    throw new KymoError('query_too_large', {
      detail: `${steps} steps of ${stepUs / 1e6} s; at most ${limits.forecastStepsMax} are used. Ask for a longer step or less time.`,
    })
  const found = new Map(keys.map((key) => [nameOf(key), new Float64Array(steps).fill(Number.NaN)]))
  const [first] = keys
  if (first === undefined || steps === 0) return found
  const devices = [...new Set(keys.map(({ device }) => device))]
  const metrics = [...new Set(keys.map(({ metric }) => metric))]
  const query = {
    match: { tenant: first.tenant, devices, metrics },
    fromUs,
    toUs,
    stepUs,
    aggregations: ['avg'],
    order: 'asc',
    limit: devices.length * metrics.length * steps,
  } as const
  for await (const page of store.query(query, signal)) {
    const columns = page.keys.map((key) => found.get(nameOf(key)))
    const avg = page.columns['avg']!
    for (let row = 0; row < page.rows; row++) {
      const at = Math.round((page.timeUs[row]! - fromUs) / stepUs)
      const values = columns[page.series[row]!]
      if (values !== undefined && at >= 0 && at < steps && Number.isFinite(avg[row]!)) values[at] = avg[row]!
    }
  }
  return found
}

/** The same of one series. */
export async function meansOf(store: Readings, key: SeriesKey, window: Window, signal: AbortSignal): Promise<Float64Array> {
  return (await means(store, [key], window, signal)).get(nameOf(key)) ?? new Float64Array(0)
}

/** The time of a series' first reading; undefined: it has none. */
export async function firstTime(store: Readings, { tenant, device, metric }: SeriesKey, signal: AbortSignal): Promise<number | undefined> {
  const [info] = await store.series({ tenant, devices: [device], metrics: [metric] }, signal)
  return info?.firstUs
}
