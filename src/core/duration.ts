import { limits } from './limits.ts'

const unitUs: Readonly<Record<string, number>> = { h: 3600e6, d: 86_400e6, w: 7 * 86_400e6, y: 365 * 86_400e6 }

/** The shortest text for an age of whole hours: `36h`, `90d`, `5y`. */
export function ageText(us: number): string {
  const unit = ['y', 'd'].find((one) => us % unitUs[one]! === 0) ?? 'h'
  return `${us / unitUs[unit]!}${unit}`
}

/** Microseconds of `36h`, `90d`, `26w` or `5y` (a year is 365 days); undefined when it is none of them. */
export function ageUs(text: string): number | undefined {
  const match = /^(\d{1,6})([hdwy])$/.exec(text)
  return match === null ? undefined : Number(match[1]) * unitUs[match[2]!]!
}

const spanUnitUs: Readonly<Record<string, number>> = { us: 1, ms: 1e3, s: 1e6, m: 60e6, h: 3600e6, d: 86_400e6, w: 7 * 86_400e6 }

/** `250ms`, `30s`, `5m`, `1h`, `1d`, `2w` in microseconds; undefined when it is none of them. */
export function durationUs(text: string): number | undefined {
  const match = /^(\d{1,12})(us|ms|s|m|h|d|w)$/.exec(text)
  if (match === null) return undefined
  const us = Number(match[1]) * spanUnitUs[match[2]!]!
  return us > 0 && us <= limits.timeUsMax ? us : undefined
}

/** The shortest text for a length of time that `durationUs` reads. */
export function spanText(us: number): string {
  const unit = ['d', 'h', 'm', 's', 'ms'].find((one) => us % spanUnitUs[one]! === 0) ?? 'us'
  return `${us / spanUnitUs[unit]!}${unit}`
}
