import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import process from 'node:process'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Kernels } from '../../src/compute/forecast/lstm/kernels.ts'
import { borrow, giveBack, memoryFloatsMax, plainKernels, vectorKernels } from '../../src/compute/forecast/lstm/kernels.ts'
import { lstm } from '../../src/compute/forecast/lstm/lstm.ts'
import type { Network, NetworkShape } from '../../src/compute/forecast/lstm/network.ts'
import { memoryOf, networkOf, weightCount } from '../../src/compute/forecast/lstm/network.ts'
import { trainNetwork } from '../../src/compute/forecast/lstm/train.ts'
import type { Model } from '../../src/compute/forecast/model.ts'
import { train } from '../../src/compute/forecast/model.ts'
import { readModel, writeModel } from '../../src/compute/forecast/registry.ts'
import type { Series } from '../../src/compute/forecast/series.ts'
import { isRefusal, upTo } from '../../src/compute/forecast/series.ts'
import { KymoError } from '../../src/core/errors.ts'
import { limits } from '../../src/core/limits.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { fuzzRuns } from '../support/effort.ts'
import { dailySeries } from '../support/synthetic-series.ts'

const options = { horizon: 24, season: 24, seed: 7 }

function vectors(): Kernels {
  const kernels = vectorKernels()
  if (kernels === undefined) throw new Error('this machine has no WebAssembly with vectors')
  return kernels
}

interface Task {
  readonly shape: NetworkShape
  readonly rows: number
  readonly weights: Float32Array
  /** By step and row; that of the head last. */
  readonly inputs: readonly (readonly Float32Array[])[]
  readonly targets: readonly Float32Array[]
}

function taskOf(shape: NetworkShape, rows: number, seed: number): Task {
  const random = new SeededRandom(seed)
  const some = (count: number, width: number): Float32Array => Float32Array.from({ length: count }, () => width * random.normal())
  return {
    shape,
    rows,
    weights: some(weightCount(shape), 0.4),
    inputs: Array.from({ length: shape.steps + 1 }, () => Array.from({ length: rows }, () => some(shape.inputs, 1))),
    targets: Array.from({ length: rows }, () => some(shape.outputs, 1)),
  }
}

/** Half the sum of squared errors, in doubles, straight from the equations. */
function lossOf({ shape, rows, inputs, targets }: Task, weights: Float64Array): number {
  const { units, steps, outputs } = shape
  const width = units + shape.inputs
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
  let loss = 0
  for (let row = 0; row < rows; row++) {
    let h = new Float64Array(units)
    const c = new Float64Array(units)
    const weigh = (step: number, from: number, columns: number, column: number): number => {
      let sum = 0
      for (let k = 0; k < width; k++) sum += (k < units ? h[k]! : inputs[step]![row]![k - units]!) * weights[from + k * columns + column]!
      return sum
    }
    for (let step = 0; step < steps; step++) {
      const next = new Float64Array(units)
      for (let u = 0; u < units; u++) {
        const [i, f, g, o] = [0, 1, 2, 3].map((gate) => weigh(step, 0, 4 * units, gate * units + u)) as [number, number, number, number]
        c[u] = sigmoid(f) * c[u]! + sigmoid(i) * Math.tanh(g)
        next[u] = sigmoid(o) * Math.tanh(c[u]!)
      }
      h = next
    }
    for (let y = 0; y < outputs; y++) loss += 0.5 * (weigh(steps, width * 4 * units, outputs, y) - targets[row]![y]!) ** 2
  }
  return loss
}

/** Forwards and backwards through the kernels. */
function pass(kernels: Kernels, task: Task): Network {
  const { shape, rows, inputs, targets } = task
  const net = networkOf(kernels, shape, rows, true)
  net.floats.set(task.weights, net.weights)
  again(net, task, inputs, targets)
  return net
}

function again(net: Network, { shape, rows }: Task, inputs: Task['inputs'], targets: Task['targets']): void {
  inputs.forEach((batch, step) => batch.forEach((row, b) => net.floats.set(row, net.inputAt(step, b))))
  for (let step = 0; step < shape.steps; step++) net.forward(step, rows)
  net.head(rows)
  targets.forEach((row, b) => row.forEach((y, i) => (net.floats[net.outputAt(b) + i]! -= y)))
  net.headBack(rows)
  for (let step = shape.steps - 1; step >= 0; step--) net.back(step, rows)
}

const bits = (floats: Float32Array): Uint32Array => new Uint32Array(floats.slice().buffer)

void describe('kernels of the LSTM', () => {
  for (const [name, make] of [
    ['vectors', vectors],
    ['plain', plainKernels],
  ] as const) {
    void it(`${name}: gradients are what differences of the loss say`, () => {
      // Five rows: four at once and one by itself.
      const task = taskOf({ units: 8, inputs: 3, steps: 5, outputs: 8 }, 5, 1)
      const net = pass(make(), task)
      const weights = Float64Array.from(task.weights)
      for (let i = 0; i < weights.length; i++) {
        const [was, by] = [weights[i]!, 1e-5]
        weights[i] = was + by
        const above = lossOf(task, weights)
        weights[i] = was - by
        const below = lossOf(task, weights)
        weights[i] = was
        const expected = (above - below) / (2 * by)
        const found = net.floats[net.gradients + i]!
        assert.ok(Math.abs(found - expected) < 2e-5 * (1 + Math.abs(expected)), `weight ${i}: ${found}, and ${expected} by differences`)
      }
    })
  }

  void it('give the same bits with vectors and without, forwards, backwards and in steps of Adam', () => {
    const eights = fc.integer({ min: 1, max: 5 }).map((n) => 8 * n)
    fc.assert(
      fc.property(
        eights,
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 1, max: 4 }),
        eights,
        fc.integer({ min: 1, max: 9 }),
        fc.nat(1e6),
        (units, inputs, steps, outputs, rows, seed) => {
          const task = taskOf({ units, inputs, steps, outputs }, rows, seed)
          const [a, b] = [pass(vectors(), task), pass(plainKernels(), task)]
          for (let count = 1; count <= 3; count++) {
            for (const net of [a, b]) {
              net.update({ clip: 0.7, rate: 0.01, decay: 0.1, follow: 0.3, count })
              again(net, task, task.inputs, task.targets)
            }
          }
          for (const from of ['weights', 'average', 'gradients'] as const) {
            assert.deepEqual(bits(a.floats.subarray(a[from], a[from] + a.count)), bits(b.floats.subarray(b[from], b[from] + b.count)), from)
          }
        },
      ),
      fuzzRuns(30),
    )
  })

  void it('agree at the ends of what exponentials can be', () => {
    const extremes = [0, -0, 1e-40, 1e-8, 0.5, 1, 20, 43.4, 43.6, 87, 88, 100, 1e10, 3e38]
    const task = taskOf({ units: 8, inputs: 1, steps: 1, outputs: 8 }, 1, 3)
    for (const x of extremes.flatMap((value) => [value, -value])) {
      const one = { ...task, inputs: task.inputs.map((batch) => batch.map(() => Float32Array.of(x))) }
      const [a, b] = [pass(vectors(), one), pass(plainKernels(), one)]
      assert.deepEqual(bits(a.floats.subarray(a.outputAt(0), a.outputAt(1))), bits(b.floats.subarray(b.outputAt(0), b.outputAt(1))), String(x))
    }
  })

  void it('train to the same bits', () => {
    const { values } = dailySeries(400, 5, 0.1)
    const windows = {
      values,
      phases: values.map((_, i) => (i % 24) / 24),
      learned: Int32Array.from({ length: 200 }, (_, i) => i),
      judged: Int32Array.from({ length: 40 }, (_, i) => 230 + i),
      horizon: 6,
      season: 24,
    }
    const how = { cut: { steps: 4, patch: 6 }, units: 8, rows: 16, batches: 40, rate: 0.01, decay: 0.1, seed: 3 }
    const [a, b] = [vectors(), plainKernels()].map((kernels) => {
      const work = trainNetwork(kernels, windows, how)
      for (;;) {
        const step = work.next()
        if (step.done === true) return step.value
      }
    })
    assert.ok(a !== undefined && b !== undefined)
    assert.deepEqual(a, b)
    assert.ok(a.error! < 0.9, `${a.error}`)
  })

  void it('are refused where WebAssembly does not take them, and plain ones serve', () => {
    assert.equal(vectorKernels(Uint8Array.of(0, 97, 115, 109, 9, 9, 9, 9)), undefined)
    // A module that lacks the functions.
    assert.equal(vectorKernels(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0)), undefined)
  })

  void it('have a memory with an end, in which the largest network has room', () => {
    const inputs = 1 + limits.lstmPatchMax + 2
    const largest = { units: limits.lstmUnitsMax, inputs, steps: limits.lstmStepsMax, outputs: limits.forecastHorizonMax }
    assert.ok(memoryOf(largest, 32, true) <= memoryFloatsMax, `${memoryOf(largest, 32, true)}`)
    for (const kernels of [vectors(), plainKernels()]) {
      assert.ok(kernels.reserve(memoryFloatsMax).length >= memoryFloatsMax)
      assert.throws(() => kernels.reserve(memoryFloatsMax + 16_384), RangeError)
    }
  })

  void it('that were used before leave nothing behind', () => {
    const task = taskOf({ units: 16, inputs: 3, steps: 3, outputs: 8 }, 5, 1)
    const used = vectors()
    used.reserve(100_000).fill(Number.NaN)
    const [a, b] = [pass(vectors(), task), pass(used, task)]
    assert.deepEqual(bits(a.floats.subarray(a.gradients, a.gradients + a.count)), bits(b.floats.subarray(b.gradients, b.gradients + b.count)))
  })
})

function fitted(series: Series, tuning: Record<string, number> = {}): Model {
  const model = train(lstm.fit(series, { ...options, tuning }))
  if (model === undefined || isRefusal(model)) throw new Error(JSON.stringify(model))
  return model
}

function forecast(model: Model, history: Series): Float64Array {
  const out = new Float64Array(model.horizon)
  assert.equal(model.predict(history, out), undefined)
  return out
}

void describe('LSTM', () => {
  const series = dailySeries(1_200, 3)
  const small = { steps: 2, units: 8 }

  void it('forecasts better than yesterday and the last value do', () => {
    const model = fitted(upTo(series, 900), { units: 16 })
    const errors = [0, 0, 0]
    for (let at = 900; at + 24 <= 1_200; at += 5) {
      const found = forecast(model, upTo(series, at))
      found.forEach((mean, h) => {
        const actual = series.values[at + h]!
        ;[mean, series.values[at - 24 + h]!, series.values[at - 1]!].forEach((one, k) => (errors[k]! += (one - actual) ** 2))
      })
    }
    assert.ok(errors[0]! < 0.8 * errors[1]! && errors[0]! < 0.3 * errors[2]!, errors.join(' '))
  })

  void it('is the same, bit for bit, in a process without WebAssembly', () => {
    const script = `
      import { lstm } from './src/compute/forecast/lstm/lstm.ts'
      import { plainKernels, vectorKernels } from './src/compute/forecast/lstm/kernels.ts'
      import { train } from './src/compute/forecast/model.ts'
      import { dailySeries } from './test/support/synthetic-series.ts'
      delete globalThis.WebAssembly
      if (vectorKernels() !== undefined) throw new Error('there are vectors')
      const model = train(lstm.fit(dailySeries(500, 3), ${JSON.stringify({ ...options, tuning: small })}))
      const out = new Float64Array(24)
      model.predict(dailySeries(500, 3), out)
      process.stdout.write(Buffer.from(model.body()).toString('hex') + ' ' + Buffer.from(out.buffer).toString('hex'))`
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 60_000 })
    const known = dailySeries(500, 3)
    const model = fitted(known, small)
    const expected = `${Buffer.from(model.body()).toString('hex')} ${Buffer.from(forecast(model, known).buffer).toString('hex')}`
    assert.equal(run.stdout, expected, run.stderr)
  })

  void it('forecasts the same while others forecast and train on the same thread', () => {
    const [a, b] = [fitted(upTo(series, 500), small), fitted(upTo(series, 600), { steps: 3, units: 16 })]
    const alone = [forecast(a, upTo(series, 700)), forecast(b, upTo(series, 700))]
    const training = lstm.fit(upTo(series, 600), { ...options, tuning: { steps: 3, units: 16 } })
    let result = training.next()
    for (; result.done !== true; result = training.next()) {
      assert.deepEqual(forecast(a, upTo(series, 700)), alone[0])
      assert.deepEqual(forecast(b, upTo(series, 700)), alone[1])
    }
    assert.ok(!isRefusal(result.value))
    assert.deepEqual(result.value.body(), b.body())
  })

  void it('gives its memory back when it is cancelled', () => {
    const training = lstm.fit(series, options)
    training.next()
    training.next()
    const other = borrow()
    training.return({ refused: 'too_little_data', detail: 'cancelled' })
    const next = borrow()
    assert.notEqual(next, other)
    // The next training gets the same set once more, and no third one is made.
    giveBack(next)
    assert.equal(borrow(), next)
    giveBack(next)
    giveBack(other)
  })

  void it('says how many values are missing', () => {
    const refused = train(lstm.fit(dailySeries(60), options))
    assert.ok(refused !== undefined && isRefusal(refused) && refused.refused === 'too_little_data' && refused.missing! > 0)
    const enough = train(lstm.fit(dailySeries(60 + refused.missing!), options))
    assert.ok(enough !== undefined && !isRefusal(enough), JSON.stringify(enough))
    const less = train(lstm.fit(dailySeries(59 + refused.missing!), options))
    assert.ok(less !== undefined && isRefusal(less) && less.missing === 1, JSON.stringify(less))
  })

  void it('works without a season, and with one of many steps', () => {
    for (const [season, steps] of [
      [1, 400],
      [144, 900],
    ] as const) {
      const model = train(lstm.fit(upTo(series, steps), { horizon: 3, season, seed: 1, tuning: { units: 8 } }))
      assert.ok(model !== undefined && !isRefusal(model), JSON.stringify(model))
      assert.ok(forecast(model, upTo(series, 1_000)).every(Number.isFinite))
    }
  })

  void it('refuses tuning that it does not know or cannot do', () => {
    for (const tuning of [{ window: 3 }, { units: 12 }, { units: 72 }, { steps: 0 }, { patch: 1.5 }]) {
      assert.throws(
        () => lstm.fit(series, { ...options, tuning }).next(),
        (error) => error instanceof KymoError && error.code === 'usage',
        JSON.stringify(tuning),
      )
    }
  })

  void it('whose file says other sizes than it has is refused', () => {
    const model = fitted(upTo(series, 500), small)
    const body = model.body()
    const change = (at: number, value: number): Uint8Array => {
      const changed = Uint8Array.from(body)
      new DataView(changed.buffer).setUint32(at, value, true)
      return writeModel({ ...model, body: () => changed }, {})
    }
    assert.deepEqual(forecast(readModel(change(6, 24)).model, upTo(series, 600)), forecast(model, upTo(series, 600)))
    // Horizon, season, steps, patch, units; the high half of the step's double; a weight that is no number.
    for (const [at, value] of [
      [6, 0],
      [6, 400],
      [6, 0xffffffff],
      [10, 0],
      [14, 65],
      [18, 25],
      [22, 16],
      [22, 7],
      [30, 0xfff00000],
      [body.length - 4, 0x7fc00000],
    ] as const) {
      assert.throws(
        () => readModel(change(at, value)),
        (error) => error instanceof KymoError && error.code === 'model_corrupt',
        `${value} at ${at}`,
      )
    }
  })
})
