import { enginesOf, type TableEngine } from '../../core/config-engines.ts'
import type { Config } from '../../core/config.ts'
import { limits } from '../../core/limits.ts'
import { parseAddress } from '../../store/pg/address.ts'
import { openPostgres, postgresError, type Postgres } from '../../store/pg/client.ts'
import { forecastMigrations, metaMigrations, storeMigrations } from '../../store/pg/components.ts'
import { pendingMigrations, type Migration } from '../../store/pg/migrate.ts'
import { fail, ok, warn, type Finding } from './finding.ts'

const oldest = 15

interface Server {
  readonly version: number
  readonly name: string
  readonly fsync: string
  readonly pages: string
  readonly commits: string
  readonly names: string
  readonly connections: number
  readonly timescale: string | null
  readonly tls: boolean | null
  readonly standbys: string
}

/**
 * The databases of store.url, meta.url and forecast.url: whether they answer, keep what they acknowledge, and which migrations a start would take. Changes nothing.
 */
export async function checkPostgres(config: Config): Promise<Finding[]> {
  const { store, meta, forecast } = enginesOf(config)
  const places: readonly (readonly [string, TableEngine, string, readonly Migration[]])[] = [
    ['store', store, 'store', storeMigrations],
    ['metadata', meta, 'meta', metaMigrations],
    ['forecasts', forecast, 'forecasts', forecastMigrations],
  ]
  const findings: Finding[] = []
  const seen = new Set<string>()
  for (const [check, engine, component, migrations] of places) {
    if (engine.kind !== 'postgres') continue
    let db: Postgres | undefined
    try {
      db = openPostgres({ url: engine.url, connectionsMax: 1 })
      if (!seen.has(engine.url)) findings.push(...(await checkServer(db, engine.url)))
      seen.add(engine.url)
      findings.push(checkPending(check, await pendingMigrations(db, component, migrations), migrations.length))
    } catch (thrown) {
      const { code, message } = postgresError(thrown)
      const fix =
        code === 'store_format'
          ? 'Start the version that wrote it, or a newer one; or restore a backup.'
          : 'Look at the address, at pg_hba.conf and at the network. A server starts when the database answers.'
      findings.push(fail(check, code, message, fix))
    } finally {
      await db?.close()
    }
  }
  return findings
}

function checkPending(check: string, pending: readonly Migration[], all: number): Finding {
  if (pending.length === 0) return ok(check, `in PostgreSQL, version ${all}`)
  if (pending.length === all) return ok(check, 'in PostgreSQL; nothing there yet, the first start makes the tables')
  const names = pending.map(({ version, name }) => `${String(version).padStart(4, '0')}-${name}`).join(', ')
  const fix = 'The next start takes them, in one transaction, and an older program cannot use the database then. Make a backup first: pg_dump.'
  return warn(check, `in PostgreSQL; migrations are pending: ${names}`, fix)
}

async function checkServer(db: Postgres, url: string): Promise<Finding[]> {
  const { rows } = await db.query<{ readonly [K in keyof Server]: Server[K] }>(
    `SELECT current_setting('server_version_num')::int / 10000 AS version, current_setting('server_version') AS name, current_setting('fsync') AS fsync,
      current_setting('full_page_writes') AS pages, current_setting('synchronous_commit') AS commits, current_setting('synchronous_standby_names') AS names,
      current_setting('max_connections')::int AS connections, (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescale,
      (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS tls, (SELECT count(*) FROM pg_stat_replication) AS standbys`,
  )
  const [server] = rows
  return server === undefined ? [] : judge(server, url)
}

function judge(server: Server, url: string): Finding[] {
  const check = 'postgres'
  const { hosts } = parseAddress(url)
  const at = hosts.map(({ host, port }) => `${host}:${port}`).join(', ')
  if (server.version < oldest)
    return [fail(check, 'config_invalid', `${at} is PostgreSQL ${server.name}`, `Use ${oldest} or later: pg_upgrade, or another server.`)]
  const timescale = server.timescale === null ? '' : `, TimescaleDB ${server.timescale}`
  const findings = [ok(check, `${at}: PostgreSQL ${server.name}${timescale}${server.tls === true ? ', TLS' : ''}`)]
  const set = (name: string, value: string): string => `ALTER SYSTEM SET ${name} = ${value}; SELECT pg_reload_conf();`
  if (server.fsync === 'off' || server.pages === 'off')
    findings.push(warn(check, 'fsync or full_page_writes is off: a power cut can ruin the database', set('fsync', 'on')))
  if (server.commits === 'off')
    findings.push(warn(check, 'synchronous_commit is off: what was acknowledged can be lost', set('synchronous_commit', 'on')))
  if (Number(server.standbys) > 0 && server.names === '')
    findings.push(
      warn(check, 'commits do not wait for a standby: when it is promoted, those made last may be missing', set('synchronous_standby_names', `'*'`)),
    )
  if (server.tls !== true && hosts.some(({ host }) => !isLocal(host)))
    findings.push(warn(check, 'the connection is not encrypted', 'Add ?sslmode=verify-full&sslrootcert=FILE to the address.'))
  const each = limits.postgresWritesMax + limits.postgresQueriesMax + limits.postgresMetaMax + limits.postgresForecastsMax
  if (server.connections < 2 * each)
    findings.push(warn(check, `max_connections is ${server.connections}; a process takes up to ${each}`, 'Raise it, or run fewer processes.'))
  return findings
}

const isLocal = (host: string): boolean => /^(?:localhost|127\.[\d.]+|::1|\/.*)$/.test(host)
