import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import type { IngestGate } from '../../core/gate.ts'
import type { Metrics } from '../../core/metrics.ts'
import type { SessionMessage } from '../../core/session-store.ts'
import type { Will } from '../../wire/mqtt/packets.ts'
import type { Will5 } from '../../wire/mqtt/v5/packets.ts'
import { checkTopicName, encodeText } from '../../wire/mqtt/text.ts'
import { peerOf } from '../address.ts'
import { AuthThrottle } from '../auth-throttle.ts'
import type { MqttAuthorizer, MqttPrincipal } from './authorizer.ts'
import { Budget } from './budget.ts'
import type { Connection } from './connection.ts'
import { createCounters } from './counters.ts'
import type { MqttCounters } from './counters.ts'
import { Fifo } from './fifo.ts'
import { isArray, MessageArray } from '../../wire/message-array.ts'
import { contextOf } from './host.ts'
import type { HostedSession, MqttHost, TelemetryTopics, Waiting } from './host.ts'
import { defaultMqttLimits } from './limits.ts'
import type { MqttLimits } from './limits.ts'
import { deliverTo } from './fanout.ts'
import { Outgoing, willProperties } from './message.ts'
import type { Subscriber } from './message.ts'
import { sparing } from '../tls/listener.ts'
import { OversizedThrottle } from './oversized-throttle.ts'
import { RetainedFeeds } from './retained.ts'
import { createMqttSession } from './session.ts'
import type { MqttSession } from './session.ts'
import type { Presence } from './shared.ts'
import { Subscriptions } from './subscriptions.ts'
import { SysTopics } from './sys-topics.ts'
import type { SysFigures } from './sys-topics.ts'
import type { PacketWriter } from './writer.ts'

/** How often held publishes are offered again when the gate says nothing. */
const offerAgainMs = 100

export interface BrokerOptions {
  readonly gate: IngestGate
  readonly topics: TelemetryTopics
  readonly authorizer: MqttAuthorizer
  readonly env: Env
  readonly metrics: Metrics
  readonly limits?: Partial<MqttLimits>
  /** Shared with other doors; absent: of its own. */
  readonly throttle?: AuthThrottle | undefined
  /** Topics below `$SYS`, for the clients of tenant `default`; absent: none. */
  readonly sys?: { readonly version: string; readonly intervalMs: number } | undefined
  /** Calls back once what is ready now has been read: answers are written together then. */
  readonly defer: (flush: () => void) => void
}

interface HeldWill {
  readonly principal: MqttPrincipal
  readonly will: Will
  readonly device: string | undefined
  /** Of a will that is an array: how far it was taken. */
  readonly array: MessageArray | undefined
}

/** Who the figures of the whole server are for. */
const sysTenant = 'default'
const none = new Uint8Array(0)

const presence: Presence<Subscriber> = {
  connected: (subscriber) => subscriber.connected,
  readiness: (subscriber) => subscriber.readiness(),
}

function letIn(session: HostedSession): session is HostedSession & { readonly principal: MqttPrincipal } {
  return session.principal !== undefined
}

/** The sessions of one door and what they share. Knows no sockets. */
export class Broker implements MqttHost {
  readonly gate: IngestGate
  readonly topics: TelemetryTopics
  readonly authorizer: MqttAuthorizer
  readonly clock: Env['clock']
  readonly random: Env['random']
  readonly logger: Env['logger']
  readonly limits: MqttLimits
  readonly counters: MqttCounters
  readonly throttle: AuthThrottle
  readonly oversized: OversizedThrottle
  readonly held: Budget
  readonly partial: Budget
  readonly sending: Budget
  readonly retained: RetainedFeeds
  readonly #sys: SysTopics | undefined
  #connects = 0
  #clientsMax = 0
  readonly #say: ReturnType<typeof sparing>
  readonly #defer: (flush: () => void) => void
  readonly #nodes: Budget
  readonly #subscriptions: Budget
  readonly #trees = new Map<string, Subscriptions<Subscriber>>()
  readonly #sessions = new Set<HostedSession>()
  readonly #addresses = new Map<HostedSession, string>()
  readonly #perAddress = new Map<string, number>()
  readonly #clients = new Map<string, HostedSession>()
  #waiting: Waiting[] = []
  #scheduled: PacketWriter[] = []
  readonly #heldWills = new Fifo<HeldWill>()
  #timerRuns = false
  #closed = false
  readonly #unlisten: () => void
  readonly #flush = (): void => this.flush()

  constructor(o: BrokerOptions) {
    this.gate = o.gate
    this.topics = o.topics
    this.authorizer = o.authorizer
    this.clock = o.env.clock
    this.random = o.env.random
    this.logger = o.env.logger.child({ component: 'mqtt' })
    this.limits = { ...defaultMqttLimits, ...o.limits }
    this.counters = createCounters(o.metrics)
    this.throttle = o.throttle ?? new AuthThrottle(this.clock, this.limits)
    this.#say = sparing(this.clock, this.logger)
    this.oversized = new OversizedThrottle(this.clock, this.limits)
    this.held = new Budget(this.limits.holdTotalBytesMax)
    this.partial = new Budget(this.limits.partialTotalBytesMax)
    this.sending = new Budget(this.limits.sendTotalBytesMax)
    this.#nodes = new Budget(this.limits.subscriptionNodesMax)
    this.#subscriptions = new Budget(this.limits.subscriptionsMax)
    this.retained = new RetainedFeeds({
      source: (tenant, filter) => this.#retainedOf(tenant, filter),
      clock: this.clock,
      perTurn: this.limits.retainedPerTurn,
    })
    if (o.sys !== undefined) {
      const { clock } = this
      this.#sys = new SysTopics({
        ...o.sys,
        clock,
        figures: () => this.#figures(),
        publish: (topic, text) => this.publish(topic, text, 0, sysTenant),
      })
    }
    this.#defer = o.defer
    this.#unlisten = o.gate.onDurable((durable) => this.#settle(durable))
  }

  get connections(): number {
    return this.#sessions.size
  }

  /** A new connection; undefined when there are too many: close it. */
  accept(connection: Connection): MqttSession | undefined {
    const peer = peerOf(connection.remoteAddress)
    const fromPeer = this.#perAddress.get(peer) ?? 0
    if (this.#closed || this.#sessions.size >= this.limits.connectionsMax || fromPeer >= this.limits.connectionsPerAddressMax) {
      this.counters.closed.connections.value++
      return undefined
    }
    const session = createMqttSession(this, connection)
    this.#sessions.add(session)
    this.#addresses.set(session, peer)
    this.#perAddress.set(peer, fromPeer + 1)
    this.counters.connections.value = this.#sessions.size
    return session
  }

  /**
   * Delivers a message of the server's own to its subscribers. It is not telemetry: the gate does not see it. Throws
   * `topic_invalid` when the topic is no topic name.
   */
  publish(topic: string, payload: Uint8Array, qos: 0 | 1, tenant: string): void {
    const name = encodeText(topic)
    const wrong = name.length > this.limits.topicBytesMax ? 'The topic is too long.' : checkTopicName(name, 0, name.length)?.text
    if (wrong !== undefined) throw new KymoError('topic_invalid', { detail: wrong })
    const tree = this.#trees.get(tenant)
    const match = tree?.match(topic)
    if (match === undefined || match.nodes.length === 0) return
    deliverTo(match, new Outgoing(topic, name, qos, false, payload, 0, payload.length), undefined)
  }

  /** Ends the connections that were let in with this token; returns how many. */
  disconnect(principalId: string): number {
    const gone = [...this.#sessions].filter((session) => session.principal?.id === principalId)
    for (const session of gone) session.revoke()
    return gone.length
  }

  /** Who of a tenant is connected, in no order. */
  *clients(tenant: string): Generator<HostedSession & { readonly principal: MqttPrincipal }, void, undefined> {
    for (const session of this.#clients.values()) if (letIn(session) && session.principal.tenant === tenant) yield session
  }

  client(tenant: string, clientId: string): (HostedSession & { readonly principal: MqttPrincipal }) | undefined {
    const session = this.#clients.get(`${tenant}\n${clientId}`)
    return session !== undefined && letIn(session) ? session : undefined
  }

  /** Stops reading, waits until what was taken is durable and acknowledged (at most `drainMs`), then ends all connections. */
  async close(drainMs: number): Promise<void> {
    this.#closed = true
    this.#sys?.stop()
    for (const session of this.#sessions) session.drain()
    await this.#acknowledged(drainMs)
    for (const session of this.#sessions) session.shutdown()
    this.#unlisten()
    this.flush()
  }

  // --- what sessions ask ---

  subscriptions(tenant: string): Subscriptions<Subscriber> {
    let tree = this.#trees.get(tenant)
    if (tree === undefined) {
      tree = new Subscriptions<Subscriber>({
        nodes: this.#nodes,
        subscriptions: this.#subscriptions,
        cacheMax: this.limits.matchCacheMax,
        presence,
      })
      this.#trees.set(tenant, tree)
    }
    return tree
  }

  schedule(writer: PacketWriter): void {
    this.#scheduled.push(writer)
    if (this.#scheduled.length === 1) this.#defer(this.#flush)
  }

  /** Writes what sessions have gathered. */
  flush(): void {
    const writers = this.#scheduled
    this.#scheduled = []
    for (const writer of writers) writer.turn()
  }

  wait(waiting: Waiting): void {
    if (!waiting.listed) {
      waiting.listed = true
      this.#waiting.push(waiting)
    }
    if (this.held.used > 0) this.#offerLater()
  }

  register(session: HostedSession, principal: MqttPrincipal): void {
    const key = `${principal.tenant}\n${principal.clientId}`
    const before = this.#clients.get(key)
    this.#clients.set(key, session)
    this.#connects++
    this.#clientsMax = Math.max(this.#clientsMax, this.#clients.size)
    before?.takenOver()
  }

  ended(session: HostedSession): void {
    if (!this.#sessions.delete(session)) return
    this.counters.connections.value = this.#sessions.size
    const peer = this.#addresses.get(session)!
    this.#addresses.delete(session)
    const left = this.#perAddress.get(peer)! - 1
    if (left === 0) this.#perAddress.delete(peer)
    else this.#perAddress.set(peer, left)
    if (session.principal === undefined) return
    const key = `${session.principal.tenant}\n${session.principal.clientId}`
    if (this.#clients.get(key) === session) this.#clients.delete(key)
  }

  publishWill(principal: MqttPrincipal, will: Will | Will5): void {
    if (!this.authorizer.publish(principal, will.topic)) {
      this.counters.dropped.denied.value++
      return
    }
    const found = this.topics.match(will.topic)
    const { payload } = will
    if (found.telemetry && payload.length === 0 && will.retain) this.counters.dropped.empty_retained.value++
    else if (found.telemetry && found.refused === undefined) {
      const array = isArray(payload, 0, payload.length) ? new MessageArray(payload, 0, payload.length, this.limits.arrayItemsMax) : undefined
      const held: HeldWill = { principal, will, device: found.device, array }
      if (this.#heldWills.length > 0 || !this.#submitWill(held)) this.#holdWill(held)
    }
    const match = this.subscriptions(principal.tenant).match(will.topic)
    if (match.nodes.length === 0) return
    const { forwarded, expiresMs } = willProperties(will, this.clock)
    const name = encodeText(will.topic)
    deliverTo(match, new Outgoing(will.topic, name, will.qos, will.retain, payload, 0, payload.length, forwarded, expiresMs), undefined)
  }

  tlsOnPlain(remoteAddress: string): void {
    this.counters.tlsOnPlain.value++
    this.#say('tls', `${remoteAddress} spoke TLS on mqtt.port, which has none; the port for it is mqtt.tls.port`)
  }

  async *#retainedOf(tenant: string, filter: string): AsyncGenerator<readonly SessionMessage[], void, undefined> {
    const sys = tenant === sysTenant ? this.#sys?.retained(filter) : undefined
    if (sys !== undefined && sys.length > 0)
      yield sys.map((told) => ({ ...told, tenant, qos: 0, properties: none, expiresUs: Number.POSITIVE_INFINITY }))
  }

  #figures(): SysFigures {
    const { received, sent, dropped } = this.counters
    const sum = (cells: readonly { readonly value: number }[]): number => cells.reduce((total, { value }) => total + value, 0)
    const trees = [...this.#trees.values()]
    return {
      clients: { connected: this.#clients.size, disconnected: 0, maximum: this.#clientsMax },
      subscriptions: trees.reduce((total, { size }) => total + size, 0),
      sharedSubscriptions: trees.reduce((total, { shared }) => total + shared, 0),
      retained: 0,
      stored: undefined,
      publish: { received: sum(received), sent: sum(sent), dropped: sum(Object.values(dropped)) },
      connections: this.#connects,
    }
  }

  // --- durability ---

  #settle(durable: number): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const one of waiting) {
      one.listed = false
      if (one.settle(durable)) this.wait(one)
    }
    this.#submitHeldWills()
    this.flush()
  }

  /** False: the gate takes nothing at the moment. */
  #submitWill({ principal, will, device, array }: HeldWill): boolean {
    try {
      if (array !== undefined) {
        array.offer(this.gate, contextOf(principal, will.topic, device), this.limits.arrayItemsPerTurn)
        return array.done
      }
      return this.gate.submit(contextOf(principal, will.topic, device), will.payload, 0, will.payload.length) !== 0
    } catch (thrown) {
      this.logger.error('mqtt will failed', { client: principal.clientId, error: String(thrown) })
      return true
    }
  }

  #holdWill(held: HeldWill): void {
    if (this.#heldWills.length >= this.limits.heldWillsMax || this.held.exceeded) {
      this.counters.dropped.overload.value++
      return
    }
    this.#heldWills.push(held)
    this.held.used += held.will.payload.length
    this.#offerLater()
  }

  #submitHeldWills(): void {
    for (let next = this.#heldWills.peek(); next !== undefined && this.#submitWill(next); next = this.#heldWills.peek()) {
      this.#heldWills.shift()
      this.held.used -= next.will.payload.length
    }
  }

  #offerLater(): void {
    if (this.#timerRuns || this.#closed) return
    this.#timerRuns = true
    this.clock.after(offerAgainMs, () => {
      this.#timerRuns = false
      if (!this.#closed) this.#settle(this.gate.durable)
      if (this.#heldWills.length > 0) this.#offerLater()
    })
  }

  #acknowledged(drainMs: number): Promise<void> {
    const open = (): boolean => {
      for (const session of this.#sessions) if (session.unacknowledged > 0) return true
      return false
    }
    if (!open()) return Promise.resolve()
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel()
        unlisten()
        resolve()
      }
      const timer = this.clock.after(drainMs, done)
      // Behind our own listener: acknowledgements of this write are out when it is called.
      const unlisten = this.gate.onDurable(() => {
        if (!open()) done()
      })
    })
  }
}
