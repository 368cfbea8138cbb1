import type pg from 'pg'
import type { Retention } from '../../core/config.ts'
import type { Env } from '../../core/env.ts'
import type { Postgres } from '../pg/client.ts'
import { cancelOnAbort } from './reading.ts'
import { retain } from './retention.ts'
import { useTimescale } from './timescale.ts'

/** A number for PostgreSQL's advisory locks: of many processes one does it. */
const upkeepLock = 0x6b79_6d72

/**
 * What one process does for all, a round at a time: retention, and once a day the planner's statistics. Rejects as the server does; nothing is lost
 * by that.
 */
export async function upkeep(db: Postgres, retention: Retention, env: Env, signal: AbortSignal): Promise<void> {
  const client = await db.connect()
  let held = false
  let stop: (() => Promise<void>) | undefined
  try {
    const { rows } = await client.query<{ taken: boolean; pid: number }>('SELECT pg_try_advisory_lock($1) AS taken, pg_backend_pid() AS pid', [
      upkeepLock,
    ])
    held = rows[0]?.taken === true
    if (!held) return
    // A partition is detached when the last query has ended that may read it.
    stop = cancelOnAbort(db, client, rows[0]?.pid ?? 0, signal)
    await retain(client, retention, env.clock.nowUs(), env.logger)
    await analyze(client)
    await client.query('SELECT pg_advisory_unlock($1)', [upkeepLock])
    held = false
  } finally {
    await stop?.()
    // A session's lock goes with its connection.
    client.release(held)
  }
}

/**
 * Once a day, and when there are twice as many devices: autovacuum never looks at a partitioned table as a whole, and without a day of all devices is
 * sought
 * device by device.
 */
async function analyze(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ due: boolean }>(
    `SELECT (NOT EXISTS (SELECT FROM upkeep WHERE task = 'analyze' AND at > now() - interval '1 day') AND EXISTS (SELECT FROM series))
      OR (SELECT max(id) FROM device) > 2 * greatest((SELECT reltuples FROM pg_class WHERE oid = 'device'::regclass), 50) AS due`,
  )
  if (rows[0]?.due !== true) return
  await client.query('ANALYZE device, series, messages, samples')
  await client.query(`INSERT INTO upkeep VALUES ('analyze', now()) ON CONFLICT (task) DO UPDATE SET at = now()`)
}

/** At the start, once. */
export async function prepareTimescale(db: Postgres, env: Env): Promise<void> {
  const client = await db.connect()
  try {
    await useTimescale(client, env.logger)
  } finally {
    client.release()
  }
}
