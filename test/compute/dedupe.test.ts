import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Flag, type Batch, type SeriesKey } from '../../src/core/batch.ts'
import { limits } from '../../src/core/limits.ts'
import { Dedupe, type Deduped } from '../../src/compute/window/dedupe.ts'
import { batchOf, type TestRow } from '../support/store-batches.ts'
import { fuzzRuns } from '../support/effort.ts'

const t0 = 1_700_000_000_000_000
const recent = limits.recentTimesPerSeries

interface Seen {
  readonly inOrder: string[]
  readonly late: string[]
  readonly duplicates: number
  readonly corrections: number
}

function names(batch: Batch): string[] {
  return Array.from({ length: batch.rows }, (_, i) => {
    const flags = batch.flags?.[i] ?? 0
    const marks = `${(flags & Flag.late) === 0 ? '' : ' late'}${(flags & Flag.clockAhead) === 0 ? '' : ' ahead'}`
    return `${batch.keys[batch.series[i]!]!.device}@${batch.timeUs[i]! - t0}=${batch.text?.get(i) ?? batch.value[i]}${marks}`
  })
}

function push(dedupe: Dedupe, rows: readonly TestRow[], receivedUs?: number): Seen {
  let seen: Seen | undefined
  const take = (out: Deduped): void =>
    void (seen = { inOrder: names(out.inOrder), late: names(out.late), duplicates: out.duplicates, corrections: out.corrections })
  if (receivedUs === undefined) dedupe.push(batchOf(rows), take)
  else dedupe.push(batchOf(rows), take, receivedUs)
  assert.ok(seen !== undefined)
  return seen
}

const at = (time: number, value = time, device = 'a'): TestRow => ({ device, timeUs: t0 + time, value })

void describe('dedupe', () => {
  void it('hands on the very batch when all of it is in order', () => {
    const batch = batchOf([at(1), at(2), at(1, 1, 'b')])
    new Dedupe().push(batch, (out) => assert.equal(out.inOrder, batch))
  })

  void it('drops what comes twice, within a message and across', () => {
    const dedupe = new Dedupe()
    assert.deepEqual(push(dedupe, [at(1), at(1), at(2)]), { inOrder: ['a@1=1', 'a@2=2'], late: [], duplicates: 1, corrections: 0 })
    assert.deepEqual(push(dedupe, [at(2), at(1), at(3), at(1, 1, 'b')]), { inOrder: ['a@3=3', 'b@1=1'], late: [], duplicates: 2, corrections: 0 })
  })

  void it('forgets a device as if it had never spoken, and its name with the next state', () => {
    const dedupe = new Dedupe()
    push(dedupe, [...Array.from({ length: recent + 2 }, (_, i) => at(i + 1)), at(1, 1, 'b')])
    dedupe.forget('default', 'a')
    assert.equal(dedupe.watermark({ tenant: 'default', device: 'a', metric: 'm' }), Number.NEGATIVE_INFINITY)
    const state = Buffer.from(dedupe.snapshot())
    const restored = new Dedupe()
    restored.restore(state)
    assert.equal(state.length, Buffer.from(restored.snapshot()).length)
    for (const one of [dedupe, restored])
      assert.deepEqual(push(one, [at(1, 5), at(1, 1, 'b')]), { inOrder: ['a@1=5'], late: [], duplicates: 1, corrections: 0 })
    dedupe.forget('default', 'b')
    dedupe.forget('default', 'a')
    assert.equal(dedupe.snapshot().length, new Dedupe().snapshot().length)
  })

  void it('sends a correction out as late, once, also within one message', () => {
    const dedupe = new Dedupe()
    assert.deepEqual(push(dedupe, [at(1), at(1, 5)]), { inOrder: ['a@1=1'], late: ['a@1=5'], duplicates: 0, corrections: 1 })
    assert.deepEqual(push(dedupe, [at(1, 5)]), { inOrder: [], late: [], duplicates: 1, corrections: 0 })
  })

  void it('tells a text from another, from a number, and from itself', () => {
    const dedupe = new Dedupe()
    const text = (words: string): TestRow => ({ device: 'a', timeUs: t0 + 1, text: words })
    assert.deepEqual(push(dedupe, [text('on'), text('on'), text('off'), at(1, 0), text('off')]), {
      inOrder: ['a@1=on'],
      late: ['a@1=off', 'a@1=0', 'a@1=off'],
      duplicates: 1,
      corrections: 3,
    })
  })

  void it('knows a reordered reading to be new for as long as it can, then calls it late', () => {
    const dedupe = new Dedupe()
    push(
      dedupe,
      Array.from({ length: recent }, (_, i) => at(10 * (i + 1))),
    )
    // Nothing was forgotten yet, so even a time before all others is new; it is forgotten at once, as the set is full.
    assert.deepEqual(push(dedupe, [at(5), at(5), at(25), at(25), at(10)]), {
      inOrder: ['a@5=5', 'a@25=25'],
      late: ['a@5=5 late', 'a@10=10 late'],
      duplicates: 1,
      corrections: 0,
    })
    assert.deepEqual(push(dedupe, [at(7), at(20), at(80), at(81), at(20)]), {
      inOrder: ['a@81=81'],
      late: ['a@7=7 late', 'a@20=20 late'],
      duplicates: 2,
      corrections: 0,
    })
  })

  void it('lets a clock that runs ahead move nothing, and the neighbours alone', () => {
    const dedupe = new Dedupe()
    const receivedUs = t0 + 100
    const far = limits.clockAheadMaxUs + 100
    assert.deepEqual(push(dedupe, [at(far), at(far + 1), at(50), at(far + 1), at(1, 1, 'b')], receivedUs), {
      inOrder: ['a@300000100=300000100', 'a@50=50', 'b@1=1'],
      late: ['a@300000101=300000101 ahead', 'a@300000101=300000101 ahead'],
      duplicates: 0,
      corrections: 0,
    })
    assert.equal(dedupe.watermark({ tenant: 'default', device: 'a', metric: 'm' }), t0 + far)
    const flagged = push(dedupe, [{ ...at(60), flags: Flag.clockAhead }, at(60)])
    assert.deepEqual(flagged, { inOrder: ['a@60=60'], late: ['a@60=60 ahead'], duplicates: 0, corrections: 0 })
  })

  void it('vouches for nothing at or below a seeded watermark', () => {
    const dedupe = new Dedupe()
    const key = { tenant: 'default', device: 'a', metric: 'm' }
    dedupe.seed(key, t0 + 10)
    assert.equal(dedupe.watermark(key), t0 + 10)
    assert.deepEqual(push(dedupe, [at(9), at(10), at(11), at(11)]), {
      inOrder: ['a@11=11'],
      late: ['a@9=9 late', 'a@10=10 late'],
      duplicates: 1,
      corrections: 0,
    })
  })

  void it('takes metadata and flags along', () => {
    const rows = [at(1), at(1), { ...at(2), meta: '{"x":1}', flags: Flag.arrivalTime }, { ...at(1, 9), meta: '{"y":1}' }]
    new Dedupe().push(batchOf(rows), (out) => {
      assert.deepEqual([...(out.inOrder.meta ?? [])], [[1, '{"x":1}']])
      assert.deepEqual([...(out.late.meta ?? [])], [[0, '{"y":1}']])
      assert.deepEqual([...(out.inOrder.flags ?? [])], [0, Flag.arrivalTime])
    })
  })

  const arrivals = fc.array(
    fc.array(fc.record({ device: fc.constantFrom('a', 'b'), time: fc.nat(40), value: fc.nat(2), text: fc.boolean() }), {
      minLength: 1,
      maxLength: 20,
    }),
    { maxLength: 12 },
  )
  const rowsOf = (list: readonly { device: string; time: number; value: number; text: boolean }[]): TestRow[] =>
    list.map(({ device, time, value, text }) => ({ device, timeUs: t0 + time, value, ...(text ? { text: `t${value}` } : {}) }))

  void it('never lets an identity pass as new twice, and never drops what differs from what came before', () => {
    fc.assert(
      fc.property(arrivals, (batches) => {
        const dedupe = new Dedupe()
        const stored = new Map<string, string>()
        const arrived = new Map<string, string>()
        for (const list of batches) {
          const rows = rowsOf(list)
          for (const row of rows) arrived.set(`${row.device}@${row.timeUs - t0}`, row.text ?? String(row.value))
          dedupe.push(batchOf(rows), (out) => {
            assert.equal(out.inOrder.rows + out.late.rows + out.duplicates, rows.length)
            for (const name of names(out.inOrder)) {
              const [identity = '', value = ''] = name.split('=')
              assert.ok(!stored.has(identity), `${identity} passed as new twice`)
              stored.set(identity, value)
            }
            for (const name of names(out.late)) {
              const [identity = '', value = ''] = name.replace(' late', '').split('=')
              stored.set(identity, value)
            }
          })
          assert.deepEqual(stored, new Map([...stored.keys()].map((identity) => [identity, arrived.get(identity)])))
          assert.equal(stored.size, arrived.size)
        }
      }),
      fuzzRuns(400),
    )
  })

  void it('goes on from a snapshot at any cut as if nothing had been', () => {
    fc.assert(
      fc.property(arrivals, fc.nat(12), fc.boolean(), (batches, cut, sharedKeys) => {
        const keys: SeriesKey[] = []
        const whole = new Dedupe()
        let restored = new Dedupe()
        batches.forEach((list, i) => {
          if (i === cut) {
            const state = restored.snapshot()
            restored = new Dedupe()
            restored.restore(state)
          }
          const rows = rowsOf(list)
          const receivedUs = t0 + 20 + i - limits.clockAheadMaxUs
          const outs: unknown[] = []
          for (const dedupe of [whole, restored]) {
            dedupe.push(
              batchOf(rows, sharedKeys ? keys : []),
              (out) => outs.push([names(out.inOrder), names(out.late), out.duplicates, out.corrections]),
              receivedUs,
            )
          }
          assert.deepEqual(outs[0], outs[1])
        })
      }),
      fuzzRuns(400),
    )
  })

  void it('refuses a state of another kind, version or length', () => {
    const dedupe = new Dedupe()
    push(dedupe, [at(1)])
    const state = dedupe.snapshot()
    const newer = state.slice()
    newer[4] = 99
    for (const bad of [newer, state.subarray(0, state.length - 1), new Uint8Array(0), Uint8Array.from([1, 2, 3, 4, 1, 0])]) {
      assert.throws(() => new Dedupe().restore(bad), { code: 'store_format' })
    }
  })
})
