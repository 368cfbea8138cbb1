import type pg from 'pg'
import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import type { Erasing, OperatorState, Tables } from '../../core/ports.ts'
import type { Span } from '../../core/record.ts'
import type { KeepMinutes } from '../levels.ts'
import type { Postgres } from '../pg/client.ts'
import { abortError } from '../query-checks.ts'
import { Turn } from '../turn.ts'
import { copyInto } from './copy-in.ts'
import { erase } from './erase.ts'
import { Partitions } from './partitions.ts'
import { deviceSql, upsertMessages, wideSql } from './layout.ts'
import { recompute, rollupTable } from './recompute.ts'
import { field, SeriesCache, width } from './series-cache.ts'
import { goneLock } from './gone.ts'
import { bucketOf, instant, microseconds, rollupColumns } from './sql.ts'
import { Stage, target } from './stage.ts'

export interface CommitArgument {
  readonly tables: Tables
  readonly span: Span
  readonly states?: readonly OperatorState[]
  readonly erase?: Erasing
}

const dayUs = 86_400e6
/** `no place`: a row has no partition. `collided`: an identity that was told to be new is there already. Of both, nothing was done. */
type Outcome = 'done' | 'no place' | 'collided'
const triesMax = 4

/** What this process keeps of one span between its commits. */
interface Owner {
  readonly turn: Turn
  readonly stage: Stage
  cache: SeriesCache
  /** `span.revoked` as of the cache. */
  revoked: string | undefined
  /** A commit is under way, or its outcome is not known: nothing that is remembered counts. */
  dirty: boolean
}

interface SpanRow {
  readonly id: number
  readonly next: string
  readonly writer: string
  readonly revoked: string
  /** Before it readings have gone; microseconds. */
  readonly gone: string | null
}

/** Commits of any number of spans, one at a time of each. */
export class Commits {
  readonly #db: Postgres
  readonly #env: Env
  readonly #keep: KeepMinutes
  readonly #columns: number
  readonly #process: string
  readonly #partitions: Partitions
  readonly #owners = new Map<string, Owner>()

  constructor(db: Postgres, env: Env, { keep, columns }: { readonly keep: KeepMinutes; readonly columns: number }) {
    this.#db = db
    this.#env = env
    this.#keep = keep
    this.#columns = columns
    this.#process = env.random.uuid()
    this.#partitions = new Partitions(db)
  }

  /** As the Store port says. A commit of which nobody knows whether it was made may be repeated: then it is a `span_conflict`. */
  async commit(c: CommitArgument, signal: AbortSignal): Promise<void> {
    const owner = this.#ownerOf(c.span)
    await owner.turn.run(async () => {
      if (signal.aborted) throw abortError(signal)
      const days = daysOf(c.tables)
      const outcomes: Outcome[] = []
      let samples = owner.cache.narrow
      // Once more where samples have no partition, where retention has removed one, and where rows are there already.
      while (outcomes.length < triesMax) {
        const wanted = { messages: days, rollup_1m: days, rollup_1h: days, ...(samples ? { samples: days } : {}) }
        await this.#partitions.ensure(wanted, this.#env.clock.nowUs())
        const upsert = outcomes.includes('collided')
        const outcome = await this.#db.transaction((client) => this.#transaction(client, owner, c, { days, upsert }))
        if (outcome === 'done') {
          owner.dirty = false
          return
        }
        if (outcome === 'no place') samples = true
        outcomes.push(outcome)
      }
      throw new KymoError('bug', { detail: `Rows do not go in: ${outcomes.join(', ')}.` })
    })
  }

  #ownerOf({ log, topic, partition }: Span): Owner {
    const name = JSON.stringify([log, topic, partition])
    let owner = this.#owners.get(name)
    if (owner === undefined) {
      owner = { turn: new Turn(), stage: new Stage(this.#keep), cache: new SeriesCache(this.#columns), revoked: undefined, dirty: false }
      this.#owners.set(name, owner)
    }
    return owner
  }

  async #transaction(
    client: pg.PoolClient,
    owner: Owner,
    c: CommitArgument,
    { days, upsert }: { readonly days: Iterable<number>; readonly upsert: boolean },
  ): Promise<Outcome> {
    const span = await this.#lock(client, c.span)
    if (owner.dirty || span.writer !== this.#process || span.revoked !== owner.revoked) {
      owner.cache = new SeriesCache(this.#columns)
      owner.revoked = span.revoked
    }
    owner.dirty = true
    const { cache, stage } = owner
    for (const { keys, series, rows } of [...c.tables.late, ...c.tables.readings, ...c.tables.rollups]) cache.of(keys, series, rows)
    await cache.adopt(client, span.id)
    if (cache.narrow && !this.#partitions.has('samples', days)) {
      await client.query('ROLLBACK; BEGIN')
      return 'no place'
    }
    stage.add(c.tables, cache, { upsert, goneUs: span.gone === null ? 0 : Number(span.gone) })
    const outcome = await write(client, owner)
    if (outcome === 'no place') this.#partitions.forget()
    if (outcome !== 'done') return outcome
    if (c.erase !== undefined) await erase(client, c.erase)
    for (const state of c.states ?? []) await keepState(client, span.id, state)
    await client.query('UPDATE span SET next = $2, writer = $3 WHERE id = $1', [span.id, c.span.next, this.#process])
    return 'done'
  }

  /** The span under its lock, which is made when nobody has seen this log; `span_conflict` where the store is not at its first offset. */
  async #lock(client: pg.PoolClient, { log, topic, partition, first }: Span): Promise<SpanRow> {
    const named = [log, topic, partition]
    // What is gone does not move on meanwhile (retention.ts).
    await client.query('SELECT pg_advisory_xact_lock_shared($1)', [goneLock])
    const find = async (): Promise<SpanRow | undefined> => {
      const sql = `SELECT id, next, writer, revoked, (SELECT ${microseconds('before')} FROM expired WHERE kind = 'raw') AS gone
        FROM span WHERE log = $1 AND topic = $2 AND part = $3 FOR UPDATE`
      const { rows } = await client.query<SpanRow>(sql, named)
      return rows[0]
    }
    let found = await find()
    if (found === undefined) {
      const made = await client.query(
        'INSERT INTO span (log, topic, part, next, writer) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (log, topic, part) DO NOTHING',
        [...named, first, this.#process],
      )
      found = await find()
      if (made.rowCount === 1 && found !== undefined) await distrust(client, found.id, topic)
    }
    if (found === undefined) throw new KymoError('store_unavailable', { detail: 'The span is not there.' })
    if (BigInt(found.next) === first) return found
    throw new KymoError('span_conflict', {
      detail: `Offset ${first} of ${topic} was offered; the store expects ${found.next}.`,
      facts: { first: String(first), next: found.next },
    })
  }
}

/** Days of all rows and buckets. */
function daysOf(tables: Tables): Set<number> {
  const days = new Set<number>()
  for (const { rows, timeUs } of [...tables.readings, ...tables.late, ...tables.rollups]) {
    let last = -1
    for (let i = 0; i < rows; i++) {
      const day = Math.floor(timeUs[i]! / dayUs)
      if (day === last) continue
      days.add(day)
      last = day
    }
  }
  return days
}

/** Unique violation, and a row for which there is no partition (PostgreSQL, appendix A). */
const outcomeOf = new Map<unknown, Outcome>([
  ['23505', 'collided'],
  ['23514', 'no place'],
])

async function write(client: pg.PoolClient, owner: Owner): Promise<Outcome> {
  try {
    await writeRows(client, owner)
    return 'done'
  } catch (thrown) {
    const outcome = thrown instanceof Error && 'code' in thrown ? outcomeOf.get(thrown.code) : undefined
    if (outcome === undefined) throw thrown
    await client.query('ROLLBACK; BEGIN')
    return outcome
  }
}

async function writeRows(client: pg.PoolClient, { stage, cache }: Owner): Promise<void> {
  await upsertRows(client, stage.ahead)
  await copyInto(client, target.messages(stage.columns), stage.messages)
  await copyInto(client, target.wordedMessages, stage.wordedMessages)
  await copyInto(client, target.plain, stage.plain)
  await copyInto(client, target.worded, stage.worded)
  await upsertRows(client, stage.late)
  for (const level of ['minute', 'hour'] as const) await copyInto(client, `${rollupTable[level]} (${rollupColumns})`, stage.rollups[level])
  await notePending(client, stage)
  if (!stage.ranges.empty) await recompute(client, stage.ranges)
  await changeSeries(client, stage, cache)
}

/**
 * By way of a table of this connection, whose rows go with the transaction: COPY knows no ON CONFLICT, and takes an import's rows at a third of the
 * cost.
 */
async function upsertRows(client: pg.PoolClient, rows: Stage['late']): Promise<void> {
  if (rows.rows === 0) return
  await client.query(`CREATE TEMP TABLE IF NOT EXISTS incoming (seq int, time timestamptz, value float8, series int, flags smallint, text text, meta text)
    ON COMMIT DELETE ROWS; TRUNCATE incoming`)
  await copyInto(client, target.incoming, rows)
  await client.query(upsertMessages())
  await client.query(`INSERT INTO samples (time, value, series, flags, text, meta)
    SELECT DISTINCT ON (series, time) time, value, series, flags, text, meta FROM incoming WHERE series > 0 ORDER BY series, time, seq DESC
    ON CONFLICT (series, time) DO UPDATE SET value = excluded.value, flags = excluded.flags, text = excluded.text, meta = excluded.meta`)
}

async function notePending(client: pg.PoolClient, { noted, settled }: Stage): Promise<void> {
  const columns = (list: Stage['noted']): unknown[] => [
    list.map(([series]) => series),
    list.map(([, level]) => (level === 'minute' ? 60 : 3600)),
    list.map(([, , bucket]) => instant(bucket)),
  ]
  const named = 'unnest($1::int[], $2::int[], $3::timestamptz[])'
  if (noted.length > 0) await client.query(`INSERT INTO pending (series, step, bucket) SELECT * FROM ${named} ON CONFLICT DO NOTHING`, columns(noted))
  if (settled.length > 0)
    await client.query(
      `DELETE FROM pending p USING ${named} AS w (series, step, bucket) WHERE p.series = w.series AND p.step = w.step AND p.bucket = w.bucket`,
      columns(settled),
    )
}

async function changeSeries(client: pg.PoolClient, { changed }: Stage, { cells }: SeriesCache): Promise<void> {
  if (changed.size === 0) return
  const of = (slot: number, name: keyof typeof field): number => cells[slot * width + field[name]]!
  const slots = [...changed]
  const time = (us: number): string | null => (Number.isFinite(us) ? instant(us) : null)
  await client.query(
    `UPDATE series s SET first = coalesce(w.first, s.first), minute_from = w.minute_from, seen = w.seen, ahead = w.ahead
      FROM unnest($1::int[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[]) AS w (id, first, minute_from, seen, ahead)
      WHERE s.id = w.id`,
    [
      slots.map((slot) => of(slot, 'id')),
      ...(['first', 'minuteFrom', 'seen', 'ahead'] as const).map((name) => slots.map((slot) => time(of(slot, name)))),
    ],
  )
}

async function keepState(client: pg.PoolClient, span: number, { operator, at, bytes }: OperatorState): Promise<void> {
  await client.query(
    'INSERT INTO state (span, operator, seen, bytes) VALUES ($1, $2, $3, $4) ON CONFLICT (span, operator) DO UPDATE SET seen = $3, bytes = $4',
    [span, operator, at, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)],
  )
}

/**
 * Where another log of the topic was stored before, buckets that were open when this one began will come without what they held: they are to be
 * computed from rows. Nobody else's memory of what is pending holds.
 */
async function distrust(client: pg.PoolClient, span: number, topic: string): Promise<void> {
  const { rowCount } = await client.query('UPDATE span SET revoked = revoked + 1 WHERE topic = $1 AND id <> $2', [topic, span])
  if (rowCount === 0) return
  for (const [step, table] of [
    [60, 'rollup_1m'],
    [3600, 'rollup_1h'],
  ] as const) {
    await client.query(`INSERT INTO pending (series, step, bucket)
      SELECT DISTINCT s.id, ${step}, ${bucketOf(step * 1e6, 'r.time')}
      FROM (SELECT id, coalesce((SELECT max(bucket) + interval '${step} seconds' FROM ${table} r WHERE r.series = series.id), '-infinity') AS closed FROM series) s
      CROSS JOIN LATERAL (SELECT time FROM samples WHERE series = s.id AND s.id > 0 AND time >= s.closed
        UNION ALL SELECT m.time FROM messages m WHERE s.id < 0 AND m.device = ${deviceSql('s.id')} AND m.time >= s.closed AND ${wideSql('s.id', 'm').there}) r
      ON CONFLICT DO NOTHING`)
  }
}
