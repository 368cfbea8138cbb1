import { limits } from '../../core/limits.ts'
import type { DeviceEntry, SeriesTable } from '../../core/series-table.ts'
import { ByteTable, fnvPrime, fnvStart } from '../json/byte-table.ts'
import { nameText } from './bytes.ts'
import { MetOnce } from './met-once.ts'
import type { LineScanner } from './scan.ts'

/**
 * Beginnings of lines (measurement and tags as written) that were taken, by their bytes: whose they are, and the series of their fields in the order in
 * which they were first seen. All in columns, numbered by beginning. Bounded: at a limit all is forgotten, and learned anew. A beginning, or a field of one,
 * is remembered when it comes for the second time: what never comes again costs a bit, and drives nothing out.
 */
export class Heads {
  /** Keys of fields, as written. */
  readonly fields = new ByteTable({ entriesMax: limits.payloadKeysMax, bytesMax: limits.payloadKeyBytesMax })
  /** The beginning's device. */
  device: DeviceEntry[] = []
  /** The beginning's fields stand at [first, first + count) of `field` (entries in `fields`) and `series`. */
  first = new Int32Array(64)
  count = new Int32Array(64)
  /** Space for a beginning's fields is a power of two of them: it is full when their number is one. */
  field = new Int32Array(1024)
  series = new Int32Array(1024)
  readonly #keys = new ByteTable({ entriesMax: limits.lineKeysMax, bytesMax: limits.lineKeyBytesMax })
  readonly #table: SeriesTable
  readonly #met = new MetOnce(limits.lineMetOnceBits)
  readonly #seeds = new Map<string, number>()
  /** Texts of `fields`, without escapes. */
  #fieldNames: string[] = []
  #used = 0
  #lastTenant = ''
  #lastSeed = 0
  #forgotten: number

  constructor(table: SeriesTable) {
    this.#table = table
    this.#forgotten = table.forgotten
  }

  /**
   * To be called before each line: what the hash of its beginning starts from. Lines of two tenants may be alike, so the tenant is part of it.
   * When a device was erased, nothing is known any more.
   */
  seed(tenant: string): number {
    if (this.#table.forgotten !== this.#forgotten) this.#forget()
    if (tenant === this.#lastTenant && this.#lastSeed !== 0) return this.#lastSeed
    let seed = this.#seeds.get(tenant)
    if (seed === undefined) {
      if (this.#seeds.size >= 65_536) {
        this.#seeds.clear()
        this.#forget()
      }
      seed = Math.imul(fnvStart ^ (this.#seeds.size + 1), fnvPrime)
      this.#seeds.set(tenant, seed)
    }
    this.#lastTenant = tenant
    this.#lastSeed = seed
    return seed
  }

  /** The scanned line's beginning, or -1. */
  find(bytes: Uint8Array, scan: LineScanner, tenant: string): number {
    const head = this.#keys.find(bytes, scan.keyStart, scan.keyEnd, scan.keyHash)
    return head >= 0 && this.device[head]!.tenant === tenant ? head : -1
  }

  /** Which of the beginning's fields (from 0) the scanned line's i-th field is, or -1. It is looked for at `next` first: lines resemble each other. */
  indexOf(bytes: Uint8Array, scan: LineScanner, i: number, head: number, next: number): number {
    const { arena, offset, length } = this.fields
    const first = this.first[head]!
    const count = this.count[head]!
    const start = scan.fieldStart[i]!
    const end = scan.fieldEnd[i]!
    const guess = next < count ? this.field[first + next]! : -1
    if (guess >= 0 && length[guess] === end - start) {
      let at = start
      for (let from = offset[guess]!; at < end && arena[from] === bytes[at]; from++) at++
      if (at === end) return next
    }
    const entry = this.fields.find(bytes, start, end, scan.fieldHash[i]!)
    if (entry >= 0) for (let index = 0; index < count; index++) if (this.field[first + index] === entry) return index
    return -1
  }

  /** The name of the scanned line's i-th field. */
  fieldName(bytes: Uint8Array, scan: LineScanner, i: number): string {
    const entry = this.fields.find(bytes, scan.fieldStart[i]!, scan.fieldEnd[i]!, scan.fieldHash[i]!)
    return entry >= 0 ? this.#fieldNames[entry]! : nameText(bytes, scan.fieldStart[i]!, scan.fieldEnd[i]!)
  }

  /**
   * A line was taken whose beginning (`head` -1), or some of its fields, is not known: what of it has come before is remembered. `series`: of the
   * line's fields.
   */
  learn(bytes: Uint8Array, scan: LineScanner, head: number, device: DeviceEntry, series: Int32Array): void {
    if (head < 0 && !this.#met.again(scan.keyHash)) return
    const { fields } = this
    const full = fields.isFull(limits.nameBytesMax) || this.#used + 2 * limits.metricsPerDeviceMax > limits.lineFieldsMax
    if (full || (head < 0 && this.#keys.isFull(scan.keyEnd - scan.keyStart))) {
      this.#forget()
      return
    }
    const known = head < 0 ? this.#add(bytes, scan, device) : head
    if (known < 0) return
    for (let i = 0; i < scan.fieldCount && this.count[known]! < limits.metricsPerDeviceMax; i++) {
      if (head >= 0 && (this.indexOf(bytes, scan, i, head, i) >= 0 || !this.#met.again(scan.keyHash ^ Math.imul(scan.fieldHash[i]!, fnvPrime))))
        continue
      const field = this.#fieldOf(bytes, scan, i)
      if (field >= 0) this.#append(known, field, series[i]!)
    }
  }

  #fieldOf(bytes: Uint8Array, scan: LineScanner, i: number): number {
    const start = scan.fieldStart[i]!
    const end = scan.fieldEnd[i]!
    const hash = scan.fieldHash[i]!
    const known = this.fields.find(bytes, start, end, hash)
    if (known >= 0) return known
    const entry = this.fields.add(bytes, start, end, hash)
    if (entry >= 0) this.#fieldNames[entry] = nameText(bytes, start, end)
    return entry
  }

  #append(head: number, field: number, series: number): void {
    const count = this.count[head]!
    let first = this.first[head]!
    if ((count & (count - 1)) === 0) {
      const room = count === 0 ? 1 : 2 * count
      // What was added last grows where it is; other beginnings move to the end.
      const to = first + count === this.#used ? first : this.#used
      while (to + room > this.field.length) {
        this.field = doubled(this.field)
        this.series = doubled(this.series)
      }
      if (to !== first && count > 0) {
        this.field.copyWithin(to, first, first + count)
        this.series.copyWithin(to, first, first + count)
      }
      this.first[head] = first = to
      this.#used = to + room
    }
    this.field[first + count] = field
    this.series[first + count] = series
    this.count[head] = count + 1
  }

  #add(bytes: Uint8Array, scan: LineScanner, device: DeviceEntry): number {
    const head = this.#keys.add(bytes, scan.keyStart, scan.keyEnd, scan.keyHash)
    if (head < 0) return -1
    if (head >= this.first.length) {
      this.first = doubled(this.first)
      this.count = doubled(this.count)
    }
    this.device[head] = device
    this.first[head] = this.#used
    this.count[head] = 0
    return head
  }

  #forget(): void {
    this.#keys.clear()
    this.fields.clear()
    this.#fieldNames = []
    this.device = []
    this.#used = 0
    this.#forgotten = this.#table.forgotten
  }
}

function doubled(a: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const b = new Int32Array(a.length * 2)
  b.set(a)
  return b
}
