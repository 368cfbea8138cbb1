import { KymoError } from '../../src/core/errors.ts'
import {
  neverExpires,
  type AttachOptions,
  type DropReason,
  type DueWill,
  type LeftDelivery,
  type Publication,
  type QueuePolicy,
  type SessionDelivery,
  type SessionFigures,
  type SessionHandle,
  type SessionLimits,
  type SessionMessage,
  type SessionRef,
  type SessionStore,
  type SessionSubscription,
  type SessionWill,
  type StoredSession,
} from '../../src/core/session-store.ts'

interface Item extends SessionDelivery {
  /** When it was sent, as a count; 0: it waits. */
  sent: number
  packetId: number
  received: boolean
  group: string | undefined
}

interface Session extends SessionRef {
  epoch: number
  expiryS: number
  detachedUs: number | undefined
  subscriptions: SessionSubscription[]
  inbound: number[]
  items: Item[]
  will: SessionWill | undefined
  willDueUs: number
  cursor: number
  hungry: boolean
  o: AttachOptions | undefined
}

const unlimited: SessionLimits = {
  sessionsPerTenantMax: 1e9,
  queueMessagesMax: 1e9,
  queueBytesMax: 1e9,
  totalBytesMax: 1e9,
  retainedMessagesMax: 1e9,
  retainedBytesMax: 1e9,
  willBytesMax: 1e9,
  pendingBytesMax: 1e9,
}

const copy = (message: SessionMessage): SessionMessage => ({
  ...message,
  payload: Uint8Array.from(message.payload),
  properties: Uint8Array.from(message.properties),
})
const bytesOf = (message: SessionMessage): number => message.payload.length + message.properties.length + message.topic.length + 400
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0)

/** The port with lists and nothing else: everything is durable at once and survives `restart`. Says what the real one must say. */
export class ModelSessions implements SessionStore {
  durable = 1
  unretained = false
  readonly overloaded = false
  readonly stalled = undefined
  readonly #nowUs: () => number
  readonly #limits: SessionLimits
  readonly #whenFull: QueuePolicy
  readonly #ended = new Set<(session: SessionRef, left: readonly LeftDelivery[]) => void>()
  readonly #dropped: Record<DropReason, number> = {
    queue_messages: 0,
    queue_bytes: 0,
    total_bytes: 0,
    expired: 0,
    ended: 0,
    retained_messages: 0,
    retained_bytes: 0,
  }
  #sessions: Session[] = []
  #retained: SessionMessage[] = []
  #dues: DueWill[] = []
  #will: ((will: DueWill) => void) | undefined
  #numbers = 0

  constructor(nowUs: () => number, limits: Partial<SessionLimits> = {}, whenFull: QueuePolicy = 'drop_newest') {
    this.#nowUs = nowUs
    this.#limits = { ...unlimited, ...limits }
    this.#whenFull = whenFull
  }

  /** The process died and another has opened what there is. */
  restart(): void {
    this.tick()
    this.#ended.clear()
    this.#will = undefined
    for (const session of this.#sessions.slice()) if (session.detachedUs === undefined) this.#leave(session, session.expiryS)
  }

  /** What is due by the clock. */
  tick(): void {
    const nowUs = this.#nowUs()
    for (const session of this.#sessions.slice()) {
      if (session.detachedUs === undefined) continue
      if (session.expiryS !== neverExpires && session.detachedUs + session.expiryS * 1e6 <= nowUs) this.#end(session)
      else if (session.will !== undefined && session.willDueUs <= nowUs) this.#due(session)
    }
  }

  async attach(tenant: string, client: string, o: AttachOptions): Promise<SessionHandle> {
    await Promise.resolve()
    return this.attachNow(tenant, client, o)
  }

  attachNow(tenant: string, client: string, o: AttachOptions): SessionHandle {
    this.tick()
    const others = this.#sessions.filter((one) => one.tenant !== tenant || one.client !== client)
    const wills = [...others.flatMap(({ will }) => will ?? []), ...this.#dues, ...(o.will === undefined ? [] : [o.will])]
    if (o.will !== undefined && sum(wills.map(({ message }) => bytesOf(message))) > this.#limits.willBytesMax) throw new KymoError('overloaded')
    let session = this.#sessions.find((one) => one.tenant === tenant && one.client === client)
    const present = session !== undefined && !o.clean
    if (session !== undefined) {
      session.o?.onTaken()
      session.o = undefined
      if (o.clean) this.#end(session)
      else if (session.detachedUs === undefined && session.will?.delayS === 0) this.#due(session)
      session.will = undefined
    }
    if (session === undefined || o.clean) {
      if (this.#sessions.filter((one) => one.tenant === tenant).length >= this.#limits.sessionsPerTenantMax) throw new KymoError('too_many_sessions')
      session = {
        id: ++this.#numbers,
        tenant,
        client,
        epoch: 0,
        expiryS: 0,
        detachedUs: undefined,
        subscriptions: [],
        inbound: [],
        items: [],
        will: undefined,
        willDueUs: 0,
        cursor: -1,
        hungry: false,
        o,
      }
      this.#sessions.push(session)
    }
    const will = o.will === undefined ? undefined : { ...o.will, message: copy(o.will.message) }
    Object.assign(session, { epoch: session.epoch + 1, expiryS: o.expiryS, detachedUs: undefined, will, cursor: -1, hungry: false, o })
    return this.#handle(session, present)
  }

  async end(tenant: string, client: string): Promise<boolean> {
    const session = this.#sessions.find((one) => one.tenant === tenant && one.client === client)
    session?.o?.onTaken()
    if (session !== undefined) this.#end(session)
    return await Promise.resolve(session !== undefined)
  }

  async *sessions(): AsyncGenerator<StoredSession, void, undefined> {
    await Promise.resolve()
    yield* this.list()
  }

  list(): StoredSession[] {
    this.tick()
    return this.#sessions.map((session) => ({
      ref: session,
      attached: session.o !== undefined,
      expiryS: session.expiryS,
      detachedUs: session.detachedUs,
      subscriptions: session.subscriptions,
      queued: session.items.filter(({ sent }) => sent === 0).length,
      inflight: session.items.filter(({ sent }) => sent > 0).length,
      queuedBytes: sum(session.items.map((item) => (item.received ? 0 : bytesOf(item.message)))),
    }))
  }

  publish({ message, recipients, retain = false, inbound, will }: Publication): number {
    this.tick()
    this.unretained = false
    const sender = inbound === undefined ? undefined : this.#sessions.find(({ id }) => id === inbound.session.ref.id)
    if (inbound !== undefined && (sender?.o === undefined || sender.epoch !== inbound.session.epoch)) throw new KymoError('session_taken')
    if (inbound !== undefined && sender?.inbound.includes(inbound.packetId) === true) return this.#ticket()
    const kept = copy(message)
    const told: Session[] = []
    for (const { session: ref, qos, retain: flag, identifiers = [], group } of recipients) {
      const session = this.#sessions.find(({ id }) => id === ref.id)
      if (session === undefined) this.#dropped.ended++
      else if (told.includes(session)) {
        const item = session.items.at(-1)!
        Object.assign(item, {
          qos: Math.max(item.qos, qos),
          retain: item.retain || flag,
          identifiers: [...item.identifiers, ...identifiers],
          group: item.group ?? group,
        })
      } else if (this.#room(session, bytesOf(kept))) {
        const item = { seq: ++this.#numbers, qos, retain: flag, identifiers: identifiers.slice(), message: kept, ticket: this.durable }
        session.items.push({ ...item, sent: 0, packetId: 0, received: false, group })
        told.push(session)
      }
    }
    if (retain) {
      const before = this.#retained.find(({ tenant, topic }) => tenant === message.tenant && topic === message.topic)
      this.#retained = this.#retained.filter((one) => one !== before)
      if (kept.payload.length > 0) {
        if (before === undefined && this.#retained.length >= this.#limits.retainedMessagesMax) this.#dropped.retained_messages++
        else if (sum(this.#retained.map(bytesOf)) + bytesOf(kept) > this.#limits.retainedBytesMax) this.#dropped.retained_bytes++
        else this.#retained.push(kept)
        this.unretained = !this.#retained.includes(kept)
      }
    }
    if (inbound !== undefined) sender?.inbound.push(inbound.packetId)
    if (will !== undefined) this.#dues = this.#dues.filter(({ id }) => id !== will.id)
    for (const session of told) {
      if (!session.hungry) continue
      session.hungry = false
      session.o?.onQueued()
    }
    return this.#ticket()
  }

  async *retained(tenant: string, filter: string): AsyncGenerator<readonly SessionMessage[], void, undefined> {
    await Promise.resolve()
    yield this.retainedNow(tenant, filter)
  }

  retainedNow(tenant: string, filter: string): SessionMessage[] {
    const fits = (topic: string): boolean => {
      if (/^[+#]/.test(filter) && topic.startsWith('$')) return false
      const levels = filter.split('/').map((level) => (level === '+' ? '[^/]*' : level.replaceAll('$', String.raw`\$`)))
      const pattern = levels.at(-1) === '#' ? `${levels.slice(0, -1).join('/')}${levels.length === 1 ? '.*' : '(/.*)?'}` : levels.join('/')
      return new RegExp(`^${pattern}$`).test(topic)
    }
    return this.#retained.filter((one) => one.tenant === tenant && fits(one.topic) && one.expiresUs > this.#nowUs())
  }

  onWill(listener: (will: DueWill) => void): void {
    this.#will = listener
    for (const due of this.#dues.slice()) listener(due)
  }

  onEnded(listener: (session: SessionRef, left: readonly LeftDelivery[]) => void): () => void {
    this.#ended.add(listener)
    return () => void this.#ended.delete(listener)
  }

  onDurable(): () => void {
    return () => undefined
  }

  whenDurable(): Promise<void> {
    return Promise.resolve()
  }

  figures(): SessionFigures {
    const waiting = new Set(this.#sessions.flatMap(({ items }) => items.filter(({ received }) => !received).map(({ message }) => message)))
    return {
      sessions: this.#sessions.length,
      attached: this.#sessions.filter(({ o }) => o !== undefined).length,
      deliveries: sum(this.#sessions.map(({ items }) => items.length)),
      retained: this.#retained.length,
      retainedBytes: sum(this.#retained.map(bytesOf)),
      messageBytes: sum([...waiting].map(bytesOf)),
      wills: this.#dues.length,
      dropped: this.#dropped,
    }
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  #ticket(): number {
    return ++this.durable
  }

  #room(session: Session, bytes: number): boolean {
    const limits = this.#limits
    if (this.figures().messageBytes + this.figures().deliveries * 100 + bytes > limits.totalBytesMax) {
      this.#dropped.total_bytes++
      return false
    }
    for (;;) {
      const held = sum(session.items.map((item) => (item.received ? 0 : bytesOf(item.message))))
      const reason =
        session.items.length >= limits.queueMessagesMax ? 'queue_messages' : held + bytes > limits.queueBytesMax ? 'queue_bytes' : undefined
      if (reason === undefined) return true
      this.#dropped[reason]++
      const oldest = session.items.find(({ sent, seq }) => sent === 0 && (session.o === undefined || seq > session.cursor))
      if (this.#whenFull === 'drop_newest' || oldest === undefined || bytes > limits.queueBytesMax) return false
      session.items.splice(session.items.indexOf(oldest), 1)
    }
  }

  #due(session: Session): void {
    const { will, client } = session
    session.will = undefined
    if (will === undefined) return
    const due = { id: ++this.#numbers, client, retain: will.retain, message: will.message }
    this.#dues.push(due)
    this.#will?.(due)
  }

  #end(session: Session): void {
    this.#due(session)
    session.o = undefined
    this.#sessions = this.#sessions.filter((one) => one !== session)
    const sent = session.items.filter((item) => item.sent > 0 && item.qos === 1).toSorted((a, b) => a.sent - b.sent)
    const left = [...sent, ...session.items.filter((item) => item.sent === 0)]
    const shared = left.flatMap(({ group, message }) => (group === undefined ? [] : [{ group, message }]))
    for (const listener of this.#ended) listener(session, shared)
  }

  #leave(session: Session, expiryS: number): void {
    session.o = undefined
    const nowUs = this.#nowUs()
    Object.assign(session, { expiryS, detachedUs: nowUs, willDueUs: nowUs + (session.will?.delayS ?? 0) * 1e6 })
    this.tick()
  }

  #handle(session: Session, present: boolean): SessionHandle {
    const { o, epoch } = session
    const mine = (): void => {
      if (session.o !== o || session.epoch !== epoch) throw new KymoError('session_taken')
    }
    const sent = (): Item[] => session.items.filter((item) => item.sent > 0).toSorted((a, b) => a.sent - b.sent)
    const change = (apply: () => void): number => {
      mine()
      apply()
      return this.#ticket()
    }
    return {
      ref: session,
      epoch,
      present,
      ticket: this.#ticket(),
      subscriptions: session.subscriptions.slice(),
      inbound: session.inbound.slice(),
      inflight: sent().map((item) =>
        item.received ? { packetId: item.packetId, state: 'received' } : { packetId: item.packetId, state: 'sent', delivery: item },
      ),
      subscribe: (subscriptions) =>
        change(() => {
          for (const one of subscriptions) {
            const at = session.subscriptions.findIndex(({ filter }) => filter === one.filter)
            if (at < 0) session.subscriptions.push({ ...one })
            else session.subscriptions[at] = { ...one }
          }
        }),
      unsubscribe: (filters) => change(() => void (session.subscriptions = session.subscriptions.filter(({ filter }) => !filters.includes(filter)))),
      take: (max) => {
        mine()
        const expired = session.items.filter((item) => item.sent === 0 && item.seq > session.cursor && item.message.expiresUs <= this.#nowUs())
        session.items = session.items.filter((item) => !expired.includes(item))
        this.#dropped.expired += expired.length
        const taken = session.items.filter((item) => item.sent === 0 && item.seq > session.cursor).slice(0, max)
        session.cursor = taken.at(-1)?.seq ?? session.cursor
        session.hungry = taken.length < max
        return taken
      },
      sending: ({ seq }, packetId) =>
        change(() => {
          const item = session.items.find((one) => one.seq === seq)
          if (item === undefined || item.sent > 0) throw new KymoError('bug')
          Object.assign(item, { sent: ++this.#numbers, packetId })
        }),
      received: (packetId) => change(() => void Object.assign(sent().find((item) => item.packetId === packetId) ?? {}, { received: true })),
      done: (packetId) => void change(() => void (session.items = session.items.filter((item) => item.sent === 0 || item.packetId !== packetId))),
      accept: (packetId) => change(() => void (session.inbound.includes(packetId) || session.inbound.push(packetId))),
      release: (packetId) => change(() => void (session.inbound = session.inbound.filter((one) => one !== packetId))),
      detach: ({ expiryS = session.expiryS, will }) => {
        if (session.o !== o || session.epoch !== epoch) return
        if (will === 'discard') session.will = undefined
        this.#leave(session, expiryS)
      },
    }
  }
}
