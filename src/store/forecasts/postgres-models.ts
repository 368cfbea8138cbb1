import type pg from 'pg'
import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import type { ForecastStore, StoredModel } from '../../core/forecast-store.ts'
import { checkKey, isStorable } from './checks.ts'
import { lockSeries, momentOf, us } from './postgres-series.ts'
import { cardIn, stateIn } from './rows.ts'
import { pageEnd, pageStart } from './schema.ts'

type Models = Pick<ForecastStore, 'addModel' | 'promote' | 'retire' | 'versions' | 'models' | 'file'>

export interface PostgresBase {
  readonly query: <R extends pg.QueryResultRow>(text: string, values: readonly unknown[]) => Promise<readonly R[]>
  readonly transaction: <T>(work: (client: pg.PoolClient) => Promise<T>) => Promise<T>
}

interface Row {
  readonly version: number
  readonly kind: string
  readonly state: string
  readonly created: string
  readonly bytes: string
  readonly card: string
}

const columns = `m.version, m.kind, m.state, ${us('m.created')} AS created, m.bytes, m.card`
const ofSeries = 'forecast_model m JOIN forecast_series s ON s.id = m.series'
const isKey = 's.tenant = $1 AND s.device = $2 AND s.metric = $3'
const dethrone = `UPDATE forecast_model SET state = 'retired' WHERE series = $1 AND state = 'champion'`

/** The models of a database of forecasts. */
export function postgresModels({ query, transaction }: PostgresBase): Models {
  return {
    async addModel({ key, kind, state, createdUs, card, file }) {
      checkKey(key)
      return transaction(async (client) => {
        const series = (await lockSeries(client, [key]))(key)
        const made = await client.query<{ versions: number }>('UPDATE forecast_series SET versions = versions + 1 WHERE id = $1 RETURNING versions', [
          series,
        ])
        const version = made.rows[0]?.versions
        if (state === 'champion') await client.query(dethrone, [series])
        const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength)
        const { rows } = await client.query<Row>(
          `INSERT INTO forecast_model AS m VALUES ($1, $2, $3, $4, ${momentOf('$5')}, $6, $7, $8) RETURNING ${columns}`,
          [series, version, kind, state, createdUs, file.length, JSON.stringify(card), bytes],
        )
        return stored(key, rows[0])
      })
    },
    async promote(key, version) {
      if (!isStorable(key)) throw new KymoError('model_not_found')
      return transaction(async (client) => {
        const { rows: found } = await client.query<{ id: number }>(`SELECT s.id FROM forecast_series s WHERE ${isKey} FOR UPDATE`, named(key))
        const series = found[0]?.id
        const of = [series, version]
        const there = series === undefined ? [] : (await client.query('SELECT 1 FROM forecast_model WHERE series = $1 AND version = $2', of)).rows
        if (there.length === 0) throw new KymoError('model_not_found')
        await client.query(`${dethrone} AND version <> $2`, of)
        const promoted = `UPDATE forecast_model m SET state = 'champion' WHERE series = $1 AND version = $2 RETURNING ${columns}`
        return stored(key, (await client.query<Row>(promoted, of)).rows[0])
      })
    },
    async retire(key) {
      if (!isStorable(key)) return
      await query(
        `UPDATE forecast_model m SET state = 'retired' FROM forecast_series s WHERE s.id = m.series AND ${isKey} AND m.state = 'champion'`,
        named(key),
      )
    },
    async versions(key) {
      if (!isStorable(key)) return []
      const rows = await query<Row>(`SELECT ${columns} FROM ${ofSeries} WHERE ${isKey} ORDER BY m.version DESC`, named(key))
      return rows.map((row) => stored(key, row))
    },
    async models(tenant, { after, limit, device }) {
      const rows = await query<Row & { readonly device: string; readonly metric: string }>(
        `SELECT s.device, s.metric, ${columns} FROM forecast_series s CROSS JOIN LATERAL
            (SELECT * FROM forecast_model WHERE series = s.id ORDER BY state = 'champion' DESC, version DESC LIMIT 1) m
          WHERE s.tenant = $1 AND s.place > $2 AND ($4::text IS NULL OR s.device = $4) ORDER BY s.place LIMIT $3`,
        [tenant, pageStart(after), limit + 1, device ?? null],
      )
      const items = rows.slice(0, limit).map((row) => stored({ tenant, device: row.device, metric: row.metric }, row))
      const last = items.at(-1)
      return { items, ...(rows.length > limit && last !== undefined ? { next: pageEnd(last.key) } : {}) }
    },
    async file(key, version) {
      if (!isStorable(key)) return undefined
      const rows = await query<{ readonly file: Buffer | null }>(`SELECT m.file FROM ${ofSeries} WHERE ${isKey} AND m.version = $4`, [
        ...named(key),
        version,
      ])
      return rows[0]?.file ?? undefined
    },
  }
}

const named = ({ tenant, device, metric }: SeriesKey): string[] => [tenant, device, metric]

function stored(key: SeriesKey, row: Row | undefined): StoredModel {
  if (row === undefined) throw new KymoError('model_not_found')
  const { version, kind, created, bytes, card } = row
  return { key, version, kind, state: stateIn({ state: row.state }), created_us: Number(created), card: cardIn(card), bytes: Number(bytes) }
}
