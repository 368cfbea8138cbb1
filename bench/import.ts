/**
 * `kymo import` of a large file beside a running server: killed with SIGKILL once on its way and resumed. Prints rows a second, CPU a row, the largest memory of the
 * importing process and of the server, and whether each reading is there once. Not part of `npm run bench`:
 *
 *   node bench/import.ts [--rows 20000000] [--format csv|parquet|both] [--kill-at 0.4] [--dir <empty folder>]
 *
 * A row is a message of one of 200 devices: time, device and two numbers with two decimals, a second after the one before of the same device. CSV takes some 42 bytes a row, so
 * 20 million rows need 0.9 GB in the folder, and the log and the store of the server as much again.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import readline from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createParquet } from '../src/store/parquet/writer.ts'
import { buckets, settled } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'
import { machine } from './machine.ts'
import { cpuUs, machineBusyPercent } from './process.ts'

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '20000000' },
    format: { type: 'string', default: 'both' },
    'kill-at': { type: 'string', default: '0.4' },
    dir: { type: 'string' },
  },
})
const rows = Number(values.rows)
if (!Number.isSafeInteger(rows) || rows < 1000) throw new Error(`--rows ${values.rows} is not a whole number from 1000 up`)
const killAt = Number(values['kill-at'])
const formats = (['csv', 'parquet'] as const).filter((one) => values.format === one || values.format === 'both')
if (formats.length === 0) throw new Error(`--format ${values.format} is neither csv, parquet nor both`)

const devices = 200
const metrics = ['temperature', 'humidity'] as const
/** So that the last row is not ahead of the clock. */
const startMs = Date.now() - Math.ceil(rows / devices) * 1000 - 60_000

function say(what: string, value: number, unit: string, note = ''): void {
  process.stdout.write(`${what.padEnd(56)} ${value.toFixed(value < 100 ? 2 : 0).padStart(12)} ${unit}${note === '' ? '' : `   ${note}`}\n`)
}

function rowOf(n: number): readonly [number, string, number, number] {
  const device = n % devices
  const second = Math.floor(n / devices)
  const swing = Math.sin(second / 13_750 + device)
  return [
    startMs + second * 1000,
    `device-${device}`,
    Math.round(2000 + 500 * swing + ((n * 7919) % 20)) / 100,
    Math.round(5000 + 1000 * swing + ((n * 104_729) % 50)) / 100,
  ]
}

async function writeCsv(file: string): Promise<void> {
  const out = fs.createWriteStream(file)
  out.write('time,device,temperature,humidity\n')
  for (let n = 0; n < rows;) {
    let text = ''
    for (const end = Math.min(rows, n + 5_000); n < end; n++) text += `${rowOf(n).join(',')}\n`
    if (!out.write(text)) await once(out, 'drain')
  }
  out.end()
  await once(out, 'close')
}

async function writeParquet(file: string): Promise<void> {
  const writer = await createParquet(file, [
    { name: 'time', type: 'time' },
    { name: 'device', type: 'text' },
    { name: 'temperature', type: 'number' },
    { name: 'humidity', type: 'number' },
  ])
  for (let n = 0; n < rows; n++) {
    const [ms, device, temperature, humidity] = rowOf(n)
    const pending = writer.row([ms * 1000, device, temperature, humidity])
    if (pending !== undefined) await pending
  }
  await writer.end()
}

interface Ended {
  readonly seconds: number
  readonly cpuUs: number
  readonly peakMb: number
  readonly rows: number
  readonly signal: NodeJS.Signals | null
}

/** The largest memory that a process has had resident; undefined once it is gone. */
function peakMbOf(pid: number): number | undefined {
  try {
    const kb = /^VmHWM:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return kb === undefined ? undefined : Number(kb) / 1024
  } catch {
    return undefined
  }
}

/** Runs the command to its end, or until so much of the file is done. */
async function importFile(server: RunningServer, file: string, more: readonly string[], killedAt: number): Promise<Ended> {
  const args = ['src/cli/bin.js', 'import', file, '--json', '--url', server.http, '--time-format', 'ms', ...more]
  const forMs = file.endsWith('.parquet') ? args.filter((one) => one !== '--time-format' && one !== 'ms') : args
  const began = performance.now()
  const child = spawn(process.execPath, forMs, { cwd: path.resolve(import.meta.dirname, '..'), stdio: ['ignore', 'pipe', 'inherit'] })
  let [peakMb, cpu, counted] = [0, 0, 0]
  readline.createInterface({ input: child.stdout }).on('line', (line) => {
    const told: unknown = JSON.parse(line)
    if (typeof told !== 'object' || told === null) return
    if ('rows' in told && typeof told.rows === 'number') counted = told.rows
    if ('done' in told && 'total' in told && typeof told.done === 'number' && typeof told.total === 'number' && told.done / told.total >= killedAt)
      child.kill('SIGKILL')
  })
  const ended = once(child, 'close')
  while (child.exitCode === null && child.signalCode === null) {
    try {
      peakMb = Math.max(peakMb, peakMbOf(child.pid!) ?? 0)
      cpu = cpuUs(child.pid!)
    } catch {
      // It has just ended.
    }
    await delay(100)
  }
  await ended
  if (child.exitCode !== 0 && child.signalCode !== 'SIGKILL') throw new Error(`kymo import ended with ${child.exitCode ?? child.signalCode}`)
  return { seconds: (performance.now() - began) / 1000, cpuUs: cpu, peakMb, rows: counted, signal: child.signalCode }
}

/** Readings that the store has of a device more or fewer than the file has. */
async function wrongCounts(server: RunningServer, prefix: string): Promise<number> {
  let wrong = 0
  for (let d = 0; d < devices; d++) {
    const expected = Math.floor(rows / devices) + (d < rows % devices ? 1 : 0)
    for (const metric of metrics) {
      const days = await buckets(server.http, { device: `${prefix}device-${d}`, metric, step: '1d', aggregations: ['count'] })
      wrong += Math.abs(days.reduce((sum, bucket) => sum + Number(bucket['count']), 0) - expected)
    }
  }
  return wrong
}

const own = values.dir === undefined
const root = values.dir ?? fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-import-'))
try {
  const about = machine(root)
  const busy = await machineBusyPercent(1000)
  process.stdout.write(
    `${about.cpu}, ${about.cores} cores, ${about.memoryGb} GB, ${about.disk}, Node ${about.node}, commit ${about.commit}, ${busy.toFixed(0)} % busy before the run\n`,
  )
  for (const format of formats) {
    const file = path.join(root, `rows.${format}`)
    await (format === 'csv' ? writeCsv(file) : writeParquet(file))
    process.stdout.write(`\n${format}: ${rows} rows, ${metrics.length * rows} readings, ${(fs.statSync(file).size / 1e6).toFixed(0)} MB\n`)
    const server = await RunningServer.start()
    try {
      const prefix = `${format}-`
      const serverUs = cpuUs(server.serverPid)
      const first = await importFile(server, file, ['--device-prefix', prefix], killAt)
      if (first.signal !== 'SIGKILL') process.stdout.write('it ended before it could be killed: choose more rows\n')
      const resumed =
        first.signal === 'SIGKILL' ? await importFile(server, file, ['--device-prefix', prefix, '--resume'], 2) : { seconds: 0, cpuUs: 0, peakMb: 0 }
      const seconds = first.seconds + resumed.seconds
      say(
        'rows a second',
        rows / seconds,
        'rows/s',
        `${seconds.toFixed(1)} s; killed after ${first.seconds.toFixed(1)} s and ${first.rows} rows, then resumed`,
      )
      say('CPU of the importing process a row', (first.cpuUs + resumed.cpuUs) / rows, 'µs')
      say('CPU of the server a row', (cpuUs(server.serverPid) - serverUs) / rows, 'µs')
      say('largest memory of the importing process (RSS)', Math.max(first.peakMb, resumed.peakMb), 'MB')
      say('largest memory of the server (RSS)', peakMbOf(server.serverPid) ?? Number.NaN, 'MB')
      const waiting = performance.now()
      await settled(server.http, 600_000)
      say('until all of it could be queried, from the end', (performance.now() - waiting) / 1000, 's')
      const wrong = await wrongCounts(server, prefix)
      say('readings too many or too few', wrong, '', wrong === 0 ? 'each is there once' : 'WRONG')
      if (wrong > 0) process.exitCode = 1
    } finally {
      await server.dispose()
    }
    fs.rmSync(file)
  }
} finally {
  if (own) fs.rmSync(root, { recursive: true, force: true })
}
