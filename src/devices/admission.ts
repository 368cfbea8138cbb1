import type { Clock } from '../core/env.ts'
import type { Admission } from '../core/series-table.ts'

/**
 * Who may register by sending: nobody when the switch is off (`device_unknown`), else as many as the token bucket gives
 * (`registration_rate`): `perS` new devices a second, `burst` at once. `full` says that the registry has no room (`too_many_devices`).
 */
export function createAdmission(o: {
  readonly clock: Clock
  readonly autoRegister: boolean
  readonly perS: number
  readonly burst: number
  readonly full: () => boolean
  /** Known to the registry though not to the asking table: no registration at all. */
  readonly known: (tenant: string, device: string) => boolean
}): Admission {
  let tokens = o.burst
  let filledAtMs = o.clock.monotonicMs()
  return (tenant, device) => {
    if (o.known(tenant, device)) return undefined
    if (!o.autoRegister) return 'device_unknown'
    if (o.full()) return 'too_many_devices'
    const nowMs = o.clock.monotonicMs()
    tokens = Math.min(o.burst, tokens + ((nowMs - filledAtMs) / 1000) * o.perS)
    filledAtMs = nowMs
    if (tokens < 1) return 'registration_rate'
    tokens--
    return undefined
  }
}
