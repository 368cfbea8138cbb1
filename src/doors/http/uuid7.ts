import type { Env } from '../../core/env.ts'

/** RFC 9562 5.7: 48 bits of Unix milliseconds, then the random bits of a UUIDv4; sorts by time of creation. */
export function v7(env: Pick<Env, 'clock' | 'random'>): string {
  const ms = Math.floor(env.clock.nowUs() / 1e3)
    .toString(16)
    .padStart(12, '0')
  const random = env.random.uuid()
  return `${ms.slice(0, 8)}-${ms.slice(8)}-7${random.slice(15)}`
}
