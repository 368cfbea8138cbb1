/**
 * Looks at the server from outside while others load it, a process of its own. Two modes:
 *
 *   visible: publishes one reading at a time over MQTT QoS 1 and asks the query API until the answer has it: ms from publish to there.
 *   livez:   GET /livez on a kept-alive connection, again and again: what a stalled event loop adds.
 *   heavy:   one query after the other over all devices, as a dashboard of the whole fleet would ask.
 *
 *   node bench/probe.ts '{"mode":"visible","httpPort":8080,"mqttPort":1883,"seconds":20,"lanes":2}'
 */
import http from 'node:http'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { RawMqtt } from '../test/support/mqtt-client.ts'
import { distribution, type Distribution } from './process.ts'

export interface Probe {
  readonly mode: 'visible' | 'livez' | 'heavy'
  readonly httpPort: number
  readonly mqttPort: number
  readonly seconds: number
  readonly lanes: number
}

export interface ProbeResult extends Distribution {
  readonly failures: number
  /** Of the answers, in bytes in all. */
  readonly bytes: number
}

const probe = JSON.parse(process.argv[2] ?? '{}') as Probe
const agent = new http.Agent({ keepAlive: true, maxSockets: 16 })
let bytes = 0
let failures = 0

function get(path: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: '127.0.0.1', port: probe.httpPort, path, agent }, (answer) => {
      let text = ''
      answer.setEncoding('utf8')
      answer.on('data', (part: string) => {
        bytes += part.length
        if (text.length < 65_536) text += part
      })
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
    })
    request.on('error', reject)
  })
}

async function visible(until: number, lane: number): Promise<number[]> {
  const samples: number[] = []
  const device = `probe-${process.pid}-${lane}`
  const client = await RawMqtt.connect({ port: probe.mqttPort, clientId: device })
  for (let n = 1; performance.now() < until; n++) {
    const timeMs = Date.now()
    const path = `/api/v1/query?device=${device}&metric=seq&from=${timeMs}&to=${timeMs + 1}&limit=1&time=ms`
    const began = performance.now()
    client.publish({
      topic: 'portfolio/telemetry',
      payload: `{"device_id":"${device}","seq":${n},"timestamp":${timeMs}}`,
      qos: 1,
      packetId: n % 65_535 || 1,
    })
    for (;;) {
      const answer = await get(path)
      if (answer.status === 200 && (JSON.parse(answer.text) as { rows: number }).rows > 0) break
      // 404 until the device is known; anything else is counted.
      if (answer.status !== 200 && answer.status !== 404) failures++
      if (performance.now() - began > 30_000) throw new Error('a reading did not become visible within 30 s')
      await delay(1)
    }
    samples.push(performance.now() - began)
    await delay(20)
  }
  client.destroy()
  return samples
}

async function repeat(until: number, path: string, pauseMs: number): Promise<number[]> {
  const samples: number[] = []
  while (performance.now() < until) {
    const began = performance.now()
    const answer = await get(path)
    if (answer.status !== 200) failures++
    samples.push(performance.now() - began)
    if (pauseMs > 0) await delay(pauseMs)
  }
  return samples
}

/** One lane each: what dashboards and exports of a whole fleet ask. */
const heavyQueries = [
  '/api/v1/query?from=-24h&step=1h&agg=avg,min,max,stddev&limit=100000',
  '/api/v1/query?metric=temperature&from=-24h&step=5m&agg=avg&limit=100000',
  '/api/v1/query?metric=humidity&from=-24h&step=1m&agg=avg,max&limit=100000',
  '/api/v1/query?metric=battery&from=-24h&order=desc&limit=100000',
]

const until = performance.now() + probe.seconds * 1000
const lane = (i: number): Promise<number[]> => {
  if (probe.mode === 'visible') return visible(until, i)
  if (probe.mode === 'livez') return repeat(until, '/livez', 2)
  return repeat(until, heavyQueries[i % heavyQueries.length]!, 0)
}
const samples = (await Promise.all(Array.from({ length: probe.lanes }, (_, i) => lane(i)))).flat()
process.stdout.write(`${JSON.stringify({ ...distribution(samples), failures, bytes } satisfies ProbeResult)}\n`)
agent.destroy()
