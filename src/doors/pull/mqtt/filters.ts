import { KymoError } from '../../../core/errors.ts'
import type { TopicMatch } from '../../../wire/topics.ts'
import { TelemetryTopics } from '../../../wire/topics.ts'

/** What is subscribed to, and what the topics of what comes are. */
export interface PullTopics {
  readonly filters: readonly string[]
  match(topic: string): TopicMatch
}

const shared = /^\$share\/([^/+#]+)\/(.+)$/s

/**
 * Filters of templates: `{device}` becomes `+`, `{device...}` becomes `#`. A template may stand behind `$share/<group>/`, and stands behind `group`
 * where there is one (''): a broker that knows shared subscriptions then divides the messages among the group. A filter that another one covers is
 * left out, so that no message comes twice. Throws config_invalid for a template that is none.
 */
export function pullTopics(templates: readonly string[], group = ''): PullTopics {
  if (templates.length === 0) throw new KymoError('config_invalid', { detail: 'mqtt.pull.topics names no topic.' })
  const plain = templates.map((template) => shared.exec(template)?.[2] ?? template)
  const topics = new TelemetryTopics(plain)
  const wanted = templates.map((template, i) => {
    const filter = plain[i]!.split('/')
      .map((level) => (level === '{device}' ? '+' : level === '{device...}' ? '#' : level))
      .join('/')
    const its = shared.exec(template)?.[1] ?? group
    return its === '' ? filter : `$share/${its}/${filter}`
  })
  const filters = wanted.filter((filter, i) => !wanted.some((other, j) => j !== i && covers(other, filter) && (other !== filter || j < i)))
  return { filters, match: (topic) => topics.match(topic) }
}

/** A filter in place of one of a group of its own: what is asked for with it takes nothing from others of the group. */
export function besideGroup(filter: string, name: string): string {
  const found = shared.exec(filter)
  return found === null ? filter : `$share/${found[1]}-${name}/${found[2]}`
}

/** Whether every message that comes for `filter` comes for `wide` too (MQTT 3.1.1, section 4.7): of a shared one that is part of them. */
export function covers(wide: string, filter: string): boolean {
  const part = shared.exec(filter)?.[2]
  if (part !== undefined && !shared.test(wide)) return covers(wide, part)
  const a = wide.split('/')
  const b = filter.split('/')
  for (let i = 0; i < a.length; i++) {
    if (a[i] === '#') return !(i === 0 && filter.startsWith('$'))
    const level = b[i]
    if (level === undefined || level === '#') return false
    if (a[i] !== '+' && a[i] !== level) return false
    if (i === 0 && a[i] === '+' && filter.startsWith('$')) return false
  }
  return a.length === b.length
}
