/**
 * Bytes a reading in sealed files, and what sealing, merging and reading them takes. Not part of `npm run bench`: it looks at one part alone.
 *
 *   node bench/sealed-density.ts [devices=1000] [hours=24] [data folder with CSV files, time first]
 *
 * The generator: each device sends three metrics with two decimals every 10 s at a phase of its own: a temperature (5 degrees around 20 in 24 h,
 * noise of 0.2), a humidity (10 % around 50, noise of 0.5), a battery (noise of 0.05 V); for each shape once on regular clocks and once
 * with up to 100 ms of jitter in whole milliseconds. Real series: each file is a device, its number columns are metrics; copies of it, each with its
 * values from another row on and its clock some milliseconds later, make up two million readings, as one device alone would measure the file's fixed parts.
 */
import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { createTables } from '../src/store/duckdb/schema.ts'
import { Attachments } from '../src/store/duckdb/sealed/attachments.ts'
import { quoted } from '../src/store/duckdb/sealed/format.ts'
import { writeManifest } from '../src/store/duckdb/sealed/manifest-file.ts'
import { emptyManifest, kindsOf, withFrozen, withMerged, withSealed, type Manifest } from '../src/store/duckdb/sealed/manifest.ts'
import { runSealer, type Sealed } from '../src/store/duckdb/sealed/sealer.ts'
import { filesFor, SealedSources } from '../src/store/duckdb/sealed/sources.ts'
import { rollupOfRows } from '../src/store/duckdb/sql.ts'

const devices = Number(process.argv[2] ?? 1000)
const hours = Number(process.argv[3] ?? 24)
const data = process.argv[4]
const startUs = Date.UTC(2026, 10, 20) * 1000
const nowUs = startUs + 30 * 3600e6
const stop = new AbortController()

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

async function engine(dir: string): Promise<{ instance: DuckDBInstance; connection: DuckDBConnection }> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1', memory_limit: '2GB', temp_directory: path.join(dir, 'tmp') })
  const connection = await instance.connect()
  await connection.run(`SET TimeZone = 'UTC'`).catch(() => undefined)
  return { instance, connection }
}

/** A frozen hot file, filled by `fill`, with the rollups of its rows. */
async function hotFile(dir: string, hot: number, fill: (connection: DuckDBConnection) => Promise<void>): Promise<void> {
  const { instance, connection } = await engine(dir)
  await connection.run(`ATTACH ${quoted(path.join(dir, `hot-${hot}.duckdb`))} AS hot`)
  await connection.run(createTables)
  await fill(connection)
  for (const [table, step] of [
    ['rollup_1m', 'minute'],
    ['rollup_1h', 'hour'],
  ] as const) {
    const kept = step === 'minute' ? 'HAVING count(v) >= 6' : ''
    await connection.run(`INSERT INTO hot.${table} SELECT series, date_trunc('${step}', ts) AS bucket, ${rollupOfRows}, 1
      FROM hot.readings WHERE NOT isnan(v) GROUP BY ALL ${kept} ORDER BY bucket, series`)
  }
  await connection.run('CHECKPOINT hot')
  await connection.run('DETACH hot')
  connection.closeSync()
  instance.closeSync()
}

const sum = (a: number, b: number): number => a + b

function tell(what: string, sealed: Sealed, ms: number, readings: number): void {
  for (const kind of ['raw', '1m', '1h'] as const) {
    const files = sealed.runs.flatMap((run) => (kindsOf(run).includes(kind) ? [run.files[kind]!] : []))
    if (files.length === 0) continue
    const [bytes, rows] = [files.map((file) => file.bytes).reduce(sum), files.map((file) => file.rows + file.above).reduce(sum)]
    say(`${what}: ${kind}: ${(bytes / rows).toFixed(2)} bytes a row (${rows} rows, ${files.length} files, ${(bytes / 1e6).toFixed(1)} MB)`)
  }
  const rate = readings / sealed.cpuMs / 1000
  say(
    `${what}: ${(ms / 1000).toFixed(1)} s, ${(sealed.cpuMs / 1000).toFixed(1)} s of CPU (${rate.toFixed(2)} M readings/s), peak ${(sealed.peakBytes / 1e6).toFixed(0)} MB`,
  )
}

async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const began = performance.now()
  return [await work(), performance.now() - began]
}

async function seal(dir: string, manifest: Manifest, hot: number, what: string, readings: number): Promise<Manifest> {
  const frozen = withFrozen(manifest, hot)
  writeManifest(dir, frozen)
  const existing = manifest.runs.map((run) => run.partition)
  const [sealed, ms] = await timed(() => runSealer({ do: 'seal', dir, hot, generation: frozen.next, nowUs, existing }, { signal: stop.signal }))
  tell(what, sealed, ms, readings)
  const after = withSealed(frozen, hot, sealed.runs)
  writeManifest(dir, after)
  return after
}

async function generated(jitterMs: number, parts: number): Promise<void> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-sealed-'))
  const what = `${devices} devices, ${jitterMs} ms of jitter`
  const steps = hours * 360
  let manifest = emptyManifest
  try {
    for (let part = 0; part < parts; part++) {
      const [from, to] = [Math.floor((steps * part) / parts), Math.floor((steps * (part + 1)) / parts)]
      await hotFile(dir, part + 1, async (connection) => {
        await connection.run(`INSERT INTO hot.series SELECT d * 3 + m, 'default', 'device-' || d, ['temperature', 'humidity', 'battery'][m + 1]
          FROM range(${devices}) a(d), range(3) b(m) ORDER BY 1`)
        for (let k = from; k < to; k += 360)
          await connection.run(`INSERT INTO hot.readings SELECT d * 3 + m, make_timestamp(${startUs} + k * 10000000 + (d * 37 % 10000) * 1000 +
            ${jitterMs === 0 ? '0' : `(hash(d, k) % ${jitterMs})::BIGINT * 1000`}), round(CASE m
              WHEN 0 THEN 20 + 5 * sin(k / 1375.0 + d) + (hash(k, d, m) % 1000) / 5000.0
              WHEN 1 THEN 50 + 10 * cos(k / 1375.0 + d) + (hash(k, d, m) % 1000) / 2000.0
              ELSE 3.3 + (hash(k, d, m) % 1000) / 20000.0 END, 2), 0
            FROM range(${k}, ${Math.min(k + 360, to)}) a(k), range(${devices}) b(d), range(3) c(m) ORDER BY k, d, m`)
      })
      manifest = await seal(dir, manifest, part + 1, `${what}, part ${part + 1} of ${parts}`, (to - from) * devices * 3)
    }
    if (parts > 1) {
      const job = { do: 'merge', dir, partition: '2026-11-20', inputs: manifest.runs, generation: manifest.next, nowUs, fold: true } as const
      const [merged, ms] = await timed(() => runSealer(job, { signal: stop.signal }))
      tell(`${what}, merged`, merged, ms, steps * devices * 3)
      manifest = withMerged(manifest, manifest.runs, merged.runs[0]!)
    }
    await reads(dir, manifest, what)
  } finally {
    fs.rmSync(dir, { recursive: true, force: true })
  }
}

async function reads(dir: string, manifest: Manifest, what: string): Promise<void> {
  const { instance, connection } = await engine(dir)
  const attachments = new Attachments(await instance.connect(), dir)
  const between = { fromUs: startUs, toUs: startUs + 24 * 3600e6 }
  const read = async (ids: number[]): Promise<number> => {
    const lease = await attachments.acquire(filesFor(manifest, [{ kind: 'raw', ...between }]))
    const rows = (await SealedSources.of(manifest, lease.files, ids)).rows(ids, between)
    const result = await connection.run(`SELECT count(*)::INTEGER, sum(v), max(ts), bit_xor(flags) FROM (${rows.base.join(' UNION ALL ')})`)
    lease.release()
    return Number((await result.getRows())[0]?.[0])
  }
  for (const [name, ids] of [
    ['one series', (n: number) => [n * 3]],
    ['one device of three series', (n: number) => [n * 3, n * 3 + 1, n * 3 + 2]],
    ['one metric of all devices', () => Array.from({ length: devices }, (_, i) => i * 3)],
  ] as const) {
    const times: number[] = []
    let rows = 0
    for (let i = 0; i < 21; i++) {
      const [found, ms] = await timed(() => read(ids((i * 7919) % devices)))
      times.push(ms)
      rows = found
    }
    times.sort((a, b) => a - b)
    say(`${what}: ${name}, 24 h: p50 ${times[10]!.toFixed(1)} ms, max ${times.at(-1)!.toFixed(1)} ms (${rows} rows)`)
  }
  connection.closeSync()
  instance.closeSync()
}

/** CSV files below a folder, each as one device. */
async function real(folder: string): Promise<void> {
  const files = fs
    .globSync('**/*.csv{,.gz}', { cwd: folder })
    .toSorted()
    .filter((name) => !/valve1.[1-9]/.test(name))
  for (const name of files) {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-sealed-'))
    try {
      let readings = 0
      await hotFile(dir, 1, async (connection) => {
        readings = await csv(connection, path.join(folder, name))
      })
      if (readings >= 5000) await seal(dir, emptyManifest, 1, name, readings)
    } finally {
      fs.rmSync(dir, { recursive: true, force: true })
    }
  }
}

async function csv(connection: DuckDBConnection, file: string): Promise<number> {
  await connection.run(`CREATE OR REPLACE TEMP TABLE csv AS SELECT * FROM read_csv(${quoted(file)}, sample_size = -1)`)
  const columns = (await (await connection.run('DESCRIBE csv')).getRows()).map(([name, type]) => ({ name: String(name), type: String(type) }))
  const time = columns.find(({ type }) => type.startsWith('TIMESTAMP'))?.name
  const metrics = columns.filter(({ type }) => /^(DOUBLE|BIGINT)$/.test(type))
  if (time === undefined || metrics.length === 0) return 0
  const count = Number((await (await connection.run('SELECT count(*)::INTEGER FROM csv')).getRows())[0]?.[0])
  const copies = Math.floor(2e6 / (count * metrics.length))
  await connection.run(
    `INSERT INTO hot.series SELECT d * ${metrics.length} + m, 'default', 'device-' || d, 'm' || m FROM range(${copies}) a(d), range(${metrics.length}) b(m)`,
  )
  await connection.run(`CREATE OR REPLACE TEMP TABLE numbered AS SELECT *, row_number() OVER (ORDER BY "${time}") - 1 AS i
    FROM csv WHERE "${time}" IS NOT NULL QUALIFY row_number() OVER (PARTITION BY "${time}") = 1`)
  for (const [id, { name }] of metrics.entries())
    await connection.run(`INSERT INTO hot.readings
      SELECT d * ${metrics.length} + ${id}, x."${time}" + to_milliseconds(d * 37 % 1000), b."${name}", 0
      FROM (SELECT "${time}", d, (i + d * 97) % ${count} AS j FROM numbered, range(${copies}) c(d)) x JOIN numbered b ON b.i = x.j
      WHERE b."${name}" IS NOT NULL ORDER BY x."${time}", d`)
  return Number((await (await connection.run('SELECT count(*)::INTEGER FROM hot.readings')).getRows())[0]?.[0])
}

if (data !== undefined) await real(data)
if (devices > 0) {
  await generated(0, 1)
  await generated(100, 1)
  await generated(100, 4)
}
