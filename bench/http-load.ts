/**
 * Load generator for HTTP, a process of its own: JSON arrays of S1-like messages, one request at a time on each keep-alive
 * connection.
 *
 *   node bench/http-load.ts '{"url":"http://127.0.0.1:8080/api/v1/telemetry","connections":2,"items":1000,"requests":500,"devices":1000}'
 */
import http from 'node:http'
import process from 'node:process'
import { distribution } from './process.ts'

export interface HttpLoad {
  readonly url: string
  readonly connections: number
  /** Messages in one body, three readings each. */
  readonly items: number
  readonly requests: number
  readonly devices: number
}

export interface HttpLoadResult {
  readonly messages: number
  readonly readings: number
  readonly bytes: number
  readonly seconds: number
  readonly requestMs: { readonly p50: number; readonly p99: number; readonly max: number }
  readonly clientCpuUs: number
}

function body(load: HttpLoad, request: number, baseMs: number): Buffer {
  const items: string[] = []
  for (let i = 0; i < load.items; i++) {
    const n = request * load.items + i
    const device = String(n % load.devices).padStart(6, '0')
    // A message a minute of each device: half a day of history.
    const time = baseMs + Math.floor(n / load.devices) * 60_000
    const [a, b] = [10 + ((n * 7) % 90), 10 + ((n * 13) % 90)]
    items.push(`{"device_id":"http-${device}","firmware":"1.0.0","temperature":25.${a},"humidity":60.${b},"battery":85.01,"timestamp":${time}}`)
  }
  return Buffer.from(`[${items.join(',')}]`)
}

function post(url: string, agent: http.Agent, bytes: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      url,
      { method: 'POST', agent, headers: { 'content-type': 'application/json', 'content-length': bytes.length } },
      (answer) => {
        answer.resume()
        answer.on('end', () => resolve(answer.statusCode ?? 0))
      },
    )
    request.on('error', reject)
    request.end(bytes)
  })
}

async function main(load: HttpLoad): Promise<void> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: load.connections })
  const baseMs = Date.now() - 12 * 3_600_000
  // Bodies are made before the clock runs: what is measured is the server, and the loader must not be the limit.
  const bodies = Array.from({ length: load.requests }, (_, i) => body(load, i, baseMs))
  const latencies: number[] = []
  const cpu = process.cpuUsage()
  const began = performance.now()
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < bodies.length) {
      const bytes = bodies[next++]!
      const sentAt = performance.now()
      const status = await post(load.url, agent, bytes)
      if (status < 200 || status > 299) throw new Error(`the server answered ${status}`)
      latencies.push(performance.now() - sentAt)
    }
  }
  await Promise.all(Array.from({ length: load.connections }, worker))
  const used = process.cpuUsage(cpu)
  const result: HttpLoadResult = {
    messages: load.items * load.requests,
    readings: load.items * load.requests * 3,
    bytes: bodies.reduce((sum, bytes) => sum + bytes.length, 0),
    seconds: (performance.now() - began) / 1000,
    requestMs: distribution(latencies),
    clientCpuUs: used.user + used.system,
  }
  process.stdout.write(`${JSON.stringify(result)}\n`)
  agent.destroy()
}

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? '{}') as HttpLoad)
