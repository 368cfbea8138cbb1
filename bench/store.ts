/**
 * What a day of a fleet takes in the store, on disk and to read. Not part of `npm run bench`: with its 60 million rows it takes a quarter of an hour.
 *
 *   node bench/store.ts [--rows 600000] [--jitter 0] [--months 3] [--seal-mb 256] [--tries 11] [--dir <empty folder>]
 *   node bench/store.ts --rows 60000000 --months 60              the figures that are published; --jitter 100 for the second column
 *
 * The generator: 1,000 devices send five metrics every 5 s, each device at a phase of its own: temperature (20 ± 5 in a day, noise of 0.2), humidity (50 ± 10,
 * noise of 0.5), pressure (1013 ± 8, noise of 0.1), battery (falls by 0.4 V in a day, noise of 0.02 V), all with two decimals, and a counter that
 * grows by 0 to 9. `--jitter`: each message comes up to so many milliseconds late, in whole milliseconds; 0 is a regular clock. 86.4 million rows are a
 * whole day, 60 million are 16 h 40 min of it.
 *
 * All goes through the store as the server uses it: operators for duplicates and rollups, commits, hot files that are closed at `--seal-mb`, sealed by the
 * child process, and merged once the day is over. CPU and peak memory are those of the children, as they tell them. CSV and Parquet hold the
 * same rows (time, device, metric, value; at most the first 3.6 million): CSV with gzip's level 6, Parquet as `kymo export` writes it (zstd).
 * Times are from the call to the last page, in this process: p50 and the longest of `--tries`, the first of them told apart, each for another device where there is one to choose; once beside
 * nothing, once beside 20,000 messages a second.
 */
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { finished } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createGzip } from 'node:zlib'
import { nodeEnv } from '../src/core/env/node-env.ts'
import type { Env, LogFields, Logger } from '../src/core/env.ts'
import { limits } from '../src/core/limits.ts'
import type { RangeQuery } from '../src/core/ports.ts'
import { openDuckdbStore, type DuckdbStore } from '../src/store/duckdb/store.ts'
import { createParquet } from '../src/store/parquet/writer.ts'
import { machine } from './machine.ts'
import { distribution, machineBusyPercent } from './process.ts'
import { dayUs, devices, everyUs, Feeder, Fleet, keys, metrics, rowsPerTick } from './store-fleet.ts'

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '600000' },
    jitter: { type: 'string', default: '0' },
    months: { type: 'string', default: '3' },
    'seal-mb': { type: 'string', default: '256' },
    tries: { type: 'string', default: '101' },
    dir: { type: 'string' },
  },
})

function whole(name: 'rows' | 'jitter' | 'months' | 'seal-mb' | 'tries', least: number): number {
  const value = Number(values[name])
  if (!Number.isSafeInteger(value) || value < least) throw new Error(`--${name} ${values[name]} is not a whole number from ${least} up`)
  return value
}

const ticks = Math.max(1, Math.round(whole('rows', 1) / rowsPerTick))
const jitterMs = whole('jitter', 0)
if (jitterMs >= everyUs / 1000) throw new Error(`--jitter ${jitterMs} is not less than the 5 s between two messages`)
const months = whole('months', 0)
const sealBytes = whole('seal-mb', 1) * 2 ** 20
const tries = whole('tries', 1)
const sampleTicks = Math.min(ticks, Math.floor(3.6e6 / rowsPerTick))
const startUs = Date.UTC(2026, 10, 20) * 1000
/** Ticks of one commit: a second of 20,000 messages. */
const ticksPerCommit = 4
const stop = new AbortController().signal

/** `aim`: smaller is better. */
function say(what: string, value: number, unit: string, note = '', aim?: number): void {
  const met = aim === undefined ? '' : `   aim ${aim}: ${value <= aim ? 'met' : `missed ${(value / aim).toFixed(1)} times`}`
  process.stdout.write(`${what.padEnd(72)} ${value.toFixed(value < 100 ? 2 : 0).padStart(10)} ${unit}${met}${note === '' ? '' : `   ${note}`}\n`)
}

/** What children said of themselves since it was last asked. */
const told: { readonly what: string; readonly cpuMs: number; readonly peakBytes: number }[] = []
const complain = (message: string, fields?: LogFields): void => void process.stderr.write(`${message} ${JSON.stringify(fields ?? {})}\n`)
const logger: Logger = {
  debug(what, fields) {
    const { cpuMs, peakBytes } = fields ?? {}
    if (typeof cpuMs === 'number' && typeof peakBytes === 'number') told.push({ what, cpuMs, peakBytes })
  },
  info: () => undefined,
  warn: complain,
  error: complain,
  child: () => logger,
}
const real = nodeEnv(logger)
/** The day's, which is not that of the machine. */
let nowUs = (): number => startUs
const env: Env = {
  ...real,
  clock: { nowUs: () => nowUs(), monotonicMs: () => real.clock.monotonicMs(), after: (ms, fn) => real.clock.after(ms, fn) },
}

function sealedBytes(dir: string): { readonly bytes: number; readonly files: number; readonly raw: number } {
  const files = fs.globSync('sealed/**/*.duckdb', { cwd: dir })
  const sum = (names: readonly string[]): number => names.reduce((bytes, name) => bytes + fs.statSync(path.join(dir, name)).size, 0)
  return { bytes: sum(files), files: files.length, raw: sum(files.filter((name) => name.endsWith('-raw.duckdb'))) }
}

async function csvBytes(file: string): Promise<number> {
  const fleet = new Fleet(jitterMs)
  const out = fs.createWriteStream(file)
  const gzip = createGzip({ level: 6 })
  gzip.pipe(out)
  gzip.write('time,device,metric,value\n')
  for (let tick = 0; tick < sampleTicks; tick++) {
    let text = ''
    fleet.rows(tick, startUs, (series, timeUs, value) => {
      const { device, metric } = keys[series]!
      text += `${new Date(timeUs / 1000).toISOString()},${device},${metric},${value}\n`
    })
    if (!gzip.write(text)) await once(gzip, 'drain')
  }
  gzip.end()
  await finished(out)
  return fs.statSync(file).size
}

async function parquetBytes(file: string): Promise<number> {
  const fleet = new Fleet(jitterMs)
  const writer = await createParquet(file, [
    { name: 'time', type: 'time' },
    { name: 'device', type: 'text' },
    { name: 'metric', type: 'text' },
    { name: 'value', type: 'number' },
  ])
  for (let tick = 0; tick < sampleTicks; tick++) {
    const rows: (readonly [number, number, number])[] = []
    fleet.rows(tick, startUs, (series, timeUs, value) => void rows.push([series, timeUs, value]))
    for (const [series, timeUs, value] of rows) {
      const pending = writer.row([timeUs, keys[series]!.device, keys[series]!.metric, value])
      if (pending !== undefined) await pending
    }
  }
  await writer.end()
  return fs.statSync(file).size
}

async function timed<T>(work: () => Promise<T>): Promise<readonly [T, number]> {
  const began = performance.now()
  return [await work(), performance.now() - began]
}

interface Between {
  readonly fromUs: number
  readonly toUs: number
}

interface Wanted {
  readonly rows: number
  readonly aimMs?: number
}

/** `rows`: exactly, or at least where messages arrive meanwhile. */
async function read(what: string, { rows: wanted, aimMs }: Wanted, arriving: boolean, query: (n: number) => Promise<number>): Promise<void> {
  const times: number[] = []
  let rows = 0
  for (let i = 0; i < tries; i++) {
    const [found, ms] = await timed(() => query((i * 7919) % devices))
    if (arriving ? found < wanted : found !== wanted) throw new Error(`${what}: ${found} rows instead of ${wanted}`)
    rows = found
    times.push(ms)
    // Not in step with commits.
    if (arriving) await delay(20 + ((i * 7919) % 37))
  }
  const { p50, max } = distribution(times)
  say(what, p50, 'ms', `longest ${max.toFixed(1)} ms, first ${times[0]!.toFixed(1)} ms, ${rows} rows`, aimMs)
}

/** S1's anomalies: each reading by its distance from its device's mean. No rollup knows it. */
const zScoresOfReadings = `WITH s AS (
    SELECT device, avg(value) AS mean, stddev(value) AS sd FROM readings
    WHERE metric = 'temperature' AND time >= $1::TIMESTAMP AND time < $2::TIMESTAMP GROUP BY device)
  SELECT r.device, count(*) FROM readings r JOIN s ON s.device = r.device
  WHERE metric = 'temperature' AND time >= $1::TIMESTAMP AND time < $2::TIMESTAMP AND abs(value - mean) < 100 * sd GROUP BY r.device`

/** Of the range, which has data in its last `ticks` ticks. */
async function reads(store: DuckdbStore, between: Between, arriving: boolean): Promise<void> {
  const rowsOf = async (q: RangeQuery): Promise<number> => {
    let rows = 0
    for await (const page of store.query(q, stop)) rows += page.rows
    return rows
  }
  // Phase and jitter together are less than the step of the clock, so that no reading lies beyond its tick.
  const bucketsOf = (stepUs: number): number => Math.ceil((ticks * everyUs) / stepUs)
  const device = (n: number): RangeQuery['match'] => ({ tenant: 'default', devices: [`device-${n}`] })
  const aggregations = ['avg', 'min', 'max'] as const
  const all = { tenant: 'default', metrics: ['temperature'] }
  // As much as a request may ask for.
  const order = { order: 'asc', limit: limits.queryRowsMax } as const
  await read('one device, five metrics, 24 h of readings', { rows: ticks * metrics.length, aimMs: 10 }, arriving, (n) =>
    rowsOf({ match: device(n), ...between, ...order }),
  )
  await read('one device, five metrics, 24 h in buckets of 5 minutes', { rows: bucketsOf(300e6) * metrics.length, aimMs: 5 }, arriving, (n) =>
    rowsOf({ match: device(n), ...between, ...order, stepUs: 300e6, aggregations }),
  )
  await read('1,000 devices, one metric, hourly buckets of a day', { rows: bucketsOf(3600e6) * devices, aimMs: 50 }, arriving, () =>
    rowsOf({ match: all, ...between, ...order, stepUs: 3600e6, aggregations }),
  )
  await read('z-scores of the newest of 1,000 devices over a day', { rows: devices, aimMs: 50 }, arriving, async () => {
    // One bucket that holds the whole range.
    const scores = new Float64Array(devices)
    let found = 0
    for await (const { rows, columns } of store.query(
      { match: all, ...between, ...order, stepUs: 1e6 * 3600e6, aggregations: ['avg', 'stddev', 'last'] },
      stop,
    )) {
      for (let i = 0; i < rows; i++) scores[found++] = (columns['last']![i]! - columns['avg']![i]!) / columns['stddev']![i]!
    }
    return scores.every(Number.isFinite) ? found : 0
  })
  await read('the latest reading of all 5,000 series', { rows: rowsPerTick, aimMs: 5 }, arriving, async () => {
    return (await store.latest({ tenant: 'default' }, stop)).rows
  })
  if (arriving) return
  const parameters = [between.fromUs, between.toUs].map((us) => new Date(us / 1000).toISOString().replace('Z', ''))
  await read('z-scores of all readings of 1,000 devices over a day, SQL', { rows: devices }, arriving, async () => {
    const answer = await store.sql({ tenant: 'default', sql: zScoresOfReadings, parameters, limit: 10_000, nowUs: nowUs() }, stop)
    return answer === 'needs devices' ? 0 : answer.rows
  })
}

/**
 * Reads while a commit of 1,000 messages (5,000 readings) is due every 50 ms, that is 20,000 messages a second; the devices' time runs a hundred times as
 * fast. Generator and commits share this thread with what is measured, and only the store's own statements run elsewhere.
 */
async function readsWhileArriving(store: DuckdbStore, feeder: Feeder): Promise<void> {
  const everyMs = (devices / 20_000) * 1000
  // What was silent for an hour goes on at the next one.
  const from = Math.ceil(((ticks * everyUs) / 3600e6) % 1 === 0 ? ticks : (Math.ceil((ticks * everyUs) / 3600e6) * 3600e6) / everyUs)
  const toUs = startUs + from * everyUs + 3600e6
  let ended = false
  const waited: number[] = []
  const began = performance.now()
  const arrive = (async () => {
    for (let n = 0; !ended; n++) {
      const due = began + n * everyMs
      await delay(Math.max(0, due - performance.now()))
      await feeder.ticks(store, from + n, from + n + 1, startUs)
      waited.push(performance.now() - due)
    }
  })()
  try {
    await delay(2_000)
    await reads(store, { fromUs: toUs - dayUs, toUs }, true)
  } finally {
    ended = true
    await arrive
  }
  const { p50, p99, max } = distribution(waited)
  const rate = (waited.length * devices) / ((performance.now() - began) / 1000)
  say(
    'messages arrived meanwhile',
    rate,
    'messages/s',
    `from when one was due until it was committed: p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)}, longest ${max.toFixed(1)}`,
  )
}

function tellChildren(what: string, readings: number): void {
  const seals = told.splice(0)
  const cpuS = seals.reduce((sum, { cpuMs }) => sum + cpuMs, 0) / 1000
  say(`${what}: CPU of the child processes`, cpuS, 's', `${seals.length} processes; ${((cpuS * 1e6) / readings).toFixed(2)} µs a reading`)
  say('the same, of a day of 8.64 million messages', (cpuS * 8.64e6 * metrics.length) / readings, 's', '', 60)
  say(`${what}: largest peak of one of them (RSS)`, Math.max(0, ...seals.map(({ peakBytes }) => peakBytes)) / 1e6, 'MB', '', 500)
}

async function day(dir: string): Promise<void> {
  const rows = ticks * rowsPerTick
  const store = await openDuckdbStore({ dir, env, sealBytes, sealAfterMs: 2 ** 31 - 1 })
  const feeder = new Feeder(new Fleet(jitterMs))
  nowUs = () => feeder.nowUs
  const [, feedMs] = await timed(async () => {
    for (let tick = 0; tick < ticks; tick += ticksPerCommit) {
      await feeder.ticks(store, tick, Math.min(ticks, tick + ticksPerCommit), startUs)
      await store.seal()
    }
    // Until its last hour is over.
    await feeder.silence(store, 3600e6 + 600e6)
  })
  await store.close()
  say('generated, committed and sealed as it came', feedMs / 1000, 's', `${(rows / feedMs / 1000).toFixed(2)} M readings/s`)
  // The day is over: what is hot is sealed whatever its size, and the day's runs are merged.
  nowUs = () => startUs + 2 * dayUs
  const sealing = await openDuckdbStore({ dir, env, sealBytes: 1, sealAfterMs: 2 ** 31 - 1 })
  const [, mergeMs] = await timed(() => sealing.seal())
  await sealing.close()
  say('the rest sealed, and the day merged', mergeMs / 1000, 's')
  tellChildren('sealing and merging the day', rows)
  const sealed = sealedBytes(dir)
  const csv = await csvBytes(path.join(dir, 'sample.csv.gz'))
  const parquet = await parquetBytes(path.join(dir, 'sample.parquet'))
  const sample = sampleTicks * rowsPerTick
  say('a reading, sealed', sealed.raw / rows, 'bytes', '', jitterMs === 0 ? 1.5 : 1.8)
  say(
    'a reading, sealed, with its rollups and sketches',
    sealed.bytes / rows,
    'bytes',
    `${sealed.files} files, ${(sealed.bytes / 1e6).toFixed(1)} MB`,
  )
  const against = (bytes: number): string => `${sample} readings; ${((bytes / sample) * (rows / sealed.raw)).toFixed(1)} times the sealed one`
  say('a reading, CSV with gzip', csv / sample, 'bytes', against(csv))
  say('a reading, Parquet with zstd', parquet / sample, 'bytes', against(parquet))
  nowUs = () => feeder.nowUs
  const again = await openDuckdbStore({ dir, env, sealBytes: 2 ** 40, sealAfterMs: 2 ** 31 - 1 })
  try {
    await reads(again, { fromUs: startUs, toUs: startUs + dayUs }, false)
    process.stdout.write('\nthe same while 20,000 messages/s arrive\n')
    await readsWhileArriving(again, feeder)
  } finally {
    await again.close()
  }
}

/** A day of 20 ticks in each month, sealed and merged as months are. */
async function years(dir: string): Promise<void> {
  const lastMonth = 2026 * 12 + 9
  const feeder = new Feeder(new Fleet(jitterMs))
  nowUs = () => feeder.nowUs
  const store = await openDuckdbStore({ dir, env, sealBytes: 1, sealAfterMs: 2 ** 31 - 1 })
  for (let month = lastMonth - months + 1; month <= lastMonth; month++) {
    const fromUs = Date.UTC(Math.floor(month / 12), month % 12, 15) * 1000
    await feeder.ticks(store, 0, 20, fromUs)
    await feeder.silence(store, 600e6)
    nowUs = () => fromUs + 62 * dayUs
    await store.seal()
  }
  await store.close()
  const times: number[] = []
  for (let i = 0; i < 5; i++) {
    const [opened, ms] = await timed(() => openDuckdbStore({ dir, env, sealBytes: 2 ** 40, sealAfterMs: 2 ** 31 - 1 }))
    times.push(ms)
    const { series } = opened.stats()
    await opened.close()
    if (series !== rowsPerTick) throw new Error(`the store opened with ${series} series`)
  }
  const { p50, max } = distribution(times)
  const { files, bytes } = sealedBytes(dir)
  say(
    `a store of ${months} months is opened`,
    p50,
    'ms',
    `longest of 5 ${max.toFixed(0)} ms; ${files} sealed files, ${(bytes / 1e6).toFixed(1)} MB`,
    1000,
  )
}

const own = values.dir === undefined
const root = values.dir ?? fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-store-'))
const about = machine(root)
const busy = await machineBusyPercent(1_000)
process.stdout.write(
  `${about.cpu}, ${about.cores} cores, ${about.memoryGb} GB, ${about.disk}, Node ${about.node}, commit ${about.commit}, ${busy.toFixed(0)} % busy before the run\n`,
)
process.stdout.write(
  `${ticks * rowsPerTick} readings: ${devices} devices x ${metrics.length} metrics every 5 s over ${((ticks * everyUs) / 3600e6).toFixed(2)} h, ${jitterMs === 0 ? 'a regular clock' : `up to ${jitterMs} ms of jitter`}\n`,
)
if (busy > 10) process.stderr.write('warning: something else keeps this machine busy; figures of this run are no figures\n')
try {
  await day(path.join(root, 'day'))
  if (months > 0) await years(path.join(root, 'years'))
} finally {
  if (own) fs.rmSync(root, { recursive: true, force: true })
}
