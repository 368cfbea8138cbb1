import { limits } from './limits.ts'

/** What `1d`, `1w` (ISO 8601: from Monday), `1mo` and `1y` mean on the calendar of a time zone. */
export type CalendarUnit = 'day' | 'week' | 'month' | 'year'

/** Buckets that are days, weeks, months or years of a zone of the IANA database. */
export interface Calendar {
  readonly unit: CalendarUnit
  readonly timeZone: string
}

const dayUs = 86_400e6
const dayMs = 86_400_000
/** 1 January 2040. */
const farDate = 25_567

/** By name in lower case: the runtime takes any spelling of a zone, and a zone is kept once. */
const formats = new Map<string, Intl.DateTimeFormat>()

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const name = timeZone.toLowerCase()
  let format = formats.get(name)
  if (format === undefined) {
    if (formats.size >= limits.timeZonesKeptMax) formats.clear()
    format = new Intl.DateTimeFormat('en-US', { timeZone, timeZoneName: 'longOffset' })
    formats.set(name, format)
  }
  return format
}

/** Whether the runtime knows rules for a zone of this name. */
export function isTimeZone(name: string): boolean {
  try {
    formatOf(name)
    return true
  } catch {
    return false
  }
}

/** Microseconds east of UTC at a moment. Of all parts of a date this is the cheapest to have (1.6 us). */
function offsetUs(format: Intl.DateTimeFormat, us: number): number {
  const match = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/.exec(format.format(Math.floor(us / 1e3)))
  if (match?.[1] === undefined) return 0
  const seconds = Number(match[2]) * 3600 + Number(match[3]) * 60 + Number(match[4] ?? 0)
  return (match[1] === '-' ? -seconds : seconds) * 1e6
}

/** The offsets of one zone, each day looked up once. */
class Zone {
  readonly #format: Intl.DateTimeFormat
  readonly #days = new Map<number, number>()
  /** By day of UTC: the moment within it at which the clock is changed. */
  readonly #changes = new Map<number, number>()

  constructor(timeZone: string) {
    this.#format = formatOf(timeZone)
  }

  /** The day, counted from 1970-01-01, on the zone's calendar. */
  dateAt(us: number): number {
    return Math.floor((us + offsetUs(this.#format, us)) / dayUs)
  }

  /**
   * The first moment of a day of the calendar: midnight, or where the clock was set forward over it, the moment after. Where it was set back over
   * midnight, the first of the two. A day that the zone left out begins with the one after it.
   */
  startOf(date: number): number {
    const local = date * dayUs
    const before = this.#offsetOn(date - 1)
    const after = this.#offsetOn(date + 1)
    if (before === after) return local - before
    const change = this.#changeBetween(local - dayUs, local + dayUs, before)
    if (local - before < change) return local - before
    return change + after >= local ? change : local - after
  }

  /** Microseconds to add to UTC for the wall clock. */
  offsetAt(us: number): number {
    const date = Math.floor(us / dayUs)
    const before = this.#offsetOn(date)
    const after = this.#offsetOn(date + 1)
    if (before === after) return before
    let change = this.#changes.get(date)
    if (change === undefined) this.#changes.set(date, (change = this.#changeBetween(date * dayUs, (date + 1) * dayUs, before)))
    return us < change ? before : after
  }

  /**
   * At midnight UTC. From 2040 on zones follow rules, by which changes are weeks apart: what both ends of a week agree on, each of its days has. One
   * reading with a wrong clock may ask for the days of two centuries.
   */
  #offsetOn(date: number): number {
    const over = date % 7
    if (date < farDate || over === 0) return this.#exactOffsetOn(date)
    const before = this.#exactOffsetOn(date - over)
    return before === this.#exactOffsetOn(date - over + 7) ? before : this.#exactOffsetOn(date)
  }

  #exactOffsetOn(date: number): number {
    let offset = this.#days.get(date)
    if (offset === undefined) this.#days.set(date, (offset = offsetUs(this.#format, date * dayUs)))
    return offset
  }

  /** The second at which the offset is no longer `before`; it changes once in between. */
  #changeBetween(fromUs: number, toUs: number, before: number): number {
    let low = Math.floor(fromUs / 1e6)
    let high = Math.ceil(toUs / 1e6)
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2)
      if (offsetUs(this.#format, middle * 1e6) === before) low = middle
      else high = middle
    }
    return high * 1e6
  }
}

/**
 * What to add to a moment in UTC for the wall clock of a zone, in microseconds. Days are remembered by what is returned: keep it for many moments.
 */
export function wallClock(timeZone: string): (us: number) => number {
  const zone = new Zone(timeZone)
  return (us) => zone.offsetAt(us)
}

/** Midnight in a zone, as RFC 3339's full-date names the day; undefined for a day that does not exist. Epoch microseconds. */
export function startOfDate(timeZone: string, text: string): number | undefined {
  const match = /^(\d{4})-(\d\d)-(\d\d)$/.exec(text)
  if (match === null) return undefined
  const ms = Date.UTC(Number(match[1]), Number(match[2]) - 1, Number(match[3]))
  if (new Date(ms).toISOString().slice(0, 10) !== text) return undefined
  return new Zone(timeZone).startOf(ms / dayMs)
}

/** The first day of the unit that holds a day, and of the next one. Both counted from 1970-01-01, a Thursday. */
function unitAround(unit: CalendarUnit, date: number): { readonly first: number; readonly next: number } {
  if (unit === 'day') return { first: date, next: date + 1 }
  if (unit === 'week') {
    const first = date - ((((date + 3) % 7) + 7) % 7)
    return { first, next: first + 7 }
  }
  const at = new Date(date * dayMs)
  const [year, month] = [at.getUTCFullYear(), at.getUTCMonth()]
  const day = (y: number, m: number): number => Date.UTC(y, m, 1) / dayMs
  return unit === 'month' ? { first: day(year, month), next: day(year, month + 1) } : { first: day(year, 0), next: day(year + 1, 0) }
}

/**
 * Where the buckets begin that hold [fromUs, toUs), and the end of the last: ascending, the first at or before `fromUs`, the last at or after
 * `toUs`, and at least two. Days have 23 to 25 hours where the clock is changed. A day that a zone left out is no bucket. What
 * would begin before 1970 in UTC begins there, and what would end beyond the last time that is exact ends there. About 2 us each.
 */
export function calendarBorders({ unit, timeZone }: Calendar, fromUs: number, toUs: number): Float64Array {
  const zone = new Zone(timeZone)
  const begun = unitAround(unit, zone.dateAt(fromUs))
  const borders = [Math.max(0, zone.startOf(begun.first))]
  for (let border = borders[0]!, { next } = begun; border < toUs || borders.length < 2; next = unitAround(unit, next).next) {
    border = zone.startOf(next)
    // After the clock was set back over midnight, the date is once more that of the day before.
    if (border <= fromUs) borders[0] = border
    else if (border > borders.at(-1)!) borders.push(Math.min(border, limits.timeUsMax))
  }
  return Float64Array.from(borders)
}
