import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { after, before, describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { asKymoError, KymoError } from '../../src/core/errors.ts'
import { openPostgresMeta } from '../../src/store/meta/postgres.ts'
import { openPostgresStore, type PostgresStore } from '../../src/store/postgres/store.ts'
import { postgresCluster, purgeElsewhere, type PostgresServer } from '../../tools/services/postgres-cluster.ts'
import { halt } from '../../tools/services/process.ts'
import { Certificates } from '../support/certificates.ts'
import { StoreHead } from '../support/store-head.ts'
import { answer, signal, spanOf } from '../support/store-batches.ts'

const skip = process.env['KYMO_TEST_POSTGRES_URL'] === undefined ? { skip: 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' } : {}
const env = nodeEnv(silentLogger)
const s = 1e6
const t0 = 1_700_000_000_000_000 - (1_700_000_000_000_000 % 3600e6)
const rowsOfCommit = 100

/** As the store role does it: again while nobody answers, on from where the store is where an outcome was not learned. */
async function commitAll(store: PostgresStore, commits: number, reached: (n: number) => void): Promise<{ readonly refused: number }> {
  let refused = 0
  const head = new StoreHead()
  for (let n = 0; n < commits; n++) {
    const tables = head.push(
      Array.from({ length: rowsOfCommit }, (_, i) => ({ device: `d${i % 5}`, timeUs: t0 + (n * rowsOfCommit + i) * s, value: i })),
    )
    for (let made = false; !made;) {
      try {
        await store.commit({ tables, span: spanOf(n, n + 1) }, signal)
        made = true
      } catch (thrown) {
        const { code } = asKymoError(thrown)
        if (code === 'span_conflict') {
          assert.equal(await next(store), BigInt(n + 1))
          made = true
        } else if (code === 'store_unavailable') {
          refused++
          await wait(20)
        } else throw thrown
      }
    }
    reached(n)
  }
  return { refused }
}

async function next(store: PostgresStore): Promise<bigint | undefined> {
  for (;;) {
    try {
      return (await store.resume('log-1', 'telemetry', 0))?.next
    } catch (thrown) {
      if (!(thrown instanceof KymoError) || thrown.code !== 'store_unavailable') throw thrown
      await wait(20)
    }
  }
}

void describe('A standby of PostgreSQL that is promoted, over TLS', skip, () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-failover-'))
  const certificates = new Certificates()
  let servers: readonly PostgresServer[] = []
  let tls: string[] = []

  before(async () => {
    const cluster = postgresCluster(dir)
    const { cert, key } = certificates.pair('postgres')
    // Of the account of the servers, and closed to all others.
    const place = (name: string, from: string): string => {
      const to = path.join(cluster.place, name)
      fs.copyFileSync(from, to)
      const { uid, gid } = fs.statSync(cluster.place)
      fs.chownSync(to, uid, gid)
      fs.chmodSync(to, 0o600)
      return to
    }
    tls = ['ssl=on', `ssl_cert_file=${place('server.pem', cert)}`, `ssl_key_file=${place('server.key', key)}`, 'wal_receiver_status_interval=1']
    const primary = await cluster.primary('primary', tls)
    const standby = await cluster.standby('standby', primary, tls)
    // What is acknowledged is on both disks: without it the last commits would be the primary's own secret.
    primary.psql(`ALTER SYSTEM SET synchronous_standby_names = 'standby'`)
    primary.psql('SELECT pg_reload_conf()')
    servers = [primary, standby]
  })

  after(async () => {
    for (const server of servers) await halt(server.process, 'SIGQUIT', 5_000)
    purgeElsewhere(dir)
    fs.rmSync(dir, { recursive: true, force: true })
    fs.rmSync(certificates.dir, { recursive: true, force: true })
  })

  const url = (ca: string): string => {
    const hosts = servers.map(({ port }) => `127.0.0.1:${port}`).toReversed()
    return `postgres://kymo@${hosts.join(',')}/kymo?sslmode=verify-full&sslrootcert=${encodeURIComponent(ca)}`
  }

  void it('is not trusted with another authority', async () => {
    const others = new Certificates()
    const opening = openPostgresStore({ url: url(others.ca), env })
    await assert.rejects(
      opening,
      (thrown) => thrown instanceof KymoError && thrown.code === 'store_unavailable' && /certificate/.test(thrown.message),
    )
    fs.rmSync(others.dir, { recursive: true, force: true })
  })

  void it('takes over without losing or doubling a row when the primary is killed', async () => {
    const [primary, standby] = servers
    const store = await openPostgresStore({ url: url(certificates.ca), env })
    const meta = await openPostgresMeta({ url: url(certificates.ca), env })
    try {
      assert.ok(Number(primary!.psql('SELECT count(*) FROM pg_stat_ssl WHERE ssl')) >= 1)
      const commits = 40
      let promoted: Promise<void> | undefined
      const { refused } = await commitAll(store, commits, (n) => {
        if (n !== 15) return
        // In the middle of the commit that comes now.
        promoted = wait(5).then(async () => {
          await halt(primary!.process, 'SIGKILL', 5_000)
          standby!.psql('SELECT pg_promote()')
        })
      })
      await promoted
      assert.ok(refused > 0)
      assert.equal(await next(store), BigInt(commits))
      const found = await answer(store, {})
      assert.deepEqual(
        found.map((r) => (r.timeUs - t0) / s),
        Array.from({ length: commits * rowsOfCommit }, (_, i) => i),
      )
      const minutes = await answer(store, { stepUs: 60 * s, aggregations: ['count'] })
      assert.equal(
        minutes.reduce((sum, r) => sum + Number(r['count']), 0),
        commits * rowsOfCommit,
      )
      await meta.write([{ op: 'put', collection: 'devices', tenant: 'default', doc: { id: 'd1' } }])
      assert.equal(await meta.count('devices', 'default'), 1)
    } finally {
      await Promise.all([store.close(), meta.close()])
    }
  })
})
