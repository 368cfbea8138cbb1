import { isQuantile, quantileError, type QueryPage } from '../../../core/ports.ts'
import { limits as coreLimits } from '../../../core/limits.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import { answerWriter } from '../reads/answer.ts'
import type { AnswerWriter, Format } from '../reads/answer.ts'
import { markTruncated, rangeOf } from '../reads/range.ts'
import type { Asked } from '../reads/range.ts'
import { takeRows } from '../reads/rows.ts'
import type { RowSink } from '../reads/rows.ts'
import { Units } from '../reads/units.ts'
import type { HttpContext } from '../options.ts'
import { rangeQuery } from '../schemas.ts'
import { sendPieces } from '../slices.ts'

/** What was asked for by name, otherwise by the Accept header, otherwise JSON. */
export function formatOf(asked: Format | undefined, accept: string | undefined): Format {
  if (asked !== undefined) return asked
  const wanted = (accept ?? '').toLowerCase()
  if (wanted.includes('text/csv')) return 'csv'
  return /application\/(x-)?(ndjson|jsonl)/.test(wanted) ? 'ndjson' : 'json'
}

function sinkOf(writer: AnswerWriter, units: Units, bytesMax: number): RowSink {
  return {
    async begin(page: QueryPage) {
      const present = new Set(page.series.subarray(0, page.rows))
      await units.load([...present].map((series) => page.keys[series]!))
      writer.begin(page)
    },
    row: (row) => writer.row(row),
    full: () => writer.size >= bytesMax,
  }
}

export function queryRoutes(app: App, context: HttpContext): void {
  app.get(
    '/api/v1/query',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'query',
        tags: ['readings'],
        summary: 'Readings or aggregates of a time range',
        description:
          'Half-open: `from` belongs to it, `to` does not. Ordered by time, device, metric. With more rows than `limit` (or more than 16 MiB), ' +
          '`truncated` is true and `next_cursor` leads on; NDJSON and CSV say the same in the headers X-Truncated, X-Next-Cursor and Link.',
        querystring: rangeQuery,
        response: {
          200: {
            description: 'Columns (JSON), objects (NDJSON) or a table (CSV).',
            content: {
              'application/json': { schema: columnsAnswer },
              'application/x-ndjson': { schema: { type: 'string' } },
              'text/csv': { schema: { type: 'string' } },
            },
          },
        },
      },
    },
    async (request, reply) => {
      const q = request.query
      const { tenant } = principalOf(request)
      const format = formatOf(q.format, request.headers.accept)
      const asked: Asked = {
        devices: q.device,
        metrics: q.metric,
        from: q.from,
        to: q.to,
        step: q.step,
        timeZone: q.tz,
        gaps: q.gaps,
        aggregations: q.agg,
        order: q.order ?? 'asc',
        limit: q.limit ?? coreLimits.queryRowsDefault,
        cursor: q.cursor,
      }
      const range = rangeOf(tenant, asked, context.env.clock.nowUs())
      const units = new Units(context, tenant)
      const writer = answerWriter(format, range.query.aggregations, units, q.time ?? (format === 'json' ? 'ms' : 'rfc3339'))
      const end = await takeRows(context, reply, range.query, sinkOf(writer, units, context.limits.answerBytesMax))
      const nextCursor = end.after === undefined ? null : range.cursorAfter(end.after)
      if (nextCursor !== null) markTruncated(request, reply, nextCursor)
      const percentiles = range.query.aggregations?.some(isQuantile) === true ? { relativeError: quantileError, partial: end.partial } : undefined
      if (percentiles !== undefined) reply.header('x-relative-error', String(percentiles.relativeError))
      if (end.partial) reply.header('x-partial', 'true')
      const pieces = writer.end({
        from: range.openFrom ? null : formatRfc3339(range.query.fromUs),
        to: range.openTo ? null : formatRfc3339(range.query.toUs),
        step: range.step ?? null,
        timeZone: q.tz ?? null,
        order: range.query.order,
        rows: end.rows,
        nextCursor,
        percentiles,
      })
      return sendPieces(context, reply.header('vary', 'accept'), writer.contentType, pieces)
    },
  )
}

const columnsAnswer = {
  type: 'object',
  required: ['order', 'rows', 'truncated', 'next_cursor', 'series', 'columns'],
  properties: {
    from: { type: ['string', 'null'] },
    to: { type: ['string', 'null'] },
    step: { type: 'string' },
    tz: { type: 'string' },
    order: { enum: ['asc', 'desc'] },
    rows: { type: 'integer' },
    exact: { type: 'boolean', description: 'Of answers with percentiles: false, as those are within `relative_error`. All other columns are exact.' },
    relative_error: { type: 'number', description: 'Of percentiles.' },
    partial: {
      type: 'boolean',
      description: 'true: a bucket has readings and its percentiles are null, since readings have gone of which there is no sketch.',
    },
    truncated: { type: 'boolean' },
    next_cursor: { type: ['string', 'null'] },
    series: {
      type: 'array',
      items: {
        type: 'object',
        required: ['device', 'metric'],
        properties: { device: { type: 'string' }, metric: { type: 'string' }, unit: { type: 'string' } },
      },
    },
    columns: {
      type: 'object',
      description: '`time` (epoch ms), `series` (index into `series`), and `value`, or one column per aggregate. No value (NaN) is null.',
      required: ['time', 'series'],
      properties: { time: { type: 'array', items: { type: ['number', 'string'] } }, series: { type: 'array', items: { type: 'integer' } } },
      additionalProperties: { type: 'array', items: { type: ['number', 'string', 'boolean', 'null'] } },
    },
    flags: { type: 'object', description: 'Row number to flags, for rows that have any.' },
    metadata: { type: 'object', description: 'Row number to the free metadata of the message, for rows that have any.' },
  },
} as const
