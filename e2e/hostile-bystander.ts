/**
 * A worker of e2e/hostile-http.test.ts, with an event loop of its own: a small reading every 20 ms over one connection, until it is told to
 * end. Beside it what the machine itself takes: a few bytes written and synced on the same file system, as an acknowledgement needs them.
 */
import http from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { Phases, type Phase } from './hostile-phases.ts'

export interface BystanderInput {
  readonly port: number
  /** On the file system of the server's data. */
  readonly file: string
  /** Time of the first reading, epoch milliseconds; each further one is a millisecond later. */
  readonly firstMs: number
}

export interface BystanderResult {
  readonly phases: readonly Phase[]
  /** Numbers of the readings that were answered 202. */
  readonly acknowledged: readonly number[]
  /** All other answers, and connections that broke. */
  readonly refused: readonly string[]
  readonly connections: number
}

const everyMs = 20
const input = workerData as BystanderInput
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
const acknowledged: number[] = []
const refused: string[] = []
const phases = new Phases('first requests')
let connections = 0
let ended = false

parentPort!.on('message', (next: string) => {
  phases.next(next)
  if (next === 'end') ended = true
})

function send(n: number): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify({ device_id: 'bystander', n, timestamp: input.firstMs + n })
    const headers = { 'content-type': 'application/json', 'content-length': body.length }
    const request = http.request({ host: '127.0.0.1', port: input.port, path: '/api/v1/telemetry', method: 'POST', agent, headers }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (part: string) => (text += part))
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text })).on('error', reject)
    })
    request.on('socket', () => {
      if (!request.reusedSocket) connections++
    })
    request.on('error', reject)
    request.end(body)
  })
}

async function readings(): Promise<void> {
  for (let n = 0; !ended; n++) {
    const began = performance.now()
    try {
      const { status, text } = await send(n)
      if (status === 202) acknowledged.push(n)
      else refused.push(`reading ${n}: ${status} ${text.slice(0, 200)}`)
    } catch (error) {
      refused.push(`reading ${n}: ${error instanceof Error ? error.message : String(error)}`)
    }
    const took = performance.now() - began
    phases.answered(took)
    if (took < everyMs) await delay(everyMs - took)
  }
}

await Promise.all([readings(), phases.watchMachine(input.file, everyMs, () => ended)])
agent.destroy()
parentPort!.postMessage({ phases: phases.closed, acknowledged, refused, connections } satisfies BystanderResult)
parentPort!.close()
