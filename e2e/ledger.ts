import http from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { RawMqtt } from '../test/support/mqtt-client.ts'

/** mulberry32: the same seed gives the same run of choices. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** What one sender has said and what was acknowledged. Every value of a device is another number, so that a doubled one shows. */
export interface Ledger {
  readonly device: string
  readonly how: string
  readonly sent: number
  readonly acknowledged: ReadonlySet<number>
  /** Times that were sent, for readings that carry their own. */
  readonly times: ReadonlyMap<number, number> | undefined
  readonly redelivered: number
}

export interface Sender {
  /** As it stands now. */
  readonly ledger: Ledger
  /** Sends nothing new, and resolves when everything sent is acknowledged. */
  finish(withinMs: number): Promise<void>
  stop(): void
}

/** What is wrong with the stored values of one sender; empty when every acknowledged one is there exactly once. */
export function faults(ledger: Ledger, stored: readonly { readonly timeMs: number; readonly value: unknown }[]): string[] {
  const out: string[] = []
  const seen = new Map<number, number>()
  for (const { timeMs, value } of stored) {
    if (typeof value !== 'number') out.push(`${String(value)} was never sent`)
    else {
      seen.set(value, (seen.get(value) ?? 0) + 1)
      if (ledger.times !== undefined && ledger.times.get(value) !== timeMs)
        out.push(`${value} has the time ${timeMs} instead of ${ledger.times.get(value)}`)
    }
  }
  const lost = [...ledger.acknowledged].filter((value) => !seen.has(value))
  const doubled = [...seen].filter(([, times]) => times > 1)
  const invented = [...seen.keys()].filter((value) => value < 1 || value > ledger.sent)
  if (lost.length > 0) out.push(`${lost.length} lost, first ${lost.slice(0, 5).join(', ')}`)
  if (doubled.length > 0) out.push(`${doubled.length} there more than once, first ${doubled.slice(0, 5).join('; ')}`)
  if (invented.length > 0) out.push(`${invented.length} never sent`)
  return out.map((text) => `${ledger.how} (${ledger.device}): ${text}`)
}

/** What a sender needs to be told of itself. `ownTime` false: the reading's time is its arrival. */
interface SenderOptions {
  readonly port: () => number
  readonly device: string
  readonly ownTime: boolean
  readonly random: () => number
}

/** Where a sender writes down what it does. */
class Book implements Ledger {
  readonly device: string
  readonly how: string
  readonly acknowledged = new Set<number>()
  readonly times: Map<number, number> | undefined
  readonly #startMs = Date.now() - 3_600_000
  sent = 0
  redelivered = 0

  constructor(o: SenderOptions, how: string) {
    this.device = o.device
    this.how = how
    this.times = o.ownTime ? new Map() : undefined
  }

  /** The next value, and its own time where readings carry one: epoch milliseconds. */
  next(): { readonly seq: number; readonly timeMs: number | undefined } {
    const seq = ++this.sent
    if (this.times === undefined) return { seq, timeMs: undefined }
    const timeMs = this.#startMs + seq
    this.times.set(seq, timeMs)
    return { seq, timeMs }
  }
}

interface Pending {
  readonly packetId: number
  readonly payload: string
  readonly value: number
}

/**
 * MQTT QoS 1 with a stable client id: what is not acknowledged goes out again with DUP=1 and its packet id after a
 * reconnect [MQTT-4.4.0-1], in the order of the first time.
 */
export function mqttSender(o: SenderOptions): Sender {
  const book = new Book(o, o.ownTime ? 'MQTT with its own time' : 'MQTT without a time')
  const pending = new Map<number, Pending>()
  let client: RawMqtt | undefined
  let packetId = 0
  let sending = true
  let running = true
  const windowMax = 24

  const publishNext = (): void => {
    if (client === undefined || client.closed) return
    do packetId = packetId === 65_535 ? 1 : packetId + 1
    while (pending.has(packetId))
    const { seq, timeMs } = book.next()
    // JSON leaves an undefined timestamp out.
    const entry = { packetId, payload: JSON.stringify({ device_id: o.device, seq, timestamp: timeMs }), value: seq }
    pending.set(packetId, entry)
    client.publish({ topic: 'portfolio/telemetry', payload: entry.payload, qos: 1, packetId })
  }
  const connect = async (): Promise<void> => {
    const made = await RawMqtt.connect({ port: o.port(), clientId: `ledger-${o.device}`, cleanSession: false })
    if (made.returnCode !== 0) throw new Error(`CONNACK says ${made.returnCode}`)
    client = made
    made.onPuback = (id) => {
      const entry = pending.get(id)
      if (entry === undefined) return
      pending.delete(id)
      book.acknowledged.add(entry.value)
    }
    for (const entry of pending.values()) {
      book.redelivered++
      made.publish({ topic: 'portfolio/telemetry', payload: entry.payload, qos: 1, packetId: entry.packetId, dup: true })
    }
  }
  const loop = async (): Promise<void> => {
    while (running) {
      if (client === undefined || client.closed) {
        await connect().catch(() => delay(10 + o.random() * 40))
        continue
      }
      if (sending) for (let i = Math.ceil(o.random() * 8); i > 0 && pending.size < windowMax; i--) publishNext()
      await delay(1 + o.random() * 4)
    }
    client?.destroy()
  }
  const ended = loop()
  return {
    ledger: book,
    async finish(withinMs) {
      sending = false
      const until = performance.now() + withinMs
      while (pending.size > 0 && performance.now() < until) await delay(5)
      running = false
      await ended
      if (pending.size > 0) throw new Error(`${o.device}: ${pending.size} messages were never acknowledged`)
    },
    stop() {
      running = false
    },
  }
}

/** HTTP in small batches; a request without an answer is sent again, with the same Idempotency-Key where readings have no time of their own. */
export function httpSender(o: SenderOptions & { readonly run: string }): Sender {
  const book = new Book(o, o.ownTime ? 'HTTP with its own time' : 'HTTP with Idempotency-Key')
  let batch = 0
  let sending = true
  let running = true
  const agent = new http.Agent({ keepAlive: true })

  const makeBatch = (): { readonly body: string; readonly key: string; readonly values: number[] } => {
    const made = Array.from({ length: Math.ceil(o.random() * 10) }, () => book.next())
    const items = made.map(({ seq, timeMs }) => ({
      device: o.device,
      ...(timeMs === undefined ? {} : { time: new Date(timeMs).toISOString() }),
      values: { seq },
    }))
    return { body: JSON.stringify(items), key: `${o.run}-${o.device}-${++batch}`, values: made.map(({ seq }) => seq) }
  }
  const loop = async (): Promise<void> => {
    let open: ReturnType<typeof makeBatch> | undefined
    while (running && (sending || open !== undefined)) {
      open ??= makeBatch()
      const headers: Record<string, string> = { 'content-type': 'application/json' }
      if (!o.ownTime) headers['idempotency-key'] = open.key
      const answer = await post(o.port(), agent, headers, open.body)
      if (answer.status >= 200 && answer.status < 300) {
        for (const one of open.values) book.acknowledged.add(one)
        open = undefined
      } else if (answer.status === 0 || answer.status === 429 || answer.status === 503) {
        book.redelivered++
        await delay(10 + o.random() * 40)
      } else throw new Error(`${o.device}: HTTP ${answer.status} ${answer.text}`)
      await delay(o.random() * 6)
    }
    agent.destroy()
  }
  const ended = loop()
  return {
    ledger: book,
    async finish(withinMs) {
      sending = false
      const late = delay(withinMs, 'late' as const, { ref: false })
      if ((await Promise.race([ended, late])) === 'late') {
        running = false
        throw new Error(`${o.device}: a request was never acknowledged`)
      }
    },
    stop() {
      running = false
    },
  }
}

/** Status 0: no answer came. */
function post(port: number, agent: http.Agent, headers: Readonly<Record<string, string>>, body: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const request = http.request(
      { host: '127.0.0.1', port, path: '/api/v1/telemetry', method: 'POST', agent, headers, timeout: 15_000 },
      (answer) => {
        let text = ''
        answer.setEncoding('utf8')
        answer.on('data', (part: string) => (text += part))
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
        answer.on('error', () => resolve({ status: 0, text: '' }))
      },
    )
    request.on('timeout', () => request.destroy())
    request.on('error', () => resolve({ status: 0, text: '' }))
    request.end(body)
  })
}
