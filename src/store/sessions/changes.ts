import { KymoError } from '../../core/errors.ts'
import type { SessionMessage, SessionSubscription } from '../../core/session-store.ts'
import { ByteReader, type ByteWriter } from './bytes.ts'

/** What a record of the journal begins with. */
export const journalVersion = 1

/** A place in a queue. `packetId` 0: not sent yet. */
export interface EntryStatement {
  /** The number of the message that it is for: a session has a message once. */
  readonly seq: number
  /** PUBREC came: the message is no longer kept. */
  readonly received: boolean
  readonly qos: 1 | 2
  readonly retain: boolean
  readonly identifiers: readonly number[]
  /** Of a shared subscription: its filter. */
  readonly group: string | undefined
  readonly packetId: number
}

export interface WillStatement {
  readonly id: number
  readonly retain: boolean
  readonly delayS: number
  readonly message: SessionMessage
  /** When it is due, epoch microseconds; Infinity: its connection stands. */
  readonly dueUs: number
}

/** All of a session: takes the place of what was known of it. */
export interface SessionStatement {
  readonly id: number
  readonly tenant: string
  readonly client: string
  readonly epoch: number
  readonly expiryS: number
  /** Infinity: it has a connection. */
  readonly detachedUs: number
  readonly subscriptions: readonly SessionSubscription[]
  readonly inbound: readonly number[]
  /** Those under way first, in the order of sending; then those that wait, by `seq`. */
  readonly entries: readonly EntryStatement[]
  readonly will: WillStatement | undefined
}

export interface RecipientStatement {
  readonly session: number
  readonly qos: 1 | 2
  readonly retain: boolean
  readonly identifiers: readonly number[]
  readonly group: string | undefined
}

export interface DueStatement {
  readonly id: number
  readonly client: string
  readonly retain: boolean
  readonly message: SessionMessage
}

/**
 * The changes of a journal (docs/format/mqtt-sessions.md): what encodes them and what keeps the state both take them this way, so
 * that a state that is read back is the one that was written.
 */
export interface Changes {
  session(statement: SessionStatement): void
  attach(session: number, epoch: number, expiryS: number, will: WillStatement | undefined): void
  detach(session: number, detachedUs: number, expiryS: number, willDueUs: number): void
  end(session: number): void
  subscribe(session: number, subscriptions: readonly SessionSubscription[]): void
  unsubscribe(session: number, filters: readonly string[]): void
  /** A message for those recipients, each at the end of its queue; `retained`: and its topic's retained message. */
  message(id: number, message: SessionMessage, retained: boolean, recipients: readonly RecipientStatement[]): void
  sending(session: number, seq: number, packetId: number): void
  received(session: number, packetId: number): void
  done(session: number, packetId: number): void
  /** A delivery that waited is given up: expired, or the oldest of a full queue. */
  drop(session: number, seq: number): void
  accept(session: number, packetId: number): void
  release(session: number, packetId: number): void
  /** The topic has no retained message any more. */
  clear(tenant: string, topic: string): void
  /** The session's will is due, or discarded. */
  willDue(session: number): void
  willDrop(session: number): void
  willDone(id: number): void
  due(statement: DueStatement): void
  /** From here on everything is stated anew, up to `rewritten` with the same number. */
  rewrite(generation: number): void
  rewritten(generation: number, nextSession: number, nextMessage: number): void
}

/** Numbers of the changes in the journal. */
const Type = {
  session: 1,
  attach: 2,
  detach: 3,
  end: 4,
  subscribe: 5,
  unsubscribe: 6,
  message: 7,
  sending: 8,
  received: 9,
  done: 10,
  drop: 11,
  accept: 12,
  release: 13,
  clear: 14,
  willDue: 15,
  willDrop: 16,
  willDone: 17,
  due: 18,
  rewrite: 19,
  rewritten: 20,
} as const

const none: readonly never[] = []

function putMessage(out: ByteWriter, message: SessionMessage, flags: number): void {
  const expires = Number.isFinite(message.expiresUs)
  out.u8(message.qos | (expires ? 4 : 0) | flags)
  out.text(message.tenant)
  out.text(message.topic)
  out.blob(message.properties)
  if (expires) out.f64(message.expiresUs)
  out.blob(message.payload)
}

/** Bits 8, 16 and 32 of the first byte are the caller's. */
function getMessage(from: ByteReader): { readonly flags: number; readonly message: SessionMessage } {
  const flags = from.u8()
  const qos = flags & 3
  if (qos === 3 || flags > 63) throw from.wrong('a message has flags that no message has')
  const tenant = from.text()
  const topic = from.text()
  const properties = from.blob()
  const expiresUs = (flags & 4) === 0 ? Number.POSITIVE_INFINITY : time(from)
  return { flags, message: { tenant, topic, qos: qos as 0 | 1 | 2, payload: from.blob(), properties, expiresUs } }
}

function time(from: ByteReader): number {
  const us = from.f64()
  if (!(us >= 0)) throw from.wrong('a time is not one')
  return us
}

function putNumbers(out: ByteWriter, numbers: readonly number[]): void {
  out.varint(numbers.length)
  for (const number of numbers) out.varint(number)
}

function getNumbers(from: ByteReader): readonly number[] {
  const count = from.count(1)
  return count === 0 ? none : Array.from({ length: count }, () => from.varint())
}

function putSubscriptions(out: ByteWriter, subscriptions: readonly SessionSubscription[]): void {
  out.varint(subscriptions.length)
  for (const { filter, qos, noLocal, retainAsPublished, retainHandling, identifier } of subscriptions) {
    // The byte of SUBSCRIBE (MQTT 5, 3.8.3.1).
    out.u8(qos | (noLocal ? 4 : 0) | (retainAsPublished ? 8 : 0) | (retainHandling << 4))
    out.varint(identifier)
    out.text(filter)
  }
}

function getSubscriptions(from: ByteReader): SessionSubscription[] {
  return Array.from({ length: from.count(3) }, () => {
    const options = from.u8()
    const qos = options & 3
    const retainHandling = options >> 4
    if (qos === 3 || retainHandling > 2) throw from.wrong('a subscription has options that none has')
    return {
      identifier: from.varint(),
      filter: from.text(),
      qos: qos as 0 | 1 | 2,
      noLocal: (options & 4) !== 0,
      retainAsPublished: (options & 8) !== 0,
      retainHandling: retainHandling as 0 | 1 | 2,
    }
  })
}

type Delivery = Omit<RecipientStatement, 'session'>

/** QoS 2: 1. Retain: 2. Identifiers follow: 4. A shared subscription's filter follows: 16. Bit 8 is the caller's. */
function putDelivery(out: ByteWriter, e: Delivery, flags: number): void {
  out.u8((e.qos === 2 ? 1 : 0) | (e.retain ? 2 : 0) | (e.identifiers.length > 0 ? 4 : 0) | (e.group === undefined ? 0 : 16) | flags)
  if (e.identifiers.length > 0) putNumbers(out, e.identifiers)
  if (e.group !== undefined) out.text(e.group)
}

function getDelivery(from: ByteReader, flags: number): Delivery {
  if ((flags & ~0x17) !== 0) throw from.wrong('a delivery has flags that none has')
  return {
    qos: (flags & 1) === 0 ? 1 : 2,
    retain: (flags & 2) !== 0,
    identifiers: (flags & 4) === 0 ? none : getNumbers(from),
    group: (flags & 16) === 0 ? undefined : from.text(),
  }
}

function putWill(out: ByteWriter, will: WillStatement | undefined): void {
  out.u8(will === undefined ? 0 : 1)
  if (will === undefined) return
  out.varint(will.id)
  out.varint(will.delayS)
  out.f64(will.dueUs)
  putMessage(out, will.message, will.retain ? 8 : 0)
}

function getWill(from: ByteReader): WillStatement | undefined {
  if (from.u8() === 0) return undefined
  const id = from.varint()
  const delayS = from.varint()
  const dueUs = time(from)
  const { flags, message } = getMessage(from)
  return { id, delayS, dueUs, retain: (flags & 8) !== 0, message }
}

function putSession(out: ByteWriter, s: SessionStatement): void {
  out.varint(s.id)
  out.text(s.tenant)
  out.text(s.client)
  out.varint(s.epoch)
  out.varint(s.expiryS)
  out.f64(s.detachedUs)
  putSubscriptions(out, s.subscriptions)
  putNumbers(out, s.inbound)
  out.varint(s.entries.length)
  for (const entry of s.entries) {
    putDelivery(out, entry, entry.received ? 8 : 0)
    out.varint(entry.seq)
    out.varint(entry.packetId)
  }
  putWill(out, s.will)
}

function getSession(from: ByteReader): SessionStatement {
  return {
    id: from.varint(),
    tenant: from.text(),
    client: from.text(),
    epoch: from.varint(),
    expiryS: from.varint(),
    detachedUs: time(from),
    subscriptions: getSubscriptions(from),
    inbound: getNumbers(from),
    entries: Array.from({ length: from.count(3) }, () => {
      const flags = from.u8()
      const delivery = getDelivery(from, flags & ~8)
      return { ...delivery, received: (flags & 8) !== 0, seq: from.varint(), packetId: from.varint() }
    }),
    will: getWill(from),
  }
}

function getRecipients(from: ByteReader): RecipientStatement[] {
  return Array.from({ length: from.count(2) }, () => {
    const session = from.varint()
    return { session, ...getDelivery(from, from.u8()) }
  })
}

/** Writes changes at the end of `out`. */
export function encoder(out: ByteWriter): Changes {
  const numbers = (type: number, ...values: readonly number[]): void => {
    out.u8(type)
    for (const value of values) out.varint(value)
  }
  return {
    session(statement) {
      out.u8(Type.session)
      putSession(out, statement)
    },
    attach(session, epoch, expiryS, will) {
      numbers(Type.attach, session, epoch, expiryS)
      putWill(out, will)
    },
    detach(session, detachedUs, expiryS, willDueUs) {
      numbers(Type.detach, session, expiryS)
      out.f64(detachedUs)
      out.f64(willDueUs)
    },
    end: (session) => numbers(Type.end, session),
    subscribe(session, subscriptions) {
      numbers(Type.subscribe, session)
      putSubscriptions(out, subscriptions)
    },
    unsubscribe(session, filters) {
      numbers(Type.unsubscribe, session, filters.length)
      for (const filter of filters) out.text(filter)
    },
    message(id, message, retained, recipients) {
      numbers(Type.message, id)
      putMessage(out, message, retained ? 8 : 0)
      out.varint(recipients.length)
      for (const recipient of recipients) {
        out.varint(recipient.session)
        putDelivery(out, recipient, 0)
      }
    },
    sending: (session, seq, packetId) => numbers(Type.sending, session, seq, packetId),
    received: (session, packetId) => numbers(Type.received, session, packetId),
    done: (session, packetId) => numbers(Type.done, session, packetId),
    drop: (session, seq) => numbers(Type.drop, session, seq),
    accept: (session, packetId) => numbers(Type.accept, session, packetId),
    release: (session, packetId) => numbers(Type.release, session, packetId),
    clear(tenant, topic) {
      out.u8(Type.clear)
      out.text(tenant)
      out.text(topic)
    },
    willDue: (session) => numbers(Type.willDue, session),
    willDrop: (session) => numbers(Type.willDrop, session),
    willDone: (id) => numbers(Type.willDone, id),
    due({ id, client, retain, message }) {
      numbers(Type.due, id)
      out.text(client)
      putMessage(out, message, retain ? 8 : 0)
    },
    rewrite: (generation) => numbers(Type.rewrite, generation),
    rewritten: (generation, nextSession, nextMessage) => numbers(Type.rewritten, generation, nextSession, nextMessage),
  }
}

type Decode = (from: ByteReader, into: Changes) => void

/** By number. Fields are read in the order in which they were written, before anything is told. */
const decoders: readonly (Decode | undefined)[] = [
  undefined,
  (from, into) => into.session(getSession(from)),
  (from, into) => into.attach(from.varint(), from.varint(), from.varint(), getWill(from)),
  (from, into) => {
    const session = from.varint()
    const expiryS = from.varint()
    const detachedUs = time(from)
    into.detach(session, detachedUs, expiryS, time(from))
  },
  (from, into) => into.end(from.varint()),
  (from, into) => into.subscribe(from.varint(), getSubscriptions(from)),
  (from, into) => {
    const session = from.varint()
    into.unsubscribe(
      session,
      Array.from({ length: from.count(1) }, () => from.text()),
    )
  },
  (from, into) => {
    const id = from.varint()
    const { flags, message } = getMessage(from)
    into.message(id, message, (flags & 8) !== 0, getRecipients(from))
  },
  (from, into) => into.sending(from.varint(), from.varint(), from.varint()),
  (from, into) => into.received(from.varint(), from.varint()),
  (from, into) => into.done(from.varint(), from.varint()),
  (from, into) => into.drop(from.varint(), from.varint()),
  (from, into) => into.accept(from.varint(), from.varint()),
  (from, into) => into.release(from.varint(), from.varint()),
  (from, into) => into.clear(from.text(), from.text()),
  (from, into) => into.willDue(from.varint()),
  (from, into) => into.willDrop(from.varint()),
  (from, into) => into.willDone(from.varint()),
  (from, into) => {
    const id = from.varint()
    const client = from.text()
    const { flags, message } = getMessage(from)
    into.due({ id, client, retain: (flags & 8) !== 0, message })
  },
  (from, into) => into.rewrite(from.varint()),
  (from, into) => into.rewritten(from.varint(), from.varint(), from.varint()),
]

/**
 * Tells the changes of one record. Throws `log_format` for another version and `log_corrupt` with the byte for what is no record; what stood before
 * that byte was told.
 */
export function decodeChanges(body: Uint8Array, into: Changes): void {
  const from = new ByteReader(body)
  const version = from.u8()
  if (version !== journalVersion) {
    throw new KymoError('log_format', { detail: `the sessions' journal has format version ${version}; this Kymo knows ${journalVersion}` })
  }
  while (from.left > 0) {
    const start = from.at
    const decode = decoders[from.u8()]
    if (decode === undefined) {
      from.at = start
      throw from.wrong('a change of a kind that is not known')
    }
    decode(from, into)
  }
}
