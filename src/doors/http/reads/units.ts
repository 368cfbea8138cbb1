import type { SeriesKey } from '../../../core/batch.ts'
import type { HttpContext } from '../options.ts'
import { Slices } from '../slices.ts'

const devicesPerLook = 64

/** Units and other attributes for one answer, from what the devices said of themselves; each device is asked for once. */
export class Units {
  readonly #context: HttpContext
  readonly #tenant: string
  readonly #attributes = new Map<string, Readonly<Record<string, string>> | undefined>()

  constructor(context: HttpContext, tenant: string) {
    this.#context = context
    this.#tenant = tenant
  }

  /** Call with the series (or devices) of a page before asking for their units. */
  async load(keys: Iterable<Pick<SeriesKey, 'device'>>): Promise<void> {
    const missing = new Set<string>()
    for (const key of keys) if (!this.#attributes.has(key.device)) missing.add(key.device)
    const slices = new Slices(this.#context)
    let asked = 0
    for (const id of missing) {
      if (++asked % devicesPerLook === 0 && slices.over) await slices.pause()
      this.#attributes.set(id, (await this.#context.devices.get(this.#tenant, id))?.attributes)
    }
  }

  of(key: SeriesKey): string | undefined {
    return this.attribute(key.device, `unit.${key.metric}`)
  }

  attribute(device: string, name: string): string | undefined {
    const attributes = this.#attributes.get(device)
    return attributes !== undefined && Object.hasOwn(attributes, name) ? attributes[name] : undefined
  }
}
