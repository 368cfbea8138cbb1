import { calendarBorders } from './calendar.ts'
import type { CalendarUnit } from './calendar.ts'
import type { RangeQuery } from './ports.ts'

const dayUs = 86_400e6
/** No unit is a day longer, whatever a zone does to its clocks. */
const longestUs: Readonly<Record<CalendarUnit, number>> = { day: dayUs, week: 7 * dayUs, month: 31 * dayUs, year: 366 * dayUs }

/** Whether a query asks for buckets; otherwise for raw readings. */
export function isBucketed(query: Pick<RangeQuery, 'stepUs' | 'calendar'>): boolean {
  return query.stepUs !== undefined || query.calendar !== undefined
}

/** The first border of a query's buckets at or after a moment. */
export function borderFrom(query: Pick<RangeQuery, 'stepUs' | 'calendar'>, us: number): number {
  if (query.calendar !== undefined) {
    const borders = calendarBorders(query.calendar, us, us + 1)
    return borders[0] === us ? us : borders[1]!
  }
  const stepUs = query.stepUs ?? 1
  const over = us % stepUs
  return over === 0 ? us : us - over + stepUs
}

/**
 * The buckets that hold [fromUs, toUs), but at most `count`: the first of them, or (`order` is `desc`) the last. As borders, from the start of the
 * first to the end of the last. For queries that answer every bucket, so that a page costs what it shows.
 */
export function bordersWithin(query: RangeQuery, fromUs: number, toUs: number, count: number): Float64Array {
  const { calendar, order } = query
  if (calendar === undefined) {
    const stepUs = query.stepUs ?? 1
    const [first, last] = [fromUs - (fromUs % stepUs), toUs - 1 - ((toUs - 1) % stepUs)]
    const n = Math.min(count, (last - first) / stepUs + 1)
    const begin = order === 'asc' ? first : last - (n - 1) * stepUs
    return Float64Array.from({ length: n + 1 }, (_, i) => begin + i * stepUs)
  }
  const widthUs = count * (longestUs[calendar.unit] + dayUs)
  if (order === 'asc') return calendarBorders(calendar, fromUs, Math.min(toUs, fromUs + widthUs)).subarray(0, count + 1)
  return calendarBorders(calendar, Math.max(fromUs, toUs - widthUs), toUs).subarray(-count - 1)
}
