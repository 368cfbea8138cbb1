import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Forecaster, Model } from '../../src/compute/forecast/model.ts'
import { forecasters } from '../../src/compute/forecast/registry.ts'
import { seasonalNaive } from '../../src/compute/forecast/seasonal-naive.ts'
import type { Selection } from '../../src/compute/forecast/select.ts'
import { select } from '../../src/compute/forecast/select.ts'
import type { Series } from '../../src/compute/forecast/series.ts'
import { isRefusal, upTo } from '../../src/compute/forecast/series.ts'
import { weightsOf } from '../../src/compute/forecast/weights.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { fuzzRuns } from '../support/effort.ts'
import { dailySeries, seriesOf } from '../support/synthetic-series.ts'

const horizon = 12
const options = { horizon, season: 24, seed: 7, measure: 'mse' as const }

function chosen(series: Series, kinds: readonly Forecaster[], o: { readonly measure?: 'mae' | 'mse' } = {}): Selection {
  const work = select(series, { ...options, ...o, kinds })
  for (;;) {
    const step = work.next()
    if (step.done !== true) continue
    if (isRefusal(step.value)) throw new Error(step.value.detail)
    return step.value
  }
}

/** A wave, of which the noise cannot be foreseen: what is known of it is what kinds below are made of. */
const truth = (i: number): number => 10 * Math.sin((2 * Math.PI * i) / 24)
function noisy(steps: number, seed: number): Series {
  const random = new SeededRandom(seed)
  return seriesOf(Float64Array.from({ length: steps }, (_, i) => truth(i) + random.normal()))
}

/** Forecasts the wave, but for errors of its own, which hang on the present alone. */
function made(name: string, off: number, seed: number): Forecaster {
  const { restore, letters, version } = seasonalNaive
  const model: Model = {
    kind: name,
    horizon,
    context: 48,
    stepUs: 3_600e6,
    facts: {},
    predict(history, out) {
      const end = Math.round((history.startUs - noisy(0, 1).startUs) / history.stepUs) + history.values.length
      const random = new SeededRandom(seed * 1_000_003 + end)
      for (let h = 0; h < out.length; h++) out[h] = truth(end + h) + off * random.normal()
      return undefined
    },
    body: () => new Uint8Array(),
  }
  return {
    kind: name,
    letters,
    version,
    restore,
    *fit() {
      yield 0.5
      return model
    },
  }
}

void describe('weights of an average', () => {
  const errors = (n: number, off: (k: number) => number, seed: number, shared = 0): Float64Array[] => {
    const random = new SeededRandom(seed)
    const common = Float64Array.from({ length: 4_000 }, () => shared * random.normal())
    return Array.from({ length: n }, (_, k) => common.map((c) => c + off(k) * random.normal()))
  }

  void it('are none negative and together 1, whatever the errors, and go with their errors wherever these stand', () => {
    const column = fc.array(fc.oneof(fc.double({ min: -1e6, max: 1e6, noNaN: true }), fc.constant(Number.NaN)), { minLength: 12, maxLength: 12 })
    fc.assert(
      fc.property(fc.array(column, { minLength: 2, maxLength: 6 }), fc.double({ min: 0.1, max: 500, noNaN: true }), (columns, blocks) => {
        const all = columns.map((values) => Float64Array.from(values))
        const weights = weightsOf(all, blocks)
        assert.ok(weights.every((w) => w >= 0 && w <= 1))
        assert.ok(Math.abs(weights.reduce((a, b) => a + b) - 1) < 1e-9)
        assert.deepEqual(weightsOf(all, blocks), weights)
        const turned = weightsOf(all.toReversed(), blocks).toReversed()
        turned.forEach((w, i) => assert.ok(Math.abs(w - weights[i]!) < 1e-6, `${turned.join(' ')} and ${weights.join(' ')}`))
      }),
      fuzzRuns(60),
    )
  })

  void it('are equal where nothing is known, and where few blocks say little', () => {
    const empty = [new Float64Array(0), new Float64Array(0)]
    assert.deepEqual(weightsOf(empty, 5), [0.5, 0.5])
    const unlike = errors(2, (k) => 1 + 0.5 * k, 3, 2)
    const [few] = weightsOf(unlike, 1)
    const [many] = weightsOf(unlike, 1_000)
    assert.ok(few! < 0.75 && many! > few! + 0.1, `${few} ${many}`)
  })

  void it('are by the inverse of squared errors that are independent, where there are many blocks', () => {
    const weights = weightsOf(
      errors(3, (k) => [1, 1, 2][k]!, 5),
      100_000,
    )
    for (const [k, wanted] of [4 / 9, 4 / 9, 1 / 9].entries()) assert.ok(Math.abs(weights[k]! - wanted) < 0.04, weights.join(' '))
  })

  void it('leave out what would weigh next to nothing', () => {
    assert.deepEqual(
      weightsOf(
        errors(2, (k) => 1 + 5 * k, 7),
        100_000,
      ),
      [1, 0],
    )
  })
})

void describe('selection between kinds', () => {
  const steps = 1_200

  void it('averages what is about as good, and leaves out what is not', () => {
    const found = chosen(noisy(steps, 1), [made('a', 0.3, 1), made('b', 0.3, 2), made('c', 0.7, 3)])
    assert.deepEqual(found.name.split('+').toSorted(), ['a', 'b'])
    const [, one, other, worse, both] = found.candidates
    assert.equal(both!.name, found.name)
    assert.ok(both!.skill! > one!.skill! && both!.skill! > other!.skill! && worse!.skill! < one!.skill! - 0.1)
    const out = new Float64Array(horizon)
    assert.equal(found.champion.predict(noisy(steps, 1), out), undefined)
    assert.equal(found.champion.kind, 'ensemble')
  })

  void it('takes one alone where it is far better than all others', () => {
    assert.equal(chosen(noisy(steps, 1), [made('a', 0.1, 1), made('b', 1.2, 2)]).name, 'a')
  })

  void it('has forecasts of the last part that are those of its members, weighed', () => {
    const series = noisy(steps, 2)
    const { champion, past } = chosen(series, [made('a', 0.5, 1), made('b', 0.6, 2)])
    const out = new Float64Array(horizon)
    for (const [k, origin] of past.origins.entries()) {
      assert.equal(champion.predict(upTo(series, origin), out), undefined)
      out.forEach((v, h) => assert.ok(Math.abs(v - past.means[k * horizon + h]!) < 1e-9))
    }
  })

  void it('does not hang on the order of the kinds, bit by bit', () => {
    const made3 = [made('a', 0.5, 1), made('b', 0.5, 2), made('c', 0.55, 3)]
    const orders = [
      [0, 1, 2],
      [2, 1, 0],
      [1, 2, 0],
    ]
    for (const measure of ['mae', 'mse'] as const) {
      const all = orders.map((order) =>
        chosen(
          noisy(steps, 4),
          order.map((k) => made3[k]!),
          { measure },
        ),
      )
      for (const { name, skill, past } of all) {
        assert.equal(name, all[0]!.name)
        assert.equal(skill, all[0]!.skill)
        assert.deepEqual(past, all[0]!.past)
      }
    }
    const quick = forecasters.filter(({ kind }) => kind === 'ridge' || kind === 'holt-winters' || kind === 'seasonal-naive')
    const [a, b] = [chosen(dailySeries(1_500, 4), quick), chosen(dailySeries(1_500, 4), quick.toReversed())]
    assert.equal(a.name, b.name)
    assert.deepEqual(a.champion.body(), b.champion.body())
  })

  void it('promotes no average of what loses to seasonal naive', () => {
    // The wave alone, without noise: seasonal naive makes no error at all.
    const still = seriesOf(Float64Array.from({ length: steps }, (_, i) => truth(i)))
    assert.equal(chosen(still, [made('a', 0.5, 1), made('b', 0.5, 2)]).name, 'seasonal-naive')
    // Each loses by a little, and their average would win.
    const found = chosen(noisy(steps, 5), [made('a', 1.1, 1), made('b', 1.1, 2)])
    assert.equal(found.name, 'seasonal-naive')
  })
})
