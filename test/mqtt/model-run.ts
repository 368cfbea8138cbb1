import assert from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import type { Env, Logger } from '../../src/core/env.ts'
import type { SessionStore } from '../../src/core/session-store.ts'
import type { MqttLimits } from '../../src/doors/mqtt/limits.ts'
import { openSessionStore } from '../../src/store/sessions/store.ts'
import { TestClock } from '../support/test-clock.ts'
import { quiet, World } from './harness.ts'
import type { Got } from './model-client.ts'
import { ModelClient } from './model-client.ts'
import { instantLog } from './model-log.ts'
import type { ConnectOp, Op, PublishOp } from './model-ops.ts'
import { clients } from './model-ops.ts'
import { Reference } from './model-reference.ts'
import type { Session } from './model-session.ts'

/** Around these seconds of something that happens by itself nothing is looked at: the store counts in seconds, and looks once a second. */
const beforeMs = 2_200
const afterMs = 2_300
/** Without anything new for so many turns, there is nothing more to come. */
const stillTurns = 4

const idOf = (client: number): string => `c${client}`

/** One script against the broker with its real session store, beside the reference. Throws at the first difference. */
export class ModelRun {
  readonly #clock = new TestClock()
  readonly #log = instantLog()
  readonly #reference = new Reference(() => this.#clock.monotonicMs())
  readonly #clients: (ModelClient | undefined)[] = []
  readonly #errors: string[] = []
  readonly #rewriteBytes: number
  readonly #limits: Partial<MqttLimits>
  #world!: World
  #store!: SessionStore
  #numbers = 0
  #settled = true

  private constructor(rewriteBytes: number, limits: Partial<MqttLimits>) {
    this.#rewriteBytes = rewriteBytes
    this.#limits = limits
  }

  /** `limits` with `fanoutPerTurn`: messages take several turns to reach their subscribers, and nobody goes meanwhile. */
  static async run(ops: readonly Op[], rewriteBytes = 1e9, limits: Partial<MqttLimits> = {}): Promise<void> {
    const run = new ModelRun(rewriteBytes, limits)
    await run.#open()
    for (const op of ops) {
      await run.#step(op)
      if (!op.quick) await run.#settle()
    }
    await run.#finish()
  }

  async #open(): Promise<void> {
    const logger: Logger = { ...quiet, error: (message, o) => void this.#errors.push(`${message} ${JSON.stringify(o)}`), child: () => logger }
    const env: Env = { clock: this.#clock, random: { next: () => 0.5, uuid: () => 'uuid' }, logger, disk: undefined as never }
    this.#store = await openSessionStore({ log: this.#log, env, rewriteBytes: this.#rewriteBytes })
    this.#world = new World(this.#limits, { env, store: this.#store })
    await this.#world.broker.restore()
  }

  async #step(op: Op): Promise<void> {
    if (op.kind === 'pass') return this.#pass(op.seconds * 1000)
    if (op.kind === 'restart') return this.#restart()
    if (op.kind === 'connect') return this.#connect(op)
    const goes = op.kind === 'unsubscribe' || op.kind === 'hangUp' || op.kind === 'disconnect'
    if (goes && this.#limits.fanoutPerTurn !== undefined) await this.#settle()
    const client = this.#clients[op.client]
    const session = this.#reference.sessions.get(idOf(op.client))
    if (client === undefined || session === undefined) return
    if (op.kind === 'hangUp') {
      this.#leave(op.client, client, false, -1)
      client.line.hangUp()
    } else if (op.kind === 'disconnect') {
      // What asks for more than CONNECT did is a protocol error, and tried elsewhere.
      const expiryS = client.five && session.expiryS > 0 ? op.expiryS : -1
      const keepsWill = client.five && op.keepsWill
      this.#leave(op.client, client, !keepsWill, expiryS)
      client.disconnect(keepsWill ? 4 : 0, expiryS)
      assert.equal(client.line.ended, true)
    } else if (op.kind === 'subscribe') {
      const id = this.#nextId(session)
      session.owed.push(`suback ${id} ${op.qos}`)
      this.#reference.subscribe(session, op)
      client.subscribe(id, op)
    } else if (op.kind === 'unsubscribe') {
      const id = this.#nextId(session)
      const there = this.#reference.unsubscribe(session, op.filter)
      session.owed.push(client.five ? `unsuback ${id} ${there ? 0 : 17}` : `unsuback ${id}`)
      client.unsubscribe(id, op.filter)
    } else if (op.kind === 'publish') await this.#publish(client, session, op)
    else if (op.kind === 'acknowledge') this.#acknowledge(client, session, op)
    else if (op.kind === 'resend') await this.#resend(client, session, op.which)
    else await this.#release(client, session, op.which)
    this.#settled = false
    this.#readAll()
  }

  async #connect(op: ConnectOp): Promise<void> {
    await this.#settle()
    const before = this.#clients[op.client]
    const id = idOf(op.client)
    const payload = `will ${++this.#numbers}`
    const present = this.#reference.connect(id, op, op.will === undefined ? undefined : { ...op.will, delayS: op.five ? op.will.delayS : 0, payload })
    const client = new ModelClient(this.#world.line(), op.five)
    client.connect(id, op, payload)
    this.#clients[op.client] = client
    if (before !== undefined) {
      assert.deepEqual(before.read(), before.five ? ['disconnect 8e'] : [])
      assert.equal(before.line.ended, true, 'a client that was taken over is still there')
    }
    const session = this.#reference.sessions.get(id)!
    session.owed.push(`connack 0${present ? ' present' : ''}`)
    await this.#settle()
  }

  #leave(index: number, client: ModelClient, discardsWill: boolean, expiryS: number): void {
    this.#readAll()
    this.#clients[index] = undefined
    this.#reference.leave(idOf(index), discardsWill, expiryS, !this.#settled)
    assert.equal(client.line.ended, false)
  }

  async #publish(client: ModelClient, session: Session, op: PublishOp): Promise<void> {
    const id = this.#nextId(session)
    const payload = op.empty ? '' : `m${++this.#numbers}`
    const expiryS = client.five ? op.expiryS : 0
    if (op.qos > 0) session.owed.push(`${op.qos === 1 ? 'puback' : 'pubrec'} ${id}`)
    if (op.qos === 2) session.inbound.set(id, { ...op, payload, expiryS })
    const expiresMs = expiryS === 0 ? Number.POSITIVE_INFINITY : this.#clock.monotonicMs() + expiryS * 1000
    this.#reference.publish({ topic: op.topic, payload, qos: op.qos, retain: op.retain, expiresMs }, session)
    client.say(op.topic, payload, { ...op, expiryS, id, dup: false })
    // Exactly once waits for the gate before anybody gets it.
    if (op.qos === 2 && op.topic.endsWith('telemetry')) await this.#settle()
  }

  #acknowledge(client: ModelClient, session: Session, op: Op & { readonly kind: 'acknowledge' }): void {
    for (let i = 0; i < op.count; i++) {
      const ready = session.flights.filter((flight) => !flight.again && (flight.state === 'sent' || flight.released))
      const flight = ready[op.first % Math.max(1, ready.length)]
      if (flight === undefined) return
      const { packetId, qos } = flight
      const refuse = client.five && op.refuse && flight.state === 'sent'
      const done = qos === 1 || flight.state === 'received' || refuse
      if (done) session.flights = session.flights.filter((one) => one !== flight)
      if (flight.state === 'received') client.ack(7, packetId)
      else if (qos === 1) client.ack(4, packetId, refuse ? 0x80 : 0)
      else {
        if (!refuse) {
          flight.state = 'received'
          session.owed.push(`pubrel ${packetId}`)
        }
        client.ack(5, packetId, refuse ? 0x83 : 0)
      }
      this.#readAll()
    }
  }

  async #resend(client: ModelClient, session: Session, which: number): Promise<void> {
    await this.#settle()
    const unreleased = [...session.inbound]
    const [id, message] = unreleased[which % Math.max(1, unreleased.length)] ?? []
    if (id === undefined || message === undefined) return
    session.owed.push(`pubrec ${id}`)
    client.say(message.topic, message.payload, { ...message, expiryS: client.five ? message.expiryS : 0, id, dup: true })
  }

  async #release(client: ModelClient, session: Session, which: number): Promise<void> {
    await this.#settle()
    const unreleased = [...session.inbound.keys()]
    const id = unreleased[which % Math.max(1, unreleased.length)]
    if (id === undefined) return
    session.inbound.delete(id)
    session.owed.push(`pubcomp ${id}`)
    client.ack(6, id)
  }

  async #pass(ms: number): Promise<void> {
    await this.#settle()
    let until = this.#clock.monotonicMs() + ms
    const deadlines = this.#reference.deadlines().toSorted((a, b) => a - b)
    for (const at of deadlines) if (at > until - beforeMs && at <= until + afterMs) until = at + afterMs
    this.#clock.advance(until - this.#clock.monotonicMs())
    this.#reference.passed()
    this.#readAll()
  }

  /** The process dies once all is written, and another takes its place. */
  async #restart(): Promise<void> {
    await this.#settle()
    this.#clock.advance(150)
    await this.#settle()
    this.#clock.forget()
    this.#clients.length = 0
    this.#reference.restart()
    await this.#open()
  }

  async #settle(): Promise<void> {
    for (let still = 0; still < stillTurns; still++) {
      await turn()
      this.#clock.advance(1)
      this.#world.gate.sync()
      this.#world.turn()
      if (this.#readAll() > 0) still = -1
    }
    this.#settled = true
    assert.deepEqual(this.#errors, [])
    this.#reference.settled()
  }

  #readAll(): number {
    let count = 0
    for (const [index, client] of this.#clients.entries()) {
      const session = this.#reference.sessions.get(idOf(index))
      if (client === undefined || session === undefined) continue
      for (const one of client.read()) {
        count++
        this.#came(session, one)
      }
      assert.equal(client.line.ended, false, `${session.client} was sent away`)
    }
    return count
  }

  #came(session: Session, one: Got): void {
    const connack = session.owed.find((word) => word.startsWith('connack'))
    if (connack !== undefined) assert.equal(one, connack)
    if (typeof one !== 'string') return this.#reference.got(session, one)
    const at = session.owed.indexOf(one)
    if (at >= 0) session.owed.splice(at, 1)
    else assert.ok(one.startsWith('pubrel '), `${session.client} got ${one}; owed: ${session.owed.join(', ')}`)
    if (one.startsWith('pubrel ')) this.#reference.released(session, Number(one.slice(7)))
  }

  /** A packet id that is not in use. */
  #nextId(session: Session): number {
    let id = 1 + (this.#numbers++ % 1000)
    while (session.inbound.has(id) || session.owed.some((word) => word.split(' ')[1] === String(id))) id++
    return id
  }

  /** Everybody comes, acknowledges all, and leaves for good: nothing must be left. */
  async #finish(): Promise<void> {
    await this.#settle()
    const reference = this.#reference
    for (let index = 0; index < clients; index++) {
      if (!reference.sessions.has(idOf(index))) continue
      await this.#connect({ kind: 'connect', client: index, five: true, clean: false, expiryS: 100, receiveMaximum: 0, aliases: 0, will: undefined })
    }
    // A member that gets what another has left may be one that has acknowledged all.
    for (let round = 0; round < 3; round++) {
      for (let index = 0; index < clients; index++) {
        const session = reference.sessions.get(idOf(index))
        const client = this.#clients[index]
        if (session === undefined || client === undefined) continue
        for (let steps = 0; session.flights.length > 0 || session.inbound.size > 0; steps++) {
          assert.ok(steps < 10_000, 'it does not end')
          this.#acknowledge(client, session, { kind: 'acknowledge', client: index, first: 0, count: 50, refuse: false, quick: false })
          for (const _ of session.inbound.keys().toArray()) await this.#release(client, session, 0)
          await this.#settle()
        }
      }
    }
    reference.finished()
    for (const [index, client] of this.#clients.entries()) {
      if (client === undefined) continue
      this.#leave(index, client, true, 0)
      client.disconnect(0, 0)
    }
    await this.#settle()
    const { broker } = this.#world
    const { sessions, deliveries, wills, attached } = this.#store.figures()
    assert.deepEqual({ sessions, deliveries, wills, attached }, { sessions: 0, deliveries: 0, wills: 0, attached: 0 })
    assert.deepEqual([broker.held.used, broker.partial.used, broker.sending.used, broker.connections], [0, 0, 0, 0])
    assert.equal(broker.subscriptions('default').size, 0)
    await this.#seesRetained()
    await this.#store.close()
  }

  /** A client that sees all retained messages. */
  async #seesRetained(): Promise<void> {
    const connect = { kind: 'connect', client: 0, five: true, clean: true, expiryS: 0, receiveMaximum: 0, aliases: 0, will: undefined } as const
    await this.#connect(connect)
    const all = {
      kind: 'subscribe',
      client: 0,
      filter: '#',
      qos: 0,
      noLocal: false,
      retainAsPublished: false,
      retainHandling: 0,
      identifier: 0,
    } as const
    await this.#step({ ...all, quick: false })
    await this.#settle()
  }
}
