import assert from 'node:assert/strict'
import test from 'node:test'
import { emptyBatch } from '../../src/core/batch.ts'
import { limits } from '../../src/core/limits.ts'
import { Topic, type LogRecord } from '../../src/core/record.ts'
import { giveTurn } from '../../src/roles/turns.ts'
import { writeParts } from '../../src/roles/write-parts.ts'
import { TestClock } from '../support/test-clock.ts'

const letter = (bytes: number): LogRecord => ({ topic: Topic.deadLetters, kind: 'dead-letter', key: '', receivedUs: 1, body: new Uint8Array(bytes) })
const readings = (rows: number): LogRecord => ({ topic: Topic.telemetry, kind: 'readings', key: '', receivedUs: 1, batch: { ...emptyBatch, rows } })

test('a usual write is one part, as it came; nothing is none', () => {
  const records = [letter(500), readings(8_192)]
  assert.deepEqual([...writeParts(records)], [records])
  assert.equal([...writeParts(records)][0], records)
  assert.deepEqual([...writeParts([])], [])
})

test('100,000 dead letters are many parts, bounded in records and bytes, none lost and in their order', () => {
  for (const size of [10, 500, 60_000]) {
    const records = Array.from({ length: size > 1_000 ? 500 : 100_000 }, () => letter(size))
    const parts = [...writeParts(records)]
    assert.deepEqual(parts.flat(), records)
    for (const part of parts) {
      assert.ok(part.length > 0 && part.length <= limits.ingestPartRecordsMax)
      assert.ok((part.length - 1) * size < limits.ingestPartBytesMax)
    }
  }
  const batches = Array.from({ length: 100 }, () => readings(limits.recordRowsMax))
  assert.deepEqual([...writeParts(batches)].flat(), batches)
  assert.ok([...writeParts(batches)].every((part) => part.length <= 13))
})

test('a reader that took in much waits for a later turn; after little it goes on', async () => {
  const clock = new TestClock()
  assert.equal(giveTurn({ clock }, [readings(limits.mainDeliveryRowsMax - 1)], undefined), undefined)
  assert.equal(
    giveTurn(
      { clock },
      Array.from({ length: limits.mainDeliveryRowsMax / 8 - 1 }, () => letter(1)),
      undefined,
    ),
    undefined,
  )
  for (const records of [[readings(limits.mainDeliveryRowsMax)], Array.from({ length: limits.mainDeliveryRowsMax / 8 }, () => letter(1))]) {
    let went = false
    const turn = giveTurn({ clock }, records, undefined)?.then(() => (went = true))
    await Promise.resolve()
    assert.deepEqual([went, clock.timers], [false, 1])
    clock.advance(0)
    await turn
    assert.equal(went, true)
  }
})
