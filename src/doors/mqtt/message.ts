import type { Clock } from '../../core/env.ts'
import type { SessionMessage, SessionRecipient } from '../../core/session-store.ts'
import { encodePublish } from '../../wire/mqtt/encode.ts'
import type { EncodedPublish } from '../../wire/mqtt/encode.ts'
import { encodePublish5 } from '../../wire/mqtt/v5/deliver.ts'
import type { Forwarded } from '../../wire/mqtt/v5/forward.ts'
import { expiryOf, forwarded, nothingForwarded } from '../../wire/mqtt/v5/forward.ts'
import type { Will } from '../../wire/mqtt/packets.ts'
import type { Will5 } from '../../wire/mqtt/v5/packets.ts'
import type { PublishProperties } from '../../wire/mqtt/v5/publish.ts'
import type { SharedGroup } from './roster.ts'
import type { Readiness } from './shared.ts'

export type Qos = 0 | 1 | 2

/** Who takes deliveries. */
export interface Subscriber {
  /** False: its session goes on without a connection. The tree is told when it changes (`Subscriptions.moved`). */
  readonly connected: boolean
  /** It stands for the subscribers of another process. */
  readonly elsewhere?: true
  /** The store keeps its session: of QoS 1 and 2 it is named as a recipient. */
  readonly kept?: true
  /** Whether a message of a shared subscription is better given to another. Must cost next to nothing. */
  readiness(): Readiness
  /**
   * `message` is borrowed for the call. `identifiers`: of the subscriptions that the message matches. `group`: who gets the message when this
   * subscriber is lost before it has it. Must return at once.
   */
  deliver(message: Outgoing, qos: Qos, retain: boolean, identifiers: readonly number[] | undefined, group?: SharedGroup<Subscriber>): void
}

/** A PUBLISH as it is sent to clients of one version, QoS, RETAIN and set of subscription identifiers: encoded once, shared by all of them. */
export interface Parcel extends EncodedPublish {
  readonly five: boolean
  readonly qos: Qos
  readonly retain: boolean
  readonly identifiers: readonly number[] | undefined
  readonly topic: string
  readonly topicBytes: Uint8Array
  readonly payloadAt: number
  readonly forwarded: Forwarded
  /** End of the message's life, on the monotonic clock; Infinity: none. */
  readonly expiresMs: number
  /** Of a shared subscription: this one's own copy. */
  readonly group?: SharedGroup<Subscriber> | undefined
}

/** Forms of one message that are remembered: subscribers who gave identifiers of their own may make many. */
const formsMax = 32

/** A message on its way out. Borrows what it is made of; parcels are copies. */
export class Outgoing {
  readonly topic: string
  readonly topicBytes: Uint8Array
  readonly qos: Qos
  readonly retain: boolean
  readonly expiresMs: number
  readonly forwarded: Forwarded
  /** Payload bytes that were copied into packets so far, of all forms. */
  copied = 0
  readonly #bytes: Uint8Array
  readonly #start: number
  readonly #end: number
  #last: Parcel | undefined
  /** Of QoS 0, in 3.1.1 and in 5, without and with RETAIN. */
  #plain: Uint8Array | undefined
  #plainForm = -1
  #others: Parcel[] | undefined

  constructor(
    topic: string,
    topicBytes: Uint8Array,
    qos: Qos,
    retain: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
    passed = nothingForwarded,
    expiresMs = Number.POSITIVE_INFINITY,
  ) {
    this.topic = topic
    this.topicBytes = topicBytes
    this.qos = qos
    this.retain = retain
    this.forwarded = passed
    this.expiresMs = expiresMs
    this.#bytes = bytes
    this.#start = start
    this.#end = end
  }

  /** Borrowed. */
  get payload(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end)
  }

  /** The PUBLISH for one kind of receiver. */
  parcel(five: boolean, qos: Qos, retain: boolean, identifiers: readonly number[] | undefined): Parcel {
    const last = this.#last
    if (last !== undefined && fits(last, five, qos, retain, identifiers)) return last
    const other = this.#others?.find((one) => fits(one, five, qos, retain, identifiers))
    if (other !== undefined) return other
    const made = this.#encode(five, qos, retain, identifiers)
    if (last !== undefined && (this.#others?.length ?? 0) < formsMax) (this.#others ??= []).push(last)
    this.#last = made
    return made
  }

  /** The PUBLISH of QoS 0 for receivers without subscription identifiers: bytes that all of them share. */
  plain(five: boolean, retain: boolean): Uint8Array {
    const form = (five ? 2 : 0) | (retain ? 1 : 0)
    if (this.#plain !== undefined && this.#plainForm === form) return this.#plain
    this.#plainForm = form
    this.copied += this.#end - this.#start
    const { topicBytes, forwarded: passed } = this
    this.#plain = five
      ? encodePublish5(topicBytes, this.#bytes, this.#start, this.#end, { qos: 0, retain, forwarded: passed }).bytes
      : encodePublish(topicBytes, this.#bytes, this.#start, this.#end, 0, retain).bytes
    return this.#plain
  }

  #encode(five: boolean, qos: Qos, retain: boolean, identifiers: readonly number[] | undefined): Parcel {
    const { topic, topicBytes, expiresMs } = this
    const bytes = this.#bytes
    const start = this.#start
    const end = this.#end
    this.copied += end - start
    if (!five) {
      const encoded = encodePublish(topicBytes, bytes, start, end, qos, retain)
      const payloadAt = encoded.bytes.length - (end - start)
      return {
        bytes: encoded.bytes,
        idAt: encoded.idAt,
        five,
        qos,
        retain,
        identifiers: undefined,
        topic,
        topicBytes,
        payloadAt,
        forwarded: this.forwarded,
        expiresMs,
      }
    }
    const options =
      identifiers === undefined
        ? { qos, retain, forwarded: this.forwarded }
        : { qos, retain, forwarded: this.forwarded, subscriptionIdentifiers: identifiers }
    const encoded = encodePublish5(topicBytes, bytes, start, end, options)
    return {
      bytes: encoded.bytes,
      idAt: encoded.idAt,
      five,
      qos,
      retain,
      identifiers,
      topic,
      topicBytes,
      payloadAt: encoded.payloadAt,
      forwarded: this.forwarded,
      expiresMs,
    }
  }
}

function fits(parcel: Parcel, five: boolean, qos: Qos, retain: boolean, identifiers: readonly number[] | undefined): boolean {
  return (
    parcel.qos === qos &&
    parcel.five === five &&
    parcel.retain === retain &&
    (!five || parcel.identifiers === identifiers || sameNumbers(parcel.identifiers, identifiers))
  )
}

function sameNumbers(a: readonly number[] | undefined, b: readonly number[] | undefined): boolean {
  return a !== undefined && b !== undefined && a.length === b.length && a.every((value, i) => value === b[i])
}

/** What is kept of a publication's properties while it waits. */
export interface KeptProperties {
  readonly forwarded: Forwarded
  /** End of the message's life, on the monotonic clock; Infinity: none. */
  readonly expiresMs: number
}

export const noneKept: KeptProperties = { forwarded: nothingForwarded, expiresMs: Number.POSITIVE_INFINITY }

/** A copy of the properties that stand in `bytes`; those that are one already, as they are. */
export function keepProperties(bytes: Uint8Array, properties: PublishProperties | KeptProperties, clock: Clock): KeptProperties {
  if ('forwarded' in properties) return properties
  if (properties.start === properties.end) return noneKept
  const expiresMs = properties.expiryS < 0 ? Number.POSITIVE_INFINITY : clock.monotonicMs() + properties.expiryS * 1000
  return { forwarded: forwarded(bytes, properties.start, properties.end), expiresMs }
}

/** A publication as the session store keeps it; its bytes are lent. */
export function storedMessage(
  tenant: string,
  topic: string,
  qos: Qos,
  payload: Uint8Array,
  { forwarded: { bytes: properties }, expiresMs }: KeptProperties,
  clock: Clock,
): SessionMessage {
  const expiresUs = expiresMs === Number.POSITIVE_INFINITY ? expiresMs : clock.nowUs() + Math.round((expiresMs - clock.monotonicMs()) * 1000)
  return { tenant, topic, qos, payload, properties, expiresUs }
}

/** Of a will that is published now: its life begins. */
export function willProperties(will: Will | Will5, clock: Clock): KeptProperties {
  if (!('forwarded' in will)) return noneKept
  const expiryS = expiryOf(will.forwarded)
  return { forwarded: will.forwarded, expiresMs: expiryS === undefined ? Number.POSITIVE_INFINITY : clock.monotonicMs() + expiryS * 1000 }
}

/** A message that no client of this process publishes. */
export interface Unpublished {
  readonly tenant: string
  readonly topic: string
  /** `isOwn`: nothing of it may be borrowed. */
  message(isOwn: boolean): Outgoing
  /** All have it; `recipients`: sessions that the store is to keep it for. */
  delivered(recipients: readonly SessionRecipient[]): void
  /** Something threw that must not, later than the call that handed it in. */
  failed(thrown: unknown): void
}
