import type { Budget } from './budget.ts'
import { isShared, matchesFilter, shareOf } from './filter.ts'
import type { Holder, Node, Subscription, SubscriptionOptions } from './roster.ts'
import { noIdentifiers, optionsByte, optionsOf, Roster, SharedGroup } from './roster.ts'
import type { Presence } from './shared.ts'

/** The filters that match a topic. Who subscribed to them is live; whether they are still all: `Subscriptions.refresh`. */
export interface Match<S> {
  readonly topic: string
  /** Empty: nobody has subscribed. */
  readonly nodes: readonly Node<S>[]
  readonly version: number
  readonly effort: Work
}

/** Counts units of work; see Effort. */
export interface Work {
  units: number
}

interface MutableMatch<S> extends Match<S> {
  nodes: readonly Node<S>[]
  version: number
}

interface Change<S> {
  readonly filter: string
  readonly node: Node<S>
  readonly added: boolean
}

export interface TreeOptions<S> {
  /** Levels of the filters of all trees. */
  readonly nodes: Budget
  /** Subscriptions of all trees. */
  readonly subscriptions: Budget
  /** Topics, and filters that match them, that are remembered. */
  readonly cacheMax: number
  readonly presence: Presence<S>
  readonly effort?: Work
  /** A subscription has come or gone; `filter` as it is subscribed to. */
  readonly changed?: ((filter: string, subscriber: S, added: boolean) => void) | undefined
}

/** So many changes are looked at one by one; after more of them a topic is matched anew, which costs about as much. A power of 2. */
const changesMax = 32
/** Every so many characters of a topic count as one more thing remembered. */
const cachedCharacters = 64

/**
 * The subscriptions of one tenant as a tree of filters' levels. What matches a topic is remembered, in `match` and by whoever keeps a `Match`. When
 * a filter comes or goes, nothing is forgotten: each remembered match looks at what has changed since it was last asked for, at most `changesMax`
 * comparisons or one walk through the tree, so that a client that subscribes and unsubscribes without end costs others next to nothing.
 */
export class Subscriptions<S> {
  /** Subscriptions in all, and those of them that are shared. */
  size = 0
  shared = 0
  /** Another one when a filter has come or gone since a match was asked for. */
  version = 0
  readonly #root = createNode<S>(undefined, '')
  readonly #o: TreeOptions<S>
  readonly #effort: Work
  readonly #holders = new Map<S, Holder<S>>()
  readonly #cache = new Map<string, MutableMatch<S>>()
  readonly #changes: Change<S>[] = []
  #cached = 0
  /** The last version that a match was brought to. */
  #seen = 0

  constructor(o: TreeOptions<S>) {
    this.#o = o
    this.#effort = o.effort ?? { units: 0 }
  }

  /**
   * Replaces a subscription to the same filter [MQTT-3.8.4-3]; `$share/group/filter` is another than `filter`. Undefined: there is no room for it,
   * or it is shared and malformed.
   */
  add(filter: string, subscriber: S, o: SubscriptionOptions): 'new' | 'replaced' | undefined {
    const share = isShared(filter) ? shareOf(filter) : undefined
    if (share === undefined && isShared(filter)) return undefined
    const levels = (share?.filter ?? filter).split('/')
    this.#effort.units += levels.length
    let node = this.#find(levels)
    let holder = this.#holders.get(subscriber)
    const options = optionsByte(o)
    const identifiers = o.identifier === 0 ? noIdentifiers : [o.identifier]
    const there = holder === undefined ? undefined : rosterOf(node, share?.group)?.find(holder)
    if (there !== undefined) {
      there.options = options
      there.identifiers = identifiers
      return 'replaced'
    }
    const { nodes, subscriptions } = this.#o
    const needed = (node === undefined ? levels.length : 0) + (share !== undefined && node?.groups?.has(share.group) !== true ? 1 : 0)
    if (subscriptions.used >= subscriptions.max || (needed > 0 && nodes.used + needed > nodes.max)) return undefined
    node ??= this.#grow(levels)
    if (!isUsed(node)) this.#changed(node, true)
    const group = share === undefined ? undefined : this.#groupOf(node, share.group)
    if (holder === undefined) {
      holder = { subscriber, first: undefined, count: 0, levels: 0, mark: 0, place: 0 }
      this.#holders.set(subscriber, holder)
    }
    const subscription: Subscription<S> = { holder, node, group, options, identifiers, at: 0, before: undefined, after: holder.first }
    if (holder.first !== undefined) holder.first.before = subscription
    holder.first = subscription
    holder.count++
    holder.levels += node.depth
    if (group === undefined) (node.roster ??= new Roster()).add(subscription)
    else group.add(subscription)
    this.size++
    if (group !== undefined) this.shared++
    subscriptions.used++
    this.#o.changed?.(filter, subscriber, true)
    return 'new'
  }

  /** Filters are compared character by character [MQTT-3.10.4-1]. Returns whether there was such a subscription. */
  remove(filter: string, subscriber: S): boolean {
    const holder = this.#holders.get(subscriber)
    const share = isShared(filter) ? shareOf(filter) : undefined
    if (holder === undefined || (share === undefined && isShared(filter))) return false
    const levels = (share?.filter ?? filter).split('/')
    this.#effort.units += levels.length
    const node = this.#find(levels)
    const subscription = rosterOf(node, share?.group)?.find(holder)
    if (subscription === undefined) return false
    this.#drop(subscription)
    return true
  }

  /** Ends all subscriptions of a subscriber, in time for each of them; returns how many there were. */
  removeAll(subscriber: S): number {
    const holder = this.#holders.get(subscriber)
    if (holder === undefined) return 0
    const { count } = holder
    while (holder.first !== undefined) this.#drop(holder.first)
    return count
  }

  /** The members of `$share/group/filter`; undefined: there are none. */
  group(filter: string): SharedGroup<S> | undefined {
    const share = shareOf(filter)
    return share === undefined ? undefined : this.#find(share.filter.split('/'))?.groups?.get(share.group)
  }

  /** The subscriber has connected, or is no longer: shared subscriptions prefer those who are there. */
  moved(subscriber: S): void {
    for (let at = this.#holders.get(subscriber)?.first; at !== undefined; at = at.after) at.group?.moved(at)
  }

  /** Its subscriptions as they were added, in no order. */
  *of(subscriber: S): Generator<SubscriptionOptions & { readonly filter: string }, void, undefined> {
    for (let at = this.#holders.get(subscriber)?.first; at !== undefined; at = at.after) {
      yield { ...optionsOf(at), filter: at.group?.filter ?? filterOf(at.node) }
    }
  }

  /** How many subscriptions a subscriber has. */
  count(subscriber: S): number {
    return this.#holders.get(subscriber)?.count ?? 0
  }

  /** Levels of the filters of a subscriber. */
  levels(subscriber: S): number {
    return this.#holders.get(subscriber)?.levels ?? 0
  }

  /** What matches a topic, now. */
  match(topic: string): Match<S> {
    const known = this.#cache.get(topic)
    if (known !== undefined) {
      this.refresh(known)
      return known
    }
    const match: MutableMatch<S> = { topic, nodes: this.#walk(topic), version: this.version, effort: this.#effort }
    this.#seen = this.version
    if (this.size === 0) return match
    const weight = 1 + match.nodes.length + Math.floor(topic.length / cachedCharacters)
    if (this.#cached + weight > this.#o.cacheMax) this.#forget()
    this.#cached += weight
    this.#cache.set(topic, match)
    return match
  }

  /** Brings a match that was kept up to date; to be called before each use. */
  refresh(match: Match<S>): void {
    if (match.version !== this.version) this.#catchUp(match)
  }

  /** Topics that are remembered: for tests and for an operator. */
  get remembered(): number {
    return this.#cache.size
  }

  #catchUp(match: MutableMatch<S>): void {
    if (this.version - match.version > changesMax) match.nodes = this.#walk(match.topic)
    else {
      for (let version = match.version; version < this.version; version++) {
        const { filter, node, added } = this.#changes[version & (changesMax - 1)]!
        if (!matchesFilter(filter, match.topic)) continue
        if (added) this.#cached++
        match.nodes = added ? [...match.nodes, node] : match.nodes.filter((one) => one !== node)
      }
    }
    match.version = this.#seen = this.version
  }

  #walk(topic: string): readonly Node<S>[] {
    if (this.size === 0) return nothing
    const found: Node<S>[] = []
    // Wildcards at the first level do not match topics of the server's own [MQTT-4.7.2-1].
    this.#effort.units += collect(this.#root, topic.split('/'), 0, !topic.startsWith('$'), found)
    return found.length === 0 ? nothing : found
  }

  #find(levels: readonly string[]): Node<S> | undefined {
    let at: Node<S> | undefined = this.#root
    for (const level of levels) {
      at = childOf(at, level)
      if (at === undefined) return undefined
    }
    return at
  }

  #grow(levels: readonly string[]): Node<S> {
    let at = this.#root
    for (const level of levels) {
      let next = childOf(at, level)
      if (next === undefined) {
        next = createNode(at, level)
        attach(at, next)
        this.#o.nodes.used++
      }
      at = next
    }
    return at
  }

  #groupOf(node: Node<S>, name: string): SharedGroup<S> {
    node.groups ??= new Map()
    let group = node.groups.get(name)
    if (group === undefined) {
      group = new SharedGroup(name, `$share/${name}/${filterOf(node)}`, this.#o.presence)
      node.groups.set(name, group)
      this.#o.nodes.used++
    }
    return group
  }

  #drop(subscription: Subscription<S>): void {
    const { holder, node, group, before, after } = subscription
    this.#o.changed?.(group?.filter ?? filterOf(node), holder.subscriber, false)
    if (before === undefined) holder.first = after
    else before.after = after
    if (after !== undefined) after.before = before
    holder.levels -= node.depth
    if (--holder.count === 0) this.#holders.delete(holder.subscriber)
    if (group === undefined) {
      node.roster!.delete(subscription)
      if (node.roster!.list.length === 0) node.roster = undefined
    } else {
      group.delete(subscription)
      this.shared--
      if (group.roster.list.length === 0) {
        node.groups!.delete(group.name)
        if (node.groups!.size === 0) node.groups = undefined
        this.#o.nodes.used--
      }
    }
    this.size--
    this.#o.subscriptions.used--
    if (isUsed(node)) return
    this.#changed(node, false)
    for (let at = node; at.parent !== undefined && !isUsed(at) && isLeaf(at); at = at.parent) {
      detach(at.parent, at)
      this.#o.nodes.used--
    }
    if (this.size === 0) this.#forget()
  }

  #changed(node: Node<S>, added: boolean): void {
    const last = this.#changes[(this.version - 1) & (changesMax - 1)]
    if (!added && last?.node === node && last.added && this.#seen < this.version) {
      // It came and went, and nobody has looked in between.
      this.version--
      return
    }
    this.#changes[this.version & (changesMax - 1)] = { filter: filterOf(node), node, added }
    this.version++
  }

  #forget(): void {
    this.#cache.clear()
    this.#cached = 0
  }
}

const nothing: readonly never[] = []

function createNode<S>(parent: Node<S> | undefined, level: string): Node<S> {
  return {
    parent,
    level,
    depth: parent === undefined ? 0 : parent.depth + 1,
    any: undefined,
    rest: undefined,
    only: undefined,
    several: undefined,
    roster: undefined,
    groups: undefined,
  }
}

function isUsed<S>(node: Node<S>): boolean {
  return node.roster !== undefined || node.groups !== undefined
}

function isLeaf<S>(node: Node<S>): boolean {
  return node.any === undefined && node.rest === undefined && node.only === undefined && node.several === undefined
}

function rosterOf<S>(node: Node<S> | undefined, group: string | undefined): Roster<S> | undefined {
  return group === undefined ? node?.roster : node?.groups?.get(group)?.roster
}

function filterOf<S>(node: Node<S>): string {
  let filter = node.level
  for (let at = node.parent; at?.parent !== undefined; at = at.parent) filter = `${at.level}/${filter}`
  return filter
}

function childOf<S>(node: Node<S>, level: string): Node<S> | undefined {
  if (level === '+') return node.any
  return level === '#' ? node.rest : namedOf(node, level)
}

function namedOf<S>(node: Node<S>, level: string): Node<S> | undefined {
  if (node.several !== undefined) return node.several.get(level)
  return node.only?.level === level ? node.only : undefined
}

function attach<S>(parent: Node<S>, child: Node<S>): void {
  if (child.level === '+') parent.any = child
  else if (child.level === '#') parent.rest = child
  else if (parent.several !== undefined) parent.several.set(child.level, child)
  else if (parent.only === undefined) parent.only = child
  else {
    parent.several = new Map([
      [parent.only.level, parent.only],
      [child.level, child],
    ])
    parent.only = undefined
  }
}

function detach<S>(parent: Node<S>, child: Node<S>): void {
  if (parent.any === child) parent.any = undefined
  else if (parent.rest === child) parent.rest = undefined
  else if (parent.several === undefined) parent.only = undefined
  else {
    parent.several.delete(child.level)
    if (parent.several.size > 1) return
    for (const left of parent.several.values()) parent.only = left
    parent.several = undefined
  }
}

/** Returns how many nodes were looked at. */
function collect<S>(at: Node<S>, levels: readonly string[], depth: number, wildcards: boolean, found: Node<S>[]): number {
  // "#" includes the level above it (section 4.7.1.2).
  if (wildcards && at.rest !== undefined) found.push(at.rest)
  if (depth === levels.length) {
    if (isUsed(at)) found.push(at)
    return 1
  }
  const named = namedOf(at, levels[depth]!)
  let looked = 1
  if (named !== undefined) looked += collect(named, levels, depth + 1, true, found)
  if (wildcards && at.any !== undefined) looked += collect(at.any, levels, depth + 1, true, found)
  return looked
}
