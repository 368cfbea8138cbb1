import fs from 'node:fs'
import path from 'node:path'
import { KymoError } from '../../core/errors.ts'
import { postgresError, type Postgres } from './client.ts'

/** One step forward: `0001-documents.sql` in the folder of migrations of its component. */
export interface Migration {
  readonly version: number
  readonly name: string
  readonly sql: string
}

const fileName = /^(\d{4})-([a-z0-9-]+)\.sql$/

export function migrationsIn(folder: string): readonly Migration[] {
  const files = fs.readdirSync(folder).toSorted()
  return files.flatMap((file) => {
    const match = fileName.exec(file)
    if (match === null) return []
    return [{ version: Number(match[1]), name: match[2] ?? file, sql: fs.readFileSync(path.join(folder, file), 'utf8') }]
  })
}

/** A number for PostgreSQL's advisory locks: one process migrates at a time. */
const lock = 0x6b79_6d6f

/**
 * Brings a component's tables to the newest version, one transaction for all steps. Rejects with `store_format` when the database has steps that this
 * program does not know: a newer one was here.
 */
export async function migrate(db: Postgres, component: string, migrations: readonly Migration[]): Promise<void> {
  const newest = migrations.at(-1)?.version ?? 0
  await db.transaction(async (client) => {
    await client.query('SELECT pg_advisory_xact_lock($1)', [lock])
    await client.query(`CREATE SCHEMA IF NOT EXISTS "${db.schema}"`)
    await client.query(
      'CREATE TABLE IF NOT EXISTS migration (component text, version int, name text NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (component, version))',
    )
    const at = await versionOf((text, values) => client.query(text, [...values]), component)
    refuseNewer(component, at, newest)
    for (const { version, name, sql } of migrations.filter((one) => one.version > at)) {
      await client.query(sql)
      await client.query('INSERT INTO migration (component, version, name) VALUES ($1, $2, $3)', [component, version, name])
    }
  }, 'patient')
}

/** Steps that a start would take. Changes nothing. Rejects as `migrate` does. */
export async function pendingMigrations(db: Postgres, component: string, migrations: readonly Migration[]): Promise<readonly Migration[]> {
  try {
    const { rows } = await db.query<{ there: boolean }>(`SELECT to_regclass('migration') IS NOT NULL AS there`)
    const at = rows[0]?.there === true ? await versionOf((text, values) => db.query(text, values), component) : 0
    refuseNewer(component, at, migrations.at(-1)?.version ?? 0)
    return migrations.filter(({ version }) => version > at)
  } catch (thrown) {
    throw postgresError(thrown)
  }
}

function refuseNewer(component: string, at: number, newest: number): void {
  if (at > newest) throw new KymoError('store_format', { detail: `PostgreSQL has version ${at} of ${component}; this program knows ${newest}.` })
}

type Ask = (text: string, values: readonly unknown[]) => Promise<{ readonly rows: readonly { readonly version: number | null }[] }>

async function versionOf(ask: Ask, component: string): Promise<number> {
  const { rows } = await ask('SELECT max(version) AS version FROM migration WHERE component = $1', [component])
  return rows[0]?.version ?? 0
}
