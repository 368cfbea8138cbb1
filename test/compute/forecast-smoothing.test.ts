import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Smoothing } from '../../src/compute/forecast/holt-winters.ts'
import { holtWinters, smooth } from '../../src/compute/forecast/holt-winters.ts'
import { minimise } from '../../src/compute/forecast/minimise.ts'
import { train } from '../../src/compute/forecast/model.ts'
import { isRefusal } from '../../src/compute/forecast/series.ts'
import { dailySeries, seriesOf } from '../support/synthetic-series.ts'

const everything = { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY }

/**
 * The component form of Holt and Winters (Hyndman and Athanasopoulos, 8.3): l = alpha (y - s) + (1 - alpha)(l + phi b), b = beta* (l - l') + (1 -
 * beta*) phi b, s = gamma (y - l' - phi b) + (1 - gamma) s, from the same beginning. The states of all steps are kept.
 */
function byComponents(
  y: Float64Array,
  m: number,
  { alpha, beta, gamma, phi }: Smoothing,
): { level: number; trend: number; season: number[]; mse: number } {
  const mean = (from: number): number => y.subarray(from, from + m).reduce((a, b) => a + b) / m
  const [first, second] = [mean(0), mean(m)]
  const trend0 = (second - first) / m
  const levels = [first - (trend0 * (m + 1)) / 2]
  const trends = [trend0]
  const seasons = Array.from({ length: m }, (_, i) => (y[i]! - first + (y[m + i]! - second)) / 2)
  let squares = 0
  for (let t = 0; t < y.length; t++) {
    const before = levels[t]! + phi * trends[t]!
    if (t >= 2 * m) squares += (y[t]! - before - seasons[t]!) ** 2
    levels.push(alpha * (y[t]! - seasons[t]!) + (1 - alpha) * before)
    trends.push(beta * (levels[t + 1]! - levels[t]!) + (1 - beta) * phi * trends[t]!)
    seasons.push(gamma * (y[t]! - before) + (1 - gamma) * seasons[t]!)
  }
  return { level: levels.at(-1)!, trend: trends.at(-1)!, season: seasons.slice(-m), mse: squares / (y.length - 2 * m) }
}

void describe('Holt and Winters', () => {
  void it('is the recursion of its components', () => {
    const { values } = dailySeries(400, 7)
    for (const smoothing of [
      { alpha: 0.3, beta: 0.1, gamma: 0.2, phi: 0.95 },
      { alpha: 0.9, beta: 0.7, gamma: 0.05, phi: 0.8 },
      { alpha: 0.05, beta: 0.01, gamma: 0.4, phi: 0.998 },
    ]) {
      const state = smooth(values, 24, smoothing, everything)!
      const expected = byComponents(values, 24, smoothing)
      close(state.level, expected.level)
      close(state.trend, expected.trend)
      close(state.error, expected.mse)
      const season = Array.from({ length: 24 }, (_, h) => state.season[(state.phase + h) % 24]!)
      season.forEach((v, h) => close(v, expected.season[h]!))
    }
  })

  void it('goes on with the damped trend and the season', () => {
    const { values, ...rest } = dailySeries(240, 2)
    const smoothing = { alpha: 0.4, beta: 0.2, gamma: 0.1, phi: 0.9 }
    const model = train(holtWinters.fit({ ...rest, values }, { horizon: 30, season: 24, seed: 1, tuning: smoothing }))
    assert.ok(model !== undefined && !isRefusal(model))
    const out = new Float64Array(30)
    assert.equal(model.predict({ ...rest, values }, out), undefined)
    const state = byComponents(values, 24, smoothing)
    for (let h = 1; h <= 30; h++) {
      let damped = 0
      for (let k = 1; k <= h; k++) damped += 0.9 ** k
      close(out[h - 1]!, state.level + damped * state.trend + state.season[(h - 1) % 24]!)
    }
  })

  void it('finds constants that are better than others', () => {
    const series = dailySeries(600, 4)
    const model = train(holtWinters.fit(series, { horizon: 1, season: 24, seed: 1 }))
    assert.ok(model !== undefined && !isRefusal(model))
    const { alpha, beta, gamma, phi } = model.facts as unknown as Smoothing
    const own = smooth(series.values, 24, { alpha, beta, gamma, phi }, everything)!.error
    for (const other of [0.1, 0.3, 0.5, 0.8]) {
      for (const season of [0.02, 0.1, 0.15]) {
        assert.ok(own <= smooth(series.values, 24, { alpha: other, beta: 0.1, gamma: season, phi: 0.95 }, everything)!.error + 1e-9)
      }
    }
  })

  void it('moves on over missing values as expected, and needs no season', () => {
    const values = Float64Array.from({ length: 60 }, (_, i) => (i > 30 && i < 36 ? Number.NaN : 2 + 0.5 * i))
    const model = train(holtWinters.fit(seriesOf(values), { horizon: 3, season: 1, seed: 1, tuning: { alpha: 0.8, beta: 0.5, gamma: 0, phi: 1 } }))
    assert.ok(model !== undefined && !isRefusal(model))
    const out = new Float64Array(3)
    assert.equal(model.predict(seriesOf(values), out), undefined)
    out.forEach((v, h) => assert.ok(Math.abs(v - (2 + 0.5 * (60 + h))) < 0.01, `${v}`))
  })
})

void describe('the simplex', () => {
  void it('finds the minimum of the Rosenbrock valley and of a bowl', () => {
    const run = (f: (x: Float64Array) => number, start: number[]): Float64Array => {
      const work = minimise(f, start, 0.5, 4_000)
      let step = work.next()
      while (step.done !== true) step = work.next()
      return step.value.x
    }
    const valley = run(([x = 0, y = 0]) => (1 - x) ** 2 + 100 * (y - x * x) ** 2, [-1.2, 1])
    valley.forEach((v) => assert.ok(Math.abs(v - 1) < 1e-2, `${v}`))
    const bowl = run((x) => x.reduce((sum, v, i) => sum + (i + 1) * (v - i) ** 2, 0), [5, 5, 5, 5])
    bowl.forEach((v, i) => assert.ok(Math.abs(v - i) < 1e-2, `${v}`))
  })
})

function close(found: number, expected: number): void {
  assert.ok(Math.abs(found - expected) < 1e-9 * Math.max(1, Math.abs(expected)), `${found} and not ${expected}`)
}
