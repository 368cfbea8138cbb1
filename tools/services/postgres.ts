import { halt } from './process.ts'
import { postgresCluster, postgresTool, purgeElsewhere } from './postgres-cluster.ts'
import type { Service } from './service.ts'

/** PostgreSQL with a standby that follows it. */
export const postgres: Service = {
  name: 'postgres',
  missing: () =>
    postgresTool('initdb') === undefined || postgresTool('postgres') === undefined ? 'PostgreSQL 15 (Debian: postgresql-15)' : undefined,
  async start(dir) {
    const cluster = postgresCluster(dir)
    const primary = await cluster.primary('primary')
    // The standby is taken anew at each start: the ports are others, and tests may have promoted it.
    const standby = await cluster.standby('standby', primary)
    return {
      processes: { standby: standby.process, primary: primary.process },
      env: { KYMO_TEST_POSTGRES_URL: primary.url, KYMO_TEST_POSTGRES_STANDBY_URL: standby.url },
    }
  },
  async stop(processes) {
    // SIGINT: fast shutdown; connections are closed, nothing is lost.
    for (const one of Object.values(processes)) await halt(one, 'SIGINT', 15_000)
  },
  purge: purgeElsewhere,
}
