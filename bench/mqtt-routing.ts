import { spawn, type ChildProcess } from 'node:child_process'
import path from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { RunningServer } from '../test/support/server.ts'
import { mosquittoPath, startMosquitto } from './mosquitto.ts'
import type { MqttFlow, MqttFlowResult } from './mqtt-flow.ts'
import type { MqttIdleResult } from './mqtt-idle.ts'
import { byThread, cpuUs, memory, threadsCpuUs } from './process.ts'
import type { Figure } from './report.ts'

export type Add = (stage: string, what: string, value: number, unit: string, more?: Pick<Figure, 'aim' | 'note'>) => void

export const routingText =
  'Plain messages of 100 bytes on topics that are no telemetry, MQTT 3.1.1, by way of the broker: its CPU, idle CPU included, until the last delivery has come. ' +
  'A publisher at QoS 1 waits for all PUBACKs of a burst before the next one. Mosquitto without persistence in the same run.'

interface Target {
  readonly name: string
  readonly port: number
  readonly pid: number
}

const stage = 'routing'
/** Messages of a full run. */
const cases: readonly {
  readonly name: string
  readonly flow: Omit<MqttFlow, 'port'>
  readonly per: 'message' | 'delivery'
  readonly share?: number
}[] = [
  {
    name: 'received only, QoS 1, 16 a read',
    flow: { publishers: 32, subscribers: 0, topics: 1, qos: 1, burst: 16, messages: 400_000 },
    per: 'message',
  },
  { name: '1 to 1, QoS 0, 16 a read', flow: { publishers: 32, subscribers: 32, topics: 32, qos: 0, burst: 16, messages: 400_000 }, per: 'message' },
  {
    name: '1 to 1, QoS 1, 16 a read',
    flow: { publishers: 32, subscribers: 32, topics: 32, qos: 1, burst: 16, messages: 300_000 },
    per: 'message',
    share: 0.5,
  },
  {
    name: '1 to 1, QoS 1, 16 a read, sessions that stay',
    flow: { publishers: 32, subscribers: 32, topics: 32, qos: 1, burst: 16, messages: 200_000, stays: true, prefix: 'bench/stays' },
    per: 'message',
  },
  { name: '32 to 1, QoS 1, 16 a read', flow: { publishers: 32, subscribers: 1, topics: 1, qos: 1, burst: 16, messages: 300_000 }, per: 'message' },
  { name: '1 to 1,000, QoS 0', flow: { publishers: 1, subscribers: 1000, topics: 1, qos: 0, burst: 1, messages: 800 }, per: 'delivery' },
  { name: '1 to 1,000, QoS 1', flow: { publishers: 1, subscribers: 1000, topics: 1, qos: 1, burst: 1, messages: 400 }, per: 'delivery' },
  { name: '1,000 to 1, QoS 1', flow: { publishers: 1000, subscribers: 1, topics: 1, qos: 1, burst: 1, messages: 100_000 }, per: 'message' },
]

/** A program of this folder that says a line when it has come so far, and goes on when it is told. */
class Steps {
  readonly child: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(script: string, input: object) {
    const child = spawn(process.execPath, [path.join(import.meta.dirname, script), JSON.stringify(input)], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.child = child
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  }

  async line(): Promise<string> {
    const next = await this.#lines.next()
    if (next.done === true) throw new Error('it ended before it had said anything')
    return next.value
  }

  go(): void {
    this.child.stdin?.write('\n')
  }

  end(): void {
    this.child.stdin?.end()
  }
}

async function flow(target: Target, flow: Omit<MqttFlow, 'port'>): Promise<MqttFlowResult & { readonly cpu: number; readonly threads: string }> {
  const steps = new Steps('mqtt-flow.ts', { ...flow, port: target.port })
  await steps.line()
  const cpu = cpuUs(target.pid)
  const threads = threadsCpuUs(target.pid)
  steps.go()
  const result = JSON.parse(await steps.line()) as MqttFlowResult
  return { ...result, cpu: cpuUs(target.pid) - cpu, threads: byThread(target.pid, threads, Math.max(result.messages, result.deliveries)) }
}

/** Gives the CPU of each case, by its name. */
async function routed(target: Target, add: Add, scale: number, rival: ReadonlyMap<string, number>): Promise<Map<string, number>> {
  const found = new Map<string, number>()
  for (const { name, flow: full, per, share } of cases) {
    const messages = Math.max(full.burst * full.publishers, Math.round(full.messages * scale))
    const { cpu, threads, ...result } = await flow(target, { ...full, messages })
    const count = per === 'message' ? result.messages : result.deliveries
    const beside = rival.get(name)
    found.set(name, cpu / count)
    add(stage, `${target.name}: CPU a ${per}, ${name}`, cpu / count, 'µs', {
      ...(share === undefined || beside === undefined ? {} : { aim: beside * share }),
      note: [
        ...(beside === undefined ? [] : [`${(cpu / count / beside).toFixed(2)} of Mosquitto's`]),
        threads,
        ...(result.lost > 0 ? [`${result.lost} deliveries did not come`] : []),
      ].join('; '),
    })
    const cores = (us: number): string => `${Math.round(us / 1e4 / result.seconds)} %`
    add(stage, `${target.name}: throughput, ${name}`, count / result.seconds, per === 'message' ? 'messages/s' : 'deliveries/s', {
      note: `broker CPU ${cores(cpu)}, client CPU ${cores(result.clientCpuUs)}`,
    })
  }
  return found
}

async function connections(target: Target, add: Add, scale: number): Promise<void> {
  const wanted = Math.max(100, Math.round(10_000 * scale))
  const before = memory([target.pid])
  const cpu = cpuUs(target.pid)
  const steps = new Steps('mqtt-idle.ts', { port: target.port, connections: wanted, atOnce: 64 })
  const result = JSON.parse(await steps.line()) as MqttIdleResult
  const failed = result.failed === undefined ? {} : { note: `${result.failed}: ${result.connections} of ${wanted}` }
  add(stage, `${target.name}: connect rate, 64 at a time`, result.connections / result.seconds, 'connections/s', failed)
  add(stage, `${target.name}: CPU a connection`, (cpuUs(target.pid) - cpu) / result.connections, 'µs')
  await delay(5_000)
  const after = memory([target.pid])
  const ours = target.name === 'Kymo' ? { aim: 150 * scale } : {}
  add(stage, `${target.name}: memory of ${result.connections} idle connections (PSS)`, after.pssMb - before.pssMb, 'MB', ours)
  steps.end()
  // They are gone before anything else is measured.
  await delay(1_000)
}

/** All of it. `scale` 1 takes about a minute and a half. */
export async function routing(add: Add, scale: number): Promise<void> {
  const file = mosquittoPath()
  let rival = new Map<string, number>()
  if (file === undefined) process.stdout.write('mosquitto is not installed: nothing to compare with\n')
  else {
    const broker = await startMosquitto(file)
    const target = { name: `Mosquitto ${broker.version}`, port: broker.port, pid: broker.pid }
    await connections(target, add, scale)
    rival = await routed(target, add, scale, rival)
    broker.stop()
  }
  const server = await RunningServer.start()
  try {
    const target = { name: 'Kymo', port: server.mqttPort, pid: server.serverPid }
    await connections(target, add, scale)
    await routed(target, add, scale, rival)
  } finally {
    await server.dispose()
  }
}
