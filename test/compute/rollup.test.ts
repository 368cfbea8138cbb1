import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { RollupColumns } from '../../src/core/ports.ts'
import { hourUs, minuteUs, Rollup } from '../../src/compute/window/rollup.ts'
import { batchOf, type TestRow } from '../support/store-batches.ts'
import { fuzzRuns } from '../support/effort.ts'

const t0 = 1_700_000_000_000_000 - (1_700_000_000_000_000 % hourUs)
const s = 1e6

interface Bucket {
  readonly step: number
  readonly device: string
  readonly start: number
  readonly count: number
  readonly mean: number
  readonly m2: number
  readonly min: number
  readonly max: number
  readonly first: number
  readonly last: number
  readonly sum: number
}

function bucketsOf(columns: RollupColumns): Bucket[] {
  return Array.from({ length: columns.rows }, (_, i) => ({
    step: columns.stepUs,
    device: columns.keys[columns.series[i]!]!.device,
    start: (columns.timeUs[i]! - t0) / s,
    count: columns.count[i]!,
    mean: columns.mean[i]!,
    m2: columns.m2[i]!,
    min: columns.min[i]!,
    max: columns.max[i]!,
    first: columns.first[i]!,
    last: columns.last[i]!,
    sum: columns.sum![i]!,
  }))
}

function push(rollup: Rollup, rows: readonly TestRow[]): Bucket[] {
  const out: Bucket[] = []
  rollup.push(batchOf(rows), (columns) => out.push(...bucketsOf(columns)))
  return out
}

function tick(rollup: Rollup, seconds: number): Bucket[] {
  const out: Bucket[] = []
  rollup.tick(t0 + seconds * s, (columns) => out.push(...bucketsOf(columns)))
  return out
}

const at = (seconds: number, value: number, device = 'a'): TestRow => ({ device, timeUs: t0 + seconds * s, value })
const brief = (list: readonly Bucket[]): string[] => list.map((b) => `${b.step === hourUs ? 'h' : 'm'} ${b.device} ${b.start} n${b.count}`)

void describe('rollup', () => {
  void it('emits a minute when the time of its series passes on, and the hour after its last minute', () => {
    const rollup = new Rollup()
    assert.deepEqual(push(rollup, [at(0, 1), at(59, 3), at(30, 2), at(10, 7, 'b')]), [])
    const [minute, ...more] = push(rollup, [at(60, 10)])
    assert.deepEqual(more, [])
    assert.deepEqual(minute, { step: minuteUs, device: 'a', start: 0, count: 3, mean: 2, m2: 2, min: 1, max: 3, first: 1, last: 3, sum: 6 })
    const closed = push(rollup, [at(3600, 0)])
    assert.deepEqual(brief(closed), ['m a 60 n1', 'h a 0 n4'])
    assert.deepEqual(closed[1], { step: hourUs, device: 'a', start: 0, count: 4, mean: 4, m2: 50, min: 1, max: 10, first: 1, last: 10, sum: 16 })
  })

  void it('closes by ticks what is over and silent, an hour only after its end', () => {
    const rollup = new Rollup()
    tick(rollup, 0)
    push(rollup, [at(5, 1), at(5, 1, 'b')])
    assert.deepEqual(tick(rollup, 100), [])
    push(rollup, [at(55, 1, 'b')])
    assert.deepEqual(brief(tick(rollup, 185)), ['m a 0 n1'])
    assert.deepEqual(brief(tick(rollup, 225)), ['m b 0 n2'])
    assert.deepEqual(tick(rollup, 3700), [])
    assert.deepEqual(brief(tick(rollup, 3725)).sort(), ['h a 0 n1', 'h b 0 n2'])
    assert.deepEqual(tick(rollup, 9000), [])
  })

  void it('asks for buckets to be computed again when a reading comes for one that is not open', () => {
    const rollup = new Rollup()
    push(rollup, [at(65, 1)])
    assert.deepEqual(brief(push(rollup, [at(30, 1)])), ['m a 0 n0', 'h a 0 n0'])
    tick(rollup, 0)
    tick(rollup, 400)
    assert.deepEqual(brief(push(rollup, [at(66, 1)])), ['m a 60 n0', 'h a 0 n0'], 'closed by a tick')
    tick(rollup, 4000)
    assert.deepEqual(brief(push(rollup, [at(3000, 1)])), ['h a 0 n0'], 'a new minute of an hour that was closed')
    assert.deepEqual(brief(push(rollup, [at(3060, 1)])), ['m a 3000 n1', 'h a 0 n0', 'h a 0 n0'])
  })

  void it('lets text and NaN out', () => {
    const rollup = new Rollup()
    push(rollup, [at(0, Number.NaN), { device: 'a', timeUs: t0, text: 'x' }])
    assert.deepEqual(brief(push(rollup, [at(60, 1)])), [])
  })

  void it('shows what is open', () => {
    const rollup = new Rollup()
    push(rollup, [at(0, 1), at(1, 2), at(70, 5)])
    assert.deepEqual(brief(bucketsOf(rollup.open(minuteUs)!)), ['m a 60 n1'])
    assert.deepEqual(brief(bucketsOf(rollup.open(hourUs)!)), ['h a 0 n2'])
  })

  void it('agrees with the plain formulas, also for large numbers close together', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3599), fc.integer({ min: -100, max: 100 })), { minLength: 1, maxLength: 60 }), (list) => {
        const rows = list.map(([second, value]) => at(second, 1e9 + value / 16)).sort((a, b) => a.timeUs - b.timeUs)
        const rollup = new Rollup()
        const out = [...push(rollup, rows), ...push(rollup, [at(7200, 0)])]
        for (const step of [minuteUs, hourUs]) {
          const groups = Map.groupBy(rows, (row) => (row.timeUs - t0 - ((row.timeUs - t0) % step)) / s)
          const found = out.filter((b) => b.step === step)
          assert.deepEqual(
            found.map((b) => b.start),
            [...groups.keys()],
          )
          for (const bucket of found) {
            const values = groups.get(bucket.start)!.map((row) => row.value!)
            const mean = values.reduce((a, v) => a + (v - 1e9), 0) / values.length + 1e9
            const m2 = values.reduce((a, v) => a + (v - mean) ** 2, 0)
            assert.equal(bucket.count, values.length)
            assert.ok(Math.abs(bucket.mean - mean) < 1e-6)
            assert.ok(Math.abs(bucket.m2 - m2) < 1e-4 * Math.max(1, m2), `${bucket.m2} instead of ${m2}`)
            assert.equal(bucket.min, Math.min(...values))
            assert.equal(bucket.max, Math.max(...values))
            assert.equal(bucket.first, values[0])
            assert.equal(bucket.last, values.at(-1))
            assert.equal(
              bucket.sum,
              values.reduce((a, v) => a + v, 0),
            )
          }
        }
      }),
      fuzzRuns(400),
    )
  })

  void it('goes on from a snapshot at any cut as if nothing had been', () => {
    const step = fc.oneof(fc.array(fc.tuple(fc.constantFrom('a', 'b'), fc.nat(9000), fc.nat(9)), { minLength: 1, maxLength: 10 }), fc.nat(9000))
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), fc.nat(25), (steps, cut) => {
        const whole = new Rollup()
        let restored = new Rollup()
        steps.forEach((one, i) => {
          if (i === cut) {
            const state = restored.snapshot()
            restored = new Rollup()
            restored.restore(state)
          }
          const outs = [whole, restored].map((rollup) =>
            typeof one === 'number'
              ? tick(rollup, one)
              : push(
                  rollup,
                  one.map(([device, second, value]) => at(second, value, device)),
                ),
          )
          assert.deepEqual(outs[0], outs[1])
        })
      }),
      fuzzRuns(400),
    )
  })

  void it('forgets a device with its open buckets, and its name with the next state', () => {
    const rollup = new Rollup()
    push(rollup, [at(3000, 9), at(5, 1, 'b')])
    rollup.forget('default', 'a')
    const restored = new Rollup()
    restored.restore(rollup.snapshot())
    // Earlier than what was forgotten: in order again, and nothing of that in its bucket.
    for (const one of [rollup, restored]) assert.deepEqual(brief(push(one, [at(10, 1), at(70, 2)])), ['m a 0 n1'])
    rollup.forget('default', 'a')
    rollup.forget('default', 'b')
    assert.equal(rollup.snapshot().length, new Rollup().snapshot().length)
  })

  void it('refuses a state of another kind', () => {
    assert.throws(() => new Rollup().restore(Uint8Array.from([75, 68, 68, 80, 1, 0])), { code: 'store_format' })
  })
})
