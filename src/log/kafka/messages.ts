import { Buffer } from 'node:buffer'
import type { MessageToProduce } from '@platformatic/kafka'
import type { Batch } from '../../core/batch.ts'
import { KymoError } from '../../core/errors.ts'
import { opaqueKinds, type LogRecord, type OpaqueRecord } from '../../core/record.ts'
import { decodeBatch, type ReaderKeys } from '../../wire/batch/decode.ts'
import type { BatchEncoder } from '../../wire/batch/encode.ts'
import { partitionOf } from './partitions.ts'
import type { BatchSplitter } from './split.ts'

/** Names of the headers (docs/format/kafka.md). */
const header = { kind: 'kymo-kind', received: 'kymo-received-us' } as const

const kinds = ['readings', ...opaqueKinds] as const

const headersOf = new Map(kinds.map((kind) => [kind, Buffer.from(kind)]))
const headerNames = { kind: Buffer.from(header.kind), received: Buffer.from(header.received) }

export type KafkaMessage = MessageToProduce<Buffer, Buffer, Buffer, Buffer> & { readonly value: Buffer; readonly partition: number }

/**
 * One record of Kymo as messages of Kafka, of readings one for each partition that their devices have. With an empty key readings go where their devices
 * belong, a tick goes everywhere, and other kinds go to partition 0.
 */
export function* messagesOf(
  record: LogRecord,
  topic: string,
  partitions: number,
  parts: BatchSplitter,
  encoder: BatchEncoder,
): Generator<KafkaMessage> {
  const { key } = record
  if (record.kind === 'readings') {
    if (key !== '' || partitions === 1) yield message(record, topic, partitionOf(key, partitions), encoded(record.batch, encoder))
    else for (const [partition, batch] of parts.split(record.batch)) yield message(record, topic, partition, encoded(batch, encoder))
  } else if (record.kind === 'tick' && key === '') {
    for (let partition = 0; partition < partitions; partition++) yield message(record, topic, partition, Buffer.alloc(0))
  } else yield message(record, topic, key === '' ? 0 : partitionOf(key, partitions), Buffer.from(record.body))
}

function message({ kind, key, receivedUs }: LogRecord, topic: string, partition: number, value: Buffer): KafkaMessage {
  const headers = new Map([
    [headerNames.kind, headersOf.get(kind) ?? Buffer.from(kind)],
    [headerNames.received, Buffer.from(String(receivedUs))],
  ])
  return { topic, partition, key: Buffer.from(key), value, headers, timestamp: BigInt(Math.floor(receivedUs / 1000)) }
}

function encoded(batch: Batch, encoder: BatchEncoder): Buffer {
  const target = Buffer.allocUnsafeSlow(encoder.measureSelfContained(batch))
  return target.subarray(0, encoder.writeSelfContained(batch, target, 0))
}

export interface FetchedRecord {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: readonly (readonly [Buffer | null, Buffer | null])[]
}

function headerOf({ headers }: FetchedRecord, name: string): string | undefined {
  return headers.find(([one]) => one?.toString() === name)?.[1]?.toString()
}

/** When the record was received, epoch microseconds; undefined: it does not say. */
export function receivedUsOf(record: FetchedRecord): number | undefined {
  const us = Number(headerOf(record, header.received) ?? Number.NaN)
  return Number.isFinite(us) ? us : undefined
}

/** A message as Kymo's record. Throws `log_format` when Kymo did not write it, `log_corrupt` when its bytes do not fit. */
export function recordOf(record: FetchedRecord, topic: string, offset: bigint, where: string, keys: ReaderKeys): LogRecord {
  const { key, value } = record
  const said = headerOf(record, header.kind)
  const kind = kinds.find((one) => one === said)
  const receivedUs = receivedUsOf(record)
  if (kind === undefined || receivedUs === undefined) {
    throw new KymoError('log_format', { detail: `${where} was not written by Kymo, or by a newer one: its headers do not say what it is.` })
  }
  const common = { topic, key: key?.toString() ?? '', receivedUs, offset }
  const body = value ?? Buffer.alloc(0)
  if (kind !== 'readings') return { ...common, kind, body } satisfies OpaqueRecord
  return { ...common, kind, batch: decodeBatch(body, keys) }
}
