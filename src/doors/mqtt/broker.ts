import type { Env } from '../../core/env.ts'
import { KymoError } from '../../core/errors.ts'
import type { IngestGate } from '../../core/gate.ts'
import type { Metrics } from '../../core/metrics.ts'
import type { Routing } from '../../core/routing.ts'
import type { SessionMessage, SessionStore } from '../../core/session-store.ts'
import { limits } from '../../core/limits.ts'
import { Spares } from '../../wire/mqtt/spares.ts'
import { checkTopicName, copyBytes, encodeText } from '../../wire/mqtt/text.ts'
import { AuthThrottle } from '../auth-throttle.ts'
import { ArrayTurns } from './array-turns.ts'
import type { MqttAuthorizer, MqttPrincipal } from './authorizer.ts'
import { Budget } from './budget.ts'
import type { Connection } from './connection.ts'
import { createCounters } from './counters.ts'
import type { MqttCounters } from './counters.ts'
import type { HostedSession, MqttHost, TelemetryTopics, Waiting } from './host.ts'
import { defaultMqttLimits } from './limits.ts'
import type { MqttLimits } from './limits.ts'
import { FanoutLine } from './fanout-line.ts'
import { InTurns } from './in-turns.ts'
import { KeptSessions } from './kept-sessions.ts'
import { noneKept, Outgoing, storedMessage } from './message.ts'
import type { Subscriber } from './message.ts'
import { Effort } from './effort.ts'
import { Neighbours } from './neighbours.ts'
import { sparing } from '../tls/listener.ts'
import { OversizedThrottle } from './oversized-throttle.ts'
import { Peers } from './peers.ts'
import { RetainedFeeds } from './retained.ts'
import { createMqttSession } from './session.ts'
import type { MqttSession } from './session.ts'
import type { Presence } from './shared.ts'
import { Subscriptions } from './subscriptions.ts'
import { SysTopics } from './sys-topics.ts'
import type { SysFigures } from './sys-topics.ts'
import { Wills } from './wills.ts'
import { Joiner } from './writer.ts'
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
  /** Where retained messages are kept; absent: there are none. */
  readonly store?: SessionStore | undefined
  /** The way to other processes, whose clients subscribe as well; absent: there are none. */
  readonly routing?: Routing | undefined
  /** Calls back once what is ready now has been read: answers are written together then. */
  readonly defer: (flush: () => void) => void
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
  readonly joiner = new Joiner()
  readonly spares = new Spares(limits.mqttSpareBytesMax)
  readonly effort: Effort
  readonly arrays: ArrayTurns
  readonly endings = new InTurns(this, 'mqtt session')
  readonly retained: RetainedFeeds
  readonly store: SessionStore | undefined
  readonly kept: KeptSessions
  readonly neighbours: Neighbours | undefined
  readonly wills: Wills
  /** Messages of the server's own. */
  readonly #own = new FanoutLine(this, false)
  readonly #sys: SysTopics | undefined
  #connects = 0
  #clientsMax = 0
  readonly #say: ReturnType<typeof sparing>
  readonly #defer: (flush: () => void) => void
  readonly #nodes: Budget
  readonly #subscriptions: Budget
  readonly #trees = new Map<string, Subscriptions<Subscriber>>()
  readonly #sessions = new Set<HostedSession>()
  readonly #peers: Peers
  readonly #clients = new Map<string, HostedSession>()
  #waiting: Waiting[] = []
  #scheduled: PacketWriter[] = []
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
    this.#defer = o.defer
    this.store = o.store
    const { store, counters, logger, clock } = this
    const trees = (tenant: string): Subscriptions<Subscriber> => this.subscriptions(tenant)
    this.kept = new KeptSessions({ store, counters, logger, clock, trees })
    const { routing } = o
    const line = new FanoutLine(this, true)
    this.neighbours = routing === undefined ? undefined : new Neighbours({ routing, trees, store, kept: this.kept, line, counters, clock, logger })
    this.wills = new Wills(this, this.logger)
    this.#peers = new Peers(clock, this.limits)
    this.throttle = o.throttle ?? new AuthThrottle(this.clock, this.limits)
    this.#say = sparing(this.clock, this.logger)
    this.oversized = new OversizedThrottle(this.clock, this.limits)
    this.held = new Budget(this.limits.holdTotalBytesMax)
    this.partial = new Budget(this.limits.partialTotalBytesMax)
    this.sending = new Budget(this.limits.sendTotalBytesMax)
    this.effort = new Effort(this.limits.effortPerTurn, () => this.#defer(() => this.effort.next()))
    this.arrays = new ArrayTurns(this.limits.arrayItemsPerTurn, this.clock)
    this.#nodes = new Budget(this.limits.subscriptionNodesMax)
    this.#subscriptions = new Budget(this.limits.subscriptionsMax)
    this.retained = new RetainedFeeds({
      source: (tenant, filter) => this.#retainedOf(tenant, filter),
      clock: this.clock,
      perTurn: this.limits.retainedPerTurn,
    })
    if (o.sys !== undefined) {
      this.#sys = new SysTopics({
        ...o.sys,
        clock,
        figures: () => this.#figures(),
        publish: (topic, text) => this.publish(topic, text, 0, sysTenant),
      })
    }
    const unlisten = [
      o.gate.onDurable((durable) => this.#settle(durable)),
      o.store?.onDurable(() => this.#settle(this.gate.durable)),
      o.store?.onEnded((ref, left) => this.kept.ended(ref, left)),
      this.neighbours?.onDurable(() => this.#settle(this.gate.durable)),
    ]
    this.#unlisten = () => {
      for (const stop of unlisten) stop?.()
    }
  }

  get connections(): number {
    return this.#sessions.size
  }

  /** A new connection; undefined when there are too many: close it. */
  accept(connection: Connection): MqttSession | undefined {
    const refusal = this.#closed ? 'connections' : this.#peers.refusal(connection.remoteAddress)
    if (refusal !== undefined) {
      this.counters.closed[refusal].value++
      return undefined
    }
    const session = createMqttSession(this, connection)
    this.#sessions.add(session)
    this.#peers.enter(session, connection.remoteAddress)
    this.counters.connections.value = this.#sessions.size
    return session
  }

  /**
   * Delivers a message of the server's own to its subscribers: when they are many in turns, and what comes behind it waits. It is not telemetry: the gate
   * does not see it. Throws `topic_invalid` when the topic is no topic name.
   */
  publish(topic: string, payload: Uint8Array, qos: 0 | 1, tenant: string): void {
    const name = encodeText(topic)
    const wrong = name.length > this.limits.topicBytesMax ? 'The topic is too long.' : checkTopicName(name, 0, name.length)?.text
    if (wrong !== undefined) throw new KymoError('topic_invalid', { detail: wrong })
    const tree = this.#trees.get(tenant)
    const match = tree?.match(topic)
    if (match === undefined || match.nodes.length === 0) return
    if (this.#own.waiting >= limits.mqttOwnMessagesMax) {
      this.counters.dropped.overload.value++
      return
    }
    let bytes = payload
    this.#own.deliver({
      tenant,
      topic,
      message: (isOwn) => {
        if (isOwn) bytes = copyBytes(payload, 0, payload.length)
        return new Outgoing(topic, name, qos, false, bytes, 0, bytes.length)
      },
      delivered: (recipients) => this.kept.keep(storedMessage(tenant, topic, qos, bytes, noneKept, this.clock), recipients),
      failed: (thrown) => this.logger.error('mqtt message of the server failed', { topic, error: String(thrown) }),
    })
  }

  /** Takes up what the store has kept: sessions that are away, and wills that are due. To be called once, before anybody connects. */
  async restore(): Promise<void> {
    await this.kept.restore()
    await this.neighbours?.join()
    this.store?.onWill((will) => this.wills.due(will))
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
    this.endings.finish()
    this.wills.finish()
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
      const { neighbours } = this
      tree = new Subscriptions<Subscriber>({
        nodes: this.#nodes,
        subscriptions: this.#subscriptions,
        cacheMax: this.limits.matchCacheMax,
        presence,
        effort: this.effort,
        changed: neighbours === undefined ? undefined : (filter, subscriber, added) => neighbours.changed(tenant, filter, subscriber, added),
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
    this.joiner.forget()
  }

  wait(waiting: Waiting): void {
    if (!waiting.listed) {
      waiting.listed = true
      this.#waiting.push(waiting)
    }
    if (this.held.used > 0) this.offerLater()
  }

  register(session: HostedSession, principal: MqttPrincipal): void {
    const key = `${principal.tenant}\n${principal.clientId}`
    const before = this.#clients.get(key)
    this.#clients.set(key, session)
    this.#peers.connected(session)
    this.#connects++
    this.#clientsMax = Math.max(this.#clientsMax, this.#clients.size)
    before?.takenOver()
  }

  ended(session: HostedSession): void {
    if (!this.#sessions.delete(session)) return
    this.counters.connections.value = this.#sessions.size
    this.#peers.left(session)
    if (session.principal === undefined) return
    const key = `${session.principal.tenant}\n${session.principal.clientId}`
    if (this.#clients.get(key) === session) this.#clients.delete(key)
  }

  offerLater(): void {
    if (this.#timerRuns || this.#closed) return
    this.#timerRuns = true
    this.clock.after(offerAgainMs, () => {
      this.#timerRuns = false
      if (!this.#closed) this.#settle(this.gate.durable)
      if (this.wills.waiting > 0) this.offerLater()
    })
  }

  tlsOnPlain(remoteAddress: string): void {
    this.counters.tlsOnPlain.value++
    this.#say('tls', `${remoteAddress} spoke TLS on mqtt.port, which has none; the port for it is mqtt.tls.port`)
  }

  async *#retainedOf(tenant: string, filter: string): AsyncGenerator<readonly SessionMessage[], void, undefined> {
    const sys = tenant === sysTenant ? this.#sys?.retained(filter) : undefined
    if (sys !== undefined && sys.length > 0)
      yield sys.map((told) => ({ ...told, tenant, qos: 0, properties: none, expiresUs: Number.POSITIVE_INFINITY }))
    if (this.store !== undefined) yield* this.store.retained(tenant, filter)
  }

  #figures(): SysFigures {
    const { received, sent, dropped } = this.counters
    const sum = (cells: readonly { readonly value: number }[]): number => cells.reduce((total, { value }) => total + value, 0)
    const trees = [...this.#trees.values()]
    const kept = this.store?.figures()
    return {
      clients: { connected: this.#clients.size, disconnected: kept === undefined ? 0 : kept.sessions - kept.attached, maximum: this.#clientsMax },
      subscriptions: trees.reduce((total, { size }) => total + size, 0),
      sharedSubscriptions: trees.reduce((total, { shared }) => total + shared, 0),
      retained: kept?.retained ?? 0,
      stored: kept === undefined ? undefined : { messages: kept.deliveries + kept.retained, bytes: kept.messageBytes },
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
    this.wills.offer()
    this.flush()
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
        for (const stop of stops) stop?.()
        resolve()
      }
      const timer = this.clock.after(drainMs, done)
      // Behind our own listener: acknowledgements of this write are out when it is called.
      const look = (): void => {
        if (!open()) done()
      }
      const stops = [this.gate.onDurable(look), this.store?.onDurable(look), this.neighbours?.onDurable(look)]
    })
  }
}
