import { KymoError } from '../../core/errors.ts'
import { limits } from '../../core/limits.ts'
import type { Publication, SessionRecipient } from '../../core/session-store.ts'
import { copyOf } from './bytes.ts'
import type { RecipientStatement } from './changes.ts'
import type { OpenSessions } from './open.ts'
import { deliveryBytes, messageBytes, type Session } from './session.ts'

const none: readonly never[] = []
/** A recipient in the journal: a session's number, flags, and each identifier. */
const recipientBytesMax = 10
const identifierBytesMax = 4

/** `SessionStore.publish`. */
export function publish(open: OpenSessions, p: Publication): number {
  const { journal, state } = open
  open.unretained = false
  if (journal.overloaded) return 0
  const { message, inbound } = p
  refuseTooLarge(p)
  const sender = inbound === undefined ? undefined : state.sessions.get(inbound.session.ref.id)
  if (inbound !== undefined && (sender?.owner === undefined || sender.epoch !== inbound.session.epoch)) throw new KymoError('session_taken')
  if (inbound !== undefined && sender?.inbound?.has(inbound.packetId) === true) return journal.covering()
  const bytes = messageBytes(message)
  const to: Session[] = []
  const recipients: RecipientStatement[] = []
  for (const recipient of p.recipients) {
    const named = state.sessions.get(recipient.session.id)
    if (named?.last === state.nextMessage) {
      recipients[named.place] = merged(recipients[named.place]!, recipient)
      continue
    }
    const session = room(open, named, bytes)
    if (session === undefined) continue
    session.last = state.nextMessage
    session.place = to.length
    to.push(session)
    const { qos, retain, group } = recipient
    recipients.push({ session: session.id, qos, retain, identifiers: recipient.identifiers?.slice() ?? none, group })
  }
  const retain = p.retain === true && message.payload.length > 0 && retainable(open, p, bytes)
  open.unretained = p.retain === true && message.payload.length > 0 && !retain
  const changes = journal.begin()
  state.ticket = journal.ticket
  let changed = false
  if (recipients.length > 0 || retain) {
    const id = state.nextMessage
    const kept = { ...message, payload: copyOf(message.payload), properties: copyOf(message.properties) }
    state.message(id, kept, retain, recipients)
    changes.message(id, kept, retain, recipients)
    changed = true
  }
  if (p.retain === true && !retain && state.topics.get(message.tenant)?.get(message.topic) !== undefined) {
    state.clear(message.tenant, message.topic)
    changes.clear(message.tenant, message.topic)
    changed = true
  }
  if (sender !== undefined && inbound !== undefined) {
    state.accept(sender.id, inbound.packetId)
    changes.accept(sender.id, inbound.packetId)
    changed = true
  }
  if (p.will !== undefined && state.dues.has(p.will.id)) {
    state.willDone(p.will.id)
    changes.willDone(p.will.id)
    changed = true
  }
  const ticket = changed ? journal.urgent() : journal.covering()
  open.wakes.tell(to)
  return ticket
}

function refuseTooLarge({ message, recipients }: Publication): void {
  let bytes = message.payload.length + message.properties.length + message.topic.length * 3
  for (const { identifiers, group } of recipients)
    bytes += recipientBytesMax + (identifiers?.length ?? 0) * identifierBytesMax + (group?.length ?? 0) * 3
  const max = limits.logRecordBytesMax - 2 * limits.mqttSessionRecordBytes
  if (bytes > max) throw new KymoError('record_too_large', { detail: `A message with its recipients takes ${bytes} bytes; ${max} are taken.` })
}

/** One that is named again for the same message. */
function merged(first: RecipientStatement, { qos, retain, identifiers = none, group }: SessionRecipient): RecipientStatement {
  return {
    session: first.session,
    qos: qos > first.qos ? qos : first.qos,
    retain: retain || first.retain,
    identifiers: identifiers.length === 0 ? first.identifiers : [...first.identifiers, ...identifiers],
    group: first.group ?? group,
  }
}

/** The session, when its queue has room or can be given some. */
function room(open: OpenSessions, session: Session | undefined, bytes: number): Session | undefined {
  const { state, dropped, limits, whenFull } = open
  if (session === undefined) {
    dropped.ended++
    return undefined
  }
  if (state.messageBytes + state.deliveries * deliveryBytes + bytes > limits.totalBytesMax) {
    dropped.total_bytes++
    return undefined
  }
  const full = (): 'queue_messages' | 'queue_bytes' | undefined => {
    if ((session.waiting?.length ?? 0) + (session.inflight?.size ?? 0) >= limits.queueMessagesMax) return 'queue_messages'
    return session.bytes + bytes > limits.queueBytesMax ? 'queue_bytes' : undefined
  }
  if (full() === undefined) return session
  expireFirst(open, session)
  for (let reason = full(); reason !== undefined; reason = full()) {
    dropped[reason]++
    const oldest = whenFull === 'drop_newest' || bytes > limits.queueBytesMax ? undefined : oldestNotTaken(session)
    if (oldest === undefined) return undefined
    open.lazily((to) => to.drop(session.id, oldest))
  }
  return session
}

/** Those at the head: a queue that is full does not make every publication look through it. */
function expireFirst(open: OpenSessions, session: Session): void {
  const nowUs = open.env.clock.nowUs()
  const alive = session.waiting?.findIndex(({ stored }) => stored === undefined || stored.body.expiresUs > nowUs) ?? 0
  const most = alive < 0 ? (session.waiting?.length ?? 0) : alive
  if (most > 0) open.expire(session, nowUs, most)
}

/** A delivery that the connection was given is as good as under way. */
function oldestNotTaken({ waiting, owner }: Session): number | undefined {
  return waiting?.find(({ seq }) => owner === undefined || seq > owner.cursor)?.seq
}

/** Whether it may become its topic's retained message. When not, what was retained there goes: no value is better than a wrong one. */
function retainable({ state, limits, dropped }: OpenSessions, { message }: Publication, bytes: number): boolean {
  const before = state.topics.get(message.tenant)?.get(message.topic)
  if (before === undefined && state.retained >= limits.retainedMessagesMax) {
    dropped.retained_messages++
    return false
  }
  if (state.retainedBytes - (before?.bytes ?? 0) + bytes > limits.retainedBytesMax) {
    dropped.retained_bytes++
    return false
  }
  return true
}
