import { KymoError } from '../../../core/errors.ts'

/** A UTC day `2026-11-21`, month `2026-09` or year `2019`: the name of a folder, and the half-open range of times its rows have. */
export type Partition = string

export interface TimeRange {
  readonly fromUs: number
  readonly toUs: number
}

export const dayUs = 86_400e6
/** A month whose end is so long ago gets a partition of its own; until then its rows stand by days. */
export const monthAfterUs = 35 * dayUs
/** Beyond so many partitions of one sealing (a backfill of years), whole years are taken where months would be. */
export const partitionsMax = 96

const named = /^(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?$/

/** Where a partition begins and ends, in microseconds since 1970. Throws `store_corrupt` for a name that is none. */
export function rangeOf(partition: Partition): TimeRange {
  const match = named.exec(partition)
  if (match === null) throw new KymoError('store_corrupt', { detail: `"${partition}" is not the name of a partition.` })
  const [year, month, day] = [match[1], match[2], match[3]].map((part) => (part === undefined ? undefined : Number(part)))
  const at = (y: number, m: number, d: number): number => Date.UTC(y, m, d) * 1000
  if (month === undefined) return { fromUs: at(year!, 0, 1), toUs: at(year! + 1, 0, 1) }
  if (day === undefined) return { fromUs: at(year!, month - 1, 1), toUs: at(year!, month, 1) }
  return { fromUs: at(year!, month - 1, day), toUs: at(year!, month - 1, day + 1) }
}

export function dayOf(us: number): Partition {
  return new Date(us / 1000).toISOString().slice(0, 10)
}

export function monthOf(us: number): Partition {
  return new Date(us / 1000).toISOString().slice(0, 7)
}

export function overlaps(a: TimeRange, b: TimeRange): boolean {
  return a.fromUs < b.toUs && b.fromUs < a.toUs
}

export function contains(outer: TimeRange, inner: TimeRange): boolean {
  return outer.fromUs <= inner.fromUs && inner.toUs <= outer.toUs
}

/**
 * The disjoint partitions for rows of these days (any times within them), oldest first. A day stands alone unless its month ended
 * `monthAfterUs` ago or begins beyond tomorrow (a wrong clock): then the month stands for it. When that makes more than
 * `partitionsMax`, months of years that ended so long ago, or begin beyond tomorrow, become years. So there are at most 66 days,
 * 12 months and one for each other year that a time can have (1970 to 2255).
 */
export function split(daysUs: readonly number[], nowUs: number): Partition[] {
  const apart = (range: TimeRange): boolean => range.toUs <= nowUs - monthAfterUs || range.fromUs > nowUs + dayUs
  const byMonth = daysUs.map((us) => (apart(rangeOf(monthOf(us))) ? monthOf(us) : dayOf(us)))
  const months = [...new Set(byMonth)].sort()
  if (months.length <= partitionsMax) return months
  const byYear = byMonth.map((partition) => {
    const year = partition.slice(0, 4)
    return apart(rangeOf(year)) ? year : partition
  })
  return [...new Set(byYear)].sort()
}
