import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Anomaly } from '../../src/compute/anomaly/anomaly.ts'
import type { Check } from '../../src/compute/anomaly/checks.ts'
import { GapCheck, RangeCheck, RateCheck, StuckCheck } from '../../src/compute/anomaly/checks.ts'
import { JointDetector } from '../../src/compute/anomaly/joint.ts'
import { LevelShiftCheck } from '../../src/compute/anomaly/level-shift.ts'
import { ZScoreCheck } from '../../src/compute/anomaly/z-score.ts'
import { beginState, StateReader } from '../../src/compute/window/state-bytes.ts'
import { KymoError } from '../../src/core/errors.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { hourUs } from '../support/synthetic-series.ts'

const second = 1e6

/** Found in readings of one a second, by row. */
function rows(check: Check, values: readonly number[], everyUs = second): [number, Anomaly][] {
  return values.flatMap((value, i) => {
    const found = check.observe(i * everyUs, value)
    return found === undefined ? [] : [[i, found] as [number, Anomaly]]
  })
}

void describe('checks with limits', () => {
  void it('range: when it is left, not again until it was back', () => {
    const found = rows(new RangeCheck({ min: 0, max: 10 }), [5, 10, 11, 12, 3, -1, Number.NaN, -2, 0, 10.5])
    assert.deepEqual(
      found.map(([i, { threshold, value }]) => [i, threshold, value]),
      [
        [2, 10, 11],
        [5, 0, -1],
        [9, 10, 10.5],
      ],
    )
    assert.deepEqual([found[0]![1].lower, found[0]![1].upper, found[0]![1].rarity], [0, 10, undefined])
    assert.equal(rows(new RangeCheck({ max: 1 }), [-1e9, 2])[0]![1].lower, undefined)
  })

  void it('rate: by seconds, with the interval that was allowed', () => {
    const check = new RateCheck({ perSecond: 0.5 })
    assert.equal(check.observe(0, 20), undefined)
    assert.equal(check.observe(10 * second, 25), undefined)
    assert.equal(check.observe(10 * second, 99), undefined, 'the same time')
    const found = check.observe(12 * second, 23.9)!
    assert.ok(Math.abs(found.size - 0.55) < 1e-12)
    assert.deepEqual([found.expected, found.lower, found.upper, found.threshold], [25, 24, 26, 0.5])
  })

  void it('stuck: after the time and the readings, once', () => {
    const check = new StuckCheck({ forUs: 5 * second, readings: 4, tolerance: 0.1 })
    const found = rows(check, [1, 2, 2, 2.05, 1.95, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3])
    assert.deepEqual(
      found.map(([i, { size, value }]) => [i, size, value]),
      [
        [6, 5, 2],
        [14, 5, 3],
      ],
    )
  })

  void it('stuck: two readings far apart are not enough', () => {
    const found = rows(new StuckCheck({ forUs: 5 * second, readings: 4 }), [1, 1, 1, 1], 60 * second)
    assert.deepEqual(
      found.map(([i, { size }]) => [i, size]),
      [[3, 180]],
    )
  })

  void it('gap: by the median of the intervals, when it ends or when asked', () => {
    const check = new GapCheck({ factor: 3 })
    for (const s of [0, 10, 20, 30, 40, 50]) assert.equal(check.observe(s * second, 1), undefined)
    assert.equal(check.overdue(80 * second), undefined)
    const asked = check.overdue(80.1 * second)!
    assert.ok(Math.abs(asked.size - 30.1) < 1e-9 && asked.threshold === 30 && asked.value === 1)
    assert.equal(check.overdue(90 * second), undefined, 'said once')
    assert.equal(check.observe(100 * second, 2), undefined, 'and known when it ends')
    const ended = check.observe(140 * second, 3)!
    assert.deepEqual([ended.kind, ended.size, ended.timeUs], ['gap', 40, 140 * second])
    assert.equal(new GapCheck({ everyUs: second }).overdue(1e15), undefined, 'never heard of')
  })

  void it('z-score: as the mean and deviation of the last day say', () => {
    const [random, check] = [new SeededRandom(1), new ZScoreCheck({ threshold: 3 })]
    const values = Float64Array.from({ length: 900 }, () => 1e6 + random.normal())
    values[850] = 1e6 + 8
    for (const [i, value] of values.entries()) {
      // Three in each quarter of an hour: with the last of them, the last 288 readings are the day.
      const found = check.observe(i * (hourUs / 12), value)
      const day = values.subarray(Math.max(0, i - 285 - (i % 3)), i + 1)
      const mean = day.reduce((a, b) => a + b) / day.length
      const z = Math.abs(value - mean) / Math.sqrt(day.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (day.length - 1))
      if (i > 0) assert.ok(Math.abs(check.score - z) < 1e-6, `${i}`)
      assert.equal(found !== undefined, z > 3)
    }
    assert.equal(check.observe(0, 5), undefined, 'older than the day')
  })

  void it('level shift: a step in noise once, and no tide', () => {
    const random = new SeededRandom(2)
    const noise = Array.from({ length: 1_500 }, () => random.normal())
    const found = rows(
      new LevelShiftCheck({ window: 30 }),
      noise.map((v, i) => (i < 1_000 ? v : v + 4)),
    )
    assert.deepEqual(found.length, 1)
    const [[at, step]] = found as [[number, Anomaly]]
    assert.ok(at >= 1_000 && at < 1_030, `${at}`)
    assert.ok(Math.abs(step.expected!) < 2 && step.upper! > step.expected! && step.rarity! < 0.005)
    const tide = noise.map((v, i) => v + 10 * Math.sin((2 * Math.PI * i) / 200))
    const [tides, all] = [rows(new LevelShiftCheck(), tide).length, rows(new LevelShiftCheck({ rate: 1 }), tide).length]
    assert.ok(tides <= 5 && all >= 3 * tides, `${tides} of ${all}`)
  })

  void it('go on after a snapshot as if nothing had been, and survive whatever comes', () => {
    const make: readonly (() => Check)[] = [
      () => new RangeCheck({ min: -2, max: 2 }),
      () => new RateCheck({ perSecond: 2 }),
      () => new StuckCheck({ forUs: 3 * second, readings: 3, tolerance: 0.3 }),
      () => new GapCheck({ factor: 2 }),
      () => new LevelShiftCheck({ window: 8, threshold: 2, rate: 0.2 }),
      () => new ZScoreCheck({ hours: 0.1 }),
    ]
    for (const [k, one] of make.entries()) {
      const [random, whole, first, second_] = [new SeededRandom(3), one(), one(), one()]
      let found = 0
      for (let i = 0; i < 800; i++) {
        const bad = i % 97
        const value = bad === 5 ? Number.NaN : bad === 6 ? 1e9 : bad === 7 ? -1.7e308 : bad === 8 ? Number.NEGATIVE_INFINITY : random.normal()
        // Late, twice, back in time, and silent for an hour.
        const timeUs = (i * 2 - (i % 5 === 0 ? 3 : 0) + (i > 500 ? 3600 : 0)) * second
        if (i === 400) {
          const writer = beginState('TEST', 1, 64)
          first.write(writer)
          second_.read(new StateReader(writer.finish(), 'TEST', 1))
        }
        const expected = whole.observe(timeUs, value)
        if (expected !== undefined) found++
        for (const part of Object.values(expected ?? {})) if (typeof part === 'number') assert.ok(Number.isFinite(part), `${k} at ${i}`)
        assert.deepEqual((i < 400 ? first : second_).observe(timeUs, value), expected, `${k} at ${i}`)
      }
      assert.ok(found > 0, `${k} found nothing`)
    }
    assert.throws(() => new LevelShiftCheck({ window: 8 }).read(stateOf(new LevelShiftCheck({ window: 9 }))), KymoError)
    assert.throws(() => new StuckCheck({ forUs: 0 }), KymoError)
  })
})

function stateOf(check: Check): StateReader {
  const writer = beginState('TEST', 1, 64)
  check.write(writer)
  return new StateReader(writer.finish(), 'TEST', 1)
}

void describe('several metrics of a device', () => {
  /** Two that go together; in `broken` rows they do not, though each is where it usually is. */
  function pair(count: number, broken: (i: number) => boolean): Float64Array[] {
    const random = new SeededRandom(4)
    return Array.from({ length: count }, (_, i) => {
      const common = random.normal()
      const sign = broken(i) ? -1 : 1
      return Float64Array.of(
        20 + 3 * common + 0.2 * random.normal(),
        50 + sign * 6 * (broken(i) ? 1.5 * Math.sign(common) : common) + 0.2 * random.normal(),
      )
    })
  }
  const metrics = ['temperature', 'humidity']

  void it('have the distance of the textbook', () => {
    // Of uncorrelated metrics with deviation 1 and 10 the distance of (3, 40) is 5, and half of those of others lie below 1.18.
    const random = new SeededRandom(5)
    const joint = new JointDetector({ metrics, rate: 1, refractory: 0 })
    const sizes: number[] = []
    const distance = (found: Anomaly | undefined): number =>
      found?.parts?.find(({ statistic }) => statistic.startsWith('distance'))?.size ?? Number.NaN
    for (let i = 0; i < 3_000; i++) sizes.push(distance(joint.observe(i * second, Float64Array.of(random.normal(), 10 * random.normal()))))
    const known = sizes.filter(Number.isFinite).toSorted((a, b) => a - b)
    assert.ok(known.length > 1_000)
    const far = distance(joint.observe(3_000 * second, Float64Array.of(3, 40)))
    assert.ok(Math.abs(far - 5) < 0.6, `${far}`)
  })

  void it('alarm when they no longer go together, which none of them shows alone', () => {
    const joint = new JointDetector({ metrics })
    const values = pair(3_000, (i) => i >= 2_800 && i < 2_810)
    // One absurd row must not make everything after it look near.
    values[2_200] = Float64Array.of(1e6, -1e6)
    const found = values.flatMap((row, i) => joint.observe(i * second, row) ?? [])
    const hit = found.find(({ timeUs }) => timeUs >= 2_800 * second && timeUs < 2_810 * second)
    assert.equal(hit?.statistic, 'distance of the metrics together')
    assert.ok(hit.rarity! < 0.001 && hit.parts![0]!.surprise > 3)
    assert.ok(found.length <= 8, `${found.length}`)
  })

  void it('go on after a snapshot as if nothing had been, and take rows with holes', () => {
    const values = pair(1_200, (i) => i === 1_100)
    const random = new SeededRandom(6)
    for (const row of values)
      if (random.next() < 0.1) row[random.next() < 0.5 ? 0 : 1] = random.pick([Number.NaN, 1e9, 1.7e308, Number.NEGATIVE_INFINITY])
    const options = { metrics, memory: 256, rate: 0.01 }
    const [whole, first] = [new JointDetector(options), new JointDetector(options)]
    let second_: JointDetector | undefined
    for (const [i, row] of values.entries()) {
      const found = whole.observe(i * second, row)
      if (i < 600) first.observe(i * second, row)
      if (i === 599) second_ = JointDetector.restore(first.snapshot())
      if (i >= 600) {
        assert.deepEqual(second_!.observe(i * second, row), found)
        assert.equal(second_!.rarity, whole.rarity)
      }
      assert.ok(whole.rarity > 0 && whole.rarity <= 1)
      for (const part of Object.values(found ?? {})) if (typeof part === 'number') assert.ok(Number.isFinite(part), `at ${i}`)
    }
    assert.throws(() => JointDetector.restore(first.snapshot().subarray(0, 500)), KymoError)
    assert.throws(() => first.observe(0, Float64Array.of(1)), KymoError)
    assert.throws(() => new JointDetector({ metrics: ['alone'] }), KymoError)
  })
})
