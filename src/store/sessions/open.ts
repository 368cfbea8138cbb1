import type { Env } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { StreamLog } from '../../core/ports.ts'
import {
  neverExpires,
  type AttachOptions,
  type DropReason,
  type DueWill,
  type LeftDelivery,
  type QueuePolicy,
  type SessionLimits,
  type SessionRef,
  type SessionWill,
} from '../../core/session-store.ts'
import { copyOf } from './bytes.ts'
import type { Changes, WillStatement } from './changes.ts'
import { Deadlines } from './deadlines.ts'
import { Journal } from './journal.ts'
import { Rewrite } from './rewrite.ts'
import { messageBytes, type Owner, type Session } from './session.ts'
import type { State } from './state.ts'
import { Wakes } from './wakes.ts'

export interface OpenOptions {
  readonly env: Env
  readonly log: StreamLog
  readonly topic: string
  readonly state: State
  readonly next: bigint
  readonly bytes: number
  readonly limits: SessionLimits
  readonly whenFull: QueuePolicy
  readonly rewriteBytes: number
  readonly stand: (offset: bigint) => Promise<void>
}

const noDrops: Readonly<Record<DropReason, number>> = {
  queue_messages: 0,
  queue_bytes: 0,
  total_bytes: 0,
  expired: 0,
  ended: 0,
  retained_messages: 0,
  retained_bytes: 0,
}

export interface Attached {
  readonly session: Session
  readonly owner: Owner
  readonly present: boolean
  readonly ticket: number
}

/** The state together with its journal: every change goes into both. */
export class OpenSessions {
  readonly env: Env
  readonly state: State
  readonly journal: Journal
  readonly limits: SessionLimits
  readonly whenFull: QueuePolicy
  readonly dropped: Record<DropReason, number> = { ...noDrops }
  readonly wakes: Wakes
  readonly ended = new Set<(session: SessionRef, left: readonly LeftDelivery[]) => void>()
  attached = 0
  /** Of the last publication: `SessionStore.unretained`. */
  unretained = false
  readonly #deadlines = new Deadlines()
  readonly #rewrite: Rewrite
  #will: ((will: DueWill) => void) | undefined

  constructor(o: OpenOptions) {
    const { env, state } = o
    this.env = env
    this.state = state
    this.limits = o.limits
    this.whenFull = o.whenFull
    this.wakes = new Wakes(env.clock, (thrown) => env.logger.error('a session was not told of what waits for it', { error: String(thrown) }))
    this.journal = new Journal({
      log: o.log,
      env,
      topic: o.topic,
      next: o.next,
      bytes: o.bytes,
      pendingBytesMax: o.limits.pendingBytesMax,
      lazyMs: limits.mqttSessionLazyMs,
      beforeWrite: () => this.#rewrite.step(),
      more: () => this.#rewrite.active,
      failed: (error) => env.logger.error(error.message, { code: error.code, topic: o.topic }),
    })
    this.#rewrite = new Rewrite({
      state,
      journal: this.journal,
      afterBytes: o.rewriteBytes,
      nowUs: () => env.clock.nowUs(),
      done: (offset) => void o.stand(offset).catch((thrown: unknown) => this.journal.fail(asKymoError(thrown))),
      expire: (session, nowUs) => this.expire(session, nowUs, session.waiting?.length ?? 0),
      expireRetained: ({ retained, body }, nowUs) => {
        if (retained && body.expiresUs <= nowUs) this.lazily((to) => to.clear(body.tenant, body.topic))
      },
    })
  }

  /** Once, at the start: who had a connection has left. */
  begin(): void {
    const nowUs = this.env.clock.nowUs()
    for (const session of this.state.sessions.values()) {
      if (session.detachedUs === Number.POSITIVE_INFINITY) this.detach(session, nowUs, session.expiryS)
      else this.#arm(session)
    }
    this.tick()
  }

  /** A change that nobody waits for. */
  lazily(change: (to: Changes) => void): void {
    this.#change(change)
    this.journal.lazy()
  }

  /** Returns the ticket to wait for. */
  change(change: (to: Changes) => void): number {
    this.#change(change)
    return this.journal.urgent()
  }

  attach(tenant: string, client: string, o: AttachOptions): Attached {
    const nowUs = this.env.clock.nowUs()
    let session = this.state.find(tenant, client)
    if (o.will !== undefined) this.#refuseWill(messageBytes(o.will.message), session)
    if (session !== undefined) {
      session.owner?.taken()
      if (o.clean || endUs(session) <= nowUs) {
        this.end(session)
        session = undefined
      } else this.#settleWill(session, nowUs)
    }
    const will = o.will === undefined ? undefined : willStatement(this.state.nextMessage, o.will)
    const present = session !== undefined
    if (session === undefined) {
      const id = this.#create(tenant, client, o.expiryS, will)
      session = this.state.sessions.get(id)!
    } else {
      const { id, epoch } = session
      this.#change((to) => to.attach(id, epoch + 1, o.expiryS, will))
      this.#deadlines.disarm(session)
    }
    const ticket = this.journal.urgent()
    this.attached++
    const owned = session
    const owner: Owner = {
      cursor: -1,
      hungry: false,
      queued: o.onQueued,
      taken: () => {
        this.release(owned)
        o.onTaken()
      },
    }
    session.owner = owner
    return { session, owner, present, ticket }
  }

  /** Its connection has it no more. */
  release(session: Session): void {
    if (session.owner !== undefined) this.attached--
    session.owner = undefined
  }

  detach(session: Session, nowUs: number, expiryS: number): void {
    this.release(session)
    const { id, will } = session
    if (expiryS === 0) return this.end(session)
    const dueUs = will === undefined ? Number.POSITIVE_INFINITY : nowUs + Math.min(will.delayS, expiryS) * 1e6
    this.lazily((to) => to.detach(id, nowUs, expiryS, dueUs))
    this.#arm(session)
    if (dueUs <= nowUs) this.#look(session, nowUs)
  }

  /** The session ends; its will, if it has one, is due [MQTT-3.1.2-8], and not for itself: a shared subscription would give it to who is gone. */
  end(session: Session): void {
    const { id } = session
    this.release(session)
    this.#deadlines.disarm(session)
    const left = leftOf(session)
    for (const listener of this.ended) listener(session, left)
    this.#dueWill(session)
    this.lazily((to) => to.end(id))
  }

  /** What is due by the clock. While changes are refused it waits. */
  tick(): void {
    if (!this.journal.usable || this.journal.overloaded) return
    const nowUs = this.env.clock.nowUs()
    for (const session of this.#deadlines.due(nowUs)) this.#look(session, nowUs)
  }

  /** Gives up expired deliveries among the first `most` that wait. */
  expire(session: Session, nowUs: number, most: number): void {
    const { id, waiting = [] } = session
    const expired = waiting.slice(0, most).filter(({ stored }) => stored !== undefined && stored.body.expiresUs <= nowUs)
    for (const { seq } of expired) this.lazily((to) => to.drop(id, seq))
    this.dropped.expired += expired.length
  }

  onWill(listener: (will: DueWill) => void): void {
    this.#will = listener
    for (const due of this.state.dues.values()) listener(due)
  }

  #change(change: (to: Changes) => void): void {
    const to = this.journal.begin()
    this.state.ticket = this.journal.ticket
    change(this.state)
    change(to)
  }

  #refuseWill(bytes: number, session: Session | undefined): void {
    const own = session?.will === undefined ? 0 : messageBytes(session.will.message)
    if (this.state.willBytes - own + bytes <= this.limits.willBytesMax) return
    throw new KymoError('overloaded', {
      detail: 'The wills of all sessions take as much as they may (willBytesMax). Connect without one, or with a smaller one.',
    })
  }

  #create(tenant: string, client: string, expiryS: number, will: WillStatement | undefined): number {
    if ((this.state.tenants.get(tenant)?.size ?? 0) >= this.limits.sessionsPerTenantMax) {
      throw new KymoError('too_many_sessions', { facts: { tenant, sessions: this.limits.sessionsPerTenantMax } })
    }
    const id = this.state.nextSession
    const rest = { detachedUs: Number.POSITIVE_INFINITY, subscriptions: [], inbound: [], entries: [] }
    this.#change((to) => to.session({ id, tenant, client, epoch: 1, expiryS, will, ...rest }))
    return id
  }

  /** Before another connection takes the session as it is (MQTT 5, 3.1.3.2.2, 3.1.4): due when it has no delay, else discarded. */
  #settleWill(session: Session, nowUs: number): void {
    const { id, will } = session
    if (will === undefined) return
    const connected = session.detachedUs === Number.POSITIVE_INFINITY
    if (connected ? will.delayS === 0 : will.dueUs <= nowUs) this.#dueWill(session)
    else this.lazily((to) => to.willDrop(id))
  }

  #dueWill(session: Session): void {
    const { id, will } = session
    if (will === undefined) return
    this.lazily((to) => to.willDue(id))
    const due = this.state.dues.get(will.id)
    if (due !== undefined) this.#will?.(due)
  }

  #look(session: Session, nowUs: number): void {
    if (session.owner !== undefined || this.state.sessions.get(session.id) !== session) return
    if (endUs(session) <= nowUs) return this.end(session)
    if (session.will !== undefined && session.will.dueUs <= nowUs) this.#dueWill(session)
    this.#arm(session)
  }

  #arm(session: Session): void {
    this.#deadlines.arm(session, Math.min(endUs(session), session.will?.dueUs ?? Number.POSITIVE_INFINITY))
  }
}

/** What of shared subscriptions others may have: what was not sent, and of QoS 1 what was not acknowledged (MQTT 5, 4.8.2). */
function leftOf({ inflight, waiting }: Session): readonly LeftDelivery[] {
  const left: LeftDelivery[] = []
  for (const { group, stored, qos } of inflight?.values() ?? []) if (group !== undefined && qos === 1) left.push({ group, message: stored!.body })
  for (const { group, stored } of waiting ?? []) if (group !== undefined && stored !== undefined) left.push({ group, message: stored.body })
  return left
}

/** When a session that nobody has ends, epoch microseconds. */
export function endUs({ expiryS, detachedUs }: Session): number {
  return expiryS === neverExpires ? Number.POSITIVE_INFINITY : detachedUs + expiryS * 1e6
}

function willStatement(id: number, { message, retain, delayS }: SessionWill): WillStatement {
  const kept = { ...message, payload: copyOf(message.payload), properties: copyOf(message.properties) }
  return { id, retain, delayS, dueUs: Number.POSITIVE_INFINITY, message: kept }
}
