import { ageUs, durationUs, spanText } from './duration.ts'
import { parseRules, shortestAgeUs } from './retention-rules.ts'
import type { Setting, SpanSetting } from './setting.ts'

/** What is wrong with a value; undefined when nothing is. */
export function complaint(setting: Setting, value: unknown): string | undefined {
  if (setting.type === 'boolean') return typeof value === 'boolean' ? undefined : 'must be true or false'
  if (setting.type === 'integer') {
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) return 'must be a whole number'
    if (setting.minimum !== undefined && value < setting.minimum) return `must be >= ${setting.minimum}`
    return setting.maximum !== undefined && value > setting.maximum ? `must be <= ${setting.maximum}` : undefined
  }
  if (setting.type === 'number') {
    const within = typeof value === 'number' && value >= setting.minimum && value <= setting.maximum
    return within ? undefined : `must be a number from ${setting.minimum} to ${setting.maximum}`
  }
  if (typeof value !== 'string') return 'must be text'
  if ('format' in setting && setting.format === 'rules') {
    const found = parseRules(value)
    return 'detail' in found ? found.detail : undefined
  }
  if ('format' in setting && setting.format === 'span') return spanComplaint(setting, value)
  if ('format' in setting) {
    if (value === '') return undefined
    const us = ageUs(value)
    if (us === undefined) return 'must be a number of hours, days, weeks or years, as 36h, 90d, 26w or 5y; empty: for ever'
    return us < shortestAgeUs ? 'must be 24h or more' : undefined
  }
  if (!('enum' in setting) || setting.enum.includes(value)) return undefined
  const near = suggest(value, setting.enum)
  return `must be one of ${setting.enum.join(', ')}${near === undefined ? '' : `; did you mean ${near}?`}`
}

function spanComplaint({ leastUs, mostUs, zero }: SpanSetting, value: string): string | undefined {
  if (zero === true && value === '0') return undefined
  const us = durationUs(value)
  if (us === undefined) return `must be a length of time, as 15m, 1h or 7d${zero === true ? ', or 0' : ''}`
  return us < leastUs || us > mostUs ? `must be ${spanText(leastUs)} to ${spanText(mostUs)}${zero === true ? ', or 0' : ''}` : undefined
}

/** A flag's or a variable's text as the setting's type; what it should be, when it is none. */
export function fromText(setting: Setting, raw: string): { readonly value: unknown } | { readonly detail: string } {
  if (setting.type === 'integer') return /^-?\d+$/.test(raw.trim()) ? { value: Number(raw) } : { detail: 'must be a whole number' }
  if (setting.type === 'number') return /^-?\d+(\.\d+)?$/.test(raw.trim()) ? { value: Number(raw) } : { detail: 'must be a number' }
  if (setting.type === 'boolean') {
    if (/^(1|true|yes|on)$/i.test(raw)) return { value: true }
    return /^(0|false|no|off)$/i.test(raw) ? { value: false } : { detail: 'must be true or false' }
  }
  return { value: raw }
}

/** For logs and listings: a secret is not said, and neither is the password of a URL. */
export function shown(setting: Setting, value: unknown): string {
  const text = String(value)
  if (setting.secret === true) return text === '' ? '' : '(secret)'
  // `user:password@host`, where a scheme was forgotten.
  return withoutPassword(text).replace(/^[^/@:]*:[^/]*@/, '…@')
}

export function withoutPassword(url: string): string {
  return url.replace(/\/\/.*@/s, '//…@').replace(/([?&]token=)[^&]*/, '$1…')
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    row = next
  }
  return row[b.length]!
}

/** A word that is this much longer than any name of ours is no misspelling of one, and would take long to compare. */
const wordMax = 200

/** The nearest known word, when it is near enough to be meant. */
export function suggest(word: string, known: readonly string[]): string | undefined {
  if (word.length > wordMax) return undefined
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 4)) + 1
  for (const candidate of known) {
    const d = distance(word, candidate)
    if (d < bestDistance) {
      best = candidate
      bestDistance = d
    }
  }
  return best
}
