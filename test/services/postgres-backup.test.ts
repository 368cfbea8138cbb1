import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { describe, it } from 'node:test'
import { dumpPostgres } from '../../src/cli/backup/postgres.ts'
import { nodeEnv, silentLogger } from '../../src/core/env/node-env.ts'
import { KymoError } from '../../src/core/errors.ts'
import type { Store } from '../../src/core/ports.ts'
import { parseAddress } from '../../src/store/pg/address.ts'
import { openPostgresStore } from '../../src/store/postgres/store.ts'
import { postgresCluster, postgresTool, purgeElsewhere, type PostgresCluster, type PostgresServer } from '../../tools/services/postgres-cluster.ts'
import { halt } from '../../tools/services/process.ts'
import { until, usingPostgres } from '../support/postgres-place.ts'
import { answer, signal, spanOf } from '../support/store-batches.ts'
import { StoreHead } from '../support/store-head.ts'

const skip = process.env['KYMO_TEST_POSTGRES_URL'] === undefined ? { skip: 'KYMO_TEST_POSTGRES_URL is not set (npm run test:services)' } : {}
const env = nodeEnv(silentLogger)
const s = 1e6
const t0 = 1_700_000_000_000_000 - (1_700_000_000_000_000 % 3600e6)

function feeder(store: Store): (commits: number) => Promise<void> {
  const head = new StoreHead()
  let n = 0
  return async (commits) => {
    for (const end = n + commits; n < end; n++) {
      const rows = Array.from({ length: 100 }, (_, i) => ({ device: `d${i % 3}`, metric: 'temperature', timeUs: t0 + (n * 100 + i) * s, value: i }))
      await store.commit({ tables: head.push(rows), span: spanOf(n, n + 1) }, signal)
    }
  }
}

async function said(store: Store): Promise<readonly unknown[]> {
  return [
    await answer(store, {}),
    await answer(store, { stepUs: 60 * s, aggregations: ['count', 'stddev'] }),
    await store.resume('log-1', 'telemetry', 0),
  ]
}

async function backToAMoment(cluster: PostgresCluster, started: (server: PostgresServer) => void): Promise<void> {
  const wal = path.join(cluster.place, 'wal')
  cluster.tool('mkdir', '-p', wal)
  const primary = await cluster.primary('primary', ['archive_mode=on', `archive_command=test ! -f ${wal}/%f && cp %p ${wal}/%f`, 'wal_level=replica'])
  started(primary)
  const store = await openPostgresStore({ url: `${primary.url}?schema=kymo`, env })
  const feed = feeder(store)
  await feed(10)
  const base = path.join(cluster.place, 'restored')
  const to = ['-h', '127.0.0.1', '-p', String(primary.port), '-U', 'kymo']
  cluster.tool('pg_basebackup', ...to, '-D', base, '-X', 'fetch', '-c', 'fast')
  await feed(10)
  const before = await said(store)
  primary.psql(`SELECT pg_create_restore_point('good')`)
  await feed(3)
  cluster.tool('psql', ...to, '-d', 'kymo', '-qc', 'DELETE FROM kymo.messages')
  primary.psql('SELECT pg_switch_wal()')
  await store.close()
  await halt(primary.process, 'SIGINT', 15_000)
  fs.writeFileSync(path.join(base, 'recovery.signal'), '')
  const target = [`restore_command=cp ${wal}/%f %p`, 'recovery_target_name=good', 'recovery_target_action=promote', 'archive_mode=off']
  const restored = await cluster.start('restored', target)
  started(restored)
  await until(() => Promise.resolve(restored.psql('SELECT pg_is_in_recovery()') === 'f'))
  const again = await openPostgresStore({ url: `${restored.url}?schema=kymo`, env })
  assert.deepEqual(await said(again), before)
  await again.close()
}

void describe('A backup of PostgreSQL', skip, () => {
  void it('by pg_dump is of one moment, and goes on where it was', async () => {
    await usingPostgres(async ({ client, location, open }) => {
      const store = await open()
      const feed = feeder(store)
      await feed(5)
      const before = await said(store)
      const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-dump-'))
      const [made] = await Promise.all([dumpPostgres(location, dir, new Date()), feed(5)])
      await store.close()
      const { schema, environment } = parseAddress(location)
      await client.query(`DROP SCHEMA ${schema} CASCADE`)
      const restore = postgresTool('pg_restore') ?? 'pg_restore'
      execFileSync(restore, ['--no-owner', `--dbname=${environment['PGDATABASE']}`, made.file], { env: { ...process.env, ...environment } })
      const restored = await open()
      const next = Number((await restored.resume('log-1', 'telemetry', 0))!.next)
      assert.ok(next >= 5 && next <= 10)
      const found = await answer(restored, {})
      assert.deepEqual(found.length, next * 100)
      if (next === 5) assert.deepEqual(await said(restored), before)
      await restored.commit({ tables: new StoreHead().push([{ timeUs: t0 + 9e9, value: 1 }]), span: spanOf(next, next + 1) }, signal)
      assert.deepEqual(fs.readdirSync(dir), [path.basename(made.file)])
      fs.rmSync(dir, { recursive: true })
    })
  })

  void it('fails with the words of pg_dump, and leaves nothing', async () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-dump-'))
    const dumping = dumpPostgres('postgres://kymo@127.0.0.1:1/kymo', dir, new Date())
    await assert.rejects(
      dumping,
      (thrown) => thrown instanceof KymoError && thrown.code === 'store_unavailable' && /127\.0\.0\.1/.test(thrown.message),
    )
    assert.deepEqual(fs.readdirSync(dir), [])
    fs.rmSync(dir, { recursive: true })
  })

  // As docs/how-to/postgres.md describes it. Part of .ci/long.
  if (process.env['KYMO_TEST_PITR'] !== undefined)
    void it('with archived WAL goes back to the moment before a mistake', async () => {
      const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-pitr-'))
      const servers: PostgresServer[] = []
      try {
        await backToAMoment(postgresCluster(dir), (server) => void servers.push(server))
      } finally {
        for (const server of servers) await halt(server.process, 'SIGQUIT', 5_000)
        purgeElsewhere(dir)
        fs.rmSync(dir, { recursive: true, force: true })
      }
    })
})
