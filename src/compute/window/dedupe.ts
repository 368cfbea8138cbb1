import { BatchBuilder } from '../../core/batch-builder.ts'
import { emptyBatch, Flag, type Batch, type SeriesKey } from '../../core/batch.ts'
import { limits } from '../../core/limits.ts'
import type { Operator } from '../../core/ports.ts'
import { SeriesIndex } from './series-index.ts'
import { beginState, StateReader } from './state-bytes.ts'

/** What one batch came to. Batches are borrowed like the one that was pushed; `inOrder` often is that very batch. */
export interface Deduped {
  /** Rows whose identity is known to be new. Their times may still be out of order, behind the watermark. */
  readonly inOrder: Batch
  /** Identities that may exist already: `Flag.late`, `Flag.clockAhead`, and corrections (no flag). The later arrival wins. */
  readonly late: Batch
  /** Rows dropped because they were seen before with the same value. */
  readonly duplicates: number
  /** Rows in `late` that give a remembered identity another value. */
  readonly corrections: number
}

const recent = limits.recentTimesPerSeries
const stateName = 'KDDP'
const stateVersion = 1
const unusual = Flag.text | Flag.clockAhead

/** Of a remembered time: a number, a text (kept as a hash), or a value that is not known (a seeded watermark). */
const Held = { number: 0, text: 1, unknown: 2 } as const
const Verdict = { inOrder: 0, duplicate: 1, correction: 2, late: 3, ahead: 4 } as const

/**
 * Heads every consumer of the log, so that a reading sent twice counts once for each of them. Per series it remembers the
 * `limits.recentTimesPerSeries` highest event times with their values, and the highest time that was ever forgotten (the floor):
 * - above the floor and not remembered: certainly new. Also when it lies behind the watermark (QoS 1 reorders a window):
 *   it goes out in order, and a consumer whose bucket for it is closed already says so itself (see rollup.ts);
 * - remembered with the same value: a duplicate, dropped; with another value: a correction, which goes out as late;
 * - at or below the floor: nothing can be vouched for, `Flag.late`;
 * - more than `limits.clockAheadMaxUs` beyond the time at which its record was received: `Flag.clockAhead`, remembered nowhere,
 *   moves no watermark, goes out as late. A flag that the batch brings along is believed.
 *
 * Event time is per series: one fast clock makes no neighbour late. A number and a text at one time differ. Texts are compared by a
 * 53-bit hash, so that memory stays bounded. The state's bytes: docs/format/store.md, "Operator states".
 */
export class Dedupe implements Operator<Deduped> {
  readonly #index: SeriesIndex
  /** Per series a ring in time order: `head` is the oldest slot, the one before it the newest. Empty slots hold -Infinity. */
  #times = new Float64Array(0)
  #values = new Float64Array(0)
  #held = new Uint8Array(0)
  #head = new Uint8Array(0)
  #floor = new Float64Array(0)
  #capacity = 0

  constructor(index: SeriesIndex = new SeriesIndex()) {
    this.#index = index
  }

  /** `receivedUs` of the record that the batch came in; without it only `Flag.clockAhead` tells of a fast clock. */
  push(batch: Batch, emit: (out: Deduped) => void, receivedUs = Number.POSITIVE_INFINITY): void {
    const { rows, series, timeUs, value, flags } = batch
    if (rows === 0) return
    const ids = this.#index.of(batch.keys)
    if (this.#index.size > this.#capacity) this.#grow(this.#index.size)
    const times = this.#times
    const values = this.#values
    const held = this.#held
    const heads = this.#head
    const floors = this.#floor
    const aheadUs = receivedUs + limits.clockAheadMaxUs
    let split: Split | undefined
    for (let i = 0; i < rows; i++) {
      const id = ids[series[i]!]!
      const t = timeUs[i]!
      const base = id * recent
      const head = heads[id]!
      if (t > times[base + (head === 0 ? recent - 1 : head - 1)]! && t <= aheadUs && (flags === undefined || (flags[i]! & unusual) === 0)) {
        const slot = base + head
        const forgotten = times[slot]!
        if (forgotten > floors[id]!) floors[id] = forgotten
        times[slot] = t
        values[slot] = value[i]!
        held[slot] = Held.number
        heads[id] = head === recent - 1 ? 0 : head + 1
        if (split !== undefined) split.inOrder(i)
        continue
      }
      const verdict = this.#judge(id, i, batch, aheadUs)
      if (split === undefined) {
        if (verdict === Verdict.inOrder) continue
        split = new Split(batch, i)
      }
      split.put(verdict, i)
    }
    emit(split === undefined ? { inOrder: batch, late: emptyBatch, duplicates: 0, corrections: 0 } : split.result())
  }

  tick(): void {
    // Received time changes nothing here: what is new, known or late depends on event times alone.
  }

  /**
   * Says that a series may hold anything up to `floorUs`, as a store does whose log began anew: such times will be late, and what is
   * above is in order.
   */
  seed(key: SeriesKey, floorUs: number): void {
    const id = this.#index.id(key)
    if (id >= this.#capacity) this.#grow(this.#index.size)
    if (floorUs > this.#floor[id]!) this.#floor[id] = floorUs
    if (floorUs > this.#times[this.#newest(id)]!) this.#append(id, floorUs, Number.NaN, Held.unknown)
  }

  /** The highest event time of a series that is not ahead of its time; -Infinity when there is none. */
  watermark(key: SeriesKey): number {
    const id = this.#index.id(key)
    return id < this.#capacity ? this.#times[this.#newest(id)]! : Number.NEGATIVE_INFINITY
  }

  /** Forgets a device as if it had never spoken: its rows have been erased, and what comes again is new. */
  forget(tenant: string, device: string): void {
    for (const id of this.#index.ofDevice(tenant, device)) {
      if (id >= this.#capacity) continue
      this.#times.fill(Number.NEGATIVE_INFINITY, id * recent, (id + 1) * recent)
      this.#values.fill(0, id * recent, (id + 1) * recent)
      this.#held.fill(0, id * recent, (id + 1) * recent)
      this.#head[id] = 0
      this.#floor[id] = Number.NEGATIVE_INFINITY
    }
  }

  /** Series of which nothing is known are left out: their names too may have been erased. */
  snapshot(): Uint8Array {
    const known: number[] = []
    for (let id = 0; id < Math.min(this.#index.size, this.#capacity); id++)
      if (this.#floor[id]! !== Number.NEGATIVE_INFINITY || this.#times[this.#newest(id)]! !== Number.NEGATIVE_INFINITY) known.push(id)
    const writer = beginState(stateName, stateVersion, known.length * 180)
    writer.u32(known.length)
    for (const id of known) {
      const key = this.#index.keys[id]!
      writer.text(key.tenant)
      writer.text(key.device)
      writer.text(key.metric)
      writer.f64(this.#floor[id]!)
      const base = id * recent
      let slots = 0
      for (let i = 0; i < recent; i++) if (this.#times[base + i]! !== Number.NEGATIVE_INFINITY) slots++
      writer.u8(slots)
      // Empty slots are the oldest, so the last `slots` of the ring are those to keep.
      for (let i = recent - slots; i < recent; i++) {
        const slot = base + ((this.#head[id]! + i) % recent)
        writer.f64(this.#times[slot]!)
        writer.f64(this.#values[slot]!)
        writer.u8(this.#held[slot]!)
      }
    }
    return writer.finish()
  }

  restore(state: Uint8Array): void {
    const reader = new StateReader(state, stateName, stateVersion)
    this.#capacity = 0
    this.#times = new Float64Array(0)
    this.#floor = new Float64Array(0)
    for (let left = reader.u32(); left > 0; left--) {
      const id = this.#index.id({ tenant: reader.text(), device: reader.text(), metric: reader.text() })
      if (id >= this.#capacity) this.#grow(this.#index.size)
      this.#floor[id] = reader.f64()
      for (let slots = reader.u8(); slots > 0; slots--) this.#append(id, reader.f64(), reader.f64(), reader.u8())
    }
  }

  /** The rows that are not plain numbers beyond the watermark. */
  #judge(id: number, row: number, batch: Batch, aheadUs: number): number {
    const t = batch.timeUs[row]!
    const flags = batch.flags === undefined ? 0 : batch.flags[row]!
    if (t > aheadUs || (flags & Flag.clockAhead) !== 0) return Verdict.ahead
    if (t <= this.#floor[id]!) return Verdict.late
    const isText = (flags & Flag.text) !== 0
    const kind = isText ? Held.text : Held.number
    const value = isText ? hash53(batch.text?.get(row) ?? '') : batch.value[row]!
    if (t > this.#times[this.#newest(id)]!) {
      this.#append(id, t, value, kind)
      return Verdict.inOrder
    }
    for (let slot = id * recent; slot < (id + 1) * recent; slot++) {
      if (this.#times[slot] !== t) continue
      const known = this.#values[slot]!
      if (this.#held[slot] === kind && (known === value || (known !== known && value !== value))) return Verdict.duplicate
      this.#values[slot] = value
      this.#held[slot] = kind
      return Verdict.correction
    }
    this.#insert(id, t, value, kind)
    return Verdict.inOrder
  }

  #newest(id: number): number {
    const head = this.#head[id]!
    return id * recent + (head === 0 ? recent - 1 : head - 1)
  }

  #slots(id: number): number[] {
    return Array.from({ length: recent }, (_, i) => id * recent + ((this.#head[id]! + i) % recent))
  }

  /** Remembers a time beyond all others in place of the oldest. */
  #append(id: number, t: number, value: number, kind: number): void {
    const slot = id * recent + this.#head[id]!
    if (this.#times[slot]! > this.#floor[id]!) this.#floor[id] = this.#times[slot]!
    this.#times[slot] = t
    this.#values[slot] = value
    this.#held[slot] = kind
    this.#head[id] = (this.#head[id]! + 1) % recent
  }

  /** Remembers a time between others: the oldest goes, younger ones move towards it. A time that is older than all is forgotten at once. */
  #insert(id: number, t: number, value: number, kind: number): void {
    const slots = this.#slots(id)
    const oldest = this.#times[slots[0]!]!
    if (t < oldest) {
      this.#floor[id] = t
      return
    }
    if (oldest > this.#floor[id]!) this.#floor[id] = oldest
    let i = 0
    while (i + 1 < recent && this.#times[slots[i + 1]!]! < t) {
      this.#times[slots[i]!] = this.#times[slots[i + 1]!]!
      this.#values[slots[i]!] = this.#values[slots[i + 1]!]!
      this.#held[slots[i]!] = this.#held[slots[i + 1]!]!
      i++
    }
    this.#times[slots[i]!] = t
    this.#values[slots[i]!] = value
    this.#held[slots[i]!] = kind
  }

  #grow(series: number): void {
    const capacity = Math.max(64, series, this.#capacity * 2)
    const grow = (from: Float64Array, length: number): Float64Array<ArrayBuffer> => {
      const to = new Float64Array(length).fill(Number.NEGATIVE_INFINITY)
      to.set(from.subarray(0, Math.min(from.length, length)))
      return to
    }
    this.#times = grow(this.#times, capacity * recent)
    this.#floor = grow(this.#floor, capacity)
    const values = new Float64Array(capacity * recent)
    const held = new Uint8Array(capacity * recent)
    const head = new Uint8Array(capacity)
    if (this.#capacity > 0) {
      values.set(this.#values)
      held.set(this.#held)
      head.set(this.#head)
    }
    this.#values = values
    this.#held = held
    this.#head = head
    this.#capacity = capacity
  }
}

/** A batch that does not pass as a whole: its rows are copied to either side. Made only when the first such row comes. */
class Split {
  readonly #batch: Batch
  readonly #new: BatchBuilder
  readonly #late: BatchBuilder
  #duplicates = 0
  #corrections = 0

  /** Rows before `first` were in order. */
  constructor(batch: Batch, first: number) {
    this.#batch = batch
    this.#new = new BatchBuilder(batch.keys, batch.rows)
    this.#late = new BatchBuilder(batch.keys, 16)
    for (let i = 0; i < first; i++) this.inOrder(i)
  }

  inOrder(row: number): void {
    this.#copy(this.#new, row, 0)
  }

  put(verdict: number, row: number): void {
    if (verdict === Verdict.inOrder) this.inOrder(row)
    else if (verdict === Verdict.duplicate) this.#duplicates++
    else if (verdict === Verdict.correction) {
      this.#corrections++
      this.#copy(this.#late, row, 0)
    } else this.#copy(this.#late, row, verdict === Verdict.late ? Flag.late : Flag.clockAhead)
  }

  result(): Deduped {
    return { inOrder: this.#new.view(), late: this.#late.view(), duplicates: this.#duplicates, corrections: this.#corrections }
  }

  #copy(to: BatchBuilder, row: number, flag: number): void {
    const { series, timeUs, value, flags, text, meta } = this.#batch
    const bits = (flags === undefined ? 0 : flags[row]!) | flag
    const json = meta?.get(row)
    if (json !== undefined) to.addMeta(to.rows, json)
    if ((bits & Flag.text) !== 0) to.addText(series[row]!, timeUs[row]!, text?.get(row) ?? '', bits)
    else to.add(series[row]!, timeUs[row]!, value[row]!, bits)
  }
}

/** Two multiply-xorshift lanes over UTF-16 units, joined to 53 bits: equal texts agree, others collide once in 10^16. */
function hash53(text: string): number {
  let a = 0xdeadbeef ^ text.length
  let b = 0x41c6ce57 ^ text.length
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    a = Math.imul(a ^ unit, 0x9e3779b1)
    b = Math.imul(b ^ unit, 0x5f356495)
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35)
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35)
  return (b >>> 0) * 0x200000 + (a >>> 11)
}
