import type { Env, Timer } from '../../../core/env.ts'
import { asKymoError } from '../../../core/errors.ts'
import type { IngestGate } from '../../../core/gate.ts'
import { limits } from '../../../core/limits.ts'
import type { Metrics } from '../../../core/metrics.ts'
import type { MetaStore } from '../../../core/ports.ts'
import { addressText } from '../../../wire/mqtt/address.ts'
import { subscribeRefused } from '../../../wire/mqtt/packets.ts'
import { Backoff } from './backoff.ts'
import type { ConfiguredPull } from './configured.ts'
import { Connection } from './connection.ts'
import { createPullCounters, type PullCounters } from './counters.ts'
import type { BrokerTerms, Fault } from './dialect.ts'
import { Intake } from './intake.ts'
import { type Dial, dialSocket, type Link } from './link.ts'
import { refusedText, wantsRights } from './reasons.ts'
import { loadSession, newSession, type PullSession, saveSession } from './session-store.ts'
import { VersionChoice } from './version.ts'

export interface MqttPullOptions extends ConfiguredPull {
  readonly packetBytesMax: number
  readonly gate: IngestGate
  readonly meta: MetaStore
  readonly env: Env
  readonly metrics: Metrics
  /** Whether a connection ends at a door of our own. */
  readonly isOwn: (peer: { readonly address: string; readonly port: number }) => Promise<boolean>
  /** TCP and TLS unless a simulation replaces it. */
  readonly dial?: Dial
}

/** How it is with the outside broker. */
export interface MqttPullStatus {
  readonly connected: boolean
  /** A sentence: the broker, and what hinders. Never a secret. */
  readonly detail: string
}

export interface MqttPull {
  status(): MqttPullStatus
  /** What the broker still has stays there. */
  stopReading(): void
  /** Waits at most `drainMs` until what was taken is durable and acknowledged, then ends the connection; the session stays. */
  close(drainMs: number): Promise<void>
}

/**
 * Takes messages from an outside broker: a persistent session at QoS 1, acknowledged once the log is durable. Resolves at once, the connection is
 * made in the background and for ever again. Rejects when what is kept of the session cannot be read.
 */
export async function openMqttPull(o: MqttPullOptions): Promise<MqttPull> {
  const session = await loadSession(o.meta, { broker: addressText(o.address), clientId: o.clientId, random: o.env.random })
  const pull = new Pull(o, session)
  pull.start()
  return pull
}

class Pull implements MqttPull {
  readonly #o: MqttPullOptions
  readonly #counters: PullCounters
  readonly #backoff: Backoff
  readonly #forget: () => void
  readonly #logger
  readonly #version: VersionChoice
  #session: PullSession
  #connection: Connection | undefined
  #intake: Intake | undefined
  #state: 'connecting' | 'connected' | 'waiting' | 'closed' = 'connecting'
  /** Filters that the broker refused, with its codes; those that it granted without QoS 1. */
  #refused: ReadonlyMap<string, number> = new Map()
  #weak: readonly string[] = []
  #reason = ''
  #told = ''
  #retry: Timer | undefined
  #steady: Timer | undefined
  #again: Timer | undefined
  #stopping = false
  #everConnected = false
  #onEnd: (() => void) | undefined

  constructor(o: MqttPullOptions, session: PullSession) {
    this.#o = o
    this.#session = session
    this.#version = new VersionChoice(o.version)
    this.#counters = createPullCounters(o.metrics)
    const { mqttPullRetryFirstMs: firstMs, mqttPullRetryMaxMs: maxMs, mqttPullRefusedRetryMs: refusedMs } = limits
    this.#backoff = new Backoff({ firstMs, maxMs, refusedMs }, o.env.random)
    this.#logger = o.env.logger.child({ part: 'mqtt-pull', broker: session.broker })
    this.#forget = o.gate.onDurable((durable) => this.#settle(durable))
  }

  start(): void {
    this.#connect()
  }

  status(): MqttPullStatus {
    const { broker } = this.#session
    const refused = this.#refused.size === 0 ? '' : `; it refuses ${refusedText(this.#refused)}`
    const weak = this.#weak.length === 0 ? '' : `; it grants only QoS 0 to ${this.#weak.join(', ')}`
    if (this.#state === 'connected') {
      const granted = this.#session.filters.length
      return {
        connected: granted > 0 && refused === '',
        detail: `${broker}, ${granted} of ${this.#o.topics.filters.length} subscriptions by MQTT ${this.#version.next}${refused}${weak}`,
      }
    }
    const why = this.#reason === '' ? '' : `: ${this.#reason}`
    return { connected: false, detail: `${broker} ${this.#state === 'waiting' ? 'is not connected' : this.#state}${why}` }
  }

  stopReading(): void {
    this.#stopping = true
    this.#retry?.cancel()
    this.#connection?.hold('stopping')
  }

  async close(drainMs: number): Promise<void> {
    this.stopReading()
    const intake = this.#intake
    const { gate } = this.#o
    if (intake !== undefined && intake.unacknowledged > 0) {
      try {
        await gate.whenDurable(intake.lastTicket, drainMs)
      } catch {
        // Not durable, so not acknowledged: the broker has it still.
      }
      this.#settle(gate.durable)
    }
    this.#forget()
    const connection = this.#connection
    this.#stopTimers()
    if (connection !== undefined) {
      await new Promise<void>((resolve) => {
        this.#onEnd = resolve
        connection.close()
      })
    }
    this.#state = 'closed'
    this.#counters.connected.value = 0
  }

  #connect(): void {
    const o = this.#o
    const session = this.#session
    const version = this.#version.next
    this.#state = 'connecting'
    const { clock } = o.env
    const connection: Connection = new Connection(
      { ...o, clientId: session.clientId, version, clean: false, receiveMaximum: o.inflightMax, clock, dial: o.dial ?? dialSocket },
      {
        opened: (peer) => this.#opened(peer),
        accepted: (terms) => void this.#accepted(connection, terms),
        subscribed: (filters, codes) => void this.#subscribed(connection, filters, codes),
        chunkEnded: () => this.#settle(o.gate.durable),
        failed: (thrown) => this.#failed(thrown),
        ended: (fault) => this.#ended(fault),
        messages: {
          publish: (...args) => this.#intake?.publish(...args),
          oversized: (...args) => this.#intake?.oversized(...args),
        },
      },
    )
    this.#connection = connection
    if (this.#stopping) connection.hold('stopping')
    this.#intake = new Intake(
      {
        gate: o.gate,
        clock: o.env.clock,
        topics: o.topics,
        counters: this.#counters,
        broker: session.broker,
        packetBytesMax: o.packetBytesMax,
        inflightMax: o.inflightMax,
        announced: version === '5',
      },
      connection,
      () => this.#session.epoch,
    )
  }

  async #opened(peer: Link['peer']): Promise<Fault | undefined> {
    if (peer === undefined || !(await this.#o.isOwn(peer))) return undefined
    return { text: "it is Kymo's own MQTT door, which would take what it has taken", refused: true }
  }

  /** What the session is, is durable before anything of it is taken. */
  async #accepted(connection: Connection, { sessionPresent, clientId, sessionExpiryS }: BrokerTerms): Promise<void> {
    this.#version.accepted()
    // It may have a name of its own for us, which the session then goes by.
    const before = clientId === undefined ? this.#session : { ...this.#session, clientId, kept: false }
    if (!sessionPresent || !before.kept) {
      connection.hold('session')
      this.#session = newSession(before, this.#o.env.random)
      if (!(await this.#save(connection))) return
      connection.release('session')
    }
    const { filters } = this.#o.topics
    const granted = new Set(this.#session.filters)
    // A shared one brings no retained messages (MQTT 5, section 4.8.2), and Mosquitto 2.0 forgets it when it is started anew: it is always asked for.
    const missing = filters.filter((filter) => !granted.has(filter) || filter.startsWith('$share/'))
    const gone = [...granted].filter((filter) => !filters.includes(filter))
    const session = sessionPresent ? 'resumed' : 'new'
    this.#logger.info(`connected to ${before.broker} by MQTT ${this.#version.next}`, { session, subscribing: missing.length })
    if (sessionExpiryS !== undefined && sessionExpiryS < this.#o.sessionExpiryS)
      this.#logger.warn('the broker keeps the session for less than mqtt.pull.session_expiry_s', { session_expiry_s: sessionExpiryS })
    if (this.#everConnected) this.#counters.reconnects.value++
    this.#everConnected = true
    this.#refused = new Map()
    this.#weak = []
    this.#reason = ''
    this.#told = ''
    this.#steady = this.#o.env.clock.after(limits.mqttPullSteadyMs, () => this.#backoff.reset())
    if (gone.length > 0) {
      connection.unsubscribe(gone)
      this.#session = { ...this.#session, filters: [...granted].filter((filter) => filters.includes(filter)) }
      if (!(await this.#save(connection))) return
    }
    connection.subscribe(missing)
    if (missing.length === 0) this.#up()
  }

  async #subscribed(connection: Connection, filters: readonly string[], codes: readonly number[]): Promise<void> {
    const refused = new Map(this.#refused)
    const news = new Map<string, number>()
    filters.forEach((filter, i) => {
      const code = codes[i] ?? subscribeRefused
      refused.delete(filter)
      if (code >= subscribeRefused) news.set(filter, code)
    })
    for (const [filter, code] of news) refused.set(filter, code)
    const granted = filters.filter((filter) => !news.has(filter))
    const weak = filters.filter((_, i) => codes[i] === 0)
    this.#refused = refused
    this.#weak = [...this.#weak.filter((filter) => !filters.includes(filter)), ...weak]
    const others = this.#session.filters.filter((filter) => !filters.includes(filter))
    this.#session = { ...this.#session, filters: [...others, ...granted] }
    const rights = [...news.values()].some(wantsRights) ? ': its rights for this user decide' : ''
    if (news.size > 0) this.#tell(`it refuses the subscription to ${refusedText(news)}${rights}`)
    if (weak.length > 0) this.#logger.warn('granted without QoS 1: what comes while this server is away is lost', { filters: weak.join(', ') })
    if (!(await this.#save(connection))) return
    if (this.#refused.size > 0 && this.#again === undefined) this.#subscribeAgain(connection)
    this.#up()
  }

  #subscribeAgain(connection: Connection): void {
    this.#again = this.#o.env.clock.after(this.#backoff.next(true), () => {
      this.#again = undefined
      if (this.#connection === connection) connection.subscribe([...this.#refused.keys()])
    })
  }

  #up(): void {
    this.#state = 'connected'
    this.#counters.connected.value = this.status().connected ? 1 : 0
  }

  /** False: it could not be kept, and the connection is given up for now. */
  async #save(connection: Connection): Promise<boolean> {
    try {
      this.#session = await saveSession(this.#o.meta, this.#session)
      return this.#connection === connection
    } catch (thrown) {
      connection.fail(`what is known of its session cannot be kept: ${asKymoError(thrown).message}`)
      return false
    }
  }

  #ended(fault: Fault): void {
    this.#connection = undefined
    this.#intake?.close()
    this.#intake = undefined
    this.#counters.connected.value = 0
    this.#stopTimers()
    this.#onEnd?.()
    if (this.#stopping) return
    this.#reason = fault.text
    const spoken = this.#version.next
    if (this.#version.ended(fault.how)) {
      this.#logger.info(`${this.#session.broker} does not speak MQTT ${spoken}: ${this.#version.next} is tried`)
      this.#retry = this.#o.env.clock.after(0, () => this.#connect())
      return
    }
    this.#counters.failures.value++
    this.#state = 'waiting'
    const ms = this.#backoff.next(fault.refused)
    this.#tell(fault.text, { retry_ms: Math.round(ms) })
    this.#retry = this.#o.env.clock.after(ms, () => this.#connect())
  }

  /** Once for each reason: the same again is no news. */
  #tell(reason: string, fields: Readonly<Record<string, number>> = {}): void {
    const text = `${this.#session.broker}: ${reason}`
    if (this.#told === reason) this.#logger.debug(text, fields)
    else this.#logger.warn(text, fields)
    this.#told = reason
  }

  #settle(durable: number): void {
    try {
      this.#intake?.settle(durable)
    } catch (thrown) {
      this.#failed(thrown)
    }
  }

  /** Something threw that must not. The broker keeps what was not acknowledged. */
  #failed(thrown: unknown): void {
    const { code, id, message } = asKymoError(thrown)
    this.#logger.error(`taking messages of ${this.#session.broker} failed: ${message}`, { code, id })
    this.#connection?.fail(`taking its messages failed: ${message}`)
  }

  #stopTimers(): void {
    this.#retry?.cancel()
    this.#steady?.cancel()
    this.#again?.cancel()
    this.#again = undefined
  }
}
