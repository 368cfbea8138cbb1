import type { Retention } from '../core/config.ts'
import type { Env, Timer } from '../core/env.ts'
import { asKymoError } from '../core/errors.ts'
import type { DeviceRegistry } from '../devices/registry.ts'

/** How old the store's knowledge of devices' labels may be: days go or stay as a whole, so it is in no hurry. */
const everyMs = 60_000

export interface LabelledRules {
  /** The retention with the devices that its rules' labels mean now. */
  resolved(retention: Retention): Retention
  stop(): void
}

/** Tells the store which devices rules of retention with labels are for: it knows devices by name only. `tell` is called when there are others. */
export function followLabels(o: {
  readonly registry: Pick<DeviceRegistry, 'labelled'>
  readonly retention: () => Retention
  readonly tell: (retention: Retention) => Promise<void>
  readonly env: Env
}): LabelledRules {
  const resolved = (retention: Retention): Retention => {
    if (retention.rules?.some(({ labels }) => labels !== undefined) !== true) return retention
    const rules = retention.rules.map((rule) => (rule.labels === undefined ? rule : { ...rule, devices: o.registry.labelled(rule.labels) }))
    return { ...retention, rules }
  }
  let told = ''
  let timer: Timer
  const look = (): void => {
    const retention = resolved(o.retention())
    const said = JSON.stringify(retention.rules ?? [])
    const telling = said === told ? Promise.resolve() : o.tell(retention)
    telling
      .then(() => (told = said))
      .catch((thrown: unknown) => o.env.logger.warn('the store was not told of labels', { error: asKymoError(thrown).message }))
    timer = o.env.clock.after(everyMs, look)
  }
  look()
  return { resolved, stop: () => timer.cancel() }
}
