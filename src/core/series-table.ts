import type { SeriesKey } from './batch.ts'
import type { Code } from './errors.ts'
import { limits } from './limits.ts'

/** One device as the doors know it: its series by metric name, and what it last said of itself. */
export interface DeviceEntry {
  readonly tenant: string
  readonly id: string
  /** Metric name to series id. */
  readonly series: Map<string, number>
  /** Attribute name (`firmware`, `location`, `unit.<metric>`) to its last value, so that only changes reach the log. */
  readonly attributes: ReadonlyMap<string, string>
  /** Dense, in order of appearance, over all tenants. */
  readonly index: number
}

interface OwnEntry extends DeviceEntry {
  attributes: Map<string, string>
}

/** Of all devices that have said nothing of themselves, as most never do; nothing is put into it. */
const noAttributes = new Map<string, string>()

/** May a device that is not known yet become known? Undefined: yes. */
export type Admission = (tenant: string, device: string) => Code | undefined

/**
 * Series of this process, numbered densely in order of appearance: what a hot-path row carries instead of three strings.
 * Ids mean nothing outside the process; `keys` only grows, so a Batch may hold on to it.
 */
export class SeriesTable {
  readonly keys: SeriesKey[] = []
  /** 1 once the series has held a number: text is refused from then on (`metric_text_changed`). */
  numeric = new Uint8Array(1024)
  /** By the index of a device: grows with each change of its attributes. */
  attributesVersion = new Uint32Array(256)
  /** Grows with each device that is let go of: who remembers devices or series by something else has to ask again. */
  forgotten = 0
  readonly #tenants = new Map<string, Map<string, OwnEntry>>()
  /** Of the tenant that was asked for last: most have company of their own kind. */
  #lastTenant = ''
  #last: Map<string, OwnEntry> | undefined
  #devices = 0
  #admit: Admission

  constructor(admit: Admission = () => undefined) {
    this.#admit = admit
  }

  get deviceCount(): number {
    return this.#devices
  }

  /** Replaces who decides on unknown devices (the registry, once it is open). */
  set admission(admit: Admission) {
    this.#admit = admit
  }

  find(tenant: string, device: string): DeviceEntry | undefined {
    return this.#of(tenant)?.get(device)
  }

  /** The device's entry, or why it may not have one. */
  device(tenant: string, device: string): DeviceEntry | Code {
    return this.find(tenant, device) ?? this.admitted(tenant, device)
  }

  /** The entry of a device that `find` has not found, or why it may not have one. */
  admitted(tenant: string, device: string): DeviceEntry | Code {
    if (this.#devices >= limits.devicesMax) return 'too_many_devices'
    return this.#admit(tenant, device) ?? this.#add(this.#opened(tenant), tenant, device)
  }

  /** Makes a device known without asking: it came from the registry or the store. */
  register(tenant: string, device: string): DeviceEntry {
    const devices = this.#opened(tenant)
    return devices.get(device) ?? this.#add(devices, tenant, device)
  }

  #of(tenant: string): Map<string, OwnEntry> | undefined {
    if (this.#last !== undefined && tenant === this.#lastTenant) return this.#last
    this.#lastTenant = tenant
    return (this.#last = this.#tenants.get(tenant))
  }

  #opened(tenant: string): Map<string, OwnEntry> {
    const devices = this.#of(tenant)
    if (devices !== undefined) return devices
    this.#tenants.set(tenant, (this.#last = new Map<string, OwnEntry>()))
    return this.#last
  }

  #add(devices: Map<string, OwnEntry>, tenant: string, device: string): DeviceEntry {
    const entry: OwnEntry = { tenant, id: device, series: new Map(), attributes: noAttributes, index: this.#devices++ }
    devices.set(device, entry)
    if (entry.index >= this.attributesVersion.length) {
      const grown = new Uint32Array(this.attributesVersion.length * 2)
      grown.set(this.attributesVersion)
      this.attributesVersion = grown
    }
    return entry
  }

  /** Lets go of a device that was erased, and returns its series: should it speak again, it is another one. */
  forget(tenant: string, device: string): readonly number[] {
    const devices = this.#of(tenant)
    const ids = [...(devices?.get(device)?.series.values() ?? [])]
    devices?.delete(device)
    this.forgotten++
    return ids
  }

  /** The one way to change what a device said of itself. */
  setAttribute(device: DeviceEntry, name: string, value: string): void {
    const entry = this.#of(device.tenant)?.get(device.id)
    if (entry?.attributes === noAttributes) entry.attributes = new Map()
    entry?.attributes.set(name, value)
    this.attributesVersion[device.index]!++
  }

  /** The series' id, or -1 when the device has as many metrics as it may (or the process as many series). */
  series(device: DeviceEntry, metric: string): number {
    return device.series.get(metric) ?? this.add(device, metric)
  }

  /** As `series`, of a metric that the device does not have. */
  add(device: DeviceEntry, metric: string): number {
    if (device.series.size >= limits.metricsPerDeviceMax || this.keys.length >= limits.seriesMax) return -1
    const id = this.keys.length
    this.keys.push({ tenant: device.tenant, device: device.id, metric })
    device.series.set(metric, id)
    if (id >= this.numeric.length) {
      const grown = new Uint8Array(this.numeric.length * 2)
      grown.set(this.numeric)
      this.numeric = grown
    }
    return id
  }
}
