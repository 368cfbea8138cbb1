import type pg from 'pg'
import { Flag, type SeriesKey } from '../../core/batch.ts'
import { Dictionary } from '../dictionary.ts'
import { stepOf, type Level } from '../levels.ts'
import { adoptSeries } from './adopt.ts'
import { columnOf, deviceOf, flagInAny } from './layout.ts'
import { ints, microseconds } from './sql.ts'

const never = Number.NEGATIVE_INFINITY
const none = Number.POSITIVE_INFINITY

/** What is known of a series, as one row of numbers (times in microseconds). */
export const field = {
  /** Minute buckets before it have passed; the hour's follows. */
  closed: 0,
  closedHour: 1,
  /** From here on minutes are kept; Infinity: they are not. */
  minuteFrom: 2,
  /** Minutes in a row with few readings. */
  sparse: 3,
  first: 4,
  /** The series' number in the database. */
  id: 5,
  /** Of a column of messages: its device's place in `devices`; else -1. */
  device: 6,
  /** Of a column: the newest hours with readings of plausible times, and of clocks ahead; -Infinity: none. */
  seen: 7,
  ahead: 8,
  /** By a rule of retention its readings before it have gone; 0: none have. */
  gone: 9,
} as const
export const width = 10

/** A device that has columns of messages. */
export interface CachedDevice {
  readonly id: number
  /** No row beyond it was written, but for those of clocks ahead. */
  top: number
  /** Slots of its columns. */
  readonly slots: number[]
}

/**
 * What one span's commits know of the series that they write, as of its last commit. It holds as long as the same process made that commit and nobody
 * took series over (`span.writer`, `span.revoked`): a commit looks at both under the span's lock.
 */
export class SeriesCache {
  readonly slots = new Dictionary()
  cells = new Float64Array(64 * width)
  readonly devices: CachedDevice[] = []
  /** How many columns of messages these series use, and whether some have rows of their own. */
  columns = 0
  narrow = false
  /** Buckets still to come that will not have all their readings, by slot. */
  readonly pending: Readonly<Record<Level, Map<number, Set<number>>>> = { minute: new Map(), hour: new Map() }
  readonly #places = new Map<number, number>()
  /** Slots below it have their series. */
  #adopted = 0
  readonly #columnsMax: number

  /** `columnsMax`: how many columns of messages a device may have. */
  constructor(columnsMax: number) {
    this.#columnsMax = columnsMax
  }

  /** Index into `keys` to slot. */
  of(keys: readonly SeriesKey[], series: Uint32Array, rows: number): Uint32Array {
    return this.slots.of(keys, series, rows)
  }

  isPending(level: Level, slot: number, bucket: number): boolean {
    return this.pending[level].get(slot)?.has(bucket) === true
  }

  /** Whether rows of the device may be there that came out of their order, in this hour. */
  isPendingDevice({ slots }: CachedDevice, hour: number): boolean {
    return this.pending.hour.size > 0 && slots.some((slot) => this.isPending('hour', slot, hour))
  }

  /**
   * Takes the series of all slots that are new over for `span`, in its commit's transaction: makes those that are not there, tells their former
   * owners,
   * whose commits under way are waited for, and reads what is known of them.
   */
  async adopt(client: pg.PoolClient, span: number): Promise<void> {
    const keys = this.slots.keys.slice(this.#adopted)
    if (keys.length === 0) return
    const ids = await adoptSeries(client, keys, span, this.#columnsMax)
    const cells = new Float64Array(Math.max(this.cells.length, this.slots.size * 2 * width))
    cells.set(this.cells)
    this.cells = cells
    const slotOf = new Map(ids.map((id, i) => [id, this.#adopted + i]))
    await this.#read(client, slotOf)
    await this.#readDevices(client, slotOf)
    this.#adopted = this.slots.size
  }

  async #read(client: pg.PoolClient, slotOf: ReadonlyMap<number, number>): Promise<void> {
    const ids = [...slotOf.keys()]
    const newest = (table: string): string => microseconds(`(SELECT max(bucket) FROM ${table} r WHERE r.series = s.id)`)
    const found = await client.query<{
      id: number
      first: string | null
      minute_from: string | null
      minute: string | null
      hour: string | null
      seen: string | null
      ahead: string | null
      gone: string | null
    }>(
      `SELECT s.id, ${microseconds(`nullif(s.first, 'infinity')`)} AS first, ${microseconds('s.minute_from')} AS minute_from,
        ${newest('rollup_1m')} AS minute, ${newest('rollup_1h')} AS hour, ${microseconds('s.seen')} AS seen, ${microseconds('s.ahead')} AS ahead,
        ${microseconds('s.gone')} AS gone
        FROM series s WHERE s.id = ANY($1)`,
      [ids],
    )
    for (const { id, first, minute_from, minute, hour, seen, ahead, gone } of found.rows) {
      const at = slotOf.get(id)! * width
      this.cells[at + field.id] = id
      this.cells[at + field.first] = first === null ? none : Number(first)
      this.cells[at + field.minuteFrom] = minute_from === null ? none : Number(minute_from)
      this.cells[at + field.closed] = minute === null ? never : Number(minute) + stepOf.minute
      this.cells[at + field.closedHour] = hour === null ? never : Number(hour) + stepOf.hour
      this.cells[at + field.sparse] = 0
      this.cells[at + field.device] = -1
      this.cells[at + field.seen] = seen === null ? never : Number(seen)
      this.cells[at + field.ahead] = ahead === null ? never : Number(ahead)
      this.cells[at + field.gone] = gone === null ? 0 : Number(gone)
    }
    const waiting = await client.query<{ series: number; step: number; bucket: string }>(
      `SELECT series, step, ${microseconds('bucket')} AS bucket FROM pending WHERE series = ANY($1)`,
      [ids],
    )
    for (const { series, step, bucket } of waiting.rows) this.note(step === 60 ? 'minute' : 'hour', slotOf.get(series)!, Number(bucket))
  }

  async #readDevices(client: pg.PoolClient, slotOf: ReadonlyMap<number, number>): Promise<void> {
    const fresh: number[] = []
    for (const [id, slot] of slotOf) {
      if (id > 0) {
        this.narrow = true
        continue
      }
      const device = deviceOf(id)
      let place = this.#places.get(device)
      if (place === undefined) {
        place = this.devices.push({ id: device, top: never, slots: [] }) - 1
        this.#places.set(device, place)
        fresh.push(device)
      }
      this.devices[place]!.slots.push(slot)
      this.cells[slot * width + field.device] = place
      this.columns = Math.max(this.columns, columnOf(id))
    }
    if (fresh.length === 0) return
    const { rows } = await client.query<{ id: number; top: string | null }>(
      `SELECT d.id, ${microseconds(`(SELECT time FROM messages m WHERE m.device = d.id AND (m.flags IS NULL OR m.flags & ${flagInAny(Flag.clockAhead)} = 0)
        ORDER BY time DESC LIMIT 1)`)} AS top FROM unnest(${ints(fresh)}) AS d (id)`,
    )
    for (const { id, top } of rows) if (top !== null) this.devices[this.#places.get(id)!]!.top = Number(top)
  }

  /** True: it was not noted before. */
  note(level: Level, slot: number, bucket: number): boolean {
    const known = this.pending[level].get(slot)
    if (known === undefined) this.pending[level].set(slot, new Set([bucket]))
    else if (known.has(bucket)) return false
    else known.add(bucket)
    return true
  }
}
