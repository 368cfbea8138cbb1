import type pg from 'pg'
import type { Retention } from '../../core/config.ts'
import type { Logger } from '../../core/env.ts'
import type { Postgres } from '../pg/client.ts'
import { dayBefore, goneLock } from './gone.ts'
import { dropPartition, partitionsOf } from './partitions.ts'
import { applyRules } from './rules.ts'
import { instant, microseconds } from './sql.ts'
import type { Partition, Partitioned } from './tables.ts'

const dayUs = 86_400e6

/** Kinds of rows that have an age of their own, and their tables. */
const kinds = {
  raw: { age: 'rawUs', tables: ['messages', 'samples'] },
  minutes: { age: 'minutesUs', tables: ['rollup_1m'] },
  hours: { age: 'hoursUs', tables: ['rollup_1h'] },
} as const satisfies Record<string, { readonly age: keyof Retention; readonly tables: readonly Partitioned[] }>
export type Kind = keyof typeof kinds

export const keepAll: Retention = {
  rawUs: Number.POSITIVE_INFINITY,
  minutesUs: Number.POSITIVE_INFINITY,
  hoursUs: Number.POSITIVE_INFINITY,
  storeBytes: Number.POSITIVE_INFINITY,
}

/** One round: whole partitions by age, then by size, then what rules name. One process at a time. */
export async function retain(client: pg.ClientBase, retention: Retention, nowUs: number, logger: Logger): Promise<void> {
  for (const kind of ['raw', 'minutes', 'hours'] as const) {
    const before = dayBefore(nowUs, retention[kinds[kind].age])
    if (before !== undefined) await drop(client, kind, before, 'age', logger)
  }
  await shrink(client, retention, nowUs, logger)
  await applyRules(client, retention.rules ?? [], nowUs)
}

/** Takes durable note that rows before this are gone, behind all commits that may still compute buckets from them. */
async function note(client: pg.ClientBase, kind: Kind, beforeUs: number): Promise<void> {
  await client.query('BEGIN')
  try {
    await client.query('SELECT pg_advisory_xact_lock($1)', [goneLock])
    await client.query('INSERT INTO expired VALUES ($1, $2) ON CONFLICT (kind) DO UPDATE SET before = greatest(expired.before, excluded.before)', [
      kind,
      instant(beforeUs),
    ])
    await client.query('COMMIT')
  } catch (thrown) {
    await client.query('ROLLBACK')
    throw thrown
  }
}

async function drop(client: pg.ClientBase, kind: Kind, beforeUs: number, reason: 'age' | 'size', logger: Logger): Promise<void> {
  const found: { readonly table: Partitioned; readonly part: Partition }[] = []
  for (const table of kinds[kind].tables) for (const part of await partitionsOf(client, table)) if (part.toUs <= beforeUs) found.push({ table, part })
  if (found.length === 0) return
  await note(client, kind, beforeUs)
  let bytes = 0
  for (const { table, part } of found) {
    bytes += await bytesOf(client, part.name)
    await dropPartition(client, table, part)
  }
  const what = kind === 'raw' ? 'readings' : `rollups of ${kind}`
  logger.info(`retention has removed ${what}`, { reason, partitions: found.length, bytes, before: instant(beforeUs).slice(0, 10) })
}

/** The oldest days of readings, then of minutes, while there is more than `storeBytes`; nothing of the day that has not ended. */
async function shrink(client: pg.ClientBase, { storeBytes }: Retention, nowUs: number, logger: Logger): Promise<void> {
  if (!Number.isFinite(storeBytes)) return
  const today = nowUs - (nowUs % dayUs)
  let bytes = await schemaBytes(client)
  for (const kind of ['raw', 'minutes'] as const) {
    const parts: Partition[] = []
    for (const table of kinds[kind].tables) parts.push(...(await partitionsOf(client, table)).filter(({ toUs }) => toUs <= today))
    parts.sort((a, b) => a.toUs - b.toUs)
    let before: number | undefined
    for (const { name, toUs } of parts) {
      if (bytes <= storeBytes && toUs !== before) break
      bytes -= await bytesOf(client, name)
      before = toUs
    }
    if (before !== undefined) await drop(client, kind, before, 'size', logger)
  }
  if (bytes > storeBytes)
    logger.warn('The store has more than retention.store_mb, and what may go has gone.', { overBytes: Math.round(bytes - storeBytes) })
}

async function bytesOf(client: pg.ClientBase, table: string): Promise<number> {
  const { rows } = await client.query<{ bytes: string }>('SELECT pg_total_relation_size($1::regclass) AS bytes', [table])
  return Number(rows[0]?.bytes ?? 0)
}

/** All tables of the schema, with their indexes and chunks. */
async function schemaBytes(client: pg.ClientBase): Promise<number> {
  const { rows } = await client.query<{ bytes: string | null }>(
    `SELECT sum(pg_total_relation_size(oid)) AS bytes FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'`,
  )
  return Number(rows[0]?.bytes ?? 0)
}

/** Before this readings have gone; 0: none have. */
export async function rawGoneUs(db: Pick<Postgres, 'query'>): Promise<number> {
  const { rows } = await db.query<{ us: string }>(`SELECT ${microseconds('before')} AS us FROM expired WHERE kind = 'raw'`)
  return Number(rows[0]?.us ?? 0)
}
