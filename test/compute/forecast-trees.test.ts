import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { train } from '../../src/compute/forecast/model.ts'
import type { Model } from '../../src/compute/forecast/model.ts'
import { readModel } from '../../src/compute/forecast/registry.ts'
import type { Series } from '../../src/compute/forecast/series.ts'
import { isRefusal, upTo } from '../../src/compute/forecast/series.ts'
import { binEdges, binOf } from '../../src/compute/forecast/trees/bins.ts'
import { GrowingForest } from '../../src/compute/forecast/trees/forest.ts'
import { boost, gradientBoosting } from '../../src/compute/forecast/trees/gradient-boosting.ts'
import type { BinnedRows, GrowOptions } from '../../src/compute/forecast/trees/grow.ts'
import { Grower } from '../../src/compute/forecast/trees/grow.ts'
import { bag, randomForest } from '../../src/compute/forecast/trees/random-forest.ts'
import { planOf, shapeOf } from '../../src/compute/forecast/trees/rows.ts'
import { KymoError } from '../../src/core/errors.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { encodeModelFile } from '../../src/wire/model-file.ts'
import { fuzzRuns } from '../support/effort.ts'
import { answers, finish } from '../support/tree-rows.ts'
import { dailySeries, seriesOf } from '../support/synthetic-series.ts'

/** Targets are whole numbers, so that sums are exact in any order. */
function randomRows(random: SeededRandom, rows: number, bins: readonly number[]): BinnedRows {
  return {
    columns: bins.map((count) => Uint8Array.from({ length: rows }, () => Math.floor(random.next() * count))),
    bins,
    targets: Float64Array.from({ length: rows }, () => Math.floor(random.between(-50, 50))),
  }
}

const sum = (rows: readonly number[], targets: Float64Array): number => rows.reduce((s, row) => s + targets[row]!, 0)

interface BruteNode {
  readonly value?: number
  readonly feature?: number
  readonly goesLeft?: (bin: number) => boolean
  readonly left?: BruteNode
  readonly right?: BruteNode
}

/** The same tree without histograms: every split is tried by dividing the rows. */
function bruteForce(
  rows: readonly number[],
  sample: BinnedRows,
  o: GrowOptions,
  weight: number,
  pick: () => readonly number[],
  depth = 0,
): BruteNode {
  const total = sum(rows, sample.targets)
  const own = { value: Math.fround((weight * total) / (rows.length + o.shrinkage)) }
  if (depth >= o.depth || rows.length < 2 * o.leafRows) return own
  let best = total ** 2 / (rows.length + o.shrinkage) + 1e-12 * rows.length
  let found: { feature: number; goesLeft: (bin: number) => boolean } | undefined
  for (const feature of pick()) {
    const column = sample.columns[feature]!
    const missing = rows.some((row) => column[row] === 0)
    for (const missingRight of missing ? [true, false] : [false]) {
      for (let end = missingRight ? 1 : 0; end < sample.bins[feature]! - 1; end++) {
        const left = rows.filter((row) => column[row]! <= end && !(missingRight && column[row] === 0))
        const others = rows.length - left.length
        if (left.length < o.leafRows || others < o.leafRows) continue
        const part = sum(left, sample.targets)
        const score = part ** 2 / (left.length + o.shrinkage) + (total - part) ** 2 / (others + o.shrinkage)
        if (!(score > best)) continue
        best = score
        const zeroLeft = missing ? !missingRight : 2 * left.length >= rows.length
        found = { feature, goesLeft: (bin) => (bin === 0 ? zeroLeft : bin <= end) }
      }
    }
  }
  if (found === undefined) return own
  const { feature, goesLeft } = found
  const side = (left: boolean): number[] => rows.filter((row) => goesLeft(sample.columns[feature]![row]!) === left)
  const grow = (part: readonly number[]): BruteNode => bruteForce(part, sample, o, weight, pick, depth + 1)
  return { feature, goesLeft, left: grow(side(true)), right: grow(side(false)) }
}

function bruteAnswer(node: BruteNode, sample: BinnedRows, row: number): number {
  if (node.goesLeft === undefined) return node.value!
  return bruteAnswer(node.goesLeft(sample.columns[node.feature!]![row]!) ? node.left! : node.right!, sample, row)
}

void describe('bins', () => {
  void it('hold about as many values each, in order, missing ones apart', () => {
    const random = new SeededRandom(3)
    const values = Float64Array.from({ length: 5_000 }, (_, i) => (i % 50 === 0 ? Number.NaN : random.normal()))
    const edges = binEdges(values, 64)
    assert.equal(edges.length, 62)
    const counts = new Uint32Array(64)
    for (const v of values) counts[binOf(edges, v)]!++
    assert.equal(counts[0], 100)
    for (const count of counts.subarray(1)) assert.ok(Math.abs(count - 4_900 / 63) < 3, `${count}`)
  })

  void it('are bytes in the order of values, whatever these are', () => {
    const number = fc.oneof(fc.double(), fc.integer({ min: -3, max: 3 }))
    fc.assert(
      fc.property(fc.array(number, { maxLength: 600 }), fc.integer({ min: 3, max: 255 }), (list, bins) => {
        const values = Float64Array.from(list)
        const edges = binEdges(values, bins)
        assert.ok(edges.length <= bins - 2 && edges.every((e, i) => Number.isFinite(e) && (i === 0 || e > edges[i - 1]!)))
        const finite = values.filter(Number.isFinite).sort()
        finite.forEach((v, i) => assert.ok(i === 0 || binOf(edges, v) >= binOf(edges, finite[i - 1]!)))
        assert.ok(values.every((v) => (binOf(edges, v) === 0) === !Number.isFinite(v)))
        // What has a place of its own keeps it.
        const different = new Set(finite.map((v) => v + 0)).size
        if (different < bins) assert.equal(new Set(finite.map((v) => binOf(edges, v))).size, different)
      }),
      fuzzRuns(200),
    )
  })
})

void describe('trees', () => {
  void it('are those of a search that divides the rows for every split', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.record({ depth: fc.integer({ min: 1, max: 6 }), leafRows: fc.integer({ min: 1, max: 8 }), shrinkage: fc.constantFrom(0, 3) }),
        (seed, how) => {
          const sample = randomRows(new SeededRandom(seed), 60, [3, 8, 2, 20])
          const options = { ...how, candidates: 4 }
          const forest = new GrowingForest()
          const chosen = Int32Array.from(sample.targets, (_, row) => row)
          finish(new Grower(sample, options).grow(forest, chosen, sample.targets, 1, new SeededRandom(1)))
          const rows = Array.from(sample.targets, (_, row) => row)
          const tree = bruteForce(rows, sample, options, 1, () => [0, 1, 2, 3])
          const found = answers(forest.finish(), sample)
          for (const row of rows) assert.equal(found[row], bruteAnswer(tree, sample, row))
        },
      ),
      fuzzRuns(60),
    )
  })

  void it('make the forest that drawing rows and features by the same dice makes by hand', () => {
    const sample = randomRows(new SeededRandom(5), 150, [4, 12, 30, 7, 2])
    const settings = { trees: 8, depth: 9, leafRows: 2, candidates: 2 }
    const found = answers(finish(bag(sample, settings, new SeededRandom(11))), sample)
    const dice = new SeededRandom(11)
    const order = [0, 1, 2, 3, 4]
    const pick = (): number[] => {
      for (const k of [0, 1]) {
        const other = k + Math.floor(dice.next() * (5 - k))
        ;[order[k], order[other]] = [order[other]!, order[k]!]
      }
      return order.slice(0, 2)
    }
    const sums = new Float64Array(150)
    for (let t = 0; t < settings.trees; t++) {
      const rows = Array.from({ length: 150 }, () => Math.floor(dice.next() * 150)).toSorted((a, b) => a - b)
      const tree = bruteForce(rows, sample, { ...settings, shrinkage: 0 }, 1 / settings.trees, pick)
      sums.forEach((_, row) => (sums[row]! += bruteAnswer(tree, sample, row)))
    }
    assert.deepEqual(found, sums)
  })

  void it('added one after the other leave less and less, as their sum says', () => {
    const sample = randomRows(new SeededRandom(6), 300, [10, 10, 10])
    const all = Int32Array.from(sample.targets, (_, row) => row)
    const grower = new Grower(sample, { depth: 3, leafRows: 5, candidates: 3, shrinkage: 0 })
    const errors: number[] = []
    let left = new Float64Array(0)
    const settings = { rate: 0.3, part: 1, grower, random: new SeededRandom(1) }
    const { forest, bias } = finish(
      boost(sample, all, settings, 40, (rest) => {
        left = Float64Array.from(rest)
        errors.push(rest.reduce((s, e) => s + e * e, 0))
        return true
      }),
    )
    errors.forEach((error, i) => assert.ok(i === 0 || error < errors[i - 1]!))
    answers(forest, sample).forEach((found, row) => assert.ok(Math.abs(sample.targets[row]! - bias - found - left[row]!) < 1e-9))
  })
})

const options = { horizon: 12, season: 24, seed: 7 }

function fitted(kind: typeof randomForest, series: Series, o: Partial<Parameters<typeof kind.fit>[1]> = {}): Model {
  const model = train(kind.fit(series, { ...options, ...o }))
  if (model === undefined || isRefusal(model)) throw new Error(JSON.stringify(model))
  return model
}

function forecast(model: Model, history: Series): Float64Array {
  const out = new Float64Array(model.horizon)
  assert.equal(model.predict(history, out), undefined)
  return out
}

/** Trees that learn every row by heart, one after the other what the last one could not. */
const byHeart = {
  trees: 16,
  rate: 1,
  rows_per_tree: 1,
  shrinkage: 0,
  leaf_rows: 1,
  depth: 16,
  tail: 0,
  features: 1,
  rows: 65_536,
  rows_per_step: 12,
  bins: 255,
}

void describe('rows of features', () => {
  void it('have the names of the calendar, the past and the same hour; slow cycles only of series that have seen two turns of them', () => {
    const humid = { ...dailySeries(24 * 20), covariates: [{ name: 'humidity', values: dailySeries(24 * 20, 2).values }] }
    const plan = planOf(shapeOf(humid, 24))
    const names = [...plan.past, ...plan.calendar, ...plan.pair]
    assert.equal(names.length, plan.width)
    for (const name of [
      'lag_1h',
      'lag_24h',
      'rolling_mean_3h',
      'rolling_std_24h',
      'humidity',
      'humidity_diff_24h',
      'hour',
      'hour_sin',
      'weekday_cos',
    ])
      assert.ok(names.includes(name), name)
    for (const name of ['horizon', 'same_hour_1', 'same_hour_change_mean']) assert.ok(names.includes(name), name)
    assert.deepEqual(
      plan.past.filter((_, f) => plan.levels[f]!),
      [
        'lag_1h',
        'lag_2h',
        'lag_3h',
        'rolling_mean_3h',
        'lag_6h',
        'lag_12h',
        'lag_24h',
        'rolling_mean_6h',
        'rolling_mean_12h',
        'rolling_mean_24h',
      ].toSorted((a, b) => plan.past.indexOf(a) - plan.past.indexOf(b)),
    )
    assert.ok(!names.includes('month') && !names.includes('value'))
    assert.ok(planOf(shapeOf(dailySeries(24 * 731), 24)).calendar.includes('day_of_year_sin'))
    assert.ok(!planOf(shapeOf(dailySeries(24 * 13), 24)).calendar.includes('weekday'))
  })

  void it('are the same in a forecast as they were in training', () => {
    // Learned by heart, a row that comes again is answered with its target: only if every feature falls into the same bin.
    const covered = dailySeries(400, 4)
    const series = { ...covered, timeZone: 'Europe/Berlin', covariates: [{ name: 'humidity', values: dailySeries(400, 9).values }] }
    // The second time further ahead than a season, of which there are several then.
    for (const [horizon, season] of [
      [12, 24],
      [32, 8],
    ] as const) {
      const model = fitted(gradientBoosting, series, { horizon, season, tuning: { ...byHeart, rows_per_step: horizon } })
      let [n, all] = [0, 0]
      for (let at = 200; at < 360; at += 7) {
        forecast(model, upTo(series, at, at - model.context)).forEach((mean, h) => {
          all++
          if (Math.abs(mean - series.values[at + h]!) < 0.02) n++
        })
      }
      assert.ok(n > 0.97 * all, `${horizon} ahead: ${n} of ${all}`)
    }
  })

  void it('may have missing values, a quarter of them or a covariate altogether', () => {
    const random = new SeededRandom(4)
    const whole = dailySeries(1_200, 5)
    const holes = { ...whole, values: whole.values.map((v) => (random.next() < 0.25 ? Number.NaN : v)) }
    for (const kind of [randomForest, gradientBoosting]) {
      const model = fitted(kind, upTo(holes, 1_000))
      let [own, naive] = [0, 0]
      for (let at = 1_000; at < 1_180; at += 5) {
        forecast(model, upTo(holes, at)).forEach((mean, h) => {
          own += (mean - whole.values[at + h]!) ** 2
          naive += (whole.values[at + h - 24]! - whole.values[at + h]!) ** 2
        })
      }
      assert.ok(own < 0.9 * naive, `${kind.kind}: ${own} and ${naive}`)
      const humid = { ...whole, covariates: [{ name: 'humidity', values: dailySeries(1_200, 6).values }] }
      assert.ok(forecast(fitted(kind, humid), whole).every(Number.isFinite))
    }
  })

  void it('of steps of ten minutes and of a week are made as well', () => {
    for (const [stepUs, season] of [
      [600e6, 144],
      [7 * 86_400e6, 1],
    ] as const) {
      const series = seriesOf(dailySeries(700, 2).values, { stepUs })
      for (const kind of [randomForest, gradientBoosting]) assert.ok(forecast(fitted(kind, series, { season }), series).every(Number.isFinite))
    }
  })
})

for (const kind of [randomForest, gradientBoosting]) {
  void describe(kind.kind, () => {
    void it('is better than a season before', () => {
      const series = dailySeries(1_500, 3)
      const model = fitted(kind, upTo(series, 1_200))
      let [own, naive] = [0, 0]
      for (let at = 1_200; at < 1_480; at += 3) {
        forecast(model, upTo(series, at)).forEach((mean, h) => {
          own += (mean - series.values[at + h]!) ** 2
          naive += (series.values[at + h - 24]! - series.values[at + h]!) ** 2
        })
      }
      assert.ok(own < 0.75 * naive, `${own} and ${naive}`)
    })

    void it('is the same by the same seed, and another by another', () => {
      const series = dailySeries(500, 3)
      assert.deepEqual(fitted(kind, series).body(), fitted(kind, series).body())
      assert.notDeepEqual(fitted(kind, series).body(), fitted(kind, series, { seed: 8 }).body())
    })

    void it('refuses tuning that it does not know, or that is out of range, and says how much is missing', () => {
      const series = dailySeries(500, 3)
      for (const tuning of [
        { leaves: 3 },
        { trees: 0 },
        { trees: 2.5 },
        { features: 1.5 },
        { bins: 256 },
        { depth: Number.NaN },
        { trees: 1_000, leaf_rows: 1, depth: 16 },
      ])
        assert.throws(
          () => fitted(kind, series, { tuning }),
          (error) => error instanceof KymoError && error.code === 'usage',
        )
      const refused = train(kind.fit(dailySeries(40), options))
      assert.ok(refused !== undefined && isRefusal(refused) && refused.refused === 'too_little_data' && refused.missing! > 0)
      fitted(kind, dailySeries(40 + refused.missing!))
    })

    void it('of a damaged body is refused, or walks to an end', () => {
      const series = dailySeries(500, 3)
      const trained = fitted(kind, series, { tuning: { trees: 5 } })
      const body = trained.body()
      fc.assert(
        fc.property(fc.nat(body.length - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
          const damaged = Uint8Array.from(body)
          damaged[at]! ^= by
          let model: Model
          try {
            model = readModel(encodeModelFile({ kind: kind.kind, card: {}, body: damaged })).model
          } catch (error) {
            assert.ok(error instanceof KymoError && (error.code === 'model_corrupt' || error.code === 'model_format'), String(error))
            return
          }
          const out = new Float64Array(Math.min(24, model.horizon))
          assert.ok(model.predict(series, out) !== undefined || out.every(Number.isFinite))
        }),
        fuzzRuns(300),
      )
      // The root as its own left child: no walk would end.
      const circle = Uint8Array.from(body)
      const root = body.length - 8 * Number(trained.facts['nodes'])
      circle.fill(0, root + 4, root + 8)
      assert.throws(
        () => readModel(encodeModelFile({ kind: kind.kind, card: {}, body: circle })),
        (error) => error instanceof KymoError && error.code === 'model_corrupt',
      )
      for (const cut of [7, 30, body.length >> 1, body.length - 1]) {
        const file = encodeModelFile({ kind: kind.kind, card: {}, body: body.subarray(0, cut) })
        assert.throws(
          () => readModel(file),
          (error) => error instanceof KymoError && error.code === 'model_corrupt',
        )
      }
    })
  })
}
