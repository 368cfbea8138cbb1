import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { describe, it } from 'node:test'
import { binEdges, binOf } from '../../src/compute/forecast/trees/bins.ts'
import { boost } from '../../src/compute/forecast/trees/gradient-boosting.ts'
import type { BinnedRows } from '../../src/compute/forecast/trees/grow.ts'
import { Grower } from '../../src/compute/forecast/trees/grow.ts'
import { bag } from '../../src/compute/forecast/trees/random-forest.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'
import { answers, finish } from '../support/tree-rows.ts'

interface OracleModel {
  predict(csv: string): ArrayLike<number>
  unload(): void
}

type Learner = new (label: string, task: string) => { train(csv: string): OracleModel }

/** Google's Yggdrasil Decision Forests, in WebAssembly. It has no types. */
async function oracle(): Promise<Record<'RandomForestLearner' | 'GradientBoostedTreesLearner', Learner>> {
  const require = createRequire(import.meta.url)
  const load = require('ydf-training') as (o: object) => ReturnType<typeof oracle>
  return await load({ print: () => undefined, printErr: () => undefined })
}

void describe('trees and boosting', () => {
  void it('forecast a table as well as those of YDF do', async () => {
    const random = new SeededRandom(8)
    const table = Array.from({ length: 1_000 }, () => {
      const x = Array.from({ length: 4 }, () => random.next())
      return { x, y: 10 * Math.sin(3 * x[0]! * x[1]!) + (x[2]! > 0.5 ? 5 : 0) + random.next() }
    })
    const [learned, asked] = [table.slice(0, 600), table.slice(600)]
    const edges = [0, 1, 2, 3].map((f) =>
      binEdges(
        Float64Array.from(learned, ({ x }) => x[f]!),
        255,
      ),
    )
    const binned = (rows: typeof table): BinnedRows => ({
      columns: edges.map((ends, f) => Uint8Array.from(rows, ({ x }) => binOf(ends, x[f]!))),
      bins: edges.map((ends) => ends.length + 2),
      targets: Float64Array.from(rows, ({ y }) => y),
    })
    const errorOf = (found: ArrayLike<number>): number => asked.reduce((s, { y }, i) => s + (y - found[i]!) ** 2, 0) / asked.length
    const sample = binned(learned)
    // What YDF does unless told otherwise: three of four features for a split, five rows in a leaf.
    const bagged = finish(bag(sample, { trees: 100, depth: 16, leafRows: 5, candidates: 3 }, new SeededRandom(1)))
    const grower = new Grower(sample, { depth: 5, leafRows: 5, candidates: 4, shrinkage: 0 })
    const all = Int32Array.from(sample.targets, (_, row) => row)
    const boosted = finish(boost(sample, all, { rate: 0.1, part: 1, grower, random: new SeededRandom(1) }, 100))
    const own = {
      RandomForestLearner: errorOf(answers(bagged, binned(asked))),
      GradientBoostedTreesLearner: errorOf(answers(boosted.forest, binned(asked)).map((v) => v + boosted.bias)),
    }
    const ydf = await oracle()
    const csv = (rows: typeof table): string => ['a,b,c,d,y', ...rows.map(({ x, y }) => [...x, y].join(','))].join('\n')
    for (const name of ['RandomForestLearner', 'GradientBoostedTreesLearner'] as const) {
      const model = new ydf[name]('y', 'REGRESSION').train(csv(learned))
      const theirs = errorOf(model.predict(csv(asked)))
      model.unload()
      assert.ok(own[name] < 1.15 * theirs, `${name}: ${own[name]}, YDF ${theirs}`)
    }
  })
})
