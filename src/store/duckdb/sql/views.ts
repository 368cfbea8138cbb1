import { quotedString } from '@duckdb/node-api'
import type { SqlView } from '../../../core/sql.ts'
import { hot } from '../schema.ts'
import type { RollupSources, RowSources } from '../source-types.ts'
import { bucketOf, rollupOfRows, stepOf, type Level } from '../sql.ts'

/** Temporary tables of a query's connection; user SQL cannot name them. */
export const devicesTable = 'kymo_devices'
/** For each series of the tenant: where its rollup rows begin and end. */
export const boundsTable = 'kymo_bounds'

/** What the views are made for. */
export interface ViewScope {
  readonly tenant: string
  readonly rows: RowSources
  /** When a view of rollups is made. */
  readonly rollups: RollupSources | undefined
  /** Columns that nobody asks for are NULL, and what they would cost is saved. */
  readonly texts: boolean
  readonly devices: boolean
  /** Other tenants have rows in the same tables. */
  readonly shared: boolean
}

const rollupColumns = 'series, bucket, n, sum, m2, min, max, first, last'
const all = (statements: readonly string[]): string => `(${statements.join(' UNION ALL ')})`

/**
 * The one place that puts rows together: columns series, ts, v, flags (and text, meta), each identity once. Of rows with one identity the
 * late one with the highest `seq` counts, before those of `readings` (docs/format/store.md).
 */
function rowsSource(sources: RowSources, texts: boolean): string {
  const late = `(SELECT l.series, l.ts FROM ${all(sources.late)} l)`
  const inOrder = `${all(sources.base)} r ANTI JOIN ${late} l ON l.series = r.series AND l.ts = r.ts`
  const latest = (columns: string): string => `SELECT l.series, l.ts, ${columns} FROM ${all(sources.late)} l GROUP BY l.series, l.ts`
  if (!texts) {
    return `SELECT r.series, r.ts, r.v, r.flags FROM ${inOrder}
      UNION ALL ${latest('arg_max(l.v, l.seq), arg_max(l.flags, l.seq)')}`
  }
  return `SELECT r.series, r.ts, r.v, r.flags, x.text, x.meta FROM ${inOrder}
      LEFT JOIN ${all(sources.texts)} x ON x.series = r.series AND x.ts = r.ts
    UNION ALL SELECT series, ts, x.v, x.flags, x.text, x.meta FROM (${latest(
      "arg_max({'v': l.v, 'flags': l.flags, 'text': l.text, 'meta': l.meta}, l.seq) AS x",
    )})`
}

/** Rollup rows with the corrections in their place. */
function rollupsSource(sources: RollupSources): string {
  const one = rollupColumns.split(', ').slice(2)
  const corrected = all(sources.corrected)
  return `SELECT ${rollupColumns.replaceAll(/\b(\w+)\b/g, 'o.$1')} FROM ${all(sources.rows)} o
      ANTI JOIN (SELECT series, bucket FROM ${corrected}) c ON c.series = o.series AND c.bucket = o.bucket
    UNION ALL SELECT series, bucket, ${one.map((name) => `x.${name}`).join(', ')} FROM (
      SELECT c.series, c.bucket, arg_max({${one.map((name) => `'${name}': c.${name}`).join(', ')}}, c.gen) AS x FROM ${corrected} c GROUP BY c.series, c.bucket)
    WHERE x.n > 0`
}

function seriesOf(scope: ViewScope): string {
  return `(SELECT id, device, metric FROM ${hot}.series WHERE tenant = ${quotedString(scope.tenant)})`
}

function readings(scope: ViewScope): string {
  const words = scope.texts
    ? 'r.text AS text, r.flags AS flags, r.meta AS metadata'
    : 'NULL::VARCHAR AS text, r.flags AS flags, NULL::VARCHAR AS metadata'
  return `SELECT r.ts AS time, s.device AS device, s.metric AS metric, nullif(r.v, 'nan'::DOUBLE) AS value, ${words}
    FROM (${rowsSource(scope.rows, scope.texts)}) r JOIN ${seriesOf(scope)} s ON s.id = r.series`
}

/** One row for each message: what a device says at one time. */
function deviceTelemetry(scope: ViewScope): string {
  const metric = (name: string): string => `nullif(max(CASE WHEN s.metric = '${name}' THEN r.v END), 'nan'::DOUBLE) AS ${name}`
  const messages = `SELECT r.ts AS time, s.device AS device_id, ${metric('temperature')}, ${metric('humidity')}, ${metric('battery')}
    FROM (${rowsSource(scope.rows, false)}) r
    JOIN (SELECT * FROM ${seriesOf(scope)} WHERE metric IN ('temperature', 'humidity', 'battery')) s ON s.id = r.series GROUP BY r.ts, s.device`
  if (!scope.devices) return `SELECT *, NULL::VARCHAR AS firmware FROM (${messages})`
  return `SELECT m.*, d.firmware FROM (${messages}) m LEFT JOIN ${devicesTable} d ON d.device = m.device_id`
}

/** Rollup rows where there are any, and the rest worked out from rows, so that the newest bucket is there as well. */
function rollups(scope: ViewScope, level: Level): string {
  const columns = 'n, sum, m2, min, max, first, last'
  const open = `r.ts >= b.${level}_to${level === 'minute' ? ' OR r.ts < b.minute_from' : ''}`
  const kept = level === 'minute' ? ` JOIN ${boundsTable} b ON b.series = k.series WHERE k.bucket >= b.minute_from AND k.bucket < b.minute_to` : ''
  return `SELECT g.bucket AS time, s.device AS device, s.metric AS metric, g.n::BIGINT AS n, g.sum AS sum, g.sum / g.n AS mean, g.min AS min, g.max AS max,
      g.first AS first, g.last AS last, CASE WHEN g.n > 1 THEN sqrt(greatest(g.m2, 0) / (g.n - 1)) END AS stddev
    FROM (SELECT k.series, k.bucket, ${columns.replaceAll(/\b(\w+)\b/g, 'k.$1')} FROM (${rollupsSource(scope.rollups ?? { rows: [], corrected: [] })}) k${kept}
      UNION ALL
      SELECT series, bucket, ${columns} FROM (
        SELECT r.series, make_timestamp(${bucketOf(stepOf[level], 'r.ts')}) AS bucket, ${rollupOfRows.replaceAll(/\b(v|ts)\b/g, 'r.$1')}
        FROM (${rowsSource(scope.rows, false)}) r JOIN ${boundsTable} b ON b.series = r.series AND (${open})
        WHERE NOT isnan(r.v) GROUP BY 1, 2)) g
    JOIN ${seriesOf(scope)} s ON s.id = g.series`
}

function devices(): string {
  return `SELECT device, name, type, status, firmware, location, attributes, created, last_seen FROM ${devicesTable}`
}

/** The SQL of a view; docs/reference/sql.md describes its columns. */
export function viewSql(view: SqlView, scope: ViewScope): string {
  const sql = bareView(view, scope)
  // Conditions of the user would be evaluated where rows are read, before those of others are left out, and an error would tell what they
  // hold. No condition is moved below a LIMIT.
  return scope.shared && view !== 'devices' ? `SELECT * FROM (${sql}) LIMIT ${everything}` : sql
}

const everything = '9000000000000000000'

function bareView(view: SqlView, scope: ViewScope): string {
  switch (view) {
    case 'readings':
      return readings(scope)
    case 'device_telemetry':
      return deviceTelemetry(scope)
    case 'readings_1m':
      return rollups(scope, 'minute')
    case 'readings_1h':
      return rollups(scope, 'hour')
    case 'devices':
      return devices()
  }
}
