import type { IssuedForecast } from '../../core/forecast-store.ts'
import type { Postgres } from '../pg/client.ts'
import { instant } from '../pg/moments.ts'
import { momentOf } from './postgres-series.ts'

/** A number for PostgreSQL's advisory locks: one process makes or drops partitions at a time. */
const lock = 0x6b79_6d66

/** Months are counted from January 1970. */
const monthOf = (us: number): number => {
  const date = new Date(us / 1000)
  return (date.getUTCFullYear() - 1970) * 12 + date.getUTCMonth()
}
const startOf = (month: number): number => Date.UTC(1970, month, 1) * 1000
const tableOf = (month: number): string => `prediction_${instant(startOf(month)).slice(0, 7).replace('-', '_')}`

/** Makes the partitions of these targets. `known`: what is there as far as this process has seen. */
export async function ensureMonths(db: Postgres, forecasts: readonly IssuedForecast[], known: Set<number>): Promise<void> {
  const wanted = new Set<number>()
  for (const { issueUs, stepUs, mean } of forecasts) {
    if (mean.length === 0) continue
    const last = monthOf(issueUs + (mean.length - 1) * stepUs)
    for (let month = monthOf(issueUs); month <= last; month++) if (!known.has(month)) wanted.add(month)
  }
  if (wanted.size === 0) return
  await db.transaction(async (client) => {
    await client.query('SELECT pg_advisory_xact_lock($1)', [lock])
    for (const month of wanted) {
      const name = tableOf(month)
      const { rows } = await client.query<{ there: boolean }>('SELECT to_regclass($1) IS NOT NULL AS there', [name])
      if (rows[0]?.there === true) continue
      // Made and then attached: that stops neither readers nor writers of the others (PostgreSQL, ALTER TABLE, "ATTACH PARTITION").
      await client.query(`CREATE TABLE ${name} (LIKE prediction INCLUDING DEFAULTS INCLUDING CONSTRAINTS)`)
      const bounds = `FROM ('${instant(startOf(month))}') TO ('${instant(startOf(month + 1))}')`
      await client.query(`ALTER TABLE prediction ATTACH PARTITION ${name} FOR VALUES ${bounds}`)
    }
  })
  for (const month of wanted) known.add(month)
}

/** Months that lie before go as a whole; of the one that does not, rows. How many predictions went. */
export async function expirePredictions(db: Postgres, beforeUs: number): Promise<number> {
  const counted = `UPDATE forecast_series s SET predictions = s.predictions - g.n FROM gone g WHERE s.id = g.series RETURNING g.n`
  const end = monthOf(Math.max(0, beforeUs))
  return db.transaction(async (client) => {
    await client.query('SELECT pg_advisory_xact_lock($1)', [lock])
    const { rows: tables } = await client.query<{ name: string }>(
      `SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'prediction'::regclass AND c.relname < $1`,
      [tableOf(end)],
    )
    // In the order of those who write: first this, then rows of series.
    await client.query(`LOCK TABLE prediction IN ${tables.length > 0 ? 'ACCESS EXCLUSIVE' : 'ROW EXCLUSIVE'} MODE`)
    let gone = 0
    const add = (rows: readonly { readonly n: string }[]): void => {
      for (const { n } of rows) gone += Number(n)
    }
    for (const { name } of tables) {
      add((await client.query<{ n: string }>(`WITH gone AS (SELECT series, count(*) AS n FROM ${name} GROUP BY series) ${counted}`)).rows)
      await client.query(`DROP TABLE ${name}`)
    }
    add(
      (
        await client.query<{ n: string }>(
          `WITH rows AS (DELETE FROM prediction WHERE target < ${momentOf('$1')} RETURNING series), gone AS (SELECT series, count(*) AS n FROM rows GROUP BY series) ${counted}`,
          [beforeUs],
        )
      ).rows,
    )
    // Others may have lost rows, but none of their newest issue.
    await client.query(
      `UPDATE forecast_series s SET newest = (SELECT max(issue) FROM prediction p WHERE p.series = s.id) WHERE newest < ${momentOf('$1')}`,
      [beforeUs],
    )
    return gone
  }, 'patient')
}
