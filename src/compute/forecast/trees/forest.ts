import type { StateReader, StateWriter } from '../../window/state-bytes.ts'

/**
 * Binary trees in one flat array, two words per node, all trees one after the other. Children follow each other and come after their parent, so a
 * walk always ends.
 */
export interface Forest {
  /** Node at which each tree begins. */
  readonly roots: Uint32Array
  /**
   * Word 2i of node i: feature (bits 0 to 7), bin up to which it goes left (8 to 15), both bins less one where missing values (bin 0) go right (bit
   * 16 is set), as 0 wraps to 255 then. Word 2i + 1: its left child; the right one follows that. A leaf has all bits of the first word set, and in the
   * second those of what it adds, in single precision.
   */
  readonly words: Uint32Array
  /** The same memory, for the values of leaves. */
  readonly floats: Float32Array
}

const leaf = 0xffff_ffff

/** A forest while it grows. */
export class GrowingForest {
  #words = new Uint32Array(2_048)
  #floats = new Float32Array(this.#words.buffer)
  #nodes = 0
  readonly #roots: number[] = []

  get nodes(): number {
    return this.#nodes
  }

  /** Returns the root, a leaf so far. */
  beginTree(): number {
    const root = this.#add(1)
    this.#roots.push(root)
    return root
  }

  /** Makes a leaf a split. Returns its left child. `bin`: the last one that goes left. */
  split(node: number, feature: number, bin: number, missingRight: boolean): number {
    const left = this.#add(2)
    const less = missingRight ? 1 : 0
    this.#words[2 * node] = feature | ((bin - less) << 8) | (less << 16)
    this.#words[2 * node + 1] = left
    return left
  }

  setLeaf(node: number, value: number): void {
    this.#floats[2 * node + 1] = value
  }

  /** Adds `by` times what the last tree says of each row to `sums`. `columns`: bins by feature. */
  addLast(columns: readonly Uint8Array[], sums: Float64Array, by: number): void {
    const [words, floats] = [this.#words, this.#floats]
    const root = this.#roots.at(-1) ?? 0
    for (let row = 0; row < sums.length; row++) {
      let node = root
      for (let split = words[2 * node]!; split !== leaf; split = words[2 * node]!) node = childOf(words, node, split, columns[split & 255]![row]!)
      sums[row]! += by * floats[2 * node + 1]!
    }
  }

  finish(): Forest {
    return forestOf(Uint32Array.from(this.#roots), this.#words.slice(0, 2 * this.#nodes))
  }

  #add(count: number): number {
    const at = this.#nodes
    if (2 * (at + count) > this.#words.length) {
      const more = new Uint32Array(2 * this.#words.length)
      more.set(this.#words)
      this.#words = more
      this.#floats = new Float32Array(more.buffer)
    }
    for (let node = at; node < at + count; node++) this.#words[2 * node] = leaf
    this.#nodes = at + count
    return at
  }
}

function forestOf(roots: Uint32Array, words: Uint32Array): Forest {
  return { roots, words, floats: new Float32Array(words.buffer) }
}

function childOf(words: Uint32Array, node: number, split: number, bin: number): number {
  // The sign of end minus bin, as both are bytes: without a branch that would be foretold wrongly every other time.
  return words[2 * node + 1]! + ((((split >>> 8) & 255) - ((bin - ((split >>> 16) & 1)) & 255)) >>> 31)
}

/**
 * What the trees say together of rows: the sum of the leaves that each ends in, into `out`, one per row. `bins`: rows of `width` features, one after
 * the other. All rows go through a tree before the next one is looked at, so that it stays in the cache.
 */
export function sumRows({ roots, words, floats }: Forest, bins: Uint8Array, width: number, out: Float64Array): void {
  out.fill(0)
  for (let t = 0; t < roots.length; t++) {
    const root = roots[t]!
    for (let row = 0; row < out.length; row++) {
      const from = row * width
      let node = root
      for (let split = words[2 * node]!; split !== leaf; split = words[2 * node]!) node = childOf(words, node, split, bins[from + (split & 255)]!)
      out[row]! += floats[2 * node + 1]!
    }
  }
}

export function writeForest(writer: StateWriter, { roots, words }: Forest): void {
  for (const list of [roots, words]) {
    const bytes = new Uint8Array(4 * list.length)
    const view = new DataView(bytes.buffer)
    list.forEach((word, i) => view.setUint32(4 * i, word, true))
    writer.bytes(bytes)
  }
}

/** Throws where a walk could leave the array, or go on for ever. `features`: how many a row has. */
export function readForest(reader: StateReader, features: number): Forest {
  const roots = readWords(reader)
  const forest = forestOf(roots, readWords(reader))
  const { words, floats } = forest
  const nodes = words.length / 2
  if (!Number.isInteger(nodes) || !roots.every((root) => root < nodes)) throw new Error('trees do not fit')
  for (let i = 0; i < nodes; i++) {
    const [split, left] = [words[2 * i]!, words[2 * i + 1]!]
    const fits = split === leaf ? Number.isFinite(floats[2 * i + 1]) : split >>> 17 === 0 && (split & 255) < features && left > i && left + 1 < nodes
    if (!fits) throw new Error('a node does not fit')
  }
  return forest
}

/** No more than the file holds. */
function readWords(reader: StateReader): Uint32Array {
  const bytes = reader.bytes()
  const count = bytes.length / 4
  if (!Number.isInteger(count) || count < 1) throw new Error(`${bytes.length} bytes of words`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Uint32Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true))
}
