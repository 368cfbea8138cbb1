import type { FastifyReply } from 'fastify'
import { performance } from 'node:perf_hooks'
import { isBucketed } from '../../../core/buckets.ts'
import type { Position, QueryPage, RangeQuery } from '../../../core/ports.ts'
import type { HttpContext } from '../options.ts'
import { Slices } from '../slices.ts'
import { withDeadline } from './deadline.ts'

/** Who takes the rows of a query, page by page. */
export interface RowSink {
  /** Before the rows of a page. */
  begin(page: QueryPage): Promise<void>
  row(row: number): void
  /** Enough has been taken, whatever the limit says. */
  full(): boolean
}

/** How far the rows went: `after` is set when there are more. */
export interface RowsEnd {
  readonly rows: number
  readonly after: Position | undefined
  /** A bucket has numbers and yet no percentile. */
  readonly partial: boolean
}

const checkEvery = 64

function positionOf(page: QueryPage, row: number): Position {
  const key = page.keys[page.series[row]!]!
  return { timeUs: page.timeUs[row]!, device: key.device, metric: key.metric }
}

/**
 * Asks for one row more than `query.limit`, so that an answer that ends always says so and one that was cut too. The rows are taken in
 * slices: nothing holds the event loop for long, however many rows there are.
 */
export function takeRows(context: HttpContext, reply: FastifyReply, query: RangeQuery, sink: RowSink): Promise<RowsEnd> {
  const kind = isBucketed(query) ? 'buckets' : 'raw'
  const duration = context.metrics.histogram('kymo_query_duration_seconds', 'Time from question to complete answer.', { kind })
  const started = performance.now()
  return withDeadline(context, reply, async (signal) => {
    const slices = new Slices(context)
    let rows = 0
    let last: Position | undefined
    let partial = false
    for await (const page of context.store.query({ ...query, limit: query.limit + 1 }, signal)) {
      signal.throwIfAborted()
      if (page.rows === 0) continue
      if (rows === query.limit) return { rows, after: last, partial }
      if (page.partial === true) partial = true
      await sink.begin(page)
      for (let row = 0; row < page.rows; row++) {
        if (rows === query.limit || (row % checkEvery === 0 && sink.full())) {
          return { rows, after: row === 0 ? last : positionOf(page, row - 1), partial }
        }
        if (row % checkEvery === 0 && slices.over) {
          await slices.pause()
          signal.throwIfAborted()
        }
        sink.row(row)
        rows++
      }
      last = positionOf(page, page.rows - 1)
    }
    return { rows, after: undefined, partial }
  }).finally(() => duration.observe((performance.now() - started) / 1e3))
}
