/**
 * How long one client can hold the main thread: starts the server as a process, and lets one hostile client after the other at it while a
 * bystander asks `GET /livez` every 5 ms. Not part of any test: it looks at the clock.
 *
 *   node bench/stalls.ts                         all cases
 *   node bench/stalls.ts --only http,latest      those whose name has one of these
 *   node bench/stalls.ts --tries 3               the shortest of three, as a busy machine makes everything longer and nothing shorter
 *
 * Printed for each case: the longest turn of the event loop in CPU time of the thread (bench/turns.ts) and by the clock, how many turns took more than 10
 * ms, what the server's own histogram says of turns over 25 ms, the p99 and the longest wait of the bystander, and how the hostile requests were answered.
 */
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { RunningServer } from '../test/support/server.ts'
import type { Distribution } from './process.ts'
import { cases, type Client } from './stall-cases.ts'
import { told, type Turn } from './turns.ts'

const { values } = parseArgs({ options: { only: { type: 'string' }, tries: { type: 'string', default: '1' } } })
const only = values.only?.split(',')

const dir = mkdtempSync(path.join(os.tmpdir(), 'kymo-stalls-'))
const turnsFile = path.join(dir, 'turns.jsonl')
writeFileSync(turnsFile, '')
const preload = `--import ${path.join(import.meta.dirname, 'turns.ts')}`
const server = await RunningServer.start({
  data: path.join(dir, 'data'),
  env: { STALLS_FILE: turnsFile, NODE_OPTIONS: preload, KYMO_DEVICES_REGISTRATIONS_PER_S: '20000' },
})

const agent = new http.Agent({ keepAlive: true, maxSockets: 512 })

const client: Client = {
  server,
  request(method, url, o = {}) {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; bytes: number; text: string }>()
    const headers = o.body === undefined ? {} : { 'content-type': o.type ?? 'application/json', 'content-length': o.body.length, ...o.headers }
    const request = http.request(`${server.http}${url}`, { method, agent, headers }, (answer) => {
      let bytes = 0
      let text = ''
      answer.on('data', (part: Buffer) => {
        bytes += part.length
        if (text.length < 300) text += part.toString('utf8', 0, 300)
      })
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, bytes, text }))
      answer.on('error', reject)
    })
    request.on('error', reject)
    request.end(o.body)
    return promise
  },
}

/** Of the server's own histogram: turns longer than 25 ms. */
async function stallsOver25(): Promise<number> {
  const text = await (await fetch(`${server.http}/metrics`)).text()
  const at = (le: string): number =>
    Number(new RegExp(`^kymo_event_loop_stall_seconds_bucket\\{le="${le.replace('+', '\\+')}"\\} (\\d+)`, 'm').exec(text)?.[1])
  return at('+Inf') - at('0.025')
}

interface Seen {
  readonly cpuMs: number
  readonly ms: number
  readonly long: number
  readonly over25: number
  readonly bystander: Distribution
  readonly answer: string
}

async function look(run: () => Promise<string>): Promise<Seen> {
  const bystander = new Worker(path.join(import.meta.dirname, 'bystander.ts'), { workerData: server.httpPort, execArgv: [] })
  await delay(300)
  const before = await stallsOver25()
  const beganMs = performance.timeOrigin + performance.now()
  const answer = await run()
  await delay(300)
  const { turns } = told(readFileSync(turnsFile, 'utf8'), beganMs)
  bystander.postMessage('end')
  const [waits] = (await once(bystander, 'message')) as [Distribution]
  const longest = (of: (turn: Turn) => number): number => turns.reduce((max, turn) => Math.max(max, of(turn)), 0)
  return {
    cpuMs: longest((turn) => turn.cpuMs),
    ms: longest((turn) => turn.ms),
    long: turns.filter((turn) => turn.cpuMs > 10).length,
    over25: (await stallsOver25()) - before,
    bystander: waits,
    answer,
  }
}

process.stdout.write(`${'case'.padEnd(58)} CPU ms   ms  >10ms >25ms  bystander p99 / max   answer\n`)
try {
  for (const { name, prepare } of cases) {
    if (only !== undefined && !only.some((part) => name.includes(part))) continue
    let best: Seen | undefined
    for (let i = 0; i < Number(values.tries); i++) {
      const run = await prepare(client, i)
      // What the case before has left behind is read within this time; the store goes on in its own thread.
      await delay(1_000)
      const seen = await look(run)
      if (best === undefined || seen.cpuMs < best.cpuMs) best = seen
    }
    if (best === undefined) continue
    const { cpuMs, ms, long, over25, bystander, answer } = best
    const figures = `${cpuMs.toFixed(1).padStart(6)} ${ms.toFixed(0).padStart(5)} ${String(long).padStart(5)} ${String(over25).padStart(5)}`
    process.stdout.write(
      `${name.padEnd(58)} ${figures}  ${bystander.p99.toFixed(1).padStart(6)} / ${bystander.max.toFixed(1).padStart(6)}      ${answer}\n`,
    )
  }
} finally {
  agent.destroy()
  await server.dispose()
  rmSync(dir, { recursive: true, force: true })
}
