/** The widths of rollups, and their length in microseconds. */
export type Level = 'minute' | 'hour'
export const stepOf = { minute: 60e6, hour: 3600e6 } as const

/** When the minutes of a series are kept: from one with `dense` readings on, until `minutes` in a row had `sparse` or fewer. */
export interface KeepMinutes {
  readonly dense: number
  readonly sparse: number
  readonly minutes: number
}
