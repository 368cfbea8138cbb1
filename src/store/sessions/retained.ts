interface Node<M> {
  children: Map<string, Node<M>> | undefined
  message: M | undefined
}

/** Retained messages of one tenant, by the levels of their topics. */
export class RetainedTopics<M> {
  readonly #root: Node<M> = { children: undefined, message: undefined }

  get(topic: string): M | undefined {
    let node: Node<M> | undefined = this.#root
    for (const level of topic.split('/')) node = node?.children?.get(level)
    return node?.message
  }

  /** Returns what was there before. */
  set(topic: string, message: M): M | undefined {
    let node = this.#root
    for (const level of topic.split('/')) {
      node.children ??= new Map()
      let child: Node<M> | undefined = node.children.get(level)
      if (child === undefined) {
        child = { children: undefined, message: undefined }
        node.children.set(level, child)
      }
      node = child
    }
    const before = node.message
    node.message = message
    return before
  }

  /** Returns what was there. Levels that lead nowhere go as well. */
  delete(topic: string): M | undefined {
    const levels = topic.split('/')
    const path = [this.#root]
    for (const level of levels) {
      const child = path.at(-1)!.children?.get(level)
      if (child === undefined) return undefined
      path.push(child)
    }
    const last = path.at(-1)!
    const before = last.message
    last.message = undefined
    for (let i = levels.length; i > 0; i--) {
      const { children, message } = path[i]!
      if (message !== undefined || (children?.size ?? 0) > 0) break
      const parent = path[i - 1]!
      parent.children?.delete(levels[i - 1]!)
      if (parent.children?.size === 0) parent.children = undefined
    }
    return before
  }

  /**
   * Those that `filter` matches (MQTT 5, 4.7): `#` takes the level above it too, and neither wildcard takes a first level that begins with `$`
   * [MQTT-4.7.2-1]. What is added or removed meanwhile may be met or not. Undefined for a level without one: a walk may be long and find nothing.
   */
  *match(filter: string): Generator<M | undefined, void, undefined> {
    yield* below(this.#root, filter.split('/'), 0)
  }
}

function* below<M>(node: Node<M>, levels: readonly string[], at: number): Generator<M | undefined, void, undefined> {
  if (at === levels.length) {
    yield node.message
    return
  }
  yield undefined
  const level = levels[at]!
  if (level === '#') yield* all(node, at === 0)
  else if (level === '+') {
    for (const [name, child] of node.children ?? []) if (at > 0 || !name.startsWith('$')) yield* below(child, levels, at + 1)
  } else {
    const child = node.children?.get(level)
    if (child !== undefined) yield* below(child, levels, at + 1)
  }
}

function* all<M>(node: Node<M>, first: boolean): Generator<M | undefined, void, undefined> {
  yield node.message
  for (const [name, child] of node.children ?? []) if (!first || !name.startsWith('$')) yield* all(child, false)
}
