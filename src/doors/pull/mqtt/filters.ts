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
 * Filters of templates: `{device}` becomes `+`, `{device...}` becomes `#`. A template may stand behind `$share/<group>/`: a broker that
 * knows shared subscriptions then divides the messages among the group. A filter that another one covers is left out, so that no message comes
 * twice. Throws config_invalid for a template that is none.
 */
export function pullTopics(templates: readonly string[]): PullTopics {
  if (templates.length === 0) throw new KymoError('config_invalid', { detail: 'mqtt.pull.topics names no topic.' })
  const plain = templates.map((template) => shared.exec(template)?.[2] ?? template)
  const topics = new TelemetryTopics(plain)
  const wanted = templates.map((template, i) => {
    const filter = plain[i]!.split('/')
      .map((level) => (level === '{device}' ? '+' : level === '{device...}' ? '#' : level))
      .join('/')
    const group = shared.exec(template)?.[1]
    return group === undefined ? filter : `$share/${group}/${filter}`
  })
  const filters = wanted.filter((filter, i) => !wanted.some((other, j) => j !== i && covers(other, filter) && (other !== filter || j < i)))
  return { filters, match: (topic) => topics.match(topic) }
}

/** Whether every topic that `filter` matches is matched by `wide` (MQTT 3.1.1, section 4.7). */
export function covers(wide: string, filter: string): boolean {
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
