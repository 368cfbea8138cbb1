import type { SeededRandom } from '../../../core/seeded-random.ts'
import type { Forecaster } from '../model.ts'
import type { Forest } from './forest.ts'
import { GrowingForest } from './forest.ts'
import type { BinnedRows, GrowOptions } from './grow.ts'
import { Grower } from './grow.ts'
import type { Knobs } from './learn.ts'
import { prepare } from './learn.ts'
import { readTreeModel, treeModel } from './tree-model.ts'

const kind = { kind: 'random-forest', letters: 'FRST', version: 1 } as const

const knobs: Knobs = {
  trees: { usual: 100, least: 1, most: 1_000 },
  depth: { usual: 14, least: 1, most: 32 },
  leaf_rows: { usual: 30, least: 1, most: 10_000 },
  rows: { usual: 16_384, least: 256, most: 65_536 },
  rows_per_step: { usual: 2, least: 1, most: 32 },
  bins: { usual: 64, least: 3, most: 255 },
  /** Of the features, looked at for each split. */
  features: { usual: 0.33, least: 0.01, most: 1 },
}

/**
 * Trees, each grown on rows drawn with replacement, each split of a random part of the features (Breiman 2001); their mean. Rows and features: as in
 * sample.ts and rows.ts: how far ahead is a feature, and everything is relative to the last value. `tuning`: the names in `knobs`.
 */
export const randomForest: Forecaster = {
  ...kind,
  *fit(series, options) {
    const lesson = yield* prepare(kind.kind, knobs, series, options)
    if ('refused' in lesson) return lesson
    const { knob, candidates, bounds, plan, sample, random } = lesson
    const settings = {
      trees: knob('trees'),
      depth: knob('depth'),
      leafRows: knob('leaf_rows'),
      candidates,
    }
    const forest = yield* bag(sample, settings, random)
    const facts = {
      trees: settings.trees,
      depth: settings.depth,
      leaf_rows: settings.leafRows,
      rows: sample.targets.length,
      features: plan.width,
      nodes: forest.words.length / 2,
    }
    return treeModel(kind, { plan, horizon: options.horizon, bounds, edges: sample.edges, scale: sample.scale, bias: 0, forest, facts })
  },
  restore: (reader) => readTreeModel(kind, reader),
}

/** The forest whose sum is the mean of its trees. Yields the share done. */
export function* bag(
  sample: BinnedRows,
  { trees, ...how }: Omit<GrowOptions, 'shrinkage'> & { readonly trees: number },
  random: SeededRandom,
): Generator<number, Forest, void> {
  const rows = sample.targets.length
  const grower = new Grower(sample, { ...how, shrinkage: 0 })
  const forest = new GrowingForest()
  const times = new Uint8Array(rows)
  const chosen = new Int32Array(rows)
  for (let t = 0; t < trees; t++) {
    times.fill(0)
    for (let k = 0; k < rows; k++) times[Math.floor(random.next() * rows)]!++
    // In the order of rows, so that columns are read from front to back.
    let at = 0
    for (let r = 0; r < rows; r++) for (let k = times[r]!; k > 0; k--) chosen[at++] = r
    const growing = grower.grow(forest, chosen, sample.targets, 1 / trees, random)
    while (growing.next().done !== true) yield t / trees
    yield (t + 1) / trees
  }
  return forest.finish()
}
