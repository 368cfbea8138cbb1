import type { FastifyReply, FastifyRequest } from 'fastify'
import { isTimeZone } from '../../../core/calendar.ts'
import type { CalendarUnit } from '../../../core/calendar.ts'
import { durationUs } from '../../../core/duration.ts'
import { KymoError } from '../../../core/errors.ts'
import type { Aggregation, Position, RangeQuery } from '../../../core/ports.ts'
import { limits as coreLimits } from '../../../core/limits.ts'
import { autoStep } from './auto-step.ts'
import { decodeCursor, encodeCursor, questionOf } from './cursor.ts'
import { parseMoment } from './time.ts'

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
  /** As asked for, or chosen by `auto`. */
  readonly step: string | undefined
  cursorAfter(after: Position): string
}

/** What is wrong with a query parameter, by its name. */
export function parameterInvalid(parameter: string, detail: string): KymoError {
  return new KymoError('request_invalid', {
    detail: `The query parameter ${parameter} is not valid.`,
    errors: [{ pointer: `/${parameter}`, detail }],
  })
}

const calendarSteps: Readonly<Partial<Record<string, CalendarUnit>>> = { '1d': 'day', '1w': 'week', '1mo': 'month', '1y': 'year' }

/** Weeks begin on Monday everywhere; days of UTC are as wide as any step of theirs. */
function stepOf(asked: Asked, step: string | undefined): Pick<RangeQuery, 'stepUs' | 'calendar' | 'aggregations' | 'gaps'> | undefined {
  if (asked.timeZone !== undefined && !isTimeZone(asked.timeZone))
    throw parameterInvalid('tz', 'must be a time zone of the IANA database, as Europe/Berlin')
  if (step === undefined) {
    if (asked.gaps === 'null') throw parameterInvalid('gaps', 'needs a step, as step=5m')
    if (asked.aggregations !== undefined) throw parameterInvalid('agg', 'needs a step, as step=5m')
    return undefined
  }
  if (asked.gaps === 'null' && asked.from === undefined)
    throw parameterInvalid('gaps', `needs ${asked.names?.from ?? 'from'}: without it there is no end of them`)
  const rest = { aggregations: asked.aggregations ?? ['avg'], ...(asked.gaps === 'null' ? { gaps: asked.gaps } : {}) }
  const unit = calendarSteps[step]
  const timeZone = asked.timeZone ?? 'UTC'
  if (unit !== undefined && (unit !== 'day' || timeZone !== 'UTC')) return { calendar: { unit, timeZone }, ...rest }
  const stepUs = durationUs(step)
  if (stepUs === undefined) throw parameterInvalid('step', 'must be a number and a unit, as 30s, 5m, 1h or 1d; or 1mo or 1y')
  if (/[dw]$/.test(step) && timeZone !== 'UTC') throw parameterInvalid('step', 'must be 1d, 1w, 1mo or 1y to follow the calendar of a time zone')
  return { stepUs, ...rest }
}

/** Relative times are fixed by the first page: the cursor carries them. Throws `request_invalid` naming the parameter. */
export function rangeOf(tenant: string, asked: Asked, nowUs: number): Range {
  const names = asked.names ?? { from: 'from', to: 'to' }
  if (asked.step === 'auto' && asked.from === undefined) throw parameterInvalid('step', `needs ${names.from} when it is auto`)
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
    // Neither gaps nor what a plot is to hold go on into the future.
    const open = asked.gaps === 'null' || asked.step === 'auto' ? Math.max(fromUs, nowUs) : coreLimits.timeUsMax
    toUs = asked.to === undefined ? open : parseMoment(names.to, asked.to, nowUs, asked.timeZone)
  }
  if (fromUs > toUs) throw parameterInvalid(names.to, `must not lie before ${names.from}`)
  const step = asked.step === 'auto' ? autoStep(fromUs, toUs) : asked.step
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
    ...stepOf(asked, step),
    ...(after === undefined ? {} : { after }),
  }
  return {
    query,
    openFrom: asked.from === undefined,
    openTo: asked.to === undefined,
    step,
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
