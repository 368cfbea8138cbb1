import type { FastifyReply } from 'fastify'
import { KymoError } from '../../../core/errors.ts'
import type { Position, QueryPage, RangeQuery } from '../../../core/ports.ts'
import type { HttpContext } from '../options.ts'
import type { Range } from './range.ts'
import type { Listing } from './listing.ts'
import { valueOf } from './readings.ts'
import type { ReadingColumns } from './readings.ts'
import { takeRows } from './rows.ts'

/** What one device said at one time: its numbers by metric. */
export interface Message {
  readonly device: string
  readonly timeUs: number
  readonly values: ReadonlyMap<string, number>
}

interface Gathered extends Message {
  readonly values: Map<string, number>
  /** The last row of it, in the order of the query. */
  last: Position
}

/** More than `limit` items: cut, and the next page begins after the last one that is shown. */
function cut<T extends { readonly last: Position }>(items: readonly T[], range: Range): Listing<T> {
  const shown = items.slice(0, range.query.limit)
  const last = shown.at(-1)
  return { items: shown, cursor: items.length > shown.length && last !== undefined ? range.cursorAfter(last.last) : undefined }
}

/**
 * Raw readings put together again, one message for each (device, time), in the order of the range. `range.query.limit` counts messages; the
 * query must name its metrics, so that it is known how many rows a message may have.
 */
export async function takeMessages(context: HttpContext, reply: FastifyReply, range: Range): Promise<Listing<Message>> {
  const { limit, match } = range.query
  const perMessage = match.metrics?.length
  if (perMessage === undefined) throw new KymoError('bug', { detail: 'Messages are made of named metrics.' })
  const done: Gathered[] = []
  let open: Gathered | undefined
  let columns: ReadingColumns | undefined
  // So many rows hold `limit` whole messages and the beginning of the next, if there is one; of that one some rows may be missing, and it is not shown.
  await takeRows(
    context,
    reply,
    { ...range.query, limit: (limit + 1) * perMessage },
    {
      async begin(page) {
        columns = { ...page, value: page.columns['value'] ?? new Float64Array(page.rows).fill(Number.NaN) }
      },
      row(row) {
        const from = columns!
        const { device, metric } = from.keys[from.series[row]!]!
        const timeUs = from.timeUs[row]!
        const last = { timeUs, device, metric }
        if (open === undefined || open.timeUs !== timeUs || open.device !== device) {
          if (open !== undefined) done.push(open)
          open = { device, timeUs, values: new Map(), last }
        }
        open.last = last
        const value = valueOf(from, row)
        if (typeof value === 'number') open.values.set(metric, value)
      },
      full: () => done.length > limit,
    },
  )
  if (open !== undefined) done.push(open)
  return cut(done, range)
}

/** One bucket of one series. */
export interface Bin {
  readonly device: string
  readonly metric: string
  readonly timeUs: number
  /** In the order of the query's aggregations; NaN where there is none. */
  readonly values: readonly number[]
}

interface PlacedBin extends Bin {
  readonly last: Position
}

const firstWindowUs = 3600e6
const widerWindow = 8

/**
 * Buckets of `stepUs`, newest first. A list of the newest is mostly found in the last hour, while one statement over all time would put every
 * bucket together first: so the range is asked for in pieces, each this much wider than the one before. No piece cuts a bucket.
 */
export async function takeBins(context: HttpContext, reply: FastifyReply, range: Range, nowUs: number): Promise<Listing<Bin>> {
  const { limit, fromUs, toUs, after, stepUs, aggregations, order } = range.query
  if (stepUs === undefined || aggregations === undefined || order !== 'desc')
    throw new KymoError('bug', { detail: 'Bins are buckets, newest first.' })
  const untilMs = context.env.clock.monotonicMs() + context.limits.queryDeadlineMs
  const bins: PlacedBin[] = []
  let high = toUs
  // What lies ahead of now belongs to the first piece.
  let low = Math.min(toUs, nowUs, after === undefined ? toUs : after.timeUs + stepUs)
  for (let widthUs = firstWindowUs; high > fromUs; widthUs *= widerWindow) {
    low = Math.max(fromUs, Math.floor((low - widthUs) / stepUs) * stepUs)
    const query: RangeQuery = { ...range.query, fromUs: low, toUs: high, limit: limit + 1 - bins.length }
    await takeRows(context, reply, query, binSink(bins, aggregations))
    if (bins.length > limit) break
    if (context.env.clock.monotonicMs() > untilMs)
      throw new KymoError('query_deadline', {
        detail: `The query took longer than ${context.limits.queryDeadlineMs / 1000} s. Name a time to begin with.`,
      })
    high = low
  }
  return cut(bins, range)
}

function binSink(bins: PlacedBin[], aggregations: readonly string[]): Parameters<typeof takeRows>[3] {
  let page: QueryPage | undefined
  return {
    async begin(next) {
      page = next
    },
    row(row) {
      const from = page!
      const { device, metric } = from.keys[from.series[row]!]!
      const timeUs = from.timeUs[row]!
      bins.push({
        device,
        metric,
        timeUs,
        values: aggregations.map((name) => from.columns[name]?.[row] ?? Number.NaN),
        last: { timeUs, device, metric },
      })
    },
    full: () => false,
  }
}
