/**
 * Measures the whole, with Mosquitto beside it when it is installed: `npm run bench`, about seven minutes. `npm run bench -- --quick` takes a
 * tenth of the messages (for trying the bench, not for figures), `-- --only mqtt,http` some stages. Writes bench/RESULTS.md and
 * bench/results.jsonl. How long single clients can hold the main thread is measured by bench/stalls.ts.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { settled } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'
import type { HttpLoad, HttpLoadResult } from './http-load.ts'
import { machine } from './machine.ts'
import { mosquittoPath, startMosquitto } from './mosquitto.ts'
import type { MqttLoad, MqttLoadResult } from './mqtt-load.ts'
import { routing, routingText } from './mqtt-routing.ts'
import type { Probe, ProbeResult } from './probe.ts'
import { byThread, cpuPercent, cpuUs, machineBusyPercent, memory, threadsCpuUs } from './process.ts'
import { write, type Figure } from './report.ts'

const { values } = parseArgs({ options: { quick: { type: 'boolean' }, only: { type: 'string' } } })
const scale = values.quick === true ? 0.1 : 1
const only = values.only?.split(',')
const wanted = (stage: string): boolean => only === undefined || only.includes(stage)

const figures: Figure[] = []
const stages = new Map([
  [
    'start and idle',
    'From spawning the supervisor to the first 200 of `/readyz`; memory and CPU of supervisor and server together, five seconds after.',
  ],
  [
    'http',
    'JSON arrays of 1,000 messages with three readings to `POST /api/v1/telemetry`, two kept-alive connections. CPU of the server until every reading is queryable.',
  ],
  [
    'mqtt',
    'QoS 1 PUBLISH of 126 bytes of JSON with three readings. A connection waits for all PUBACKs of a burst before the next one, so that one read of the server finds one burst. CPU until every reading is durable and queryable, idle CPU included.',
  ],
  ['mosquitto', 'The same load generator against Mosquitto without persistence: it stores nothing and fsyncs nothing.'],
  ['routing', routingText],
  [
    'visible',
    'A reading published beside 20,000 messages/s until a query returns it, and what `/livez` takes meanwhile; then the same beside four queries over all devices.',
  ],
])

function add(stage: string, what: string, value: number, unit: string, more: { readonly aim?: number; readonly note?: string } = {}): void {
  const figure: Figure = { stage, what, value, unit, ...more }
  figures.push(figure)
  process.stdout.write(
    `${stage.padEnd(16)} ${what.padEnd(70)} ${value.toFixed(2).padStart(12)} ${unit}${more.aim === undefined ? '' : `   (aim ${more.aim})`}${more.note === undefined ? '' : `   ${more.note}`}\n`,
  )
}

const run = promisify(execFile)

/** A load generator or probe in a process of its own; its one line of JSON. */
async function child<R>(script: string, input: MqttLoad | HttpLoad | Probe): Promise<R> {
  const { stdout } = await run(process.execPath, [path.join(import.meta.dirname, script), JSON.stringify(input)], { maxBuffer: 1 << 24 })
  return JSON.parse(stdout) as R
}

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN
const devices = 1_000

async function startAndIdle(): Promise<void> {
  const ready: number[] = []
  for (let i = 0; i < 5; i++) {
    const server = await RunningServer.start()
    ready.push(server.readyMs)
    if (i === 4) {
      await delay(5_000)
      const used = memory([server.pid, server.serverPid])
      add('start and idle', 'memory, idle (PSS)', used.pssMb, 'MB', { aim: 200 })
      add('start and idle', 'memory, idle (RSS, shared pages counted twice)', used.rssMb, 'MB')
      add('start and idle', 'CPU, idle', await cpuPercent(server.serverPid, 5_000), '% of a core')
    }
    await server.stop()
    await server.dispose()
  }
  add('start and idle', 'ready, new data directory (median of 5)', median(ready), 'ms', { aim: 1_000 })
}

async function httpBatches(server: RunningServer): Promise<void> {
  const before = cpuUs(server.serverPid)
  const threads = threadsCpuUs(server.serverPid)
  const load: HttpLoad = { url: `${server.http}/api/v1/telemetry`, connections: 2, items: 1_000, requests: Math.round(720 * scale), devices }
  const result = await child<HttpLoadResult>('http-load.ts', load)
  await settled(server.http, 120_000)
  const cpu = cpuUs(server.serverPid) - before
  add('http', 'server CPU a reading', cpu / result.readings, 'µs', { aim: 1.5, note: byThread(server.serverPid, threads, result.readings) })
  add('http', 'throughput', result.readings / result.seconds, 'readings/s', {
    note: `client CPU ${Math.round(result.clientCpuUs / 1e4 / result.seconds)} %`,
  })
  add('http', 'answer of a batch, p50', result.requestMs.p50, 'ms')
  add('http', 'answer of a batch, p99', result.requestMs.p99, 'ms')
}

async function mqttMessages(server: RunningServer): Promise<void> {
  const cases = [
    { packets: 16, connections: 32, messages: 1_200_000, aim: 4 },
    { packets: 1, connections: 256, messages: 300_000, aim: 16 },
  ]
  for (const { packets, connections, messages, aim } of cases) {
    const before = cpuUs(server.serverPid)
    const threads = threadsCpuUs(server.serverPid)
    const load: MqttLoad = { port: server.mqttPort, connections, burst: packets, window: packets, messages: Math.round(messages * scale), devices }
    const result = await child<MqttLoadResult>('mqtt-load.ts', load)
    await settled(server.http, 120_000)
    const cpu = cpuUs(server.serverPid) - before
    const name = `${packets} packet${packets === 1 ? '' : 's'} a read, ${connections} connections`
    add('mqtt', `server CPU a message, ${name}`, cpu / result.messages, 'µs', { aim, note: byThread(server.serverPid, threads, result.messages) })
    add('mqtt', `throughput, ${name}`, result.messages / result.seconds, 'messages/s', {
      note: `client CPU ${Math.round(result.clientCpuUs / 1e4 / result.seconds)} %`,
    })
    add('mqtt', `PUBACK p50, ${name}`, result.ackMs.p50, 'ms')
    add('mqtt', `PUBACK p99, ${name}`, result.ackMs.p99, 'ms')
  }
}

async function rival(): Promise<void> {
  const file = mosquittoPath()
  if (file === undefined) {
    process.stdout.write('mosquitto is not installed: nothing to compare with\n')
    return
  }
  const cases = [
    { packets: 16, connections: 32, messages: 300_000 },
    { packets: 1, connections: 256, messages: 150_000 },
  ]
  for (const { packets, connections, messages } of cases) {
    for (const subscribed of [false, true]) {
      const broker = await startMosquitto(file)
      const subscriber = subscribed
        ? spawn(process.execPath, [path.join(import.meta.dirname, 'mqtt-subscriber.ts'), String(broker.port), 'portfolio/telemetry'], {
            stdio: ['ignore', 'pipe', 'inherit'],
          })
        : undefined
      if (subscriber !== undefined) await once(subscriber.stdout, 'data')
      const before = cpuUs(broker.pid)
      const result = await child<MqttLoadResult>('mqtt-load.ts', {
        port: broker.port,
        connections,
        burst: packets,
        window: packets,
        messages: Math.round(messages * scale),
        devices,
      })
      await delay(500)
      const cpu = cpuUs(broker.pid) - before
      const name = `${packets} packet${packets === 1 ? '' : 's'} a read, ${subscribed ? 'routed to one QoS 1 subscriber' : 'received only'}`
      add('mosquitto', `broker CPU a message, ${name}`, cpu / result.messages, 'µs', { note: `Mosquitto ${broker.version}` })
      add('mosquitto', `throughput, ${name}`, result.messages / result.seconds, 'messages/s')
      subscriber?.kill('SIGTERM')
      broker.stop()
      await delay(200)
    }
  }
}

async function visibility(server: RunningServer): Promise<void> {
  const seconds = Math.max(5, Math.round(20 * scale))
  const probes = { httpPort: server.httpPort, mqttPort: server.mqttPort, seconds, lanes: 2 }
  for (const heavy of [false, true]) {
    const name = heavy ? 'beside four heavy queries' : 'without other queries'
    const load = child<MqttLoadResult>('mqtt-load.ts', {
      port: server.mqttPort,
      connections: 50,
      burst: 16,
      rate: 20_000,
      seconds: seconds + 2,
      devices,
    })
    await delay(1_000)
    const queries = heavy ? child<ProbeResult>('probe.ts', { ...probes, mode: 'heavy', lanes: 4 }) : undefined
    const live = child<ProbeResult>('probe.ts', { ...probes, mode: 'livez', lanes: 1 })
    const result = await child<ProbeResult>('probe.ts', { ...probes, mode: 'visible' })
    const [sent, livez, asked] = await Promise.all([load, live, queries])
    const failed = result.failures > 0 ? `, ${result.failures} answers were no 200` : ''
    add('visible', `publish to query, p50, ${name}`, result.p50, 'ms', { note: `${result.n} readings${failed}` })
    add('visible', `publish to query, p99, ${name}`, result.p99, 'ms', { aim: 250 })
    add('visible', `GET /livez, p99, ${name}`, livez.p99, 'ms')
    add('visible', `GET /livez, longest, ${name}`, livez.max, 'ms', { note: 'from outside: waiting for a core included' })
    add('visible', `PUBACK p99 at 20,000 messages/s, ${name}`, sent.ackMs.p99, 'ms', {
      note: `${sent.messages} messages, ${sent.unacknowledged} unacknowledged`,
    })
    if (asked !== undefined)
      add('visible', 'a heavy query, p50', asked.p50, 'ms', {
        note: `${asked.n} answers of ${Math.round(asked.bytes / asked.n / 1024)} KiB, ${asked.failures} no 200`,
      })
    await settled(server.http, 120_000)
  }
  const metrics = await (await fetch(`${server.http}/metrics`)).text()
  const stall = /^kymo_event_loop_stall_max_seconds(?:\{[^}]*\})? (\S+)/m.exec(metrics)
  if (stall !== null) add('visible', 'longest event-loop stall, as the server measured it', Number(stall[1]) * 1_000, 'ms', { aim: 25 })
}

const data = mkdtempSync(path.join(os.tmpdir(), 'kymo-bench-'))
const about = machine(data)
const busy = await machineBusyPercent(3_000)
process.stdout.write(`${about.cpu}, ${about.cores} cores, Node ${about.node}, commit ${about.commit}, ${busy.toFixed(0)} % busy before the run\n`)
if (busy > 10) process.stderr.write('warning: something else keeps this machine busy; figures of this run are no figures\n')
let server: RunningServer | undefined
try {
  if (wanted('start')) await startAndIdle()
  if (wanted('http') || wanted('mqtt') || wanted('visible')) server = await RunningServer.start({ data })
  // The history that the HTTP stage writes is what the heavy queries read.
  if (server !== undefined && (wanted('http') || wanted('visible'))) await httpBatches(server)
  if (server !== undefined && wanted('mqtt')) await mqttMessages(server)
  if (wanted('mosquitto')) await rival()
  if (wanted('routing')) await routing(add, scale)
  if (server !== undefined && wanted('visible')) await visibility(server)
  if (server !== undefined && wanted('start')) {
    add('start and idle', 'memory after the load (PSS)', memory([server.pid, server.serverPid]).pssMb, 'MB')
    await server.stop()
    server = await server.restart()
    add('start and idle', 'ready, with the data of this run', server.readyMs, 'ms', { aim: 1_000 })
  }
} finally {
  await server?.dispose()
  rmSync(data, { recursive: true, force: true })
}
const report = {
  name: 'RESULTS',
  about: [
    'Made by `npm run bench` (bench/run.ts); the same as JSON lines in `results.jsonl`. CPU is user and system time of all threads of the',
    'server process, from /proc. Rivals ran in the same run on the same machine. Figures of a shared machine vary by some 25 %.',
  ],
}
if (only === undefined && scale === 1) write(report, about, busy, figures, stages)
else process.stdout.write('some stages, or few messages: bench/RESULTS.md was left alone\n')
