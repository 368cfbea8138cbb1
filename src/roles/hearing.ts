import { Flag, type Batch } from '../core/batch.ts'
import type { LogRecord } from '../core/record.ts'
import type { SeriesTable } from '../core/series-table.ts'
import type { DeviceRegistry } from '../devices/registry.ts'
import { decodeAttributes } from '../wire/attributes.ts'
import { decodeErasure } from '../wire/erasure.ts'
import { KeyNumbers } from './live-keys.ts'

export interface HearingOptions {
  readonly registry: Pick<DeviceRegistry, 'hear' | 'unhear' | 'seenAt'>
  readonly series: SeriesTable
  /** Identities of messages without a time that some door has let in. */
  readonly origins?: (origin: NonNullable<Batch['origin']>) => void
  /** Received time was written into the log. */
  readonly ticked?: (receivedUs: number) => void
  /** Latest values are not kept by this process, so nobody else tells the table of erased devices. */
  readonly onForgotten?: (tenant: string, device: string) => void
}

/**
 * What processes with doors must know of each other, from the log that they share: devices and what these say of themselves, erasures, and which messages
 * without a time were let in. In memory only: the group `registry` stores it, and the log has it.
 */
export class Hearing {
  readonly #o: HearingOptions
  readonly #devices: KeyNumbers
  #receivedUs = 0

  constructor(o: HearingOptions) {
    this.#o = o
    this.#devices = new KeyNumbers(({ tenant, device }) => o.registry.hear({ tenant, device, receivedUs: this.#receivedUs }))
  }

  take(record: LogRecord): void {
    this.#receivedUs = record.receivedUs
    if (record.kind === 'readings') this.#readings(record.batch)
    else if (record.kind === 'tick') this.#o.ticked?.(record.receivedUs)
    else if (record.kind === 'attributes') this.#attributes(record.body)
    else if (record.kind === 'erasure') {
      const { tenant, device } = decodeErasure(record.body)
      this.#devices.forget(tenant, device)
      this.#o.registry.unhear(tenant, device)
      this.#o.onForgotten?.(tenant, device)
    }
  }

  #readings(batch: Batch): void {
    const { rows, series, flags } = batch
    const devices = this.#devices.of(batch)
    let last = -1
    for (let row = 0; row < rows; row++) {
      const device = devices[series[row]!]!
      if (device === last || device < 0 || ((flags?.[row] ?? 0) & Flag.retained) !== 0) continue
      last = device
      this.#o.registry.seenAt(device, this.#receivedUs)
    }
    if (batch.origin !== undefined) this.#o.origins?.(batch.origin)
  }

  #attributes(body: Uint8Array): void {
    const { tenant, device, changes } = decodeAttributes(body)
    this.#o.registry.hear({ tenant, device, receivedUs: this.#receivedUs, changes })
    const { series } = this.#o
    const entry = series.register(tenant, device)
    for (const [name, value] of Object.entries(changes)) if (entry.attributes.get(name) !== value) series.setAttribute(entry, name, value)
  }
}
