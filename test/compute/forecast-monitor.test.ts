import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { driftOptions, ForecastMonitor, issueStride } from '../../src/compute/forecast/monitor.ts'
import { PageHinkley } from '../../src/compute/forecast/page-hinkley.ts'
import { ridge } from '../../src/compute/forecast/ridge.ts'
import { seasonalNaive } from '../../src/compute/forecast/seasonal-naive.ts'
import { select } from '../../src/compute/forecast/select.ts'
import type { Selection } from '../../src/compute/forecast/select.ts'
import { train, type Model } from '../../src/compute/forecast/model.ts'
import { upTo, type Series } from '../../src/compute/forecast/series.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { KymoError } from '../../src/core/errors.ts'
import { fuzzRuns } from '../support/effort.ts'
import { hourUs, mondayUs, seriesOf } from '../support/synthetic-series.ts'

const horizon = 24
const buffer = (n = horizon): Float64Array => new Float64Array(n)

function ended<T>(work: Generator<number, T, void>): T {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}

interface Weather {
  readonly amplitude: number
  readonly phase: number
  readonly noise: number
  readonly period: number
}

const usual: Weather = { amplitude: 4, phase: 0, noise: 1, period: 24 }

/** A day's wave and noise that hangs together from step to step by `phi`; `weather` may change on the way. */
function wave(steps: number, seed: number, phi: number, weather: (i: number) => Weather = () => usual): Series {
  const random = new SeededRandom(seed)
  let off = 0
  return seriesOf(
    Float64Array.from({ length: steps }, (_, i) => {
      const { amplitude, phase, noise, period } = weather(i)
      off = phi * off + Math.sqrt(1 - phi * phi) * noise * random.normal()
      return 20 + amplitude * Math.sin((2 * Math.PI * i) / period + phase) + off
    }),
  )
}

const learned = 2_000

interface Lived {
  readonly monitor: ForecastMonitor
  readonly highest: number
  readonly alarmed: number | undefined
  readonly lost: number | undefined
  readonly back: number | undefined
}

/** Series that begin alike are learned once: by their first values. */
const trained = new Map<string, Selection>()

/** Ridge, trained on the first 2,000 steps, and what its monitor tells afterwards. */
function live(series: Series): Lived {
  const known = upTo(series, learned)
  const name = known.values.join()
  const chosen = trained.get(name) ?? (ended(select(known, { kinds: [ridge], horizon, season: 24, seed: 1, measure: 'mae' })) as Selection)
  trained.set(name, chosen)
  assert.equal(chosen.name, 'ridge')
  const naive = train(seasonalNaive.fit(known, { horizon, season: 24, seed: 1 })) as Model
  const past = { backtest: chosen.past, startUs: series.startUs }
  const monitor = ForecastMonitor.begin({ horizon, stepUs: hourUs, level: 0.9, atUs: series.startUs + learned * hourUs, past })
  const [own, other, lower, upper] = [buffer(), buffer(), buffer(), buffer()]
  let highest = 0
  let [alarmed, lost, back]: (number | undefined)[] = []
  for (let i = learned; i < series.values.length; i++) {
    const history = upTo(series, i, i - 400)
    chosen.champion.predict(history, own)
    naive.predict(history, other)
    monitor.issue(own, other, lower, upper)
    if (monitor.observe(series.values[i]!)) alarmed ??= i
    highest = Math.max(highest, monitor.drift.statistic)
    if (monitor.skillLost) lost ??= i
    else if (lost !== undefined) back ??= i
  }
  return { monitor, highest, alarmed, lost, back }
}

void describe('what is known of forecasts, in detail', () => {
  void it('counts as one adds up afterwards, whatever was measured and however often it was snapshot', () => {
    const steps = fc.array(fc.oneof(fc.double({ min: -50, max: 50, noNaN: true }), fc.constant(Number.NaN)), { minLength: 5, maxLength: 120 })
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 12 }), fc.nat(), (actuals, h, every, seed) => {
        const random = new SeededRandom(seed)
        let monitor = ForecastMonitor.begin({ horizon: h, stepUs: hourUs, level: 0.8, atUs: mondayUs })
        const issues: { at: number; own: Float64Array; naive: Float64Array; lower: Float64Array; upper: Float64Array }[] = []
        for (let i = 0; i < actuals.length; i++) {
          const issue = {
            at: i,
            own: buffer(h).map(() => random.normal()),
            naive: buffer(h).map(() => random.normal()),
            lower: buffer(h),
            upper: buffer(h),
          }
          // Now and then a model has no answer.
          if (random.next() < 0.1) issue.own.fill(Number.NaN)
          monitor.issue(issue.own, issue.naive, issue.lower, issue.upper)
          // A second call at the same moment says nothing new.
          monitor.issue(issue.naive, issue.own, buffer(h), buffer(h))
          issues.push(issue)
          monitor.observe(actuals[i]!)
          if (i % every === 0) monitor = ForecastMonitor.restore(monitor.snapshot())
        }
        let [n, absolute, squared, sum, naive, naives, within, intervals] = [0, 0, 0, 0, 0, 0, 0, 0]
        for (const { at, own, naive: other, lower, upper } of issues)
          for (let k = 0; k < h && at + k < actuals.length; k++) {
            const [actual, error] = [actuals[at + k]!, own[k]! - actuals[at + k]!]
            if (Number.isNaN(error)) continue
            n++
            absolute += Math.abs(error)
            squared += error * error
            sum += error
            naive += Math.abs(other[k]! - actual)
            naives++
            if (Number.isNaN(lower[k]!)) continue
            intervals++
            if (actual >= lower[k]! && actual <= upper[k]!) within++
          }
        const found = monitor.accuracy()
        const close = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(b)) || (Number.isNaN(a) && Number.isNaN(b))
        assert.equal(found.n, n)
        const wanted = [absolute / n, Math.sqrt(squared / n), sum / n, naive / naives]
        assert.ok(
          [found.mae, found.rmse, found.bias, found.naiveMae].every((v, i) => close(v, wanted[i]!)),
          `${JSON.stringify(found)} ${wanted.join()}`,
        )
        // Ends are kept in single precision: a value on the border may fall to either side.
        if (intervals > 0) assert.ok(Math.abs(found.coverage * intervals - within) <= 1, `${found.coverage * intervals} ${within}`)
        assert.equal(monitor.atUs, mondayUs + actuals.length * hourUs)
        assert.deepEqual(ForecastMonitor.restore(monitor.snapshot()).snapshot(), monitor.snapshot())
      }),
      fuzzRuns(150),
    )
  })

  void it('issues of long horizons are so far apart that no more than 64 wait', () => {
    assert.deepEqual([1, 24, 64, 65, 96, 336, 1_024].map(issueStride), [1, 1, 1, 2, 2, 6, 16])
    const monitor = ForecastMonitor.begin({ horizon: 336, stepUs: hourUs, level: 0.9, atUs: mondayUs })
    let issued = 0
    for (let i = 0; i < 700; i++) {
      if (monitor.isDue) issued++
      monitor.issue(buffer(336), buffer(336), buffer(336), buffer(336))
      monitor.observe(1)
    }
    assert.equal(issued, 117)
    assert.ok(ForecastMonitor.restore(monitor.snapshot()).isDue === monitor.isDue)
  })

  void it('one value beyond belief counts in no error and is no drift', () => {
    const monitor = ForecastMonitor.begin({ horizon: 1, stepUs: hourUs, level: 0.9, atUs: mondayUs, bounds: { low: -100, high: 100 } })
    for (let i = 0; i < 100; i++) {
      monitor.issue(Float64Array.of(1), Float64Array.of(1), buffer(1), buffer(1))
      monitor.observe(i === 50 ? 1e9 : 2)
    }
    assert.deepEqual([monitor.accuracy().n, monitor.accuracy().mae, monitor.drift.sinceUs], [99, 1, undefined])
  })

  void it('refuses bytes that are no snapshot', () => {
    const bytes = ForecastMonitor.begin({ horizon: 3, stepUs: hourUs, level: 0.9, atUs: mondayUs }).snapshot()
    for (const damaged of [bytes.subarray(0, 40), Uint8Array.of(...bytes, 0), new Uint8Array(0), bytes.map((b, i) => (i === 6 ? 255 : b))])
      assert.throws(
        () => ForecastMonitor.restore(damaged),
        (thrown) => thrown instanceof KymoError && thrown.code === 'store_format',
      )
  })

  void it('jumps to another moment without what was waiting', () => {
    const monitor = ForecastMonitor.begin({ horizon: 3, stepUs: hourUs, level: 0.9, atUs: mondayUs })
    monitor.issue(buffer(3), buffer(3), buffer(3), buffer(3))
    monitor.jump(mondayUs + 100 * hourUs)
    monitor.observe(1)
    assert.deepEqual([monitor.accuracy().n, monitor.atUs], [0, mondayUs + 101 * hourUs])
  })
})

void describe('drift', () => {
  void it('Page-Hinkley sums up as its formula says', () => {
    const test = new PageHinkley({ allowance: 0.5, threshold: 3, weight: 4, most: 8 })
    // By hand: the mean is 1; 1 - 1 - .5 = -.5, then mean (4 + 1) / 5 = 1 again; 3 - 1 - .5 = 1.5; mean (4 + 4) / 6; 4 / (8 / 6) - 1.5 = 1.5.
    assert.deepEqual([test.push(1), test.statistic], [false, 0])
    assert.deepEqual([test.push(3), test.statistic], [false, 1.5])
    assert.deepEqual([test.push(4), test.statistic], [true, 3])
    assert.deepEqual(new PageHinkley({ allowance: 0.5, threshold: 3, weight: 4, most: 8 }, test.state).statistic, 3)
  })

  void it('is alarmed by nothing in 10,000 steps that go on as they were', () => {
    for (const [phi, seed] of [
      [0, 1],
      [0.7, 2],
      [0.95, 3],
    ] as const) {
      const { alarmed, lost, highest, monitor } = live(wave(learned + 10_000, seed, phi))
      assert.deepEqual([alarmed, lost], [undefined, undefined], `noise ${phi}, seed ${seed}: ${highest}`)
      const { skill, coverage } = monitor.accuracy()
      assert.ok(skill > 0.15 && coverage > 0.885 && coverage < 0.915, `noise ${phi}: skill ${skill}, coverage ${coverage}`)
    }
  })

  void it('is found within 25 to 50 steps when the day is another, within 100 when errors are three times as large, within 250 when twice', () => {
    const changes: readonly [string, Partial<Weather>, number][] = [
      ['the day is turned round', { phase: Math.PI }, 25],
      ['its swing is threefold', { amplitude: 12 }, 25],
      ['a day has 17 hours', { period: 17 }, 50],
      ['noise is threefold', { noise: 3 }, 100],
      ['noise is twofold', { noise: 2 }, 250],
    ]
    for (const [what, change, within] of changes)
      for (const [phi, seed] of [
        [0, 1],
        [0.7, 2],
        [0.95, 3],
      ] as const) {
        const at = 2_600
        const { alarmed = Number.POSITIVE_INFINITY, monitor } = live(
          wave(at + within + 10, seed, phi, (i) => (i < at ? usual : { ...usual, ...change })),
        )
        assert.ok(alarmed >= at && alarmed <= at + within, `${what}, noise ${phi}: found after ${alarmed - at} steps`)
        assert.equal(monitor.drift.sinceUs, mondayUs + (alarmed + 1) * hourUs)
        assert.ok(monitor.drift.statistic >= driftOptions.threshold)
        monitor.answered()
        assert.deepEqual([monitor.drift.sinceUs, monitor.drift.statistic], [undefined, 0])
      }
  })

  void it('takes skill away while the model is worse than seasonal naive, and gives it back', () => {
    const at = 2_600
    const { lost, back } = live(wave(at + 700, 1, 0, (i) => (i < at ? usual : { ...usual, phase: Math.PI })))
    assert.ok(lost !== undefined && lost > at && lost <= at + 5 * horizon, `lost after ${(lost ?? Number.NaN) - at}`)
    assert.ok(back !== undefined && back > lost, `back after ${(back ?? Number.NaN) - at}`)
  })

  void it('a refusal says nothing of skill', () => {
    const monitor = ForecastMonitor.begin({ horizon: 2, stepUs: hourUs, level: 0.9, atUs: mondayUs })
    for (let i = 0; i < 300; i++) {
      monitor.issue(buffer(2).fill(Number.NaN), buffer(2), buffer(2), buffer(2))
      monitor.observe(1)
    }
    assert.deepEqual([monitor.skillLost, monitor.accuracy().n], [false, 0])
  })
})
