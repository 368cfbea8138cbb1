import { limits } from '../../core/limits.ts'
import { epochToUs } from '../time.ts'
import { LocalTimes } from './local-time.ts'

/** What a cell says: epoch microseconds, and whether they are a wall clock's whose zone the cell does not tell. */
interface Moment {
  readonly us: number
  readonly local: boolean
}

type Reader = (text: string) => Moment | undefined

/** Epoch microseconds of a cell; NaN when it is no time of this format. `series`: see LocalTimes. */
export type TimeReader = (cell: string | number, series: string) => number

const unitsUs: Readonly<Record<string, number>> = { s: 1e6, ms: 1e3, us: 1, ns: 1e-3 }
const calendar =
  /^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ]+(\d{1,2})[:.](\d{2})(?:[:.](\d{2})(?:[.,](\d{1,9}))?)?)?\s*(Z|z|UTC|[+-]\d{2}(?::?\d{2})?)?$/

/** Named formats, and letters of patterns, for messages. */
export const timeFormats = 'auto; s, ms, us or ns (epoch); or a pattern such as DD/MM/YYYY HH:mm:ss'

/**
 * `auto`: RFC 3339 and its relatives that begin with the year, or an epoch number by magnitude; `s`, `ms`, `us`, `ns`: an epoch number;
 * else a pattern of YYYY, YY, MM, DD, HH, mm, ss, SSS (fraction), A (AM or PM), Z (offset). Undefined: not a format.
 */
export function timeReader(format: string, zone: string): TimeReader | undefined {
  const read = readerOf(format)
  if (read === undefined) return undefined
  const local = zone === 'UTC' ? undefined : new LocalTimes(zone)
  return (cell, series) => {
    const moment = typeof cell === 'number' ? { us: epochOf(cell, format), local: false } : read(cell.trim())
    if (moment === undefined) return Number.NaN
    const us = local === undefined || !moment.local ? moment.us : local.toUtc(moment.us, series)
    return us >= 0 && us <= limits.timeUsMax ? us : Number.NaN
  }
}

/** A wall clock's time of a typed column, which no text has to be read for. */
export function localReader(zone: string): (us: number, series: string) => number {
  if (zone === 'UTC') return (us) => us
  const local = new LocalTimes(zone)
  return (us, series) => local.toUtc(us, series)
}

function epochOf(value: number, format: string): number {
  const unit = unitsUs[format]
  return unit === undefined ? epochToUs(value) : Math.round(value * unit)
}

function readerOf(format: string): Reader | undefined {
  if (format === 'auto') return (text) => (isNumber(text) ? { us: epochToUs(Number(text)), local: false } : readCalendar(text))
  const unit = unitsUs[format]
  if (unit !== undefined) return (text) => (isNumber(text) ? { us: Math.round(Number(text) * unit), local: false } : undefined)
  return patternReader(format)
}

function isNumber(text: string): boolean {
  return /^\d+(\.\d+)?([eE]\+?\d+)?$/.test(text)
}

function readCalendar(text: string): Moment | undefined {
  const match = calendar.exec(text)
  if (match === null) return undefined
  return momentOf(
    [1, 2, 3, 4, 5, 6].map((i) => Number(match[i] ?? 0)),
    match[7],
    match[8],
  )
}

/** Undefined where the calendar has no such day, or the clock no such time. */
function momentOf(parts: readonly number[], fraction: string | undefined, zone: string | undefined): Moment | undefined {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts
  const ms = Date.UTC(year, month - 1, day, hour, minute, second)
  const back = new Date(ms)
  if (back.getUTCMonth() !== month - 1 || back.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59) return undefined
  const us = ms * 1e3 + Number((fraction ?? '0').slice(0, 6).padEnd(6, '0'))
  return zone === undefined ? { us, local: true } : { us: us - offsetUs(zone), local: false }
}

function offsetUs(zone: string): number {
  if (!/^[+-]/.test(zone)) return 0
  const digits = zone.slice(1).replace(':', '').padEnd(4, '0')
  const minutes = Number(digits.slice(0, 2)) * 60 + Number(digits.slice(2))
  return (zone.startsWith('-') ? -minutes : minutes) * 60e6
}

const tokens: Readonly<Record<string, string>> = {
  YYYY: '(?<year>\\d{4})',
  YY: '(?<short>\\d{2})',
  MM: '(?<month>\\d{1,2})',
  DD: '(?<day>\\d{1,2})',
  HH: '(?<hour>\\d{1,2})',
  mm: '(?<minute>\\d{1,2})',
  ss: '(?<second>\\d{1,2})',
  SSS: '(?<fraction>\\d{1,9})',
  A: '(?<half>[AaPp])\\.?[Mm]\\.?',
  Z: '(?<zone>Z|UTC|[+-]\\d{2}(?::?\\d{2})?)',
}

function patternReader(format: string): Reader | undefined {
  if (!/YY/.test(format) || !format.includes('MM') || !format.includes('DD')) return undefined
  const source = format.replaceAll(/YYYY|YY|MM|DD|HH|mm|ss|SSS|A|Z|[\s\S]/g, (part) => tokens[part] ?? part.replace(/[.*+?^${}()|[\]\\]/, '\\$&'))
  let pattern: RegExp
  try {
    pattern = new RegExp(`^${source}$`)
  } catch (error) {
    // The same part twice.
    if (error instanceof SyntaxError) return undefined
    throw error
  }
  return (text) => {
    const g = pattern.exec(text)?.groups
    if (g === undefined) return undefined
    let hour = Number(g['hour'] ?? 0)
    if (g['half'] !== undefined) {
      if (hour < 1 || hour > 12) return undefined
      hour = (hour % 12) + (g['half'].toLowerCase() === 'p' ? 12 : 0)
    }
    const year = g['year'] === undefined ? 2000 + Number(g['short']) : Number(g['year'])
    return momentOf([year, Number(g['month']), Number(g['day']), hour, Number(g['minute'] ?? 0), Number(g['second'] ?? 0)], g['fraction'], g['zone'])
  }
}

const times = ['', ' HH:mm', ' HH:mm:ss', ' HH:mm:ss.SSS', ' HH.mm', ' HH.mm.ss', 'THH:mm:ss', ' HH:mm A', ' HH:mm:ss A']
const dates = ['DD.MM.YYYY', 'DD/MM/YYYY', 'MM/DD/YYYY', 'DD-MM-YYYY', 'MM-DD-YYYY', 'DD.MM.YY']

/** Formats that read all of the cells: one is what they are, several (3/4/2026) only the user can tell apart. */
export function formatsOf(cells: readonly string[]): string[] {
  const fits = (format: string): boolean => {
    const read = readerOf(format)
    return read !== undefined && cells.every((cell) => read(cell.trim()) !== undefined)
  }
  if (cells.length === 0 || fits('auto')) return ['auto']
  return dates.flatMap((date) => times.map((time) => date + time)).filter(fits)
}
