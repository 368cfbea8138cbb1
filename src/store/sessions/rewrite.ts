import { limits } from '../../core/limits.ts'
import type { EntryStatement, SessionStatement } from './changes.ts'
import type { Journal } from './journal.ts'
import type { Entry, Message, Session } from './session.ts'
import type { State } from './state.ts'

export interface RewriteOptions {
  readonly state: State
  readonly journal: Journal
  /** The journal is written anew when it has grown by so much, or by as much as there is. */
  readonly afterBytes: number
  readonly nowUs: () => number
  /** Everything before this offset is no longer needed. */
  readonly done: (offset: bigint) => void
  /** Gives up what has expired, before it is stated. */
  readonly expire: (session: Session, nowUs: number) => void
  readonly expireRetained: (message: Message, nowUs: number) => void
}

/** What a session without queue takes in the journal, about. */
const sessionBytes = 100

/**
 * States everything anew at the end of the journal, some of it with each write, so that its beginning can go. What changes meanwhile is written as ever:
 * to whoever reads from the beginning of a rewrite, a change of what was not stated yet says nothing new.
 */
export class Rewrite {
  readonly #o: RewriteOptions
  #from = 0n
  #startedAt = 0
  #steps: Iterator<void> | undefined
  /** Set when all is stated: waits for the write. */
  #lastTicket = 0

  constructor(o: RewriteOptions) {
    this.#o = o
    o.journal.onDurable((durable) => {
      if (this.#lastTicket === 0 || durable < this.#lastTicket) return
      this.#lastTicket = 0
      o.done(this.#from)
    })
  }

  get active(): boolean {
    return this.#steps !== undefined
  }

  /** Before a write: adds to it. */
  step(): void {
    const { journal } = this.#o
    if (this.#steps === undefined) {
      if (this.#lastTicket !== 0 || journal.bytesWritten - this.#startedAt < this.#threshold()) return
      this.#steps = this.#run()
    }
    const until = journal.pendingBytes + limits.mqttSessionRewriteStepBytes
    while (journal.pendingBytes < until) {
      if (this.#steps.next().done !== true) continue
      this.#steps = undefined
      this.#lastTicket = journal.ticket
      return
    }
  }

  #threshold(): number {
    const { state, afterBytes } = this.#o
    return Math.max(afterBytes, state.messageBytes + state.retainedBytes + state.willBytes + state.sessions.size * sessionBytes)
  }

  *#run(): Generator<void, void, undefined> {
    const { state, journal, nowUs, expire, expireRetained } = this.#o
    const generation = ++state.generation
    const changes = journal.begin()
    this.#from = journal.offset
    this.#startedAt = journal.bytesWritten
    changes.rewrite(generation)
    for (const session of state.sessions.values()) {
      if (session.generation === generation) continue
      expire(session, nowUs())
      session.generation = generation
      journal.begin().session(statementOf(session))
      yield
    }
    for (const message of state.messages.values()) {
      if (message.generation === generation) continue
      message.generation = generation
      expireRetained(message, nowUs())
      if (message.refs === 0 && !message.retained) continue
      journal.begin().message(message.id, message.body, message.retained, [])
      yield
    }
    for (const due of state.dues.values()) {
      journal.begin().due(due)
      yield
    }
    journal.begin().rewritten(generation, state.nextSession, state.nextMessage)
  }
}

export function statementOf(session: Session): SessionStatement {
  const { id, tenant, client, epoch, expiryS, detachedUs, will } = session
  const entries: EntryStatement[] = []
  for (const entry of session.inflight?.values() ?? []) entries.push(entryOf(entry))
  for (const entry of session.waiting ?? []) entries.push(entryOf(entry))
  const subscriptions = [...(session.subscriptions?.values() ?? [])]
  return { id, tenant, client, epoch, expiryS, detachedUs, subscriptions, inbound: [...(session.inbound ?? [])], entries, will }
}

function entryOf({ seq, qos, retain, identifiers, group, received, packetId }: Entry): EntryStatement {
  return { seq, qos, retain, identifiers, group, received, packetId }
}
