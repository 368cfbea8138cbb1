import { Buffer } from 'node:buffer'
import { limits } from '../../core/limits.ts'
import type { DeviceEntry } from '../../core/series-table.ts'
import { ByteTable, hashBytes } from '../json/byte-table.ts'
import { asciiEquals } from '../json/text.ts'

/** A device as the fast lane knows it, with the series of its last message in their order. */
export interface KnownDevice {
  readonly entry: DeviceEntry
  /** Entry in the key table of the message's i-th metric, and its series. Valid for one generation of the key table. */
  metric: number[]
  series: number[]
  generation: number
}

interface TenantDevices {
  readonly byName: Map<string, KnownDevice>
  readonly bytes: ByteTable
  readonly byEntry: KnownDevice[]
  /** The devices' indices, by the same entry. */
  index: Int32Array
}

/** Devices that had a message accepted: found by the bytes of their id, without making a string. Never more than `devicesMax`. */
export class KnownDevices {
  readonly #tenants = new Map<string, TenantDevices>()
  index = -1
  #entry = -1
  #found: KnownDevice | undefined
  #lastTenant = ''
  #last: TenantDevices | undefined

  /** Finds a device; its index is in `index`, -1 when it is not known. What else is known of it: `found`. */
  byBytes(tenant: string, bytes: Uint8Array, start: number, end: number): void {
    const devices = this.#of(tenant)
    this.#entry = devices === undefined ? -1 : devices.bytes.find(bytes, start, end, hashBytes(bytes, start, end))
    this.#found = undefined
    this.index = this.#entry < 0 ? -1 : devices!.index[this.#entry]!
  }

  byName(tenant: string, name: string): void {
    this.#found = this.#of(tenant)?.byName.get(name)
    this.index = this.#found === undefined ? -1 : this.#found.entry.index
  }

  /** The device that was found last. */
  get found(): KnownDevice {
    return this.#found ?? this.#last!.byEntry[this.#entry]!
  }

  add(entry: DeviceEntry): void {
    let devices = this.#of(entry.tenant)
    if (devices === undefined) {
      devices = {
        byName: new Map(),
        bytes: new ByteTable({ entriesMax: limits.devicesMax, bytesMax: limits.payloadDeviceBytesMax }),
        byEntry: [],
        index: new Int32Array(256),
      }
      this.#tenants.set(entry.tenant, devices)
    }
    if (devices.byName.has(entry.id)) return
    const known: KnownDevice = { entry, metric: [], series: [], generation: -1 }
    devices.byName.set(entry.id, known)
    const bytes = Buffer.from(entry.id)
    const hash = hashBytes(bytes, 0, bytes.length)
    // One that was forgotten has its place still.
    const before = devices.bytes.find(bytes, 0, bytes.length, hash)
    const at = before >= 0 ? before : devices.bytes.add(bytes, 0, bytes.length, hash)
    if (at < 0) return
    devices.byEntry[at] = known
    if (at >= devices.index.length) {
      const index = new Int32Array(devices.index.length * 2)
      index.set(devices.index)
      devices.index = index
    }
    devices.index[at] = entry.index
  }

  /** The device was erased: its next message is that of an unknown one. */
  forget(tenant: string, device: string): void {
    const devices = this.#of(tenant)
    if (devices === undefined || !devices.byName.delete(device)) return
    const bytes = Buffer.from(device)
    const at = devices.bytes.find(bytes, 0, bytes.length, hashBytes(bytes, 0, bytes.length))
    if (at >= 0) devices.index[at] = -1
  }

  #of(tenant: string): TenantDevices | undefined {
    if (this.#last !== undefined && this.#lastTenant === tenant) return this.#last
    const devices = this.#tenants.get(tenant)
    this.#lastTenant = tenant
    this.#last = devices
    return devices
  }
}

/** Does the device's attribute hold just these bytes (valid UTF-8) already? */
export function attributeIs(entry: DeviceEntry, name: string, bytes: Uint8Array, start: number, end: number): boolean {
  const text = entry.attributes.get(name)
  return text !== undefined && textIs(text, bytes, start, end)
}

export function textIs(text: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (asciiEquals(text, bytes, start, end)) return true
  return text.length < end - start && Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8') === text
}
