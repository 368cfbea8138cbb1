import type { Reading } from './api.ts'
import type { Client } from '../client/index.ts'

/** Ids of a request line of 16 KiB, percent-encoded. */
const urlCharsMax = 6_000
/** Of all devices of a page together: what is beyond is seen on the device's own page. */
const rowsMax = 2_000

/** Cuts ids into requests whose address is not too long. */
function groupsOf(ids: readonly string[]): string[][] {
  const groups: string[][] = []
  let chars = Infinity
  for (const id of ids) {
    const length = encodeURIComponent(id).length + 8
    if (chars + length > urlCharsMax) {
      groups.push([])
      chars = 0
    }
    groups.at(-1)?.push(id)
    chars += length
  }
  return groups
}

/** The last reading of each metric, by device. */
export async function latestOf(api: Client, ids: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, readonly Reading[]>> {
  const byDevice = new Map<string, Reading[]>()
  for (const device of groupsOf(ids)) {
    const { items } = await api.readings.listLatest({ device, limit: rowsMax }, { signal })
    for (const item of items) {
      const list = byDevice.get(item.device)
      if (list === undefined) byDevice.set(item.device, [item])
      else list.push(item)
    }
  }
  return byDevice
}
