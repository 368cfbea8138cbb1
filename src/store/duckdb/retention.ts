import type { Retention } from '../../core/config.ts'
import type { Kind } from './sealed/format.ts'
import { endsBefore, kindsOf, withoutFiles, type Manifest, type Run } from './sealed/manifest.ts'
import { dayUs, rangeOf } from './sealed/partition.ts'
import { policy } from './sealed/policy.ts'

export const keepAll: Retention = {
  rawUs: Number.POSITIVE_INFINITY,
  minutesUs: Number.POSITIVE_INFINITY,
  hoursUs: Number.POSITIVE_INFINITY,
  storeBytes: Number.POSITIVE_INFINITY,
}

/** Files of one kind that go for one reason. */
export interface Expiry {
  readonly kind: Kind
  readonly reason: 'age' | 'size'
  readonly files: number
  readonly bytes: number
  /** The end of the last partition that goes; microseconds. */
  readonly beforeUs: number
}

export interface Expired {
  /** What is left. */
  readonly manifest: Manifest
  readonly expiries: readonly Expiry[]
  /** Bytes above `storeBytes` that may not go: they are of today, or hours. */
  readonly overBytes: number
}

const keptFor = { raw: 'rawUs', '1m': 'minutesUs', '1h': 'hoursUs' } as const satisfies Record<Kind, keyof Retention>

/**
 * What is to go now, by whole files: those whose partition ended before its kind's age, then, while there are more than `storeBytes`, readings
 * from the oldest partition on, then minutes. Hours go by age only, and by size nothing of a day that has not ended. Pure.
 */
export function expire(manifest: Manifest, retention: Retention, nowUs: number): Expired {
  const expiries: Expiry[] = []
  let left = manifest
  for (const kind of ['raw', '1m', '1h'] as const) {
    const beforeUs = dayOf(nowUs - retention[keptFor[kind]])
    const gone = left.runs.filter((run) => run.files[kind] !== undefined && endsBefore(run, beforeUs))
    left = without(left, kind, gone, 'age', expiries, beforeUs)
  }
  let bytes = bytesOf(left)
  for (const kind of ['raw', '1m'] as const) {
    const ended = left.runs
      .filter((run) => run.files[kind] !== undefined && endsBefore(run, dayOf(nowUs)))
      .toSorted((a, b) => rangeOf(a.partition).toUs - rangeOf(b.partition).toUs)
    const gone: Run[] = []
    for (const [i, run] of ended.entries()) {
      // All runs of a partition go together: what is left of it would not be all of its readings.
      if (bytes <= retention.storeBytes && rangeOf(run.partition).toUs !== rangeOf(ended[i - 1]?.partition ?? '1970-01-01').toUs) break
      gone.push(run)
      bytes -= run.files[kind]!.bytes
    }
    left = without(left, kind, gone, 'size', expiries, Math.max(0, ...gone.map((run) => rangeOf(run.partition).toUs)))
  }
  return { manifest: left, expiries, overBytes: Math.max(0, bytes - retention.storeBytes) }
}

/** Bytes of the sealed files. */
export function bytesOf({ runs }: Pick<Manifest, 'runs'>): number {
  return runs.reduce((sum, run) => sum + kindsOf(run).reduce((part, kind) => part + run.files[kind]!.bytes, 0), 0)
}

/**
 * How long after its end a month's days stay apart. A file goes as a whole, so days become a month only when what has an age has gone from
 * them; where that takes more than about a year, a month more does not matter.
 */
export function monthAfterUs(retention: Retention): number {
  const rules = (retention.rules ?? []).flatMap((rule) => [rule.rawUs ?? 0, rule.minutesUs ?? 0, rule.hoursUs ?? 0])
  const ages = [retention.rawUs, retention.minutesUs, retention.hoursUs, ...rules].filter((us) => us <= daysApartMaxUs)
  return Math.max(policy.monthAfterUs, ...ages.map((us) => us + 2 * dayUs))
}

const daysApartMaxUs = 400 * dayUs

function without(manifest: Manifest, kind: Kind, gone: readonly Run[], reason: Expiry['reason'], expiries: Expiry[], beforeUs: number): Manifest {
  const expired = Math.max(manifest.expired?.[kind] ?? 0, beforeUs)
  if (gone.length === 0) return manifest
  expiries.push({ kind, reason, files: gone.length, bytes: gone.reduce((sum, run) => sum + run.files[kind]!.bytes, 0), beforeUs })
  const drop = new Set(gone)
  const runs = withoutFiles(manifest, (run, one) => one === kind && drop.has(run))
  return { ...runs, expired: { ...manifest.expired, [kind]: expired } }
}

/** The beginning of its UTC day; an infinite time stays. */
function dayOf(us: number): number {
  return Number.isFinite(us) ? us - (us % dayUs) : us
}
