import type { RetentionRule } from '../../core/retention-rules.ts'
import { metricMatcher } from '../../core/retention-rules.ts'
import type { Dictionary } from './dictionary.ts'
import { erasedKey } from './dictionary.ts'
import type { Drop } from './sealed/drop.ts'
import { dayUs } from './sealed/partition.ts'

/** Which series each rule is for: the first that matches. Worked out again only when there are others. */
export class RuleSeries {
  readonly #dictionary: Dictionary
  #rules: readonly RetentionRule[] = []
  #said = '[]'
  #known = 0
  #erased = 0
  #byRule: number[][] = []
  #matches: ((tenant: string, device: string, metric: string) => number) | undefined
  /** Grows whenever series may have come under another rule than before. */
  version = 0

  constructor(dictionary: Dictionary) {
    this.#dictionary = dictionary
  }

  /** How many series each rule has. */
  get counts(): readonly number[] {
    return this.#byRule.map((ids) => ids.length)
  }

  /** What goes by these rules at this time, with whole UTC days. */
  drops(rules: readonly RetentionRule[], nowUs: number): Drop[] {
    // Before it was told which devices have the labels, series would come under a rule further down.
    if (rules.some(({ labels, devices }) => labels !== undefined && devices === undefined)) return []
    this.#use(rules)
    const before = (ageUs: number | undefined): number | undefined => (ageUs === undefined ? undefined : dayOf(nowUs - ageUs))
    return this.#rules.flatMap((rule, i): Drop[] => {
      const ids = this.#byRule[i]!
      const [raw, minutes, hours] = [before(rule.rawUs), before(rule.minutesUs), before(rule.hoursUs)]
      const beforeUs = {
        ...(raw === undefined ? {} : { raw }),
        ...(minutes === undefined ? {} : { '1m': minutes }),
        ...(hours === undefined ? {} : { '1h': hours }),
      }
      return ids.length === 0 ? [] : [{ ids, beforeUs }]
    })
  }

  #use(rules: readonly RetentionRule[]): void {
    const { keys, erased } = this.#dictionary
    // Of other objects, as each message brings them anew, only what they say counts.
    const said = rules === this.#rules ? this.#said : JSON.stringify(rules)
    if (said !== this.#said || erased !== this.#erased || keys.length < this.#known) {
      if (said !== this.#said) this.version++
      this.#byRule = rules.map(() => [])
      this.#known = 0
      this.#matches = matcherOf(rules)
    }
    this.#rules = rules
    this.#said = said
    this.#erased = erased
    if (this.#matches !== undefined) {
      for (let id = this.#known; id < keys.length; id++) {
        const key = keys[id]!
        const rule = key === erasedKey ? -1 : this.#matches(key.tenant, key.device, key.metric)
        if (rule >= 0) this.#byRule[rule]!.push(id)
      }
    }
    this.#known = keys.length
  }
}

function matcherOf(rules: readonly RetentionRule[]): (tenant: string, device: string, metric: string) => number {
  const parts = rules.map(({ labels, metrics, devices }) => ({
    devices: labels === undefined ? undefined : new Set((devices ?? []).map(([tenant, device]) => `${tenant}\u0000${device}`)),
    metric: metrics === undefined ? () => true : metricMatcher(metrics),
  }))
  return (tenant, device, metric) => parts.findIndex((part) => part.devices?.has(`${tenant}\u0000${device}`) !== false && part.metric(metric))
}

function dayOf(us: number): number {
  return Math.max(0, us - (us % dayUs))
}
