import { startOfDate } from '../../../core/calendar.ts'
import { durationUs } from '../../../core/duration.ts'
import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import { epochDigitsToUs, epochToUs, parseRfc3339 } from '../../../wire/time.ts'

function momentUs(text: string, nowUs: number, timeZone: string | undefined): number | undefined {
  if (text === 'now') return nowUs
  if (/^\d{17,20}$/.test(text)) return epochDigitsToUs(Buffer.from(text), 0, text.length)
  if (/^\d{1,16}(\.\d{1,9})?$/.test(text)) return epochToUs(Number(text))
  if (text.startsWith('-')) {
    const ago = durationUs(text.slice(1))
    return ago === undefined ? undefined : Math.max(0, nowUs - ago)
  }
  if (/^\d{4}-\d\d-\d\d$/.test(text)) {
    if (timeZone === undefined) return parseRfc3339(`${text}T00:00:00Z`)
    const us = startOfDate(timeZone, text)
    return us === undefined || us > limits.timeUsMax ? undefined : Math.max(0, us)
  }
  // A plus sign that was not escaped in the URL arrives as a space.
  return parseRfc3339(text.replace(/ (\d\d:?\d\d)$/, '+$1'))
}

/**
 * A moment in a query: RFC 3339 (a date alone is its midnight, in UTC or `timeZone`), an epoch number by magnitude, `now`, `-24h`. Epoch
 * microseconds. Throws `request_invalid` naming the parameter.
 */
export function parseMoment(name: string, text: string, nowUs: number, timeZone?: string): number {
  const us = momentUs(text, nowUs, timeZone)
  if (us === undefined || Number.isNaN(us)) {
    const detail = 'must be RFC 3339, an epoch number (s, ms, us or ns by its size), now, or a time ago as -24h; between 1970 and 2255'
    throw new KymoError('request_invalid', { detail: `The query parameter ${name} is not a time.`, errors: [{ pointer: `/${name}`, detail }] })
  }
  return us
}
