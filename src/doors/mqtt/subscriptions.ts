import type { Budget } from './budget.ts'

/** Who subscribed to one filter. Live: it follows the subscriptions, so that a remembered match stays right. */
export class Grants<S> {
  /** Subscribers that were granted QoS 0, and QoS 1, in no order. */
  readonly byQos: readonly [S[], S[]] = [[], []]
  /** Where a subscriber stands: index * 2 + QoS. */
  readonly #places = new Map<S, number>()

  get size(): number {
    return this.#places.size
  }

  /** Returns whether the subscriber is new here. */
  set(subscriber: S, qos: 0 | 1): boolean {
    const fresh = !this.delete(subscriber)
    this.#places.set(subscriber, this.byQos[qos].length * 2 + qos)
    this.byQos[qos].push(subscriber)
    return fresh
  }

  delete(subscriber: S): boolean {
    const place = this.#places.get(subscriber)
    if (place === undefined) return false
    this.#places.delete(subscriber)
    const list = this.byQos[(place & 1) as 0 | 1]
    const last = list.pop()!
    if (last !== subscriber) {
      list[place >> 1] = last
      this.#places.set(last, place)
    }
    return true
  }
}

/** The filters that match a topic. A subscriber may stand in several of them. */
export type Match<S> = readonly Grants<S>[]

interface Node<S> {
  readonly parent: Node<S> | undefined
  readonly level: string
  children: Map<string, Node<S>> | undefined
  grants: Grants<S> | undefined
}

/**
 * The topic filters of one tenant as a tree of levels, and a bounded memory of which of them match a topic. `+` and `#` are children
 * of these names. When a filter comes or goes, all remembered matches are stale: callers compare `version`.
 */
export class Subscriptions<S> {
  version = 1
  /** Subscriptions in all. */
  size = 0
  readonly #root: Node<S> = { parent: undefined, level: '', children: undefined, grants: undefined }
  readonly #nodes: Budget
  readonly #cache = new Map<string, Match<S>>()
  readonly #cacheMax: number
  #cached = 0
  readonly #nothing: Match<S> = []

  /** `nodes` counts the levels of all trees; `cacheMax` bounds topics, and matched filters, that are remembered. */
  constructor(nodes: Budget, cacheMax: number) {
    this.#nodes = nodes
    this.#cacheMax = cacheMax
  }

  /** Replaces a subscription to the same filter [MQTT-3.8.4-3]. False: there is no room for it. */
  add(filter: string, subscriber: S, qos: 0 | 1): boolean {
    const levels = filter.split('/')
    if (this.#nodes.used + levels.length > this.#nodes.max && this.#find(levels) === undefined) return false
    let at = this.#root
    for (const level of levels) {
      at.children ??= new Map()
      let next = at.children.get(level)
      if (next === undefined) {
        next = { parent: at, level, children: undefined, grants: undefined }
        at.children.set(level, next)
        this.#nodes.used++
      }
      at = next
    }
    if (at.grants === undefined) {
      at.grants = new Grants()
      this.#changed()
    }
    if (at.grants.set(subscriber, qos)) this.size++
    return true
  }

  /** Filters are compared character by character [MQTT-3.10.4-1]. Returns whether there was such a subscription. */
  remove(filter: string, subscriber: S): boolean {
    let at = this.#find(filter.split('/'))
    if (at?.grants === undefined || !at.grants.delete(subscriber)) return false
    this.size--
    if (at.grants.size > 0) return true
    at.grants = undefined
    this.#changed()
    while (at.parent !== undefined && at.grants === undefined && (at.children === undefined || at.children.size === 0)) {
      at.parent.children!.delete(at.level)
      this.#nodes.used--
      at = at.parent
    }
    return true
  }

  match(topic: string): Match<S> {
    if (this.size === 0) return this.#nothing
    const known = this.#cache.get(topic)
    if (known !== undefined) return known
    const found: Grants<S>[] = []
    // Wildcards at the first level do not match topics of the server's own [MQTT-4.7.2-1].
    collect(this.#root, topic.split('/'), 0, !topic.startsWith('$'), found)
    this.#cached += 1 + found.length
    if (this.#cached > this.#cacheMax) {
      this.#cache.clear()
      this.#cached = 1 + found.length
    }
    const match = found.length === 0 ? this.#nothing : found
    this.#cache.set(topic, match)
    return match
  }

  #find(levels: readonly string[]): Node<S> | undefined {
    let at: Node<S> | undefined = this.#root
    for (const level of levels) {
      at = at.children?.get(level)
      if (at === undefined) return undefined
    }
    return at
  }

  #changed(): void {
    this.version++
    this.#cached = 0
    if (this.#cache.size > 0) this.#cache.clear()
  }
}

function collect<S>(at: Node<S>, levels: readonly string[], depth: number, wildcards: boolean, found: Grants<S>[]): void {
  if (depth === levels.length && at.grants !== undefined) found.push(at.grants)
  const { children } = at
  if (children === undefined) return
  if (wildcards) {
    // "#" includes the level above it (section 4.7.1.2).
    const rest = children.get('#')?.grants
    if (rest !== undefined) found.push(rest)
  }
  if (depth === levels.length) return
  const exact = children.get(levels[depth]!)
  if (exact !== undefined) collect(exact, levels, depth + 1, true, found)
  if (!wildcards) return
  const any = children.get('+')
  if (any !== undefined) collect(any, levels, depth + 1, true, found)
}
