/**
 * How fast a backlog drains, as after an outage of the store, beside messages that go on arriving. Prints one JSON line for each figure. Not part of `npm run bench`:
 *
 *   node bench/catch-up.ts [backlog in seconds of arrival=60] [messages a second=20000] [seconds of load at most=60]
 *
 * The log of a new data directory is given the backlog first: so many seconds of messages with three readings of 1,000 devices, 20 of them in a record, as they
 * come in company. Then a server is started on it, and MQTT QoS 1 messages arrive at the rate until the store has all of the backlog and of what came meanwhile.
 * `drain` is messages stored a second from the server's being ready to that moment; `ratio` is that over the rate of arrival. `ack` is how long the running load waited for its PUBACKs, over all
 * of its seconds: choose them as long as the drain takes. Then the same load comes for as long once more, to the same server, which has no backlog any more: `ack without` is what the other is to be
 * compared with.
 */
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { BatchBuilder } from '../src/core/batch-builder.ts'
import type { SeriesKey } from '../src/core/batch.ts'
import { nodeEnv, silentLogger } from '../src/core/env/node-env.ts'
import type { LogRecord } from '../src/core/record.ts'
import { openEmbeddedLog } from '../src/log/embedded/log.ts'
import { settled, status } from '../test/support/api.ts'
import { RunningServer } from '../test/support/server.ts'
import type { MqttLoad, MqttLoadResult } from './mqtt-load.ts'
import { cpuUs, machineBusyPercent } from './process.ts'

const backlogSeconds = Number(process.argv[2] ?? 60)
const rate = Number(process.argv[3] ?? 20_000)
const secondsMax = Number(process.argv[4] ?? 60)
const devices = 1000
const perRecord = 20
const recordsPerWrite = 50

const say = (line: Readonly<Record<string, unknown>>): void => void process.stdout.write(`${JSON.stringify(line)}\n`)
const keys: SeriesKey[] = Array.from({ length: devices * 3 }, (_, i) => ({
  tenant: 'default',
  device: `past-${String(Math.floor(i / 3)).padStart(6, '0')}`,
  metric: ['temperature', 'humidity', 'battery'][i % 3]!,
}))

/** Gives how many messages it wrote. */
async function backlog(dir: string): Promise<number> {
  const log = await openEmbeddedLog({ dir, env: nodeEnv(silentLogger), threads: true })
  const stop = new AbortController().signal
  const messages = backlogSeconds * rate
  const startUs = Date.now() * 1000 - backlogSeconds * 1e6
  let n = 0
  while (n < messages) {
    const records: LogRecord[] = []
    for (let r = 0; r < recordsPerWrite && n < messages; r++) {
      const builder = new BatchBuilder(keys, perRecord * 3)
      const receivedUs = startUs + Math.floor((n / rate) * 1e6)
      for (let i = 0; i < perRecord; i++, n++) {
        const device = n % devices
        for (let m = 0; m < 3; m++)
          builder.add(device * 3 + m, startUs + Math.floor((n / rate) * 1e6), Math.round((20 + 5 * Math.sin(n / 5e4 + device) + m) * 100) / 100, 0)
      }
      records.push({ topic: 'telemetry', kind: 'readings', key: '', receivedUs, batch: builder.view() })
    }
    await log.write(records, undefined, stop)
  }
  await log.close()
  return n
}

async function lagOf(http: string): Promise<number> {
  const { lag } = await status(http)
  const store = lag.find(({ group }) => group === 'store')
  return store === undefined ? Number.NaN : Number(store.end) - Number(store.committed)
}

function runLoad(load: MqttLoad): Promise<{ readonly stdout: string }> {
  return promisify(execFile)(process.execPath, [path.join(import.meta.dirname, 'mqtt-load.ts'), JSON.stringify(load)])
}

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-catch-up-'))
try {
  const busyPercent = Math.round(await machineBusyPercent(1000))
  say({ bench: 'catch-up', backlogSeconds, rate, devices, cores: os.availableParallelism(), busyPercent, node: process.versions.node })
  const behind = await backlog(path.join(dir, 'log'))
  const server = await RunningServer.start({ data: dir, readyWithinMs: 60_000 })
  try {
    // Some of it was stored before the server was ready.
    const left = (await lagOf(server.http)) * perRecord
    const beganMs = performance.now()
    const beganUs = cpuUs(server.serverPid)
    const load: MqttLoad = { port: server.mqttPort, connections: 32, burst: 4, rate, seconds: secondsMax, devices }
    const child = runLoad(load)
    await delay(1000)
    let drainedMs = Number.NaN
    let stored = left
    while (performance.now() - beganMs < secondsMax * 1000) {
      // What is on its way at this rate: 100 ms of gathering and a commit.
      if ((await lagOf(server.http)) * perRecord < rate / 4) {
        drainedMs = performance.now() - beganMs
        stored += (await status(server.http)).messages_total
        break
      }
      await delay(50)
    }
    const seconds = drainedMs / 1000
    const figure = (what: string, value: number, unit: string, aim?: number): void =>
      say({ stage: 'catch-up', what, value: Math.round(value * 100) / 100, unit, ...(aim === undefined ? {} : { aim }) })
    figure('backlog', behind, 'messages')
    figure('of it left when the server was ready', left, 'messages')
    figure('until it was drained', seconds, 's')
    figure('drain, stored a second beside the load', stored / seconds, 'messages/s')
    figure('drain over arrival', stored / seconds / rate, '×', 5)
    figure('CPU of the server a message, ingest included', (cpuUs(server.serverPid) - beganUs) / stored, 'µs')
    const { ackMs, messages, unacknowledged } = JSON.parse((await child).stdout) as MqttLoadResult
    figure('ack beside it, p50', ackMs.p50, 'ms')
    figure('ack beside it, p99', ackMs.p99, 'ms')
    figure('ack beside it, longest', ackMs.max, 'ms')
    say({ sent: messages, unacknowledged })
    await settled(server.http, 120_000)
    const alone = JSON.parse((await runLoad(load)).stdout) as MqttLoadResult
    figure('ack without a backlog, p50', alone.ackMs.p50, 'ms')
    figure('ack without a backlog, p99', alone.ackMs.p99, 'ms')
    figure('ack without a backlog, longest', alone.ackMs.max, 'ms')
    figure('ack p99, beside over without', ackMs.p99 / alone.ackMs.p99, '×')
  } finally {
    await server.dispose()
  }
} finally {
  fs.rmSync(dir, { recursive: true, force: true })
}
