import type { SeededRandom } from '../../../core/seeded-random.ts'
import type { GrowingForest } from './forest.ts'

/** What trees are grown on. */
export interface BinnedRows {
  /** One column per feature, at most 255 features; its length is the number of rows. Bin 0: missing. */
  readonly columns: readonly Uint8Array[]
  /** Bins of each feature, that of missing values included. */
  readonly bins: readonly number[]
  readonly targets: Float64Array
}

export interface GrowOptions {
  /** Splits on the way to a leaf, at most. */
  readonly depth: number
  /** Rows of a leaf, at least. */
  readonly leafRows: number
  /** Features that are looked at for a split, drawn anew for each; all of them: as many as there are. */
  readonly candidates: number
  /** Added to the rows of a leaf when its mean is taken: leaves of few rows are drawn towards 0. */
  readonly shrinkage: number
}

/** Additions to histograms between two yields: some 3 ms. */
const workPerPiece = 2_000_000

/** Sums over rows by feature and bin: each bin a sum of targets and a count. One array holds them all, feature after feature. */
type Histogram = Float64Array

interface Node {
  readonly id: number
  readonly from: number
  readonly to: number
  readonly depth: number
  readonly sum: number
  /** Undefined: it cannot be split. */
  readonly histogram: Histogram | undefined
}

interface Split {
  readonly feature: number
  readonly bin: number
  readonly missingRight: boolean
  readonly leftSum: number
}

/**
 * Grows trees on the same rows. The best split is the one whose children have the least squared error, searched over all ends of bins with missing
 * values on either side. Of two children the histogram of the larger one is that of the parent less that of the smaller one.
 */
export class Grower {
  readonly #rows: BinnedRows
  readonly #options: GrowOptions
  /** Where each feature begins in a histogram. */
  readonly #offsets: Int32Array
  readonly #size: number
  readonly #spare: Histogram[] = []
  readonly #scratch: Int32Array
  readonly #gathered: Float64Array
  readonly #order: Uint8Array
  #work = 0

  constructor(rows: BinnedRows, options: GrowOptions) {
    this.#rows = rows
    this.#options = options
    this.#offsets = new Int32Array(rows.bins.length)
    let size = 0
    for (let f = 0; f < rows.bins.length; f++) {
      this.#offsets[f] = size
      size += 2 * rows.bins[f]!
    }
    this.#size = size
    const count = rows.columns[0]?.length ?? 0
    this.#scratch = new Int32Array(2 * count)
    this.#gathered = new Float64Array(2 * count)
    this.#order = Uint8Array.from(rows.bins, (_, f) => f)
  }

  /**
   * One more tree of the forest. `chosen`: the rows it learns from (one may come twice; at most twice as many as there are rows), which are put in
   * another order; `targets`: of all rows. `weight`: leaves are multiplied by it. Yields now and then.
   */
  *grow(forest: GrowingForest, chosen: Int32Array, targets: Float64Array, weight: number, random: SeededRandom): Generator<undefined, void, void> {
    const { depth, leafRows, shrinkage } = this.#options
    let sum = 0
    for (const row of chosen) sum += targets[row]!
    const histogram = this.#isSplittable(chosen.length, 0) ? this.#build(chosen, 0, chosen.length, targets) : undefined
    const open: Node[] = [{ id: forest.beginTree(), from: 0, to: chosen.length, depth: 0, sum, histogram }]
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      if (this.#work > workPerPiece) {
        this.#work = 0
        yield
      }
      const { id, from, to } = node
      const split = node.histogram === undefined ? undefined : this.#bestSplit(node.histogram, node, random)
      if (split === undefined || node.histogram === undefined) {
        if (node.histogram !== undefined) this.#spare.push(node.histogram)
        forest.setLeaf(id, (weight * node.sum) / (to - from + shrinkage))
        continue
      }
      const middle = this.#partition(chosen, from, to, split)
      const left = forest.split(id, split.feature, split.bin, split.missingRight)
      const below = node.depth + 1
      const leftIsSmall = middle - from <= to - middle
      const [small, large] = leftIsSmall ? [middle - from, to - middle] : [to - middle, middle - from]
      let ofSmall: Histogram | undefined
      let ofLarge: Histogram | undefined
      if (below < depth && large >= 2 * leafRows) {
        ofSmall = leftIsSmall ? this.#build(chosen, from, middle, targets) : this.#build(chosen, middle, to, targets)
        ofLarge = node.histogram
        for (let k = 0; k < ofLarge.length; k++) ofLarge[k]! -= ofSmall[k]!
        if (!this.#isSplittable(small, below)) {
          this.#spare.push(ofSmall)
          ofSmall = undefined
        }
      } else this.#spare.push(node.histogram)
      const { leftSum } = split
      open.push(
        { id: left + 1, from: middle, to, depth: below, sum: node.sum - leftSum, histogram: leftIsSmall ? ofLarge : ofSmall },
        { id: left, from, to: middle, depth: below, sum: leftSum, histogram: leftIsSmall ? ofSmall : ofLarge },
      )
    }
  }

  #isSplittable(rows: number, depth: number): boolean {
    return depth < this.#options.depth && rows >= 2 * this.#options.leafRows
  }

  #build(chosen: Int32Array, from: number, to: number, targets: Float64Array): Histogram {
    const histogram = this.#spare.pop() ?? new Float64Array(this.#size)
    histogram.fill(0)
    const gathered = this.#gathered
    for (let i = from; i < to; i++) gathered[i] = targets[chosen[i]!]!
    const { columns } = this.#rows
    for (let f = 0; f < columns.length; f++) addColumn(histogram, this.#offsets[f]!, columns[f]!, chosen, gathered, from, to)
    this.#work += (to - from) * columns.length + this.#size
    return histogram
  }

  #bestSplit(histogram: Histogram, { from, to, sum }: Node, random: SeededRandom): Split | undefined {
    const rows = to - from
    const { leafRows, shrinkage, candidates } = this.#options
    const order = this.#order
    const count = Math.min(candidates, order.length)
    // What is not better by more than rounding is no better.
    let best = (sum * sum) / (rows + shrinkage) + 1e-12 * rows
    let [feature, bin, missingRight, leftSum] = [-1, 0, false, 0]
    for (let k = 0; k < count; k++) {
      if (count < order.length) {
        const other = k + Math.floor(random.next() * (order.length - k))
        ;[order[k], order[other]] = [order[other]!, order[k]!]
      }
      const f = order[k]!
      const offset = this.#offsets[f]!
      const end = this.#rows.bins[f]! - 1
      const missing = histogram[offset + 1]!
      // Without missing values the larger child would have them.
      for (let right = missing > 0 ? 1 : 0; right >= 0; right--) {
        let [s, n] = [0, 0]
        for (let b = right; b < end; b++) {
          s += histogram[offset + 2 * b]!
          n += histogram[offset + 2 * b + 1]!
          if (n < leafRows) continue
          const others = rows - n
          if (others < leafRows) break
          const score = (s * s) / (n + shrinkage) + ((sum - s) * (sum - s)) / (others + shrinkage)
          if (score > best) {
            best = score
            ;[feature, bin, leftSum] = [f, b, s]
            missingRight = missing > 0 ? right === 1 : b > 0 && 2 * n < rows
          }
        }
      }
    }
    return feature < 0 ? undefined : { feature, bin, missingRight, leftSum }
  }

  /** Left ones first, each side in the order it had. Returns where the right ones begin. */
  #partition(chosen: Int32Array, from: number, to: number, { feature, bin, missingRight }: Split): number {
    const column = this.#rows.columns[feature]!
    const less = missingRight ? 1 : 0
    const scratch = this.#scratch
    let [left, right] = [from, 0]
    for (let i = from; i < to; i++) {
      const row = chosen[i]!
      if (((column[row]! - less) & 255) > bin - less) scratch[right++] = row
      else chosen[left++] = row
    }
    for (let i = 0; i < right; i++) chosen[left + i] = scratch[i]!
    return left
  }
}

function addColumn(
  histogram: Histogram,
  offset: number,
  column: Uint8Array,
  chosen: Int32Array,
  gathered: Float64Array,
  from: number,
  to: number,
): void {
  for (let i = from; i < to; i++) {
    const at = offset + 2 * column[chosen[i]!]!
    histogram[at]! += gathered[i]!
    histogram[at + 1]! += 1
  }
}
