export type AnomalyKind = 'range' | 'rate' | 'stuck' | 'gap' | 'level_shift' | 'surprise' | 'joint' | 'z_score'

/** What was found at a reading, and why: enough for a person to judge it without the readings before. Every number is finite. */
export interface Anomaly {
  readonly kind: AnomalyKind
  /** Of the reading; of a gap that goes on, the moment of asking. */
  readonly timeUs: number
  readonly value: number
  /** What was expected in its place, in the unit of the value; undefined: nothing can be said. */
  readonly expected: number | undefined
  /** Where values usually lie, or may; undefined: unbounded on this side, or not known. */
  readonly lower: number | undefined
  readonly upper: number | undefined
  /** What decided, by name, and how large it was. */
  readonly statistic: string
  readonly size: number
  /** What it was held against: an alarm is at or beyond it. */
  readonly threshold: number
  /** The probability of something so extreme, by what the series did before; undefined where a limit was set by hand. */
  readonly rarity: number | undefined
  /** By statistic: its size, and its weighted surprise (-log10 of its probability), the largest first. Only of scores that are made of several. */
  readonly parts?: readonly { readonly statistic: string; readonly size: number; readonly surprise: number }[]
}

/** A number for evidence: what is not finite is not said. */
export function said(value: number): number | undefined {
  return Number.isFinite(value) ? value : undefined
}
