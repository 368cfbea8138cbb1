const slash = 0x2f
const plus = 0x2b
const hash = 0x23
const dollar = 0x24

/**
 * Whether a valid topic filter matches a topic name (section 4.7 of both standards): levels are compared character by character, `#` takes the
 * level above it too, and a wildcard at the first level takes no topic that begins with `$` [MQTT-4.7.2-1].
 */
export function matchesFilter(filter: string, topic: string): boolean {
  const filterEnd = filter.length
  const topicEnd = topic.length
  const first = filter.charCodeAt(0)
  if (topic.charCodeAt(0) === dollar && (first === hash || first === plus)) return false
  // Both stand at the beginning of a level; the topic beyond its end when it has no more.
  for (let f = 0, t = 0; ; f++, t++) {
    const wildcard = filter.charCodeAt(f)
    if (wildcard === hash) return true
    if (t > topicEnd) return false
    if (wildcard === plus) {
      f++
      while (t < topicEnd && topic.charCodeAt(t) !== slash) t++
    } else {
      while (f < filterEnd && filter.charCodeAt(f) !== slash) if (filter.charCodeAt(f++) !== topic.charCodeAt(t++)) return false
      if (t < topicEnd && topic.charCodeAt(t) !== slash) return false
    }
    if (f === filterEnd) return t === topicEnd
  }
}

/** Topics of the server's own: a client's messages there would pass for the server's (section 4.7.2). */
export function isReserved(topic: string): boolean {
  return topic.startsWith('$SYS/') || topic.startsWith('$share/')
}

/** A shared subscription (MQTT 5, section 4.8.2), taken from 3.1.1 as well. */
export interface Share {
  readonly group: string
  readonly filter: string
}

const prefix = '$share/'

export function isShared(filter: string): boolean {
  return filter.startsWith(prefix)
}

/**
 * What `$share/group/filter` is made of. Undefined: it has no group [MQTT-4.8.2-1], the group is or holds a wildcard, or no filter follows
 * [MQTT-4.8.2-2]. MQTT 3.1.1 has no word for it, so its packets come here unchecked.
 */
export function shareOf(filter: string): Share | undefined {
  const end = filter.indexOf('/', prefix.length)
  const group = filter.slice(prefix.length, end)
  if (end < 0 || group === '' || end + 1 === filter.length || group.includes('+') || group.includes('#')) return undefined
  return { group, filter: filter.slice(end + 1) }
}
