import { Flag, type Batch } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import type { RollupColumns, Tables } from '../../core/ports.ts'
import type { Dictionary } from './dictionary.ts'
import type { Ranges } from '../ranges.ts'
import { field, levelWidth, notKept, stateWidth, trait, type KeepMinutes, type SeriesState } from './series-state.ts'
import { stepOf, type Level } from './sql.ts'
import type { HotTables } from './tables.ts'

const levels = [
  { level: 'minute', offset: 0 },
  { level: 'hour', offset: levelWidth },
] as const

/** Series whose next late row must be looked up once the buckets of this commit are closed. */
export type Refine = Map<number, Set<Level>>

/**
 * Puts the tables of one commit into the appenders and follows them in the series' state. The one rule that keeps rollups and rows in agreement:
 * a rollup row exists for every bucket before `closed` that has numbers, and says exactly what the deduplicated rows say. So
 * - a row before `closed` has its bucket computed again in this commit;
 * - a row at or after `closed` that the bucket to come will not contain is `pending`: when that bucket closes, it is computed from
 *   rows instead of taken as it comes.
 * Minutes are kept only of series that fill them (series-state.ts): of the others `closed` stays where it is, and reads take their rows.
 */
export class Stage {
  readonly #dictionary: Dictionary
  readonly #state: SeriesState
  #tables: HotTables
  readonly #keep: KeepMinutes
  readonly ranges: Ranges
  /** No bucket before it is computed again; the beginning of a day, in microseconds. */
  rawFromUs = 0
  readonly refine: Refine = new Map()
  /** Arrival number of the next late row. */
  seq = 1
  /** Rows in `readings`. */
  readings = 0

  constructor(dictionary: Dictionary, state: SeriesState, tables: HotTables, ranges: Ranges, keep: KeepMinutes) {
    this.#dictionary = dictionary
    this.#state = state
    this.#tables = tables
    this.ranges = ranges
    this.#keep = keep
  }

  /** The appenders of another hot file. */
  use(tables: HotTables): void {
    this.#tables = tables
  }

  add(tables: Tables, gen: number): void {
    this.ranges.clear()
    this.refine.clear()
    const known = this.#dictionary.size
    // Where a time was ahead first and in order when it came again, the later arrival must get the higher number.
    for (const batch of tables.late) this.#late(batch, true)
    for (const batch of tables.readings) this.#readings(batch)
    for (const batch of tables.late) this.#late(batch, false)
    for (const columns of tables.rollups) this.#rollups(columns, gen)
    for (let id = known; id < this.#dictionary.size; id++) this.#tables.series(id, this.#dictionary.keys[id]!)
  }

  /** Buckets that were open when another log began will come without what they held: they are to be computed from rows. */
  distrustOpenBuckets(): void {
    const { cells } = this.#state
    for (let at = 0; at < this.#state.size * stateWidth; at += stateWidth) {
      for (const { offset } of levels) {
        const l = at + offset
        if (cells[l + field.open]! < cells[l + field.pending]!) cells[l + field.pending] = cells[l + field.open]!
        if (cells[at + field.last]! > cells[l + field.pendingLast]!) cells[l + field.pendingLast] = cells[at + field.last]!
      }
    }
  }

  #ids(batch: { readonly keys: Batch['keys']; readonly series: Uint32Array; readonly rows: number }): Uint32Array {
    const ids = this.#dictionary.of(batch.keys, batch.series, batch.rows)
    this.#state.reserve(this.#dictionary.size)
    return ids
  }

  #readings(batch: Batch): void {
    const { rows, series, timeUs, value, flags, text, meta } = batch
    const ids = this.#ids(batch)
    const { cells } = this.#state
    const tables = this.#tables
    for (let i = 0; i < rows; i++) {
      const id = ids[series[i]!]!
      const at = id * stateWidth
      const t = timeUs[i]!
      const v = value[i]!
      const bits = flags === undefined ? 0 : flags[i]!
      if (t > cells[at + field.last]!) {
        cells[at + field.last] = t
        cells[at + field.lastValue] = v
        cells[at + field.lastFlags] = bits
      }
      if (t < cells[at + field.first]!) cells[at + field.first] = t
      if (v === v) {
        if (t < cells[at + field.open]!) this.#uncovered(id, at, t)
        if (t < cells[at + field.open + levelWidth]!) this.#uncoveredHour(id, at, t)
      }
      if (t <= cells[at + field.lateLast]! && (t >= cells[at + field.pending]! || t < cells[at + field.closed]!)) {
        this.#lateRow(id, batch, i)
        continue
      }
      tables.reading(id, t, v, bits)
      this.readings++
      if (text === undefined && meta === undefined) continue
      const words = text?.get(i)
      const json = meta?.get(i)
      if (words === undefined && json === undefined) continue
      tables.text(id, t, words, json)
      cells[at + field.traits]! |= (words === undefined ? 0 : trait.text) | (json === undefined ? 0 : trait.meta)
    }
  }

  /** A number before the first row that no rollup row speaks for. */
  #uncovered(id: number, at: number, t: number): void {
    const { cells } = this.#state
    if (t >= cells[at + field.closed]!) cells[at + field.open] = t
    else this.#again('minute', id, t)
  }

  #uncoveredHour(id: number, at: number, t: number): void {
    const { cells } = this.#state
    if (t >= cells[at + field.closed + levelWidth]!) cells[at + field.open + levelWidth] = t
    else this.#again('hour', id, t)
  }

  #again(level: Level, id: number, t: number): void {
    if (level === 'minute' && t < this.#state.cells[id * stateWidth + field.minuteFrom]!) return
    const step = stepOf[level]
    const bucket = t - (t % step)
    this.#recompute(level, id, bucket, bucket + step)
  }

  #recompute(level: Level, id: number, lo: number, hi: number): void {
    const { cells } = this.#state
    const at = id * stateWidth
    if (lo < cells[at + field.correctedFirst]!) cells[at + field.correctedFirst] = lo
    if (hi > cells[at + field.correctedLast]!) cells[at + field.correctedLast] = hi
    // Retention has taken rows from what lies before: the rollup row that was made of all of them is the better one.
    const from = Math.max(lo, this.rawFromUs, cells[at + field.rawFrom]!)
    if (from < hi) this.ranges.add(level, id, from, hi)
  }

  #late(batch: Batch, ahead: boolean): void {
    const ids = this.#ids(batch)
    for (let i = 0; i < batch.rows; i++) {
      const bits = batch.flags === undefined ? 0 : batch.flags[i]!
      if (((bits & Flag.clockAhead) !== 0) === ahead) this.#lateRow(ids[batch.series[i]!]!, batch, i)
    }
  }

  #lateRow(id: number, batch: Batch, i: number): void {
    const { cells } = this.#state
    const at = id * stateWidth
    const t = batch.timeUs[i]!
    const v = batch.value[i]!
    const bits = batch.flags === undefined ? 0 : batch.flags[i]!
    this.#tables.late(id, t, v, bits, this.seq++, batch.text?.get(i), batch.meta?.get(i))
    const latest = (bits & Flag.clockAhead) !== 0 ? field.aheadLast : field.last
    if (t >= cells[at + latest]!) {
      cells[at + latest] = t
      cells[at + latest + 1] = v
      cells[at + latest + 2] = bits
    }
    if (t < cells[at + field.first]!) cells[at + field.first] = t
    if (t < cells[at + field.lateFirst]!) cells[at + field.lateFirst] = t
    if (t > cells[at + field.lateLast]!) cells[at + field.lateLast] = t
    for (const { level, offset } of levels) {
      const l = at + offset
      if (t < cells[l + field.closed]!) {
        this.#again(level, id, t)
        continue
      }
      if (t < cells[l + field.pending]!) cells[l + field.pending] = t
      if (t < cells[l + field.open]!) cells[l + field.open] = t
    }
  }

  #rollups(columns: RollupColumns, gen: number): void {
    const level = columns.stepUs === stepOf.minute ? 'minute' : columns.stepUs === stepOf.hour ? 'hour' : undefined
    if (level === undefined) throw new KymoError('bug', { detail: `Rollups of ${columns.stepUs} us are not kept.` })
    const ids = this.#ids(columns)
    for (let i = 0; i < columns.rows; i++) {
      const id = ids[columns.series[i]!]!
      if (columns.count[i] === 0) this.#rowsDecide(level, id, columns.timeUs[i]!)
      else this.#close(level, id, columns, i, gen)
    }
  }

  #rowsDecide(level: Level, id: number, bucket: number): void {
    const { cells } = this.#state
    const l = id * stateWidth + (level === 'hour' ? levelWidth : 0)
    if (bucket < cells[l + field.closed]!) {
      this.#again(level, id, bucket)
      return
    }
    if (bucket < cells[l + field.pending]!) cells[l + field.pending] = bucket
    if (bucket > cells[l + field.pendingLast]!) cells[l + field.pendingLast] = bucket
    this.#tables.pending(id, bucket, stepOf[level])
  }

  #close(level: Level, id: number, columns: RollupColumns, i: number, gen: number): void {
    const { cells } = this.#state
    const at = id * stateWidth
    const l = at + (level === 'hour' ? levelWidth : 0)
    const bucket = columns.timeUs[i]!
    const end = bucket + stepOf[level]
    if (bucket < cells[l + field.closed]!) {
      this.#again(level, id, bucket)
      return
    }
    if (level === 'minute' && !this.#keeps(id, at, bucket, columns.count[i]!)) return
    const pending = cells[l + field.pending]!
    if (pending >= end) this.#tables.rollup(level, id, columns, i, gen)
    else {
      this.#recompute(level, id, pending - (pending % stepOf[level]), end)
      const more = cells[l + field.pendingLast]! >= end || cells[at + field.lateLast]! >= end
      cells[l + field.pending] = more ? end : Number.POSITIVE_INFINITY
      if (cells[at + field.lateLast]! >= end) this.#refine(id, level)
    }
    cells[l + field.closed] = end
    cells[l + field.open] = cells[at + field.last]! >= end ? end : cells[l + field.pending]!
  }

  /** Is this minute to be kept? Where keeping begins anew, what lies before it is left to its rows. */
  #keeps(id: number, at: number, bucket: number, count: number): boolean {
    const { cells } = this.#state
    const { dense, sparse, minutes } = this.#keep
    if (cells[at + field.sparse]! < minutes) {
      const sparseInARow = count > sparse ? 0 : cells[at + field.sparse]! + 1
      cells[at + field.sparse] = sparseInARow < minutes ? sparseInARow : Number.POSITIVE_INFINITY
      if (sparseInARow === minutes) this.#tables.minutesKept(id, notKept)
      return true
    }
    if (count < dense) return false
    cells[at + field.sparse] = 0
    cells[at + field.minuteFrom] = bucket
    this.#tables.minutesKept(id, bucket)
    if (cells[at + field.pending]! < bucket) {
      const waits = cells[at + field.pendingLast]! >= bucket || cells[at + field.lateLast]! >= bucket
      cells[at + field.pending] = waits ? bucket : Number.POSITIVE_INFINITY
    }
    return true
  }

  #refine(id: number, level: Level): void {
    const known = this.refine.get(id)
    if (known === undefined) this.refine.set(id, new Set([level]))
    else known.add(level)
  }

  /** What `refine` asked for: the first late row at or after `closed`, or none. */
  refined(id: number, level: Level, lateUs: number | undefined): void {
    const { cells } = this.#state
    const at = id * stateWidth
    const l = at + (level === 'hour' ? levelWidth : 0)
    const closed = cells[l + field.closed]!
    const own = cells[l + field.pendingLast]! >= closed ? closed : Number.POSITIVE_INFINITY
    cells[l + field.pending] = Math.min(lateUs ?? Number.POSITIVE_INFINITY, own)
    if (cells[at + field.last]! < closed) cells[l + field.open] = cells[l + field.pending]!
  }
}
