import path from 'node:path'
import { KymoError } from '../../../core/errors.ts'
import { binList } from '../bins-sql.ts'
import type { Partition } from './partition.ts'

/** Of the files and of the manifest; docs/format/sealed.md describes number 1. A file with another number is refused. */
export const sealedFormat = 1

/** The files of a run: retention removes one kind and keeps the others. */
export const kinds = ['raw', '1m', '1h'] as const
export type Kind = (typeof kinds)[number]
export const stepOfKind = { '1m': 60e6, '1h': 3600e6 } as const
export type RollupKind = keyof typeof stepOfKind

export const sealedFolder = 'sealed'

/** Path of a run's file from the store's folder. */
export function fileOf(partition: Partition, generation: number, kind: Kind): string {
  return path.join(sealedFolder, partition, `${generation}-${kind}.duckdb`)
}

/** In `columns`: the series stands in `narrow`. */
export const narrowShape = 4_294_967_295
/** In `shapes.scales`: the column holds the values themselves, as DOUBLE. */
export const unscaled = 255

/**
 * Lengths of a tick, each a multiple of the one before: the times of a row are stored as whole ticks from a phase, so that regular clocks
 * cost next to nothing and milliseconds are not stored as thousands of microseconds.
 */
export const ticksUs = [1, 1e3, 1e6, 1e7, 6e7, 3e8, 9e8, 3.6e9] as const
/** Decimals that are tried: a value that is exactly i / 10^d is stored as the integer i, which packs better than the double. */
export const decimals = [0, 1, 2, 3, 4] as const

export interface Tuning {
  /** Tables of one raw file beside `narrow`; each is looked at by a query over many series. */
  readonly shapesMax: number
  /** A table costs a block even when it is nearly empty: smaller shapes stand in `narrow`. */
  readonly shapeReadingsMin: number
  /** Readings that are pivoted at a time, and twice the rollup rows that are sorted at a time: a million take about 60 MB. */
  readonly passReadings: number
}
export const tuning: Tuning = { shapesMax: 128, shapeReadingsMin: 20_000, passReadings: 1_000_000 }
/** Columns of a shape; a device with more metrics of one clock takes several. */
export const shapeColumnsMax = 64

const rollupColumns = `series UINTEGER NOT NULL, bucket TIMESTAMP NOT NULL, n UINTEGER NOT NULL, sum DOUBLE NOT NULL, m2 DOUBLE NOT NULL,
  min DOUBLE NOT NULL, max DOUBLE NOT NULL, first DOUBLE NOT NULL, first_ts TIMESTAMP NOT NULL, last DOUBLE NOT NULL, last_ts TIMESTAMP NOT NULL`
const runInfo = `(format UINTEGER NOT NULL, kind VARCHAR NOT NULL, partition VARCHAR NOT NULL, generation UBIGINT NOT NULL, covers UBIGINT[] NOT NULL,
  folded BOOLEAN NOT NULL, created TIMESTAMP NOT NULL, series UBIGINT NOT NULL, "rows" UBIGINT NOT NULL, late UBIGINT NOT NULL, texts UBIGINT NOT NULL,
  corrected UBIGINT NOT NULL)`

export function createRaw(catalog: string): string {
  return `CREATE TABLE ${catalog}.run_info ${runInfo};
CREATE TABLE ${catalog}.shapes (shape UINTEGER NOT NULL, tick BIGINT NOT NULL, scales UTINYINT[] NOT NULL);
CREATE TABLE ${catalog}.columns (series UINTEGER NOT NULL, shape UINTEGER NOT NULL, device UINTEGER NOT NULL, grp UINTEGER NOT NULL, col UTINYINT NOT NULL,
  bits UTINYINT NOT NULL, phase BIGINT NOT NULL, "rows" UBIGINT NOT NULL, first TIMESTAMP NOT NULL, last TIMESTAMP NOT NULL);
CREATE TABLE ${catalog}.narrow (series UINTEGER NOT NULL, ts TIMESTAMP NOT NULL, v DOUBLE NOT NULL, flags UTINYINT NOT NULL);
CREATE TABLE ${catalog}.texts (series UINTEGER NOT NULL, ts TIMESTAMP NOT NULL, text VARCHAR, meta VARCHAR);
CREATE TABLE ${catalog}.late (series UINTEGER NOT NULL, ts TIMESTAMP NOT NULL, v DOUBLE NOT NULL, flags UTINYINT NOT NULL, seq UBIGINT NOT NULL,
  text VARCHAR, meta VARCHAR);`
}

/** Those of hours hold the sketches as well. */
export function createRollup(catalog: string, kind: RollupKind): string {
  const hours = `CREATE TABLE ${catalog}.bins (series UINTEGER NOT NULL, b BIGINT NOT NULL, bin INTEGER NOT NULL, n UBIGINT NOT NULL, v DOUBLE);
ALTER TABLE ${catalog}.corrected ADD COLUMN bins ${binList};`
  return `CREATE TABLE ${catalog}.run_info ${runInfo};
CREATE TABLE ${catalog}.packed (series UINTEGER NOT NULL, b BIGINT NOT NULL, n UINTEGER NOT NULL, scale DOUBLE NOT NULL, ulps DOUBLE NOT NULL,
  tick BIGINT NOT NULL, min BIGINT NOT NULL, span BIGINT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, sum BIGINT NOT NULL, rest BIGINT NOT NULL,
  m2 DOUBLE NOT NULL, first_t BIGINT NOT NULL, last_t BIGINT NOT NULL);
CREATE TABLE ${catalog}.plain (${rollupColumns});
CREATE TABLE ${catalog}.corrected (${rollupColumns}, gen UBIGINT NOT NULL);
${kind === '1h' ? hours : ''}`
}

export function checkSealedFormat(found: number, file: string): void {
  if (found === sealedFormat) return
  throw new KymoError('store_format', {
    detail: `${file} is of sealed format ${found}; this version of Kymo knows ${sealedFormat}.`,
    facts: { file, found, known: sealedFormat },
  })
}

/** A path as a literal of a statement. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}
