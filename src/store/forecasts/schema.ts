import fs from 'node:fs'
import type { SeriesKey } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import type { SqliteKind } from '../sqlite/file.ts'

/** The file of docs/format/forecasts.md. */
export const forecastsFile: SqliteKind = {
  noun: 'forecasts file',
  // 'KYMF'
  applicationId: 0x4b594d46,
  format: 1,
  corrupt: 'forecasts_corrupt',
  schema: `
  CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    place BLOB NOT NULL,
    device TEXT NOT NULL,
    metric TEXT NOT NULL,
    span INTEGER NOT NULL,
    versions INTEGER NOT NULL,
    UNIQUE (tenant, place)
  ) STRICT;
  CREATE INDEX series_device ON series (tenant, device);
  CREATE TABLE issue (
    series INTEGER NOT NULL,
    issue INTEGER NOT NULL,
    version INTEGER NOT NULL,
    part INTEGER NOT NULL,
    step INTEGER NOT NULL,
    count INTEGER NOT NULL,
    gone INTEGER NOT NULL,
    level REAL NOT NULL,
    numbers BLOB NOT NULL,
    PRIMARY KEY (series, issue, version, part)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE monitor (
    series INTEGER NOT NULL,
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (series, version)
  ) STRICT;
  CREATE TABLE model (
    series INTEGER NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    card TEXT NOT NULL,
    PRIMARY KEY (series, version)
  ) STRICT;
  CREATE UNIQUE INDEX model_champion ON model (series) WHERE state = 'champion';
  CREATE TABLE file (
    series INTEGER NOT NULL,
    version INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (series, version)
  ) STRICT;
  CREATE TABLE total (predictions INTEGER NOT NULL) STRICT;
  INSERT INTO total VALUES (0);
`,
}

/**
 * Looks at the header of a file that is there, without opening it: a start shall not meet a newer or foreign one hours later. Throws `store_format`
 * or `forecasts_corrupt`.
 */
export function checkForecastsHeader(path: string): void {
  const header = Buffer.alloc(100)
  const fd = fs.openSync(path, 'r')
  let read: number
  try {
    read = fs.readSync(fd, header)
  } finally {
    fs.closeSync(fd)
  }
  // Made, and not filled before the process was killed.
  if (read === 0) return
  // SQLite, "Database File Format", 1.3.
  const [format, owner] = [header.readInt32BE(60), header.readInt32BE(68)]
  const known = forecastsFile.format
  if (read < header.length || header.toString('latin1', 0, 16) !== 'SQLite format 3\0' || (owner !== forecastsFile.applicationId && owner !== 0))
    throw new KymoError('forecasts_corrupt', { detail: `${path} is no file of forecasts.`, facts: { file: path } })
  if (format > known)
    throw new KymoError('store_format', {
      detail: `${path} has format ${format}; this version of Kymo knows format ${known}.`,
      facts: { file: path, found: format, known },
    })
}

/** Device and metric in UTF-16, big-endian: the bytes sort as the units do. No name has the unit 0 (wire/payload/names.ts). */
export function placeOf(device: string, metric: string): Buffer {
  return Buffer.from(`${device}\0${metric}`, 'utf16le').swap16()
}

/** `next` of a page that ends with this series. */
export function pageEnd({ device, metric }: Pick<SeriesKey, 'device' | 'metric'>): string {
  return placeOf(device, metric).toString('base64url')
}

/** The place that a page begins after. */
export function pageStart(after = ''): Buffer {
  return Buffer.from(after, 'base64url')
}
