import type { QueryAnswer } from './schema.ts'

/** One reading, or one bucket: then `value` is missing and each aggregate asked for is a member. */
export interface Row {
  readonly device: string
  readonly metric: string
  readonly unit?: string
  /** Epoch milliseconds; microseconds are the decimals. RFC 3339 with `time: 'rfc3339'`. */
  readonly time: number | string
  readonly value?: number | string | boolean | null
  readonly [aggregate: string]: number | string | boolean | null | undefined
}

/** The columns of an answer as rows, in its order. */
export function* rowsOf(answer: QueryAnswer): Generator<Row, void, undefined> {
  const { time, series, ...values } = answer.columns
  const names = Object.entries(values)
  for (let row = 0; row < time.length; row++) {
    const key = answer.series[series[row]!]!
    yield { ...key, time: time[row]!, ...Object.fromEntries(names.map(([name, column]) => [name, column[row]])) }
  }
}
