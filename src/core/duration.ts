const unitUs: Readonly<Record<string, number>> = { h: 3600e6, d: 86_400e6, w: 7 * 86_400e6, y: 365 * 86_400e6 }

/** Microseconds of `36h`, `90d`, `26w` or `5y` (a year is 365 days); undefined when it is none of them. */
export function ageUs(text: string): number | undefined {
  const match = /^(\d{1,6})([hdwy])$/.exec(text)
  return match === null ? undefined : Number(match[1]) * unitUs[match[2]!]!
}
