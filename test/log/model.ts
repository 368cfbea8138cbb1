import assert from 'node:assert/strict'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import type { SeriesKey } from '../../src/core/batch.ts'
import type { KymoError } from '../../src/core/errors.ts'
import type { StreamLog } from '../../src/core/ports.ts'
import type { LogRecord } from '../../src/core/record.ts'
import type { EmbeddedLog } from '../../src/log/embedded/log.ts'
import type { SimRandom } from '../sim/clock.ts'

export const topic = 'telemetry'
export const never = new AbortController().signal

/** What became of a record that was offered to the log. */
type Fate = 'offered' | 'kept' | 'refused'

/** Writes records that can be told apart, and knows which of them the log must hold, may hold and must not hold. */
export class Ledger {
  readonly #random: SimRandom
  readonly #fates: Fate[] = []
  /** This process's table: another order after each restart, as with devices that come in another order. */
  #keys: SeriesKey[] = []

  constructor(random: SimRandom) {
    this.#random = random
    this.restart()
  }

  get kept(): number[] {
    return this.#fates.flatMap((fate, id) => (fate === 'kept' ? [id] : []))
  }

  restart(): void {
    const keys = Array.from({ length: 30 }, (_, i) => ({ tenant: 'default', device: `device-${i}`, metric: `metric-${i % 5}` }))
    this.#keys = keys
      .map((key) => ({ key, at: this.#random.next() }))
      .toSorted((a, b) => a.at - b.at)
      .map(({ key }) => key)
  }

  /** One write of some records; resolves when the log has answered. Returns what it said. */
  async write(log: StreamLog): Promise<KymoError | undefined> {
    const records = Array.from({ length: 1 + this.#random.below(3) }, () => this.#record())
    const first = this.#fates.length - records.length
    try {
      await log.write(records, undefined, never)
      for (let i = 0; i < records.length; i++) this.#fates[first + i] = 'kept'
      return undefined
    } catch (thrown) {
      const error = thrown as KymoError
      if (error.kind === 'unavailable') for (let i = 0; i < records.length; i++) this.#fates[first + i] = 'refused'
      return error
    }
  }

  /** What is read back: all that was kept, nothing that was refused, in order, each once; what else was offered may be there. */
  check(ids: readonly number[]): void {
    let previous = -1
    const present = new Set(ids)
    for (const id of ids) {
      assert.ok(id > previous, `record ${id} comes after ${previous}`)
      assert.ok(id < this.#fates.length, `record ${id} was never written`)
      assert.notEqual(this.#fates[id], 'refused', `record ${id} was refused and is there all the same`)
      previous = id
    }
    for (const [id, fate] of this.#fates.entries()) assert.ok(fate !== 'kept' || present.has(id), `record ${id} was acknowledged and is lost`)
  }

  /** From now on, what is there has to stay, and what is not there may not appear. */
  settle(ids: readonly number[]): void {
    const present = new Set(ids)
    for (let id = 0; id < this.#fates.length; id++) this.#fates[id] = present.has(id) ? 'kept' : 'refused'
  }

  #record(): LogRecord {
    const id = this.#fates.push('offered') - 1
    const receivedUs = 1_767_225_600_000_000 + id
    if (this.#random.chance(0.2)) {
      const body = Buffer.alloc(8 + this.#random.below(300), id & 0xff)
      body.writeDoubleLE(id, 0)
      return { topic, kind: 'attributes', key: `k${id % 3}`, receivedUs, body }
    }
    const builder = new BatchBuilder(this.#keys)
    const rows = 1 + this.#random.below(20)
    for (let row = 0; row < rows; row++) builder.add((id * 7 + row) % this.#keys.length, id * 1000 + row, id, 0)
    // The device's number is said twice, so that a series with a wrong name shows.
    const key = this.#keys[(id * 7) % this.#keys.length]!
    builder.addMeta(0, key.device)
    return { topic, kind: 'readings', key: '', receivedUs, batch: builder.view() }
  }
}

/** The number of a record, after checking that nothing in it has changed. */
function idOf(record: LogRecord): number {
  if (record.kind !== 'readings') {
    const id = Buffer.from(record.body).readDoubleLE(0)
    assert.ok(record.body.subarray(8).every((byte) => byte === (id & 0xff)))
    return id
  }
  const { batch } = record
  const id = batch.value[0]!
  for (let row = 0; row < batch.rows; row++) assert.deepEqual([batch.value[row], batch.timeUs[row]], [id, id * 1000 + row])
  assert.equal(batch.keys[batch.series[0]!]!.device, batch.meta?.get(0), 'the series has the name that it was written with')
  return id
}

export interface ReadBack {
  readonly ids: number[]
  /** Offsets covered by spans that had no record. */
  readonly missing: bigint
  readonly error: KymoError | undefined
}

/** Everything from the earliest to the end, or to where the log cannot be read. */
export async function readBack(log: EmbeddedLog, o: { readonly group?: string; readonly bytesMax?: number } = {}): Promise<ReadBack> {
  const ids: number[] = []
  let missing = 0n
  let next: bigint | undefined
  const end = log.end(topic)
  if ((o.group === undefined ? log.earliest(topic) : (await log.lag(topic, o.group))[0]!.committed) === end) return { ids, missing, error: undefined }
  const source = log.reader({
    topic,
    start: 'committed',
    ...(o.group === undefined ? {} : { group: o.group }),
    batch: { bytesMax: o.bytesMax ?? 2000 },
  })
  try {
    for await (const { records, span, ack } of source.open(never)) {
      assert.ok(span !== undefined)
      if (next !== undefined) assert.equal(span.first, next, 'spans follow each other')
      next = span.next
      missing += span.next - span.first - BigInt(records.length)
      ids.push(...records.map(idOf))
      ack()
      if (span.next >= end) break
    }
    return { ids, missing, error: undefined }
  } catch (thrown) {
    return { ids, missing, error: thrown as KymoError }
  }
}
