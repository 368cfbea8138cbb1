import { KymoError } from '../../core/errors.ts'

/** Written into each file; a file with a higher number is refused. docs/format/store.md describes number 1. */
export const storeFormat = 1

/** The catalog name under which the file being written is attached. */
export const hot = 'hot'

export const rollupTables = { minute: `${hot}.rollup_1m`, hour: `${hot}.rollup_1h` } as const

const rollupColumns = `(series UINTEGER NOT NULL, bucket TIMESTAMP NOT NULL, n UINTEGER NOT NULL, sum DOUBLE NOT NULL, m2 DOUBLE NOT NULL,
  min DOUBLE NOT NULL, max DOUBLE NOT NULL, first DOUBLE NOT NULL, first_ts TIMESTAMP NOT NULL, last DOUBLE NOT NULL, last_ts TIMESTAMP NOT NULL,
  gen UBIGINT NOT NULL)`

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
CREATE TABLE ${hot}.spans (log VARCHAR NOT NULL, topic VARCHAR NOT NULL, part UINTEGER NOT NULL, next UBIGINT NOT NULL, gen UBIGINT NOT NULL);
CREATE TABLE ${hot}.states (log VARCHAR NOT NULL, topic VARCHAR NOT NULL, part UINTEGER NOT NULL, operator VARCHAR NOT NULL,
  seen UBIGINT NOT NULL, bytes BLOB NOT NULL);
CREATE TABLE ${hot}.series_state (gen UBIGINT NOT NULL, readings UBIGINT NOT NULL, texts UBIGINT NOT NULL, seq UBIGINT NOT NULL, bytes BLOB NOT NULL);
`

export function checkFormat(found: number, file: string): void {
  if (found === storeFormat) return
  throw new KymoError('store_format', {
    detail: `${file} is of store format ${found}; this version of Kymo knows ${storeFormat}.`,
    facts: { file, found, known: storeFormat },
  })
}
