import { setTimeout as delay } from 'node:timers/promises'
import { asKymoError } from '../../core/errors.ts'
import type { Api, ColumnsAnswer, QueryParameters } from '../api.ts'

/** One reading, as every format writes it. */
export interface ExportRow {
  /** Epoch microseconds. */
  readonly us: number
  readonly device: string
  readonly metric: string
  readonly value: number | string | boolean
  readonly unit: string | undefined
  /** The text is an integer beyond what a double holds: written without quotes, it comes back as the same. */
  readonly bigInteger: boolean
  /** Free metadata of its message, as JSON text. */
  readonly metadata: string | undefined
}

export interface ExportPage {
  readonly rows: readonly ExportRow[]
  /** The end of the range as the server fixed it, RFC 3339; null: none. */
  readonly to: string | null
  /** Rows without a value (NaN): they are not exported. */
  readonly empty: number
}

/** A page is some 2 MB of JSON, which the server writes in slices of a few milliseconds. */
const pageRows = 20_000
const patienceMs = 60_000
const passing = new Set(['overloaded', 'unavailable'])

interface Answer extends ColumnsAnswer {
  readonly metadata?: Readonly<Record<string, unknown>>
  readonly flags?: Readonly<Record<string, readonly string[]>>
}

/**
 * All readings of a question in the order of time, device and metric, page by page; the next page is on its way while one is written. A
 * server that is busy or away for less than a minute is waited for: a cursor goes on where it was.
 */
export async function* exportPages(api: Api, question: QueryParameters, signal: AbortSignal): AsyncGenerator<ExportPage> {
  const page = (cursor?: string): Promise<Answer> =>
    patiently(() => api.json<Answer>('/api/v1/query', { ...question, limit: pageRows, cursor }), signal)
  let coming: Promise<Answer> | undefined = page()
  while (coming !== undefined) {
    const answer: Answer = await coming
    coming = answer.next_cursor === null || signal.aborted ? undefined : page(answer.next_cursor)
    // Who waits for it is the next turn; a failure until then is not one that nobody hears.
    coming?.catch(() => undefined)
    yield { ...rowsOf(answer), to: answer.to }
  }
}

function rowsOf(answer: Answer): { readonly rows: readonly ExportRow[]; readonly empty: number } {
  const { time, series } = answer.columns
  const values = answer.columns['value'] ?? []
  const rows: ExportRow[] = []
  let empty = 0
  for (let row = 0; row < time.length; row++) {
    const key = answer.series[series[row] ?? -1]
    const value = values[row]
    if (key === undefined || value === null || value === undefined) {
      empty++
      continue
    }
    const metadata = answer.metadata?.[row]
    // A double of milliseconds holds the microseconds up to the year 2109.
    const us = Math.round((time[row] ?? 0) * 1e3)
    rows.push({
      us,
      device: key.device,
      metric: key.metric,
      value,
      unit: key.unit,
      bigInteger: answer.flags?.[row]?.includes('big_integer') === true,
      metadata: metadata === undefined ? undefined : JSON.stringify(metadata),
    })
  }
  return { rows, empty }
}

async function patiently<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const begunMs = performance.now()
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask()
    } catch (thrown) {
      const error = asKymoError(thrown)
      if (!passing.has(error.kind) || error.code === 'query_deadline' || signal.aborted || performance.now() - begunMs > patienceMs) throw error
      await delay(Math.min(5_000, 100 * 2 ** Math.min(attempt, 10)) * (0.5 + Math.random() / 2))
    }
  }
}
