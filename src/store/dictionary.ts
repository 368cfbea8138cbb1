import type { SeriesKey } from '../core/batch.ts'
import { KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import type { SeriesMatch, SeriesPage } from '../core/ports.ts'

interface Mapped {
  ids: Uint32Array
  known: number
}

/** In the place of a series that was erased: no tenant and no device are called so. Its id is never given out again. */
export const erasedKey: SeriesKey = { tenant: '', device: '', metric: '' }

/** Series of the store: id = place in `keys`, as table `series` holds them. Ids given out since the last `settled` are new. */
export class Dictionary {
  readonly keys: SeriesKey[] = []
  readonly #tenants = new Map<string, Map<string, Map<string, number>>>()
  #mapped = new WeakMap<readonly SeriesKey[], Mapped>()
  #lastKeys: readonly SeriesKey[] | undefined
  #last: Mapped = { ids: new Uint32Array(0), known: 0 }
  #erased = 0

  get size(): number {
    return this.keys.length
  }

  /** Ids whose series were erased. */
  get erased(): number {
    return this.#erased
  }

  /** Gives the next id to a key as it was stored. */
  restore(key: SeriesKey): void {
    if (key.tenant !== erasedKey.tenant || key.device !== erasedKey.device) {
      this.id(key)
      return
    }
    this.keys.push(erasedKey)
    this.#erased++
  }

  /** Lets go of a device's series, and returns their ids: should it speak again, they get new ones. */
  forget(tenant: string, device: string): number[] {
    const devices = this.#tenants.get(tenant)
    const ids = [...(devices?.get(device)?.values() ?? [])]
    devices?.delete(device)
    for (const id of ids) this.keys[id] = erasedKey
    this.#erased += ids.length
    this.#unmap()
    return ids
  }

  id(key: SeriesKey): number {
    let devices = this.#tenants.get(key.tenant)
    if (devices === undefined) this.#tenants.set(key.tenant, (devices = new Map<string, Map<string, number>>()))
    let metrics = devices.get(key.device)
    if (metrics === undefined) devices.set(key.device, (metrics = new Map<string, number>()))
    let id = metrics.get(key.metric)
    if (id === undefined) {
      id = this.keys.length
      this.keys.push(key)
      metrics.set(key.metric, id)
    }
    return id
  }

  /** Index into `keys` to id, worked out only for the keys that `series[0, rows)` refers to: a batch may carry a whole process's table. */
  of(keys: readonly SeriesKey[], series: Uint32Array, rows: number): Uint32Array {
    let mapped = this.#last
    if (keys !== this.#lastKeys) {
      mapped = this.#mapped.get(keys) ?? { ids: new Uint32Array(0), known: 0 }
      this.#mapped.set(keys, mapped)
      this.#lastKeys = keys
      this.#last = mapped
    }
    if (mapped.ids.length < keys.length) {
      const ids = new Uint32Array(Math.max(16, keys.length, mapped.ids.length * 2)).fill(unknown)
      ids.set(mapped.ids)
      mapped.ids = ids
    }
    const { ids } = mapped
    if (mapped.known === keys.length) return ids
    for (let i = 0; i < rows; i++) {
      const s = series[i]!
      if (ids[s] === unknown) {
        ids[s] = this.id(keys[s]!)
        mapped.known++
      }
    }
    return ids
  }

  /** Forgets the series from `size` on: the transaction that would have stored them failed. */
  truncate(size: number): void {
    for (const key of this.keys.splice(size)) {
      if (key === erasedKey) this.#erased--
      else this.#tenants.get(key.tenant)?.get(key.device)?.delete(key.metric)
    }
    this.#unmap()
  }

  #unmap(): void {
    this.#mapped = new WeakMap()
    this.#lastKeys = undefined
  }

  /** Ids in the order of (device, metric). Rejects with `query_too_large` beyond `max`. */
  match(match: SeriesMatch, max: number = limits.seriesMax): Uint32Array {
    const found: number[] = []
    const tenants = match.everyTenant === true ? [...this.#tenants.values()] : [this.#tenants.get(match.tenant)]
    const wanted = match.metrics === undefined ? undefined : [...new Set(match.metrics)]
    const take = (metrics: Map<string, number> | undefined): void => {
      if (metrics === undefined) return
      if (wanted === undefined) for (const id of metrics.values()) found.push(id)
      else
        for (const metric of wanted) {
          const id = metrics.get(metric)
          if (id !== undefined) found.push(id)
        }
      if (found.length > max)
        throw new KymoError('query_too_large', { detail: `More than ${max} series match. Name devices or metrics.`, facts: { series_max: max } })
    }
    for (const devices of tenants) {
      if (devices === undefined) continue
      if (match.devices === undefined) for (const metrics of devices.values()) take(metrics)
      else for (const device of new Set(match.devices)) take(devices.get(device))
    }
    return Uint32Array.from(found.sort((a, b) => compareKeys(this.keys[a]!, this.keys[b]!)))
  }

  /** The part of `sorted` (an answer of `match`) that the page asks for. */
  page(sorted: Uint32Array, page: SeriesPage | undefined): Uint32Array {
    if (page === undefined) return sorted
    const { after, limit } = page
    const first = after === undefined ? 0 : sorted.findIndex((id) => compareKeys(this.keys[id]!, after) > 0)
    return first < 0 ? sorted.subarray(0, 0) : sorted.subarray(first, first + limit)
  }
}

const unknown = 0xffffffff

/** By device, then metric, in the order of UTF-16 code units. */
export function compareKeys(a: Pick<SeriesKey, 'device' | 'metric'>, b: Pick<SeriesKey, 'device' | 'metric'>): number {
  if (a.device !== b.device) return a.device < b.device ? -1 : 1
  return a.metric === b.metric ? 0 : a.metric < b.metric ? -1 : 1
}
