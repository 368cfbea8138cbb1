import { Flag } from '../../../core/batch.ts'
import type { Batch } from '../../../core/batch.ts'
import { formatRfc3339 } from '../../../wire/time.ts'

/** Columns of raw readings: a QueryPage, or a Batch. */
export type ReadingColumns = Pick<Batch, 'keys' | 'series' | 'timeUs' | 'value' | 'flags' | 'text' | 'meta'>

const flagNames: readonly (readonly [number, string])[] = [
  [Flag.bigInteger, 'big_integer'],
  [Flag.retained, 'retained'],
  [Flag.clockAhead, 'clock_ahead'],
  [Flag.late, 'late'],
  [Flag.arrivalTime, 'arrival_time'],
]

/** What the flags say beyond the value's type. */
export function flagsOf(flags: number): string[] {
  if (flags <= (Flag.boolean | Flag.text)) return []
  return flagNames.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name)
}

/** A number as JSON; what JSON cannot say is null. */
export function numberJson(value: number): string {
  return Number.isFinite(value) ? String(value) : 'null'
}

/** The value as it was sent: number, boolean or text (an integer beyond 2^53 as text, so that no reader loses its digits). */
export function valueOf(columns: ReadingColumns, row: number): number | boolean | string | null {
  const text = columns.text?.get(row)
  if (text !== undefined) return text
  const value = columns.value[row]!
  if (columns.flags !== undefined && (columns.flags[row]! & Flag.boolean) !== 0) return value !== 0
  return Number.isFinite(value) ? value : null
}

export function valueJson(columns: ReadingColumns, row: number): string {
  const value = valueOf(columns, row)
  return typeof value === 'string' ? JSON.stringify(value) : String(value)
}

/** Free metadata was JSON when it came; should it not be one, it is given back as text. */
export function metaOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}

/** One reading as the lists give it out. */
export interface ReadingItem {
  readonly device: string
  readonly metric: string
  readonly time: string
  readonly value: number | boolean | string | null
  readonly unit?: string
  readonly flags?: readonly string[]
}

export function readingItem(columns: ReadingColumns, row: number, unit: string | undefined): ReadingItem {
  const key = columns.keys[columns.series[row]!]!
  const flags = flagsOf(columns.flags?.[row] ?? 0)
  return {
    device: key.device,
    metric: key.metric,
    time: formatRfc3339(columns.timeUs[row]!),
    value: valueOf(columns, row),
    ...(unit === undefined ? {} : { unit }),
    ...(flags.length === 0 ? {} : { flags }),
  }
}
