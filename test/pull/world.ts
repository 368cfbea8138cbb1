import type { LogFields, Logger } from '../../src/core/env.ts'
import type { KymoError } from '../../src/core/errors.ts'
import type { IngestGate, MessageContext } from '../../src/core/gate.ts'
import { Metrics } from '../../src/core/metrics.ts'
import type { MetaDocument, MetaRow, MetaStore } from '../../src/core/ports.ts'
import { type MqttPull, type MqttPullOptions, openMqttPull } from '../../src/doors/pull/mqtt/door.ts'
import { pullTopics } from '../../src/doors/pull/mqtt/filters.ts'
import type { Link, LinkEvents } from '../../src/doors/pull/mqtt/link.ts'
import { Framer } from '../../src/wire/mqtt/framer.ts'
import type { Connect, Subscription } from '../../src/wire/mqtt/packets.ts'
import { settled, type SimEnv, simEnv } from '../sim/clock.ts'

/** A gate whose log is durable when the test says so, and which takes as many messages as the test allows. */
export class TestGate implements IngestGate {
  readonly takenUs = 0
  room = Number.POSITIVE_INFINITY
  readonly taken: (MessageContext & { readonly text: string })[] = []
  readonly letters: (MessageContext & { readonly code: string; readonly text: string; readonly total: number })[] = []
  refusal: KymoError | undefined = undefined
  stalled: KymoError | undefined = undefined
  durable = 0
  throws: Error | undefined
  #ticket = 0
  readonly #listeners = new Set<(durable: number) => void>()

  get overloaded(): boolean {
    return this.room <= 0
  }
  submit(context: MessageContext, bytes: Uint8Array, start: number, end: number): number {
    if (this.throws !== undefined) throw this.throws
    if (this.room-- <= 0) return 0
    this.taken.push({ ...context, text: Buffer.from(bytes.subarray(start, end)).toString() })
    return ++this.#ticket
  }
  deadLetter(context: MessageContext, error: KymoError, bytes: Uint8Array, total: number): number {
    if (this.room-- <= 0) return 0
    this.letters.push({ ...context, code: error.code, text: Buffer.from(bytes).toString(), total })
    return ++this.#ticket
  }
  onDurable(listener: (durable: number) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }
  whenDurable(ticket: number): Promise<void> {
    return ticket <= this.durable ? Promise.resolve() : Promise.reject(new Error('not durable'))
  }
  sync(): void {
    this.durable = this.#ticket
    for (const listener of this.#listeners) listener(this.durable)
  }
}

/** One connection as the broker sees it: what the client sent, and a way to send. */
export class BrokerSide implements Link {
  readonly said: unknown[] = []
  readonly #events: LinkEvents
  readonly #framer: Framer
  paused = false
  over = false
  waitingBytes = 0
  /** Sent while the client reads nothing: it stays in the network. */
  readonly #network: Uint8Array[] = []
  readonly peer = { address: '192.0.2.7', port: 1883 }

  constructor(events: LinkEvents) {
    this.#events = events
    const note = (...what: unknown[]): void => void this.said.push(what)
    this.#framer = new Framer(
      {
        connect: (c: Connect) =>
          note('connect', c.clientId, c.cleanSession, c.username, c.password === undefined ? undefined : Buffer.from(c.password).toString()),
        subscribe: (id: number, list: readonly Subscription[]) => note('subscribe', id, ...list.map(({ filter, qos }) => `${filter} ${qos}`)),
        unsubscribe: (id: number, list: readonly string[]) => note('unsubscribe', id, ...list),
        acknowledged: (_, id) => note('puback', id),
        pingreq: () => note('pingreq'),
        disconnect: () => note('disconnect'),
        publish: () => note('publish'),
        oversized: () => note('oversized'),
        unsupported: () => note('unsupported'),
      },
      1 << 20,
      {
        connect5: (c) => note('connect5', c.clientId, c.cleanStart, c.username, c.properties),
        subscribe5: ({ packetId, subscriptions }) =>
          note('subscribe', packetId, ...subscriptions.map(({ filter, qos, retainHandling }) => `${filter} ${qos} ${retainHandling}`)),
        unsubscribe5: (id, list) => note('unsubscribe', id, ...list),
        acknowledged5: (_, id) => note('puback', id),
        disconnect5: (code) => note('disconnect', code),
        publish5: () => note('publish'),
        oversized5: () => note('oversized'),
        auth: () => note('auth'),
      },
    )
  }
  get acks(): number[] {
    return this.said.filter((s): s is [string, number] => Array.isArray(s) && s[0] === 'puback').map(([, id]) => id)
  }
  get networkBytes(): number {
    return this.#network.reduce((sum, bytes) => sum + bytes.length, 0)
  }
  open(): void {
    this.#events.opened()
  }
  send(...packets: readonly Uint8Array[]): void {
    const bytes = Buffer.concat(packets)
    for (let at = 0; at < bytes.length; at += 65_536) this.#network.push(bytes.subarray(at, at + 65_536))
    this.#deliver()
  }
  #deliver(): void {
    while (!this.paused && !this.over && this.#network.length > 0) this.#events.received(this.#network.shift()!)
  }
  drained(): void {
    this.waitingBytes = 0
    this.#events.drained()
  }
  write(bytes: Uint8Array): void {
    this.#framer.push(bytes, 0, bytes.length)
  }
  pause(): void {
    this.paused = true
  }
  resume(): void {
    this.paused = false
    setImmediate(() => this.#deliver())
  }
  close(): void {
    this.paused = false
    setImmediate(() => this.cut('it closed the connection'))
  }
  destroy(): void {
    setImmediate(() => this.cut('destroyed'))
  }
  cut(reason = 'reset', refused = false): void {
    if (this.over) return
    this.over = true
    this.#events.closed(reason, refused)
  }
}

export class TestMeta implements MetaStore {
  readonly docs = new Map<string, MetaDocument>()
  fails = false
  get(collection: string, _: string, id: string): Promise<MetaRow | undefined> {
    const doc = this.docs.get(`${collection}/${id}`)
    return Promise.resolve(doc === undefined ? undefined : { doc, version: 1 })
  }
  list(): Promise<readonly MetaRow[]> {
    return Promise.resolve([])
  }
  count(): Promise<number> {
    return Promise.resolve(0)
  }
  write(writes: Parameters<MetaStore['write']>[0]): Promise<readonly MetaRow[]> {
    if (this.fails) return Promise.reject(new Error('the disk is full'))
    for (const write of writes) if (write.op === 'put') this.docs.set(`${write.collection}/${write.doc.id}`, write.doc)
    return Promise.resolve([])
  }
  close(): Promise<void> {
    return Promise.resolve()
  }
}

export interface World {
  readonly env: SimEnv
  readonly gate: TestGate
  readonly meta: TestMeta
  readonly metrics: Metrics
  readonly logged: string[]
  readonly pull: MqttPull
  /** Every connection that was tried. */
  readonly dialled: BrokerSide[]
  /** The next of them, once it is tried (time passes meanwhile), open. */
  next(): Promise<BrokerSide>
}

export interface WorldOptions extends Partial<Pick<MqttPullOptions, 'version' | 'inflightMax' | 'keepAliveS'>> {
  readonly topics?: readonly string[]
  readonly meta?: TestMeta
  readonly gate?: TestGate
  readonly own?: boolean
  readonly packetBytesMax?: number
  readonly clientId?: string
}

/** The pull door against a broker that the test plays, in a time that the test moves. */
export async function openWorld(o: WorldOptions = {}): Promise<World> {
  const logged: string[] = []
  const log =
    (level: string) =>
    (message: string, fields?: LogFields): void =>
      void logged.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`)
  const logger: Logger = { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error'), child: () => logger }
  const env = { ...simEnv(7), logger }
  const { gate = new TestGate(), meta = new TestMeta() } = o
  const metrics = new Metrics()
  const dialled: BrokerSide[] = []
  const pull = await openMqttPull({
    address: { host: 'broker.example', port: 1883, secure: false },
    username: 'u',
    password: 'geheim',
    version: o.version ?? '3.1.1',
    sessionExpiryS: 3_600,
    inflightMax: o.inflightMax ?? 16_384,
    topics: pullTopics(o.topics ?? ['telemetry', 't/{device}']),
    clientId: o.clientId ?? '',
    keepAliveS: o.keepAliveS ?? 30,
    tls: {},
    packetBytesMax: o.packetBytesMax ?? 4_096,
    gate,
    meta,
    env,
    metrics,
    isOwn: () => Promise.resolve(o.own === true),
    dial: (_, __, events) => {
      const side = new BrokerSide(events)
      dialled.push(side)
      return side
    },
  })
  let used = 0
  return {
    env,
    gate,
    meta,
    metrics,
    logged,
    pull,
    dialled,
    async next() {
      await settled()
      for (let waited = 0; dialled.length <= used && waited < 61_000; waited += 50) await env.clock.advance(50)
      const side = dialled[used++]
      if (side === undefined) throw new Error('no further connection was tried')
      side.open()
      await settled()
      return side
    },
  }
}
