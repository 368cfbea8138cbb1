import type { Env, Timer } from '../../../core/env.ts'
import { asKymoError } from '../../../core/errors.ts'
import type { IngestGate } from '../../../core/gate.ts'
import { limits } from '../../../core/limits.ts'
import type { Metrics } from '../../../core/metrics.ts'
import type { MetaStore } from '../../../core/ports.ts'
import { addressText, type BrokerAddress } from '../../../wire/mqtt/address.ts'
import { subscribeRefused } from '../../../wire/mqtt/packets.ts'
import { Backoff } from './backoff.ts'
import { Connection, type Fault } from './connection.ts'
import { createPullCounters, type PullCounters } from './counters.ts'
import type { PullTopics } from './filters.ts'
import { Intake } from './intake.ts'
import { type Dial, dialSocket, type Link, type TlsFiles } from './link.ts'
import { loadSession, newSession, type PullSession, saveSession } from './session-store.ts'

export interface MqttPullOptions {
  /** Its user name and password go along unless the others are given. */
  readonly address: BrokerAddress
  readonly topics: PullTopics
  /** '': one that is made once and kept. */
  readonly clientId: string
  readonly username?: string
  readonly password?: string
  readonly keepAliveS: number
  readonly tls: TlsFiles
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
  #session: PullSession
  #connection: Connection | undefined
  #intake: Intake | undefined
  #state: 'connecting' | 'connected' | 'waiting' | 'closed' = 'connecting'
  /** Filters that the broker refused, or granted without QoS 1. */
  #refused: readonly string[] = []
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
    const refused = this.#refused.length === 0 ? '' : `; it refuses ${this.#refused.join(', ')}`
    const weak = this.#weak.length === 0 ? '' : `; it grants only QoS 0 to ${this.#weak.join(', ')}`
    if (this.#state === 'connected') {
      const granted = this.#session.filters.length
      return {
        connected: granted > 0 && refused === '',
        detail: `${broker}, ${granted} of ${this.#o.topics.filters.length} subscriptions${refused}${weak}`,
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
    const { o, session } = { o: this.#o, session: this.#session }
    this.#state = 'connecting'
    const username = o.username ?? o.address.username
    const password = o.password ?? o.address.password
    const connection: Connection = new Connection(
      {
        address: o.address,
        tls: o.tls,
        clientId: session.clientId,
        clean: false,
        ...(username === undefined ? {} : { username }),
        ...(password === undefined ? {} : { password }),
        keepAliveS: o.keepAliveS,
        packetBytesMax: o.packetBytesMax,
        clock: o.env.clock,
        dial: o.dial ?? dialSocket,
      },
      {
        opened: (peer) => this.#opened(peer),
        accepted: (present) => void this.#accepted(connection, present),
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
  async #accepted(connection: Connection, sessionPresent: boolean): Promise<void> {
    const before = this.#session
    if (!sessionPresent || !before.kept) {
      connection.hold('session')
      this.#session = newSession(before, this.#o.env.random)
      if (!(await this.#save(connection))) return
      connection.release('session')
    }
    const { filters } = this.#o.topics
    const granted = new Set(this.#session.filters)
    const missing = filters.filter((filter) => !granted.has(filter))
    const gone = [...granted].filter((filter) => !filters.includes(filter))
    this.#logger.info(`connected to ${before.broker}`, { session: sessionPresent ? 'resumed' : 'new', subscribing: missing.length })
    if (this.#everConnected) this.#counters.reconnects.value++
    this.#everConnected = true
    this.#refused = []
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
    const refused = filters.filter((_, i) => codes[i] === subscribeRefused)
    const granted = filters.filter((_, i) => codes[i] !== subscribeRefused)
    const weak = filters.filter((_, i) => codes[i] === 0)
    this.#refused = [...this.#refused.filter((filter) => !filters.includes(filter)), ...refused]
    this.#weak = [...this.#weak.filter((filter) => !filters.includes(filter)), ...weak]
    const others = this.#session.filters.filter((filter) => !filters.includes(filter))
    this.#session = { ...this.#session, filters: [...others, ...granted] }
    if (refused.length > 0) this.#tell(`it refuses the subscription to ${refused.join(', ')}: its rights for this user decide`)
    if (weak.length > 0) this.#logger.warn('granted without QoS 1: what comes while this server is away is lost', { filters: weak.join(', ') })
    if (!(await this.#save(connection))) return
    if (this.#refused.length > 0 && this.#again === undefined) this.#subscribeAgain(connection)
    this.#up()
  }

  #subscribeAgain(connection: Connection): void {
    this.#again = this.#o.env.clock.after(this.#backoff.next(true), () => {
      this.#again = undefined
      if (this.#connection === connection) connection.subscribe(this.#refused)
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
    this.#counters.failures.value++
    this.#state = 'waiting'
    this.#reason = fault.text
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
