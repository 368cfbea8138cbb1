import { KymoError } from '../../../core/errors.ts'

/** A node of the engine's own syntax tree, as `json_serialize_sql` writes it. */
export type Tree = Readonly<Record<string, unknown>>

/**
 * What a query may become once its common table expressions are written out: tables it reads, columns it has, and how many times
 * longer its texts are than those it reads. Without these bounds twenty short lines double something a million times while the
 * statement is planned, where neither deadline nor memory limit of the engine reaches.
 */
export interface Size {
  readonly tables: number
  readonly columns: number
  readonly growth: number
}
/** Tables that a name stands for: common table expressions in lower case. */
export type Scope = ReadonlyMap<string, Size>

export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function childOf(tree: Tree, name: string): Tree | undefined {
  const child = tree[name]
  if (child === undefined) return undefined
  if (!isTree(child)) throw refused(`the form of "${name}"`)
  return child
}

export function childrenOf(tree: Tree, name: string): readonly Tree[] {
  const children = tree[name] ?? []
  if (!Array.isArray(children)) throw refused(`the form of "${name}"`)
  return children.map((child: unknown) => {
    if (!isTree(child)) throw refused(`the form of "${name}"`)
    return child
  })
}

export function textOf(tree: Tree, name: string): string {
  const text = tree[name] ?? ''
  if (typeof text !== 'string') throw refused(`the form of "${name}"`)
  return text
}

/** Refuses members that nobody has looked at: a newer engine may give a construct more of them. */
export function onlyMembers(tree: Tree, known: ReadonlySet<string>, what: string): void {
  for (const name of Object.keys(tree)) if (!known.has(name)) throw refused(`${what} with ${name.replaceAll('_', ' ')}`, tree)
}

export function refused(what: string, at?: Tree, fix = 'docs/reference/sql.md lists what can be used.'): KymoError {
  const offset = at?.['query_location']
  return new KymoError('sql_refused', {
    detail: `${what[0]?.toUpperCase()}${what.slice(1)} cannot be used in SQL here. ${fix}`,
    ...(typeof offset === 'number' ? { facts: { offset } } : {}),
  })
}
