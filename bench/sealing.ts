/**
 * What closing, sealing and merging cost those who write and read meanwhile. Prints JSON lines. Not part of `npm run bench`: it looks at one part alone.
 *
 *   node bench/sealing.ts [seconds=20 of each phase] [messages a second=20000] [seal_mb=16] [server]
 *
 * Without `server` two phases on the embedded store, in this process as in the store worker's: one in which the hot file is only written, and one in which it is closed
 * whenever it has `seal_mb`, sealed by the child and merged. In both, 1,000 devices send messages of three readings (on a clock that runs 60
 * times as fast, so that hours and minutes close), in commits of a tenth of a second each at the rate that is asked for: `commit` is from the moment at
 * which a commit was due, so a stall counts for all that it holds up. Beside it a light query (one device's last ten minutes) every 20 ms, from the
 * moment at which it was due. `lag` is how late a timer of this process fires.
 */
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Dedupe } from '../src/compute/window/dedupe.ts'
import { Rollup } from '../src/compute/window/rollup.ts'
import { BatchBuilder } from '../src/core/batch-builder.ts'
import type { SeriesKey } from '../src/core/batch.ts'
import { nodeEnv } from '../src/core/env/node-env.ts'
import type { Env, Logger } from '../src/core/env.ts'
import type { RollupColumns, Tables } from '../src/core/ports.ts'
import { openDuckdbStore } from '../src/store/duckdb/store.ts'
import { RunningServer } from '../test/support/server.ts'
import type { MqttLoad } from './mqtt-load.ts'
import type { Probe } from './probe.ts'
import { distribution, machineBusyPercent } from './process.ts'

const seconds = Number(process.argv[2] ?? 20)
const rate = Number(process.argv[3] ?? 20_000)
const sealMb = Number(process.argv[4] ?? 16)
const devices = 1000
const commitMs = 100
const queryMs = 20
const speed = 60
const stop = new AbortController().signal

const say = (line: Readonly<Record<string, unknown>>): void => void process.stdout.write(`${JSON.stringify(line)}\n`)
const rounded = (samples: readonly number[]): Readonly<Record<string, number>> =>
  Object.fromEntries(Object.entries(distribution(samples)).map(([name, value]) => [name, Math.round(Number(value) * 10) / 10]))

const logger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: (message, fields) => say({ warn: message, ...fields }),
  error: (message, fields) => say({ error: message, ...fields }),
  child: () => logger,
}
const real = nodeEnv(logger)
/** A day that began when this did. */
const startUs = Math.floor(Date.now() / 86_400_000) * 86_400e6
const began = performance.now()
const nowUs = (): number => startUs + Math.floor((performance.now() - began) * 1000 * speed)
const env: Env = {
  ...real,
  clock: { ...real.clock, nowUs, monotonicMs: () => real.clock.monotonicMs(), after: (ms, fn) => real.clock.after(ms, fn) },
}

const keys: SeriesKey[] = Array.from({ length: devices * 3 }, (_, i) => ({
  tenant: 'default',
  device: `bench-${Math.floor(i / 3)}`,
  metric: ['temperature', 'humidity', 'battery'][i % 3]!,
}))

async function phase(name: string, dir: string, seals: boolean, first: number): Promise<number> {
  const store = await openDuckdbStore({ dir, env, sealBytes: seals ? sealMb * 2 ** 20 : 2 ** 40, sealAfterMs: 2 ** 31 - 1 })
  const dedupe = new Dedupe()
  const rollup = new Rollup()
  const resumed = await store.resume('log-1', 'telemetry', 0)
  for (const state of resumed?.states ?? []) (state.operator === 'dedupe' ? dedupe : rollup).restore(state.bytes)
  let next = first
  const commits: number[] = []
  const queries: number[] = []
  const lags: number[] = []
  const upkeep: { readonly what: string; readonly ms: number }[] = []
  const from = performance.now()
  const until = from + seconds * 1000
  const perCommit = Math.round((rate * commitMs) / 1000)

  const write = async (): Promise<void> => {
    for (let due = from; due < until; due += commitMs) {
      if (due > performance.now()) await delay(due - performance.now())
      const builder = new BatchBuilder(keys, perCommit * 3)
      for (let i = 0; i < perCommit; i++) {
        const device = (next * perCommit + i) % devices
        const timeUs = nowUs() - 1_000_000 + i * 10
        for (let m = 0; m < 3; m++) builder.add(device * 3 + m, timeUs, Math.round((20 + 5 * Math.sin(next / 100 + device) + m) * 100) / 100, 0)
      }
      const rollups: RollupColumns[] = []
      const tables = { readings: [] as Tables['readings'][number][], late: [] as Tables['late'][number][], rollups }
      rollup.tick(nowUs(), (columns) => void rollups.push(columns))
      dedupe.push(builder.view(), (out) => {
        tables.readings.push(out.inOrder)
        tables.late.push(out.late)
        rollup.push(out.inOrder, (columns) => void rollups.push(columns))
      })
      const at = BigInt(next + 1)
      const states =
        next % 100 === 0
          ? [
              { operator: 'dedupe', at, bytes: dedupe.snapshot() },
              { operator: 'rollup', at, bytes: rollup.snapshot() },
            ]
          : []
      await store.commit({ tables, span: { log: 'log-1', topic: 'telemetry', partition: 0, first: BigInt(next), next: at }, states }, stop)
      next++
      commits.push(performance.now() - due)
    }
  }
  const read = async (): Promise<void> => {
    for (let due = from; due < until; due += queryMs) {
      if (due > performance.now()) await delay(due - performance.now())
      const match = { tenant: 'default', devices: [`bench-${(queries.length * 7919) % devices}`] }
      const query = { match, fromUs: nowUs() - 600e6, toUs: nowUs() + 1e9, order: 'desc', limit: 1000 } as const
      for await (const page of store.query(query, stop)) if (page.rows === 0) throw new Error('an empty page')
      queries.push(performance.now() - due)
    }
  }
  const lag = async (): Promise<void> => {
    while (performance.now() < until) {
      const due = performance.now() + 5
      await delay(5)
      lags.push(Math.max(0, performance.now() - due))
    }
  }
  const seal = async (): Promise<void> => {
    const runs = (): number => fs.globSync('sealed/*/*-raw.duckdb', { cwd: dir }).length
    while (seals && performance.now() < until) {
      const before = runs()
      const at = performance.now()
      await store.seal()
      if (runs() !== before || performance.now() - at > 50)
        upkeep.push({ what: `${before} to ${runs()} runs`, ms: Math.round(performance.now() - at) })
      await delay(200)
    }
  }
  await Promise.all([write(), read(), lag(), seal()])
  const ms = performance.now() - from
  say({
    phase: name,
    seconds: Math.round(ms / 100) / 10,
    messagesPerSecond: Math.round((commits.length * perCommit * 1000) / ms),
    commitMs: rounded(commits),
    queryMs: rounded(queries),
    lagMs: rounded(lags),
    storeMB: Math.round(store.stats().bytes / 1e6),
    ...(seals ? { sealings: upkeep.length, upkeep } : {}),
  })
  // A sealing that is under way is broken off, so that closing is measured as well.
  const closing = performance.now()
  await store.close()
  say({ phase: name, closeMs: Math.round(performance.now() - closing) })
  return next
}

/** A phase through a server of its own. */
async function served(name: string, megabytes: number): Promise<void> {
  const server = await RunningServer.start({ env: { KYMO_STORE_SEAL_MB: String(megabytes) } })
  try {
    const child = async (script: string, input: MqttLoad | Probe): Promise<unknown> => {
      const { stdout } = await promisify(execFile)(process.execPath, [path.join(import.meta.dirname, script), JSON.stringify(input)])
      return JSON.parse(stdout)
    }
    const load: MqttLoad = { port: server.mqttPort, connections: 32, burst: 4, rate, seconds, devices }
    const probe: Probe = { mode: 'visible', httpPort: server.httpPort, mqttPort: server.mqttPort, seconds, lanes: 2 }
    const [sent, visibleMs] = await Promise.all([child('mqtt-load.ts', load), child('probe.ts', probe)])
    const runs = fs.globSync('store/sealed/*/*-raw.duckdb', { cwd: server.data }).length
    say({ phase: name, sent, visibleMs, runs })
    await server.stop()
  } finally {
    await server.dispose()
  }
}

if (process.argv[5] === 'server') {
  await served('written alone', 4096)
  await served('sealed and merged', sealMb)
  process.exit(0)
}

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kymo-sealing-'))
try {
  say({ devices, rate, sealMb, seconds, cores: os.availableParallelism(), machineBusyPercent: Math.round(await machineBusyPercent(1000)) })
  const next = await phase('written alone', dir, false, 0)
  await phase('sealed and merged', dir, true, next)
} finally {
  fs.rmSync(dir, { recursive: true, force: true })
}
