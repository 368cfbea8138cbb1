import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createTables } from '../../src/store/duckdb/schema.ts'
import { Attachments } from '../../src/store/duckdb/sealed/attachments.ts'
import { quoted, type RollupKind } from '../../src/store/duckdb/sealed/format.ts'
import type { Manifest } from '../../src/store/duckdb/sealed/manifest.ts'
import { latestCorrections, latestOf, rollupNames } from '../../src/store/duckdb/sealed/scan.ts'
import { filesFor, SealedSources } from '../../src/store/duckdb/sealed/sources.ts'

export interface HotRow {
  readonly series: number
  readonly ts: number
  readonly v: number
  readonly flags: number
  /** Of late rows. */
  readonly seq?: number
  readonly text?: string | undefined
  readonly meta?: string | undefined
}

export interface HotRollup {
  readonly series: number
  readonly bucket: number
  readonly n: number
  /** sum, m2, min, max, first, last. */
  readonly numbers: readonly number[]
  readonly first: number
  readonly last: number
  readonly gen: number
}

export interface HotContent {
  /** Number of series; three of a device. */
  readonly series: number
  readonly readings: readonly HotRow[]
  readonly late: readonly HotRow[]
  readonly rollups: Readonly<Record<RollupKind, readonly HotRollup[]>>
  readonly corrected: Readonly<Record<RollupKind, readonly HotRollup[]>>
}

export const noRollups = { '1m': [], '1h': [] } as const

export function makeDir(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-sealed-'))
}

export async function engine(): Promise<{ connection: DuckDBConnection; connect: () => Promise<DuckDBConnection>; close: () => void }> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1', memory_limit: '512MB', checkpoint_threshold: '1TB' })
  const connection = await instance.connect()
  await connection.run(`SET GLOBAL TimeZone = 'UTC'`).catch(() => undefined)
  return { connection, connect: () => instance.connect(), close: () => instance.closeSync() }
}

/** From text: a decimal literal would be rounded twice. */
const number = (v: number): string => `'${v}'::DOUBLE`
const words = (text: string | undefined): string => (text === undefined ? 'NULL' : quoted(text))
const at = (us: number): string => `make_timestamp(${us}::BIGINT)`

async function insert(c: DuckDBConnection, table: string, rows: readonly string[]): Promise<void> {
  for (let i = 0; i < rows.length; i += 500) await c.run(`INSERT INTO hot.${table} VALUES ${rows.slice(i, i + 500).join(',')}`)
}

/** Writes `hot-<n>.duckdb` as a store that was rotated leaves it. */
export async function writeHot(dir: string, hot: number, content: HotContent): Promise<void> {
  const { connection: c, close } = await engine()
  await c.run(`ATTACH ${quoted(path.join(dir, `hot-${hot}.duckdb`))} AS hot`)
  await c.run(createTables)
  const ids = Array.from({ length: content.series }, (_, id) => `(${id}, 'default', 'd${Math.floor(id / 3)}', 'm${id % 3}')`)
  await insert(c, 'series', ids)
  const row = (r: HotRow): string => `${r.series}, ${at(r.ts)}, ${number(r.v)}, ${r.flags}`
  await insert(
    c,
    'readings',
    content.readings.map((r) => `(${row(r)})`),
  )
  const worded = content.readings.filter((r) => r.text !== undefined || r.meta !== undefined)
  await insert(
    c,
    'texts',
    worded.map((r) => `(${r.series}, ${at(r.ts)}, ${words(r.text)}, ${words(r.meta)})`),
  )
  await insert(
    c,
    'late',
    content.late.map((r) => `(${row(r)}, ${r.seq}, ${words(r.text)}, ${words(r.meta)})`),
  )
  for (const kind of ['1m', '1h'] as const) {
    const rollup = ({ series, bucket, n, numbers, first, last, gen }: HotRollup): string => {
      const [sum, m2, min, max, firstValue, lastValue] = numbers.map(number)
      return `(${series}, ${at(bucket)}, ${n}, ${sum}, ${m2}, ${min}, ${max}, ${firstValue}, ${at(first)}, ${lastValue}, ${at(last)}, ${gen})`
    }
    await insert(c, `rollup_${kind}`, content.rollups[kind].map(rollup))
    await c.run(`CREATE TABLE IF NOT EXISTS hot.corrected_${kind} AS FROM hot.rollup_${kind} WHERE false`)
    const unknown = kind === '1h' ? ', NULL)' : ')' // No bins: the numbers are not those of any readings.
    const corrected = content.corrected[kind].map((row) => rollup(row).slice(0, -1) + unknown)
    await insert(c, `corrected_${kind}`, corrected)
  }
  await c.run('CHECKPOINT hot')
  await c.run('DETACH hot')
  c.closeSync()
  close()
}

/** An engine that is locked as the store's is, and its attachments. */
export async function reader(dir: string, max?: number): Promise<{ connection: DuckDBConnection; attachments: Attachments; close: () => void }> {
  const { connection, connect, close } = await engine()
  await connection.run(`SET allowed_directories = [${quoted(dir)}]`)
  await connection.run('SET enable_external_access = false')
  await connection.run('SET lock_configuration = true')
  return { connection, attachments: new Attachments(await connect(), dir, max), close }
}

/** The sign of a zero is not kept. */
const shown = (v: unknown): string => String(v)

/** Base rows with the late ones in their place: `SELECT series, ts, v, flags`. All late rows of the range must be in `late`. */
function mergedRows(base: readonly string[], late: readonly string[]): string {
  const rows =
    base.length === 0
      ? 'SELECT NULL::UINTEGER AS series, NULL::TIMESTAMP AS ts, NULL::DOUBLE AS v, NULL::UTINYINT AS flags WHERE false'
      : base.join('\nUNION ALL\n')
  if (late.length === 0) return rows
  return `WITH l AS MATERIALIZED (${latestOf(late.join('\nUNION ALL\n'))})
    SELECT series, ts, v, flags FROM (${rows}) ANTI JOIN l USING (series, ts) UNION ALL SELECT series, ts, v, flags FROM l`
}

/** Rollup rows with the corrections in their place. */
function mergedRollups(rows: readonly string[], corrected: readonly string[]): string {
  if (corrected.length === 0) return rows.join('\nUNION ALL\n')
  return `WITH k AS MATERIALIZED (${latestCorrections(corrected.join('\nUNION ALL\n'))})
    SELECT ${rollupNames} FROM (${rows.join('\nUNION ALL\n')}) ANTI JOIN k USING (series, bucket) UNION ALL SELECT ${rollupNames} FROM k WHERE n > 0`
}

/** All rows of these series and times as sealed files have them, late ones merged: `series ts v flags text meta`, sorted. */
export async function readRows(
  from: { readonly connection: DuckDBConnection; readonly attachments: Attachments },
  manifest: Manifest,
  ids: readonly number[],
  fromUs: number,
  toUs: number,
): Promise<string[]> {
  const between = { fromUs, toUs }
  const lease = await from.attachments.acquire(filesFor(manifest, [{ kind: 'raw', ...between }]))
  try {
    const { base, late, texts } = (await SealedSources.of(manifest, lease.files, ids)).rows(ids, between)
    const none = 'SELECT NULL::UINTEGER AS series, NULL::TIMESTAMP AS ts, NULL::VARCHAR AS text, NULL::VARCHAR AS meta WHERE false'
    const worded = texts.length === 0 ? none : texts.join(' UNION ALL ')
    const latest = late.length === 0 ? `SELECT *, 0 AS seq FROM (${none})` : latestOf(late.join(' UNION ALL '))
    const sql = `WITH merged AS (${mergedRows(base, late)}), latest AS (${latest})
      SELECT series, epoch_us(ts)::DOUBLE, v, flags, CASE WHEN l.seq IS NULL THEN t.text ELSE l.text END, CASE WHEN l.seq IS NULL THEN t.meta ELSE l.meta END
      FROM merged LEFT JOIN (SELECT series, ts, seq, text, meta FROM latest) l USING (series, ts) LEFT JOIN (${worded}) t USING (series, ts)`
    const rows = await (await from.connection.run(sql)).getRowsJS()
    return rows.map((row) => row.map(shown).join(' ')).sort()
  } finally {
    lease.release()
  }
}

/** All rollup rows of these series, corrections in their place, sorted. */
export async function readRollups(
  from: { readonly connection: DuckDBConnection; readonly attachments: Attachments },
  manifest: Manifest,
  kind: RollupKind,
  ids: readonly number[],
  fromUs: number,
  toUs: number,
): Promise<string[]> {
  const between = { fromUs, toUs }
  const lease = await from.attachments.acquire(filesFor(manifest, [{ kind, ...between }]))
  try {
    const { rows, corrected } = (await SealedSources.of(manifest, lease.files, ids)).rollups(kind === '1m' ? 'minute' : 'hour', ids, between)
    const none = `SELECT 0::UINTEGER AS series, NULL::TIMESTAMP AS bucket, ${rollupNames
      .split(', ')
      .slice(2)
      .map((name) => `NULL::${name.endsWith('_ts') ? 'TIMESTAMP' : 'DOUBLE'} AS ${name}`)
      .join(', ')} WHERE false`
    const sql = `SELECT series, epoch_us(bucket)::DOUBLE, n, sum, m2, min, max, first, last, epoch_us(first_ts)::DOUBLE, epoch_us(last_ts)::DOUBLE
      FROM (${mergedRollups(rows.length === 0 ? [none] : rows, corrected)})`
    return (await (await from.connection.run(sql)).getRowsJS()).map((row) => row.map(shown).join(' ')).sort()
  } finally {
    lease.release()
  }
}

/** As `readRows` and `readRollups` show them. */
export function shownRow(r: HotRow): string {
  return [r.series, r.ts, r.v, r.flags, r.text ?? null, r.meta ?? null].map(shown).join(' ')
}

export function shownRollup(r: HotRollup): string {
  return [r.series, r.bucket, r.n, ...r.numbers, r.first, r.last].map(shown).join(' ')
}
