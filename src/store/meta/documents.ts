import { DatabaseSync } from 'node:sqlite'
import type { StatementSync } from 'node:sqlite'
import { KymoError, toPlainError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { CallOutcome, EncodedWrite, ListAnswer, ListQuery, StoredText } from './calls.ts'
import { unexpected } from './checks.ts'
import { prepareSchema, sqliteError } from './schema.ts'

/** The documents of one SQLite file, synchronously; owner of its connection. All throw KymoErrors. */
export class SqliteDocuments {
  readonly #db: DatabaseSync
  readonly #select: StatementSync
  readonly #version: StatementSync
  readonly #put: StatementSync
  readonly #delete: StatementSync
  readonly #count: StatementSync
  readonly #dataVersion: StatementSync
  readonly #lists = new Map<string, StatementSync>()

  /** The file is created when it is not there; its directory must exist. */
  constructor(path: string) {
    this.#db = guarded(() => new DatabaseSync(path, { timeout: 5_000 }))
    try {
      prepareSchema(this.#db)
      const key = 'collection = ? AND tenant = ? AND id = ?'
      this.#select = this.#db.prepare(`SELECT id, body, version FROM document WHERE ${key}`)
      this.#version = this.#db.prepare(`SELECT version FROM document WHERE ${key}`)
      this.#put = this.#db.prepare(
        'INSERT INTO document (collection, tenant, id, version, body) VALUES (?, ?, ?, 1, ?) ' +
          'ON CONFLICT DO UPDATE SET version = version + 1, body = excluded.body RETURNING version',
      )
      this.#delete = this.#db.prepare(`DELETE FROM document WHERE ${key}`)
      this.#count = this.#db.prepare('SELECT count(*) AS n FROM document WHERE collection = ? AND tenant = ?')
      this.#dataVersion = this.#db.prepare('PRAGMA data_version')
    } catch (thrown) {
      this.#db.close()
      throw sqliteError(thrown)
    }
  }

  get(collection: string, tenant: string, id: string): StoredText | undefined {
    return guarded(() => {
      const row = this.#select.get(collection, tenant, id)
      return row === undefined ? undefined : storedText(row)
    })
  }

  list(query: ListQuery): ListAnswer {
    return guarded(() => {
      const where = Object.entries(query.where ?? {})
      const values = where.flatMap(([field, value]) => [field, ...comparison(value)])
      const rows: StoredText[] = []
      let bytes = 0
      const iterator = this.#list(
        where.map(([, value]) => typeof value),
        query.after !== undefined,
      ).iterate(query.collection, query.tenant, ...(query.after === undefined ? [] : [query.after]), ...values, query.limit)
      for (const row of iterator) {
        const stored = storedText(row)
        rows.push(stored)
        bytes += stored.body.length
        if (bytes >= limits.metaAnswerBytesMax && rows.length < query.limit) return { rows, more: true }
      }
      return { rows, more: false }
    })
  }

  count(collection: string, tenant: string): number {
    return guarded(() => Number(this.#count.get(collection, tenant)?.['n'] ?? 0))
  }

  /**
   * One durable transaction for all calls, each of which is written whole or not at all. Throws when the transaction itself
   * failed: then nothing of any call was written.
   */
  apply(calls: readonly (readonly EncodedWrite[])[]): readonly CallOutcome[] {
    return guarded(() => {
      this.#db.exec('BEGIN IMMEDIATE')
      try {
        const outcomes = calls.map((writes) => this.#applyCall(writes))
        this.#db.exec('COMMIT')
        return outcomes
      } catch (thrown) {
        // SQLite has rolled back by itself after some errors (a full disk); asking again would be one more error.
        if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
        throw thrown
      }
    })
  }

  /** Changes when another connection, of this or of another process, has written. */
  outsideRevision(): number {
    return guarded(() => Number(this.#dataVersion.get()?.['data_version'] ?? 0))
  }

  close(): void {
    guarded(() => this.#db.close())
  }

  #applyCall(writes: readonly EncodedWrite[]): CallOutcome {
    this.#db.exec('SAVEPOINT call')
    try {
      const versions: number[] = []
      for (const write of writes) {
        const version = this.#applyWrite(write)
        if (version !== undefined) versions.push(version)
      }
      this.#db.exec('RELEASE call')
      return { versions }
    } catch (thrown) {
      if (!(thrown instanceof KymoError)) throw thrown
      this.#db.exec('ROLLBACK TO call')
      this.#db.exec('RELEASE call')
      return { error: toPlainError(thrown) }
    }
  }

  #applyWrite(write: EncodedWrite): number | undefined {
    const { collection, tenant, id, body, expect } = write
    if (expect !== undefined) {
      const found = Number(this.#version.get(collection, tenant, id)?.['version'] ?? 0)
      if (found !== expect) throw unexpected(write, found)
    }
    if (body !== undefined) return Number(this.#put.get(collection, tenant, id, body)?.['version'])
    this.#delete.run(collection, tenant, id)
    return undefined
  }

  /** One statement for each combination of compared types: a boolean must not equal the number that JSON extraction makes of it. */
  #list(types: readonly string[], after: boolean): StatementSync {
    const shape = types.join(' ') + (after ? ' after' : '')
    let statement = this.#lists.get(shape)
    if (statement === undefined) {
      const conditions = types.map((type) => {
        const member = 'EXISTS (SELECT 1 FROM json_each(body) AS m WHERE m.key = ? AND '
        if (type === 'boolean') return `${member}m.type = ?)`
        return member + (type === 'number' ? "m.type IN ('integer', 'real')" : "m.type = 'text'") + ' AND m.value = ?)'
      })
      const sql =
        `SELECT id, body, version FROM document WHERE collection = ? AND tenant = ?${after ? ' AND id > ?' : ''}` +
        `${conditions.map((condition) => ` AND ${condition}`).join('')} ORDER BY id LIMIT ?`
      if (this.#lists.size >= statementsMax) this.#lists.clear()
      this.#lists.set(shape, (statement = this.#db.prepare(sql)))
    }
    return statement
  }
}

const statementsMax = 64

function comparison(value: string | number | boolean): readonly (string | number)[] {
  return typeof value === 'boolean' ? [String(value)] : [value]
}

function storedText(row: Readonly<Record<string, unknown>>): StoredText {
  const { id, body, version } = row
  if (typeof id !== 'string' || typeof body !== 'string' || typeof version !== 'number') {
    throw new KymoError('meta_corrupt', { detail: 'A row of the metadata file has columns of the wrong type.' })
  }
  return { id, body, version }
}

function guarded<T>(work: () => T): T {
  try {
    return work()
  } catch (thrown) {
    throw sqliteError(thrown)
  }
}
