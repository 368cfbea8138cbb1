import type { Kernels } from './kernels.ts'

/**
 * Cells, inputs of a step, steps and outputs. One layer; what a step reads is [h of the step before | its inputs], of which the first input is always
 * 1 and carries the biases. A linear head reads the same of the step after the last. Units and outputs are multiples of 8.
 */
export interface NetworkShape {
  readonly units: number
  readonly inputs: number
  readonly steps: number
  readonly outputs: number
}

/** Rows of the two weight matrices, one after the other: [units + inputs × 4 units] of the cells, [units + inputs × outputs] of the head. */
export function weightCount({ units, inputs, outputs }: NetworkShape): number {
  return (units + inputs) * (4 * units + outputs)
}

export interface Rates {
  /** Times the gradients: their norm is clipped. */
  readonly clip: number
  readonly rate: number
  readonly decay: number
  /** Of the distance between average and weights, what the average follows by. */
  readonly follow: number
  /** Steps so far, from 1. */
  readonly count: number
}

/** An LSTM (Hochreiter & Schmidhuber 1997, with forget gates) over a batch of at most `rows` windows, in the memory of its kernels. */
export interface Network {
  /** The whole memory. */
  readonly floats: Float32Array
  readonly weights: number
  /** Of the weights, where training has one. */
  readonly average: number
  readonly gradients: number
  readonly count: number
  /** Where the inputs of a row at a step go; at the step after the last: those of the head. */
  inputAt(step: number, row: number): number
  /** Where a row's outputs come, or the gradients of its loss by them go. */
  outputAt(row: number): number
  /** The steps in their order, then `head`. `weights`: others than its own. */
  forward(step: number, rows: number, weights?: number): void
  head(rows: number, weights?: number): void
  /** `headBack`, then the steps from the last to the first: sums the gradients of all rows. */
  headBack(rows: number): void
  back(step: number, rows: number): void
  update(rates: Rates): void
}

/** Floats that a network takes, at most `memoryFloatsMax`. */
export function memoryOf(shape: NetworkShape, rows: number, trained: boolean): number {
  return layoutOf(shape, rows, trained).end
}

function layoutOf(shape: NetworkShape, rows: number, trained: boolean) {
  const { units, inputs, steps, outputs } = shape
  const [width, n] = [units + inputs, weightCount(shape)]
  let end = 0
  const place = (count: number): number => {
    const at = end
    // Places begin at 16 bytes: vectors that straddle lines of the cache are slower.
    end += Math.ceil(count / 4) * 4
    return at
  }
  const weights = place(n)
  const a = place((steps + 1) * rows * width)
  const z = place(steps * rows * 4 * units)
  const c = place((steps + 1) * rows * units)
  const squashed = place(steps * rows * units)
  const y = place(rows * outputs)
  const ofTraining = trained ? n : 0
  const [gradients, m, v, average] = [place(ofTraining), place(ofTraining), place(ofTraining), place(ofTraining)]
  const [cellsTurned, headTurned] = [place(trained ? 4 * units * units : 0), place(trained ? outputs * units : 0)]
  const [dH, dState] = [place(trained ? rows * units : 0), place(trained ? rows * units : 0)]
  return { weights, a, z, c, squashed, y, gradients, m, v, average, cellsTurned, headTurned, dH, dState, end }
}

/** Weights are what the memory has at `weights`: set them before use. */
export function networkOf(kernels: Kernels, shape: NetworkShape, rows: number, trained: boolean): Network {
  const { units, inputs, steps, outputs } = shape
  const [width, gates, n] = [units + inputs, 4 * units, weightCount(shape)]
  const l = layoutOf(shape, rows, trained)
  const { loops } = kernels
  const floats = kernels.reserve(l.end)
  const headFrom = width * gates
  const rowA = (step: number): number => l.a + step * rows * width
  // Of the first step there is nothing before it; of moments and average neither.
  floats.fill(0, l.c, l.c + rows * units)
  for (let row = 0; row < rows; row++) floats.fill(0, rowA(0) + row * width, rowA(0) + row * width + units)
  floats.fill(0, l.gradients, l.average + (trained ? n : 0))
  const turn = (from: number, columns: number, to: number): void => {
    for (let i = 0; i < units; i++) for (let j = 0; j < columns; j++) floats[to + j * units + i] = floats[from + i * columns + j]!
  }
  return {
    floats,
    weights: l.weights,
    average: l.average,
    gradients: l.gradients,
    count: n,
    inputAt: (step, row) => rowA(step) + row * width + units,
    outputAt: (row) => l.y + row * outputs,
    forward(step, batch, from = l.weights) {
      const [z, state] = [l.z + step * rows * gates, l.c + step * rows * units]
      loops.multiply(batch, gates, width, rowA(step), width, 1, from, gates, z, gates, 0)
      loops.forward(batch, units, z, state, state + rows * units, l.squashed + step * rows * units, rowA(step + 1), width)
    },
    head(batch, from = l.weights) {
      loops.multiply(batch, outputs, width, rowA(steps), width, 1, from + headFrom, outputs, l.y, outputs, 0)
    },
    headBack(batch) {
      turn(l.weights, gates, l.cellsTurned)
      turn(l.weights + headFrom, outputs, l.headTurned)
      loops.multiply(width, outputs, batch, rowA(steps), 1, width, l.y, outputs, l.gradients + headFrom, outputs, 0)
      loops.multiply(batch, units, outputs, l.y, outputs, 1, l.headTurned, units, l.dH, units, 0)
      floats.fill(0, l.dState, l.dState + batch * units)
    },
    back(step, batch) {
      const z = l.z + step * rows * gates
      loops.backward(batch, units, z, l.c + step * rows * units, l.squashed + step * rows * units, l.dH, l.dState)
      loops.multiply(width, gates, batch, rowA(step), 1, width, z, gates, l.gradients, gates, step === steps - 1 ? 0 : 1)
      if (step > 0) loops.multiply(batch, units, gates, z, gates, 1, l.cellsTurned, units, l.dH, units, 0)
    },
    update({ clip, rate, decay, follow, count }) {
      const [first, second] = [1 / (1 - 0.9 ** count), 1 / (1 - 0.999 ** count)]
      loops.adam(n, l.weights, l.gradients, l.m, l.v, l.average, clip, rate, first, second, decay, follow)
    },
  }
}
