import type pg from 'pg'
import type { Postgres } from '../pg/client.ts'
import { instant } from './sql.ts'
import { partitioned, type Between, type Partition, type Partitioned } from './tables.ts'
import { chunksOf, dropChunks, isHypertable } from './timescale.ts'

type Unit = 'day' | 'month' | 'year'

const dayUs = 86_400e6
/**
 * Days for what is about now, months for what is a few years away, years for the rest: 285 years of wrong clocks and imports are some hundred tables.
 */
const daysWithinUs = 100 * dayUs
const monthsWithinUs = 10 * 366 * dayUs
/** A number for PostgreSQL's advisory locks: one process makes partitions at a time. */
const lock = 0x6b79_6d70

/**
 * Makes partitions when the first row for them comes. A partition is made as a table of its own and then attached, which stops neither readers nor
 * writers of the others (PostgreSQL, ALTER TABLE, "ATTACH PARTITION").
 */
export class Partitions {
  readonly #db: Postgres
  /** Days from the epoch for which there is one. */
  readonly #days: Readonly<Record<Partitioned, Set<number>>> = { messages: new Set(), samples: new Set(), rollup_1m: new Set(), rollup_1h: new Set() }

  constructor(db: Postgres) {
    this.#db = db
  }

  /** Forgets what is there: somebody has removed some. */
  forget(): void {
    for (const days of Object.values(this.#days)) days.clear()
  }

  /** Whether all of these days (from the epoch) are known to have a place. */
  has(table: Partitioned, days: Iterable<number>): boolean {
    const known = this.#days[table]
    for (const day of days) if (!known.has(day)) return false
    return true
  }

  /** Makes what is missing, in a transaction of its own. */
  async ensure(wanted: Readonly<Partial<Record<Partitioned, Iterable<number>>>>, nowUs: number): Promise<void> {
    for (const table of ['messages', 'samples', 'rollup_1m', 'rollup_1h'] as const) {
      const missing = [...(wanted[table] ?? [])].filter((day) => !this.#days[table].has(day)).toSorted((a, b) => a - b)
      if (missing.length > 0) await this.#db.transaction((client) => this.#make(client, table, missing, nowUs))
      for (const day of missing) this.#days[table].add(day)
    }
  }

  async #make(client: pg.PoolClient, table: Partitioned, days: readonly number[], nowUs: number): Promise<void> {
    // A hypertable makes its own.
    if (await isHypertable(client, table)) return
    await client.query('SELECT pg_advisory_xact_lock($1)', [lock])
    const found = await partitionsOf(client, table)
    // Nobody writes to one whose detaching was broken off, and nobody reads it.
    for (const part of found.filter(({ pending }) => pending)) await dropPartition(client, table, part)
    const there: Between[] = found.filter(({ pending }) => !pending)
    for (const day of days) {
      const at = day * dayUs
      if (there.some(({ fromUs, toUs }) => fromUs <= at && at < toUs)) continue
      const units = unitsFor(table, Math.abs(at - nowUs))
      const chosen = units.map((unit) => ({ unit, range: rangeOf(unit, at) })).find(({ range }) => !there.some((one) => meets(one, range)))
      if (chosen === undefined) continue
      there.push(chosen.range)
      const name = `${table}_${instant(chosen.range.fromUs).slice(0, { day: 10, month: 7, year: 4 }[chosen.unit]).replaceAll('-', '_')}`
      await client.query(`CREATE TABLE ${name} (LIKE ${table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)`)
      const bounds = `FROM ('${instant(chosen.range.fromUs)}') TO ('${instant(chosen.range.toUs)}')`
      await client.query(`ALTER TABLE ${table} ATTACH PARTITION ${name} FOR VALUES ${bounds}`)
    }
  }
}

/** The longest first: where a shorter one lies in it already, it cannot be made. */
function unitsFor(table: Partitioned, awayUs: number): readonly Unit[] {
  const units: readonly Unit[] = awayUs <= daysWithinUs ? ['day'] : awayUs <= monthsWithinUs ? ['month', 'day'] : ['year', 'month', 'day']
  return partitioned[table] === 'day' ? units : units.filter((unit) => unit !== 'day').concat(awayUs <= daysWithinUs ? 'month' : [])
}

function rangeOf(unit: Unit, us: number): Between {
  if (unit === 'day') return { fromUs: us - (us % dayUs), toUs: us - (us % dayUs) + dayUs }
  const date = new Date(us / 1000)
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()]
  const at = (y: number, m: number): number => Date.UTC(y, m, 1) * 1000
  return unit === 'month' ? { fromUs: at(year, month), toUs: at(year, month + 1) } : { fromUs: at(year, 0), toUs: at(year + 1, 0) }
}

const meets = (a: Between, b: Between): boolean => a.fromUs < b.toUs && b.fromUs < a.toUs

/** As the catalog has them; bounds of times print as they were given, in UTC. Of a hypertable its chunks. */
export async function partitionsOf(client: pg.ClientBase, table: Partitioned): Promise<Partition[]> {
  if (await isHypertable(client, table)) return chunksOf(client, table)
  const { rows } = await client.query<{ name: string; bounds: string; pending: boolean }>(
    `SELECT i.inhrelid::regclass::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds, i.inhdetachpending AS pending
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass`,
    [table],
  )
  return rows.flatMap(({ name, bounds, pending }) => {
    const match = /FROM \('([^']+)'\) TO \('([^']+)'\)/.exec(bounds)
    return match === null ? [] : [{ name, pending, fromUs: timeOf(match[1]!), toUs: timeOf(match[2]!) }]
  })
}

/**
 * Detaches a partition, for which nobody who reads or writes others waits, and drops it (PostgreSQL, ALTER TABLE, "DETACH PARTITION"). Not in a
 * transaction.
 */
export async function dropPartition(client: pg.ClientBase, table: Partitioned, { name, pending, toUs }: Partition): Promise<void> {
  if (await isHypertable(client, table)) return dropChunks(client, table, toUs)
  await client.query(`ALTER TABLE ${table} DETACH PARTITION ${name} ${pending ? 'FINALIZE' : 'CONCURRENTLY'}`)
  await client.query(`DROP TABLE ${name}`)
}

/** `2026-11-21 00:00:00+00`, whole seconds as partitions have them. */
function timeOf(text: string): number {
  return Date.parse(`${text.replace(' ', 'T').replace(/\+00$/, '')}Z`) * 1000
}
