import type { SeriesKey } from '../../../core/batch.ts'
import type { DeviceService } from '../../../core/services.ts'

/** Units of one answer's series, from what the devices said of themselves; each device is asked for once. */
export class Units {
  readonly #devices: DeviceService
  readonly #tenant: string
  readonly #attributes = new Map<string, Readonly<Record<string, string>> | undefined>()

  constructor(devices: DeviceService, tenant: string) {
    this.#devices = devices
    this.#tenant = tenant
  }

  /** Call with the series of a page before asking for their units. */
  async load(keys: Iterable<SeriesKey>): Promise<void> {
    const missing = new Set<string>()
    for (const key of keys) if (!this.#attributes.has(key.device)) missing.add(key.device)
    if (missing.size === 0) return
    await Promise.all(
      [...missing].map(async (id) => {
        this.#attributes.set(id, (await this.#devices.get(this.#tenant, id))?.attributes)
      }),
    )
  }

  of(key: SeriesKey): string | undefined {
    const attributes = this.#attributes.get(key.device)
    const name = `unit.${key.metric}`
    return attributes !== undefined && Object.hasOwn(attributes, name) ? attributes[name] : undefined
  }
}
