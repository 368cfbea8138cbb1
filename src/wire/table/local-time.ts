const dayMs = 86_400_000
const quarterMs = 900_000
/** Quarters of an hour whose offset is remembered: 100 kB of numbers. */
const rememberedMax = 10_000

interface Local {
  readonly earlierMs: number
  readonly laterMs: number
}

/**
 * Wall-clock times of a zone as UTC. Daylight saving makes some local times stand twice and some never:
 *
 * - A time that stands twice is the first of the two, unless the same series has had this time or a later one of that hour already: then its
 *   clock has been set back, and it is the second.
 * - A time that never was (the clock was set forward over it) is read with the offset before the change, so it lies as much
 *   later as the clock jumped (Temporal's "compatible").
 */
export class LocalTimes {
  readonly #format: Intl.DateTimeFormat
  readonly #known = new Map<number, Local>()
  /** By series: the last time given out among those that stand twice. */
  readonly #repeated = new Map<string, number>()

  constructor(zone: string) {
    this.#format = new Intl.DateTimeFormat('en-US-u-hc-h23', {
      timeZone: zone,
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
      era: 'short',
    })
  }

  /** `localUs`: the wall clock as if it were UTC. `series`: what is in the order of its clock, a device or a device's metric. */
  toUtc(localUs: number, series: string): number {
    const localMs = localUs / 1_000
    const quarter = Math.floor(localMs / quarterMs)
    let local = this.#known.get(quarter)
    if (local === undefined) {
      if (this.#known.size >= rememberedMax) this.#known.clear()
      this.#known.set(quarter, (local = this.#resolve(quarter * quarterMs)))
    }
    const earlier = localUs + local.earlierMs * 1_000
    if (local.earlierMs === local.laterMs) return earlier
    const later = localUs + local.laterMs * 1_000
    const before = this.#repeated.get(series)
    const us = before !== undefined && before >= earlier && before - earlier < dayMs * 1_000 ? later : earlier
    if (before === undefined || us > before || before - earlier >= dayMs * 1_000) this.#repeated.set(series, us)
    return us
  }

  /** What to add to local times of this quarter of an hour, in which no zone changes its offset since 1972. */
  #resolve(localMs: number): Local {
    const before = this.#offset(localMs - dayMs)
    const after = this.#offset(localMs + dayMs)
    const fits = [...new Set([before, after])].filter((offset) => this.#offset(localMs - offset) === offset)
    if (fits.length === 2) return { earlierMs: -Math.max(before, after), laterMs: -Math.min(before, after) }
    const only = fits[0] ?? before
    return { earlierMs: -only, laterMs: -only }
  }

  /** Milliseconds east of UTC at a moment. */
  #offset(utcMs: number): number {
    const parts: Record<string, string> = {}
    for (const { type, value } of this.#format.formatToParts(utcMs)) parts[type] = value
    const number = (name: string): number => Number(parts[name])
    const year = parts['era'] === 'B' ? 1 - number('year') : number('year')
    return Date.UTC(year, number('month') - 1, number('day'), number('hour'), number('minute'), number('second')) - Math.floor(utcMs / 1_000) * 1_000
  }
}
