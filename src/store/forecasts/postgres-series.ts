import type pg from 'pg'
import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import { microseconds } from '../pg/moments.ts'
import { seriesName } from './rows.ts'
import { placeOf } from './schema.ts'

/** Epoch microseconds of a timestamptz, exact. */
export const us = microseconds

/** A timestamptz of epoch microseconds that a parameter or a column has, exact up to 2^53. */
export function momentOf(number: string): string {
  return `(timestamptz '1970-01-01 00:00:00+00' + ${number}::float8 * interval '1 microsecond')`
}

/** Series of three arrays ($1 to $3: tenants, devices, metrics), with their place `n` in them from 1. */
export const named = `unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k (tenant, device, metric, n)
  JOIN forecast_series s ON s.tenant = k.tenant AND s.device = k.device AND s.metric = k.metric`

/** Numbers of series, made where they are missing. They stay, and no other transaction writes them, until this one ends. */
export async function lockSeries(client: pg.ClientBase, keys: readonly SeriesKey[]): Promise<(key: SeriesKey) => number> {
  const wanted = [...new Map(keys.map((key) => [seriesName(key), { key, place: placeOf(key.device, key.metric) }])).values()]
  const { rows } = await client.query<{ id: number; tenant: string; device: string; metric: string }>(
    `INSERT INTO forecast_series (tenant, place, device, metric)
      SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[]) AS k (tenant, place, device, metric) ORDER BY tenant, place
      ON CONFLICT (tenant, place) DO UPDATE SET device = excluded.device RETURNING id, tenant, device, metric`,
    [wanted.map(({ key }) => key.tenant), wanted.map(({ place }) => place), wanted.map(({ key }) => key.device), wanted.map(({ key }) => key.metric)],
  )
  const ids = new Map(rows.map((row) => [seriesName(row), row.id]))
  return (key) => {
    const id = ids.get(seriesName(key))
    if (id === undefined) throw new KymoError('bug', { detail: 'A series of the forecasts has no number.' })
    return id
  }
}
