import type { Env, Logger } from '../../src/core/env.ts'
import { KymoError } from '../../src/core/errors.ts'
import type { IngestGate, MessageContext } from '../../src/core/gate.ts'
import { Metrics } from '../../src/core/metrics.ts'
import type { ConnectAnswer, MqttAuthorizer } from '../../src/doors/mqtt/authorizer.ts'
import { Broker } from '../../src/doors/mqtt/broker.ts'
import type { BrokerOptions } from '../../src/doors/mqtt/broker.ts'
import type { Connection } from '../../src/doors/mqtt/connection.ts'
import type { TelemetryTopics } from '../../src/doors/mqtt/host.ts'
import type { MqttLimits } from '../../src/doors/mqtt/limits.ts'
import type { MqttSession } from '../../src/doors/mqtt/session.ts'
import { connect, hex } from './client-packets.ts'
import type { ConnectOptions } from './client-packets.ts'
import { TestClock } from '../support/test-clock.ts'

export interface Taken {
  readonly topic: string
  readonly tenant: string
  readonly client: string
  readonly device: string | undefined
  readonly packetId: number
  readonly dup: boolean
  readonly text: string
}

/** A gate that makes durable what a test tells it to. Texts that begin with "bad" are refused: they go to the dead letters. */
export class TestGate implements IngestGate {
  readonly takenUs = 0
  readonly taken: Taken[] = []
  readonly deadLetters: {
    readonly error: KymoError
    readonly text: string
    readonly totalBytes: number
    readonly client: string
    readonly topic: string
  }[] = []
  /** Of each message taken: its index within an array. */
  readonly items: (number | undefined)[] = []
  /** Takes so many more, then is overloaded. */
  room = Infinity
  overloaded = false
  readonly stalled = undefined
  durable = 0
  refusal: KymoError | undefined
  failsWith: Error | undefined
  #ticket = 0
  readonly #listeners = new Set<(durable: number) => void>()

  submit(context: MessageContext, bytes: Uint8Array, start: number, end: number): number {
    this.refusal = undefined
    if (this.failsWith !== undefined) throw this.failsWith
    if (this.room-- <= 0) this.overloaded = true
    if (this.overloaded) return 0
    const text = new TextDecoder().decode(bytes.subarray(start, end))
    if (text.startsWith('bad'))
      return this.deadLetter(context, (this.refusal = new KymoError('body_not_json')), bytes.subarray(start, end), end - start)
    const { topic, tenant, client, packetId, dup } = context
    this.items.push(context.item)
    this.taken.push({ topic, tenant, client, device: context.topicDevice, packetId, dup, text })
    return ++this.#ticket
  }
  deadLetter(context: MessageContext, error: KymoError, bytes: Uint8Array, totalBytes: number): number {
    if (this.overloaded) return 0
    const { client, topic } = context
    this.deadLetters.push({ error, text: new TextDecoder().decode(bytes), totalBytes, client, topic })
    return ++this.#ticket
  }
  onDurable(listener: (durable: number) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }
  whenDurable(): Promise<void> {
    return Promise.resolve()
  }
  /** The ticket given out last. */
  get last(): number {
    return this.#ticket
  }
  /** Everything up to `ticket` (all: absent) reached the disk. */
  sync(ticket = this.#ticket): void {
    this.durable = ticket
    for (const listener of this.#listeners) listener(ticket)
  }
}

export const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet }

/** `devices/{device}/telemetry` and `portfolio/telemetry` are telemetry; the device may not be called "no!". */
export const testTopics: TelemetryTopics = {
  match(topic) {
    if (topic === 'portfolio/telemetry') return { telemetry: true }
    const device = /^devices\/([^/]*)\/telemetry$/.exec(topic)?.[1]
    if (device === undefined) return { telemetry: false }
    return device === 'no!' ? { telemetry: true, refused: 'The device id in the topic is not valid.' } : { telemetry: true, device }
  },
}

const decoder = new TextDecoder()

/**
 * User "eve" has no access; password "wrong" is wrong, of user "slow" known only after a while; user "a:b" is tenant a; nobody may use topics that begin with "secret", or
 * retain anything below "volatile/".
 */
export const testAuthorizer: MqttAuthorizer = {
  connect({ clientId, username, password }) {
    if (username === 'eve') return { ok: false, code: 'not_authorized' }
    if (password !== undefined && decoder.decode(password) === 'wrong') return { ok: false, code: 'bad_credentials' }
    const tenant = username?.includes(':') === true ? username.split(':')[0]! : 'default'
    if (username === 'slow') return slowly({ ok: true, tenant, id: username, clientId, mayPublish: true, maySubscribe: true })
    return { ok: true, tenant, id: username ?? 'open', clientId, mayPublish: true, maySubscribe: true }
  },
  publish: (_principal, topic, retain) => !topic.startsWith('secret') && !(retain && topic.startsWith('volatile/')),
  subscribe: (_principal, filter) => !filter.startsWith('secret'),
  account: ({ username, password }) => (password === undefined ? undefined : username),
}

async function slowly(answer: ConnectAnswer): Promise<ConnectAnswer> {
  await Promise.resolve()
  return answer
}

export class World {
  readonly clock = new TestClock()
  readonly gate = new TestGate()
  readonly metrics = new Metrics()
  readonly broker: Broker
  readonly errors: string[] = []

  constructor(limits: Partial<MqttLimits> = {}, o: Partial<BrokerOptions> = {}) {
    const logger: Logger = { ...quiet, error: (message) => void this.errors.push(message), child: () => logger }
    const env: Env = { clock: this.clock, random: { next: () => 0.5, uuid: () => 'uuid' }, logger, disk: undefined as never }
    this.broker = new Broker({
      gate: this.gate,
      topics: testTopics,
      authorizer: testAuthorizer,
      env,
      metrics: this.metrics,
      limits,
      defer: (flush) => void this.#deferred.push(flush),
      ...o,
    })
  }
  #deferred: (() => void)[] = []

  /** The end of a turn of the event loop. */
  turn(): void {
    const deferred = this.#deferred
    this.#deferred = []
    for (const call of deferred) call()
  }

  line(address = '10.0.0.1'): Line {
    return new Line(this, address)
  }

  /** A client that is let in. */
  client(clientId: string, o: ConnectOptions = {}): Line {
    const line = this.line()
    line.send(connect({ clientId, ...o }))
    line.expect('20 02 00 00')
    return line
  }

  count(name: string, labels: Readonly<Record<string, string>> = {}): number {
    const cells = [...(this.metrics.families.get(name)?.cells.values() ?? [])]
    const family = this.metrics.families.get(name)
    const wanted = family?.labels.map((label) => labels[label])
    const cell = cells.find((entry) => entry.labels.every((value, i) => value === wanted?.[i]))?.cell
    return cell !== undefined && 'value' in cell ? cell.value : 0
  }
}

/** One client's end of a simulated network. */
export class Line implements Connection {
  readonly remoteAddress: string
  readonly transport = 'tcp'
  bytesRead = 0
  bytesWritten = 0
  readonly #world: World
  readonly #session: MqttSession | undefined
  #received: Uint8Array[] = []
  paused = false
  /** Closed by the server. */
  ended = false
  /** While true the network takes nothing: writes wait. */
  stuck = false
  bufferedBytes = 0

  constructor(world: World, address: string) {
    this.remoteAddress = address
    this.#world = world
    this.#session = world.broker.accept(this)
    this.ended = this.#session === undefined
  }
  write(bytes: Uint8Array): void {
    this.#received.push(Uint8Array.from(bytes))
    if (this.stuck) this.bufferedBytes += bytes.length
  }
  pause(): void {
    this.paused = true
  }
  resume(): void {
    this.paused = false
  }
  close(): void {
    this.ended = true
  }

  /** The client sends; the server's turn passes. */
  send(...packets: readonly Uint8Array[]): void {
    const bytes = Buffer.concat(packets)
    this.#session?.receive(bytes, 0, bytes.length)
    // The server reads all sockets into one buffer: what it kept of it would change under its hands.
    bytes.fill(0xee)
    this.#world.turn()
  }
  unstick(): void {
    this.stuck = false
    this.bufferedBytes = 0
    this.#session?.drained()
    this.#world.turn()
  }
  hangUp(): void {
    this.reset()
    this.#world.turn()
  }
  /** The peer is gone, and in the same turn others may be. */
  reset(): void {
    this.#session?.closed()
  }
  /** How many writes there were since the last `take`. */
  get writes(): number {
    return this.#received.length
  }
  take(): Uint8Array {
    this.#world.turn()
    const bytes = Buffer.concat(this.#received)
    this.#received = []
    return bytes
  }
  /** What came since the last call, as packets in hex. */
  packets(): string[] {
    const bytes = this.take()
    const packets: string[] = []
    for (let at = 0; at < bytes.length;) {
      let length = 0
      let header = 1
      for (;;) {
        const byte = bytes[at + header]!
        length |= (byte & 0x7f) << (7 * (header - 1))
        header++
        if (byte < 0x80) break
      }
      packets.push(hex(bytes.subarray(at, at + header + length)))
      at += header + length
    }
    return packets
  }
  expect(...packets: readonly string[]): void {
    const got = this.packets()
    if (got.length !== packets.length || got.some((packet, i) => packet !== packets[i])) {
      throw new Error(`expected packets [${packets.join(' | ')}] but got [${got.join(' | ')}]`)
    }
  }
}
