import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Anomaly } from '../../src/compute/anomaly/anomaly.ts'
import { RollingDistribution } from '../../src/compute/anomaly/rolling-distribution.ts'
import type { SurpriseOptions } from '../../src/compute/anomaly/surprise.ts'
import { SurpriseDetector } from '../../src/compute/anomaly/surprise.ts'
import { KymoError } from '../../src/core/errors.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { hourUs } from '../support/synthetic-series.ts'

const stepUs = hourUs / 12

/** A day's wave with noise, every five minutes. */
function wave(count: number, seed: number): Float64Array {
  const random = new SeededRandom(seed)
  return Float64Array.from({ length: count }, (_, i) => 20 + 5 * Math.sin((2 * Math.PI * i) / 288) + 0.5 * random.normal())
}

function scoresOf(values: Float64Array, options?: SurpriseOptions): { readonly scores: number[]; readonly alarms: Anomaly[] } {
  const detector = new SurpriseDetector(options)
  const [scores, alarms]: [number[], Anomaly[]] = [[], []]
  for (const [i, value] of values.entries()) {
    const found = detector.observe(i * stepUs, value)
    if (found !== undefined) alarms.push(found)
    scores.push(detector.score)
  }
  return { scores, alarms }
}

void describe('a rolling distribution', () => {
  void it('ranks as counting does, through a full turn', () => {
    const [random, distribution, kept] = [new SeededRandom(1), new RollingDistribution(500), [] as number[]]
    for (let i = 0; i < 1_700; i++) {
      // Few different values: ties are counted half.
      const value = Math.round(random.normal() * 20)
      if (i >= 500 && i % 7 === 0) {
        const last = kept.slice(-500)
        const [above, equal] = [last.filter((v) => v > value).length, last.filter((v) => v === value).length]
        const below = 500 - above - equal
        if (above + equal > 10) assert.equal(distribution.above(value), (above + (equal + 1) / 2) / 501)
        if (below + equal > 10) assert.equal(distribution.below(value), (below + (equal + 1) / 2) / 501)
      }
      distribution.push(value)
      kept.push(value)
    }
    assert.equal(distribution.size, 500)
    const sorted = kept.slice(-500).toSorted((a, b) => a - b)
    assert.equal(distribution.quantile(0), sorted[0])
    assert.equal(distribution.quantile(1), sorted[499])
  })

  void it('goes on beyond what was seen as an exponential tail does', () => {
    const distribution = new RollingDistribution(4_000)
    // Quantiles of the exponential distribution: the true probability above x is exp(-x).
    for (let i = 0; i < 4_000; i++) distribution.push(-Math.log((i + 0.5) / 4_000))
    for (const x of [4.5, 6, 8, 10]) assert.ok(Math.abs(Math.log(distribution.above(x)) + x) < 0.1 * x, `${x}: ${distribution.above(x)}`)
    assert.ok(distribution.above(1e30) >= 1e-9)
    for (let x = 0, last = 1; x < 20; x += 0.01) {
      const p = distribution.above(x)
      assert.ok(p <= last * 1.3 && p > 0, `${x}`)
      last = p
    }
  })

  void it('says nothing of few values, and takes none that is no number', () => {
    const distribution = new RollingDistribution(64)
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 1, 2, 3]) distribution.push(value)
    assert.deepEqual([distribution.size, distribution.above(1e9), distribution.below(Number.NaN)], [3, 1, 1])
  })
})

void describe('conformal surprise', () => {
  void it('knows only the past: what comes later changes no score', () => {
    const values = wave(3_000, 2)
    const other = values.slice()
    other.set([...other.subarray(2_000)].toReversed(), 2_000)
    const [a, b] = [scoresOf(values).scores, scoresOf(other).scores]
    assert.deepEqual(a.slice(0, 2_000), b.slice(0, 2_000))
    assert.notDeepEqual(a, b)
  })

  void it('goes on after a snapshot as if nothing had been', () => {
    const values = wave(2_500, 3)
    values[2_400] = 90
    // One on each side of the cut: the refractory period goes on as well.
    values[1_495] = 90
    values[1_510] = 95
    const whole = scoresOf(values, { memory: 1_024 })
    const first = new SurpriseDetector({ memory: 1_024 })
    for (let i = 0; i < 1_500; i++) first.observe(i * stepUs, values[i]!)
    const second = SurpriseDetector.restore(first.snapshot())
    const alarms: Anomaly[] = []
    for (let i = 1_500; i < 2_500; i++) {
      const found = second.observe(i * stepUs, values[i]!)
      if (found !== undefined) alarms.push(found)
      assert.equal(second.score, whole.scores[i])
    }
    assert.deepEqual(
      alarms,
      whole.alarms.filter(({ timeUs }) => timeUs >= 1_500 * stepUs),
    )
    assert.equal(alarms.length, 1)
    const bytes = first.snapshot()
    assert.throws(
      () => SurpriseDetector.restore(bytes.subarray(0, 300)),
      (thrown) => thrown instanceof KymoError && thrown.code === 'store_format',
    )
  })

  void it('alarms about as often as promised on noise that stays the same', () => {
    for (const [seed, memory] of [
      [4, 0],
      [5, 0.8],
    ] as const) {
      const random = new SeededRandom(seed)
      let state = 0
      const noise = Float64Array.from({ length: 12_000 }, () => (state = memory * state + random.normal()))
      for (const [rate, off] of [
        [0.01, 0.0035],
        [0.001, 0.001],
      ] as const) {
        const { alarms } = scoresOf(noise, { threshold: 0, refractory: 0, rate, memory: 2_048 })
        assert.ok(Math.abs(alarms.length / noise.length - rate) <= off, `${alarms.length} of ${noise.length}`)
      }
      const usual = scoresOf(noise).alarms.length / noise.length
      assert.ok(usual <= 0.0015, `${usual} by the usual threshold`)
    }
  })

  void it('finds a spike, a shifted level and a wave that fails, with evidence', () => {
    const at = 2_900
    const spike = wave(3_200, 6)
    spike[at] = 60
    const shifted = wave(3_200, 6).map((v, i) => (i < at ? v : v + 12))
    const flat = wave(3_200, 6).map((v, i) => (i < at ? v : 20 + (v - 20) / 100))
    for (const values of [spike, shifted]) {
      const found = scoresOf(values).alarms.find(({ timeUs }) => timeUs >= at * stepUs)!
      assert.ok(found.timeUs < (at + 12) * stepUs, `${found.timeUs / stepUs}`)
      assert.ok(found.rarity! < 0.01 && found.size >= found.threshold)
      assert.ok(found.lower! < found.expected! && found.expected! < found.upper! && found.value > found.upper!)
      assert.ok(Math.abs(found.expected! - wave(3_200, 6)[at]!) < 4)
      assert.ok(found.parts!.every(({ surprise }, k) => k === 0 || surprise <= found.parts![k - 1]!.surprise))
      assert.equal(found.statistic, found.parts![0]!.statistic)
    }
    assert.ok(
      scoresOf(flat)
        .scores.slice(at)
        .some((score, i) => i < 400 && score > 8),
    )
  })

  void it('takes a forecast as what was expected', () => {
    const detector = new SurpriseDetector()
    const values = wave(3_000, 7)
    const found: Anomaly[] = []
    for (const [i, value] of values.entries()) {
      const expected = 20 + 5 * Math.sin((2 * Math.PI * i) / 288)
      const anomaly = detector.observe(i * stepUs, i === 2_500 ? value + 4.5 : value, expected)
      if (anomaly !== undefined) found.push(anomaly)
    }
    const spike = found.find(({ timeUs }) => timeUs === 2_500 * stepUs)!
    assert.ok(spike.parts!.find(({ statistic }) => statistic === 'difference from the forecast')!.surprise > 4)
    assert.equal(spike.expected, 20 + 5 * Math.sin((2 * Math.PI * 2_500) / 288))
    assert.ok(Math.abs(spike.parts!.reduce((sum, { surprise }) => sum + surprise, 0) - spike.size) < 1e-9)
  })

  void it('survives whatever sensors send', () => {
    const random = new SeededRandom(8)
    const kinds: readonly (readonly [string, (i: number) => number])[] = [
      ['constant', () => 0.1],
      ['constant, then another', (i) => (i < 700 ? 0.1 : 0.2)],
      ['no numbers', (i) => (i % 3 === 0 ? Number.NaN : i % 3 === 1 ? Number.POSITIVE_INFINITY : random.normal())],
      ['outliers', (i) => (i % 500 === 499 ? 1e9 : random.normal())],
      ['the largest numbers', (i) => (i % 2 === 0 ? 1.7e308 : -1.7e308)],
      ['the smallest numbers', (i) => (i % 5) * 5e-324],
      ['two values', (i) => (i >> 4) & 1],
    ]
    for (const [name, value] of kinds) {
      const detector = new SurpriseDetector({ memory: 512 })
      for (let i = 0; i < 1_500; i++) {
        // Times that come twice, go back, and stop for a year.
        const timeUs = (i > 1_000 ? 365 * 24 * hourUs : 0) + (i % 100 === 99 ? i - 5 : i - (i % 2)) * stepUs
        const found = detector.observe(timeUs, value(i))
        assert.ok(Number.isFinite(detector.score) && detector.rarity > 0 && detector.rarity <= 1, `${name} at ${i}`)
        for (const part of Object.values(found ?? {})) if (typeof part === 'number') assert.ok(Number.isFinite(part), `${name} at ${i}`)
      }
      const again = SurpriseDetector.restore(detector.snapshot())
      detector.observe(0, 3)
      again.observe(0, 3)
      assert.equal(again.score, detector.score, name)
    }
  })

  void it('is not blinded by one reading of 10^9', () => {
    const values = wave(4_000, 9)
    values[2_000] = 1e9
    // Six days later, at the same hour.
    values[3_728] = 60
    const { alarms } = scoresOf(values)
    assert.ok(alarms.some(({ timeUs }) => timeUs === 2_000 * stepUs))
    const later = alarms.find(({ timeUs }) => timeUs === 3_728 * stepUs)!
    const away = later.parts!.find(({ statistic }) => statistic === 'deviation from the slow mean')!
    assert.ok(away.size > 30 && away.size < 50, `${away.size}`)
    assert.ok(later.expected! > 12 && later.expected! < 28, `${later.expected}`)
  })

  void it('refuses options that make no sense', () => {
    for (const options of [{ memory: 10 }, { rate: 0 }, { refractory: -1 }, { threshold: Number.NaN }])
      assert.throws(() => new SurpriseDetector(options), KymoError)
  })
})
