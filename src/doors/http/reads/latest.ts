import type { Batch } from '../../../core/batch.ts'
import type { SeriesMatch } from '../../../core/ports.ts'
import type { HttpContext } from '../options.ts'
import { Slices } from '../slices.ts'
import { readingItem } from './readings.ts'
import type { ReadingItem } from './readings.ts'
import { Units } from './units.ts'

/** Of one series, within its tenant. */
export interface Name {
  readonly device: string
  readonly metric: string
}

function byName(a: Name, b: Name): number {
  if (a.device !== b.device) return a.device < b.device ? -1 : 1
  return a.metric === b.metric ? 0 : a.metric < b.metric ? -1 : 1
}

/** The latest readings of some devices as rows in the order of (device, metric). */
export async function latestOf(context: HttpContext, match: SeriesMatch): Promise<ReadingItem[]> {
  const batch: Batch = context.latest.latest(match)
  const rows = Array.from({ length: batch.rows }, (_, row) => row)
  const units = new Units(context, match.tenant)
  await units.load(rows.map((row) => batch.keys[batch.series[row]!]!))
  return rows.map((row) => readingItem(batch, row, units.of(batch.keys[batch.series[row]!]!))).sort(byName)
}

export interface LatestPage {
  readonly items: ReadingItem[]
  /** Where it ended; undefined: at the end. */
  readonly last?: Name
}

/** Devices asked for at once: fewer where they have many metrics, so that a step is some hundred rows. */
const devicesPerStepMax = 256
const rowsPerStep = 1_024

/**
 * Goes through the devices in the order of their ids, some at a time and in slices, so that no fleet is ever sorted as a whole. `keep`: which
 * readings the page is made of; all when absent.
 */
export async function latestPage(
  context: HttpContext,
  match: SeriesMatch,
  after: Name | undefined,
  limit: number,
  keep?: (item: ReadingItem) => boolean,
): Promise<LatestPage> {
  const { tenant, devices } = match
  const items: ReadingItem[] = []
  const slices = new Slices(context)
  let step = 16
  const take = async (ids: readonly string[]): Promise<boolean> => {
    if (slices.over) await slices.pause()
    const found = await latestOf(context, { ...match, devices: ids })
    step = found.length > rowsPerStep ? Math.max(1, step >> 1) : Math.min(devicesPerStepMax, step * 2)
    for (const item of found) {
      if (keep?.(item) === false || (after !== undefined && byName(item, after) <= 0)) continue
      if (items.length === limit) return false
      items.push(item)
    }
    return true
  }
  const cut = (): LatestPage => ({ items, last: items[items.length - 1]! })
  if (devices !== undefined) {
    const ids = [...new Set(devices)].sort().filter((id) => after === undefined || id >= after.device)
    let i = 0
    while (i < ids.length) if (!(await take(ids.slice(i, (i += step))))) return cut()
    return { items }
  }
  if (after !== undefined && !(await take([after.device]))) return cut()
  let from = after?.device
  for (;;) {
    const page = await context.devices.list(tenant, { limit: step, ...(from === undefined ? {} : { after: from }) })
    if (page.items.length > 0 && !(await take(page.items.map((device) => device.id)))) return cut()
    if (page.next === undefined) return { items }
    from = page.next
  }
}

/** The name in a cursor of such a page. */
export function nameOf(fields: readonly (string | number | null)[]): Name {
  return { device: String(fields[0]), metric: String(fields[1]) }
}
