import type { VersionedDevice } from '../../../core/services.ts'
import type { HttpContext } from '../options.ts'
import { Slices } from '../slices.ts'

const devicesPerStep = 256

/**
 * Registered devices that `keep` takes, in the order of their ids, strictly after `after`. `last`: the id to go on after; undefined: there are no
 * more. In slices: finding few among many devices holds up nobody.
 */
export async function takeDevices(
  context: HttpContext,
  tenant: string,
  after: string | undefined,
  limit: number,
  keep: (device: VersionedDevice) => boolean,
): Promise<{ readonly items: readonly VersionedDevice[]; readonly last: string | undefined }> {
  const slices = new Slices(context)
  const items: VersionedDevice[] = []
  for (let from = after; ;) {
    const page = await context.devices.list(tenant, { limit: devicesPerStep, ...(from === undefined ? {} : { after: from }) })
    for (const device of page.items) {
      if (!keep(device)) continue
      if (items.length === limit) return { items, last: items.at(-1)?.id }
      items.push(device)
    }
    if (page.next === undefined) return { items, last: undefined }
    from = page.next
    if (slices.over) await slices.pause()
  }
}
