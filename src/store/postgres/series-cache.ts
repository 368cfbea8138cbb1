import type pg from 'pg'
import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import { Dictionary } from '../dictionary.ts'
import { stepOf, type Level } from '../levels.ts'
import { microseconds } from './sql.ts'

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
} as const
export const width = 6

/**
 * What one span's commits know of the series that they write, as of its last commit. It holds as long as the same process made that commit and nobody
 * took series over (`span.writer`, `span.revoked`): a commit looks at both under the span's lock.
 */
export class SeriesCache {
  readonly slots = new Dictionary()
  cells = new Float64Array(64 * width)
  /** Buckets still to come that will not have all their readings, by slot. */
  readonly pending: Readonly<Record<Level, Map<number, Set<number>>>> = { minute: new Map(), hour: new Map() }
  /** Slots below it have their series. */
  adopted = 0

  /** Index into `keys` to slot. */
  of(keys: readonly SeriesKey[], series: Uint32Array, rows: number): Uint32Array {
    return this.slots.of(keys, series, rows)
  }

  isPending(level: Level, slot: number, bucket: number): boolean {
    return this.pending[level].get(slot)?.has(bucket) === true
  }

  /**
   * Takes the series of all slots that are new over for `span`, in its commit's transaction: makes those that are not there, tells their former owners,
   * whose commits under way are waited for, and reads what is known of them.
   */
  async adopt(client: pg.PoolClient, span: number): Promise<void> {
    const keys = this.slots.keys.slice(this.adopted)
    if (keys.length === 0) return
    const ids = await seriesOf(client, keys, span)
    const cells = new Float64Array(Math.max(this.cells.length, this.slots.size * 2 * width))
    cells.set(this.cells)
    this.cells = cells
    const slotOf = new Map(ids.map((id, i) => [id, this.adopted + i]))
    await this.#read(client, slotOf)
    this.adopted = this.slots.size
  }

  async #read(client: pg.PoolClient, slotOf: ReadonlyMap<number, number>): Promise<void> {
    const ids = [...slotOf.keys()]
    const newest = (table: string): string => microseconds(`(SELECT max(bucket) FROM ${table} r WHERE r.series = s.id)`)
    const found = await client.query<{ id: number; first: string | null; minute_from: string | null; minute: string | null; hour: string | null }>(
      `SELECT s.id, ${microseconds(`nullif(s.first, 'infinity')`)} AS first, ${microseconds('s.minute_from')} AS minute_from,
        ${newest('rollup_1m')} AS minute, ${newest('rollup_1h')} AS hour FROM series s WHERE s.id = ANY($1)`,
      [ids],
    )
    for (const { id, first, minute_from, minute, hour } of found.rows) {
      const at = slotOf.get(id)! * width
      this.cells[at + field.id] = id
      this.cells[at + field.first] = first === null ? none : Number(first)
      this.cells[at + field.minuteFrom] = minute_from === null ? none : Number(minute_from)
      this.cells[at + field.closed] = minute === null ? never : Number(minute) + stepOf.minute
      this.cells[at + field.closedHour] = hour === null ? never : Number(hour) + stepOf.hour
      this.cells[at + field.sparse] = 0
    }
    const waiting = await client.query<{ series: number; step: number; bucket: string }>(
      `SELECT series, step, ${microseconds('bucket')} AS bucket FROM pending WHERE series = ANY($1)`,
      [ids],
    )
    for (const { series, step, bucket } of waiting.rows) this.note(step === 60 ? 'minute' : 'hour', slotOf.get(series)!, Number(bucket))
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

interface Found {
  readonly i: string
  readonly id: number
  readonly owner: number
}

const named = `unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS w (tenant, device, metric, i)`

/** Ids in the order of `keys`. Of a series that another process makes at the same moment, its commit is waited for. */
async function seriesOf(client: pg.PoolClient, keys: readonly SeriesKey[], span: number): Promise<number[]> {
  const values = [keys.map((key) => key.tenant), keys.map((key) => key.device), keys.map((key) => key.metric)]
  const find = async (): Promise<Found[]> => {
    const { rows } = await client.query<Found>(
      `SELECT w.i, s.id, s.owner FROM ${named} JOIN series s
        ON s.tenant = w.tenant COLLATE "C" AND s.device = w.device COLLATE "C" AND s.metric = w.metric COLLATE "C" ORDER BY s.id FOR UPDATE OF s`,
      values,
    )
    return rows
  }
  let found = await find()
  if (found.length < keys.length) {
    const places = keys.map((key) => place(key.device, key.metric))
    await client.query(
      `INSERT INTO series (tenant, device, metric, place, owner, first)
        SELECT w.tenant, w.device, w.metric, w.place, $5, 'infinity' FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) AS w (tenant, device, metric, place)
        ORDER BY w.tenant COLLATE "C", w.place ON CONFLICT (tenant, device, metric) DO NOTHING`,
      [...values, places, span],
    )
    found = await find()
  }
  if (found.length !== keys.length) throw new KymoError('store_unavailable', { detail: 'Series were made and removed at the same moment.' })
  const others = [...new Set(found.map(({ owner }) => owner))].filter((owner) => owner !== span)
  if (others.length > 0) {
    await client.query('UPDATE span SET revoked = revoked + 1 WHERE id = ANY($1)', [others])
    await client.query('UPDATE series SET owner = $1 WHERE id = ANY($2)', [span, found.map(({ id }) => id)])
  }
  const ids = Array.from({ length: keys.length }, () => 0)
  for (const { i, id } of found) ids[Number(i) - 1] = id
  return ids
}

/** Sorts as the units of UTF-16 do. No name has the unit 0 (wire/payload/names.ts). */
export function place(device: string, metric: string): Buffer {
  return Buffer.from(`${device}\0${metric}`, 'utf16le').swap16()
}
