import type { StatementSync } from 'node:sqlite'
import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import type { StoredModel } from '../../core/forecast-store.ts'
import { limits } from '../../core/limits.ts'
import type { ModelQuery, ModelsAnswer, NewModel } from './calls.ts'
import { bytesIn, cardIn, number, stateIn, string } from './rows.ts'
import { pageStart } from './schema.ts'

/** What the models need of the connection that they share with predictions. */
export interface ModelsBase {
  readonly prepare: (sql: string) => StatementSync
  readonly find: (key: SeriesKey) => number | undefined
  readonly make: (key: SeriesKey) => number
  readonly read: <T>(work: () => T) => T
  /** In a transaction. */
  readonly write: <T>(work: () => T) => T
}

/** The models of a forecasts file. */
export class SqliteModels {
  readonly #base: ModelsBase

  constructor(base: ModelsBase) {
    this.#base = base
  }

  add({ key, kind, state, createdUs, card, file }: NewModel): StoredModel {
    const { prepare, write, make } = this.#base
    return write(() => {
      const series = make(key)
      const version = number(prepare('UPDATE series SET versions = versions + 1 WHERE id = ? RETURNING versions').get(series), 'versions')
      if (state === 'champion') this.#dethrone(series)
      prepare('INSERT INTO model VALUES (?, ?, ?, ?, ?, ?, ?)').run(series, version, kind, state, createdUs, file.length, JSON.stringify(card))
      prepare('INSERT INTO file VALUES (?, ?, ?)').run(series, version, file)
      return this.#one(key, series, version)
    })
  }

  promote(key: SeriesKey, version: number): StoredModel {
    const { prepare, write, find } = this.#base
    return write(() => {
      const series = find(key)
      if (series === undefined) throw new KymoError('model_not_found')
      // Also tells whether there is one.
      const { state } = this.#one(key, series, version)
      if (state !== 'champion') {
        this.#dethrone(series)
        prepare(`UPDATE model SET state = 'champion' WHERE series = ? AND version = ?`).run(series, version)
      }
      return this.#one(key, series, version)
    })
  }

  retire(key: SeriesKey): void {
    this.#base.write(() => {
      const series = this.#base.find(key)
      if (series !== undefined) this.#dethrone(series)
    })
  }

  /** Newest first, those below `before`. */
  versions(key: SeriesKey, before = Number.MAX_SAFE_INTEGER): ModelsAnswer {
    const { prepare, read, find } = this.#base
    return read(() => {
      const series = find(key)
      if (series === undefined) return { models: [], more: false }
      const rows = prepare('SELECT * FROM model WHERE series = ? AND version < ? ORDER BY version DESC').iterate(series, before)
      return cut(rows, (row) => stored(key, row))
    })
  }

  list({ tenant, after, limit, device }: ModelQuery): ModelsAnswer {
    const { prepare, read } = this.#base
    return read(() => {
      const shown = `coalesce((SELECT version FROM model WHERE series = s.id AND state = 'champion'), (SELECT max(version) FROM model WHERE series = s.id))`
      const of = device === undefined ? '' : ' AND s.device = ?'
      const rows = prepare(
        `SELECT s.device, s.metric, m.* FROM series s JOIN model m ON m.series = s.id AND m.version = ${shown}
          WHERE s.tenant = ? AND s.place > ?${of} ORDER BY s.place LIMIT ?`,
      ).iterate(tenant, pageStart(after), ...(device === undefined ? [] : [device]), limit + 1)
      const { models, more } = cut(rows, (row) => stored({ tenant, device: string(row, 'device'), metric: string(row, 'metric') }, row), limit)
      return { models, more }
    })
  }

  file(key: SeriesKey, version: number): Uint8Array | undefined {
    const { prepare, read, find } = this.#base
    return read(() => {
      const series = find(key)
      const row = series === undefined ? undefined : prepare('SELECT bytes FROM file WHERE series = ? AND version = ?').get(series, version)
      return row === undefined ? undefined : bytesIn(row, 'bytes')
    })
  }

  /** In a transaction: files and states of all but the champion and the newest. */
  dropFiles(series: number, keep: number): void {
    const old = `SELECT version FROM model WHERE series = ? AND state <> 'champion'
      AND version NOT IN (SELECT version FROM model WHERE series = ? ORDER BY version DESC LIMIT ?)`
    for (const table of ['file', 'monitor'])
      this.#base.prepare(`DELETE FROM ${table} WHERE series = ? AND version IN (${old})`).run(series, series, series, keep)
  }

  #dethrone(series: number): void {
    this.#base.prepare(`UPDATE model SET state = 'retired' WHERE series = ? AND state = 'champion'`).run(series)
  }

  #one(key: SeriesKey, series: number, version: number): StoredModel {
    const row = this.#base.prepare('SELECT * FROM model WHERE series = ? AND version = ?').get(series, version)
    if (row === undefined) throw new KymoError('model_not_found')
    return stored(key, row)
  }
}

type Row = Readonly<Record<string, unknown>>

/** As many as an answer may hold, at least one. */
function cut(rows: Iterable<Row>, read: (row: Row) => StoredModel, limit = Number.POSITIVE_INFINITY): ModelsAnswer {
  const models: StoredModel[] = []
  let bytes = 0
  for (const row of rows) {
    if (models.length === limit || bytes >= limits.metaAnswerBytesMax) return { models, more: true }
    models.push(read(row))
    bytes += string(row, 'card').length
  }
  return { models, more: false }
}

function stored(key: SeriesKey, row: Row): StoredModel {
  return {
    key,
    version: number(row, 'version'),
    kind: string(row, 'kind'),
    state: stateIn(row),
    created_us: number(row, 'created'),
    card: cardIn(string(row, 'card')),
    bytes: number(row, 'bytes'),
  }
}
