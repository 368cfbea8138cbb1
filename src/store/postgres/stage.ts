import { Flag, type Batch } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import type { RollupColumns, Tables } from '../../core/ports.ts'
import { stepOf, type KeepMinutes, type Level } from '../levels.ts'
import { Ranges } from '../ranges.ts'
import { CopyRows } from './copy-in.ts'
import { field, width, type SeriesCache } from './series-cache.ts'

const levels = ['minute', 'hour'] as const
const none = Number.POSITIVE_INFINITY

/**
 * A minute row costs what three readings do to write (bench/postgres-store.ts), and is read as quickly as one: it is kept where it stands for many. The
 * embedded store keeps them from six on (ADR 8).
 */
export const keepMinutes: KeepMinutes = { dense: 20, sparse: 6, minutes: 60 }

/** Beyond it squares do not add up any more: said as infinite, so that no sum in the database fails. */
const m2Max = 1e290

/** Columns that `Stage` fills, in this order. */
export const target = {
  plain: 'readings (time, value, series, flags)',
  worded: 'readings (time, value, series, flags, text, meta)',
  incoming: 'incoming (seq, time, value, series, flags, text, meta)',
} as const

/**
 * The tables of one commit as rows for the database, followed in what is known of the series. The rule that keeps rollups and rows in agreement, as in
 * the embedded store: every bucket before `closed` that has numbers has a rollup row, which says exactly what the rows say. So a row before `closed` has
 * its bucket computed again, and a row beyond it that the bucket to come will not contain makes that bucket `pending`: it is computed from rows when it closes.
 */
export class Stage {
  readonly plain = new CopyRows()
  readonly worded = new CopyRows()
  /** Rows whose identity may be there already: those with a clock ahead, which come before the readings, and all others, which come after. */
  readonly ahead = new CopyRows()
  readonly late = new CopyRows()
  readonly rollups: Readonly<Record<Level, CopyRows>> = { minute: new CopyRows(), hour: new CopyRows() }
  readonly ranges = new Ranges()
  /** Pending buckets that are new, and those that no longer are. */
  readonly noted: [series: number, level: Level, bucket: number][] = []
  readonly settled: [series: number, level: Level, bucket: number][] = []
  /** Slots whose first reading, or whose keeping of minutes, has changed. */
  readonly changed = new Set<number>()
  readonly #keep: KeepMinutes
  #seq = 0
  #order = new Uint32Array(0)

  constructor(keep: KeepMinutes) {
    this.#keep = keep
  }

  /** `upsert`: of no row is its identity taken to be new. Every series has its slot, and its slot its series. */
  add(tables: Tables, cache: SeriesCache, upsert: boolean): void {
    for (const rows of [this.plain, this.worded, this.ahead, this.late, this.rollups.minute, this.rollups.hour]) rows.clear()
    this.ranges.clear()
    this.noted.length = 0
    this.settled.length = 0
    this.changed.clear()
    this.#seq = 0
    // Where a time was ahead first and in order when it came again, the later arrival must win.
    for (const batch of tables.late) this.#late(batch, cache, true)
    for (const batch of tables.readings) this.#readings(batch, cache, upsert)
    for (const batch of tables.late) this.#late(batch, cache, false)
    for (const columns of tables.rollups) this.#rollups(columns, cache)
  }

  /** By series: rows of one lie side by side, and the index is written page by page; half the server's work where devices speak several times a commit. */
  #bySlot(batch: Batch, slots: Uint32Array, size: number): Uint32Array {
    const { rows, series } = batch
    const next = new Uint32Array(size + 1)
    for (let i = 0; i < rows; i++) next[slots[series[i]!]! + 1]!++
    for (let slot = 0; slot < size; slot++) next[slot + 1]! += next[slot]!
    if (this.#order.length < rows) this.#order = new Uint32Array(rows * 2)
    const order = this.#order
    for (let i = 0; i < rows; i++) order[next[slots[series[i]!]!]!++] = i
    return order
  }

  #readings(batch: Batch, cache: SeriesCache, upsert: boolean): void {
    const { rows, keys, series, timeUs, value, flags, text, meta } = batch
    const slots = cache.of(keys, series, rows)
    const order = this.#bySlot(batch, slots, cache.slots.size)
    const { cells } = cache
    const { plain } = this
    for (let o = 0; o < rows; o++) {
      const i = order[o]!
      const slot = slots[series[i]!]!
      const at = slot * width
      const t = timeUs[i]!
      const v = value[i]!
      const bits = flags === undefined ? 0 : flags[i]!
      if (t < cells[at + field.first]!) this.#first(cache, slot, t)
      const hour = t - (t % stepOf.hour)
      const early = t < cells[at + field.closedHour]!
      if (early) this.#again('hour', cache, slot, t)
      if (t < cells[at + field.closed]!) this.#again('minute', cache, slot, t)
      if (upsert || early || (cache.pending.hour.size > 0 && cache.isPending('hour', slot, hour))) {
        this.#incoming(this.late, cells[at + field.id]!, batch, i)
        continue
      }
      const words = text?.get(i)
      const json = meta?.get(i)
      const to = words === undefined && json === undefined ? plain : this.worded
      to.row(to === plain ? 4 : 6)
      to.time(t)
      to.float8(v)
      to.int4(cells[at + field.id]!)
      to.int2(bits)
      if (to === plain) continue
      to.text(words)
      to.text(json)
    }
  }

  #incoming(to: CopyRows, id: number, { timeUs, value, flags, text, meta }: Batch, i: number): void {
    to.row(7)
    to.int4(this.#seq++)
    to.time(timeUs[i]!)
    to.float8(value[i]!)
    to.int4(id)
    to.int2(flags === undefined ? 0 : flags[i]!)
    to.text(text?.get(i))
    to.text(meta?.get(i))
  }

  #late(batch: Batch, cache: SeriesCache, ahead: boolean): void {
    const { rows, keys, series, timeUs, flags } = batch
    const slots = cache.of(keys, series, rows)
    const { cells } = cache
    for (let i = 0; i < rows; i++) {
      const bits = flags === undefined ? 0 : flags[i]!
      if (((bits & Flag.clockAhead) !== 0) !== ahead) continue
      const slot = slots[series[i]!]!
      const at = slot * width
      const t = timeUs[i]!
      this.#incoming(ahead ? this.ahead : this.late, cells[at + field.id]!, batch, i)
      if (t < cells[at + field.first]!) this.#first(cache, slot, t)
      for (const level of levels) {
        if (t < closedOf(cache, level, slot)) this.#again(level, cache, slot, t)
        else this.#note(level, cache, slot, t - (t % stepOf[level]))
      }
    }
  }

  #first(cache: SeriesCache, slot: number, t: number): void {
    cache.cells[slot * width + field.first] = t
    this.changed.add(slot)
  }

  #note(level: Level, cache: SeriesCache, slot: number, bucket: number): void {
    if (cache.note(level, slot, bucket)) this.noted.push([cache.cells[slot * width + field.id]!, level, bucket])
  }

  #again(level: Level, cache: SeriesCache, slot: number, t: number): void {
    const at = slot * width
    const bucket = t - (t % stepOf[level])
    if (level === 'minute' && bucket < cache.cells[at + field.minuteFrom]!) return
    this.ranges.add(level, cache.cells[at + field.id]!, bucket, bucket + stepOf[level])
  }

  #rollups(columns: RollupColumns, cache: SeriesCache): void {
    const { keys, series, rows, stepUs, timeUs, count } = columns
    const level = levels.find((one) => stepOf[one] === stepUs)
    if (level === undefined) throw new KymoError('bug', { detail: `Rollups of ${stepUs} us are not kept.` })
    const slots = cache.of(keys, series, rows)
    for (let i = 0; i < rows; i++) {
      const slot = slots[series[i]!]!
      const bucket = timeUs[i]!
      if (bucket < closedOf(cache, level, slot)) this.#again(level, cache, slot, bucket)
      else if (count[i] === 0) this.#note(level, cache, slot, bucket)
      else this.#close(level, cache, slot, columns, i)
    }
  }

  #close(level: Level, cache: SeriesCache, slot: number, columns: RollupColumns, i: number): void {
    const at = slot * width
    const id = cache.cells[at + field.id]!
    const bucket = columns.timeUs[i]!
    const kept = level === 'hour' || this.#keeps(cache, slot, bucket, columns.count[i]!)
    cache.cells[at + (level === 'hour' ? field.closedHour : field.closed)] = bucket + stepOf[level]
    let taken = false
    const waiting = cache.pending[level].get(slot)
    for (const one of waiting ?? []) {
      if (one > bucket) continue
      waiting?.delete(one)
      this.settled.push([id, level, one])
      if (!kept) continue
      this.#again(level, cache, slot, one)
      if (one === bucket) taken = true
    }
    if (waiting?.size === 0) cache.pending[level].delete(slot)
    if (kept && !taken) rollupRow(this.rollups[level], id, columns, i)
  }

  /** Is this minute to be kept? Where keeping begins anew, what lies before it is left to its rows. */
  #keeps(cache: SeriesCache, slot: number, bucket: number, count: number): boolean {
    const { cells } = cache
    const at = slot * width
    if (cells[at + field.minuteFrom] === none) {
      if (count < this.#keep.dense) return false
      cells[at + field.minuteFrom] = bucket
      cells[at + field.sparse] = 0
      this.changed.add(slot)
      return true
    }
    const inARow = count > this.#keep.sparse ? 0 : cells[at + field.sparse]! + 1
    cells[at + field.sparse] = inARow
    if (inARow < this.#keep.minutes) return true
    cells[at + field.minuteFrom] = none
    this.changed.add(slot)
    return false
  }
}

function closedOf({ cells }: SeriesCache, level: Level, slot: number): number {
  return cells[slot * width + (level === 'hour' ? field.closedHour : field.closed)]!
}

/** As `rollupColumns` (sql.ts) has them. */
function rollupRow(to: CopyRows, id: number, from: RollupColumns, i: number): void {
  const m2 = from.m2[i]!
  to.row(11)
  to.time(from.timeUs[i]!)
  to.int4(id)
  to.int4(from.count[i]!)
  to.float8(from.sum === undefined ? from.count[i]! * from.mean[i]! : from.sum[i]!)
  to.float8(m2 < m2Max ? m2 : none)
  to.float8(from.min[i]!)
  to.float8(from.max[i]!)
  to.float8(from.first[i]!)
  to.time(from.firstUs[i]!)
  to.float8(from.last[i]!)
  to.time(from.lastUs[i]!)
}
