import type { Env } from '../../core/env.ts'
import { asKymoError, KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { StreamLog } from '../../core/ports.ts'
import { Topic } from '../../core/record.ts'
import type {
  AttachOptions,
  DueWill,
  LeftDelivery,
  Publication,
  QueuePolicy,
  SessionFigures,
  SessionHandle,
  SessionLimits,
  SessionMessage,
  SessionRef,
  SessionStore,
  StoredSession,
} from '../../core/session-store.ts'
import { journalVersion } from './changes.ts'
import { openHandle } from './handle.ts'
import { OpenSessions } from './open.ts'
import { publish } from './publish.ts'
import { readJournal } from './replay.ts'
import type { Session } from './session.ts'

export interface SessionStoreOptions {
  /** The embedded one: a topic of one partition that nobody else writes. */
  readonly log: StreamLog
  readonly env: Env
  readonly topic?: string
  readonly limits?: Partial<SessionLimits>
  readonly whenFull?: QueuePolicy
  readonly rewriteBytes?: number
}

const group = 'sessions'
/** How often what is due is looked for; wills and expiries are counted in seconds, and come 1.25 s late at most. */
const tickMs = 250
const retainedPage = 100
/** Levels of topics that are looked at for one page, 0.1 us each: a filter may match nothing of all there is. */
const looksPerPage = 1000

/**
 * Opens the sessions of a log (ADR 18, docs/format/mqtt-sessions.md): state in memory, changes in a topic. Rejects with `log_corrupt` or `log_format`
 * when the journal cannot be read.
 */
export async function openSessionStore(o: SessionStoreOptions): Promise<SessionStore> {
  const { log, env, topic = Topic.sessions } = o
  const { state, next: end, bytes } = await readJournal(log, topic, group, env.logger)
  const next = (await takesWrites(log, env, topic)) ? end + 1n : end
  const stand = async (offset: bigint): Promise<void> => log.reader({ topic, group, start: { offset } }).close()
  const open = new OpenSessions({
    env,
    log,
    topic,
    state,
    next,
    bytes,
    limits: { ...defaults, ...o.limits },
    whenFull: o.whenFull ?? 'drop_newest',
    rewriteBytes: o.rewriteBytes ?? limits.mqttSessionRewriteBytes,
    stand,
  })
  return new EmbeddedSessionStore(open)
}

/**
 * A log that is damaged at its end is read up to there without an error, but takes no writes: an empty record tells, before anybody is
 * answered from what is left. A full disk is no damage.
 */
async function takesWrites(log: StreamLog, env: Env, topic: string): Promise<boolean> {
  const body = Uint8Array.of(journalVersion)
  try {
    await log.write([{ topic, kind: 'sessions', key: '', receivedUs: env.clock.nowUs(), body }], undefined, new AbortController().signal)
    return true
  } catch (thrown) {
    const error = asKymoError(thrown)
    if (error.kind === 'unavailable' || error.kind === 'overloaded') return false
    throw error
  }
}

const defaults: SessionLimits = {
  sessionsPerTenantMax: limits.mqttSessionsPerTenantMax,
  queueMessagesMax: limits.mqttSessionQueueMax,
  queueBytesMax: limits.mqttSessionQueueBytesMax,
  totalBytesMax: limits.mqttSessionTotalBytesMax,
  retainedMessagesMax: limits.mqttRetainedMax,
  retainedBytesMax: limits.mqttRetainedBytesMax,
  willBytesMax: limits.mqttWillBytesMax,
  pendingBytesMax: limits.mqttSessionPendingBytesMax,
}

class EmbeddedSessionStore implements SessionStore {
  readonly #open: OpenSessions
  readonly #stopTicking: () => void

  constructor(open: OpenSessions) {
    this.#open = open
    open.begin()
    const { clock } = open.env
    const again = (): void => {
      open.tick()
      timer = clock.after(tickMs, again)
    }
    let timer = clock.after(tickMs, again)
    this.#stopTicking = () => timer.cancel()
  }

  get durable(): number {
    return this.#open.journal.durable
  }

  get overloaded(): boolean {
    return this.#open.journal.overloaded
  }

  get unretained(): boolean {
    return this.#open.unretained
  }

  get stalled(): KymoError | undefined {
    return this.#open.journal.failure ?? this.#open.journal.stalled
  }

  // eslint-disable-next-line typescript/require-await
  async attach(tenant: string, client: string, o: AttachOptions): Promise<SessionHandle> {
    if (this.overloaded) throw new KymoError('overloaded', { detail: 'Changes of sessions are not becoming durable fast enough.' })
    return openHandle(this.#open, this.#open.attach(tenant, client, o))
  }

  async end(tenant: string, client: string): Promise<boolean> {
    const session = this.#open.state.find(tenant, client)
    if (session === undefined) return false
    session.owner?.taken()
    this.#open.end(session)
    await this.whenDurable(this.#open.journal.urgent())
    return true
  }

  async *sessions(): AsyncGenerator<StoredSession, void, undefined> {
    for (const session of this.#open.state.sessions.values()) {
      yield stored(session)
    }
  }

  publish(publication: Publication): number {
    return publish(this.#open, publication)
  }

  async *retained(tenant: string, filter: string): AsyncGenerator<readonly SessionMessage[], void, undefined> {
    let page: SessionMessage[] = []
    let looks = 0
    for (const found of this.#open.state.topics.get(tenant)?.match(filter) ?? []) {
      if (found !== undefined && found.body.expiresUs > this.#open.env.clock.nowUs()) page.push(found.body)
      if (++looks < looksPerPage && page.length < retainedPage) continue
      yield page
      page = []
      looks = 0
    }
    if (page.length > 0) yield page
  }

  onWill(listener: (will: DueWill) => void): void {
    this.#open.onWill(listener)
  }

  onEnded(listener: (session: SessionRef, left: readonly LeftDelivery[]) => void): () => void {
    this.#open.ended.add(listener)
    return () => void this.#open.ended.delete(listener)
  }

  onDurable(listener: (durable: number) => void): () => void {
    return this.#open.journal.onDurable(listener)
  }

  whenDurable(ticket: number): Promise<void> {
    return this.#open.journal.whenDurable(ticket)
  }

  figures(): SessionFigures {
    const { state, attached, dropped } = this.#open
    return {
      sessions: state.sessions.size,
      attached,
      deliveries: state.deliveries,
      retained: state.retained,
      retainedBytes: state.retainedBytes,
      messageBytes: state.messageBytes,
      wills: state.dues.size,
      dropped: { ...dropped },
    }
  }

  async close(): Promise<void> {
    this.#stopTicking()
    this.#open.wakes.close()
    await this.#open.journal.close()
  }
}

function stored(session: Session): StoredSession {
  const { waiting, inflight, detachedUs, expiryS, subscriptions, bytes } = session
  return {
    ref: session,
    attached: session.owner !== undefined,
    expiryS,
    detachedUs: Number.isFinite(detachedUs) ? detachedUs : undefined,
    subscriptions: [...(subscriptions?.values() ?? [])],
    queued: waiting?.length ?? 0,
    inflight: inflight?.size ?? 0,
    queuedBytes: bytes,
  }
}
