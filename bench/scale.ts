/**
 * Roles as processes over a Kafka broker and a PostgreSQL server of their own, with 1, 2 and 4 partitions, and as many ingest and store processes; beside them
 * one embedded process, and what is usually assembled instead (bench/assembly.ts: Mosquitto without persistence, MQTT.js, multi-row INSERT). Writes bench/SCALE.md
 * and scale.jsonl; docs/explanation/scaling.md says what follows from them. Not part of `npm run bench`; it takes some five minutes:
 *
 *   npm run services -- start kafka; node bench/scale.ts [--messages 600000] [--partitions 1,2,4]
 *
 * All of it shares one machine, so that messages a second do not grow with the processes: what each part takes of a message does not depend on that.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { settled, status } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'
import { kafkaBroker } from '../tools/services/kafka-broker.ts'
import { postgresCluster, type PostgresServer } from '../tools/services/postgres-cluster.ts'
import { halt, type Started } from '../tools/services/process.ts'
import { runningServices } from '../tools/services/services.ts'
import { machine } from './machine.ts'
import { mosquittoPath, startMosquitto } from './mosquitto.ts'
import type { MqttLoad, MqttLoadResult } from './mqtt-load.ts'
import { cpuUs, machineBusyPercent, treeCpuUs } from './process.ts'
import { write, type Figure } from './report.ts'

const { values } = parseArgs({
  options: { messages: { type: 'string', default: '600000' }, partitions: { type: 'string', default: '1,2,4' } },
})
const messages = Number(values.messages)
const partitions = values.partitions.split(',').map(Number)
/** Code and pages are cold at first: so many are sent before anything is measured. */
const warmMessages = 300_000
const devices = 1_000
const connections = 32
const burst = 16
/** Unacknowledged messages of a connection: 2,048 in all, as of as many devices that wait for an answer each. */
const window = 64

const found = runningServices().find(({ name }) => name === 'kafka')?.running?.env['KYMO_TEST_KAFKA_LIBS']
if (found === undefined) throw new Error('Kafka is not there: npm run services -- start kafka')
const libs = found

const figures: Figure[] = []
const add = (stage: string, what: string, value: number, unit: string, o: { readonly aim?: number; readonly note?: string } = {}): void => {
  figures.push({ stage, what, value, unit, ...o })
  process.stdout.write(`${stage}: ${what}: ${value.toFixed(2)} ${unit}${o.note === undefined ? '' : ` (${o.note})`}\n`)
}

const run = promisify(execFile)

/** The load on several doors at once, each with a share of it and devices of its own. */
async function load(ports: readonly number[], count: number, firstDevice: number): Promise<MqttLoadResult[]> {
  const each = (port: number, i: number): Promise<MqttLoadResult> => {
    const input: MqttLoad = {
      port,
      connections: connections / ports.length,
      burst,
      window,
      messages: Math.round(count / ports.length),
      devices: devices / ports.length,
      firstDevice: firstDevice + (i * devices) / ports.length,
    }
    return run(process.execPath, [path.join(import.meta.dirname, 'mqtt-load.ts'), JSON.stringify(input)]).then(
      ({ stdout }) => JSON.parse(stdout) as MqttLoadResult,
    )
  }
  return Promise.all(ports.map(each))
}

interface Part {
  readonly name: string
  readonly cpuUs: () => number
}

/** Sends, waits until all of it is stored, and tells what each part has taken of a message. */
async function measure(stage: string, ports: readonly number[], parts: readonly Part[], stored: (sent: number) => Promise<void>): Promise<void> {
  const warm = await load(ports, warmMessages, 0)
  const warmed = warm.reduce((sum, one) => sum + one.messages, 0)
  await stored(warmed)
  const before = parts.map((part) => part.cpuUs())
  const began = performance.now()
  const results = await load(ports, messages, 0)
  const sent = results.reduce((sum, one) => sum + one.messages, 0)
  const acknowledgedS = (performance.now() - began) / 1000
  await stored(warmed + sent)
  const storedS = (performance.now() - began) / 1000
  const spent = parts.map((part, i) => (part.cpuUs() - before[i]!) / sent)
  const total = spent.reduce((a, b) => a + b, 0)
  add(stage, 'CPU a message, all parts', total, 'µs', { note: parts.map(({ name }, i) => `${name} ${spent[i]!.toFixed(2)}`).join(', ') })
  add(stage, 'CPU a reading, all parts', total / 3, 'µs')
  add(stage, 'acknowledged', sent / acknowledgedS, 'messages/s', { note: 'the load generator on the same two cores' })
  add(stage, 'stored', sent / storedS, 'messages/s')
  add(stage, 'PUBACK p99', Math.max(...results.map(({ ackMs }) => ackMs.p99)), 'ms')
}

async function embedded(): Promise<void> {
  const server = await RunningServer.start()
  try {
    const part = { name: 'kymo', cpuUs: () => cpuUs(server.serverPid) }
    await measure('one process, embedded', [server.mqttPort], [part], () => settled(server.http, 300_000))
  } finally {
    await server.dispose()
  }
}

/** Waits until every partition is stored, as the api role sees it. */
async function caughtUp(http: string): Promise<void> {
  const ends = new Map<number, number>()
  for (const until = Date.now() + 300_000; Date.now() < until; await delay(50)) {
    const lag = (await status(http)).lag.filter(({ group }) => group === 'store')
    // Ticks go on for ever, so the ends of the first look are waited for.
    for (const one of lag) if (!ends.has(one.partition)) ends.set(one.partition, Number(one.end))
    if (lag.length > 0 && lag.every(({ partition, committed }) => Number(committed) >= ends.get(partition)!)) return
  }
  throw new Error('the store did not catch up in five minutes')
}

interface Engines {
  readonly dir: string
  readonly kafka: { readonly url: string; readonly started: Started }
  readonly postgres: PostgresServer
}

async function apart(count: number, { kafka, postgres }: Engines): Promise<void> {
  const schema = new URL(postgres.url)
  schema.searchParams.set('schema', `scale_${count}`)
  const env = {
    KYMO_LOG_URL: kafka.url,
    KYMO_STORE_URL: schema.toString(),
    KYMO_META_URL: schema.toString(),
    KYMO_KAFKA_PREFIX: `scale-${count}.`,
    KYMO_KAFKA_PARTITIONS: String(count),
  }
  const start = (role: string): Promise<RunningServer> =>
    RunningServer.start({ args: ['--roles', role], env, httpOnly: role !== 'ingest', readyWithinMs: 90_000 })
  const running: RunningServer[] = []
  const several = async (role: string, n: number): Promise<RunningServer[]> => {
    const own = await Promise.all(Array.from({ length: n }, () => start(role)))
    running.push(...own)
    return own
  }
  try {
    // The first makes topics and tables.
    const [api] = await several('api', 1)
    const ingest = await several('ingest', count)
    const store = await several('store', count)
    const sum = (servers: readonly RunningServer[]) => (): number => servers.reduce((us, one) => us + cpuUs(one.serverPid), 0)
    const parts: Part[] = [
      { name: 'ingest', cpuUs: sum(ingest) },
      { name: 'Kafka', cpuUs: () => cpuUs(kafka.started.pid) },
      { name: 'store', cpuUs: sum(store) },
      { name: 'PostgreSQL', cpuUs: () => treeCpuUs(postgres.process.pid) },
      { name: 'api', cpuUs: sum([api!]) },
    ]
    const stage = `${count} partition${count === 1 ? '' : 's'}`
    await measure(
      stage,
      ingest.map(({ mqttPort }) => mqttPort),
      parts,
      () => caughtUp(api!.http),
    )
  } finally {
    for (const one of running) await one.dispose()
  }
}

async function usual(postgres: PostgresServer): Promise<void> {
  const file = mosquittoPath()
  if (file === undefined) throw new Error('Mosquitto is not installed (Debian: mosquitto)')
  const broker = await startMosquitto(file)
  const input = JSON.stringify({ port: broker.port, url: postgres.url })
  const worker = spawn(process.execPath, [path.join(import.meta.dirname, 'assembly.ts'), input], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    await once(worker.stdout, 'data')
    const parts: Part[] = [
      { name: `Mosquitto ${broker.version}`, cpuUs: () => cpuUs(broker.pid) },
      { name: 'MQTT.js and pg', cpuUs: () => cpuUs(worker.pid!) },
      { name: 'PostgreSQL', cpuUs: () => treeCpuUs(postgres.process.pid) },
    ]
    const stored = async (sent: number): Promise<void> => {
      for (const until = Date.now() + 300_000; Date.now() < until; await delay(200))
        if (Number(inKymo(postgres, 'SELECT count(*) FROM telemetry')) >= sent) return
      throw new Error('the assembly did not store all of it in five minutes')
    }
    await measure('the usual assembly', [broker.port], parts, stored)
  } finally {
    worker.kill('SIGTERM')
    broker.stop()
  }
}

/** `psql` of the cluster asks the database `postgres`; the assembly's table is in `kymo`. */
function inKymo(postgres: PostgresServer, sql: string): string {
  return cluster.tool('psql', '-d', postgres.url, '-qAtc', sql).trim()
}

const stages = new Map([
  ['one process, embedded', 'Log, store and metadata in the data directory: durable by fsync before the PUBACK, queryable within some 100 ms.'],
  ...partitions.map((n): [string, string] => [
    `${n} partition${n === 1 ? '' : 's'}`,
    `${n} ingest, ${n} store and one api process over one Kafka broker (acks=all of one replica, zstd) and one PostgreSQL. Acknowledged when Kafka has it.`,
  ]),
  [
    'the usual assembly',
    'Mosquitto (persistence off), one process with MQTT.js and multi-row INSERT of up to 1,000 rows, plain PostgreSQL with an index of device and time. Acknowledged before anything is stored; no rollups.',
  ],
])

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-scale-'))
const about = machine(dir)
const busy = await machineBusyPercent(3_000)
process.stdout.write(`${about.cpu}, ${about.cores} cores, commit ${about.commit}, ${busy.toFixed(0)} % busy before the run\n`)
if (busy > 10) process.stderr.write('warning: something else keeps this machine busy; figures of this run are no figures\n')
fs.mkdirSync(path.join(dir, 'kafka'))
fs.mkdirSync(path.join(dir, 'postgres'))
fs.chmodSync(dir, 0o755)
const cluster = postgresCluster(path.join(dir, 'postgres'))
const postgres = await cluster.primary('primary', ['synchronous_commit=on'])
const broker = await kafkaBroker({ dir: path.join(dir, 'kafka'), libs })
const kafka = { url: `kafka://127.0.0.1:${broker.ports.plain}`, started: await broker.start() }
try {
  await embedded()
  for (const count of partitions) await apart(count, { dir, kafka, postgres })
  await usual(postgres)
} finally {
  await halt(kafka.started, 'SIGTERM', 20_000)
  await halt(postgres.process, 'SIGINT', 20_000)
  fs.rmSync(dir, { recursive: true, force: true })
  fs.rmSync(cluster.place, { recursive: true, force: true })
}
const text = [
  'Made by `node bench/scale.ts`; the same as JSON lines in `scale.jsonl`. QoS 1 messages of 126 bytes with three readings, 16 a write, 32 connections in all with 64 unacknowledged each. CPU is',
  'user and system time from /proc until all of it is stored. Everything, load generators included, shares the cores of one machine: CPU a message is what can be carried',
  'over to others, messages a second cannot.',
]
write({ name: 'SCALE', about: text }, about, busy, figures, stages)
