import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { BatchBuilder } from '../../src/core/batch-builder.ts'
import { Flag, type Batch, type SeriesKey } from '../../src/core/batch.ts'
import { KymoError } from '../../src/core/errors.ts'
import type { Source, StreamLog } from '../../src/core/ports.ts'
import type { Delivery, LogRecord, OpaqueRecord, ReadingsRecord } from '../../src/core/record.ts'

/** A log on an engine, empty when the suite gets it. */
export interface StreamLogUnderTest {
  readonly log: StreamLog
  /** Closes the log and opens the same data again, as a restart of the process would. */
  reopen(): Promise<StreamLog>
  /** Closes what is open and removes the data. */
  close(): Promise<void>
}

/** A reading as an object, for comparing. */
export interface PlainRow {
  readonly device: string
  readonly metric: string
  readonly tenant: string
  readonly timeUs: number
  readonly value: number
  readonly flags: number
  readonly text: string | undefined
  readonly meta: string | undefined
}

export function rowsOf(batch: Batch): PlainRow[] {
  return Array.from({ length: batch.rows }, (_, row) => {
    const { device, metric, tenant } = batch.keys[batch.series[row]!]!
    return {
      device,
      metric,
      tenant,
      timeUs: batch.timeUs[row]!,
      value: batch.value[row]!,
      flags: batch.flags?.[row] ?? 0,
      text: batch.text?.get(row),
      meta: batch.meta?.get(row),
    }
  })
}

const never = new AbortController().signal
const startUs = 1_767_225_600_000_000

export function readings(topic: string, device: string, values: readonly number[]): ReadingsRecord {
  const keys: SeriesKey[] = [{ tenant: 'default', device, metric: 'temperature' }]
  const builder = new BatchBuilder(keys, Math.max(1, values.length))
  for (const [i, value] of values.entries()) builder.add(0, startUs + i, value, 0)
  return { topic, kind: 'readings', key: device, receivedUs: startUs, batch: builder.view() }
}

function opaque(topic: string, kind: OpaqueRecord['kind'], key: string, body: Uint8Array): OpaqueRecord {
  return { topic, kind, key, receivedUs: startUs + 5, body }
}

/** A record with nothing borrowed in it. */
type Kept = { readonly kind: string; readonly key: string; readonly receivedUs: number; readonly rows: readonly PlainRow[]; readonly body: Buffer }

function keep(record: LogRecord): Kept {
  const { kind, key, receivedUs } = record
  return record.kind === 'readings'
    ? { kind, key, receivedUs, rows: rowsOf(record.batch), body: Buffer.alloc(0) }
    : { kind, key, receivedUs, rows: [], body: Buffer.from(record.body) }
}

/** Reads `count` records, acknowledging each delivery unless told otherwise. */
export async function take(source: Source, count: number, each?: (delivery: Delivery) => void): Promise<Kept[]> {
  const kept: Kept[] = []
  if (count === 0) return kept
  for await (const delivery of source.open(never)) {
    for (const record of delivery.records) kept.push(keep(record))
    if (each === undefined) delivery.ack()
    else each(delivery)
    if (kept.length >= count) break
  }
  return kept
}

const valuesOf = (kept: readonly Kept[], device?: string): number[] =>
  kept.flatMap((record) => record.rows.filter((row) => device === undefined || row.device === device).map((row) => row.value))

/** What every StreamLog does. Topics are made on first use; each test has its own. Holds for many partitions as for one. */
export function streamLogContract(name: string, open: () => Promise<StreamLogUnderTest>): void {
  describe(`${name}: a StreamLog`, { timeout: 120_000 }, () => {
    let under: StreamLogUnderTest
    let log: StreamLog
    let number = 0
    const topic = (): string => `contract-${++number}`
    before(async () => {
      under = await open()
      log = under.log
    })
    after(() => under.close())

    test('keeps what was written, in the order of each key', async () => {
      const t = topic()
      for (let i = 0; i < 20; i++) await log.write([readings(t, 'a', [i]), readings(t, 'b', [100 + i])], undefined, never)
      const kept = await take(log.reader({ topic: t, start: 'earliest' }), 40)
      assert.deepEqual(
        valuesOf(kept, 'a'),
        Array.from({ length: 20 }, (_, i) => i),
      )
      assert.deepEqual(
        valuesOf(kept, 'b'),
        Array.from({ length: 20 }, (_, i) => 100 + i),
      )
    })

    test('tells where a topic begins and ends, and reads from an offset of each partition, those that are named', async () => {
      const t = topic()
      const devices = Array.from({ length: 12 }, (_, i) => `d${i}`)
      await log.write(
        devices.map((device, i) => readings(t, device, [i])),
        undefined,
        never,
      )
      const before = await log.places(t)
      await log.write(
        devices.map((device, i) => readings(t, device, [100 + i])),
        undefined,
        never,
      )
      const after = await log.places(t)
      assert.equal(after.log, before.log)
      assert.ok(after.bytes > 0)
      assert.equal(
        after.partitions.reduce((sum, { earliest, end }) => sum + Number(end - earliest), 0),
        24,
      )
      const offsets = new Map(before.partitions.map(({ partition, end }) => [partition, end]))
      const kept = await take(log.reader({ topic: t, start: { offsets } }), 12, (delivery) => {
        assert.equal(delivery.span?.log, after.log)
        delivery.ack()
      })
      assert.deepEqual(
        valuesOf(kept).toSorted((a, b) => a - b),
        devices.map((_, i) => 100 + i),
      )
      const full = after.partitions.find(({ earliest, end }) => end > earliest)!
      const one = new Map([[full.partition, full.earliest]])
      const only = await take(log.reader({ topic: t, start: { offsets: one } }), Number(full.end - full.earliest), (delivery) => {
        assert.equal(delivery.span?.partition, full.partition)
        delivery.ack()
      })
      assert.equal(only.length, Number(full.end - full.earliest))
    })

    test('is done with what it was given once the write has resolved', async () => {
      const t = topic()
      const body = Buffer.alloc(200_000)
      for (let i = 1; i <= 20; i++) {
        await log.write([opaque(t, 'dead-letter', 'k', body.fill(i))], undefined, never)
        body.fill(0xee)
      }
      const kept = await take(log.reader({ topic: t, start: 'earliest' }), 20)
      assert.deepEqual(
        kept.map(({ body: bytes }) => [bytes.length, bytes[0], bytes.indexOf(0xee)]),
        Array.from({ length: 20 }, (_, i) => [body.length, i + 1, -1]),
      )
    })

    test('keeps the order of writes that were not waited for', async () => {
      const t = topic()
      await Promise.all(Array.from({ length: 50 }, (_, i) => log.write([readings(t, 'a', [i])], undefined, never)))
      const kept = await take(log.reader({ topic: t, start: 'earliest' }), 50)
      assert.deepEqual(
        valuesOf(kept),
        Array.from({ length: 50 }, (_, i) => i),
      )
    })

    test('gives back every kind of record and every column', async () => {
      const t = topic()
      const keys: SeriesKey[] = [
        { tenant: 'default', device: 'küche', metric: 'temperature' },
        { tenant: 'other', device: 'a b/ü', metric: 'mode' },
      ]
      const builder = new BatchBuilder(keys, 4)
      builder.add(0, startUs, 21.5, 0)
      builder.addText(1, startUs + 1, 'auto · ✓', Flag.text)
      builder.addText(1, startUs + 1, '9007199254740993', Flag.text | Flag.bigInteger)
      builder.add(0, startUs + 2, 1, Flag.boolean | Flag.retained)
      builder.addMeta(0, '{"site":"nord"}')
      builder.addOrigin(1, 0xffff_ffff, 7)
      builder.addOrigin(3, 1, 0)
      const body = Buffer.from([0, 1, 2, 255])
      const records: LogRecord[] = [
        { topic: t, kind: 'readings', key: 'k', receivedUs: startUs + 3, batch: builder.view() },
        opaque(t, 'attributes', 'k', body),
        opaque(t, 'tick', 'k', Buffer.alloc(0)),
        opaque(t, 'dead-letter', 'k', Buffer.alloc(5000, 7)),
        opaque(t, 'dead-letter-mark', 'k', body.subarray(1, 2)),
      ]
      await log.write(records, undefined, never)
      const kept = await take(log.reader({ topic: t, start: 'earliest' }), 5, (delivery) => {
        for (const record of delivery.records) {
          if (record.kind !== 'readings') continue
          const origin = record.batch.origin
          assert.ok(origin !== undefined)
          assert.deepEqual([origin.count, [...origin.firstRow], [...origin.hashHigh], [...origin.hashLow]], [2, [1, 3], [0xffff_ffff, 1], [7, 0]])
        }
        delivery.ack()
      })
      assert.deepEqual(kept, records.map(keep))
    })

    test('delivers nothing that it has not kept, and a span for what it delivers', async () => {
      const t = topic()
      await log.write([readings(t, 'a', [1]), readings(t, 'a', [2]), readings(t, 'a', [3])], undefined, never)
      await log.write([readings(t, 'a', [4])], undefined, never)
      const next = new Map<number, bigint>()
      const kept = await take(log.reader({ topic: t, start: 'earliest', batch: { bytesMax: 1 } }), 4, (delivery) => {
        const span = delivery.span
        assert.ok(span !== undefined && span.topic === t && span.log !== '')
        assert.equal(span.next - span.first, BigInt(delivery.records.length))
        if (next.has(span.partition)) assert.equal(span.first, next.get(span.partition), 'spans of a partition follow each other')
        next.set(span.partition, span.next)
        delivery.ack()
      })
      assert.deepEqual(valuesOf(kept), [1, 2, 3, 4])
    })

    test('remembers where a group stands, across readers and restarts', async () => {
      const t = topic()
      await log.write(
        Array.from({ length: 6 }, (_, i) => readings(t, 'a', [i])),
        undefined,
        never,
      )
      const first = await take(log.reader({ topic: t, group: 'g', start: 'committed', batch: { bytesMax: 1 } }), 2)
      assert.deepEqual(valuesOf(first), [0, 1])
      const second = await take(log.reader({ topic: t, group: 'g', start: 'committed', batch: { bytesMax: 1 } }), 2)
      assert.deepEqual(valuesOf(second), [2, 3])
      log = await under.reopen()
      const third = await take(log.reader({ topic: t, group: 'g', start: 'committed', batch: { bytesMax: 1 } }), 2)
      assert.deepEqual(valuesOf(third), [4, 5])
      const other = await take(log.reader({ topic: t, group: 'h', start: 'committed' }), 6)
      assert.equal(other.length, 6, 'a group that is new starts at the earliest')
    })

    test('keeps what was written across a restart, and goes on behind it', async () => {
      const t = topic()
      await log.write([readings(t, 'a', [1])], undefined, never)
      log = await under.reopen()
      await log.write([readings(t, 'a', [2])], undefined, never)
      const spans: bigint[] = []
      const kept = await take(log.reader({ topic: t, start: 'earliest', batch: { bytesMax: 1 } }), 2, (delivery) => {
        spans.push(delivery.span!.first, delivery.span!.next)
        delivery.ack()
      })
      assert.deepEqual(valuesOf(kept), [1, 2])
      assert.equal(spans[1], spans[2])
    })

    test('redelivers what was not acknowledged', async () => {
      const t = topic()
      await log.write(
        Array.from({ length: 3 }, (_, i) => readings(t, 'a', [i])),
        undefined,
        never,
      )
      const source = log.reader({ topic: t, group: 'g', start: 'committed', batch: { bytesMax: 1 } })
      assert.deepEqual(valuesOf(await take(source, 1)), [0])
      assert.deepEqual(valuesOf(await take(source, 1, (delivery) => delivery.nack(new KymoError('store_unavailable')))), [1])
      assert.deepEqual(valuesOf(await take(source, 1, () => undefined)), [1], 'after a nack')
      assert.deepEqual(valuesOf(await take(source, 2)), [1, 2], 'after a consumer that just stopped')
    })

    test('does not pass an unacknowledged delivery with a later one', async () => {
      const t = topic()
      await log.write(
        Array.from({ length: 3 }, (_, i) => readings(t, 'a', [i])),
        undefined,
        never,
      )
      const deliveries: Delivery[] = []
      await take(log.reader({ topic: t, group: 'g', start: 'committed', batch: { bytesMax: 1 } }), 3, (delivery) => deliveries.push(delivery))
      deliveries[2]!.ack()
      deliveries[0]!.ack()
      const kept = await take(log.reader({ topic: t, group: 'g', start: 'committed', batch: { bytesMax: 1 } }), 2)
      assert.deepEqual(valuesOf(kept), [1, 2])
    })

    test('lets several readers read the same', async () => {
      const t = topic()
      await log.write([readings(t, 'a', [1]), readings(t, 'b', [2])], undefined, never)
      const all = await Promise.all([
        take(log.reader({ topic: t, start: 'earliest' }), 2),
        take(log.reader({ topic: t, group: 'g', start: 'committed' }), 2),
        take(log.reader({ topic: t, group: 'h', start: 'committed' }), 2),
      ])
      for (const kept of all) assert.deepEqual(valuesOf(kept).toSorted(), [1, 2])
    })

    test('starts at the latest when asked to, and wakes when something comes', async () => {
      const t = topic()
      await log.write([readings(t, 'a', [1])], undefined, never)
      const waiting = take(log.reader({ topic: t, start: 'latest' }), 1)
      await log.write([readings(t, 'a', [2])], undefined, never)
      assert.deepEqual(valuesOf(await waiting), [2])
    })

    test('may be read before anything was written', async () => {
      const t = topic()
      const waiting = take(log.reader({ topic: t, group: 'g', start: 'committed' }), 1)
      await log.write([readings(t, 'a', [1])], undefined, never)
      assert.deepEqual(valuesOf(await waiting), [1])
    })

    test('ends promptly when the signal aborts, waiting or not', async () => {
      const t = topic()
      const source = log.reader({ topic: t, start: 'earliest' })
      const abort = new AbortController()
      const iterator = source.open(abort.signal)[Symbol.asyncIterator]()
      const waiting = iterator.next()
      abort.abort()
      assert.equal((await waiting).done, true)
      assert.equal((await source.open(AbortSignal.abort())[Symbol.asyncIterator]().next()).done, true)
      await source.close()
    })

    test('carries records of a megabyte beside small ones', async () => {
      const t = topic()
      const big = Buffer.alloc(1_000_000, 'x')
      await log.write(
        [opaque(t, 'dead-letter', 'k', big), opaque(t, 'tick', 'k', Buffer.from('1')), opaque(t, 'dead-letter', 'k', big)],
        undefined,
        never,
      )
      const rows = readings(
        t,
        'k',
        Array.from({ length: 8192 }, (_, i) => i / 3),
      )
      await log.write([rows], undefined, never)
      const kept = await take(log.reader({ topic: t, start: 'earliest', batch: { bytesMax: 4096 } }), 4)
      assert.deepEqual(
        kept.map((record) => record.body.length),
        [1_000_000, 1, 1_000_000, 0],
      )
      assert.deepEqual(valuesOf(kept), [...rows.batch.value.subarray(0, 8192)])
    })

    test('gathers up to the linger', async () => {
      const t = topic()
      const source = log.reader({ topic: t, start: 'earliest', batch: { bytesMax: 1500, lingerMs: 60_000 } })
      const iterator = source.open(never)[Symbol.asyncIterator]()
      const waiting = iterator.next()
      const filler = Buffer.alloc(400)
      for (let i = 0; i < 6; i++) await log.write([opaque(t, 'dead-letter', 'k', filler)], undefined, never)
      const first = await waiting
      assert.ok(first.done !== true && first.value.records.length > 1, 'more than the first record, and no wait for the whole linger')
      await iterator.return?.()
    })

    test('tells how far a group lags behind', async () => {
      const t = topic()
      const sum = async (group: string): Promise<readonly [bigint, number, number | undefined]> => {
        const lag = await log.lag(t, group)
        const oldest = lag.map((one) => one.oldestUs).filter((us) => us !== undefined)
        return [
          lag.reduce((n, one) => n + one.end - one.committed, 0n),
          lag.reduce((n, one) => n + one.bytes, 0),
          oldest.length > 0 ? Math.min(...oldest) : undefined,
        ]
      }
      await log.write([readings(t, 'a', [1]), readings(t, 'a', [2])], undefined, never)
      const source = log.reader({ topic: t, group: 'g', start: 'committed', batch: { bytesMax: 1 } })
      const [records, bytes] = await sum('g')
      assert.ok(records === 2n && bytes > 0)
      await take(source, 1)
      const [fewer, fewerBytes, oldestUs] = await sum('g')
      assert.ok(fewer === 1n && fewerBytes < bytes && oldestUs === startUs)
      await take(source, 1)
      assert.deepEqual(await sum('g'), [0n, 0, undefined])
    })

    test('an empty write is no record', async () => {
      const t = topic()
      await log.write([], undefined, never)
      await log.write([readings(t, 'a', [1])], undefined, never)
      assert.equal((await take(log.reader({ topic: t, start: 'earliest' }), 1)).length, 1)
    })

    test('a write whose signal has aborted is refused', async () => {
      await assert.rejects(log.write([readings(topic(), 'a', [1])], undefined, AbortSignal.abort()), (thrown) => thrown instanceof KymoError)
    })
  })
}
