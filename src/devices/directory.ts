import type { DeviceState } from './document.ts'

interface TenantDevices {
  readonly byId: Map<string, DeviceState>
  /** Sorted by id; `fresh` holds what came since and is merged when somebody lists. */
  sorted: DeviceState[]
  fresh: DeviceState[]
}

/** Devices by tenant and id, and by their dense number, which one that was removed keeps. */
export class DeviceDirectory {
  readonly all: DeviceState[] = []
  /** Of those in `all`. */
  removed = 0
  readonly #tenants = new Map<string, TenantDevices>()

  find(tenant: string, id: string): DeviceState | undefined {
    return this.#tenants.get(tenant)?.byId.get(id)
  }

  add(make: (index: number) => DeviceState): DeviceState {
    const state = make(this.all.length)
    let tenant = this.#tenants.get(state.tenant)
    if (tenant === undefined) this.#tenants.set(state.tenant, (tenant = { byId: new Map(), sorted: [], fresh: [] }))
    this.all.push(state)
    tenant.byId.set(state.id, state)
    tenant.fresh.push(state)
    return state
  }

  /** Undefined: there is none. */
  remove(tenant: string, id: string): DeviceState | undefined {
    const devices = this.#tenants.get(tenant)
    const state = devices?.byId.get(id)
    if (devices === undefined || state === undefined) return undefined
    devices.byId.delete(id)
    devices.sorted = devices.sorted.filter((one) => one !== state)
    devices.fresh = devices.fresh.filter((one) => one !== state)
    this.removed++
    return state
  }

  count(tenant: string): number {
    return this.#tenants.get(tenant)?.byId.size ?? 0
  }

  tenants(): Iterable<string> {
    return this.#tenants.keys()
  }

  /** By id, in the order of UTF-16 units, strictly after `after`. */
  page(tenant: string, after: string | undefined, limit: number): { readonly items: readonly DeviceState[]; readonly more: boolean } {
    const devices = this.#tenants.get(tenant)
    if (devices === undefined) return { items: [], more: false }
    if (devices.fresh.length > 0) {
      devices.sorted = merge(devices.sorted, devices.fresh.sort(byId))
      devices.fresh = []
    }
    const { sorted } = devices
    const from = after === undefined ? 0 : firstAfter(sorted, after)
    return { items: sorted.slice(from, from + limit), more: from + limit < sorted.length }
  }

  /** As `page`, of those whose id or name contains `text`. Looks at `lookMax` devices; `last` is the id of the last one, if there are more. */
  search(
    tenant: string,
    text: string,
    o: { readonly after: string | undefined; readonly limit: number; readonly lookMax: number },
  ): { readonly items: readonly DeviceState[]; readonly last?: string } {
    const looked = this.page(tenant, o.after, o.lookMax)
    const wanted = text.toLowerCase()
    const items: DeviceState[] = []
    for (const [i, state] of looked.items.entries()) {
      if (!state.id.toLowerCase().includes(wanted) && !state.name.toLowerCase().includes(wanted)) continue
      items.push(state)
      if (items.length === o.limit && (looked.more || i + 1 < looked.items.length)) return { items, last: state.id }
    }
    const last = looked.items.at(-1)
    return { items, ...(looked.more && last !== undefined ? { last: last.id } : {}) }
  }
}

function byId(a: DeviceState, b: DeviceState): number {
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0
}

function merge(a: readonly DeviceState[], b: readonly DeviceState[]): DeviceState[] {
  const merged: DeviceState[] = []
  let j = 0
  for (const state of a) {
    while (j < b.length && byId(b[j]!, state) < 0) merged.push(b[j++]!)
    merged.push(state)
  }
  while (j < b.length) merged.push(b[j++]!)
  return merged
}

function firstAfter(sorted: readonly DeviceState[], id: string): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (sorted[middle]!.id <= id) low = middle + 1
    else high = middle
  }
  return low
}
