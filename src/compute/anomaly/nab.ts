/**
 * The scoring of the Numenta Anomaly Benchmark (Lavin and Ahmad 2015, NAB v1.1), for any detector that gives alarms: a scorer of its own, after the
 * paper and the published rules.
 */

export interface NabProfile {
  readonly name: 'standard' | 'reward_low_FP' | 'reward_low_FN'
  /** What an alarm far from any window costs. */
  readonly falsePositive: number
  /** What a window without an alarm costs. */
  readonly falseNegative: number
}

export const nabProfiles: readonly NabProfile[] = [
  { name: 'standard', falsePositive: 0.11, falseNegative: 1 },
  { name: 'reward_low_FP', falsePositive: 0.22, falseNegative: 1 },
  { name: 'reward_low_FN', falsePositive: 0.11, falseNegative: 2 },
]

/** A labelled window: its first and last row, counted from 0, both within. */
export interface NabWindow {
  readonly from: number
  readonly to: number
}

/** Rows at the beginning of a file that are for learning, and count for nothing. */
export function probationRows(rows: number): number {
  return Math.floor(Math.min(0.15 * rows, 0.15 * 5_000))
}

/** The scaled sigmoid: 1 long before the end of a window, 0 at its end, -1 long after it. */
export function nabSigmoid(position: number): number {
  return position > 3 ? -1 : 2 / (1 + Math.exp(5 * position)) - 1
}

export interface NabTally {
  /** Windows that reach beyond the probation. */
  readonly windows: number
  readonly found: number
  /** Alarms outside of windows, after the probation. */
  readonly falseAlarms: number
  /** Sum of what each window found gave, each at most 1. */
  readonly gained: number
  /** Sum of what alarms outside cost, each at most 1: a little after a window they cost little. */
  readonly lost: number
}

/**
 * What alarms of one file (row numbers, ascending) are worth, before weights: of each window the earliest alarm counts, each alarm outside costs by
 * its distance from the window before it. Windows are ascending and do not overlap.
 */
export function tallyNab(rows: number, windows: readonly NabWindow[], alarms: readonly number[]): NabTally {
  const probation = probationRows(rows)
  const counted = windows.filter(({ to }) => to >= probation)
  const found = new Set<NabWindow>()
  let [gained, lost, falseAlarms] = [0, 0, 0]
  for (const row of alarms) {
    if (row < probation) continue
    const inside = counted.find(({ from, to }) => row >= from && row <= to)
    if (inside !== undefined) {
      if (found.has(inside)) continue
      found.add(inside)
      gained += nabSigmoid(-(inside.to - row + 1) / (inside.to - inside.from + 1)) / nabSigmoid(-1)
      continue
    }
    falseAlarms++
    const before = windows.findLast(({ to }) => to < row)
    lost += before === undefined ? 1 : -nabSigmoid((row - before.to) / Math.max(1, before.to - before.from))
  }
  return { windows: counted.length, found: found.size, falseAlarms, gained, lost }
}

export function addTallies(tallies: readonly NabTally[]): NabTally {
  const sum = (pick: (one: NabTally) => number): number => tallies.reduce((total, one) => total + pick(one), 0)
  return {
    windows: sum((one) => one.windows),
    found: sum((one) => one.found),
    falseAlarms: sum((one) => one.falseAlarms),
    gained: sum((one) => one.gained),
    lost: sum((one) => one.lost),
  }
}

/** The weighted sum that is normalised: +1 at best for each window. */
export function rawNab({ windows, found, gained, lost }: NabTally, { falsePositive, falseNegative }: NabProfile): number {
  return gained - falsePositive * lost - falseNegative * (windows - found)
}

/**
 * 100 x (raw - null) / (perfect - null): a detector that is silent has 0, one that alarms on the first row of each window and nowhere else has 100.
 * NaN of files without windows: there is nothing to be found, so nothing to divide by.
 */
export function nabScore(tally: NabTally, profile: NabProfile): number {
  const nothing = -profile.falseNegative * tally.windows
  return (100 * (rawNab(tally, profile) - nothing)) / (tally.windows - nothing)
}
