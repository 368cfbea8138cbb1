import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Run } from '../../src/compute/forecast/lag-moments.ts'
import { addMoments, lagMoments } from '../../src/compute/forecast/lag-moments.ts'
import { errorOf, joinRidges, solveRidge } from '../../src/compute/forecast/ridge-equations.ts'
import { ridge } from '../../src/compute/forecast/ridge.ts'
import { seasonPhase, waveAt } from '../../src/compute/forecast/season-waves.ts'
import { isRefusal, upTo } from '../../src/compute/forecast/series.ts'
import { train } from '../../src/compute/forecast/model.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { dailySeries, hourUs } from '../support/synthetic-series.ts'
import { fuzzRuns } from '../support/effort.ts'

function finish<T>(work: Generator<unknown, T, void>): T {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}

/** Gauss's elimination with pivots: another way to the same weights. */
function eliminate(a: number[][], b: number[]): number[] {
  const n = b.length
  const m = a.map((row, i) => [...row, b[i]!])
  for (let k = 0; k < n; k++) {
    let pivot = k
    for (let i = k + 1; i < n; i++) if (Math.abs(m[i]![k]!) > Math.abs(m[pivot]![k]!)) pivot = i
    ;[m[k], m[pivot]] = [m[pivot]!, m[k]!]
    for (let i = k + 1; i < n; i++) {
      const by = m[i]![k]! / m[k]![k]!
      for (let j = k; j <= n; j++) m[i]![j]! -= by * m[k]![j]!
    }
  }
  const x = Array.from({ length: n }, () => 0)
  for (let i = n - 1; i >= 0; i--) {
    let sum = m[i]![n]!
    for (let j = i + 1; j < n; j++) sum -= m[i]![j]! * x[j]!
    x[i] = sum / m[i]![i]!
  }
  return x
}

const noise = (n: number, seed: number): Float64Array => {
  const random = new SeededRandom(seed)
  return Float64Array.from({ length: n }, () => random.normal())
}

void describe('sums of products over sliding windows', () => {
  void it('are those of all windows added up one by one, over any runs', () => {
    const runs = fc.array(fc.tuple(fc.nat(30), fc.integer({ min: 1, max: 20 })), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(runs, fc.integer({ min: 1, max: 9 }), fc.nat(1000), (pairs, width, seed) => {
        const values = noise(60, seed)
        const extras = [noise(60, seed + 1), noise(60, seed + 2)]
        const list: Run[] = pairs.map(([from, length]) => ({ from, to: from + length }))
        const found = finish(lagMoments(values, width, list, extras))
        const expected = { products: new Float64Array(width * width), withExtras: new Float64Array(2 * width), ofExtras: new Float64Array(4) }
        let count = 0
        for (const { from, to } of list) {
          for (let t = from; t < to; t++, count++) {
            for (let i = 0; i < width; i++) for (let j = 0; j < width; j++) expected.products[i * width + j]! += values[t + i]! * values[t + j]!
            for (let k = 0; k < 2; k++) for (let i = 0; i < width; i++) expected.withExtras[k * width + i]! += extras[k]![t]! * values[t + i]!
            for (let k = 0; k < 2; k++) for (let l = 0; l < 2; l++) expected.ofExtras[2 * k + l]! += extras[k]![t]! * extras[l]![t]!
          }
        }
        assert.equal(found.count, count)
        near(found.products, expected.products)
        near(found.withExtras, expected.withExtras)
        near(found.ofExtras, expected.ofExtras)
      }),
      fuzzRuns(60),
    )
  })
})

function near(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-9): void {
  assert.equal(found.length, expected.length)
  for (let i = 0; i < found.length; i++) {
    assert.ok(Math.abs(found[i]! - expected[i]!) <= tolerance * Math.max(1, Math.abs(expected[i]!)), `at ${i}: ${found[i]} and not ${expected[i]}`)
  }
}

void describe('ridge', () => {
  for (const level of ['last', 'mean'] as const) {
    void it(`has the weights that the normal equations have, solved another way (${level})`, () => {
      const [inputs, window, horizon, extras] = [9, 7, 4, 3]
      const values = noise(300, 5).map((v, i, all) => v + 0.7 * (i > 0 ? all[i - 1]! : 0) + 2)
      const columns = [values.map(() => 1), values.map((_, i) => Math.sin(i / 4)), values.map((_, i) => Math.cos(i / 4))]
      const runs = [
        { from: 3, to: 120 },
        { from: 140, to: 280 },
      ]
      const moments = finish(lagMoments(values, inputs + horizon, runs, columns))
      const shape = { window, level, extras, penalty: 0.2 }
      const horizons = Int32Array.from([1, 2, 3, 4])
      const weights = finish(solveRidge(moments, inputs, shape, horizons))
      assert.ok(weights !== undefined)
      const rows: number[][] = []
      const targets: number[][] = []
      for (const { from, to } of runs) {
        for (let t = from; t < to; t++) {
          const x = Array.from(values.subarray(t + inputs - window, t + inputs))
          const base = level === 'last' ? x.at(-1)! : x.reduce((a, b) => a + b) / window
          rows.push([...x.map((v) => v - base), ...columns.map((column) => column[t]!)])
          targets.push(Array.from(values.subarray(t + inputs, t + inputs + horizon), (v) => v - base))
        }
      }
      const size = window + extras
      const gram = Array.from({ length: size }, (_, i) =>
        Array.from({ length: size }, (_, j) => rows.reduce((sum, row) => sum + row[i]! * row[j]!, 0)),
      )
      const mean = gram.slice(0, window).reduce((sum, row, i) => sum + row[i]! / window, 0)
      for (let i = 0; i < size; i++) gram[i]![i]! += i < window ? 0.2 * mean * 1.5 * Math.sqrt((window - i) / window) : 0.01 * mean
      let squares = 0
      for (let h = 0; h < horizon; h++) {
        const cross = Array.from({ length: size }, (_, i) => rows.reduce((sum, row, r) => sum + row[i]! * targets[r]![h]!, 0))
        const expected = eliminate(gram, cross)
        near(weights.subarray(h * size, (h + 1) * size), expected, 1e-8)
        rows.forEach((row, r) => (squares += (row.reduce((sum, v, i) => sum + v * expected[i]!, 0) - targets[r]![h]!) ** 2))
      }
      assert.ok(Math.abs(errorOf(moments, inputs, shape, horizons, weights) - squares / rows.length / horizon) < 1e-9)
    })
  }

  void it('joined answers with the mean of what its parts answer', () => {
    const shapes = [
      { window: 3, level: 'mean', extras: 2, penalty: 1 },
      { window: 5, level: 'last', extras: 0, penalty: 2 },
    ] as const
    const parts = shapes.map((shape, k) => ({ shape, weights: noise(2 * (shape.window + shape.extras), k + 1) }))
    const joined = joinRidges(parts, 2)
    assert.deepEqual(joined.shape, { window: 5, level: 'last', extras: 2, penalty: 1 })
    const [x, waves] = [noise(5, 8), [1, 0.3]]
    const answer = ({ shape, weights }: (typeof parts)[number] | typeof joined, h: number): number => {
      const own = x.subarray(5 - shape.window)
      const level = shape.level === 'last' ? x[4]! : own.reduce((a, b) => a + b) / shape.window
      const at = h * (shape.window + shape.extras)
      const past = own.reduce((sum, v, i) => sum + weights[at + i]! * (v - level), level)
      return waves.slice(0, shape.extras).reduce((sum, v, k) => sum + weights[at + shape.window + k]! * v, past)
    }
    for (const h of [0, 1]) assert.ok(Math.abs(answer(joined, h) - (answer(parts[0]!, h) + answer(parts[1]!, h)) / 2) < 1e-12)
  })

  void it('adds windows up the same in parts and in one', () => {
    const values = noise(100, 9)
    const [a, b, all] = [[{ from: 0, to: 40 }], [{ from: 40, to: 80 }], [{ from: 0, to: 80 }]].map((runs) => finish(lagMoments(values, 8, runs, [])))
    near(addMoments(a!, b!).products, all!.products)
  })

  void it('finds the rule of a series that has one, at a level never seen', () => {
    // x(t) = x(t-24) + 0.1 exactly: known from the window, whatever the level is.
    const values = Float64Array.from({ length: 1200 }, (_, i) => Math.sin((2 * Math.PI * (i % 24)) / 24) * 3 + 0.1 * Math.floor(i / 24))
    const series = { ...dailySeries(1), values }
    const model = train(ridge.fit(upTo(series, 1000), { horizon: 24, season: 24, seed: 1, tuning: { penalty: 1e-7, window: 48 } }))
    assert.ok(model !== undefined && !isRefusal(model))
    const out = new Float64Array(24)
    assert.equal(model.predict(upTo(series, 1150), out), undefined)
    for (let h = 0; h < 24; h++) assert.ok(Math.abs(out[h]! - values[1150 + h]!) < 0.05, `${h}: ${out[h]} and not ${values[1150 + h]}`)
  })

  void it('chooses for itself, in pieces, and does better than the season before', () => {
    const series = dailySeries(2000, 3)
    const pieces: number[] = []
    const training = ridge.fit(upTo(series, 1800), { horizon: 12, season: 24, seed: 1 })
    let step = training.next()
    for (; step.done !== true; step = training.next()) pieces.push(step.value)
    assert.ok(!isRefusal(step.value))
    assert.ok(pieces.length > 10 && pieces.every((share) => share >= 0 && share <= 1))
    const model = step.value
    let [own, naive] = [0, 0]
    const out = new Float64Array(12)
    for (let at = 1800; at + 12 <= 2000; at++) {
      assert.equal(model.predict(upTo(series, at), out), undefined)
      for (let h = 0; h < 12; h++) {
        own += (out[h]! - series.values[at + h]!) ** 2
        naive += (series.values[at + h - 24]! - series.values[at + h]!) ** 2
      }
    }
    assert.ok(own < 0.6 * naive, `${own} against ${naive}`)
  })

  void it('learns from no window whose present or targets were made up', () => {
    const windows = (missing: readonly number[]): number => {
      const { values, ...rest } = dailySeries(400, 3)
      const holed = values.map((v, i) => (missing.includes(i) ? Number.NaN : v))
      const model = train(ridge.fit({ ...rest, values: holed }, { horizon: 12, season: 24, seed: 1, tuning: { window: 24 } }))
      assert.ok(model !== undefined && !isRefusal(model))
      return Number(model.facts['windows'])
    }
    const all = 400 - 24 - 12 + 1
    assert.equal(windows([]), all)
    // A short gap: its step is no present, though its line is believed as a target.
    assert.equal(windows([200]), all - 1)
    // A long one of five: targets at 165 to 180, the present at 177 to 181, more than a tenth of the inputs at 179 to 202, where windows begin.
    assert.equal(windows([200, 201, 202, 203, 204]), all - (202 - 165 + 1))
  })

  void it('reads the season off the wall clock of its zone', () => {
    const phase = seasonPhase(hourUs, 24, 'Europe/Berlin')
    assert.equal(phase(Date.UTC(2024, 0, 10, 11) * 1e3), 0.5)
    assert.equal(phase(Date.UTC(2024, 6, 10, 10) * 1e3), 0.5)
    assert.equal(waveAt(0.25, 1), 1)
    assert.ok(Math.abs(waveAt(0.25, 2)) < 1e-12)
  })
})
