import { HttpSender } from '../http-sender.ts'
import { MqttPublisher } from '../mqtt-client/publisher.ts'
import { LatencyHistogram } from './histogram.ts'
import type { Ledger, Schedule } from './ledger.ts'
import { deviceOf } from './ledger.ts'
import type { Format } from './payload.ts'
import { encodeMessage, routes } from './payload.ts'

/** Carries messages [first, first + n) away as one body, or says false when too much is under way. */
export interface Carrier {
  send(first: number, n: number): boolean
  /** Connections in words. */
  readonly name: string
  /** What was wrong with failed messages, and how often. */
  readonly problems: ReadonlyMap<string, number>
  end(timeoutMs: number): Promise<void>
}

export interface CarrierOptions {
  readonly schedule: Schedule
  readonly format: Format
  readonly ledger: Ledger
  readonly clients: number
  readonly batch: number
  readonly token?: string
  /** A settled batch of messages: [first, first + n). */
  readonly onAck: (first: number, n: number) => void
}

const problemsMax = 20

class Problems {
  readonly counts = new Map<string, number>()
  add(problem: string): void {
    const known = this.counts.get(problem)
    if (known !== undefined || this.counts.size < problemsMax) this.counts.set(problem, (known ?? 0) + 1)
  }
}

function bodyOf(o: CarrierOptions, first: number, n: number): Buffer {
  if (o.batch === 1) return Buffer.from(encodeMessage(o.schedule, o.format, first))
  const parts: string[] = []
  for (let i = 0; i < n; i++) parts.push(encodeMessage(o.schedule, o.format, first + i))
  return Buffer.from(`[${parts.join(',')}]`)
}

export function httpCarrier(o: CarrierOptions, baseUrl: string): Carrier {
  const route = o.batch > 1 ? routes[o.format].many : routes[o.format].one
  const url = new URL(route, baseUrl)
  const sender = new HttpSender({ url: url.href, connections: o.clients, waitingMax: 10_000, ...(o.token === undefined ? {} : { token: o.token }) })
  const problems = new Problems()
  return {
    name: `${url.href} over ${o.clients} connections`,
    problems: problems.counts,
    send(first, n) {
      return sender.post(bodyOf(o, first, n), (status, problem) => {
        if (status >= 200 && status < 300 && status !== 207) o.onAck(first, n)
        else {
          for (let i = 0; i < n; i++) o.ledger.fail(first + i)
          problems.add(problem)
        }
      })
    },
    end: async (timeoutMs) => void (await sender.end(timeoutMs)),
  }
}

/** One message a packet, as devices send them; `topic` may hold {device}. A device keeps to one connection, and so its order. */
export async function mqttCarrier(o: CarrierOptions, url: string, topic: string, qos: 0 | 1): Promise<Carrier> {
  const problems = new Problems()
  const publishers = Array.from(
    { length: o.clients },
    (_, i) =>
      new MqttPublisher({
        url,
        clientId: `load-${o.schedule.run}-${i}`,
        inflightMax: 60_000,
        ...(o.token === undefined ? {} : { username: 'kymo', password: o.token }),
        onAck: (n) => o.onAck(n, 1),
        onLost: (reason) => problems.add(reason),
      }),
  )
  for (let i = 0; i < publishers.length; i += 200) await Promise.all(publishers.slice(i, i + 200).map((publisher) => publisher.connect()))
  const perDevice = topic.includes('{device}')
  return {
    name: `${url} ${topic} over ${o.clients} connections, QoS ${qos}`,
    problems: problems.counts,
    send(n) {
      const device = n % o.schedule.devices
      const to = perDevice ? topic.replaceAll('{device}', deviceOf(o.schedule, device)) : topic
      return publishers[device % publishers.length]?.publish(to, Buffer.from(encodeMessage(o.schedule, o.format, n)), qos, n) ?? false
    },
    async end(timeoutMs) {
      await Promise.all(publishers.map((publisher) => publisher.end(timeoutMs)))
    },
  }
}

export interface RunResult {
  readonly seconds: number
  /** How far the sending fell behind its schedule at worst. */
  readonly behindMs: number
  readonly clientCpuSeconds: number
}

/**
 * Open loop: message n leaves when it is due, however the server fares, and its latency counts from that moment, so that a stall
 * shows in every message that it held up. What cannot leave (a full queue) is tried again and counts as late.
 */
export function runSchedule(o: {
  readonly schedule: Schedule
  readonly batch: number
  readonly ledger: Ledger
  readonly send: (first: number, n: number) => boolean
  readonly signal: AbortSignal
  readonly onTick: (sent: number) => void
}): { readonly startedMs: number; readonly done: Promise<RunResult> } {
  const { schedule, batch, ledger } = o
  const startedMs = performance.now()
  const cpuBefore = process.cpuUsage()
  let next = 0
  let behindMs = 0
  const done = new Promise<RunResult>((resolve) => {
    const finish = (): void => {
      const cpu = process.cpuUsage(cpuBefore)
      resolve({ seconds: (performance.now() - startedMs) / 1_000, behindMs, clientCpuSeconds: (cpu.user + cpu.system) / 1e6 })
    }
    const tick = (): void => {
      const elapsedMs = performance.now() - startedMs
      // A batch leaves when its last message is due.
      const due = Math.min(schedule.messages, Math.floor((elapsedMs * schedule.rate) / 1_000) + 1)
      while (next < due) {
        const n = Math.min(batch, schedule.messages - next)
        if (next + n > due || !o.send(next, n)) break
        for (let i = 0; i < n; i++) ledger.send(next + i)
        next += n
      }
      behindMs = Math.max(behindMs, elapsedMs - ((next + batch) * 1_000) / schedule.rate)
      o.onTick(next)
      if (o.signal.aborted || next >= schedule.messages) finish()
      else setTimeout(tick, 1)
    }
    tick()
  })
  return { startedMs, done }
}

/** Latency of acknowledgements, from the moment a message was due. */
export class AckLatency {
  readonly histogram = new LatencyHistogram()
  readonly #schedule: Schedule
  readonly #batch: number
  startedMs = 0

  constructor(schedule: Schedule, batch: number) {
    this.#schedule = schedule
    this.#batch = batch
  }

  /** Message n was acknowledged just now. Messages of a batch count from the moment that the batch was due. */
  record(n: number): void {
    const last = this.#batch === 1 ? n : Math.min(this.#schedule.messages, (Math.floor(n / this.#batch) + 1) * this.#batch) - 1
    this.histogram.record((performance.now() - this.startedMs) * 1_000 - (last * 1e6) / this.#schedule.rate)
  }
}
