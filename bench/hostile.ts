/**
 * What a bystander of the MQTT door waits while hostile clients are at it, those of e2e/hostile-mqtt.test.ts: a reading at QoS 1 every 20 ms, until it is
 * acknowledged and has come back. Not part of any test: it looks at the clock.
 *
 *   node bench/hostile.ts                        all phases, three times each
 *   node bench/hostile.ts --only retained,bad    those whose name has one of these
 *   node bench/hostile.ts --rounds 1
 *   node bench/hostile.ts --alone                without the lasting clients (silent connections, drips, those who never read)
 *
 * Printed for each phase: p50, p99 and the longest of the bystander's waits; the same of a client of bench/hostile-control.ts, a server that only writes,
 * syncs and answers, beside the same hostile clients, which is what the machine itself takes; the longest turn of the server's main thread in CPU time and by
 * the clock, and turns over 10 ms of CPU; its longest pause for garbage and all of them together; the thread's share of a core; memory at the end.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { behaviours, lasting, letGo, type Behaviour } from '../e2e/hostile-mqtt-behaviour.ts'
import type { BystanderInput, BystanderResult } from '../e2e/hostile-mqtt-bystander.ts'
import type { Phase } from '../e2e/hostile-phases.ts'
import { RunningServer } from '../test/support/server.ts'
import { distribution, memory, threadsCpuUs, type Distribution } from './process.ts'
import { told } from './turns.ts'

const { values } = parseArgs({
  options: { only: { type: 'string' }, rounds: { type: 'string', default: '3' }, alone: { type: 'boolean', default: false } },
})
const only = values.only?.split(',')
const quietMs = 2_000
/** After a phase: what it has left to the log, to readers of it and to the collector is part of it. */
const afterMs = 500

interface Seen {
  turnMs: number
  turnCpuMs: number
  long: number
  gcMs: number
  gcAllMs: number
  wallMs: number
  mainMs: number
  rssMb: number
}

const dir = mkdtempSync(path.join(os.tmpdir(), 'kymo-hostile-'))
const turnsFile = path.join(dir, 'turns.jsonl')
writeFileSync(turnsFile, '')
const preload = `--import ${path.join(import.meta.dirname, 'turns.ts')}`
const options = [process.env['HOSTILE_NODE_OPTIONS'] ?? '', preload].join(' ').trim()
const server = await RunningServer.start({ data: path.join(dir, 'data'), env: { STALLS_FILE: turnsFile, NODE_OPTIONS: options } })
const control = fork(path.join(import.meta.dirname, 'hostile-control.ts'), [path.join(dir, 'control.tmp')], { execArgv: [] })
const [address] = (await once(control, 'message')) as [AddressInfo]
const workerData: BystanderInput = { port: server.mqttPort, file: path.join(dir, 'bystander.tmp'), firstMs: Date.now() - 60_000 }
const bystander = new Worker(new URL('../e2e/hostile-mqtt-bystander.ts', import.meta.url), { workerData, execArgv: [] })
const beside = new Worker(new URL('hostile-control.ts', import.meta.url), { workerData: address.port, execArgv: [] })
const seen = new Map<string, Seen>()

function begin(name: string): void {
  bystander.postMessage(name)
  beside.postMessage(name)
}

const mainUs = (): number => threadsCpuUs(server.serverPid).get(server.serverPid)?.us ?? Number.NaN

async function phase(behaviour: Behaviour): Promise<void> {
  const { name } = behaviour
  begin(name)
  const beganMs = performance.timeOrigin + performance.now()
  const began = performance.now()
  const usBefore = mainUs()
  await behaviour.run({ mqtt: server.mqttPort, http: server.httpPort })
  await delay(afterMs)
  const wallMs = performance.now() - began
  const mainMs = (mainUs() - usBefore) / 1_000
  begin('between')
  // The collector's pauses are told a moment later.
  await delay(300)
  const { turns, pauses } = told(readFileSync(turnsFile, 'utf8'), beganMs)
  const one = seen.get(name) ?? { turnMs: 0, turnCpuMs: 0, long: 0, gcMs: 0, gcAllMs: 0, wallMs: 0, mainMs: 0, rssMb: 0 }
  for (const { ms, cpuMs } of turns) {
    one.turnMs = Math.max(one.turnMs, ms)
    one.turnCpuMs = Math.max(one.turnCpuMs, cpuMs)
    if (cpuMs > 10) one.long++
  }
  for (const { gcMs } of pauses) {
    one.gcMs = Math.max(one.gcMs, gcMs)
    one.gcAllMs += gcMs
  }
  one.wallMs += wallMs
  one.mainMs += mainMs
  one.rssMb = memory([server.serverPid]).rssMb
  seen.set(name, one)
}

/** Of all rounds together. */
function waits(phases: readonly Phase[]): ReadonlyMap<string, Distribution> {
  const byName = new Map<string, number[]>()
  for (const { name, samples } of phases) byName.set(name, [...(byName.get(name) ?? []), ...samples])
  return new Map([...byName].map(([name, samples]) => [name, distribution(samples)]))
}

const three = ({ p50, p99, max }: Distribution): string => [p50, p99, max].map((ms) => ms.toFixed(1).padStart(6)).join(' ')

try {
  await delay(1_000)
  const chosen = behaviours.filter(({ name }) => only === undefined || only.some((part) => name.includes(part)))
  await phase({ name: 'quiet', run: () => delay(quietMs) })
  if (!values.alone) for (const one of lasting) await phase(one)
  for (let round = 0; round < Number(values.rounds); round++) for (const one of chosen) await phase(one)
  letGo()
  await phase({ name: 'aftermath', run: () => delay(quietMs) })
  begin('end')
  const [[{ phases, disconnects }], [{ phases: besides }]] = (await Promise.all([once(bystander, 'message'), once(beside, 'message')])) as [
    [BystanderResult],
    [{ phases: readonly Phase[] }],
  ]
  if (disconnects > 0) process.stdout.write('THE BYSTANDER WAS DISCONNECTED\n')
  const [own, machine] = [waits(phases), waits(besides)]
  process.stdout.write(
    `${'phase'.padEnd(60)}     n    bystander p50/p99/max   machine p50/p99/max   turn CPU   ms >10ms    gc    all  main   RSS MB\n`,
  )
  for (const [name, one] of seen) {
    const [a, b] = [own.get(name), machine.get(name)]
    if (a === undefined || b === undefined) continue
    const figures = [
      String(a.n).padStart(5),
      ` ${three(a)}  ${three(b)}  `,
      one.turnCpuMs.toFixed(0).padStart(6),
      one.turnMs.toFixed(0).padStart(6),
      String(one.long).padStart(5),
      one.gcMs.toFixed(0).padStart(5),
      one.gcAllMs.toFixed(0).padStart(6),
      `${((100 * one.mainMs) / one.wallMs).toFixed(0)}%`.padStart(5),
      one.rssMb.toFixed(0).padStart(7),
    ]
    process.stdout.write(`${name.slice(0, 60).padEnd(60)} ${figures.join(' ')}\n`)
  }
} finally {
  letGo()
  control.disconnect()
  await bystander.terminate()
  await beside.terminate()
  await server.dispose()
  rmSync(dir, { recursive: true, force: true })
}
