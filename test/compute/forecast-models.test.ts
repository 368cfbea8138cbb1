import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import process from 'node:process'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { averageOf } from '../../src/compute/forecast/ensemble.ts'
import type { Model } from '../../src/compute/forecast/model.ts'
import { train } from '../../src/compute/forecast/model.ts'
import { forecasterOf, forecasters, readModel, writeModel } from '../../src/compute/forecast/registry.ts'
import { select } from '../../src/compute/forecast/select.ts'
import type { Refusal, Series } from '../../src/compute/forecast/series.ts'
import { isRefusal, upTo } from '../../src/compute/forecast/series.ts'
import { KymoError } from '../../src/core/errors.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { fuzzRuns } from '../support/effort.ts'
import { dailySeries, seriesOf } from '../support/synthetic-series.ts'

const options = { horizon: 24, season: 24, seed: 7 }

function fitted(kind: string, series: Series, o: Partial<typeof options> = {}): Model {
  const model = train(forecasterOf(kind)!.fit(series, { ...options, ...o }))
  if (model === undefined || isRefusal(model)) throw new Error(`${kind}: ${JSON.stringify(model)}`)
  return model
}

function forecast(model: Model, history: Series): Float64Array | Refusal {
  const out = new Float64Array(model.horizon)
  return model.predict(history, out) ?? out
}

const code = (wanted: string) => (error: unknown) => error instanceof KymoError && error.code === wanted

for (const { kind } of forecasters) {
  void describe(kind, () => {
    void it('does not know what comes after the present', () => {
      const series = dailySeries(900, 3)
      const present = 700
      const random = new SeededRandom(1)
      const shuffled = { ...series, values: series.values.map((v, i) => (i < present ? v : 1e6 * random.normal())) }
      const [a, b] = [fitted(kind, upTo(series, present)), fitted(kind, upTo(shuffled, present))]
      assert.deepEqual(forecast(a, upTo(series, present)), forecast(b, upTo(shuffled, present)))
      assert.deepEqual(a.body(), b.body())
    })

    void it('reads no further back than its context says', () => {
      const series = dailySeries(900, 3)
      const model = fitted(kind, upTo(series, 700))
      const history = upTo(series, 800)
      assert.deepEqual(forecast(model, upTo(series, 800, 800 - model.context)), forecast(model, history))
    })

    void it('is the same in its file, whose damage is noticed', () => {
      const series = dailySeries(900, 3)
      const model = fitted(kind, upTo(series, 700))
      const file = writeModel(model, { seed: 7, span: { from: '2024-01-01T00:00:00Z' } })
      const { model: back, card } = readModel(file)
      assert.equal(card['seed'], 7)
      assert.equal(card['kind'], kind)
      assert.deepEqual([back.kind, back.horizon, back.context, back.stepUs], [kind, model.horizon, model.context, model.stepUs])
      for (let at = 700; at < 890; at += 17) assert.deepEqual(forecast(back, upTo(series, at)), forecast(model, upTo(series, at)))
      fc.assert(
        fc.property(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
          const damaged = Uint8Array.from(file)
          damaged[at]! ^= by
          assert.throws(
            () => readModel(damaged),
            (error) => error instanceof KymoError && error.kind === 'corrupt',
          )
        }),
        fuzzRuns(100),
      )
      for (const cut of [0, 5, 12, 30, file.length - 1])
        assert.throws(
          () => readModel(file.subarray(0, cut)),
          (error) => error instanceof KymoError && error.kind === 'corrupt',
        )
    })

    void it('gives the same bits in another process', () => {
      const script = `
        import { train } from './src/compute/forecast/model.ts'
        import { forecasterOf } from './src/compute/forecast/registry.ts'
        import { dailySeries } from './test/support/synthetic-series.ts'
        const model = train(forecasterOf('${kind}').fit(dailySeries(700, 3), ${JSON.stringify(options)}))
        const out = new Float64Array(24)
        model.predict(dailySeries(700, 3), out)
        process.stdout.write(Buffer.from(model.body()).toString('hex') + ' ' + Buffer.from(out.buffer).toString('hex'))`
      const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 30_000 })
      const series = dailySeries(700, 3)
      const model = fitted(kind, series)
      const out = forecast(model, series)
      assert.ok(!isRefusal(out))
      assert.equal(run.stdout, `${Buffer.from(model.body()).toString('hex')} ${Buffer.from(out.buffer).toString('hex')}`, run.stderr)
    })

    void it('can be stopped while it is trained', () => {
      const training = forecasterOf(kind)!.fit(dailySeries(2_000, 3), options)
      assert.equal(training.next().done, false)
      assert.equal(training.return({ refused: 'no_values', detail: 'cancelled' }).done, true)
      assert.equal(
        train(forecasterOf(kind)!.fit(dailySeries(2_000, 3), options), () => false),
        undefined,
      )
    })

    const nan = Number.NaN
    const gap = (values: Float64Array, from: number, to: number): Float64Array => values.map((v, i) => (i >= from && i < to ? nan : v))
    const plain = dailySeries(900, 3).values
    const bad: Record<string, ArrayLike<number>> = {
      'no step at all': [],
      'one value': [21.5],
      'two values': [21.5, 22],
      'nothing but missing values': new Float64Array(500).fill(nan),
      'a constant': new Float64Array(500).fill(3.25),
      'a constant with one outlier': new Float64Array(500).fill(3.25).map((v, i) => (i === 250 ? 1e9 : v)),
      'an outlier of a billion': plain.map((v, i) => (i === 500 ? 1e9 : v)),
      'an outlier as the last value': plain.map((v, i) => (i === 899 ? 1e9 : v)),
      'the largest doubles': plain.map((v, i) => (i % 50 === 0 ? Number.MAX_VALUE : i % 50 === 25 ? -Number.MAX_VALUE : v)),
      'nothing but huge values': plain.map((v) => v * 1e306),
      'a sensor that has stopped': gap(plain, 600, 900),
      'a gap of two days before the end': gap(plain, 840, 888),
      'every other value missing': plain.map((v, i) => (i % 2 === 0 ? v : nan)),
      'infinite values': plain.map((v, i) => (i % 90 === 0 ? Number.POSITIVE_INFINITY : v)),
      'two values, far apart': Float64Array.from({ length: 900 }, (_, i) => (i === 3 ? 1 : i === 700 ? 2 : nan)),
      'steps up and down': plain.map((_, i) => (Math.floor(i / 100) % 2) * 1e6),
      'tiny values': plain.map((v) => v * 1e-300),
    }
    void it('serves no NaN of bad input, and gives a reason', () => {
      const good = fitted(kind, seriesOf(plain))
      for (const [name, values] of Object.entries(bad)) {
        const series = seriesOf(values)
        const trained = train(forecasterOf(kind)!.fit(series, options))
        assert.ok(trained !== undefined)
        for (const model of isRefusal(trained) ? [good] : [good, trained]) check(forecast(model, series), name)
        if (isRefusal(trained)) assert.ok(trained.detail.length > 10 && !/NaN|undefined|Infinity/.test(trained.detail), `${name}: ${trained.detail}`)
      }
    })
  })
}

function check(found: Float64Array | Refusal, name: string): void {
  if (isRefusal(found)) assert.ok(found.detail.length > 10 && !/NaN|undefined|Infinity/.test(found.detail), `${name}: ${found.detail}`)
  else assert.ok(found.every(Number.isFinite), `${name}: ${found.join(' ')}`)
}

void describe('ridge and bad input', () => {
  void it('is hardly moved by an outlier of a billion, in training and in the history', () => {
    const series = dailySeries(900, 3)
    const hurt = { ...series, values: series.values.map((v, i) => (i === 500 || i === 780 ? 1e9 : v)) }
    const [a, b] = [fitted('ridge', upTo(series, 700)), fitted('ridge', upTo(hurt, 700))]
    const [x, y] = [forecast(a, upTo(series, 800)), forecast(b, upTo(hurt, 800))]
    assert.ok(!isRefusal(x) && !isRefusal(y))
    x.forEach((v, h) => assert.ok(Math.abs(v - y[h]!) < 1, `${h}: ${v} and ${y[h]}`))
  })

  void it('says how many values are missing', () => {
    const refused = train(forecasterOf('ridge')!.fit(dailySeries(40), options))
    assert.ok(refused !== undefined && isRefusal(refused) && refused.refused === 'too_little_data' && refused.missing! > 0)
    const enough = train(forecasterOf('ridge')!.fit(dailySeries(40 + refused.missing!), options))
    assert.ok(enough !== undefined && !isRefusal(enough), JSON.stringify(enough))
  })
})

void describe('model files', () => {
  void it('of something else, of another version or of an unknown kind are refused by name', () => {
    assert.throws(() => readModel(Buffer.from('{"not":"a model"}')), code('model_format'))
    const file = writeModel(fitted('seasonal-naive', dailySeries(100)), {})
    const newer = Uint8Array.from(file)
    newer[8] = 9
    assert.throws(() => readModel(newer), code('model_format'))
    assert.throws(() => readModel(writeModel({ ...fitted('seasonal-naive', dailySeries(100)), kind: 'oracle' }, {})), code('model_format'))
    assert.throws(() => readModel(writeModel({ ...fitted('seasonal-naive', dailySeries(100)), kind: 'ridge' }, {})), code('model_corrupt'))
  })
})

void describe('ensembles', () => {
  void it('are the average of their members, in their file too', () => {
    const series = dailySeries(900, 3)
    const members = [fitted('ridge', upTo(series, 700)), fitted('holt-winters', upTo(series, 700)), fitted('seasonal-naive', series, { horizon: 30 })]
    const model = averageOf(members)
    assert.equal(model.horizon, 24)
    const history = upTo(series, 800)
    const parts = members.map((member) => {
      const out = new Float64Array(24)
      assert.equal(member.predict(history, out), undefined)
      return out
    })
    const found = forecast(model, history)
    assert.ok(!isRefusal(found))
    found.forEach((v, h) => assert.ok(Math.abs(v - (parts[0]![h]! + parts[1]![h]! + parts[2]![h]!) / 3) < 1e-12))
    assert.deepEqual(forecast(readModel(writeModel(model, {})).model, history), found)
    // Ridge needs more of the past than this; the others answer.
    const short = forecast(model, upTo(series, 800, 750))
    assert.ok(!isRefusal(short) && short.every(Number.isFinite))
  })
})

void describe('selection', () => {
  const chosen = (series: Series, o: Partial<typeof options> = {}): ReturnType<typeof run> => run(series, o)
  const run = (series: Series, o: Partial<typeof options>) => {
    const work = select(series, { ...options, ...o, kinds: forecasters, measure: 'mae' })
    for (;;) {
      const step = work.next()
      if (step.done === true) return step.value
    }
  }

  void it('promotes nothing that loses to seasonal naive', () => {
    // Days that repeat themselves, with noise that has no memory and is small beside jumps from hour to hour within the day.
    const random = new SeededRandom(2)
    const day = Array.from({ length: 24 }, () => 50 * random.normal())
    const repeated = seriesOf(Float64Array.from({ length: 24 * 30 }, (_, i) => day[i % 24]!))
    const found = chosen(repeated)
    assert.ok(!isRefusal(found))
    assert.equal(found.name, 'seasonal-naive')
    // Where each day is the one before it and what happened since, nothing can be better but by chance: a few of twelve look so.
    let promoted = 0
    for (let seed = 1; seed <= 12; seed++) {
      const chance = new SeededRandom(seed)
      const values = Float64Array.from({ length: 24 * 20 }, () => 10 * chance.normal())
      for (let i = 24; i < values.length; i++) values[i] = values[i - 24]! + 0.3 * values[i]!
      const some = chosen(seriesOf(values))
      assert.ok(!isRefusal(some))
      if (some.name !== 'seasonal-naive') promoted++
      assert.ok(
        some.name === 'seasonal-naive' || (some.skill > 0 && some.candidates.some(({ name, skill }) => name === some.name && skill === some.skill)),
      )
    }
    assert.ok(promoted <= 3, `${promoted} of 12 were promoted`)
  })

  void it('chooses what forecasts better, and refuses with the number of steps that are missing', () => {
    const found = chosen(dailySeries(1_500, 4))
    assert.ok(!isRefusal(found) && found.skill > 0.1, JSON.stringify(found))
    assert.equal(found.candidates[0]!.name, 'seasonal-naive')
    assert.ok(found.past.origins.length > 100)
    const refused = chosen(dailySeries(30))
    assert.ok(isRefusal(refused) && refused.refused === 'too_little_data')
    const enough = chosen(dailySeries(30 + refused.missing!))
    assert.ok(!isRefusal(enough), JSON.stringify(enough))
  })

  void it('is not decided by one outlier among the targets', () => {
    const series = dailySeries(1_500, 4)
    const hurt = { ...series, values: series.values.map((v, i) => (i === 1_400 ? 1e9 : v)) }
    const [a, b] = [chosen(series), chosen(hurt)]
    assert.ok(!isRefusal(a) && !isRefusal(b))
    assert.ok(Math.abs(a.skill - b.skill) < 0.1, `${a.skill} and ${b.skill}`)
  })
})
