import { BatchBuilder } from '../../src/core/batch-builder.ts'
import { Flag, type Batch, type SeriesKey } from '../../src/core/batch.ts'
import type { QueryPage, RangeQuery, Store, Tables } from '../../src/core/ports.ts'
import type { Span } from '../../src/core/record.ts'

export const signal = new AbortController().signal

export interface TestRow {
  readonly device?: string
  readonly metric?: string
  readonly tenant?: string
  readonly timeUs: number
  readonly value?: number
  readonly text?: string
  readonly flags?: number
  readonly meta?: string
}

/** A batch of rows that are told one by one; `keys` is shared by the batches that are made with it, as a reader's is. */
export function batchOf(rows: readonly TestRow[], keys: SeriesKey[] = []): Batch {
  const builder = new BatchBuilder(keys)
  for (const { tenant = 'default', device = 'd1', metric = 'm', timeUs, value = 0, text, flags = 0, meta } of rows) {
    let series = keys.findIndex((key) => key.tenant === tenant && key.device === device && key.metric === metric)
    if (series < 0) series = keys.push({ tenant, device, metric }) - 1
    if (meta !== undefined) builder.addMeta(builder.rows, meta)
    if (text === undefined) builder.add(series, timeUs, value, flags)
    else builder.addText(series, timeUs, text, flags | Flag.text)
  }
  return builder.view()
}

export const none: Tables = { readings: [], late: [], rollups: [] }

export function spanOf(first: number, next: number, log = 'log-1'): Span {
  return { log, topic: 'telemetry', partition: 0, first: BigInt(first), next: BigInt(next) }
}

export interface AnswerRow {
  readonly device: string
  readonly metric: string
  readonly timeUs: number
  readonly flags?: number
  readonly text?: string
  readonly meta?: string
  readonly [column: string]: number | string | undefined
}

/** All rows of an answer as objects. */
export async function answer(store: Pick<Store, 'query'>, query: Partial<RangeQuery>, stop: AbortSignal = signal): Promise<AnswerRow[]> {
  const full: RangeQuery = { match: { tenant: 'default' }, fromUs: 0, toUs: 9e15, order: 'asc', limit: 100_000, ...query }
  const rows: AnswerRow[] = []
  for await (const page of store.query(full, stop)) rows.push(...rowsOf(page))
  return rows
}

/** The same page by page, each from the last row of the one before, as the doors read; small enough pages that a few thousand rows are several. */
export async function answerInPages(store: Pick<Store, 'query'>, query: Partial<RangeQuery>): Promise<AnswerRow[]> {
  const limit = 10_000
  const rows: AnswerRow[] = []
  for (;;) {
    const after = rows.at(-1)
    const page = await answer(store, { ...query, limit, ...(after === undefined ? {} : { after }) })
    rows.push(...page)
    if (page.length < limit) return rows
  }
}

function rowsOf(page: QueryPage): AnswerRow[] {
  return Array.from({ length: page.rows }, (_, i) => {
    const key = page.keys[page.series[i]!]!
    const text = page.text?.get(i)
    const meta = page.meta?.get(i)
    const columns = Object.fromEntries(Object.entries(page.columns).map(([name, column]) => [name, column[i]!]))
    return {
      device: key.device,
      metric: key.metric,
      timeUs: page.timeUs[i]!,
      ...columns,
      ...(page.flags === undefined ? {} : { flags: page.flags[i]! }),
      ...(text === undefined ? {} : { text }),
      ...(meta === undefined ? {} : { meta }),
    }
  })
}
