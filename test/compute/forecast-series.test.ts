import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { calendarColumns } from '../../src/compute/forecast/calendar.ts'
import { calendarFeatures, pastFeatures } from '../../src/compute/forecast/features.ts'
import { boundsOf, fill } from '../../src/compute/forecast/fill.ts'
import { resample, usualStepUs } from '../../src/compute/forecast/resample.ts'
import { seasonOf, upTo } from '../../src/compute/forecast/series.ts'
import { KymoError } from '../../src/core/errors.ts'
import { dailySeries, hourUs, mondayUs } from '../support/synthetic-series.ts'
import { fuzzRuns } from '../support/effort.ts'

const at = (text: string): number => Date.parse(text) * 1e3

void describe('resampling', () => {
  void it('gives each step the mean of its readings, and none to a step without', () => {
    const found = resample(
      { timesUs: Float64Array.from([0, 10e6, 59e6, 61e6, 250e6]), values: Float64Array.from([1, 2, 3, 10, 7]) },
      { stepUs: 60e6, place: 'interval' },
    )
    assert.deepEqual(found, { startUs: 0, stepUs: 60e6, values: Float64Array.from([2, 10, Number.NaN, Number.NaN, 7]), duplicates: 0, missing: 0 })
  })

  void it('takes the later of two readings of one time, whatever their order, and leaves out what is no number', () => {
    const timesUs = Float64Array.from([120e6, 0, 0, 60e6, 60e6])
    const found = resample(
      { timesUs, values: Float64Array.from([5, 1, 3, Number.NaN, Number.POSITIVE_INFINITY]) },
      { stepUs: 60e6, place: 'interval' },
    )
    assert.deepEqual(found.values, Float64Array.from([3, Number.NaN, 5]))
    assert.equal(found.duplicates, 1)
    assert.equal(found.missing, 2)
  })

  void it('puts readings with jitter on the nearest step', () => {
    const timesUs = Float64Array.from([-1, 59, 121, 180], (s) => (1_000_000 + s) * 1e6)
    const found = resample({ timesUs, values: Float64Array.from([1, 2, 3, 4]) }, { stepUs: 60e6, place: 'nearest', startUs: 1_000_000e6 })
    assert.deepEqual(found.values, Float64Array.from([1, 2, 3, 4]))
  })

  void it('never invents, loses or moves a reading', () => {
    const reading = fc.tuple(fc.integer({ min: 0, max: 5_000 }), fc.double({ min: -50, max: 50, noNaN: true }))
    fc.assert(
      fc.property(
        fc.uniqueArray(reading, { selector: ([t]) => t, minLength: 1, maxLength: 60 }),
        fc.integer({ min: 1, max: 700 }),
        (readings, step) => {
          const timesUs = Float64Array.from(readings, ([t]) => t * 1e6)
          const found = resample({ timesUs, values: Float64Array.from(readings, ([, v]) => v) }, { stepUs: step * 1e6, place: 'interval' })
          found.values.forEach((v, i) => {
            const from = found.startUs / 1e6 + i * step
            const own = readings.filter(([t]) => t >= from && t < from + step).map(([, v]) => v)
            if (own.length === 0) assert.ok(Number.isNaN(v))
            else assert.ok(Math.abs(v - own.reduce((a, b) => a + b) / own.length) < 1e-9)
          })
          assert.ok(!Number.isNaN(found.values[0]!) && !Number.isNaN(found.values.at(-1)!))
        },
      ),
      fuzzRuns(200),
    )
  })

  void it('has 23 and 25 steps on the days when clocks are changed, for it counts in UTC', () => {
    const days = [
      ['2024-03-30T23:00Z', '2024-03-31T22:00Z', 23],
      ['2024-10-26T22:00Z', '2024-10-27T23:00Z', 25],
    ] as const
    for (const [from, to, hours] of days) {
      const timesUs = Float64Array.from({ length: hours * 4 }, (_, i) => at(from) + i * 900e6)
      const found = resample({ timesUs, values: timesUs.map((_, i) => i) }, { stepUs: hourUs, startUs: at(from), endUs: at(to), place: 'interval' })
      assert.equal(found.values.length, hours)
      assert.ok(found.values.every(Number.isFinite))
    }
  })

  void it('has nothing of nothing, and refuses a grid beyond its limit', () => {
    assert.equal(resample({ timesUs: new Float64Array(0), values: new Float64Array(0) }, { stepUs: 60e6, place: 'interval' }).values.length, 0)
    const far = { timesUs: Float64Array.from([0, 1e15]), values: Float64Array.from([1, 2]) }
    assert.throws(
      () => resample(far, { stepUs: 1e6, place: 'interval' }),
      (error) => error instanceof KymoError && error.code === 'query_too_large',
    )
  })

  void it('finds the usual step through jitter, gaps and duplicates', () => {
    const timesUs = Float64Array.from([0, 60.4, 60.4, 119.8, 180.1, 239.9, 900, 960], (s) => s * 1e6)
    assert.equal(usualStepUs(timesUs), 60e6)
    assert.equal(usualStepUs(timesUs.toReversed()), 60e6)
    assert.ok(Number.isNaN(usualStepUs(Float64Array.from([5, 5]))))
    assert.equal(seasonOf(60e6), 1440)
    assert.equal(seasonOf(7 * 60e6), 1)
    assert.equal(seasonOf(1e6), 1)
  })
})

void describe('calendar and features', () => {
  void it('are those of the wall clock, over a change of clocks', () => {
    const start = at('2024-03-30T22:00Z')
    const { hour, weekday, month, dayOfYear } = calendarColumns(start, hourUs, 6, 'Europe/Berlin')
    assert.deepEqual([...hour], [23, 0, 1, 3, 4, 5])
    assert.deepEqual([...weekday], [5, 6, 6, 6, 6, 6])
    assert.deepEqual([...month], [3, 3, 3, 3, 3, 3])
    assert.deepEqual([...dayOfYear], [90, 91, 91, 91, 91, 91])
    assert.deepEqual([...calendarColumns(at('2024-10-27T00:00Z'), hourUs, 3, 'Europe/Berlin').hour], [2, 2, 3])
    assert.deepEqual([...calendarColumns(at('2024-12-31T18:00Z'), hourUs, 2, 'Asia/Kolkata').hour], [23.5, 0.5])
    assert.deepEqual([...calendarColumns(at('2024-12-31T18:00Z'), hourUs, 2, 'Asia/Kolkata').dayOfYear], [366, 1])
  })

  void it('agree with what the runtime says of every hour of a year', () => {
    const zone = 'America/New_York'
    const format = new Intl.DateTimeFormat('en-US-u-hc-h23', { timeZone: zone, hour: 'numeric', month: 'numeric', weekday: 'short' })
    const days = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun']
    const { hour, weekday, month } = calendarColumns(mondayUs, hourUs, 8_784, zone)
    for (let i = 0; i < 8_784; i += 3) {
      const parts = Object.fromEntries(format.formatToParts((mondayUs + i * hourUs) / 1e3).map(({ type, value }) => [type, value]))
      assert.deepEqual([hour[i], weekday[i], month[i]], [Number(parts['hour']), days.indexOf(parts['weekday']!), Number(parts['month'])])
    }
  })

  void it('have every name that the seed asks for', () => {
    const humidity = { name: 'humidity', values: dailySeries(80, 2).values }
    const series = { ...dailySeries(80), covariates: [humidity] }
    const past = pastFeatures(series)
    const calendar = calendarFeatures(series.startUs, hourUs, 80, 'UTC')
    const all = [...past.names, ...calendar.names]
    const wanted = [
      'hour',
      'weekday',
      'month',
      'day_of_year',
      'hour_sin',
      'hour_cos',
      'weekday_sin',
      'month_cos',
      'day_of_year_sin',
      'rolling_mean_3h',
      'rolling_std_24h',
    ]
    for (const name of [
      ...wanted,
      'lag_1h',
      'lag_2h',
      'lag_3h',
      'lag_6h',
      'lag_12h',
      'lag_24h',
      'diff_1h',
      'diff_24h',
      'humidity',
      'humidity_diff_1h',
    ])
      assert.ok(all.includes(name), name)
    const column = (name: string): Float64Array => past.columns[past.names.indexOf(name)]!
    const v = series.values
    assert.equal(column('lag_24h')[50], v[26])
    assert.equal(column('diff_1h')[50], v[50]! - v[49]!)
    const last = [v[48]!, v[49]!, v[50]!]
    const mean = last.reduce((a, b) => a + b) / 3
    assert.ok(Math.abs(column('rolling_mean_3h')[50]! - mean) < 1e-12)
    assert.ok(Math.abs(column('rolling_std_3h')[50]! - Math.sqrt(last.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 3)) < 1e-12)
    assert.equal(column('humidity_diff_1h')[50], humidity.values[50]! - humidity.values[49]!)
  })

  void it('of a step do not depend on what comes after it', () => {
    const series = { ...dailySeries(120, 5), covariates: [{ name: 'humidity', values: dailySeries(120, 6).values }] }
    const whole = pastFeatures(series)
    const cut = pastFeatures(upTo(series, 70))
    cut.columns.forEach((column, k) => assert.deepEqual(column, whole.columns[k]!.subarray(0, 70), whole.names[k]))
  })
})

void describe('filling', () => {
  const open = { low: -1e9, high: 1e9 }
  const nan = Number.NaN
  void it('draws a line over short gaps, repeats the season over long ones, and says which', () => {
    const values = Float64Array.from([1, 2, 3, 4, 5, nan, nan, 8, nan, nan, nan, nan, 13, nan])
    const found = fill(values, 4, open)!
    assert.deepEqual([...found.values], [1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8, 13, 13])
    assert.deepEqual([...found.how], [0, 0, 0, 0, 0, 1, 1, 0, 2, 2, 2, 2, 0, 1])
    assert.deepEqual([...fill(Float64Array.from([1, 2, 3, 4, 5, nan, nan, nan, 9]), 4, open)!.values], [1, 2, 3, 4, 5, 2, 3, 4, 9])
  })

  void it('is of no use without a value, and takes what is beyond belief as missing', () => {
    assert.equal(fill(Float64Array.from([nan, nan]), 4, open), undefined)
    assert.equal(fill(new Float64Array(0), 4, open), undefined)
    const values = dailySeries(500).values.map((v, i) => (i === 100 ? 1e9 : v))
    const bounds = boundsOf(values)!
    assert.ok(bounds.high < 1e3)
    const filled = fill(values, 24, bounds)!
    assert.ok(filled.values.every((v) => Math.abs(v) < 100))
    assert.equal(filled.how[100], 1)
    assert.equal(boundsOf(new Float64Array(50).fill(3)), undefined)
  })
})
