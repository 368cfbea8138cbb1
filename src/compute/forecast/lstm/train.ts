import { SeededRandom } from '../../../core/seeded-random.ts'
import type { Cut, Scales } from './inputs.ts'
import { shapeOf, writeInputs } from './inputs.ts'
import type { Kernels } from './kernels.ts'
import type { Network } from './network.ts'
import { networkOf } from './network.ts'

/** What is learned from. */
export interface Windows {
  /** Without holes. */
  readonly values: Float64Array
  /** By the last value of a window: where in its season it is. */
  readonly phases: Float64Array
  /** Where windows begin that are learned from, and those that say when to stop. */
  readonly learned: Int32Array
  readonly judged: Int32Array
  readonly horizon: number
  readonly season: number
}

export interface Training {
  readonly cut: Cut
  readonly units: number
  /** Windows of a batch, */
  readonly rows: number
  /** and batches at most: the rate falls over them, to nothing. */
  readonly batches: number
  /** Ends there, with the weights of that time, and judges nothing. */
  readonly until?: number
  readonly rate: number
  readonly decay: number
  readonly seed: number
}

export interface Trained {
  readonly weights: Float32Array
  readonly scales: Scales
  /** Batches until the weights that were best. */
  readonly batches: number
  /** Of the windows that say when to stop: mean squared error relative to that of the last value; undefined: none were asked. */
  readonly error: number | undefined
}

/** Multiplications between two yields: a tenth of a millisecond with vectors, some 3 without. */
const pieceOf = 1e6
/** Times that the weights are judged, and how often in a row they may be no better. */
const judgements = 12
const patience = 4
const clipNorm = 1
/** The average of the weights follows by a hundredth each batch: it forgets within an epoch or so. */
const follow = 0.01

/** Adam over batches drawn without repetition within an epoch; the averaged weights that were best on the judged windows win. Yields the share done. */
export function* trainNetwork(kernels: Kernels, w: Windows, t: Training): Generator<number, Trained | undefined, void> {
  const { cut, units, rows } = t
  const shape = shapeOf(cut, units, w.season, w.horizon)
  const net = networkOf(kernels, shape, rows, true)
  const scales = scalesOf(w, cut)
  const random = new SeededRandom(t.seed, 1)
  begin(net, units, shape.inputs, random)
  const order = Int32Array.from(w.learned)
  const every = Math.max(1, Math.floor(t.batches / judgements))
  const piece = { left: pieceOf, cost: rows * (units + shape.inputs) * (4 * units) }
  let best: Trained | undefined
  let [place, worse] = [order.length, 0]
  const end = t.until ?? t.batches
  for (let batch = 1; batch <= end; batch++) {
    const share = (batch - 1) / end
    if (place + rows > order.length) {
      shuffle(order, random)
      place = 0
    }
    const chosen = order.subarray(place, place + rows)
    place += rows
    yield* forward(net, w, { cut, chosen, scales, share, piece })
    lossGradients(net, w, cut, chosen, scales)
    net.headBack(chosen.length)
    for (let step = cut.steps - 1; step >= 0; step--) {
      net.back(step, chosen.length)
      if ((piece.left -= 2 * piece.cost) < 0) {
        piece.left = pieceOf
        yield share
      }
    }
    const norm = Math.sqrt(squares(net.floats, net.gradients, net.count))
    if (!Number.isFinite(norm)) return best
    const rate = t.rate * 0.5 * (1 + Math.cos((Math.PI * (batch - 1)) / t.batches)) * Math.min(1, batch / 50)
    net.update({ clip: Math.min(1, clipNorm / norm), rate, decay: t.decay, follow: Math.max(follow, 1 / batch), count: batch })
    if (t.until !== undefined || (batch % every !== 0 && batch !== end)) continue
    const error = yield* judge(net, w, { cut, scales, share, piece, rows })
    if (error < (best?.error ?? Number.POSITIVE_INFINITY)) {
      best = { weights: averageOf(net), scales, batches: batch, error }
      worse = 0
    } else if (++worse >= patience) break
  }
  return t.until === undefined ? best : { weights: averageOf(net), scales, batches: end, error: undefined }
}

function averageOf({ floats, average, count }: Network): Float32Array {
  return floats.slice(average, average + count)
}

/** Uniform in ± 1 / √units; forget gates begin open (Jozefowicz et al. 2015), and the head with the last value as its forecast. */
function begin({ floats, weights, average, count }: Network, units: number, inputs: number, random: SeededRandom): void {
  const n = (units + inputs) * 4 * units
  const width = 1 / Math.sqrt(units)
  for (let i = 0; i < n; i++) floats[weights + i] = random.between(-width, width)
  const biases = weights + units * 4 * units
  for (let u = 0; u < 4 * units; u++) floats[biases + u] = u >= units && u < 2 * units ? 1 : 0
  floats.fill(0, weights + n, weights + count)
  floats.copyWithin(average, weights, weights + count)
}

function shuffle(order: Int32Array, random: SeededRandom): void {
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random.next() * (i + 1))
    ;[order[i], order[j]] = [order[j]!, order[i]!]
  }
}

interface Pass {
  readonly cut: Cut
  readonly chosen: Int32Array
  readonly scales: Scales
  readonly share: number
  readonly piece: { left: number; readonly cost: number }
}

function* forward(net: Network, w: Windows, { cut, chosen, scales, share, piece }: Pass, weights?: number): Generator<number, void, void> {
  const window = cut.steps * cut.patch
  for (let row = 0; row < chosen.length; row++) {
    const from = chosen[row]!
    const how = { cut, season: w.season, scale: scales.inputs }
    writeInputs(w.values, from, w.phases[from + window - 1]!, how, net.floats, (step) => net.inputAt(step, row))
  }
  for (let step = 0; step < cut.steps; step++) {
    net.forward(step, chosen.length, weights)
    if ((piece.left -= piece.cost) < 0) {
      piece.left = pieceOf
      yield share
    }
  }
  net.head(chosen.length, weights)
}

/** Puts the gradients of the mean squared error in the place of the outputs. */
function lossGradients(net: Network, w: Windows, { steps, patch }: Cut, chosen: Int32Array, { targets }: Scales): void {
  const { floats } = net
  const by = 2 / (chosen.length * w.horizon)
  for (let row = 0; row < chosen.length; row++) {
    const [present, at] = [chosen[row]! + steps * patch - 1, net.outputAt(row)]
    const last = w.values[present]!
    for (let h = 0; h < w.horizon; h++) floats[at + h] = by * (floats[at + h]! - (w.values[present + 1 + h]! - last) / targets)
    floats.fill(0, at + w.horizon, net.outputAt(row + 1))
  }
}

function squares(floats: Float32Array, from: number, count: number): number {
  let sum = 0
  for (let i = from; i < from + count; i++) sum += floats[i]! * floats[i]!
  return sum
}

/** Mean squared error of the averaged weights on the judged windows, relative to that of the last value. */
function* judge(net: Network, w: Windows, o: Omit<Pass, 'chosen'> & { readonly rows: number }): Generator<number, number, void> {
  let [sum, naive] = [0, 0]
  for (let from = 0; from < w.judged.length; from += o.rows) {
    const chosen = w.judged.subarray(from, from + o.rows)
    yield* forward(net, w, { ...o, chosen }, net.average)
    for (let row = 0; row < chosen.length; row++) {
      const [present, at] = [chosen[row]! + o.cut.steps * o.cut.patch - 1, net.outputAt(row)]
      for (let h = 0; h < w.horizon; h++) {
        const target = (w.values[present + 1 + h]! - w.values[present]!) / o.scales.targets
        sum += (net.floats[at + h]! - target) ** 2
        naive += target ** 2
      }
    }
  }
  return naive > 0 ? sum / naive : Number.POSITIVE_INFINITY
}

/** Root mean squares of what the network reads and of what it forecasts, over the learned windows. */
function scalesOf({ values, learned, horizon }: Windows, { steps, patch }: Cut): Scales {
  const window = steps * patch
  let [inputs, targets] = [0, 0]
  const stride = Math.max(1, Math.floor(learned.length / 500))
  let n = 0
  for (let k = 0; k < learned.length; k += stride, n++) {
    const present = learned[k]! + window - 1
    const last = values[present]!
    for (let i = learned[k]!; i <= present; i++) inputs += (values[i]! - last) ** 2 / window
    for (let h = 1; h <= horizon; h++) targets += (values[present + h]! - last) ** 2 / horizon
  }
  return { inputs: Math.sqrt(inputs / n) || 1, targets: Math.sqrt(targets / n) || 1 }
}
