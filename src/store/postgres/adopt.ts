import type pg from 'pg'
import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import { columnOf, deviceOf, freeColumn, wideId } from './layout.ts'

interface Found {
  readonly i: string
  readonly id: number
  readonly owner: number
}

const named = `unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS w (tenant, device, metric, i)`

/**
 * Numbers of series in the order of `keys`, which are of `span` then. Of a series that another process makes at the same moment, its commit is waited
 * for.
 */
export async function adoptSeries(client: pg.PoolClient, keys: readonly SeriesKey[], span: number, columns: number): Promise<number[]> {
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
    const there = new Set(found.map(({ i }) => Number(i) - 1))
    await make(
      client,
      keys.filter((_, i) => !there.has(i)),
      span,
      columns,
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

/** A device's row is locked while it gets columns: nobody else gives them away, and no erasure misses a series. */
async function make(client: pg.PoolClient, keys: readonly SeriesKey[], span: number, columns: number): Promise<void> {
  const nameOf = ({ tenant, device }: Pick<SeriesKey, 'tenant' | 'device'>): string => `${tenant}\0${device}`
  const devices = [...new Map(keys.map((key) => [nameOf(key), key])).values()]
  const values = [devices.map(({ tenant }) => tenant), devices.map(({ device }) => device)]
  const wanted = 'unnest($1::text[], $2::text[]) AS w (tenant, device)'
  const same = 'd.tenant = w.tenant COLLATE "C" AND d.device = w.device COLLATE "C"'
  await client.query(
    `INSERT INTO device (tenant, device) SELECT tenant, device FROM ${wanted} ORDER BY tenant COLLATE "C", device COLLATE "C" ON CONFLICT DO NOTHING`,
    values,
  )
  const locked = await client.query<{ id: number; tenant: string; device: string }>(
    `SELECT d.id, d.tenant, d.device FROM ${wanted} JOIN device d ON ${same} ORDER BY d.id FOR UPDATE OF d`,
    values,
  )
  const numbers = new Map(locked.rows.map((row) => [nameOf(row), row.id]))
  const taken = await client.query<{ id: number }>(`SELECT d.id FROM ${wanted} JOIN series d ON ${same} WHERE d.id < 0`, values)
  const used = new Map<number, number>()
  const take = (id: number): void => void used.set(deviceOf(id), (used.get(deviceOf(id)) ?? 0) | (1 << columnOf(id)))
  for (const { id } of taken.rows) take(id)
  const ids = keys.map((key) => {
    const device = numbers.get(nameOf(key))
    if (device === undefined) throw new KymoError('store_unavailable', { detail: 'A device was made and removed at the same moment.' })
    const column = freeColumn(key.metric, used.get(device) ?? 0, columns)
    if (column === undefined) return null
    const id = wideId(device, column)
    take(id)
    return id
  })
  for (const wide of [true, false]) {
    const chosen = keys.map((key, i) => ({ key, id: ids[i] ?? null })).filter(({ id }) => (id !== null) === wide)
    if (chosen.length === 0) continue
    await client.query(
      `INSERT INTO series (${wide ? 'id, ' : ''}tenant, device, metric, place, owner, first)
        SELECT ${wide ? 'w.id, ' : ''}w.tenant, w.device, w.metric, w.place, $6, 'infinity'
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::int[]) AS w (tenant, device, metric, place, id)
        ORDER BY w.tenant COLLATE "C", w.place ON CONFLICT (tenant, device, metric) DO NOTHING`,
      [
        chosen.map(({ key }) => key.tenant),
        chosen.map(({ key }) => key.device),
        chosen.map(({ key }) => key.metric),
        chosen.map(({ key }) => place(key.device, key.metric)),
        chosen.map(({ id }) => id),
        span,
      ],
    )
  }
}

/** Sorts as the units of UTF-16 do. No name has the unit 0 (wire/payload/names.ts). */
export function place(device: string, metric: string): Buffer {
  return Buffer.from(`${device}\0${metric}`, 'utf16le').swap16()
}
