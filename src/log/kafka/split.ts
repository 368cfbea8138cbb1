import { BatchBuilder } from '../../core/batch-builder.ts'
import { Flag, type Batch, type SeriesKey } from '../../core/batch.ts'
import { partitionOf } from './partitions.ts'

/**
 * Parts batches by the partitions of their devices. Remembers the partition of each series of the writing process, whose `keys` only grow. What it gives
 * is valid until the next call.
 */
export class BatchSplitter {
  readonly #partitions: number
  readonly #builders: BatchBuilder[] = []
  #keys: readonly SeriesKey[] | undefined
  #partition = new Int32Array(1024).fill(-1)

  constructor(partitions: number) {
    this.#partitions = partitions
  }

  /** The parts that have rows, by partition. A message's rows stay together: they are of one device. */
  split(batch: Batch): ReadonlyMap<number, Batch> {
    this.#adopt(batch.keys)
    for (const builder of this.#builders) builder?.reset()
    const { rows, series, timeUs, value, flags, text, meta, origin } = batch
    let nextOrigin = 0
    for (let row = 0; row < rows; row++) {
      const id = series[row]!
      const builder = this.#builder(this.#partitionOf(batch.keys, id), batch.keys)
      const at = builder.rows
      const flag = flags?.[row] ?? 0
      const words = (flag & (Flag.text | Flag.bigInteger)) === 0 ? undefined : text?.get(row)
      if (words === undefined) builder.add(id, timeUs[row]!, value[row]!, flag)
      else builder.addText(id, timeUs[row]!, words, flag)
      const json = meta?.get(row)
      if (json !== undefined) builder.addMeta(at, json)
      if (origin !== undefined && nextOrigin < origin.count && origin.firstRow[nextOrigin] === row) {
        builder.addOrigin(at, origin.hashHigh[nextOrigin]!, origin.hashLow[nextOrigin]!)
        nextOrigin++
      }
    }
    const parts = new Map<number, Batch>()
    this.#builders.forEach((builder, partition) => {
      if (builder.rows > 0) parts.set(partition, builder.view())
    })
    return parts
  }

  #builder(partition: number, keys: readonly SeriesKey[]): BatchBuilder {
    const known = this.#builders[partition]
    if (known !== undefined) return known
    return (this.#builders[partition] = new BatchBuilder(keys))
  }

  #adopt(keys: readonly SeriesKey[]): void {
    if (this.#keys === keys) return
    this.#keys = keys
    this.#partition.fill(-1)
    this.#builders.length = 0
  }

  #partitionOf(keys: readonly SeriesKey[], id: number): number {
    if (id >= this.#partition.length) {
      const grown = new Int32Array(Math.max(id + 1, this.#partition.length * 2)).fill(-1)
      grown.set(this.#partition)
      this.#partition = grown
    }
    const known = this.#partition[id]!
    if (known >= 0) return known
    return (this.#partition[id] = partitionOf(keys[id]!.device, this.#partitions))
  }
}
