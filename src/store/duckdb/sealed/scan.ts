import type { DuckDBConnection } from '@duckdb/node-api'
import { KymoError } from '../../../core/errors.ts'
import { lowAndHigh } from '../bins-sql.ts'
import { chunksOf, readBytes, readDoubles, readUints } from '../chunk.ts'
import type { Between } from '../source-types.ts'
import { timestamp } from '../sql.ts'
import { checkSealedFormat, narrowShape, quoted, stepOfKind, unscaled, type RollupKind } from './format.ts'

/** What a statement needs to know of a raw file: its shape tables. */
export interface RawLayout {
  readonly shapes: readonly Shape[]
}

export interface Shape {
  readonly shape: number
  readonly tickUs: number
  /** Of each column: its decimals, or `unscaled`. */
  readonly scales: readonly number[]
}

/** Where the rows of one series stand in one raw file. */
export interface Place {
  readonly series: number
  readonly shape: number
  readonly grp: number
  readonly col: number
  readonly bits: number
  readonly phase: number
  /** Of base rows: how many, and the first and last time; 0 when there is none. */
  readonly rows: number
  readonly firstUs: number
  readonly lastUs: number
}

/** Values of one row of a small result. */
export type Row = readonly unknown[]

export async function rowsOf(connection: DuckDBConnection, sql: string): Promise<Row[]> {
  return (await connection.run(sql)).getRowsJS()
}

/** Throws `store_corrupt` when the file is missing or no database. */
export async function attachSealed(connection: DuckDBConnection, catalog: string, file: string): Promise<void> {
  await connection.run(`ATTACH ${quoted(file)} AS ${catalog} (READ_ONLY)`).catch((thrown: unknown) => {
    const detail = `${file} cannot be opened: ${thrown instanceof Error ? thrown.message : String(thrown)}`
    throw new KymoError('store_corrupt', { detail, facts: { file }, cause: thrown })
  })
}

/** Reads the format and the shapes of an attached raw file; throws `store_format` or `store_corrupt`. */
export async function rawLayout(connection: DuckDBConnection, catalog: string, file: string): Promise<RawLayout> {
  await checkInfo(connection, catalog, file)
  const rows = await rowsOf(connection, `SELECT shape, tick::DOUBLE, scales FROM ${catalog}.shapes ORDER BY shape`)
  return {
    shapes: rows.map(([shape, tick, scales]) => ({
      shape: Number(shape),
      tickUs: Number(tick),
      scales: Array.isArray(scales) ? scales.map(Number) : [],
    })),
  }
}

/** Whether an attached file is one of ours and of a format that is known. */
export async function checkInfo(connection: DuckDBConnection, catalog: string, file: string): Promise<void> {
  const [info] = await rowsOf(connection, `SELECT format FROM ${catalog}.run_info`).catch((thrown: unknown) => {
    throw new KymoError('store_corrupt', { detail: `${file} is no sealed file of Kymo.`, facts: { file }, cause: thrown })
  })
  if (info === undefined) throw new KymoError('store_corrupt', { detail: `${file} is no sealed file of Kymo.`, facts: { file } })
  checkSealedFormat(Number(info[0]), file)
}

/** The places of these series, some hundreds at most; those that are not in the file are absent. */
export async function placesOf(connection: DuckDBConnection, catalog: string, ids: readonly number[]): Promise<Place[]> {
  const result =
    await connection.run(`SELECT series, shape, grp, col, bits, phase::DOUBLE, "rows"::DOUBLE, epoch_us(first)::DOUBLE, epoch_us(last)::DOUBLE
    FROM ${catalog}.columns WHERE ${among(ids)}`)
  return chunksOf(result).flatMap((chunk) => {
    const [series, shape, grp] = [0, 1, 2].map((c) => readUints(chunk, c)) as [Uint32Array, Uint32Array, Uint32Array]
    const [col, bits] = [readBytes(chunk, 3), readBytes(chunk, 4)]
    const [phase, rows, first, last] = [5, 6, 7, 8].map((c) => readDoubles(chunk, c)) as [Float64Array, Float64Array, Float64Array, Float64Array]
    return Array.from(series, (id, i): Place => ({
      series: id,
      shape: shape[i]!,
      grp: grp[i]!,
      col: col[i]!,
      bits: bits[i]!,
      phase: phase[i]!,
      rows: rows[i]!,
      firstUs: first[i]!,
      lastUs: last[i]!,
    }))
  })
}

/** Zone maps answer a list of constants, and a range is quicker to parse. */
function among(ids: readonly number[]): string {
  const [first, last] = [Math.min(...ids), Math.max(...ids)]
  return last - first + 1 === ids.length ? `series BETWEEN ${first} AND ${last}` : `series IN (${ids.join(',')})`
}

/** About how many base rows a series has within a range. */
export function rowsWithin({ rows, firstUs, lastUs }: Place, { fromUs, toUs }: Between): number {
  const within = Math.min(lastUs + 1, toUs) - Math.max(firstUs, fromUs)
  return within <= 0 ? 0 : Math.ceil((rows * within) / (lastUs + 1 - firstUs))
}

/**
 * Base rows of a few series as `SELECT series, ts, v, flags`, each by predicates on group and tick, which zone maps answer. Undefined: none.
 * `catalog` must be of the file that `layout` and `places` were read from.
 */
export function rowsOfFew(catalog: string, layout: RawLayout, places: readonly Place[], between: Between): string | undefined {
  const parts = places
    .filter((place) => rowsWithin(place, between) > 0)
    .map((place) => {
      const { series, shape, grp, col, bits, phase } = place
      if (shape === narrowShape) return narrowOfFew(catalog, [place], between)
      const { tickUs, scales } = shapeOf(layout, shape)
      return `SELECT ${series}::UINTEGER AS series, ${timeOf(tickUs, String(phase))} AS ts, ${valueOf(col, scales[col])} AS v, ${flagsOf(String(bits))} AS flags
      FROM ${catalog}.s${shape} WHERE grp = ${grp} AND ${ticksIn(between, phase, tickUs)} AND c${col} IS NOT NULL`
    })
  return parts.length === 0 ? undefined : parts.join('\nUNION ALL\n')
}

/** Base rows of series that are in no shape. */
export function narrowOfFew(catalog: string, places: readonly Place[], between: Between): string {
  return `SELECT series, ts, v, flags FROM ${catalog}.narrow WHERE series IN (${places.map((place) => place.series).join(',')}) AND ${during('ts', between)}`
}

/** Rows of one group as they lie: the readings of several series at one time. */
export interface GroupScan {
  /** `SELECT us DOUBLE, flags UTINYINT, v0, v1, … DOUBLE`: a column for each of `series`, in which NULL is no reading. */
  readonly sql: string
  readonly series: readonly number[]
  /** To be added to the flags, of each series. */
  readonly bits: readonly number[]
}

/** Base rows of series that are in shapes, a scan for each group that they are of. */
export function groupsOfFew(catalog: string, layout: RawLayout, places: readonly Place[], between: Between): GroupScan[] {
  return [...Map.groupBy(places, ({ shape, grp }) => `${shape} ${grp}`).values()].map((members) => {
    const [{ shape, grp, phase }] = members as [Place]
    const { tickUs, scales } = shapeOf(layout, shape)
    const values = members.map(({ col }, i) => `(${valueOf(col, scales[col])})::DOUBLE AS v${i}`)
    return {
      sql: `SELECT (t * ${tickUs} + ${phase})::DOUBLE AS us, flags, ${values.join(', ')} FROM ${catalog}.s${shape} WHERE grp = ${grp} AND ${ticksIn(between, phase, tickUs)}`,
      series: members.map(({ series }) => series),
      bits: members.map(({ bits }) => bits),
    }
  })
}

function ticksIn(between: Between, phase: number, tickUs: number): string {
  return `t >= ${Math.ceil((between.fromUs - phase) / tickUs)} AND t < ${Math.ceil((between.toUs - phase) / tickUs)}`
}

/**
 * Base rows of all series, or of those in `pick` (what may stand after IN, as `(SELECT series FROM …)`), as `SELECT series, ts, v, flags`: one
 * scan for each column of each shape, joined with `columns`.
 */
export function rowsOfMany(catalog: string, layout: RawLayout, pick?: string, between?: Between): string {
  return scansOfMany(catalog, layout, pick, between).join('\nUNION ALL\n')
}

/** The parts of `rowsOfMany`. Each holds up to two hash tables of some 3 MB until its statement ends, so a merge runs them one by one. */
export function scansOfMany(catalog: string, layout: RawLayout, pick?: string, between?: Between): string[] {
  const picked = pick === undefined ? '' : `AND series IN ${pick}`
  const narrow = `SELECT series, ts, v, flags FROM ${catalog}.narrow WHERE true ${picked} ${between === undefined ? '' : `AND ${during('ts', between)}`}`
  const shapes = layout.shapes.flatMap(({ shape, tickUs, scales }) =>
    scales.map((scale, col) => {
      const ticks = between === undefined ? '' : `AND s.t >= ${Math.floor(between.fromUs / tickUs)} AND s.t <= ${Math.floor(between.toUs / tickUs)}`
      const exact = between === undefined ? '' : `WHERE ${during('ts', between)}`
      return `SELECT series, ts, v, flags FROM (
        SELECT c.series, ${timeOf(tickUs, 'c.phase', 's.')} AS ts, ${valueOf(col, scale, 's.')} AS v, ${flagsOf('c.bits', 's.')} AS flags
        FROM ${catalog}.s${shape} s JOIN (SELECT series, grp, phase, bits FROM ${catalog}.columns WHERE shape = ${shape} AND col = ${col} ${picked}) c
        ON s.grp = c.grp WHERE s.c${col} IS NOT NULL ${ticks}) ${exact}`
    }),
  )
  return [narrow, ...shapes]
}

/** Late rows as `SELECT series, ts, v, flags, seq, text, meta`, not deduplicated. */
export function lateOf(catalog: string, pick?: string, between?: Between): string {
  return `SELECT series, ts, v, flags, seq, text, meta FROM ${catalog}.late ${where('ts', pick, between)}`
}

/** Text and metadata of base rows as `SELECT series, ts, text, meta`. */
export function textsOf(catalog: string, pick?: string, between?: Between): string {
  return `SELECT series, ts, text, meta FROM ${catalog}.texts ${where('ts', pick, between)}`
}

/** Rollup rows as `SELECT series, bucket, n, sum, m2, min, max, first, first_ts, last, last_ts`; buckets that begin within `between`. */
export function rollupsOf(catalog: string, kind: RollupKind, pick?: string, between?: Between): string {
  const step = stepOfKind[kind]
  const numbers = between === undefined ? '' : `WHERE b >= ${Math.ceil(between.fromUs / step)} AND b < ${Math.ceil(between.toUs / step)}`
  const at = (column: string): string => `make_timestamp(b * ${step} + ${column} * tick)`
  // One filter around both: a list of constants reaches the scans, a subquery is one hash table instead of two.
  return `SELECT ${rollupNames} FROM (
    SELECT series, make_timestamp(b * ${step}) AS bucket, n, sum / scale + rest / ulps AS sum, m2, min / scale AS min, (min + span) / scale AS max,
      (min + first) / scale AS first, ${at('first_t')} AS first_ts, (min + last) / scale AS last, ${at('last_t')} AS last_ts
    FROM ${catalog}.packed ${numbers}
    UNION ALL SELECT ${rollupNames} FROM ${catalog}.plain ${where('bucket', undefined, between)}) ${where('bucket', pick, undefined)}`
}

export const rollupNames = 'series, bucket, n, sum, m2, min, max, first, first_ts, last, last_ts'

/** Corrections as `SELECT series, bucket, …, gen`: of several of one bucket the highest `gen` counts; one with n = 0 says that there is no row. */
export function correctedOf(catalog: string, pick?: string, between?: Between): string {
  return `SELECT ${rollupNames}, gen FROM ${catalog}.corrected ${where('bucket', pick, between)}`
}

/** The bins of the base rows of a run that is sketched, as `SELECT series, bucket, bin, n, low, high`; hours that begin within `between`. */
export function binsOf(catalog: string, pick?: string, between?: Between): string {
  const step = stepOfKind['1h']
  const numbers = between === undefined ? [] : [`b >= ${Math.ceil(between.fromUs / step)} AND b < ${Math.ceil(between.toUs / step)}`]
  const conditions = [...(pick === undefined ? [] : [`series IN ${pick}`]), ...numbers]
  return `SELECT series, make_timestamp(b * ${step}) AS bucket, bin, n, ${lowAndHigh('v')} FROM ${catalog}.bins
    ${conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`}`
}

/** Of a run that is sketched: its corrections of hours as `SELECT series, bucket, gen, n, bins`. */
export function correctedBinsOf(catalog: string, pick?: string, between?: Between): string {
  return `SELECT series, bucket, gen, n, bins FROM ${catalog}.corrected ${where('bucket', pick, between)}`
}

/** Of the late rows those that count, one for each identity. `late`: a statement of the columns of `lateOf`; seq is unique in a store. */
export function latestOf(late: string): string {
  return `SELECT series, ts, arg_max(v, seq) AS v, arg_max(flags, seq) AS flags, max(seq) AS seq, arg_max({'x': text}, seq).x AS text,
    arg_max({'x': meta}, seq).x AS meta FROM (${late}) GROUP BY series, ts`
}

/** Of the corrections those that count, with all their columns. */
export function latestCorrections(corrected: string): string {
  return `SELECT * FROM (${corrected}) QUALIFY row_number() OVER (PARTITION BY series, bucket ORDER BY gen DESC) = 1`
}

function shapeOf(layout: RawLayout, shape: number): Shape {
  const found = layout.shapes.find((one) => one.shape === shape)
  if (found === undefined) throw new KymoError('store_corrupt', { detail: `A series stands in shape ${shape}, which the file does not have.` })
  return found
}

/** The division gives back the very double that was scaled: both are the nearest one to the same decimal number. */
function valueOf(col: number, scale: number | undefined, alias = ''): string {
  return scale === undefined || scale === unscaled ? `${alias}c${col}` : `${alias}c${col} / ${10 ** scale}::DOUBLE`
}

function timeOf(tickUs: number, phase: string, alias = ''): string {
  return `make_timestamp(${alias}t * ${tickUs} + ${phase})`
}

function flagsOf(bits: string, alias = ''): string {
  return bits === '0' ? `${alias}flags` : `(${alias}flags | ${bits})::UTINYINT`
}

function during(column: string, between: Between): string {
  return `${column} >= ${timestamp(between.fromUs)} AND ${column} < ${timestamp(between.toUs)}`
}

function where(column: string, pick: string | undefined, between: Between | undefined): string {
  const conditions = [...(pick === undefined ? [] : [`series IN ${pick}`]), ...(between === undefined ? [] : [during(column, between)])]
  return conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`
}
