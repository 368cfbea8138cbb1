import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { KymoError } from '../../src/core/errors.ts'
import { relativeError, Sketch, sketchBinsMax } from '../../src/compute/window/sketch.ts'

const runs = Number(process.env['KYMO_TEST_RUNS'] ?? 100)
const ranks = [0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1]

function sketchOf(values: Iterable<number>): Sketch {
  const sketch = new Sketch()
  for (const value of values) sketch.add(value)
  return sketch
}

function exact(sorted: readonly number[], q: number): number {
  return sorted[Math.floor(q * (sorted.length - 1))]!
}

const unit = fc.double({ min: 1e-9, max: 1 - 1e-9, noNaN: true })
const distributions: Readonly<Record<string, fc.Arbitrary<number>>> = {
  uniform: fc.double({ min: -50, max: 50, noNaN: true }),
  exponential: unit.map((u) => -Math.log(u)),
  pareto: unit.map((u) => u ** -1.5),
  lognormal: fc.tuple(unit, unit).map(([u, v]) => Math.exp(3 * Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v))),
  temperatures: fc.integer({ min: -200, max: 450 }).map((n) => n / 10),
  switches: fc.constantFrom(0, 1),
  any: fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e12, max: 1e12 }),
}

for (const [name, values] of Object.entries(distributions))
  test(`quantiles are within ${relativeError} of the value of that rank: ${name}`, () => {
    fc.assert(
      fc.property(fc.array(values, { minLength: 1, maxLength: 600, size: 'max' }), (list) => {
        const sketch = sketchOf(list)
        if (sketch.bins === sketchBinsMax) return
        const sorted = list.toSorted((a, b) => a - b)
        for (const q of ranks) {
          const value = exact(sorted, q)
          const mine = sketch.quantile(q)
          assert.ok(
            Math.abs(mine - value) <= (relativeError + 1e-9) * Math.abs(value) + Number.MIN_VALUE * 2 ** 53,
            `q ${q}: ${mine} instead of ${value}`,
          )
        }
      }),
      { numRuns: runs },
    )
  })

test('merged sketches of parts are that of the whole, to the byte, collapsed or not', () => {
  const wide = fc.tuple(fc.boolean(), fc.integer({ min: -300, max: 300 }), unit).map(([sign, exponent, u]) => (sign ? 1 : -1) * u * 10 ** exponent)
  fc.assert(
    fc.property(fc.array(fc.oneof(wide, distributions['any']!), { maxLength: 300, size: 'max' }), fc.nat(299), fc.boolean(), (list, cut, dense) => {
      // As many bins again, so that sketches collapse.
      const more = dense ? Array.from({ length: 2500 }, (_, i) => 1.03 ** (i - 700) * (i % 2 === 0 ? 1 : -1)) : []
      const all = [...list, ...more, 0]
      const parts = [all.slice(0, cut), all.slice(cut, 2 * cut), all.slice(2 * cut)].map(sketchOf)
      const whole = sketchOf(all)
      const up = new Sketch()
      for (const part of parts) up.merge(part)
      const down = new Sketch()
      for (const part of parts.toReversed()) down.merge(part)
      assert.deepEqual(up.encode(), whole.encode())
      assert.deepEqual(down.encode(), whole.encode())
      assert.deepEqual(Sketch.decode(whole.encode()).encode(), whole.encode())
      assert.equal(whole.count, all.length)
      assert.ok(whole.bins <= sketchBinsMax)
      if (dense) assert.equal(whole.bins > sketchBinsMax - 3, true, 'no more is given up than must be')
    }),
    { numRuns: Math.min(runs, 30) },
  )
})

test('a sketch that gives up small values keeps the bound for great ones', () => {
  const values = Array.from({ length: 6000 }, (_, i) => 1.021 ** (i - 3000))
  const sketch = sketchOf(values)
  assert.equal(sketch.bins, sketchBinsMax)
  for (const q of [0.7, 0.9, 0.99, 1]) assert.ok(Math.abs(sketch.quantile(q) / exact(values, q) - 1) <= 0.0100001)
})

test('nothing, one value, extremes, and what is no number', () => {
  assert.equal(new Sketch().quantile(0.5), Number.NaN)
  assert.equal(sketchOf([21.5, Number.NaN]).quantile(0.99), 21.5)
  const ends = sketchOf([-Number.MAX_VALUE, -5e-324, 0, 5e-324, Number.MAX_VALUE, Number.POSITIVE_INFINITY])
  assert.deepEqual(
    [0, 0.5, 1].map((q) => Math.abs(ends.quantile(q)) > 1e308),
    [true, false, true],
  )
  assert.equal(ends.bins, 3)
  assert.deepEqual(Sketch.decode(ends.encode()).encode(), ends.encode())
  assert.deepEqual(
    [0, 1].map((q) => Sketch.decode(ends.encode()).quantile(q)),
    [0, 1].map((q) => ends.quantile(q)),
  )
})

test('bytes are small, stay what they are, and damaged ones are refused', () => {
  const sketch = sketchOf([1, 1, 2, -3, 0])
  assert.equal(Buffer.from(sketch.encode()).toString('hex'), goldenHex)
  const day = sketchOf(Array.from({ length: 8640 }, (_, i) => 20 + 5 * Math.sin(i / 1375)))
  assert.ok(day.encode().length < 120, `${day.encode().length} bytes`)
  const bytes = sketch.encode()
  for (const bad of [bytes.slice(0, -1), Uint8Array.from([...bytes, 0]), Uint8Array.of(2, ...bytes.slice(1)), new Uint8Array(0)])
    assert.throws(
      () => Sketch.decode(bad),
      (error: unknown) => error instanceof KymoError && error.code === 'store_corrupt',
    )
})

const goldenHex = '0100000000000008c000000000000000400104ea94020192950201db9402022301'
