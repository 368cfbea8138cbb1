import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ResidualBands } from '../../src/compute/forecast/conformal.ts'
import { calibrate, calibrationOf, crossing, crossingProbability } from '../../src/compute/forecast/crossing.ts'
import { IntervalTally, naiveScaleOf, pinball, pointScores, skillOf } from '../../src/compute/forecast/metrics.ts'
import { KymoError } from '../../src/core/errors.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { fuzzRuns } from '../support/effort.ts'

/** Issues at every step; each matures step by step, as in the world. `draw(i)` is the residual of step i. */
function live(bands: ResidualBands, draw: (i: number) => number, from: number, to: number, onIssue: (i: number) => void = () => undefined): void {
  const residuals = new Map<number, number>()
  for (let i = from; i < to; i++) {
    residuals.set(i, draw(i))
    for (let h = 1; h <= bands.horizon; h++) if (i - h >= 0) bands.observe(i - h, h, residuals.get(i)!)
    onIssue(i)
    bands.issue(i)
  }
}

const zero = (n: number): Float64Array => new Float64Array(n)

function rates(bands: ResidualBands, draw: (i: number) => number, n: number, level: number): number {
  const tally = new IntervalTally(level)
  const pending: { i: number; lower: Float64Array; upper: Float64Array }[] = []
  const values: number[] = []
  live(
    bands,
    (i) => (values[i] = draw(i)),
    0,
    n,
    (i) => {
      const [lower, upper] = [zero(bands.horizon), zero(bands.horizon)]
      bands.interval(zero(bands.horizon), level, lower, upper)
      pending.push({ i, lower, upper })
    },
  )
  for (const { i, lower, upper } of pending)
    for (let h = 1; h <= bands.horizon; h++)
      if (i + h < n && i > 300 && lower[h - 1] === lower[h - 1]) tally.add(lower[h - 1]!, upper[h - 1]!, values[i + h]!)
  return tally.scores().coverage
}

void describe('intervals', () => {
  void it('hold each other by level, lower below upper, at every moment', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 20, max: 120 }), fc.double({ min: 0.001, max: 0.3, noNaN: true }), (seed, n, rate) => {
        const random = new SeededRandom(seed >>> 0)
        const bands = new ResidualBands({ horizon: 3, issues: 60, rate })
        live(bands, () => random.normal() ** 3, 0, n)
        const means = Float64Array.from([5, 5, 5])
        let before: [Float64Array, Float64Array] | undefined
        for (let level = 0.02; level < 0.9999; level += 0.0311) {
          const [lower, upper] = [zero(3), zero(3)]
          bands.interval(means, level, lower, upper)
          for (let h = 0; h < 3; h++) {
            if (bands.residuals(h + 1) < 20) {
              assert.ok(Number.isNaN(lower[h]!) && Number.isNaN(upper[h]!))
              continue
            }
            assert.ok(lower[h]! <= upper[h]!)
            if (before !== undefined) assert.ok(lower[h]! <= before[0][h]! && upper[h]! >= before[1][h]!, `level ${level}, step ${h}`)
          }
          before = [lower, upper]
        }
      }),
      fuzzRuns(60),
    )
  })

  void it('cover what they promise: noise, noise that grows, errors that jump, a lopsided law', () => {
    const laws: Record<string, (random: SeededRandom, i: number) => number> = {
      normal: (random) => random.normal(),
      growing: (random, i) => random.normal() * (1 + i / 1_000),
      jump: (random, i) => random.normal() * (i < 1_500 ? 1 : 3) + (i < 1_500 ? 0 : 2),
      lopsided: (random) => -Math.log(1 - random.next()),
    }
    for (const [name, law] of Object.entries(laws)) {
      for (const level of [0.8, 0.9, 0.95]) {
        const random = new SeededRandom(11)
        const coverage = rates(new ResidualBands({ horizon: 4, issues: 512, rate: 0.005 }), (i) => law(random, i), 6_000, level)
        assert.ok(Math.abs(coverage - level) < 0.012, `${name}: ${coverage} of ${level}`)
      }
    }
  })

  void it('goes on from a snapshot at any cut as if nothing had been', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 90 }), fc.integer(), (cut, seed) => {
        const draws = (): ((i: number) => number) => {
          const random = new SeededRandom(seed >>> 0)
          const values = Array.from({ length: 120 }, () => (random.next() < 0.1 ? Number.NaN : random.normal()))
          return (i) => values[i]!
        }
        const whole = new ResidualBands({ horizon: 3, issues: 40, rate: 0.05 })
        live(whole, draws(), 0, 120)
        const first = new ResidualBands({ horizon: 3, issues: 40, rate: 0.05 })
        live(first, draws(), 0, cut)
        const second = ResidualBands.restore(first.snapshot())
        assert.deepEqual(second.snapshot(), first.snapshot())
        // Issues before the cut mature behind it.
        live(second, draws(), cut, 120)
        assert.deepEqual(second.snapshot(), whole.snapshot())
      }),
      fuzzRuns(40),
    )
  })

  void it('takes each residual once, and none that is no number or forgotten', () => {
    const bands = new ResidualBands({ horizon: 2, issues: 3 })
    assert.equal(bands.observe(10, 1, 1), true)
    assert.equal(bands.observe(10, 1, 2), false)
    assert.equal(bands.observe(10, 2, Number.NaN), false)
    assert.equal(bands.observe(10, 3, 1), false)
    assert.equal(bands.observe(9, 1, 1), false)
    for (const issue of [11, 12, 13]) bands.observe(issue, 1, issue)
    assert.equal(bands.observe(10, 2, 1), false)
    assert.equal(bands.issues, 3)
    assert.equal(bands.residuals(1), 3)
    assert.throws(
      () => ResidualBands.restore(Uint8Array.from([1, 2, 3])),
      (error) => error instanceof KymoError && error.code === 'store_format',
    )
    assert.throws(
      () => ResidualBands.restore(bands.snapshot().subarray(0, 30)),
      (error) => error instanceof KymoError && error.code === 'store_format',
    )
  })
})

void describe('the probability of crossing', () => {
  const filled = (n: number, seed = 3): ResidualBands => {
    const random = new SeededRandom(seed)
    const bands = new ResidualBands({ horizon: 6, issues: 600 })
    for (let i = 0; i < n; i++) {
      let walk = 0
      for (let h = 1; h <= 6; h++) bands.observe(i, h, (walk += random.normal()))
    }
    return bands
  }

  void it('is the share of paths that go across, and rises with the steps and as the threshold falls', () => {
    const bands = filled(500)
    const means = zero(6)
    let before = 1
    for (let threshold = -6; threshold < 10; threshold += 0.5) {
      const p = crossingProbability(means, bands, { threshold, side: 'above', steps: 6 })!
      assert.ok(p > 0 && p < 1 && p <= before)
      before = p
      assert.ok(p >= crossingProbability(means, bands, { threshold, side: 'above', steps: 3 })!)
    }
    // A random walk of six steps is above 2 at some step with a probability of .302 (a million walks, simulated apart).
    const p = crossingProbability(means, bands, { threshold: 2, side: 'above', steps: 6 })!
    assert.ok(Math.abs(p - 0.302) < 0.06, `${p}`)
    const below = crossingProbability(means, bands, { threshold: -2, side: 'below', steps: 6 })!
    assert.ok(Math.abs(below - 0.302) < 0.06, `${below}`)
  })

  void it('says that there is no skill, or too little, in place of a number', () => {
    const question = { threshold: 1, side: 'above', steps: 6 } as const
    const answer = (skill: number, n = 500): string => {
      const found = crossing(zero(6), filled(n), question, { skill })
      return 'refused' in found ? found.refused : 'number'
    }
    assert.equal(answer(0.3), 'number')
    assert.equal(answer(0), 'no_skill')
    assert.equal(answer(Number.NaN), 'no_skill')
    assert.equal(answer(0.3, 20), 'too_little_data')
    const random = new SeededRandom(5)
    const said = Array.from({ length: 400 }, () => random.next())
    const unrelated = calibrationOf(
      said,
      said.map(() => (random.next() < 0.3 ? 1 : 0)),
    )
    assert.ok(unrelated.skill < 0)
    const found = crossing(zero(6), filled(500), question, { skill: 0.3, calibration: unrelated })
    assert.ok('refused' in found && found.refused === 'no_skill')
  })

  void it('is calibrated where the errors are what they were', () => {
    const random = new SeededRandom(8)
    const [steps, n] = [6, 3_000]
    const y = Array.from({ length: n }, () => 0)
    for (let i = 1; i < n; i++) y[i] = 0.97 * y[i - 1]! + random.normal()
    const origins = Int32Array.from({ length: n - steps - 10 }, (_, k) => k + 10)
    const means = new Float64Array(origins.length * steps)
    const actuals = new Float64Array(origins.length * steps)
    origins.forEach((origin, k) => {
      for (let h = 0; h < steps; h++) {
        means[k * steps + h] = 0.97 ** (h + 1) * y[origin - 1]!
        actuals[k * steps + h] = y[origin + h]!
      }
    })
    const past = { horizon: steps, origins, means, actuals, refusals: 0, firstRefusal: undefined }
    const found = calibrate(past, { threshold: 4, side: 'above', steps }, (origin) => y[origin - 1]!)
    assert.ok(found.n > 1_500 && found.skill > 0.25, JSON.stringify(found))
    assert.ok(found.error < 0.05, JSON.stringify(found.bins))
  })

  void it('scores by hand', () => {
    const found = calibrationOf([0.9, 0.1, 0.6, 0.4], [1, 0, 0, 1])
    assert.ok(Math.abs(found.brier - (0.01 + 0.01 + 0.36 + 0.36) / 4) < 1e-12)
    assert.ok(Math.abs(found.skill - (1 - found.brier / 0.25)) < 1e-12)
    assert.equal(found.bins[9]!.n, 1)
  })
})

void describe('metrics', () => {
  void it('are what they are by hand', () => {
    const found = pointScores(Float64Array.from([1, -3, Number.NaN, 2]), 4)
    assert.deepEqual(found, { n: 3, mae: 2, mse: 14 / 3, rmse: Math.sqrt(14 / 3), bias: 0, mase: 0.5 })
    assert.equal(naiveScaleOf(Float64Array.from([1, 2, 4, Number.NaN, 3, 5]), 2), (3 + 1) / 2)
    assert.equal(pinball(0.9, 10, 12), 1.8)
    assert.ok(Math.abs(pinball(0.9, 10, 8) - 0.2) < 1e-12)
    assert.equal(skillOf(3, 4), 0.25)
    assert.ok(Number.isNaN(skillOf(1, 0)))
    const tally = new IntervalTally(0.8)
    for (const actual of [0, 5, 11, 4, Number.NaN]) tally.add(1, 10, actual)
    const { n, coverage, below, above, width } = tally.scores()
    assert.deepEqual([n, coverage, below, above, width], [4, 0.5, 0.25, 0.25, 9])
  })
})
