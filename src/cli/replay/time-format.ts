import { InvalidArgumentError } from 'commander'
import { durationMs } from '../options.ts'

/** Epoch microseconds of a cell; NaN when it is not a time of this format. */
export type TimeParser = (text: string) => number

const unitsUs: Readonly<Record<string, number>> = { s: 1e6, ms: 1e3, us: 1, ns: 1e-3 }

/**
 * `auto`: RFC 3339 (a space for the T, no zone = UTC), year/month/day with or without a time, or an epoch number by magnitude.
 * `s`, `ms`, `us`, `ns`: an epoch number. `step:30m:2004-03-01T00:00Z`: a row number, so wide, from there.
 */
export function timeParser(format: string): TimeParser {
  if (format === 'auto') return parseTime
  const unit = unitsUs[format]
  if (unit !== undefined) return (text) => (isNumber(text) ? Math.round(Number(text) * unit) : Number.NaN)
  const step = /^step:([^:]+):(.+)$/.exec(format)
  if (step !== null) {
    const widthMs = durationMs(step[1] ?? '')
    const originUs = parseTime(step[2] ?? '')
    if (widthMs !== undefined && Number.isFinite(originUs))
      return (text) => (isNumber(text) ? originUs + Math.round(Number(text) * widthMs * 1e3) : Number.NaN)
  }
  throw new InvalidArgumentError('Known: auto, s, ms, us, ns, and step:<width>:<origin> such as step:30m:2004-03-01T00:00Z.')
}

function isNumber(text: string): boolean {
  return text.trim() !== '' && Number.isFinite(Number(text))
}

/** Without a zone it is UTC: what a logger wrote has no daylight saving that we could know. */
const calendar = /^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?\s*(Z|z|[+-]\d{2}:?\d{2})?$/

export function parseTime(text: string): number {
  const trimmed = text.trim()
  if (isNumber(trimmed)) return byMagnitude(Number(trimmed))
  const match = calendar.exec(trimmed)
  if (match === null) return Number.NaN
  const [year, month, day, hour, minute, second] = [1, 2, 3, 4, 5, 6].map((i) => Number(match[i] ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const ms = Date.UTC(year, month - 1, day, hour, minute, second)
  const back = new Date(ms)
  // Date.UTC rolls 31 April over into May: that is a mistake in the file, not a time.
  if (back.getUTCMonth() !== month - 1 || back.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59) return Number.NaN
  const fractionUs = Math.floor(Number(`0.${match[7] ?? '0'}`) * 1e6 + 1e-6)
  return ms * 1e3 + fractionUs - offsetUs(match[8])
}

function offsetUs(zone: string | undefined): number {
  if (zone === undefined || zone === 'Z' || zone === 'z') return 0
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2))
  return (zone.startsWith('-') ? -minutes : minutes) * 60e6
}

/** As the server reads numbers: below 1e11 seconds, 1e14 ms, 1e17 microseconds, else nanoseconds. */
function byMagnitude(value: number): number {
  if (value < 1e11) return Math.round(value * 1e6)
  if (value < 1e14) return Math.round(value * 1e3)
  if (value < 1e17) return Math.round(value)
  return Math.round(value / 1e3)
}
