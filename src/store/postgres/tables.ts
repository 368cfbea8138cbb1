/** Partitioned tables and the shortest range of their partitions. */
export const partitioned = { messages: 'day', samples: 'day', rollup_1m: 'day', rollup_1h: 'month' } as const
export type Partitioned = keyof typeof partitioned

export interface Between {
  readonly fromUs: number
  readonly toUs: number
}

export interface Partition extends Between {
  /** As SQL takes it. */
  readonly name: string
  /** A detaching of it was begun and broken off. */
  readonly pending: boolean
}
