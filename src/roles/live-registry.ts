import { Flag } from '../core/batch.ts'
import type { Batch } from '../core/batch.ts'
import type { Sink } from '../core/ports.ts'
import type { LogRecord } from '../core/record.ts'
import type { SeriesTable } from '../core/series-table.ts'
import type { DeviceRegistry } from '../devices/registry.ts'
import { decodeAttributes } from '../wire/attributes.ts'
import { KeyNumbers } from './live-keys.ts'

/** Teaches the registry what the log says of devices. A write resolves when that is durable. */
export class RegistrySink implements Sink {
  readonly #registry: DeviceRegistry
  readonly #series: SeriesTable
  readonly #catchingUp: () => boolean
  /** Device number by series. */
  readonly #devices: KeyNumbers
  #receivedUs = 0

  constructor(o: { readonly registry: DeviceRegistry; readonly series: SeriesTable; readonly catchingUp: () => boolean }) {
    const { registry } = o
    this.#registry = registry
    this.#series = o.series
    this.#catchingUp = o.catchingUp
    this.#devices = new KeyNumbers(({ tenant, device }) => registry.learn({ tenant, device, receivedUs: this.#receivedUs }))
  }

  async write(records: readonly LogRecord[]): Promise<void> {
    for (const record of records) {
      this.#receivedUs = record.receivedUs
      if (record.kind === 'readings') this.#readings(record.batch)
      else if (record.kind === 'attributes') this.#attributes(record.body)
    }
    await this.#registry.stored()
  }

  async close(): Promise<void> {
    // The registry belongs to who opened it.
  }

  #readings(batch: Batch): void {
    const { rows, series, flags } = batch
    const devices = this.#devices.of(batch)
    let last = -1
    for (let row = 0; row < rows; row++) {
      const device = devices[series[row]!]!
      if (device === last || device < 0) continue
      // A retained message is the state of some earlier time: it does not say that the device is there.
      if (flags !== undefined && (flags[row]! & Flag.retained) !== 0) continue
      last = device
      this.#registry.seenAt(device, this.#receivedUs)
    }
  }

  #attributes(body: Uint8Array): void {
    const { tenant, device, changes } = decodeAttributes(body)
    const index = this.#registry.learn({ tenant, device, receivedUs: this.#receivedUs, changes })
    if (index >= 0) this.#registry.seenAt(index, this.#receivedUs)
    // Once doors are open they have newer knowledge than the log's reader.
    if (!this.#catchingUp()) return
    const entry = this.#series.register(tenant, device)
    for (const [name, value] of Object.entries(changes)) this.#series.setAttribute(entry, name, value)
  }
}
