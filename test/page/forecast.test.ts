import assert from 'node:assert/strict'
import test from 'node:test'
import { forecastColumns, isTrainingOf, lookbackMs, stepsMax, withinBand } from '../../src/page/forecast-data.ts'
import {
  amount,
  calibrationText,
  coverageText,
  crossingText,
  driftText,
  fallbackText,
  kindName,
  modelName,
  percent,
  shareOf,
  skillFigure,
  skillText,
  tooLittleText,
  trainedText,
  trainingText,
} from '../../src/page/forecast-text.ts'

const hour = 3_600_000
const noon = Date.UTC(2026, 10, 21, 12)
const at = (hours: number): number => noon + hours * hour
const predicted = (hours: number, mean: number, band?: readonly [lower: number, upper: number]) => ({
  time: new Date(at(hours)).toISOString(),
  mean,
  lower: band?.[0] ?? null,
  upper: band?.[1] ?? null,
})
const measured = (...rows: readonly (readonly [hours: number, value: number])[]) => ({
  time: rows.map(([hours]) => at(hours)),
  mean: rows.map(([, value]) => value),
  min: rows.map(([, value]) => value - 1),
  max: rows.map(([, value]) => value + 1),
  count: rows.map(() => 60),
})

test('a row a step: what is missing stays empty, the later of two predictions counts, what lies off the grid is left out', () => {
  const columns = forecastColumns(
    measured([-3, 20], [-1, 22], [-9, 1]),
    [predicted(-3, 19, [18, 21]), predicted(-2, 20), predicted(0, 23, [22, 24]), predicted(0, 24, [23, 25]), predicted(0.5, 99), predicted(9, 99)],
    { fromMs: at(-3), toMs: at(2), stepMs: hour },
  )
  assert.deepEqual(columns, {
    time: [at(-3), at(-2), at(-1), at(0), at(1)],
    lower: [18, null, null, 23, null],
    upper: [21, null, null, 25, null],
    mean: [19, 20, null, 24, null],
    actual: [20, null, 22, null, null],
  })
})

test('half an interval is none, and a time that ends before it begins has no rows', () => {
  const half = { ...predicted(0, 5), lower: 4 }
  assert.deepEqual(forecastColumns(measured(), [half], { fromMs: at(0), toMs: at(1), stepMs: hour }).lower, [null])
  assert.deepEqual(forecastColumns(measured(), [half], { fromMs: at(1), toMs: at(0), stepMs: hour }).time, [])
})

test('what lies within the band: ends count, steps without one or the other do not', () => {
  const columns = forecastColumns(
    measured([0, 10], [1, 13], [2, 10], [4, 12]),
    [predicted(0, 11, [10, 12]), predicted(1, 11, [10, 12]), predicted(2, 11), predicted(3, 11, [10, 12]), predicted(4, 11, [10, 12])],
    { fromMs: at(0), toMs: at(5), stepMs: hour },
  )
  assert.deepEqual(withinBand(columns, at(5)), { n: 3, inside: 2 })
  assert.deepEqual(withinBand(columns, at(4)), { n: 2, inside: 1 }, 'a step that has not ended is no proof')
  assert.deepEqual(withinBand(forecastColumns(measured(), [], { fromMs: 0, toMs: 0, stepMs: hour }), at(0)), { n: 0, inside: 0 })
})

test('a look back begins where a step does, and is no longer than can be drawn', () => {
  assert.equal(lookbackMs(noon, 3 * 24 * hour, hour), at(-72))
  assert.equal(lookbackMs(noon, 90 * 60_000, hour), at(-2))
  assert.equal(lookbackMs(noon, 30 * 24 * hour, 60_000), noon - stepsMax * 60_000)
})

test('a training is of a series that it names, or of all', () => {
  assert.equal(isTrainingOf({ series: [{ device: 'a', metric: 't' }] }, 'a', 't'), true)
  assert.equal(isTrainingOf({ series: [{ device: 'a', metric: 't' }] }, 'a', 'h'), false)
  assert.equal(isTrainingOf({ series: [null, 'a', 7, {}] }, 'a', 't'), false)
  assert.equal(isTrainingOf({ kinds: ['ridge'] }, 'a', 't'), true)
  assert.equal(isTrainingOf(undefined, 'a', 't'), true)
})

test('shares: never 0 or 100 % of what is only near', () => {
  assert.deepEqual([0, 0.0001, -0.0001, 0.004, 0.314, 0.999, 1, -0.12, Number.NaN].map(percent), [
    '0 %',
    '< 0.1 %',
    '> −0.1 %',
    '0.4 %',
    '31 %',
    '> 99 %',
    '100 %',
    '−12 %',
    '–',
  ])
})

test('errors with their unit, in three figures', () => {
  assert.equal(amount(0.41852, '°C'), '0.419 °C')
  assert.equal(amount(1234.5, undefined), '1,235')
  assert.equal(amount(null, '°C'), '–')
  assert.equal(amount(1, '\u202e'), '1 \\u202e')
})

test('skill, coverage and drift in words', () => {
  assert.equal(skillText(0.31), '31 % less error than doing nothing')
  assert.equal(skillText(-0.12), '12 % more error than doing nothing')
  assert.equal(skillText(0.001), 'as good as doing nothing')
  assert.equal(skillText(null), 'not known yet')
  assert.equal(skillText(null, { skill: 0.2 }), 'not known yet; in its test 20 % less error than doing nothing')
  assert.equal(skillFigure(null, { skill: 0.2 }), '20 % in its test')
  assert.equal(skillFigure(-0.2, { skill: 0.2 }), '−20 %')
  assert.equal(skillFigure(null, { skill: null }), '–')
  assert.equal(coverageText(0.9, 0.88), '88 % delivered of 90 % promised')
  assert.match(coverageText(0.9, null), /90 % promised, nothing measured yet/)
  assert.equal(driftText(0, 12, undefined), 'none')
  assert.equal(driftText(6, 12, undefined), 'none (at 50 % of the alarm)')
  assert.equal(driftText(13, 12, '2026-11-21 12:00:00'), 'errors have grown since 2026-11-21 12:00:00')
  assert.equal(driftText(1, 0, undefined), 'none')
})

test('why seasonal naive answers, and what the server adds to it', () => {
  assert.match(fallbackText('untrained', null), /nobody has trained a model/)
  assert.match(fallbackText('refused', 'Silent for 30 h\u0007.'), /had no answer\. Silent for 30 h\\u0007\./)
  assert.equal(kindName('ridge'), 'ridge')
  assert.equal(kindName('new-kind'), 'new-kind')
  assert.equal(kindName('constructor'), 'constructor')
  assert.equal(modelName('ensemble', { name: 'ridge+holt-winters' }), 'ridge + Holt–Winters')
  assert.equal(modelName('ensemble', undefined), 'average of several')
  assert.equal(modelName('lstm', { name: 'lstm' }), 'LSTM')
})

test('too little data says how much is missing, where that is known', () => {
  assert.equal(tooLittleText(12, hour), '12 more steps (12 h) of readings are needed. Wait, or import history.')
  assert.equal(tooLittleText(1, undefined), 'One more step of readings is needed. Wait, or import history.')
  for (const unknown of [undefined, 0, 'many', Number.NaN])
    assert.equal(tooLittleText(unknown, hour), 'More readings are needed. Wait, or import history.')
})

const asked = { threshold: 50, side: 'above', within_s: 6 * 3600, reason: null, detail: null, calibration: null } as const
const calibration = {
  n: 200,
  rate: 0.12,
  skill: 0.3,
  bins: [
    { n: 150, said: 0.03, came: 0.02 },
    { n: 0, said: null, came: null },
    { n: 45, said: 0.21, came: 0.24 },
  ],
}

test('a crossing is a number with how such numbers have held', () => {
  assert.equal(crossingText({ ...asked, probability: 0.17 }, '°C'), '17 % likely to go above 50 °C within 6 h')
  assert.equal(
    calibrationText({ ...asked, probability: 0.17, calibration }),
    'When it said about 21 % (45 times), it crossed in 24 % of them. It crossed in 12 % of 200 past times; these numbers had 30 % less error than always saying that.',
  )
  // It has never said anything like it: what it said otherwise proves nothing.
  assert.doesNotMatch(calibrationText({ ...asked, probability: 0.9, calibration }), /When it said/)
  const seldom = { ...calibration, bins: calibration.bins.map((bin) => ({ ...bin, n: 9 })) }
  assert.doesNotMatch(calibrationText({ ...asked, probability: 0.21, calibration: seldom }), /When it said/, 'nine times prove nothing')
  assert.equal(calibrationText({ ...asked, probability: 0.9 }), 'How well such numbers hold is not known yet.')
})

test('or why there is no number', () => {
  const none = { ...asked, probability: null, reason: 'no_skill', detail: 'The model does not beat seasonal naive.' }
  assert.equal(crossingText(none, undefined), 'No skill: The model does not beat seasonal naive.')
  assert.equal(crossingText({ ...none, reason: 'across_already', detail: null }, undefined), 'It is across already.')
  assert.match(calibrationText({ ...none, calibration: { ...calibration, skill: -0.1 } }), /12 % of 200 past times; these numbers were no better/)
})

test('how far a training is, and how it ended', () => {
  assert.equal(trainingText({ series_total: 1, series_done: 0 }), '')
  assert.equal(trainingText({ series_total: 1200, series_done: 7 }), '7 of 1,200 series')
  assert.deepEqual([{ share: 0.4 }, { share: 3 }, { share: -1 }, {}, { share: 'half' }].map(shareOf), [0.4, 1, undefined, undefined, undefined])
  assert.equal(trainedText({ trained: 1 }), 'A new version was trained')
  assert.match(trainedText({ kept_naive: 1 }), /Nothing did better/)
  assert.match(trainedText({ refused: 1 }), /too little data/)
  assert.equal(trainedText({ trained: 3, kept_naive: 2, refused: 0 }), 'Of 5 series: 3 trained, 2 where nothing did better than seasonal naive')
})
