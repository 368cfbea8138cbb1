import type { Between, RollupSources, RowSources, SketchSources } from './source-types.ts'
import { hot, tableNames } from './schema.ts'
import type { GroupScan } from './sealed/scan.ts'
import { binsOfRows, type SealedSources } from './sealed/sources.ts'
import { integers, timestamp, type Level } from './sql.ts'

/** The columns of a rollup row after series and bucket. */
export const rollupValues = 'n, sum, m2, min, max, first, first_ts, last, last_ts'

/** Base rows of few series. */
export interface FewSources {
  /** Each `SELECT series, ts, v, flags`. */
  readonly narrow: readonly string[]
  readonly groups: readonly GroupScan[]
  readonly count: number
}

/**
 * The files that hold the store's rows at one moment: the hot file, those that wait to be sealed, and sealed ones. This is the one place that
 * knows where rows are; what puts them together does not care.
 */
export class Sources {
  readonly #catalogs: readonly string[]
  readonly #sealed: SealedSources | undefined
  readonly unsketched: (between: Between) => Between | undefined

  /**
   * `frozen`: catalogs of hot files that are written no longer. `unsketched`: where within a range there are files that do not know the bins
   * of what was computed again.
   */
  constructor(frozen: readonly string[], sealed: SealedSources | undefined, unsketched: (between: Between) => Between | undefined = () => undefined) {
    this.#catalogs = [hot, ...frozen]
    this.#sealed = sealed
    this.unsketched = unsketched
  }

  /** Absent `ids`: of all series. Absent `between`: of all times. */
  rows(ids?: ArrayLike<number>, between?: Between): RowSources {
    const where = `${only(ids)} ${during('r.ts', between)}`
    const sealed = this.#sealed?.rows(ids, between)
    const of = (columns: string, table: string): string[] => this.#catalogs.map((catalog) => `SELECT ${columns} FROM ${catalog}.${table} r ${where}`)
    return {
      base: [...of('r.series, r.ts, r.v, r.flags', 'readings'), ...(sealed?.base ?? [])],
      late: [...of('r.series, r.ts, r.v, r.flags, r.seq, r.text, r.meta', 'late'), ...(sealed?.late ?? [])],
      texts: [...of('r.series, r.ts, r.text, r.meta', 'texts'), ...(sealed?.texts ?? [])],
    }
  }

  /** Base rows of at most `fewMax` series as they lie; `count`: about how many of them are sealed. */
  few(ids: ArrayLike<number>, between: Between): FewSources {
    const sealed = this.#sealed?.few(ids, between)
    const where = `${only(ids)} ${during('r.ts', between)}`
    const own = this.#catalogs.map((catalog) => `SELECT r.series, r.ts, r.v, r.flags FROM ${catalog}.readings r ${where}`)
    return { narrow: [...own, ...(sealed?.narrow ?? [])], groups: sealed?.groups ?? [], count: sealed?.count ?? 0 }
  }

  /** Each `SELECT series, ts`: rows that came late, or may have (those of sealed files, where they are not told apart). */
  lateRows(ids: ArrayLike<number>, between: Between): readonly string[] {
    const sealed = this.#sealed?.rows(ids, between)
    const where = `${only(ids)} ${during('r.ts', between)}`
    return [
      ...this.#catalogs.map((catalog) => `SELECT r.series, r.ts FROM ${catalog}.late r ${where}`),
      ...[...(sealed?.base ?? []), ...(sealed?.late ?? [])].map((rows) => `SELECT series, ts FROM (${rows})`),
    ]
  }

  /** Of hours that are over and begin within `between`, which ends at whole hours. `corrected` is not to be asked for where `unsketched` says so. */
  bins(ids: ArrayLike<number>, between: Between): SketchSources {
    const sealed = this.#sealed?.bins(ids, between)
    const rows = this.#catalogs.map((catalog) => `SELECT r.series, r.ts, r.v FROM ${catalog}.readings r ${only(ids)} ${during('r.ts', between)}`)
    const corrected = this.#catalogs.map(
      (catalog) =>
        `SELECT r.series, r.bucket, r.gen, r.n, r.bins FROM ${catalog}.${tableNames.hour.corrected} r ${only(ids)} ${during('r.bucket', between)}`,
    )
    return { base: [...rows.map(binsOfRows), ...(sealed?.base ?? [])], corrected: [...corrected, ...(sealed?.corrected ?? [])] }
  }

  /** Buckets that begin within `between`. */
  rollups(level: Level, ids?: ArrayLike<number>, between?: Between): RollupSources {
    const where = `${only(ids)} ${during('r.bucket', between)}`
    const sealed = this.#sealed?.rollups(level, ids, between)
    const columns = `r.series, r.bucket, ${rollupValues.replaceAll(/\w+/g, 'r.$&')}`
    const { rollup, corrected } = tableNames[level]
    return {
      rows: [...this.#catalogs.map((catalog) => `SELECT ${columns} FROM ${catalog}.${rollup} r ${where}`), ...(sealed?.rows ?? [])],
      corrected: [
        ...this.#catalogs.map((catalog) => `SELECT ${columns}, r.gen FROM ${catalog}.${corrected} r ${where}`),
        ...(sealed?.corrected ?? []),
      ],
    }
  }
}

export const union = (statements: readonly string[]): string => statements.join('\nUNION ALL\n')

/** Up to this many series a list of constants in the scan is quicker than a join (measured: 57 ms against 119 of 20 million rows). */
const listedMax = 8

/** A join, or nothing, and the WHERE that follows it; ends so that a condition can be added with AND. */
function only(ids: ArrayLike<number> | undefined): string {
  if (ids === undefined) return 'WHERE true'
  if (ids.length === 1) return `WHERE r.series = ${ids[0]}`
  return ids.length <= listedMax
    ? `WHERE r.series IN (${Array.prototype.join.call(ids, ',')})`
    : `JOIN (SELECT ${integers(ids, 'UINTEGER')} AS series) w ON w.series = r.series WHERE true`
}

function during(column: string, between: Between | undefined): string {
  return between === undefined ? '' : `AND ${column} >= ${timestamp(between.fromUs)} AND ${column} < ${timestamp(between.toUs)}`
}
