import type { Forest } from '../../src/compute/forecast/trees/forest.ts'
import { sumRows } from '../../src/compute/forecast/trees/forest.ts'
import type { BinnedRows } from '../../src/compute/forecast/trees/grow.ts'

/** Runs a training, or a part of one, to its end. */
export function finish<T>(work: Generator<unknown, T, void>): T {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}

/** What a forest says of each row. */
export function answers(forest: Forest, { columns, targets }: BinnedRows): Float64Array {
  const bins = new Uint8Array(columns.length * targets.length)
  columns.forEach((column, f) => column.forEach((bin, row) => (bins[row * columns.length + f] = bin)))
  const out = new Float64Array(targets.length)
  sumRows(forest, bins, columns.length, out)
  return out
}
