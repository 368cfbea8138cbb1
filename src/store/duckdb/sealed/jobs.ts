import type { DuckDBConnection } from '@duckdb/node-api'
import fs from 'node:fs'
import path from 'node:path'
import { binList, binOf, lowAndHigh } from '../bins-sql.ts'
import { fileOf, kinds, quoted, stepOfKind, tuning, type Kind, type RollupKind, type Tuning } from './format.ts'
import { droppedOf, holdsDropped, leaveOut, type Drop } from './drop.ts'
import { syncFolder } from './manifest-file.ts'
import { kindsOf, type Run, type RunFile } from './manifest.ts'
import { dayUs, overlaps, rangeOf, split, type Partition } from './partition.ts'
import { publish, removeLeftovers, syncFile, type Step } from './publish.ts'
import { writeRaw, type RawSource } from './raw-writer.ts'
import { writeRollup, type BinSource, type RollupSource } from './rollup-writer.ts'
import {
  attachSealed,
  checkInfo,
  correctedOf,
  lateOf,
  latestOf,
  rawLayout,
  rollupNames,
  rollupsOf,
  rowsOf,
  scansOfMany,
  textsOf,
  type RawLayout,
} from './scan.ts'

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
  /** What is not written. */
  readonly drop?: readonly Drop[]
  readonly tuning?: Tuning
}

/** Merges runs into one of `partition`, within which all of theirs lie. A single one is written again, but for files that have nothing to drop. */
export interface MergeJob {
  readonly do: 'merge'
  readonly dir: string
  readonly partition: Partition
  readonly inputs: readonly Run[]
  readonly generation: number
  readonly nowUs: number
  /** `mayFold` of the manifest. */
  readonly fold: boolean
  readonly drop?: readonly Drop[]
  readonly tuning?: Tuning
}

/** Finds the runs that have rows which are to be dropped; writes nothing. */
export interface FindJob {
  readonly do: 'find'
  readonly dir: string
  readonly inputs: readonly Run[]
  readonly drop: readonly Drop[]
}

export type Job = SealJob | MergeJob | FindJob
type WriteJob = SealJob | MergeJob

/** What is written of one run, and its number of rows in all. */
interface RunPlan {
  readonly job: WriteJob
  readonly partition: Partition
  readonly covers: readonly number[]
  readonly fold: boolean
  readonly series: number
  /** Of all that goes in, the bins are known. */
  readonly sketched: boolean
}

interface Source extends Partial<Record<RollupKind, RollupSource>> {
  readonly raw?: RawSource
  /** Rows of each kind, about; 0 says that there are none. */
  readonly sizes: Readonly<Record<Kind, number>>
}

/** Runs a job on an engine of its own; returns the runs that it wrote, or found. What an earlier attempt left is removed first, so that it may be run again after any end. */
export async function runJob(c: DuckDBConnection, job: Job, step: Step): Promise<Run[]> {
  if (job.do === 'find') return find(c, job)
  return job.do === 'seal' ? seal(c, job, step) : [await merge(c, job, step)]
}

async function find(c: DuckDBConnection, { dir, inputs, drop }: FindJob): Promise<Run[]> {
  const found: Run[] = []
  for (const run of inputs) {
    for (const kind of kindsOf(run)) {
      if ((await leaveOut(c, droppedOf(drop, run.partition, kind), kind)) === '') continue
      const file = path.join(dir, fileOf(run.partition, run.generation, kind))
      await attachSealed(c, 'src', file)
      await checkInfo(c, 'src', file)
      const holds = await holdsDropped(c, 'src', kind)
      await c.run('DETACH src')
      if (!holds) continue
      found.push(run)
      break
    }
  }
  return found
}

async function seal(c: DuckDBConnection, job: SealJob, step: Step): Promise<Run[]> {
  for (const partition of foldersOf(job.dir)) removeLeftovers(job.dir, partition, job.generation)
  await c.run(`ATTACH ${quoted(path.join(job.dir, `hot-${job.hot}.duckdb`))} AS src (READ_ONLY)`)
  const corrections = new Set(
    (await rowsOf(c, `SELECT table_name FROM duckdb_tables() WHERE database_name = 'src' AND table_name LIKE 'corrected%'`)).map(([name]) =>
      String(name),
    ),
  )
  for (const [table] of await rowsOf(c, `SELECT table_name FROM duckdb_columns() WHERE database_name = 'src' AND column_name = 'bins'`))
    corrections.add(`${String(table)}.bins`)
  const tables = [
    'readings:ts',
    'late:ts',
    'rollup_1m:bucket',
    'rollup_1h:bucket',
    ...[...corrections].filter((name) => !name.endsWith('.bins')).map((name) => `${name}:bucket`),
  ]
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
    runs.push(
      await writeRun(
        c,
        { job, partition, covers: [job.hot], fold, series: Number(size?.[0]), sketched: true },
        await hotSource(c, job, partition, corrections),
        step,
      ),
    )
  }
  await c.run('DETACH src')
  return runs
}

/** The rows of the frozen file that are in a partition. */
async function hotSource(c: DuckDBConnection, job: SealJob, partition: Partition, corrections: ReadonlySet<string>): Promise<Source> {
  const range = rangeOf(partition)
  const without = await leaveOutAll(c, job, partition)
  const during = (column: string): string =>
    `${column} >= make_timestamp(${range.fromUs}::BIGINT) AND ${column} < make_timestamp(${range.toUs}::BIGINT)`
  const rollup = (kind: RollupKind): RollupSource => {
    const bins = kind === '1m' ? '' : corrections.has(`corrected_${kind}.bins`) ? ', bins' : `, NULL::${binList} AS bins`
    const empty = `SELECT ${rollupNames}, gen ${kind === '1m' ? '' : `, NULL::${binList} AS bins`} FROM src.rollup_${kind} WHERE false`
    const kept = `${during('bucket')} ${without[kind]}`
    const corrected = corrections.has(`corrected_${kind}`) ? `SELECT ${rollupNames}, gen ${bins} FROM src.corrected_${kind} WHERE ${kept}` : empty
    return { rows: `SELECT ${rollupNames} FROM src.rollup_${kind} WHERE ${kept}`, corrected }
  }
  const kept = `${during('ts')} ${without.raw}`
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
    sizes: { raw, '1m': minutes, '1h': hours + Math.ceil(raw / readingsOfBin) },
    raw: {
      base: (pick) => [`SELECT series, ts, v, flags FROM src.readings WHERE ${kept} ${pick === undefined ? '' : `AND series IN ${pick}`}`],
      late: `SELECT series, ts, v, flags, seq, text, meta FROM src.late WHERE ${kept}`,
      texts: `SELECT series, ts, text, meta FROM src.texts WHERE ${kept}`,
      devices: 'SELECT series, device FROM devices',
    },
    '1m': rollup('1m'),
    '1h': {
      ...rollup('1h'),
      // Of base rows alone: an hour that has late ones is computed again when it closes, and then its correction has the bins of all.
      bins: { added: [binsOfRows(`SELECT series, ts, v FROM src.readings WHERE ${during('ts')} ${without['1h']}`)] },
    },
  }
}

/** `rows`: SELECT series, ts, v. */
function binsOfRows(rows: string): string {
  return `SELECT series, epoch_us(ts) // ${stepOfKind['1h']} AS b, ${binOf('v')} AS bin, count(*) AS n, min(v) AS low, max(v) AS high
    FROM (${rows}) WHERE NOT isnan(v) GROUP BY ALL`
}

/** For each kind the condition that leaves out what the job drops from a partition. */
async function leaveOutAll(c: DuckDBConnection, job: WriteJob, partition: Partition): Promise<Record<Kind, string>> {
  const of = (kind: Kind): Promise<string> => leaveOut(c, droppedOf(job.drop ?? [], partition, kind), kind)
  return { raw: await of('raw'), '1m': await of('1m'), '1h': await of('1h') }
}

async function merge(c: DuckDBConnection, job: MergeJob, step: Step): Promise<Run> {
  removeLeftovers(job.dir, job.partition, job.generation)
  const without = await leaveOutAll(c, job, job.partition)
  const [only] = job.inputs
  const rewritten = job.drop !== undefined && job.inputs.length === 1 && only!.partition === job.partition
  /** Files that would be written as they are. */
  const same: Partial<Record<Kind, RunFile>> = {}
  const sizes: Record<Kind, number> = { raw: 0, '1m': 0, '1h': 0 }
  const source: { raw?: RawSource; sizes: Record<Kind, number> } & Partial<Record<RollupKind, RollupSource>> = { sizes }
  let series = 0
  const rawInputs: RawInput[] = []
  for (const kind of kinds) {
    const catalogs: { catalog: string; file: string; run: Run }[] = []
    for (const [i, run] of job.inputs.entries()) {
      const input = run.files[kind]
      if (input === undefined) continue
      // A file of hours may have bins and no hour that is over.
      sizes[kind] += Math.max(1, input.rows + input.above)
      const file = path.join(job.dir, fileOf(run.partition, run.generation, kind))
      const catalog = `in_${kind}_${i}`
      await attachSealed(c, catalog, file)
      await checkInfo(c, catalog, file)
      if (rewritten && (without[kind] === '' || !(await holdsDropped(c, catalog, kind)))) {
        await takeOver(job, only!, kind, step)
        same[kind] = input
        sizes[kind] = 0
        continue
      }
      series = Math.max(series, Number((await rowsOf(c, `SELECT series::DOUBLE FROM ${catalog}.run_info`))[0]?.[0]))
      catalogs.push({ catalog, file, run })
      // Of a run of an earlier version the sketches are made here.
      if (kind === 'raw' && run.sketched !== true && !rewritten) sizes['1h'] += Math.ceil((input.rows + input.above) / readingsOfBin)
    }
    const but = (rows: string): string => (without[kind] === '' ? rows : `SELECT * FROM (${rows}) WHERE true ${without[kind]}`)
    const all = (of: (catalog: string, run: Run) => string): string => catalogs.map(({ catalog, run }) => of(catalog, run)).join('\nUNION ALL\n')
    if (kind === '1h' && (catalogs.length > 0 || sizes['1h'] > 0)) {
      const bins = (run: Run): string => (run.sketched ? 'bins' : `NULL::${binList} AS bins`)
      const known = catalogs
        .filter(({ run }) => run.sketched)
        .map(({ catalog }) => `SELECT series, b, bin, n, ${lowAndHigh('v')} FROM ${catalog}.bins`)
      const made = rewritten ? undefined : binsOfRaw(job, rawInputs)
      source[kind] = {
        rows: catalogs.length === 0 ? noRollups : but(all((catalog) => rollupsOf(catalog, kind))),
        corrected:
          catalogs.length === 0
            ? `SELECT *, 0::UBIGINT AS gen, NULL::${binList} AS bins FROM (${noRollups})`
            : but(all((catalog, run) => `SELECT ${rollupNames}, gen, ${bins(run)} FROM ${catalog}.corrected`)),
        ...(rewritten && only!.sketched !== true
          ? {}
          : {
              bins: {
                added: [...(known.length === 0 ? [] : [known.join('\nUNION ALL\n')]), ...(made?.added ?? [])].map(but),
                ...(made?.again === undefined ? {} : { again: (hours) => but(made.again!(hours)) }),
              },
            }),
      }
      continue
    }
    if (catalogs.length === 0) continue
    if (kind === 'raw') {
      for (const { catalog, file, run } of catalogs) rawInputs.push({ catalog, run, layout: await rawLayout(c, catalog, file) })
      source.raw = {
        base: (pick) => rawInputs.flatMap(({ catalog, layout }) => scansOfMany(catalog, layout, pick).map(but)),
        late: but(all((catalog) => lateOf(catalog))),
        texts: but(all((catalog) => textsOf(catalog))),
        devices: `SELECT series, min(device) AS device FROM (${all((catalog) => `SELECT series, device FROM ${catalog}.columns`)}) GROUP BY series`,
      }
    } else
      source[kind] = { rows: but(all((catalog) => rollupsOf(catalog, kind as RollupKind))), corrected: but(all((catalog) => correctedOf(catalog))) }
  }
  const covers = [...new Set(job.inputs.flatMap((run) => run.covers))].sort((a, b) => a - b)
  const sketched = rewritten ? only!.sketched === true : true
  const written = await writeRun(c, { job, partition: job.partition, covers, fold: job.fold, series, sketched }, source, step)
  return { ...written, files: { ...same, ...written.files } }
}

interface RawInput {
  readonly catalog: string
  readonly run: Run
  readonly layout: RawLayout
}

/** Of no row. */
const noRollups = `SELECT 0::UINTEGER AS series, make_timestamp(0) AS bucket, 0::UINTEGER AS n, 0::DOUBLE AS sum, 0::DOUBLE AS m2, 0::DOUBLE AS min, 0::DOUBLE AS max,
  0::DOUBLE AS first, make_timestamp(0) AS first_ts, 0::DOUBLE AS last, make_timestamp(0) AS last_ts WHERE false`

/**
 * Bins of runs of an earlier version, which have none, from their readings. Where those have gone they add nothing: an hour whose bins are fewer than its
 * readings has no quantile, as before.
 */
function binsOfRaw(job: MergeJob, inputs: readonly RawInput[]): BinSource {
  const scans = (some: readonly RawInput[], pick?: string): string[] => some.flatMap(({ catalog, layout }) => scansOfMany(catalog, layout, pick))
  const added = scans(inputs.filter(({ run }) => run.sketched !== true)).map(binsOfRows)
  if (job.inputs.some((run) => run.files['1h'] !== undefined && run.files.raw === undefined)) return { added }
  const again = (hours: string): string => {
    const pick = `(SELECT series FROM ${hours})`
    const late = latestOf(inputs.map(({ catalog }) => lateOf(catalog, pick)).join('\nUNION ALL\n'))
    const rows = `SELECT r.series, r.ts, r.v FROM (${scans(inputs, pick).join('\nUNION ALL\n')}) r ANTI JOIN (${late}) l ON l.series = r.series AND l.ts = r.ts
      UNION ALL SELECT series, ts, v FROM (${late})`
    return binsOfRows(
      `SELECT r.series, r.ts, r.v FROM (${rows}) r JOIN ${hours} h ON h.series = r.series AND h.b = epoch_us(r.ts) // ${stepOfKind['1h']}`,
    )
  }
  return { added, again }
}

/** Gives a file that stays as it is the name that it has in the new run: by a link, or a copy where the file system has none. */
async function takeOver(job: MergeJob, run: Run, kind: Kind, step: Step): Promise<void> {
  const [from, to] = [run.generation, job.generation].map((generation) => path.join(job.dir, fileOf(job.partition, generation, kind)))
  try {
    fs.linkSync(from!, to!)
  } catch {
    await fs.promises.copyFile(from!, to!)
    syncFile(to!)
  }
  syncFolder(path.dirname(to!))
  step(`${job.partition}:${kind}:linked`)
}

/** About so many readings make one row of bins, to judge the size of a file before it is written. */
const readingsOfBin = 16

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
  let { sketched } = plan
  for (const kind of kinds) {
    if (source.sizes[kind] === 0) continue
    const name = fileOf(partition, job.generation, kind)
    const file = await publish(
      c,
      { dir: job.dir, name, blockBytes: blockBytesOf(source.sizes[kind]), label: `${partition}:${kind}`, step },
      async () => {
        const rollups =
          kind === 'raw' || source[kind] === undefined ? undefined : await writeRollup(c, kind, source[kind], fold, job.tuning ?? tuning)
        if (kind === '1h' && rollups?.bins === undefined) sketched = false
        const written = kind === 'raw' ? source.raw && (await writeRaw(c, source.raw, fold, job.tuning ?? tuning)) : rollups?.written
        if (written === undefined || written.rows + written.above + (rollups?.bins ?? 0) === 0) return undefined
        const corrected = kind === 'raw' ? 0 : written.above
        await c.run(`INSERT INTO out.run_info SELECT 1, '${kind}', '${partition}', ${job.generation}, [${covers.join(',')}]::UBIGINT[], ${fold},
        make_timestamp(${job.nowUs}::BIGINT), ${plan.series}, ${written.rows}, ${written.above - corrected}, ${written.texts}, ${corrected}`)
        return written
      },
    )
    if (file !== undefined) files[kind] = file
  }
  return { partition, generation: job.generation, covers, files, ...(sketched ? { sketched } : {}) }
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
