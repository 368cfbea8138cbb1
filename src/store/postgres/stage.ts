import { Flag, type Batch } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import type { RollupColumns, Tables } from '../../core/ports.ts'
import { stepOf, type KeepMinutes, type Level } from '../levels.ts'
import { Ranges } from '../ranges.ts'
import { CopyRows } from './copy-in.ts'
import { columnOf, columnsMax, valueColumns } from './layout.ts'
import { Message } from './message.ts'
import { field, width, type SeriesCache } from './series-cache.ts'

const levels = ['minute', 'hour'] as const
const none = Number.POSITIVE_INFINITY

/**
 * A minute row costs what three readings do to write (bench/postgres-store.ts), and is read as quickly as one: it is kept where it stands for many.
 * The
 * embedded store keeps them from six on (ADR 8).
 */
export const keepMinutes: KeepMinutes = { dense: 20, sparse: 6, minutes: 60 }

/** Beyond it squares do not add up any more: said as infinite, so that no sum in the database fails. */
const m2Max = 1e290

const never = Number.NEGATIVE_INFINITY

/** Columns that `Stage` fills, in this order. */
export const target = {
  plain: 'samples (time, value, series, flags)',
  worded: 'samples (time, value, series, flags, text, meta)',
  incoming: 'incoming (seq, time, value, series, flags, text, meta)',
  /** Of messages without text and metadata, as far as any of them has columns. */
  messages: (columns: number) => `messages (time, device, ${valueColumns(columns)}, flags)`,
  wordedMessages: `messages (time, device, ${valueColumns(columnsMax)}, flags, extra)`,
} as const

/**
 * The tables of one commit as rows for the database, followed in what is known of the series. The rule that keeps rollups and rows in agreement, as
 * in
 * the embedded store: every bucket before `closed` that has numbers has a rollup row, which says exactly what the rows say. So a row before `closed`
 * has
 * its bucket computed again, and a row beyond it that the bucket to come will not contain makes that bucket `pending`: it is computed from rows when
 * it closes.
 */
export class Stage {
  readonly plain = new CopyRows()
  readonly worded = new CopyRows()
  readonly messages = new CopyRows()
  readonly wordedMessages = new CopyRows()
  /** How many columns `messages` has. */
  columns = 0
  /** Rows whose identity may be there already: those with a clock ahead, which come before the readings, and all others, which come after. */
  readonly ahead = new CopyRows()
  readonly late = new CopyRows()
  readonly rollups: Readonly<Record<Level, CopyRows>> = { minute: new CopyRows(), hour: new CopyRows() }
  readonly ranges = new Ranges()
  /** Pending buckets that are new, and those that no longer are. */
  readonly noted: [series: number, level: Level, bucket: number][] = []
  readonly settled: [series: number, level: Level, bucket: number][] = []
  /** Slots of which something has changed that `series` says. */
  readonly changed = new Set<number>()
  readonly #keep: KeepMinutes
  readonly #message = new Message()
  #seq = 0
  #goneUs = 0
  #order = new Uint32Array(0)

  constructor(keep: KeepMinutes) {
    this.#keep = keep
  }

  /**
   * `upsert`: of no row is its identity taken to be new. `goneUs`: readings before it have gone, so that no bucket there can be computed again. Every
   * series
   * has its slot, and its slot its series.
   */
  add(tables: Tables, cache: SeriesCache, { upsert, goneUs }: { readonly upsert: boolean; readonly goneUs: number }): void {
    const { plain, worded, messages, wordedMessages, ahead, late, rollups } = this
    for (const rows of [plain, worded, messages, wordedMessages, ahead, late, rollups.minute, rollups.hour]) rows.clear()
    this.ranges.clear()
    this.noted.length = 0
    this.settled.length = 0
    this.changed.clear()
    this.#seq = 0
    this.#goneUs = goneUs
    this.columns = cache.columns
    // Where a time was ahead first and in order when it came again, the later arrival must win.
    for (const batch of tables.late) this.#late(batch, cache, true)
    for (const batch of tables.readings) this.#readings(batch, cache, upsert)
    for (const batch of tables.late) this.#late(batch, cache, false)
    for (const columns of tables.rollups) this.#rollups(columns, cache)
  }

  /**
   * Rows by device, and by series where these have rows of their own: what lies side by side in the table is written side by side, and the index page
   * by page.
   * Half the server's work where devices speak several times a commit. Those of a device by time, so that one message is one run.
   */
  #grouped({ rows, series, timeUs }: Batch, slots: Uint32Array, { cells, devices, slots: { size } }: SeriesCache): Uint32Array {
    const groups = devices.length
    const groupOf = (i: number): number => {
      const slot = slots[series[i]!]!
      const device = cells[slot * width + field.device]!
      return device < 0 ? groups + slot : device
    }
    const next = new Uint32Array(groups + size + 1)
    for (let i = 0; i < rows; i++) next[groupOf(i) + 1]!++
    for (let group = 0; group < groups + size; group++) next[group + 1]! += next[group]!
    const starts = next.slice(0, groups + 1)
    if (this.#order.length < rows) this.#order = new Uint32Array(rows * 2)
    const order = this.#order
    for (let i = 0; i < rows; i++) order[next[groupOf(i)]!++] = i
    for (let group = 0; group < groups; group++) {
      const [from, to] = [starts[group]!, starts[group + 1]!]
      let o = from + 1
      while (o < to && timeUs[order[o]!]! >= timeUs[order[o - 1]!]!) o++
      if (o < to) order.subarray(from, to).sort((a, b) => timeUs[a]! - timeUs[b]! || a - b)
    }
    return order
  }

  #readings(batch: Batch, cache: SeriesCache, upsert: boolean): void {
    const { rows, keys, series, timeUs, value, flags, text, meta } = batch
    const slots = cache.of(keys, series, rows)
    const order = this.#grouped(batch, slots, cache)
    const { cells, devices } = cache
    const { plain } = this
    const message = this.#message
    let [device, top, messageUs] = [-1, never, never]
    for (let o = 0; o < rows; o++) {
      const i = order[o]!
      const slot = slots[series[i]!]!
      const at = slot * width
      const id = cells[at + field.id]!
      const t = timeUs[i]!
      // It would go with the next round of retention.
      if (t < cells[at + field.gone]!) continue
      const hour = t - (t % stepOf.hour)
      const early = this.#follow(cache, slot, t, hour)
      const words = text?.get(i)
      const json = meta?.get(i)
      const bits = flags === undefined ? 0 : flags[i]!
      const place = cells[at + field.device]!
      if (place < 0) {
        if (upsert || early || (cache.pending.hour.size > 0 && cache.isPending('hour', slot, hour))) {
          this.#incoming(this.late, id, batch, i)
          continue
        }
        const to = words === undefined && json === undefined ? plain : this.worded
        to.row(to === plain ? 4 : 6)
        to.time(t)
        to.float8(value[i]!)
        to.int4(id)
        to.int2(bits)
        if (to === plain) continue
        to.text(words)
        to.text(json)
        continue
      }
      if (place !== device || t !== messageUs) {
        this.#send()
        // What this commit writes is no reason to look for what was there before, but what an earlier batch of it wrote is.
        if (place !== device) top = devices[place]!.top
        device = place
        messageUs = t
        if (t > devices[place]!.top) devices[place]!.top = t
      }
      if (upsert || early || t <= top || cache.isPendingDevice(devices[place]!, hour)) this.#incoming(this.late, id, batch, i)
      else message.add(devices[place]!.id, t, columnOf(id), value[i]!, bits, words, json)
    }
    this.#send()
  }

  #send(): void {
    const message = this.#message
    if (message.empty) return
    if (message.worded) message.write(this.wordedMessages, columnsMax)
    else message.write(this.messages, this.columns)
  }

  /** What a reading in order changes of what is known; true: its hour is closed. */
  #follow(cache: SeriesCache, slot: number, t: number, hour: number): boolean {
    const { cells } = cache
    const at = slot * width
    if (t < cells[at + field.first]!) this.#first(cache, slot, t)
    this.#seen(cache, slot, hour, false)
    const early = t < cells[at + field.closedHour]!
    if (early) this.#again('hour', cache, slot, t)
    if (t < cells[at + field.closed]!) this.#again('minute', cache, slot, t)
    return early
  }

  #seen({ cells }: SeriesCache, slot: number, hour: number, ahead: boolean): void {
    const at = slot * width
    const of = at + (ahead ? field.ahead : field.seen)
    if (hour <= cells[of]! || cells[at + field.device]! < 0) return
    cells[of] = hour
    this.changed.add(slot)
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
      if (t < cells[at + field.gone]!) continue
      this.#incoming(ahead ? this.ahead : this.late, cells[at + field.id]!, batch, i)
      if (t < cells[at + field.first]!) this.#first(cache, slot, t)
      this.#seen(cache, slot, t - (t % stepOf.hour), ahead)
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
    if (this.#isGone(cache, slot, bucket)) return
    if (cache.note(level, slot, bucket)) this.noted.push([cache.cells[slot * width + field.id]!, level, bucket])
  }

  /** Whether not all of what the bucket had is there any more. Whole days go. */
  #isGone({ cells }: SeriesCache, slot: number, bucket: number): boolean {
    return bucket < this.#goneUs || bucket < cells[slot * width + field.gone]!
  }

  #again(level: Level, cache: SeriesCache, slot: number, t: number): void {
    const at = slot * width
    const bucket = t - (t % stepOf[level])
    if ((level === 'minute' && bucket < cache.cells[at + field.minuteFrom]!) || this.#isGone(cache, slot, bucket)) return
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
      if (!kept || this.#isGone(cache, slot, one)) continue
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
