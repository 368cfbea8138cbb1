import type { DuckDBConnection } from '@duckdb/node-api'
import fs from 'node:fs'
import path from 'node:path'
import { fileOf, kinds, quoted, tuning, type Kind, type RollupKind, type Tuning } from './format.ts'
import { kindsOf, type Run, type RunFile } from './manifest.ts'
import { dayUs, overlaps, rangeOf, split, type Partition, type TimeRange } from './partition.ts'
import { publish, removeLeftovers, type Step } from './publish.ts'
import { writeRaw, type RawSource } from './raw-writer.ts'
import { writeRollup, type RollupSource } from './rollup-writer.ts'
import { attachSealed, checkInfo, correctedOf, lateOf, rawLayout, rollupNames, rollupsOf, rowsOf, scansOfMany, textsOf } from './scan.ts'

/** Seals `hot-<hot>.duckdb`: one run for each partition that its rows touch. */
export interface SealJob {
  readonly do: 'seal'
  /** The store's folder, absolute. */
  readonly dir: string
  readonly hot: number
  /** `next` of the manifest. */
  readonly generation: number
  readonly nowUs: number
  /** Partitions of all runs in the manifest: where one overlaps, late rows and corrections stay apart. */
  readonly existing: readonly Partition[]
  readonly tuning?: Tuning
}

/** Merges runs into one of `partition`, within which all of theirs lie. */
export interface MergeJob {
  readonly do: 'merge'
  readonly dir: string
  readonly partition: Partition
  readonly inputs: readonly Run[]
  readonly generation: number
  readonly nowUs: number
  /** `mayFold` of the manifest. */
  readonly fold: boolean
  readonly tuning?: Tuning
}

export type Job = SealJob | MergeJob

/** What is written of one run, and its number of rows in all. */
interface RunPlan {
  readonly job: Job
  readonly partition: Partition
  readonly covers: readonly number[]
  readonly fold: boolean
  readonly series: number
}

interface Source extends Partial<Record<RollupKind, RollupSource>> {
  readonly raw?: RawSource
  /** Rows of each kind, at most. */
  readonly sizes: Readonly<Record<Kind, number>>
}

/** Runs a job on an engine of its own. What an earlier attempt left is removed first, so that it may be run again after any end. */
export async function runJob(c: DuckDBConnection, job: Job, step: Step): Promise<Run[]> {
  return job.do === 'seal' ? seal(c, job, step) : [await merge(c, job, step)]
}

async function seal(c: DuckDBConnection, job: SealJob, step: Step): Promise<Run[]> {
  for (const partition of foldersOf(job.dir)) removeLeftovers(job.dir, partition, job.generation)
  await c.run(`ATTACH ${quoted(path.join(job.dir, `hot-${job.hot}.duckdb`))} AS src (READ_ONLY)`)
  const corrections = new Set(
    (await rowsOf(c, `SELECT table_name FROM duckdb_tables() WHERE database_name = 'src' AND table_name LIKE 'corrected%'`)).map(([name]) =>
      String(name),
    ),
  )
  const tables = ['readings:ts', 'late:ts', 'rollup_1m:bucket', 'rollup_1h:bucket', ...[...corrections].map((name) => `${name}:bucket`)]
  const days = new Set<number>()
  for (const table of tables) {
    const [name, column] = table.split(':')
    for (const [day] of await rowsOf(c, `SELECT DISTINCT (epoch_us(${column}) // ${dayUs})::DOUBLE FROM src.${name}`)) days.add(Number(day) * dayUs)
  }
  const [size] = await rowsOf(c, 'SELECT count(*)::DOUBLE FROM src.series')
  await c.run(`CREATE TEMP TABLE devices AS SELECT id AS series, min(id) OVER (PARTITION BY tenant, device) AS device FROM src.series`)
  const runs: Run[] = []
  for (const partition of split([...days], job.nowUs)) {
    const range = rangeOf(partition)
    const fold = job.existing.every((other) => !overlaps(rangeOf(other), range))
    runs.push(await writeRun(c, { job, partition, covers: [job.hot], fold, series: Number(size?.[0]) }, await hotSource(c, range, corrections), step))
  }
  await c.run('DETACH src')
  return runs
}

/** The rows of the frozen file that are in a range. */
async function hotSource(c: DuckDBConnection, range: TimeRange, corrections: ReadonlySet<string>): Promise<Source> {
  const during = (column: string): string =>
    `${column} >= make_timestamp(${range.fromUs}::BIGINT) AND ${column} < make_timestamp(${range.toUs}::BIGINT)`
  const rollup = (kind: RollupKind): RollupSource => {
    const empty = `SELECT ${rollupNames}, gen FROM src.rollup_${kind} WHERE false`
    const corrected = corrections.has(`corrected_${kind}`) ? `SELECT ${rollupNames}, gen FROM src.corrected_${kind} WHERE ${during('bucket')}` : empty
    return { rows: `SELECT ${rollupNames} FROM src.rollup_${kind} WHERE ${during('bucket')}`, corrected }
  }
  const counted = (table: string, column: string): string => `(SELECT count(*) FROM src.${table} WHERE ${during(column)})`
  const all = (kind: RollupKind): string =>
    [`rollup_${kind}`, `corrected_${kind}`]
      .filter((name) => name.startsWith('rollup') || corrections.has(name))
      .map((name) => counted(name, 'bucket'))
      .join(' + ')
  const [sizes] = await rowsOf(
    c,
    `SELECT (${counted('readings', 'ts')} + ${counted('late', 'ts')})::DOUBLE, (${all('1m')})::DOUBLE, (${all('1h')})::DOUBLE`,
  )
  const [raw = 0, minutes = 0, hours = 0] = (sizes ?? []).map(Number)
  return {
    sizes: { raw, '1m': minutes, '1h': hours },
    raw: {
      base: (pick) => [`SELECT series, ts, v, flags FROM src.readings WHERE ${during('ts')} ${pick === undefined ? '' : `AND series IN ${pick}`}`],
      late: `SELECT series, ts, v, flags, seq, text, meta FROM src.late WHERE ${during('ts')}`,
      texts: `SELECT series, ts, text, meta FROM src.texts WHERE ${during('ts')}`,
      devices: 'SELECT series, device FROM devices',
    },
    '1m': rollup('1m'),
    '1h': rollup('1h'),
  }
}

async function merge(c: DuckDBConnection, job: MergeJob, step: Step): Promise<Run> {
  removeLeftovers(job.dir, job.partition, job.generation)
  const sizes: Record<Kind, number> = { raw: 0, '1m': 0, '1h': 0 }
  const source: { raw?: RawSource; sizes: Record<Kind, number> } & Partial<Record<RollupKind, RollupSource>> = { sizes }
  let series = 0
  for (const kind of kinds) {
    const catalogs: { catalog: string; file: string }[] = []
    for (const [i, run] of job.inputs.entries()) {
      const input = run.files[kind]
      if (input === undefined) continue
      sizes[kind] += input.rows + input.above
      const file = path.join(job.dir, fileOf(run.partition, run.generation, kind))
      const catalog = `in_${kind}_${i}`
      await attachSealed(c, catalog, file)
      await checkInfo(c, catalog, file)
      series = Math.max(series, Number((await rowsOf(c, `SELECT series::DOUBLE FROM ${catalog}.run_info`))[0]?.[0]))
      catalogs.push({ catalog, file })
    }
    if (catalogs.length === 0) continue
    const all = (of: (catalog: string) => string): string => catalogs.map(({ catalog }) => of(catalog)).join('\nUNION ALL\n')
    if (kind === 'raw') {
      const layouts = new Map<string, Awaited<ReturnType<typeof rawLayout>>>()
      for (const { catalog, file } of catalogs) layouts.set(catalog, await rawLayout(c, catalog, file))
      source.raw = {
        base: (pick) => catalogs.flatMap(({ catalog }) => scansOfMany(catalog, layouts.get(catalog)!, pick)),
        late: all((catalog) => lateOf(catalog)),
        texts: all((catalog) => textsOf(catalog)),
        devices: `SELECT series, min(device) AS device FROM (${all((catalog) => `SELECT series, device FROM ${catalog}.columns`)}) GROUP BY series`,
      }
    } else source[kind] = { rows: all((catalog) => rollupsOf(catalog, kind)), corrected: all((catalog) => correctedOf(catalog)) }
  }
  const covers = [...new Set(job.inputs.flatMap((run) => run.covers))].sort((a, b) => a - b)
  return writeRun(c, { job, partition: job.partition, covers, fold: job.fold, series }, source, step)
}

/**
 * Measured: a file of 600 rows takes 110 KB with blocks of 16 KiB and 270 KB with 64 KiB, since each table takes at least one; but such blocks hinder
 * compression (18,000 hours: 94 bytes a row instead of about 60). 64 KiB are as good as the engine's 256 at 26 million readings, and better below.
 */
function blockBytesOf(rows: number): number {
  return rows < 5_000 ? 16_384 : 65_536
}

async function writeRun(c: DuckDBConnection, plan: RunPlan, source: Source, step: Step): Promise<Run> {
  const { job, partition, covers, fold } = plan
  const files: Partial<Record<Kind, RunFile>> = {}
  for (const kind of kinds) {
    if (source.sizes[kind] === 0) continue
    const name = fileOf(partition, job.generation, kind)
    const file = await publish(
      c,
      { dir: job.dir, name, blockBytes: blockBytesOf(source.sizes[kind]), label: `${partition}:${kind}`, step },
      async () => {
        const written =
          kind === 'raw'
            ? source.raw && (await writeRaw(c, source.raw, fold, job.tuning ?? tuning))
            : source[kind] && (await writeRollup(c, kind, source[kind], fold, job.tuning ?? tuning))
        if (written === undefined || written.rows + written.above === 0) return undefined
        const corrected = kind === 'raw' ? 0 : written.above
        await c.run(`INSERT INTO out.run_info SELECT 1, '${kind}', '${partition}', ${job.generation}, [${covers.join(',')}]::UBIGINT[], ${fold},
        make_timestamp(${job.nowUs}::BIGINT), ${plan.series}, ${written.rows}, ${written.above - corrected}, ${written.texts}, ${corrected}`)
        return written
      },
    )
    if (file !== undefined) files[kind] = file
  }
  return { partition, generation: job.generation, covers, files }
}

function foldersOf(dir: string): string[] {
  const folder = path.join(dir, 'sealed')
  if (!fs.existsSync(folder)) return []
  return fs
    .readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
}

/** Whether a run has anything: a merge whose corrections all say "no row" leaves none. */
export function isEmptyRun(run: Run): boolean {
  return kindsOf(run).length === 0
}
