import { limits } from '../../../core/limits.ts'
import { kindsOf, mayFold, runsOf, type Manifest, type Run } from './manifest.ts'
import { dayUs, monthAfterUs, monthOf, rangeOf, type Partition } from './partition.ts'

export interface Merge {
  readonly partition: Partition
  readonly inputs: readonly Run[]
  /** Whether late rows and corrections may take their place (`mayFold`). */
  readonly fold: boolean
}

/**
 * Write amplification. A reading is written by the seal, once when six runs of about an hour become one, once when its day is over, and once
 * into its month: four times 1 to 3 bytes over five weeks, against some 20 bytes of write-ahead log and hot file when it came. Afterwards a
 * partition is rewritten only when what came later is a tenth of it, so a reading that comes late costs at most ten others their rewriting;
 * less than that is merged with other late runs alone. A resent month touches the partition of that month and no other, and since years
 * stand only for a backfill's old rows, nothing is ever merged into one.
 */
export const policy = {
  /** Small runs of one partition that are merged with each other. */
  smallRunsMin: 6,
  /** Small: at most this share of the partition's rows, so that what was just merged is not merged again at once. */
  smallShare: 0.25,
  /** After its end a day is merged: by then the rows that belong to it have mostly come. */
  dayAfterUs: 2 * 3600e6,
  /** What came later is merged into the largest run when it has this share of that one's rows. */
  deltaShare: 0.1,
  /** More of them are merged with each other. */
  deltasMax: 8,
  monthAfterUs,
} as const

/** Rows to be read and written when a run is merged: those of all kinds. */
function weight(run: Run): number {
  return kindsOf(run).reduce((sum, kind) => sum + run.files[kind]!.rows + run.files[kind]!.above, 0)
}

function bytes(runs: readonly Run[]): number {
  return runs.reduce((sum, run) => sum + kindsOf(run).reduce((part, kind) => part + run.files[kind]!.bytes, 0), 0)
}

/** The merge that is due first, or undefined. Done again after each, until there is none. `monthAfterUs`: since a month's end. */
export function nextMerge(manifest: Manifest, nowUs: number, monthAfterUs: number = policy.monthAfterUs): Merge | undefined {
  const merge = (partition: Partition, inputs: readonly Run[]): Merge | undefined => {
    if (inputs.length < 2 || bytes(inputs) > limits.mergeBytesMax) return undefined
    const covers = inputs.flatMap((run) => run.covers)
    return { partition, inputs, fold: mayFold(manifest, partition, inputs, covers) }
  }
  const byPartition = Map.groupBy(manifest.runs, (run) => run.partition)
  for (const [partition, runs] of byPartition) {
    const due = ofPartition(partition, runs, nowUs)
    const found = due === undefined ? undefined : merge(partition, due)
    if (found !== undefined) return found
  }
  const months = new Set([...byPartition.keys()].filter((partition) => partition.length === 10).map((day) => monthOf(rangeOf(day).fromUs)))
  for (const month of months) {
    if (nowUs < rangeOf(month).toUs + monthAfterUs) continue
    const found = merge(month, runsOf(manifest, month)) ?? renamed(manifest, month)
    if (found !== undefined) return found
  }
  return undefined
}

/** A month of which only one day has rows becomes a month too: late rows of the month would otherwise never find their base. */
function renamed(manifest: Manifest, month: Partition): Merge | undefined {
  const inputs = runsOf(manifest, month)
  if (inputs.length !== 1 || bytes(inputs) > limits.mergeBytesMax) return undefined
  return { partition: month, inputs, fold: mayFold(manifest, month, inputs, inputs[0]!.covers) }
}

function ofPartition(partition: Partition, runs: readonly Run[], nowUs: number): readonly Run[] | undefined {
  if (runs.length < 2) return undefined
  const total = runs.reduce((sum, run) => sum + weight(run), 0)
  const bySize = runs.toSorted((a, b) => weight(b) - weight(a) || a.generation - b.generation)
  const [base, ...deltas] = bySize
  const open = partition.length === 10 && nowUs < rangeOf(partition).fromUs + dayUs + policy.dayAfterUs
  if (!open) {
    if (total - weight(base!) > policy.deltaShare * weight(base!) && bytes(runs) <= limits.mergeBytesMax) return runs
    return deltas.length > policy.deltasMax ? deltas : undefined
  }
  const small = runs.filter((run) => weight(run) <= policy.smallShare * total)
  return small.length >= policy.smallRunsMin ? small : undefined
}
