import { KymoError } from '../../core/errors.ts'
import { binList } from './bins-sql.ts'

/** Written into each file; a file with a higher number is refused. docs/format/store.md describes number 4. */
export const storeFormat = 4

/** The catalog name under which the file being written is attached. */
export const hot = 'hot'
/** The engine's own; of a file that is there it must be the one that it was made with. */
export const hotBlockBytes = 262_144

/** Of each width: its rollup rows, and those that count instead of them. */
export const tableNames = {
  minute: { rollup: 'rollup_1m', corrected: 'corrected_1m' },
  hour: { rollup: 'rollup_1h', corrected: 'corrected_1h' },
} as const

/** Rows that count instead of those of `rollupTables` for the same bucket; n = 0: the bucket has no numbers any more. */
export const correctedTables = { minute: `${hot}.corrected_1m`, hour: `${hot}.corrected_1h` } as const
export const rollupTables = { minute: `${hot}.rollup_1m`, hour: `${hot}.rollup_1h` } as const

const rollupColumns = `(series UINTEGER NOT NULL, bucket TIMESTAMP NOT NULL, n UINTEGER NOT NULL, sum DOUBLE NOT NULL, m2 DOUBLE NOT NULL,
  min DOUBLE NOT NULL, max DOUBLE NOT NULL, first DOUBLE NOT NULL, first_ts TIMESTAMP NOT NULL, last DOUBLE NOT NULL, last_ts TIMESTAMP NOT NULL,
  gen UBIGINT NOT NULL)`

const since2 = `CREATE TABLE ${hot}.minutes_kept (series UINTEGER NOT NULL, since TIMESTAMP NOT NULL);
CREATE TABLE ${correctedTables.minute} ${rollupColumns};
CREATE TABLE ${correctedTables.hour} ${rollupColumns};`
const since3 = `CREATE TABLE ${hot}.erased (series UINTEGER NOT NULL, erasure VARCHAR NOT NULL, hot UBIGINT NOT NULL);`
/** Of a correction that was written before, the bins are not known (NULL). */
const since4 = `ALTER TABLE ${correctedTables.hour} ADD COLUMN bins ${binList};`

/** No key and no index anywhere: they cost several times the disk and the CPU of the rows (ARCHITECTURE.md, section 4). */
export const createTables = `
CREATE TABLE ${hot}.store_info (format UINTEGER NOT NULL, id VARCHAR NOT NULL, created TIMESTAMP NOT NULL);
CREATE TABLE ${hot}.series (id UINTEGER NOT NULL, tenant VARCHAR NOT NULL, device VARCHAR NOT NULL, metric VARCHAR NOT NULL);
CREATE TABLE ${hot}.readings (series UINTEGER NOT NULL, ts TIMESTAMP NOT NULL, v DOUBLE NOT NULL, flags UTINYINT NOT NULL);
CREATE TABLE ${hot}.texts (series UINTEGER NOT NULL, ts TIMESTAMP NOT NULL, text VARCHAR, meta VARCHAR);
CREATE TABLE ${hot}.late (series UINTEGER NOT NULL, ts TIMESTAMP NOT NULL, v DOUBLE NOT NULL, flags UTINYINT NOT NULL, seq UBIGINT NOT NULL,
  text VARCHAR, meta VARCHAR);
CREATE TABLE ${rollupTables.minute} ${rollupColumns};
CREATE TABLE ${rollupTables.hour} ${rollupColumns};
CREATE TABLE ${hot}.pending (series UINTEGER NOT NULL, bucket TIMESTAMP NOT NULL, step UBIGINT NOT NULL);
${since2}
${since3}
${since4}
CREATE TABLE ${hot}.spans (log VARCHAR NOT NULL, topic VARCHAR NOT NULL, part UINTEGER NOT NULL, next UBIGINT NOT NULL, gen UBIGINT NOT NULL);
CREATE TABLE ${hot}.states (log VARCHAR NOT NULL, topic VARCHAR NOT NULL, part UINTEGER NOT NULL, operator VARCHAR NOT NULL,
  seen UBIGINT NOT NULL, bytes BLOB NOT NULL);
CREATE TABLE ${hot}.series_state (gen UBIGINT NOT NULL, readings UBIGINT NOT NULL, texts UBIGINT NOT NULL, seq UBIGINT NOT NULL, bytes BLOB NOT NULL);
`

/** What a new hot file takes over from the one before it and may take over early, as little of it changes: of a second time what has come since. */
export function takeOver(to: string): string {
  return `INSERT INTO ${to}.series SELECT * FROM ${hot}.series WHERE id >= (SELECT count(*) FROM ${to}.series) ORDER BY id`
}

/** The rest, but for the state of the series. */
export function takeOverAtLast(to: string, createdUs: number): string {
  return `DELETE FROM ${to}.store_info; DELETE FROM ${to}.spans; DELETE FROM ${to}.erased; DELETE FROM ${to}.series_state;
INSERT INTO ${to}.store_info SELECT format, id, make_timestamp(${createdUs}::BIGINT) FROM ${hot}.store_info;
INSERT INTO ${to}.spans SELECT * FROM ${hot}.spans;
INSERT INTO ${to}.erased SELECT * FROM ${hot}.erased;`
}

/** What brings a file of an earlier format to the next one; the state of the series says its own width (series-state.ts). */
export const upgrades: Readonly<Record<number, string>> = { 1: since2, 2: since3, 3: since4 }

/** True: the file is of an earlier format, and `upgrades` bring it here. */
export function isEarlier(found: number, file: string): boolean {
  if (found === storeFormat) return false
  if (found < storeFormat && upgrades[found] !== undefined) return true
  throw new KymoError('store_format', {
    detail: `${file} is of store format ${found}; this version of Kymo knows ${storeFormat}.`,
    facts: { file, found, known: storeFormat },
  })
}
