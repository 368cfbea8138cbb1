import { DatabaseSync, type StatementSync } from 'node:sqlite'
import type { SeriesKey } from '../../core/batch.ts'
import type { MonitorState, Prediction, PredictionQuery } from '../../core/forecast-store.ts'
import { prepareSqlite, sqliteErrorOf } from '../sqlite/file.ts'
import type { Expired, Expiry, Stats } from './calls.ts'
import { unpackForecasts, type PackedForecast, type PackedForecasts } from './packed.ts'
import { inOrder, pageOf, stepsOf, type IssueRow } from './pages.ts'
import { bytesIn, number, seriesName } from './rows.ts'
import { forecastsFile, placeOf } from './schema.ts'
import { SqliteModels } from './sqlite-models.ts'

interface Known {
  readonly id: number
  spanUs: number
}

/** Series whose numbers are remembered: 100,000 x some 150 B. */
const knownMax = 100_000
/** Series of one step of expiry: with a day of hourly issues each, 10 ms. */
const expireSeries = 200

/** The forecasts of one SQLite file, synchronously; owner of its connection. All throw KymoErrors. */
export class SqliteForecasts {
  readonly models: SqliteModels
  readonly #db: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  readonly #known = new Map<string, Known>()
  #revision = 0

  /** The file is created when it is not there; its directory must exist. */
  constructor(path: string) {
    this.#db = guarded(() => new DatabaseSync(path, { timeout: 5_000 }))
    try {
      prepareSqlite(this.#db, forecastsFile)
    } catch (thrown) {
      this.#db.close()
      throw sqliteErrorOf(thrown, forecastsFile)
    }
    this.models = new SqliteModels({
      prepare: (sql) => this.#prepare(sql),
      find: (key) => this.#find(key)?.id,
      make: (key) => this.#make(key).id,
      read: guarded,
      write: (work) => this.#transaction(work),
    })
  }

  write(forecasts: PackedForecasts, states: readonly MonitorState[]): void {
    this.#transaction(() => {
      let written = 0
      for (const one of unpackForecasts(forecasts)) written += this.#writeForecast(one)
      const put = this.#prepare('INSERT INTO monitor VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at, bytes = excluded.bytes')
      for (const { key, version, atUs, bytes } of states) put.run(this.#make(key).id, version, atUs, bytes)
      this.#count(written)
    })
  }

  predictions(q: PredictionQuery): Prediction[] {
    return guarded(() => {
      const known = this.#find(q.key)
      if (known === undefined) return []
      return pageOf(
        {
          spanUs: known.spanUs,
          rows: (fromUs, toUs) => this.#issues(known.id, fromUs, toUs),
          count: (fromUs, toUs) =>
            number(this.#prepare('SELECT count(*) AS n FROM issue WHERE series = ? AND issue >= ? AND issue < ?').get(known.id, fromUs, toUs), 'n'),
        },
        q,
      )
    })
  }

  latest(keys: readonly SeriesKey[]): Prediction[][] {
    return guarded(() =>
      keys.map((key) => {
        const known = this.#find(key)
        if (known === undefined) return []
        const newest = this.#prepare('SELECT max(issue) AS issue FROM issue WHERE series = ?').get(known.id)
        if (typeof newest?.['issue'] !== 'number') return []
        const found: Prediction[] = []
        for (const row of this.#issues(known.id, newest['issue'], newest['issue'] + 1)) found.push(...stepsOf(row))
        return found.sort(inOrder)
      }),
    )
  }

  states(keys: readonly SeriesKey[]): MonitorState[] {
    return guarded(() =>
      keys.flatMap((key) => {
        const known = this.#find(key)
        if (known === undefined) return []
        const rows = this.#prepare('SELECT version, at, bytes FROM monitor WHERE series = ? ORDER BY version').all(known.id)
        return rows.map((row) => ({ key, version: number(row, 'version'), atUs: number(row, 'at'), bytes: bytesIn(row, 'bytes') }))
      }),
    )
  }

  /** What is deleted is overwritten, in the file and in what was written ahead. */
  erase(tenant: string, device: string): void {
    guarded(() => {
      const ids = this.#prepare('SELECT id FROM series WHERE tenant = ? AND device = ?').all(tenant, device)
      if (ids.length === 0) return
      this.#db.exec('PRAGMA secure_delete = ON')
      try {
        this.#transaction(() => {
          let gone = 0
          for (const row of ids) {
            const id = number(row, 'id')
            for (const issue of this.#issues(id, 0, Number.MAX_SAFE_INTEGER)) gone += presentIn(issue, issue.gone, issue.count)
            for (const table of ['issue', 'monitor', 'model', 'file']) this.#prepare(`DELETE FROM ${table} WHERE series = ?`).run(id)
            this.#prepare('DELETE FROM series WHERE id = ?').run(id)
          }
          this.#count(-gone)
        })
      } finally {
        this.#db.exec('PRAGMA secure_delete = OFF')
        this.#known.clear()
      }
      // A reader elsewhere, such as a backup, may be in the way: the log is then overwritten later.
      this.#db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').all()
    })
  }

  /** Goes through some series; to be called again until all are done. */
  expire({ predictionsBeforeUs = 0, versions, afterSeries }: Expiry): Expired {
    return this.#transaction(() => {
      const ids = this.#prepare('SELECT id FROM series WHERE id > ? ORDER BY id LIMIT ?').all(afterSeries, expireSeries)
      let gone = 0
      for (const row of ids) {
        const id = number(row, 'id')
        gone += this.#expirePredictions(id, predictionsBeforeUs)
        this.models.dropFiles(id, versions)
      }
      this.#count(-gone)
      const last = ids.at(-1)
      return { gone, ...(last === undefined || ids.length < expireSeries ? {} : { afterSeries: number(last, 'id') }) }
    })
  }

  stats(): Stats {
    return guarded(() => {
      const one = (sql: string, column: string): number => number(this.#prepare(sql).get(), column)
      return {
        predictions: one('SELECT predictions FROM total', 'predictions'),
        models: one('SELECT count(*) AS n FROM model', 'n'),
        bytes: one('PRAGMA page_count', 'page_count') * one('PRAGMA page_size', 'page_size'),
      }
    })
  }

  close(): void {
    guarded(() => this.#db.close())
  }

  /** How many predictions are new. */
  #writeForecast({ key, version, issueUs, stepUs, level, count, rows }: PackedForecast): number {
    if (count === 0) return 0
    const series = this.#make(key)
    if (series.spanUs < count * stepUs) {
      this.#prepare('UPDATE series SET span = ? WHERE id = ?').run(count * stepUs, series.id)
      series.spanUs = count * stepUs
    }
    const insert = this.#prepare('INSERT OR IGNORE INTO issue VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)')
    const put = (part: number): number =>
      Number(
        insert.run(series.id, issueUs, version, part, stepUs, count, level, new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength)).changes,
      )
    if (put(0) === 1) return count
    // Was issued before, perhaps not as far: what is there stays.
    const there = new Set<number>()
    let parts = 0
    for (const issue of this.#issues(series.id, issueUs, issueUs + 1)) {
      if (issue.version !== version) continue
      parts++
      for (const { target_us } of stepsOf(issue)) there.add(target_us)
    }
    let missing = 0
    for (let i = 0; i < count; i++) {
      if (there.has(issueUs + i * stepUs)) rows[i] = Number.NaN
      else missing++
    }
    if (missing > 0) put(parts)
    return missing
  }

  #expirePredictions(series: number, beforeUs: number): number {
    let gone = 0
    const old = this.#prepare('SELECT * FROM issue WHERE series = ? AND issue < ? ORDER BY issue, version, part').all(series, beforeUs)
    const where = 'WHERE series = ? AND issue = ? AND version = ? AND part = ?'
    for (const row of old) {
      const issue = issueRow(row)
      const last = Math.min(issue.count, Math.ceil((beforeUs - issue.issueUs) / issue.stepUs))
      const named = [series, issue.issueUs, issue.version, number(row, 'part')]
      if (last <= issue.gone) continue
      gone += presentIn(issue, issue.gone, last)
      if (last === issue.count) this.#prepare(`DELETE FROM issue ${where}`).run(...named)
      else this.#prepare(`UPDATE issue SET gone = ? ${where}`).run(last, ...named)
    }
    return gone
  }

  *#issues(series: number, fromUs: number, toUs: number): Generator<IssueRow, void, void> {
    // One question at a time: who gives it up has ended it.
    const rows = this.#prepare('SELECT * FROM issue WHERE series = ? AND issue >= ? AND issue < ? ORDER BY issue, version, part')
    for (const row of rows.iterate(series, fromUs, toUs)) yield issueRow(row)
  }

  #find(key: SeriesKey): Known | undefined {
    // Another process that has the file open may have erased a device.
    const revision = number(this.#prepare('PRAGMA data_version').get(), 'data_version')
    if (revision !== this.#revision) this.#known.clear()
    this.#revision = revision
    const name = seriesName(key)
    const known = this.#known.get(name)
    if (known !== undefined) return known
    const row = this.#prepare('SELECT id, span FROM series WHERE tenant = ? AND place = ?').get(key.tenant, placeOf(key.device, key.metric))
    return row === undefined ? undefined : this.#remember(name, { id: number(row, 'id'), spanUs: number(row, 'span') })
  }

  #make(key: SeriesKey): Known {
    const known = this.#find(key)
    if (known !== undefined) return known
    const { tenant, device, metric } = key
    const insert = this.#prepare('INSERT INTO series (tenant, place, device, metric, span, versions) VALUES (?, ?, ?, ?, 0, 0)')
    const { lastInsertRowid } = insert.run(tenant, placeOf(device, metric), device, metric)
    return this.#remember(seriesName(key), { id: Number(lastInsertRowid), spanUs: 0 })
  }

  #remember(name: string, known: Known): Known {
    if (this.#known.size >= knownMax) this.#known.clear()
    this.#known.set(name, known)
    return known
  }

  #count(predictions: number): void {
    if (predictions !== 0) this.#prepare('UPDATE total SET predictions = predictions + ?').run(predictions)
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) this.#statements.set(sql, (statement = this.#db.prepare(sql)))
    return statement
  }

  #transaction<T>(work: () => T): T {
    return guarded(() => {
      this.#db.exec('BEGIN IMMEDIATE')
      try {
        const result = work()
        this.#db.exec('COMMIT')
        return result
      } catch (thrown) {
        // SQLite has rolled back by itself after some errors (a full disk); asking again would be one more error.
        if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
        // Numbers of series that were made in it.
        this.#known.clear()
        throw thrown
      }
    })
  }
}

function issueRow(row: Readonly<Record<string, unknown>>): IssueRow {
  const bytes = bytesIn(row, 'numbers')
  return {
    issueUs: number(row, 'issue'),
    version: number(row, 'version'),
    stepUs: number(row, 'step'),
    count: number(row, 'count'),
    gone: number(row, 'gone'),
    level: number(row, 'level'),
    // A copy, which is aligned.
    rows: new Float64Array(bytes.slice().buffer),
  }
}

/** How many steps in [from, to) a row has. */
function presentIn({ rows }: IssueRow, from: number, to: number): number {
  let n = 0
  for (let i = from; i < to; i++) if (!Number.isNaN(rows[i])) n++
  return n
}

function guarded<T>(work: () => T): T {
  try {
    return work()
  } catch (thrown) {
    throw sqliteErrorOf(thrown, forecastsFile)
  }
}
