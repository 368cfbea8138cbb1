/**
 * A worker of e2e/hostile-mqtt.test.ts, with an event loop of its own: every 20 ms a reading at QoS 1, over a connection that has subscribed to its own
 * topic, until it is told to end. What counts is the time until both have come, the acknowledgement and the message.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { RawMqtt } from '../test/support/mqtt-client.ts'
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
  /** Numbers of the readings that were acknowledged, and that came back, in order. */
  readonly acknowledged: readonly number[]
  readonly received: readonly number[]
  readonly sent: number
  readonly disconnects: number
}

const everyMs = 20
const answerWithinMs = 30_000
const topic = 'devices/bystander/telemetry'
const input = workerData as BystanderInput
const phases = new Phases('first messages')
const acknowledged: number[] = []
const received: number[] = []
let sent = 0
let disconnects = 0
let ended = false

parentPort!.on('message', (next: string) => {
  phases.next(next)
  if (next === 'end') ended = true
})

const client = await RawMqtt.connect({ port: input.port, clientId: 'bystander', keepAliveS: 10 })
let wake: () => void = () => undefined
client.onClose = () => {
  if (!ended) disconnects++
  wake()
}
client.onPuback = () => {
  acknowledged.push(sent)
  wake()
}
client.onPublish = ({ payload }) => {
  received.push(Number((JSON.parse(payload.toString()) as { readonly n: number }).n))
  wake()
}
if ((await client.subscribe(topic, 1)) !== 1) throw new Error('the bystander may not subscribe')

async function readings(): Promise<void> {
  while (!ended && disconnects === 0) {
    const began = performance.now()
    const n = ++sent
    client.publish({ topic, payload: JSON.stringify({ n, timestamp: input.firstMs + n }), qos: 1, packetId: 1 + (n % 65_535) })
    const late = setTimeout(() => client.destroy(), answerWithinMs)
    while (disconnects === 0 && (acknowledged.at(-1) !== n || received.at(-1) !== n)) await new Promise<void>((resolve) => (wake = resolve))
    clearTimeout(late)
    const took = performance.now() - began
    phases.answered(took)
    if (took < everyMs) await delay(everyMs - took)
  }
}

await Promise.all([readings(), phases.watchMachine(input.file, everyMs, () => ended)])
client.destroy()
parentPort!.postMessage({ phases: phases.closed, acknowledged, received, sent, disconnects } satisfies BystanderResult)
parentPort!.close()
