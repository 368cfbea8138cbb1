import { Flag } from '../core/batch.ts'
import type { Batch } from '../core/batch.ts'
import type { Env } from '../core/env.ts'
import type { Sink } from '../core/ports.ts'
import type { LogRecord, Span } from '../core/record.ts'
import type { SeriesTable } from '../core/series-table.ts'
import type { DeviceRegistry } from '../devices/registry.ts'
import { decodeAttributes } from '../wire/attributes.ts'
import { decodeErasure, type ErasureRequest } from '../wire/erasure.ts'
import { KeyNumbers } from './live-keys.ts'
import { giveTurn } from './turns.ts'

/** A device was erased at this place of the log: the registry has durably forgotten it. What it rejects with is tried again. */
export type OnErasure = (request: ErasureRequest, at: { readonly log: string; readonly partition: number; readonly offset: bigint }) => Promise<void>

/** Teaches the registry what the log says of devices. A write resolves when that is durable. */
export class RegistrySink implements Sink {
  readonly #registry: DeviceRegistry
  readonly #series: SeriesTable
  readonly #catchingUp: () => boolean
  /** Device number by series. */
  readonly #devices: KeyNumbers
  readonly #onErasure: OnErasure
  readonly #env: Pick<Env, 'clock'>
  #receivedUs = 0

  constructor(o: {
    readonly registry: DeviceRegistry
    readonly series: SeriesTable
    readonly env: Pick<Env, 'clock'>
    readonly catchingUp: () => boolean
    readonly onErasure: OnErasure
  }) {
    this.#onErasure = o.onErasure
    this.#env = o.env
    const { registry } = o
    this.#registry = registry
    this.#series = o.series
    this.#catchingUp = o.catchingUp
    this.#devices = new KeyNumbers(({ tenant, device }) => registry.learn({ tenant, device, receivedUs: this.#receivedUs }))
  }

  async write(records: readonly LogRecord[], span: Span | undefined, signal?: AbortSignal): Promise<void> {
    const erasures: (readonly [ErasureRequest, offset: bigint])[] = []
    for (const [place, record] of records.entries()) {
      this.#receivedUs = record.receivedUs
      if (record.kind === 'readings') this.#readings(record.batch)
      else if (record.kind === 'attributes') this.#attributes(record.body)
      else if (record.kind === 'erasure') {
        const request = decodeErasure(record.body)
        this.#forget(request)
        erasures.push([request, record.offset ?? (span?.first ?? 0n) + BigInt(place)])
      }
    }
    await this.#registry.stored()
    for (const [request, offset] of erasures) await this.#onErasure(request, { log: span?.log ?? '', partition: span?.partition ?? 0, offset })
    await giveTurn(this.#env, records, signal)
  }

  async close(): Promise<void> {
    // The registry belongs to who opened it.
  }

  #forget({ tenant, device }: ErasureRequest): void {
    this.#registry.forget(tenant, device)
    this.#devices.forget(tenant, device)
    // Once doors are open the reader for latest values sees to it, with whom the table's numbers must agree.
    if (this.#catchingUp()) this.#series.forget(tenant, device)
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
    const { tenant, device, changes, retained } = decodeAttributes(body)
    const index = this.#registry.learn({ tenant, device, receivedUs: this.#receivedUs, changes })
    if (index >= 0 && retained !== true) this.#registry.seenAt(index, this.#receivedUs)
    // Once doors are open they have newer knowledge than the log's reader.
    if (!this.#catchingUp()) return
    const entry = this.#series.register(tenant, device)
    for (const [name, value] of Object.entries(changes)) this.#series.setAttribute(entry, name, value)
  }
}
