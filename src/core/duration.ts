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
