import { isBucketed } from '../core/buckets.ts'
import { isTimeZone } from '../core/calendar.ts'
import { KymoError } from '../core/errors.ts'
import type { RangeQuery } from '../core/ports.ts'

/** What every adapter refuses with `request_invalid`. */
export function checkQuery(query: RangeQuery): void {
  const { stepUs, calendar } = query
  if (calendar !== undefined && (stepUs !== undefined || !isTimeZone(calendar.timeZone)))
    throw new KymoError('request_invalid', { detail: 'Buckets are of a step, or of the calendar of a time zone that is known here.' })
  if (query.gaps !== undefined && !isBucketed(query)) throw new KymoError('request_invalid', { detail: 'Only buckets have gaps.' })
  if (stepUs !== undefined && (!Number.isSafeInteger(stepUs) || stepUs <= 0))
    throw new KymoError('request_invalid', { detail: 'The step must be a whole number of microseconds above 0.' })
  if (!(query.fromUs <= query.toUs)) throw new KymoError('request_invalid', { detail: 'The range ends before it begins.' })
}

/** Why a query was given up: the reason that the signal carries, or that its time was over. */
export function abortError(signal: AbortSignal): KymoError {
  return signal.reason instanceof KymoError
    ? signal.reason
    : new KymoError('query_deadline', { detail: 'The query was given up.', cause: signal.reason })
}
