import type { FastifyReply, FastifyRequest } from 'fastify'
import { isTimeZone } from '../../../core/calendar.ts'
import type { CalendarUnit } from '../../../core/calendar.ts'
import { KymoError } from '../../../core/errors.ts'
import type { Aggregation, Position, QueryPage, RangeQuery } from '../../../core/ports.ts'
import { limits as coreLimits } from '../../../core/limits.ts'
import { formatRfc3339 } from '../../../wire/time.ts'
import { principalOf } from '../access.ts'
import type { App } from '../app-types.ts'
import { answerWriter } from '../reads/answer.ts'
import type { AnswerWriter, Format } from '../reads/answer.ts'
import { decodeCursor, encodeCursor, questionOf } from '../reads/cursor.ts'
import { takeRows } from '../reads/rows.ts'
import type { RowSink } from '../reads/rows.ts'
import { durationUs, parseMoment } from '../reads/time.ts'
import { Units } from '../reads/units.ts'
import type { HttpContext } from '../options.ts'
import { rangeQuery } from '../schemas.ts'
import { sendPieces } from '../slices.ts'

/** A range query as text, from whichever route. */
export interface Asked {
  readonly devices?: readonly string[] | undefined
  readonly metrics?: readonly string[] | undefined
  readonly from?: string | undefined
  readonly to?: string | undefined
  readonly step?: string | undefined
  /** Of calendar steps, and of dates without a time. */
  readonly timeZone?: string | undefined
  readonly gaps?: 'absent' | 'null' | undefined
  readonly aggregations?: readonly Aggregation[] | undefined
  readonly order: 'asc' | 'desc'
  readonly limit: number
  readonly cursor?: string | undefined
  /** What this route calls `from` and `to`, for its refusals. */
  readonly names?: { readonly from: string; readonly to: string }
}

/** The query, and how the next page is named. `open*`: that end was not given. */
export interface Range {
  readonly query: RangeQuery
  readonly openFrom: boolean
  readonly openTo: boolean
  cursorAfter(after: Position): string
}

function refuse(parameter: string, detail: string): KymoError {
  return new KymoError('request_invalid', {
    detail: `The query parameter ${parameter} is not valid.`,
    errors: [{ pointer: `/${parameter}`, detail }],
  })
}

const calendarSteps: Readonly<Partial<Record<string, CalendarUnit>>> = { '1d': 'day', '1w': 'week', '1mo': 'month', '1y': 'year' }

/** Weeks begin on Monday everywhere; days of UTC are as wide as any step of theirs. */
function stepOf(asked: Asked): Pick<RangeQuery, 'stepUs' | 'calendar' | 'aggregations' | 'gaps'> | undefined {
  if (asked.timeZone !== undefined && !isTimeZone(asked.timeZone)) throw refuse('tz', 'must be a time zone of the IANA database, as Europe/Berlin')
  if (asked.step === undefined) {
    if (asked.gaps === 'null') throw refuse('gaps', 'needs a step, as step=5m')
    if (asked.aggregations !== undefined) throw refuse('agg', 'needs a step, as step=5m')
    return undefined
  }
  if (asked.gaps === 'null' && asked.from === undefined)
    throw refuse('gaps', `needs ${asked.names?.from ?? 'from'}: without it there is no end of them`)
  const rest = { aggregations: asked.aggregations ?? ['avg'], ...(asked.gaps === 'null' ? { gaps: asked.gaps } : {}) }
  const unit = calendarSteps[asked.step]
  const timeZone = asked.timeZone ?? 'UTC'
  if (unit !== undefined && (unit !== 'day' || timeZone !== 'UTC')) return { calendar: { unit, timeZone }, ...rest }
  const stepUs = durationUs(asked.step)
  if (stepUs === undefined) throw refuse('step', 'must be a number and a unit, as 30s, 5m, 1h or 1d; or 1mo or 1y')
  if (/[dw]$/.test(asked.step) && timeZone !== 'UTC') throw refuse('step', 'must be 1d, 1w, 1mo or 1y to follow the calendar of a time zone')
  return { stepUs, ...rest }
}

/** Relative times are fixed by the first page: the cursor carries them. Throws `request_invalid` naming the parameter. */
export function rangeOf(tenant: string, asked: Asked, nowUs: number): Range {
  const step = stepOf(asked)
  const names = asked.names ?? { from: 'from', to: 'to' }
  const more = asked.timeZone === undefined && asked.gaps !== 'null' ? [] : [asked.timeZone ?? 'UTC', asked.gaps ?? 'absent']
  const question = questionOf('range', asked.devices, asked.metrics, asked.from, asked.to, asked.step, asked.aggregations, asked.order, ...more)
  let fromUs: number
  let toUs: number
  let after: Position | undefined
  if (asked.cursor !== undefined) {
    const [from, to, timeUs, device, metric] = decodeCursor(question, asked.cursor) as [number, number, number, string, string]
    ;[fromUs, toUs] = [from, to]
    after = { timeUs, device, metric }
  } else {
    fromUs = asked.from === undefined ? 0 : parseMoment(names.from, asked.from, nowUs, asked.timeZone)
    // Gaps do not go on into the future.
    const open = asked.gaps === 'null' ? Math.max(fromUs, nowUs) : coreLimits.timeUsMax
    toUs = asked.to === undefined ? open : parseMoment(names.to, asked.to, nowUs, asked.timeZone)
  }
  if (fromUs > toUs) throw refuse(names.to, `must not lie before ${names.from}`)
  const query: RangeQuery = {
    match: {
      tenant,
      ...(asked.devices === undefined ? {} : { devices: asked.devices }),
      ...(asked.metrics === undefined ? {} : { metrics: asked.metrics }),
    },
    fromUs,
    toUs,
    order: asked.order,
    limit: asked.limit,
    ...step,
    ...(after === undefined ? {} : { after }),
  }
  return {
    query,
    openFrom: asked.from === undefined,
    openTo: asked.to === undefined,
    cursorAfter: (p) => encodeCursor(question, [fromUs, toUs, p.timeUs, p.device, p.metric]),
  }
}

/** The address of the next page, for `Link` (RFC 8288). */
export function nextLink(request: FastifyRequest, cursor: string): string {
  const url = new URL(request.url, 'http://localhost')
  url.searchParams.set('cursor', cursor)
  return `<${url.pathname}${url.search}>; rel="next"`
}

/** What clients of tables and lines, which have no member for it, read instead. */
export function markTruncated(request: FastifyRequest, reply: FastifyReply, cursor: string): void {
  reply.header('x-truncated', 'true').header('x-next-cursor', cursor).header('link', nextLink(request, cursor))
}

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
      const pieces = writer.end({
        from: range.openFrom ? null : formatRfc3339(range.query.fromUs),
        to: range.openTo ? null : formatRfc3339(range.query.toUs),
        step: q.step ?? null,
        timeZone: q.tz ?? null,
        order: range.query.order,
        rows: end.rows,
        nextCursor,
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
    truncated: { type: 'boolean' },
    next_cursor: { type: ['string', 'null'] },
    series: {
      type: 'array',
      items: { type: 'object', properties: { device: { type: 'string' }, metric: { type: 'string' }, unit: { type: 'string' } } },
    },
    columns: {
      type: 'object',
      description: '`time` (epoch ms), `series` (index into `series`), and `value`, or one column per aggregate. No value (NaN) is null.',
      additionalProperties: { type: 'array' },
    },
    flags: { type: 'object', description: 'Row number to flags, for rows that have any.' },
    metadata: { type: 'object', description: 'Row number to the free metadata of the message, for rows that have any.' },
  },
} as const
