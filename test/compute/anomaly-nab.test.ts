import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { NabWindow } from '../../src/compute/anomaly/nab.ts'
import { addTallies, nabProfiles, nabScore, nabSigmoid, probationRows, tallyNab } from '../../src/compute/anomaly/nab.ts'

const rows = 1_000
const one: readonly NabWindow[] = [{ from: 400, to: 499 }]
const two: readonly NabWindow[] = [
  { from: 400, to: 449 },
  { from: 700, to: 749 },
]

interface Case {
  readonly name: string
  readonly windows: readonly NabWindow[]
  readonly alarms: readonly number[]
  /** Standard, low FP, low FN; by hand from the paper's formulas. */
  readonly scores: readonly [number, number, number]
}

const cases: readonly Case[] = [
  { name: 'silence', windows: one, alarms: [], scores: [0, 0, 0] },
  { name: 'the first row of the window', windows: one, alarms: [400], scores: [100, 100, 100] },
  // tanh(2.5 x 0.01) / tanh(2.5) = 0.02533; (0.02533 + 1) / 2, (0.02533 + 2) / 3
  { name: 'the last row of the window', windows: one, alarms: [499], scores: [51.2667, 51.2667, 67.5111] },
  // tanh(2.5 x 0.5) / tanh(2.5) = 0.85979
  { name: 'the middle of the window', windows: one, alarms: [450], scores: [92.9896, 92.9896, 95.3264] },
  // (1 - 0.11 + 1) / 2, (1 - 0.22 + 1) / 2, (1 - 0.11 + 2) / 3
  { name: 'an alarm before any window costs all', windows: one, alarms: [200, 400], scores: [94.5, 89, 96.3333] },
  // tanh(2.5 x 10 / 99) = 0.24730
  { name: 'ten rows behind the window costs a quarter', windows: one, alarms: [400, 509], scores: [98.6399, 97.2797, 99.0932] },
  { name: 'far behind the window costs all', windows: one, alarms: [400, 900], scores: [94.5, 89, 96.3333] },
  { name: 'alarms while learning cost nothing', windows: one, alarms: [3, 149, 400], scores: [100, 100, 100] },
  { name: 'of several in the window the first counts', windows: one, alarms: [450, 460, 499], scores: [92.9896, 92.9896, 95.3264] },
  // raw 1 - 1 = 0 of -2 to 2; raw 1 - 2 = -1 of -4 to 2
  { name: 'one of two windows', windows: two, alarms: [400], scores: [50, 50, 50] },
  // Only alarms that are false: 2 x 0.11 below silence.
  { name: 'worse than silence', windows: one, alarms: [200, 300], scores: [-11, -22, -7.3333] },
]

void describe('the scoring of NAB', () => {
  for (const { name, windows, alarms, scores } of cases) {
    void it(name, () => {
      const tally = tallyNab(rows, windows, alarms)
      for (const [k, profile] of nabProfiles.entries()) {
        const found = nabScore(tally, profile)
        assert.ok(Math.abs(found - scores[k]!) < 1e-4, `${profile.name}: ${found}`)
      }
    })
  }

  void it('learns for 15 % of the rows, and never more than 750', () => {
    assert.deepEqual([1_000, 4_032, 5_000, 22_695].map(probationRows), [150, 604, 750, 750])
  })

  void it('counts no window that lies within the probation, and scores nothing without windows', () => {
    const tally = tallyNab(rows, [{ from: 90, to: 140 }], [100, 150])
    assert.deepEqual([tally.windows, tally.found, tally.falseAlarms], [0, 0, 1])
    assert.ok(Math.abs(tally.lost - Math.tanh((2.5 * 10) / 50)) < 1e-12)
    assert.ok(nabProfiles.every((profile) => Number.isNaN(nabScore(tallyNab(rows, [], []), profile))))
  })

  void it('adds files up before it divides', () => {
    const sum = addTallies([tallyNab(rows, one, [400]), tallyNab(rows, two, []), tallyNab(rows, [], [500])])
    // One of three windows, and one false alarm: (1 - 2 - 0.11 + 3) / 6.
    assert.ok(Math.abs(nabScore(sum, nabProfiles[0]!) - (100 * 1.89) / 6) < 1e-9)
  })

  void it('has the sigmoid of the paper', () => {
    assert.equal(nabSigmoid(0), 0)
    assert.equal(nabSigmoid(3.001), -1)
    assert.ok(Math.abs(nabSigmoid(-1) - 0.9866143) < 1e-8)
  })
})
