import type pg from 'pg'
import type { SeriesKey } from '../../core/batch.ts'
import type { ForecastStore, IssuedForecast, MonitorState, Prediction, PredictionQuery } from '../../core/forecast-store.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { forecastMigrations } from '../pg/components.ts'
import { openPostgres, postgresError, type Postgres } from '../pg/client.ts'
import { migrate } from '../pg/migrate.ts'
import { checkQuery, checkWrite, chunksOf, isStorable } from './checks.ts'
import { ensureMonths, expirePredictions } from './postgres-months.ts'
import { postgresModels } from './postgres-models.ts'
import { lockSeries, momentOf, named, us } from './postgres-series.ts'

/**
 * The store of forecasts in PostgreSQL 15 and later (docs/format/forecasts.md). Connects and brings its tables to this version when it is first used.
 * Everything rejects with `store_unavailable` while the server is away, and with `store_format` when a newer program was there. Throws `config_invalid`
 * for an address that cannot be one.
 */
export function openPostgresForecasts(o: { readonly url: string }): ForecastStore {
  const db = openPostgres({ url: o.url, connectionsMax: limits.postgresForecastsMax })
  let closed = false
  let preparing: Promise<void> | undefined
  const ready = async (): Promise<Postgres> => {
    if (closed) throw new KymoError('shutting_down', { detail: 'The forecasts store is closed.' })
    preparing ??= migrate(db, 'forecasts', forecastMigrations)
    try {
      await preparing
    } catch (thrown) {
      // Tried again with the next call.
      preparing = undefined
      throw postgresError(thrown)
    }
    return db
  }
  const query = async <R extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<readonly R[]> => {
    const here = await ready()
    try {
      return (await here.query<R>(text, values)).rows
    } catch (thrown) {
      throw postgresError(thrown)
    }
  }
  const months = new Set<number>()

  return {
    async write(forecasts, states) {
      checkWrite(forecasts, states)
      if (forecasts.length === 0 && states.length === 0) return
      const here = await ready()
      const known = months.size > 0
      await ensureMonths(here, forecasts, months)
      try {
        await here.transaction((client) => write(client, forecasts, states))
      } catch (thrown) {
        months.clear()
        // Another process may have dropped one that was there: what is made now is there for longer than a transaction.
        if (!known || asKymoError(thrown).code !== 'bug') throw thrown
        await ensureMonths(here, forecasts, months)
        await here.transaction((client) => write(client, forecasts, states))
      }
    },
    async predictions(q) {
      checkQuery(q)
      if (!isStorable(q.key)) return []
      const { text, values } = predictionsSql(q)
      return (await query<Row>(text, values)).map(prediction)
    },
    async latest(keys) {
      const found: { readonly key: SeriesKey; readonly predictions: readonly Prediction[] }[] = []
      for (const some of chunksOf(keys.filter(isStorable))) {
        const rows = await query<Row & { readonly n: string }>(
          `SELECT n, ${columns} FROM ${named} JOIN prediction p ON p.series = s.id AND p.target >= s.newest AND p.issue = s.newest
            ORDER BY n, target, issue, version`,
          keysOf(some),
        )
        const of = Map.groupBy(rows, ({ n }) => Number(n))
        for (const [i, key] of some.entries()) {
          const predictions = of.get(i + 1)?.map(prediction)
          if (predictions !== undefined) found.push({ key, predictions })
        }
      }
      return found
    },
    async states(keys) {
      const found: MonitorState[] = []
      for (const some of chunksOf(keys.filter(isStorable))) {
        const rows = await query<{ readonly n: string; readonly version: number; readonly at: string; readonly bytes: Buffer }>(
          `SELECT n, m.version, ${us('m.at')} AS at, m.bytes FROM ${named} JOIN forecast_monitor m ON m.series = s.id ORDER BY n, m.version`,
          keysOf(some),
        )
        for (const { n, version, at, bytes } of rows) {
          const key = some[Number(n) - 1]
          if (key !== undefined) found.push({ key, version, atUs: Number(at), bytes })
        }
      }
      return found
    },
    ...postgresModels({ query, transaction: async (work) => (await ready()).transaction(work) }),
    async erase(tenant, device) {
      if (tenant.includes('\0') || device.includes('\0')) return
      await (
        await ready()
      ).transaction(async (client) => {
        await client.query('LOCK TABLE prediction IN ROW EXCLUSIVE MODE')
        const { rows } = await client.query<{ id: number }>('SELECT id FROM forecast_series WHERE tenant = $1 AND device = $2 FOR UPDATE', [
          tenant,
          device,
        ])
        const ids = rows.map(({ id }) => id)
        await client.query('DELETE FROM prediction WHERE series = ANY ($1)', [ids])
        await client.query('DELETE FROM forecast_series WHERE id = ANY ($1)', [ids])
      })
    },
    async expire({ predictionsBeforeUs, versions }) {
      const here = await ready()
      const gone = predictionsBeforeUs === undefined ? 0 : await expirePredictions(here, predictionsBeforeUs)
      months.clear()
      await here.transaction(async (client) => {
        const old = `SELECT series, version FROM (SELECT series, version, state, row_number() OVER (PARTITION BY series ORDER BY version DESC) AS rank FROM forecast_model) m
          WHERE rank > $1 AND state <> 'champion'`
        await client.query(`DELETE FROM forecast_monitor WHERE (series, version) IN (${old})`, [versions])
        await client.query(`UPDATE forecast_model SET file = NULL WHERE file IS NOT NULL AND (series, version) IN (${old})`, [versions])
      }, 'patient')
      return gone
    },
    async stats() {
      const rows = await query<{ readonly predictions: string; readonly models: string; readonly bytes: string }>(
        `SELECT (SELECT coalesce(sum(predictions), 0) FROM forecast_series) AS predictions, (SELECT count(*) FROM forecast_model) AS models,
          (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('prediction')) + pg_total_relation_size('forecast_series')
            + pg_total_relation_size('forecast_model') + pg_total_relation_size('forecast_monitor') AS bytes`,
        [],
      )
      const [row] = rows
      return { predictions: Number(row?.predictions), models: Number(row?.models), bytes: Number(row?.bytes) }
    },
    async close() {
      if (closed) return
      closed = true
      await db.close()
    },
  }
}

function keysOf(keys: readonly SeriesKey[]): readonly (readonly string[])[] {
  return [keys.map(({ tenant }) => tenant), keys.map(({ device }) => device), keys.map(({ metric }) => metric)]
}

const columns = `p.version, ${us('p.issue')} AS issue, ${us('p.target')} AS target, p.mean, p.lower, p.upper, p.level`

interface Row {
  readonly version: number
  readonly issue: string
  readonly target: string
  readonly mean: number
  readonly lower: number | null
  readonly upper: number | null
  readonly level: number
}

function prediction({ version, issue, target, mean, lower, upper, level }: Row): Prediction {
  const [issue_us, target_us] = [Number(issue), Number(target)]
  return { version, issue_us, target_us, mean, lower: lower ?? Number.NaN, upper: upper ?? Number.NaN, level }
}

function predictionsSql(q: PredictionQuery): { readonly text: string; readonly values: readonly unknown[] } {
  const { key, fromUs, toUs, version, issueUs, newest, after, limit } = q
  const values: unknown[] = [key.tenant, key.device, key.metric]
  const given = (value: unknown): string => `$${values.push(value)}`
  const where = [`p.target >= ${momentOf(given(fromUs))}`, `p.target < ${momentOf(given(toUs))}`]
  if (version !== undefined) where.push(`p.version = ${given(version)}`)
  if (issueUs !== undefined) where.push(`p.issue = ${momentOf(given(issueUs))}`)
  const of = `FROM forecast_series s JOIN prediction p ON p.series = s.id WHERE s.tenant = $1 AND s.device = $2 AND s.metric = $3`
  if (newest === undefined) {
    if (after !== undefined) {
      const place = [momentOf(given(after.target_us)), momentOf(given(after.issue_us)), given(after.version)]
      // The first of them lets the index begin there.
      where.push(`p.target >= ${place[0]}`, `(p.target, p.issue, p.version) > (${place.join(', ')})`)
    }
    const text = `SELECT ${columns} ${of} AND ${where.join(' AND ')} ORDER BY p.target, p.issue, p.version LIMIT ${given(limit)}`
    return { text, values }
  }
  // One of each target: where a page ended, all of the target was told.
  if (after !== undefined) where.push(`p.target > ${momentOf(given(after.target_us))}`)
  if (newest.leadUs !== undefined)
    where.push(`p.issue + ${given(newest.leadUs)} * interval '1 microsecond' <= p.target + p.step * interval '1 microsecond'`)
  const text = `SELECT DISTINCT ON (p.target) ${columns} ${of} AND ${where.join(' AND ')}
    ORDER BY p.target, p.issue DESC, p.version DESC LIMIT ${given(limit)}`
  return { text, values }
}

async function write(client: pg.PoolClient, forecasts: readonly IssuedForecast[], states: readonly MonitorState[]): Promise<void> {
  // Before rows of series: who removes old ones takes the locks in this order, too.
  await client.query('LOCK TABLE prediction IN ROW EXCLUSIVE MODE')
  const idOf = await lockSeries(
    client,
    [...forecasts, ...states].map(({ key }) => key),
  )
  for (const some of rounds(forecasts)) await insert(client, some, idOf)
  const of = new Map(states.map((state) => [`${idOf(state.key)} ${state.version}`, state]))
  const last = [...of.values()]
  if (last.length === 0) return
  await client.query(
    `INSERT INTO forecast_monitor SELECT series, version, ${momentOf('at')}, bytes
      FROM unnest($1::int[], $2::int[], $3::float8[], $4::bytea[]) AS m (series, version, at, bytes)
      ON CONFLICT (series, version) DO UPDATE SET at = excluded.at, bytes = excluded.bytes`,
    [
      last.map(({ key }) => idOf(key)),
      last.map(({ version }) => version),
      last.map(({ atUs }) => atUs),
      last.map(({ bytes }) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)),
    ],
  )
}

/** Of two that say the same the first counts: an issue that is there twice goes with the next statement. */
function rounds(forecasts: readonly IssuedForecast[]): IssuedForecast[][] {
  const seen: Set<string>[] = []
  const out: IssuedForecast[][] = []
  for (const one of forecasts) {
    const { key, version, issueUs } = one
    const name = JSON.stringify([key.tenant, key.device, key.metric, version, issueUs])
    let n = seen.findIndex((round) => !round.has(name))
    if (n < 0) {
      n = out.push([]) - 1
      seen.push(new Set())
    }
    seen[n]?.add(name)
    out[n]?.push(one)
  }
  return out
}

async function insert(client: pg.PoolClient, forecasts: readonly IssuedForecast[], idOf: (key: SeriesKey) => number): Promise<void> {
  const [of, step, mean, lower, upper]: [number[], number[], number[], (number | null)[], (number | null)[]] = [[], [], [], [], []]
  const known = (value: number | undefined): number | null => (value === undefined || Number.isNaN(value) ? null : value)
  for (const [f, one] of forecasts.entries()) {
    for (const [i, value] of one.mean.entries()) {
      of.push(f + 1)
      step.push(i)
      mean.push(value)
      lower.push(known(one.lower[i]))
      upper.push(known(one.upper[i]))
    }
  }
  if (of.length === 0) return
  await client.query(
    `WITH f AS (SELECT * FROM unnest($1::int[], $2::int[], $3::float8[], $4::float8[], $5::float8[]) WITH ORDINALITY AS f (series, version, issue, step, level, n)),
      added AS (INSERT INTO prediction (target, issue, mean, lower, upper, level, series, version, step)
        SELECT ${momentOf('(f.issue + p.i * f.step)')}, ${momentOf('f.issue')}, p.mean, p.lower, p.upper, f.level, f.series, f.version, f.step
          FROM unnest($6::int[], $7::int[], $8::float8[], $9::float8[], $10::float8[]) AS p (n, i, mean, lower, upper) JOIN f USING (n)
        ON CONFLICT DO NOTHING RETURNING series, issue)
      UPDATE forecast_series s SET predictions = s.predictions + a.n, newest = greatest(s.newest, a.issue)
        FROM (SELECT series, count(*) AS n, max(issue) AS issue FROM added GROUP BY series) a WHERE s.id = a.series`,
    [
      forecasts.map(({ key }) => idOf(key)),
      forecasts.map(({ version }) => version),
      forecasts.map(({ issueUs }) => issueUs),
      forecasts.map(({ stepUs }) => stepUs),
      forecasts.map(({ level }) => level),
      of,
      step,
      mean,
      lower,
      upper,
    ],
  )
}
