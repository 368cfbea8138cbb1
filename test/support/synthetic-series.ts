import type { Series } from '../../src/compute/forecast/series.ts'
import { SeededRandom } from '../../src/core/seeded-random.ts'

export const hourUs = 3_600e6
export const mondayUs = Date.UTC(2024, 0, 1) * 1e3

export function seriesOf(values: ArrayLike<number>, o: Partial<Series> = {}): Series {
  return { startUs: mondayUs, stepUs: hourUs, values: Float64Array.from(values), covariates: [], timeZone: 'UTC', ...o }
}

/** A day's wave with a slow walk and noise: what a room's temperature is like. */
export function dailySeries(steps: number, seed = 1, noise = 0.3): Series {
  const random = new SeededRandom(seed)
  let walk = 20
  return seriesOf(
    Float64Array.from({ length: steps }, (_, i) => {
      walk += 0.05 * random.normal()
      return walk + 4 * Math.sin((2 * Math.PI * i) / 24) + noise * random.normal()
    }),
  )
}
