import type { SeriesKey } from '../../core/batch.ts'

interface Mapped {
  ids: Uint32Array
  known: number
}

/**
 * Dense ids of an operator's own: column arrays are indexed by them, whichever reader a batch comes from. A reader's `keys` array
 * only grows, so its mapping is worked out once per key and kept for as long as that array lives. Operators that head
 * the same stream may share one index.
 */
export class SeriesIndex {
  /** By id; only grows, so emitted columns may refer to it. */
  readonly keys: SeriesKey[] = []
  readonly #ids = new Map<string, number>()
  #mapped = new WeakMap<readonly SeriesKey[], Mapped>()
  #lastKeys: readonly SeriesKey[] | undefined
  #lastMapped: Mapped = { ids: new Uint32Array(0), known: 0 }

  get size(): number {
    return this.keys.length
  }

  /** The id of one key, given out when it is new. */
  id(key: SeriesKey): number {
    const name = `${key.tenant}\u0000${key.device}\u0000${key.metric}`
    let id = this.#ids.get(name)
    if (id === undefined) {
      id = this.keys.length
      this.keys.push(key)
      this.#ids.set(name, id)
    }
    return id
  }

  /** Ids of one device's series. */
  ofDevice(tenant: string, device: string): number[] {
    return this.keys.flatMap((key, id) => (key.device === device && key.tenant === tenant ? [id] : []))
  }

  /** Index into `keys` to id, for all of `keys`. Valid until `keys` has grown. */
  of(keys: readonly SeriesKey[]): Uint32Array {
    let mapped = this.#lastMapped
    if (keys !== this.#lastKeys) {
      mapped = this.#mapped.get(keys) ?? { ids: new Uint32Array(16), known: 0 }
      this.#mapped.set(keys, mapped)
      this.#lastKeys = keys
      this.#lastMapped = mapped
    }
    if (mapped.known < keys.length) this.#extend(mapped, keys)
    return mapped.ids
  }

  #extend(mapped: Mapped, keys: readonly SeriesKey[]): void {
    if (keys.length > mapped.ids.length) {
      const ids = new Uint32Array(Math.max(keys.length, mapped.ids.length * 2))
      ids.set(mapped.ids)
      mapped.ids = ids
    }
    for (let i = mapped.known; i < keys.length; i++) mapped.ids[i] = this.id(keys[i]!)
    mapped.known = keys.length
  }
}
