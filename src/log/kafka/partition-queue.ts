import type { RecordsBatch } from '@platformatic/kafka'
import type { FetchedRecord } from './messages.ts'

export interface Fetched {
  readonly offset: bigint
  readonly record: FetchedRecord
  /** The message's time in Kafka, epoch ms. */
  readonly timestampMs: number
  readonly bytes: number
}

interface Outstanding {
  readonly first: bigint
  readonly next: bigint
  acknowledged: boolean
}

/** Set in the attributes of a batch that holds marks of transactions, which are no records (Kafka's message format 2). */
const controlBatch = 1 << 5
const appendTime = 1 << 3
/** Of a record beside its value, roughly. */
const recordBytes = 64

/** What a reader has of one partition: fetched and not delivered, delivered and not acknowledged. */
export class PartitionQueue {
  readonly partition: number
  /** False once the group has given the partition to another: what is acknowledged then is none of its concern. */
  owned = true
  /** Next offset to fetch. */
  fetchFrom: bigint
  bytes = 0
  #records: Fetched[] = []
  #outstanding: Outstanding[] = []
  /** First offset of the next delivery. */
  #next: bigint

  constructor(partition: number, from: bigint) {
    this.partition = partition
    this.fetchFrom = from
    this.#next = from
  }

  get empty(): boolean {
    return this.#records.length === 0
  }

  /** The first offset that is not acknowledged. */
  get position(): bigint {
    return this.#outstanding[0]?.first ?? this.#next
  }

  add(batches: readonly RecordsBatch[]): void {
    for (const batch of batches) {
      for (const record of batch.records) {
        const offset = batch.firstOffset + BigInt(record.offsetDelta)
        // A batch is fetched whole, from its first record on.
        if (offset < this.fetchFrom || (batch.attributes & controlBatch) !== 0) continue
        const bytes = (record.value?.length ?? 0) + recordBytes
        // LogAppendTime: the broker's, one for the whole batch.
        const at = (batch.attributes & appendTime) === 0 ? batch.firstTimestamp + record.timestampDelta : batch.maxTimestamp
        this.#records.push({ offset, record, timestampMs: Number(at), bytes })
        this.bytes += bytes
      }
      const end = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n
      if (end > this.fetchFrom) this.fetchFrom = end
    }
  }

  /** Up to `bytesMax`, at least one record, and the offsets that they cover. */
  take(bytesMax: number): { readonly records: readonly Fetched[]; readonly first: bigint; readonly next: bigint } {
    let count = 0
    let bytes = 0
    for (const one of this.#records) {
      if (count > 0 && bytes + one.bytes > bytesMax) break
      bytes += one.bytes
      count++
    }
    const records = this.#records.splice(0, count)
    this.bytes -= bytes
    const first = this.#next
    const next = (records.at(-1)?.offset ?? first - 1n) + 1n
    this.#next = next
    this.#outstanding.push({ first, next, acknowledged: false })
    return { records, first, next }
  }

  /** Returns where the group stands now, or undefined when an earlier delivery keeps it. */
  acknowledge(first: bigint): bigint | undefined {
    const one = this.#outstanding.find((other) => other.first === first)
    if (one === undefined) return undefined
    one.acknowledged = true
    if (this.#outstanding[0] !== one) return undefined
    let next = one.next
    while (this.#outstanding[0]?.acknowledged === true) next = this.#outstanding.shift()!.next
    return next
  }
}
