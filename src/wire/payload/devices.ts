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
  /** The attributes of the device's last message in their order, as bytes. Valid for one version of the entry's attributes. */
  attribute: string[]
  attributeBytes: Uint8Array[]
  attributesVersion: number
}

interface TenantDevices {
  readonly byName: Map<string, KnownDevice>
  readonly bytes: ByteTable
  readonly byEntry: KnownDevice[]
}

/** Devices that had a message accepted: found by the bytes of their id, without making a string. Never more than `devicesMax`. */
export class KnownDevices {
  readonly #tenants = new Map<string, TenantDevices>()
  #lastTenant = ''
  #last: TenantDevices | undefined

  byBytes(tenant: string, bytes: Uint8Array, start: number, end: number): KnownDevice | undefined {
    const devices = this.#of(tenant)
    if (devices === undefined) return undefined
    const entry = devices.bytes.find(bytes, start, end, hashBytes(bytes, start, end))
    return entry < 0 ? undefined : devices.byEntry[entry]
  }

  byName(tenant: string, name: string): KnownDevice | undefined {
    return this.#of(tenant)?.byName.get(name)
  }

  add(entry: DeviceEntry): void {
    let devices = this.#of(entry.tenant)
    if (devices === undefined) {
      devices = {
        byName: new Map(),
        bytes: new ByteTable({ entriesMax: limits.devicesMax, bytesMax: limits.payloadDeviceBytesMax }),
        byEntry: [],
      }
      this.#tenants.set(entry.tenant, devices)
    }
    if (devices.byName.has(entry.id)) return
    const known: KnownDevice = { entry, metric: [], series: [], generation: -1, attribute: [], attributeBytes: [], attributesVersion: -1 }
    devices.byName.set(entry.id, known)
    const bytes = Buffer.from(entry.id)
    const at = devices.bytes.add(bytes, 0, bytes.length, hashBytes(bytes, 0, bytes.length))
    if (at >= 0) devices.byEntry[at] = known
  }

  #of(tenant: string): TenantDevices | undefined {
    if (this.#last !== undefined && this.#lastTenant === tenant) return this.#last
    const devices = this.#tenants.get(tenant)
    this.#lastTenant = tenant
    this.#last = devices
    return devices
  }
}

/** Does the device's attribute, the `at`-th of its message, hold just these bytes (valid UTF-8) already? */
export function attributeIs(known: KnownDevice, at: number, name: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (known.attributesVersion !== known.entry.attributesVersion || known.attribute[at] !== name)
    return learnAttribute(known, at, name, bytes, start, end)
  const same = known.attributeBytes[at]!
  if (same.length !== end - start) return false
  for (let i = 0; i < same.length; i++) if (same[i] !== bytes[start + i]) return false
  return true
}

function learnAttribute(known: KnownDevice, at: number, name: string, bytes: Uint8Array, start: number, end: number): boolean {
  const text = known.entry.attributes.get(name)
  if (text === undefined || !textIs(text, bytes, start, end)) return false
  if (known.attributesVersion !== known.entry.attributesVersion) {
    known.attribute.length = 0
    known.attributesVersion = known.entry.attributesVersion
  }
  if (at <= known.attribute.length) {
    known.attribute[at] = name
    known.attributeBytes[at] = new Uint8Array(bytes.subarray(start, end))
  }
  return true
}

export function textIs(text: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (asciiEquals(text, bytes, start, end)) return true
  return text.length < end - start && Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8') === text
}
