import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { KymoError } from '../../core/errors.ts'
import { HttpSender } from '../http-sender.ts'
import { MqttPublisher } from '../mqtt-client/publisher.ts'

/** Where replayed messages go. `send` waits while too much is under way; all are acknowledged, or counted as rejected, by `end`. */
export interface Outlet {
  readonly name: string
  send(message: string): Promise<void>
  /** Sends what is gathered and waits for every answer. Throws server_unreachable when the server stays away. */
  end(): Promise<void>
  readonly acked: number
  readonly rejected: number
  /** What the server says is wrong with rejected messages: the first few. */
  readonly problems: readonly string[]
}

/** Nothing at all was acknowledged for so long: it is given up. */
const patienceMs = 60_000
const batchMessagesMax = 500
const batchBytesMax = 512 * 1024
const connections = 4
const problemsMax = 5

/** Batches to /api/v1/telemetry. A busy or absent server is waited for: sending twice does no harm, a reading is known by device, metric and time. */
export class HttpOutlet implements Outlet {
  acked = 0
  rejected = 0
  readonly problems: string[] = []
  readonly name: string
  readonly #sender: HttpSender
  readonly #underWay = new Set<Promise<void>>()
  #gathered: string[] = []
  #bytes = 0
  #progressMs = performance.now()
  #failed: KymoError | undefined

  constructor(url: string, token: string | undefined) {
    this.name = url
    this.#sender = new HttpSender({ url, connections, ...(token === undefined ? {} : { token }) })
  }

  async send(message: string): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed
    this.#gathered.push(message)
    this.#bytes += message.length
    if (this.#gathered.length >= batchMessagesMax || this.#bytes >= batchBytesMax) await this.flush()
  }

  async flush(): Promise<void> {
    const messages = this.#gathered
    if (messages.length === 0) return
    this.#gathered = []
    this.#bytes = 0
    while (this.#underWay.size >= connections) await Promise.race(this.#underWay)
    if (this.#failed !== undefined) throw this.#failed
    const body = Buffer.from(`[${messages.join(',')}]`)
    const batch: Promise<void> = this.#deliver(body, messages.length).finally(() => this.#underWay.delete(batch))
    this.#underWay.add(batch)
  }

  async end(): Promise<void> {
    await this.flush()
    await Promise.all(this.#underWay)
    await this.#sender.end(0)
    if (this.#failed !== undefined) throw this.#failed
  }

  async #deliver(body: Buffer, messages: number): Promise<void> {
    for (let attempt = 0; this.#failed === undefined; attempt++) {
      const { status, problem, text } = await new Promise<{ status: number; problem: string; text: string }>((resolve) => {
        if (!this.#sender.post(body, (s, p, t) => resolve({ status: s, problem: p, text: t })))
          resolve({ status: 429, problem: 'too many requests wait', text: '' })
      })
      if (status !== 0 && status !== 429 && status < 500 && !isPassing(status, text)) {
        this.#settle(status, problem, text, messages)
        return
      }
      if (performance.now() - this.#progressMs > patienceMs) {
        this.#failed = new KymoError('server_unreachable', { detail: `${this.name} has taken nothing for ${patienceMs / 1_000} s: ${problem}` })
        return
      }
      await delay(Math.min(5_000, 100 * 2 ** Math.min(attempt, 10)) * (0.5 + Math.random() / 2))
    }
  }

  #settle(status: number, problem: string, text: string, messages: number): void {
    this.#progressMs = performance.now()
    if (status === 401 || status === 403 || status === 404) {
      this.#failed = new KymoError(status === 401 ? 'unauthenticated' : status === 403 ? 'forbidden' : 'not_found', {
        detail: `${this.name}: ${problem}`,
      })
      return
    }
    const refused = status === 207 || status >= 400 ? refusedOf(text, messages) : { n: 0, details: [] }
    this.acked += messages - refused.n
    this.rejected += refused.n
    const told = refused.details.length > 0 ? refused.details : refused.n > 0 ? [problem] : []
    this.problems.push(...told.slice(0, problemsMax - this.problems.length))
  }
}

/** Items of a bulk answer were refused for the moment only (too many new devices a second): the whole batch may go again. */
function isPassing(status: number, text: string): boolean {
  return status === 207 && resultsOf(text).some((item) => 'status' in item && (item.status === 429 || item.status === 503))
}

function resultsOf(text: string): readonly object[] {
  const parsed = parsedObject(text)
  const results: unknown = parsed !== undefined && 'results' in parsed ? parsed.results : []
  return (Array.isArray(results) ? results : []).filter((item: unknown): item is object => typeof item === 'object' && item !== null)
}

function parsedObject(text: string): object | undefined {
  try {
    const parsed: unknown = JSON.parse(text)
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    return undefined
  }
}

/** Of a bulk answer (207, or 422 when nothing was taken): how many items were refused, and why. */
function refusedOf(text: string, messages: number): { readonly n: number; readonly details: readonly string[] } {
  const parsed = parsedObject(text)
  if (parsed === undefined) return { n: messages, details: [] }
  const n = 'rejected' in parsed && typeof parsed.rejected === 'number' ? parsed.rejected : messages
  const details = resultsOf(text).flatMap((item) => ('detail' in item && typeof item.detail === 'string' ? [item.detail] : []))
  return { n, details: [...new Set(details)] }
}

/** One message a packet, QoS 1, in order, over one connection. */
export class MqttOutlet implements Outlet {
  acked = 0
  readonly rejected = 0
  readonly problems: readonly string[] = []
  readonly name: string
  readonly #publisher: MqttPublisher
  readonly #topic: string
  #progressMs = performance.now()
  #wake: (() => void) | undefined

  private constructor(url: string, topic: string, token: string | undefined) {
    this.name = `${url} ${topic}`
    this.#topic = topic
    this.#publisher = new MqttPublisher({
      url,
      clientId: `replay-${randomUUID().slice(0, 8)}`,
      inflightMax: 1_000,
      ...(token === undefined ? {} : { username: 'kymo', password: token }),
      onAck: () => {
        this.acked++
        this.#progressMs = performance.now()
        this.#wake?.()
      },
    })
  }

  static async open(url: string, topic: string, token: string | undefined): Promise<MqttOutlet> {
    const outlet = new MqttOutlet(url, topic, token)
    await outlet.#publisher.connect()
    return outlet
  }

  async send(message: string): Promise<void> {
    const topic = this.#topic.includes('{device}')
      ? this.#topic.replaceAll('{device}', (JSON.parse(message) as { device: string }).device)
      : this.#topic
    const payload = Buffer.from(message)
    while (!this.#publisher.publish(topic, payload, 1)) {
      if (performance.now() - this.#progressMs > patienceMs)
        throw new KymoError('server_unreachable', { detail: `${this.name} has acknowledged nothing for ${patienceMs / 1_000} s` })
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        setTimeout(resolve, 250)
      })
    }
  }

  async end(): Promise<void> {
    const missing = await this.#publisher.end(patienceMs)
    if (missing > 0) throw new KymoError('server_unreachable', { detail: `${missing} messages to ${this.name} were not acknowledged` })
  }
}
