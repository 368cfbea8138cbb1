import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import type { Env } from '../../core/env.ts'
import { KymoError, toPlainError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import { openPostgres, postgresError, type Postgres } from '../pg/client.ts'
import { metaMigrations } from '../pg/components.ts'
import { migrate } from '../pg/migrate.ts'
import { BatchedMeta, type SharedMetaStore } from './batched.ts'
import { unexpected } from './checks.ts'
import type { CallOutcome, EncodedWrite, ListAnswer, ListQuery, StoredText } from './calls.ts'
import type { DocumentsEngine } from './engine.ts'

/** Rows of a list that are fetched at a time: `metaAnswerBytesMax` is looked at between two. */
const pageRows = 1_000

/**
 * Opens the metadata of a database (docs/format/meta.md), and brings its tables to this version. Many processes may have it open. Rejects with
 * `store_format` (a newer program was here) or `store_unavailable`.
 */
export async function openPostgresMeta(o: { readonly url: string; readonly env: Env }): Promise<SharedMetaStore> {
  const db = openPostgres({ url: o.url, connectionsMax: limits.postgresMetaMax })
  try {
    await migrate(db, 'meta', metaMigrations)
  } catch (thrown) {
    await db.close()
    throw thrown
  }
  return new BatchedMeta(new PostgresDocuments(db), o.env)
}

interface Row {
  readonly id: string
  readonly body: string
  readonly version: string
}

class PostgresDocuments implements DocumentsEngine {
  readonly #db: Postgres
  readonly #process = randomUUID()

  constructor(db: Postgres) {
    this.#db = db
  }

  async get(collection: string, tenant: string, id: string): Promise<StoredText | undefined> {
    const { rows } = await this.#query<Row>('SELECT id, body, version FROM document WHERE collection = $1 AND tenant = $2 AND id = $3', [
      collection,
      tenant,
      id,
    ])
    return rows[0] === undefined ? undefined : storedText(rows[0])
  }

  async list({ collection, tenant, after = '', limit, where }: ListQuery): Promise<ListAnswer> {
    // No field that holds such a text can be compared.
    if (Object.values(where ?? {}).some((value) => typeof value === 'string' && !storable(value))) return { rows: [], more: false }
    const count = Math.min(limit, pageRows)
    const { rows } = await this.#query<Row>(
      'SELECT id, body, version FROM document WHERE collection = $1 AND tenant = $2 AND id > $3 AND fields @> $4 ORDER BY id LIMIT $5',
      [collection, tenant, after, JSON.stringify(where ?? {}), count],
    )
    return { rows: rows.map(storedText), more: rows.length === count && count < limit }
  }

  async count(collection: string, tenant: string): Promise<number> {
    const { rows } = await this.#query<{ n: string }>('SELECT count(*) AS n FROM document WHERE collection = $1 AND tenant = $2', [
      collection,
      tenant,
    ])
    return Number(rows[0]?.n)
  }

  apply(calls: readonly (readonly EncodedWrite[])[]): Promise<readonly CallOutcome[]> {
    return this.#db.transaction(async (client) => {
      await client.query('INSERT INTO writer VALUES ($1, 1) ON CONFLICT (process) DO UPDATE SET writes = writer.writes + 1', [this.#process])
      const outcomes: CallOutcome[] = []
      for (const writes of calls) outcomes.push(await applyCall(client, writes))
      return outcomes
    })
  }

  async outsideRevision(): Promise<number> {
    const { rows } = await this.#query<{ writes: string }>('SELECT coalesce(sum(writes), 0) AS writes FROM writer WHERE process <> $1', [
      this.#process,
    ])
    return Number(rows[0]?.writes)
  }

  close(): Promise<void> {
    return this.#db.close()
  }

  async #query<R extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<pg.QueryResult<R>> {
    try {
      return await this.#db.query<R>(text, values)
    } catch (thrown) {
      throw postgresError(thrown)
    }
  }
}

async function applyCall(client: pg.PoolClient, writes: readonly EncodedWrite[]): Promise<CallOutcome> {
  await client.query('SAVEPOINT call')
  try {
    const versions: number[] = []
    for (const write of writes) {
      const version = await applyWrite(client, write)
      if (version !== undefined) versions.push(version)
    }
    await client.query('RELEASE call')
    return { versions }
  } catch (thrown) {
    if (!(thrown instanceof KymoError)) throw thrown
    await client.query('ROLLBACK TO call; RELEASE call')
    return { error: toPlainError(thrown) }
  }
}

const key = 'collection = $1 AND tenant = $2 AND id = $3'

/** The version that a put made. Expectations are part of the statement: another process may write the same document. */
async function applyWrite(client: pg.PoolClient, write: EncodedWrite): Promise<number | undefined> {
  const { collection, tenant, id, body, expect } = write
  const named = [collection, tenant, id]
  if (body === undefined) {
    const deleted = await client.query(
      `DELETE FROM document WHERE ${key}${expect === undefined ? '' : ' AND version = $4'}`,
      expect === undefined ? named : [...named, expect],
    )
    const met = expect === undefined || deleted.rowCount === 1 || (expect === 0 && (await foundVersion(client, named)) === 0)
    if (!met) throw unexpected(write, await foundVersion(client, named))
    return undefined
  }
  const values = [...named, body, comparable(body)]
  const insert = 'INSERT INTO document (collection, tenant, id, version, body, fields) VALUES ($1, $2, $3, 1, $4, $5)'
  const change = 'version = document.version + 1, body = $4, fields = $5'
  const text =
    expect === undefined
      ? `${insert} ON CONFLICT (collection, tenant, id) DO UPDATE SET ${change} RETURNING version`
      : expect === 0
        ? `${insert} ON CONFLICT DO NOTHING RETURNING version`
        : `UPDATE document SET ${change} WHERE ${key} AND version = $6 RETURNING version`
  const { rows } = await client.query<{ version: string }>(text, expect === undefined || expect === 0 ? values : [...values, expect])
  if (rows[0] === undefined) throw unexpected(write, await foundVersion(client, named))
  return Number(rows[0].version)
}

async function foundVersion(client: pg.PoolClient, named: readonly string[]): Promise<number> {
  const { rows } = await client.query<{ version: string }>(`SELECT version FROM document WHERE ${key}`, [...named])
  return Number(rows[0]?.version ?? 0)
}

/** A document's fields that lists may compare, as jsonb takes them. */
function comparable(body: string): string {
  const fields = Object.entries(JSON.parse(body) as Record<string, unknown>).filter(([name, value]) => {
    const scalar = typeof value === 'string' ? storable(value) : typeof value === 'number' || typeof value === 'boolean'
    return scalar && storable(name)
  })
  return JSON.stringify(Object.fromEntries(fields))
}

/** What jsonb can hold: no U+0000, no half of a surrogate pair. */
function storable(text: string): boolean {
  return !text.includes('\u0000') && text.isWellFormed()
}

function storedText({ id, body, version }: Row): StoredText {
  return { id, body, version: Number(version) }
}
