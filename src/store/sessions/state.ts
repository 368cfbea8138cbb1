import { KymoError } from '../../core/errors.ts'
import type { SessionMessage, SessionSubscription } from '../../core/session-store.ts'
import type { Changes, DueStatement, RecipientStatement, SessionStatement, WillStatement } from './changes.ts'
import { RetainedTopics } from './retained.ts'
import { messageBytes, type Entry, type Message, type Session } from './session.ts'

/**
 * Sessions, messages and wills in memory, as the changes of a journal make them. Whoever reads a journal back begins anywhere; until a rewrite has
 * been read from its beginning to its end (`complete`), changes of what was not stated yet are passed over.
 */
export class State implements Changes {
  readonly sessions = new Map<number, Session>()
  readonly tenants = new Map<string, Map<string, Session>>()
  readonly messages = new Map<number, Message>()
  readonly topics = new Map<string, RetainedTopics<Message>>()
  readonly dues = new Map<number, DueStatement>()
  complete: boolean
  /** Part of the journal was lost and set aside: what refers to it is dropped. */
  lenient = false
  /** How often that was so. */
  lost = 0
  nextSession = 1
  nextMessage = 1
  /** Of the last rewrite that was begun. */
  generation = 0
  retained = 0
  retainedBytes = 0
  /** Of messages that wait for sessions. */
  messageBytes = 0
  deliveries = 0
  /** Of wills, those that are due included. */
  willBytes = 0
  /** Set around a live change. */
  ticket = 0
  #begun: number | undefined

  constructor(complete: boolean) {
    this.complete = complete
  }

  find(tenant: string, client: string): Session | undefined {
    return this.tenants.get(tenant)?.get(client)
  }

  session(s: SessionStatement): void {
    const before = this.sessions.get(s.id)
    const session: Session = {
      id: s.id,
      tenant: s.tenant,
      client: s.client,
      epoch: s.epoch,
      expiryS: s.expiryS,
      detachedUs: s.detachedUs,
      last: 0,
      place: 0,
      subscriptions: undefined,
      inbound: s.inbound.length === 0 ? undefined : new Set(s.inbound),
      waiting: undefined,
      inflight: undefined,
      bytes: 0,
      will: undefined,
      generation: this.generation,
      owner: undefined,
      dueS: 0,
    }
    for (const { seq, qos, retain, identifiers, group, received, packetId } of s.entries) {
      const entry: Entry = { seq, qos, retain, identifiers, group, received, stored: undefined, packetId }
      this.nextMessage = Math.max(this.nextMessage, seq + 1)
      if (packetId === 0) (session.waiting ??= []).push(entry)
      else (session.inflight ??= new Map()).set(packetId, entry)
      this.deliveries++
      if (received) continue
      const stored = this.messages.get(seq)
      if (stored === undefined) this.#unknown(`message ${seq} of session ${s.id}`)
      this.#link(session, entry, stored)
    }
    if (before !== undefined) this.#forget(before)
    this.sessions.set(s.id, session)
    const ofTenant = this.tenants.get(s.tenant)
    if (ofTenant === undefined) this.tenants.set(s.tenant, new Map([[s.client, session]]))
    else ofTenant.set(s.client, session)
    if (s.subscriptions.length > 0) this.#subscribe(session, s.subscriptions)
    this.nextSession = Math.max(this.nextSession, s.id + 1)
    this.#setWill(session, s.will)
  }

  attach(id: number, epoch: number, expiryS: number, will: WillStatement | undefined): void {
    const session = this.#session(id)
    if (session === undefined) return
    session.epoch = epoch
    session.expiryS = expiryS
    session.detachedUs = Number.POSITIVE_INFINITY
    this.#setWill(session, will)
  }

  detach(id: number, detachedUs: number, expiryS: number, willDueUs: number): void {
    const session = this.#session(id)
    if (session === undefined) return
    session.detachedUs = detachedUs
    session.expiryS = expiryS
    if (session.will !== undefined) session.will = { ...session.will, dueUs: willDueUs }
  }

  end(id: number): void {
    const session = this.#session(id)
    if (session === undefined) return
    this.#forget(session)
    this.sessions.delete(id)
    const ofTenant = this.tenants.get(session.tenant)
    if (ofTenant?.get(session.client) === session) ofTenant.delete(session.client)
    if (ofTenant?.size === 0) this.tenants.delete(session.tenant)
  }

  subscribe(id: number, subscriptions: readonly SessionSubscription[]): void {
    const session = this.#session(id)
    if (session !== undefined) this.#subscribe(session, subscriptions)
  }

  unsubscribe(id: number, filters: readonly string[]): void {
    const session = this.#session(id)
    for (const filter of filters) session?.subscriptions?.delete(filter)
    if (session?.subscriptions?.size === 0) session.subscriptions = undefined
  }

  message(id: number, body: SessionMessage, retained: boolean, recipients: readonly RecipientStatement[]): void {
    this.nextMessage = Math.max(this.nextMessage, id + 1)
    let message = this.messages.get(id)
    if (message === undefined) {
      const bytes = messageBytes(body)
      message = { id, body, bytes, refs: 0, retained: false, generation: this.generation, ticket: this.ticket }
      this.messages.set(id, message)
    }
    for (const { session: to, qos, retain, identifiers, group } of recipients) {
      const session = this.#session(to)
      if (session === undefined) continue
      session.last = id
      // One text for all of a subscription's, also when it was read back.
      const shared = group === undefined ? undefined : (session.subscriptions?.get(group)?.filter ?? group)
      const entry: Entry = { seq: id, qos, retain, identifiers, group: shared, received: false, stored: undefined, packetId: 0 }
      const waiting = (session.waiting ??= [])
      waiting.push(entry)
      this.deliveries++
      this.#link(session, entry, message)
    }
    if (retained) this.#retain(message)
    this.#free(message)
  }

  sending(id: number, seq: number, packetId: number): void {
    const session = this.#session(id)
    const entry = session === undefined ? undefined : this.#takeWaiting(session, seq)
    if (session === undefined || entry === undefined) return
    entry.packetId = packetId
    session.inflight ??= new Map()
    session.inflight.set(packetId, entry)
  }

  received(id: number, packetId: number): void {
    const session = this.#session(id)
    const entry = session?.inflight?.get(packetId)
    if (session === undefined) return
    if (entry === undefined) this.#unknown(`delivery ${packetId} of session ${id}`)
    else session.inflight!.set(packetId, this.#unlink(session, entry))
  }

  done(id: number, packetId: number): void {
    const session = this.#session(id)
    if (session === undefined) return
    const entry = session.inflight?.get(packetId)
    if (entry === undefined) return this.#unknown(`delivery ${packetId} of session ${id}`)
    session.inflight!.delete(packetId)
    if (session.inflight!.size === 0) session.inflight = undefined
    this.#unlink(session, entry)
    this.deliveries--
  }

  drop(id: number, seq: number): void {
    const session = this.#session(id)
    const entry = session === undefined ? undefined : this.#takeWaiting(session, seq)
    if (session === undefined || entry === undefined) return
    this.#unlink(session, entry)
    this.deliveries--
  }

  accept(id: number, packetId: number): void {
    const session = this.#session(id)
    if (session !== undefined) (session.inbound ??= new Set()).add(packetId)
  }

  release(id: number, packetId: number): void {
    const session = this.#session(id)
    session?.inbound?.delete(packetId)
    if (session?.inbound?.size === 0) session.inbound = undefined
  }

  clear(tenant: string, topic: string): void {
    const before = this.topics.get(tenant)?.delete(topic)
    if (before !== undefined) this.#unretain(before)
  }

  willDue(id: number): void {
    const session = this.#session(id)
    if (session?.will === undefined) return
    const { will, client } = session
    this.#setWill(session, undefined)
    this.due({ id: will.id, client, retain: will.retain, message: will.message })
  }

  willDrop(id: number): void {
    const session = this.#session(id)
    if (session !== undefined) this.#setWill(session, undefined)
  }

  willDone(id: number): void {
    const due = this.dues.get(id)
    if (due !== undefined) this.willBytes -= messageBytes(due.message)
    this.dues.delete(id)
  }

  due(statement: DueStatement): void {
    this.nextMessage = Math.max(this.nextMessage, statement.id + 1)
    if (!this.dues.has(statement.id)) this.willBytes += messageBytes(statement.message)
    this.dues.set(statement.id, statement)
  }

  rewrite(generation: number): void {
    this.#begun = generation
    this.generation = Math.max(this.generation, generation)
  }

  rewritten(generation: number, nextSession: number, nextMessage: number): void {
    this.nextSession = Math.max(this.nextSession, nextSession)
    this.nextMessage = Math.max(this.nextMessage, nextMessage)
    if (this.#begun === generation) this.resolve()
  }

  /** From here on everything that is referred to must have been stated. */
  resolve(): void {
    if (this.complete) return
    this.complete = true
    for (const session of this.sessions.values()) {
      for (const entry of [...(session.inflight?.values() ?? []), ...(session.waiting ?? [])]) {
        if (entry.stored !== undefined || entry.received) continue
        const message = this.messages.get(entry.seq)
        if (message === undefined) this.#unknown(`message ${entry.seq} of session ${session.id}`)
        this.#link(session, entry, message)
      }
    }
    for (const message of this.messages.values()) this.#free(message)
  }

  /** After reading back what has a hole: places in queues whose message is lost go. */
  prune(): void {
    for (const session of this.sessions.values()) {
      const lost = (entry: Entry): boolean => !entry.received && entry.stored === undefined
      const before = (session.waiting?.length ?? 0) + (session.inflight?.size ?? 0)
      if (session.waiting !== undefined) session.waiting = session.waiting.filter((entry) => !lost(entry))
      for (const [packetId, entry] of session.inflight ?? []) if (lost(entry)) session.inflight!.delete(packetId)
      this.deliveries -= before - (session.waiting?.length ?? 0) - (session.inflight?.size ?? 0)
    }
  }

  #session(id: number): Session | undefined {
    const session = this.sessions.get(id)
    if (session === undefined) this.#unknown(`session ${id}`)
    return session
  }

  #unknown(what: string): void {
    if (!this.complete) return
    if (!this.lenient) throw new KymoError('log_corrupt', { detail: `${what} is not known` })
    this.lost++
  }

  #setWill(session: Session, will: WillStatement | undefined): void {
    if (session.will !== undefined) this.willBytes -= messageBytes(session.will.message)
    session.will = will
    if (will === undefined) return
    this.willBytes += messageBytes(will.message)
    this.nextMessage = Math.max(this.nextMessage, will.id + 1)
  }

  #subscribe(session: Session, subscriptions: readonly SessionSubscription[]): void {
    session.subscriptions ??= new Map()
    for (const one of subscriptions) session.subscriptions.set(one.filter, one)
  }

  #takeWaiting(session: Session, seq: number): Entry | undefined {
    const { waiting } = session
    const at = waiting === undefined ? -1 : waiting[0]?.seq === seq ? 0 : waiting.findIndex((entry) => entry.seq === seq)
    if (waiting === undefined || at < 0) {
      this.#unknown(`place ${seq} in the queue of session ${session.id}`)
      return undefined
    }
    const entry = at === 0 ? waiting.shift() : waiting.splice(at, 1)[0]
    if (waiting.length === 0) session.waiting = undefined
    return entry
  }

  #link(session: Session, entry: Entry, message: Message | undefined): void {
    if (message === undefined) return
    entry.stored = message
    session.bytes += message.bytes
    if (message.refs++ === 0) this.messageBytes += message.bytes
  }

  /** Returns the entry without its message. */
  #unlink(session: Session, entry: Entry): Entry {
    const message = entry.stored
    if (message !== undefined) {
      session.bytes -= message.bytes
      if (--message.refs === 0) this.messageBytes -= message.bytes
      this.#free(message)
    }
    return { ...entry, received: true, stored: undefined, identifiers: [], group: undefined }
  }

  #forget(session: Session): void {
    this.#setWill(session, undefined)
    for (const entry of session.waiting ?? []) this.#unlink(session, entry)
    for (const entry of session.inflight?.values() ?? []) this.#unlink(session, entry)
    this.deliveries -= (session.waiting?.length ?? 0) + (session.inflight?.size ?? 0)
  }

  #free(message: Message): void {
    if (this.complete && message.refs === 0 && !message.retained) this.messages.delete(message.id)
  }

  #retain(message: Message): void {
    const { tenant, topic } = message.body
    let topics = this.topics.get(tenant)
    if (topics === undefined) this.topics.set(tenant, (topics = new RetainedTopics()))
    const before = topics.set(topic, message)
    if (before === message) return
    message.retained = true
    this.retained++
    this.retainedBytes += message.bytes
    if (before !== undefined) this.#unretain(before)
  }

  #unretain(message: Message): void {
    message.retained = false
    this.retained--
    this.retainedBytes -= message.bytes
    this.#free(message)
  }
}
