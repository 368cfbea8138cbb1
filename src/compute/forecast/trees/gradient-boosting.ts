import type { SeededRandom } from '../../../core/seeded-random.ts'
import type { Forecaster } from '../model.ts'
import type { Forest } from './forest.ts'
import { GrowingForest } from './forest.ts'
import type { BinnedRows } from './grow.ts'
import { Grower } from './grow.ts'
import type { Knobs } from './learn.ts'
import { prepare } from './learn.ts'
import type { Sample } from './sample.ts'
import { readTreeModel, treeModel } from './tree-model.ts'

const kind = { kind: 'gradient-boosting', letters: 'BOOS', version: 1 } as const

const knobs: Knobs = {
  trees: { usual: 200, least: 1, most: 4_000 },
  /** Of what a tree says, so much is added. */
  rate: { usual: 0.05, least: 0.001, most: 1 },
  depth: { usual: 5, least: 1, most: 16 },
  leaf_rows: { usual: 40, least: 1, most: 10_000 },
  /** Added to the rows of a leaf. */
  shrinkage: { usual: 50, least: 0, most: 1e6 },
  rows: { usual: 16_384, least: 256, most: 65_536 },
  rows_per_step: { usual: 2, least: 1, most: 32 },
  /** Of the rows, drawn for each tree; */
  rows_per_tree: { usual: 0.5, least: 0.01, most: 1 },
  /** of the features, looked at for each split. */
  features: { usual: 0.5, least: 0.01, most: 1 },
  bins: { usual: 64, least: 3, most: 255 },
  /** Of the series, at its end: what says how many trees are best. 0: all of them. */
  tail: { usual: 0.15, least: 0, most: 0.5 },
  /** Trees without a gain on the tail, after which no more are grown. */
  patience: { usual: 30, least: 1, most: 4_000 },
}

/** Rows of the tail, or before it: fewer say nothing. */
const tailLeast = 64

/**
 * Trees one after the other, each on what is left of the targets (Friedman 2001), squared loss, on a random half of the rows. How many is chosen on
 * the last part of the series by trees that have not seen it; then as many are grown on all. Rows and features as of the forest. `tuning`: the names
 * in `knobs`.
 */
export const gradientBoosting: Forecaster = {
  ...kind,
  *fit(series, options) {
    const lesson = yield* prepare(kind.kind, knobs, series, options)
    if ('refused' in lesson) return lesson
    const { knob, candidates, bounds, plan, sample, random } = lesson
    const settings = {
      rate: knob('rate'),
      part: knob('rows_per_tree'),
      grower: new Grower(sample, {
        depth: knob('depth'),
        leafRows: knob('leaf_rows'),
        candidates,
        shrinkage: knob('shrinkage'),
      }),
      random,
    }
    const most = knob('trees')
    const split = splitTail(sample, series.values.length * (1 - knob('tail')))
    const { best, error } =
      split === undefined
        ? { best: most, error: undefined }
        : yield* shared(chooseRounds(sample, split, settings, most, knob('patience')), 0.02, 0.48)
    const all = Int32Array.from(sample.targets, (_, r) => r)
    const { forest, bias } = yield* shared(boost(sample, all, settings, best), 0.5, 0.5)
    const facts = {
      trees: best,
      rate: settings.rate,
      depth: knob('depth'),
      rows: sample.targets.length,
      features: plan.width,
      nodes: forest.words.length / 2,
      ...(error === undefined ? {} : { tail_skill: 1 - error }),
    }
    return treeModel(kind, { plan, horizon: options.horizon, bounds, edges: sample.edges, scale: sample.scale, bias, forest, facts })
  },
  restore: (reader) => readTreeModel(kind, reader),
}

function* shared<T>(work: Generator<number, T, void>, from: number, share: number): Generator<number, T, void> {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
    yield from + share * step.value
  }
}

interface Tail {
  /** Rows whose targets lie before the tail, */
  readonly before: Int32Array
  /** and rows whose presents lie in it. */
  readonly after: Int32Array
}

function splitTail({ presents, aheads }: Sample, begin: number): Tail | undefined {
  const [before, after]: [number[], number[]] = [[], []]
  for (let r = 0; r < presents.length; r++) {
    if (presents[r]! + aheads[r]! < begin) before.push(r)
    else if (presents[r]! >= begin) after.push(r)
  }
  return before.length < tailLeast || after.length < tailLeast ? undefined : { before: Int32Array.from(before), after: Int32Array.from(after) }
}

interface Settings {
  readonly rate: number
  readonly part: number
  readonly grower: Grower
  readonly random: SeededRandom
}

interface Boosted {
  readonly forest: Forest
  readonly bias: number
}

/** Grows trees on some rows. `after` is told what is left of all targets when a tree has been added; false ends it. Yields the share done. */
export function* boost(
  sample: BinnedRows,
  rows: Int32Array,
  { rate, part, grower, random }: Settings,
  most: number,
  after?: (left: Float64Array, trees: number) => boolean,
): Generator<number, Boosted, void> {
  let bias = 0
  for (const row of rows) bias += sample.targets[row]! / rows.length
  const left = sample.targets.map((target) => target - bias)
  const growing = new GrowingForest()
  const drawn = new Int32Array(rows.length)
  for (let t = 0; t < most; t++) {
    let n = 0
    for (const row of rows) if (random.next() < part) drawn[n++] = row
    // Never without a row.
    if (n === 0) drawn[n++] = rows[0]!
    const tree = grower.grow(growing, drawn.subarray(0, n), left, rate, random)
    while (tree.next().done !== true) yield t / most
    growing.addLast(sample.columns, left, -1)
    if (after?.(left, t + 1) === false) break
    yield t / most
  }
  return { forest: growing.finish(), bias }
}

/** The number of trees with the least squared error on the tail, and that error as a share of that of no tree at all. */
function* chooseRounds(
  sample: BinnedRows,
  { before, after }: Tail,
  settings: Settings,
  most: number,
  patience: number,
): Generator<number, { best: number; error: number }, void> {
  const of = (errors: Float64Array): number => after.reduce((sum, row) => sum + errors[row]! ** 2, 0)
  const none = of(sample.targets)
  let [best, least] = [1, Number.POSITIVE_INFINITY]
  yield* boost(sample, before, settings, most, (left, trees) => {
    const error = of(left)
    if (error < least) [best, least] = [trees, error]
    return trees - best < patience
  })
  return { best, error: none > 0 ? least / none : 1 }
}
