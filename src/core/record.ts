import type { Batch } from './batch.ts'
import type { KymoError } from './errors.ts'

/** The log's topics. Readings, ticks and attribute changes share `telemetry`, so that one order holds per partition. */
export const Topic = { telemetry: 'telemetry', deadLetters: 'dead-letters', sessions: 'mqtt' } as const

/** Many readings. The adapter chooses the bytes (`wire/batch`): with a dictionary per segment, or self-contained. */
export interface ReadingsRecord {
  readonly topic: string
  readonly kind: 'readings'
  /** What the partition is chosen by; '' when the log has one partition. */
  readonly key: string
  /** When the door took it, epoch microseconds UTC. */
  readonly receivedUs: number
  readonly batch: Batch
  /** Where a reader found it, for logs that may have holes. Absent: `span.first` plus its place in the delivery. Not for writers. */
  readonly offset?: bigint
}

export const opaqueKinds = ['attributes', 'tick', 'dead-letter', 'dead-letter-mark', 'erasure', 'sessions'] as const

/**
 * Anything else: bytes of a documented JSON or binary form.
 * `attributes`: what a device says of itself (docs/format/records.md). `tick`: received time passes. `dead-letter`: what
 * could not be used, with its original bytes. `dead-letter-mark`: a dead letter was replayed or dismissed. `erasure`: what a device has
 * said before this place is to be forgotten. `sessions`: changes of MQTT sessions (docs/format/mqtt-sessions.md).
 */
export interface OpaqueRecord {
  readonly topic: string
  readonly kind: (typeof opaqueKinds)[number]
  readonly key: string
  readonly receivedUs: number
  readonly body: Uint8Array
  /** Where a reader found it, for logs that may have holes. Absent: `span.first` plus its place in the delivery. Not for writers. */
  readonly offset?: bigint
}

export type LogRecord = ReadingsRecord | OpaqueRecord

/** Offsets [first, next) of one partition in one life of a log (`log` changes when a log is created anew). */
export interface Span {
  readonly log: string
  readonly topic: string
  readonly partition: number
  readonly first: bigint
  readonly next: bigint
}

/** A run of records on loan: valid until `ack` or `nack`, exactly one of which is called, once. */
export interface Delivery {
  readonly records: readonly LogRecord[]
  readonly span?: Span
  ack(): void
  nack(cause: KymoError): void
}
