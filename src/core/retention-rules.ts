import { ageUs } from './duration.ts'
import { limits } from './limits.ts'

/** Series whose data goes before that of others. The first rule that matches a series counts; an age that is absent is the general one. */
export interface RetentionRule {
  /** Of the device: members of its `metadata` that have these values, as text. Absent: any device. */
  readonly labels?: Readonly<Record<string, string>>
  /** Names of metrics; `*` stands for any characters. Absent: any metric. */
  readonly metrics?: readonly string[]
  readonly rawUs?: number
  readonly minutesUs?: number
  readonly hoursUs?: number
  /** Tenant and id of the devices that have the labels; looked up by who knows them. Without, a rule with labels matches none. */
  readonly devices?: readonly (readonly [tenant: string, device: string])[]
}

export const shortestAgeUs = 86_400e6
const ages = { raw: 'rawUs', minutes: 'minutesUs', hours: 'hoursUs' } as const

/**
 * The rules of `retention.rules`: JSON, a list of `{labels, metrics, raw, minutes, hours}` with at least one age each; empty: none. Or what is wrong
 * with it, naming the rule, counted from 1.
 */
export function parseRules(text: string): readonly RetentionRule[] | { readonly detail: string } {
  if (text.trim() === '') return []
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    return { detail: 'must be a list of rules, as [{"metrics":["debug.*"],"raw":"30d"}]' }
  }
  if (!Array.isArray(parsed)) return { detail: 'must be a list of rules' }
  if (parsed.length > limits.retentionRulesMax) return { detail: `must have at most ${limits.retentionRulesMax} rules` }
  const rules: RetentionRule[] = []
  for (const [i, one] of parsed.entries()) {
    const rule = ruleOf(one)
    if (typeof rule === 'string') return { detail: `rule ${i + 1} ${rule}` }
    rules.push(rule)
  }
  return rules
}

function ruleOf(one: unknown): RetentionRule | string {
  if (typeof one !== 'object' || one === null || Array.isArray(one)) return 'must be a map: labels, metrics, raw, minutes, hours'
  const rule: { -readonly [K in keyof RetentionRule]: RetentionRule[K] } = {}
  for (const [key, value] of Object.entries(one)) {
    const said: unknown = value
    if (key === 'labels') {
      if (typeof said !== 'object' || said === null || Array.isArray(said) || Object.keys(said).length === 0)
        return 'has labels that are no map, as {site: lab}'
      const labels = Object.entries(said).map(([name, of]): readonly [string, unknown] => [name, of])
      if (labels.some(([, of]) => typeof of !== 'string' && typeof of !== 'number' && typeof of !== 'boolean'))
        return 'has a label whose value is no text, number or boolean'
      rule.labels = Object.fromEntries(labels.map(([name, of]) => [name, String(of)]))
    } else if (key === 'metrics') {
      if (!Array.isArray(said) || said.length === 0 || !said.every((name) => typeof name === 'string' && name !== ''))
        return 'has metrics that are no list of names'
      rule.metrics = said.map(String)
    } else if (key === 'raw' || key === 'minutes' || key === 'hours') {
      const us = typeof said === 'string' ? ageUs(said) : undefined
      if (us === undefined) return `has ${key} that is no age, as 36h, 90d, 26w or 5y`
      if (us < shortestAgeUs) return `has ${key} of less than 24h: days are kept or go as a whole`
      rule[ages[key]] = us
    } else return `has an unknown member ${key}; there are labels, metrics, raw, minutes and hours`
  }
  if (rule.labels === undefined && rule.metrics === undefined)
    return 'has neither labels nor metrics; ages for all are retention.raw, .minutes and .hours'
  if (rule.rawUs === undefined && rule.minutesUs === undefined && rule.hoursUs === undefined) return 'has no age: raw, minutes or hours'
  return rule
}

/** What is wrong with the rules beside the general ages; undefined: nothing. Files go by the general ages, so that no series can outlive them. */
export function misfit(
  rules: readonly RetentionRule[],
  general: { readonly rawUs: number; readonly minutesUs: number; readonly hoursUs: number },
): string | undefined {
  for (const [i, rule] of rules.entries()) {
    const of = { ...general, ...rule }
    for (const [name, key] of Object.entries(ages)) {
      if (of[key] > general[key])
        return `rule ${i + 1} keeps ${name} longer than retention.${name}: raise that, and let a last rule with metrics ["*"] shorten it for the others`
    }
    if (of.minutesUs < of.rawUs) return `rule ${i + 1} keeps minutes shorter than raw: rollups must be kept as long as what they stand for`
    if (of.hoursUs < of.minutesUs) return `rule ${i + 1} keeps hours shorter than minutes: rollups must be kept as long as what they stand for`
  }
  return undefined
}

/** Whether a name fits any of the patterns, in which `*` stands for any characters. Takes at most as many steps as the two lengths multiplied. */
export function metricMatcher(patterns: readonly string[]): (metric: string) => boolean {
  return (metric) => patterns.some((pattern) => fits(pattern, metric))
}

function fits(pattern: string, name: string): boolean {
  let [p, n, star, mark] = [0, 0, -1, 0]
  while (n < name.length) {
    if (pattern[p] === '*') [star, mark, p] = [p, n, p + 1]
    else if (pattern[p] === name[n]) [p, n] = [p + 1, n + 1]
    else if (star >= 0) [p, n, mark] = [star + 1, mark + 1, mark + 1]
    else return false
  }
  while (pattern[p] === '*') p++
  return p === pattern.length
}
