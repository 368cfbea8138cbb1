import type { KymoError } from './errors.ts'

/** A line of line protocol, and the unit of its time (`m`: minutes). It is part of the name so that a dead letter keeps it. */
export type LineShape = 'line-ns' | 'line-us' | 'line-ms' | 'line-s' | 'line-m' | 'line-h'

/** A JSON document. `any`: whatever shape fits (`/api/v1/telemetry`, every telemetry topic). */
export type DocumentShape = 'any' | 'sensor-data' | 'data-point' | 'reading'

/** What is expected. */
export type Shape = DocumentShape | LineShape

export function isLineShape(shape: Shape): shape is LineShape {
  return shape.startsWith('line-')
}

/** Who sends, and how a redelivery of a message without a time of its own would be recognised. */
export interface MessageContext {
  readonly transport: 'mqtt' | 'http' | 'mqtt-pull' | 'kafka-pull'
  /** From the credential. */
  readonly tenant: string
  /** MQTT client id, the HTTP peer, or the outside broker's address: named in dead letters. */
  readonly client: string
  /** MQTT topic or HTTP path: named in dead letters. */
  readonly topic: string
  readonly shape: Shape
  /** The device id that the topic carries; wins over a payload's. */
  readonly topicDevice?: string
  /** MQTT QoS 1: the packet id (0: none), and whether DUP was set. */
  packetId: number
  dup: boolean
  /** MQTT: whose packet ids these are; absent: `client`. */
  readonly identity?: string
  /** Delivered with RETAIN=1 by an outside broker: state of some earlier time, not a fresh sample. */
  retained?: boolean
  /** HTTP: the Idempotency-Key. An outside Kafka: the message's place in its topic. */
  readonly idempotencyKey?: string
  /** The message's index within an array (HTTP: also of lines); absent: 0. */
  item?: number
  /** Of line protocol: the line's number in its body, from 1, for whoever is told what is wrong with it. */
  line?: number
  readonly contentType?: string
  /** When the message came, for one that is offered again later (a replayed dead letter); absent: now. Epoch microseconds. */
  readonly arrivedUs?: number
}

/**
 * Where doors hand telemetry in. Messages are decoded at once into the open batch; the batch is written to the log when the
 * previous write is done or the linger is over. A ticket is durable once `durable >= ticket`.
 */
export interface IngestGate {
  /**
   * Decodes bytes[start, end) (borrowed for the call). Returns the ticket to wait for before acknowledging, or 0: overloaded,
   * nothing was taken, offer it again later (`onDurable` tells when). A message that cannot be used is dead-lettered
   * with its bytes; its ticket covers the dead letter and `refusal` says why, until the next call.
   */
  submit(context: MessageContext, bytes: Uint8Array, start: number, end: number): number
  /** What was wrong with the last submitted message; undefined when it was taken. */
  readonly refusal: KymoError | undefined
  /** Time of the last message that was taken: its own, or that of its arrival; epoch microseconds. */
  readonly takenUs: number
  /** Keeps bytes that no decoder saw (a body too large, a gzip that does not open). Returns a ticket, or 0. */
  deadLetter(context: MessageContext, error: KymoError, bytes: Uint8Array, totalBytes: number): number
  /** The highest durable ticket. */
  readonly durable: number
  /** True while nothing more is taken. */
  readonly overloaded: boolean
  /** Why the log does not take writes at the moment; undefined when it does. */
  readonly stalled: KymoError | undefined
  /** Calls `listener` after each write that became durable, and when overload ends. Returns the way to stop. */
  onDurable(listener: (durable: number) => void): () => void
  /** Resolves when the ticket is durable; rejects when the server stops, or after `timeoutMs` while the log is stalled. */
  whenDurable(ticket: number, timeoutMs?: number): Promise<void>
}
