import { wallClock } from '../../core/calendar.ts'

const dayUs = 86_400e6

/** Waves of a season: a constant, then sine and cosine of one, two and three periods. */
export function waveCount(season: number): number {
  return season < 2 ? 1 : 1 + 2 * Math.min(3, Math.floor((season - 1) / 2))
}

/** Where in its season a step is, from 0 to 1. A season that is a day follows the wall clock of the zone, others are counted from 1970. */
export function seasonPhase(stepUs: number, season: number, timeZone: string): (us: number) => number {
  if (season * stepUs !== dayUs) return (us) => (us / stepUs / season) % 1
  const offsetAt = wallClock(timeZone)
  return (us) => ((us + offsetAt(us)) / dayUs) % 1
}

/** Number `k` of the waves at a phase. */
export function waveAt(phase: number, k: number): number {
  if (k === 0) return 1
  const angle = 2 * Math.PI * Math.ceil(k / 2) * phase
  return k % 2 === 1 ? Math.sin(angle) : Math.cos(angle)
}
