import { sqlViews, type SqlParameter, type SqlView } from '../../../core/sql.ts'
import { childOf, childrenOf, isTree, textOf, type Tree } from './tree.ts'

/** What must hold of each row of a view for it to count. Both ends of a time are inclusive. */
export type Condition =
  | { readonly column: 'time'; readonly side: 'from' | 'to'; readonly constant: Tree }
  | { readonly column: 'device' | 'metric'; readonly texts: readonly string[] }

/** One place of a statement where rows of a view are taken, and conditions that hold of all that count there. */
export interface Mention {
  readonly view: SqlView
  readonly conditions: readonly Condition[]
}

interface Element {
  /** Absent: no view, or one whose columns have other names. */
  readonly view: SqlView | undefined
  readonly name: string
  /** Undefined: what lies outside of its join says nothing of its rows. */
  conditions: Condition[] | undefined
}

const deviceColumns: Readonly<Record<SqlView, string>> = {
  readings: 'device',
  readings_1m: 'device',
  readings_1h: 'device',
  device_telemetry: 'device_id',
  devices: 'device',
}
const sides: Readonly<Record<string, readonly ('from' | 'to')[]>> = {
  COMPARE_EQUAL: ['from', 'to'],
  COMPARE_GREATERTHAN: ['from'],
  COMPARE_GREATERTHANOREQUALTO: ['from'],
  COMPARE_LESSTHAN: ['to'],
  COMPARE_LESSTHANOREQUALTO: ['to'],
}
const turned = { from: 'to', to: 'from' } as const

/**
 * The places of a checked statement that take rows of views. A row that fails one of the conditions of its place may be left out without
 * changing the answer; what is not understood is no condition. Only conjuncts of the WHERE or ON of the very SELECT that names the view are
 * looked at, and only comparisons, which are never true of the NULLs that an outer join puts in the place of a row.
 */
export function mentionsOf(statement: Tree, parameters: readonly SqlParameter[]): Mention[] {
  const found: Mention[] = []
  /** Another table of a view's name is found nowhere else. */
  let hidden = false

  const visit = (value: unknown): void => {
    if (Array.isArray(value)) return value.forEach(visit)
    if (!isTree(value)) return
    if (value['type'] === 'SELECT_NODE') return select(value)
    hidden ||= typeof value['key'] === 'string' && sqlViews.some((view) => view === asciiLower(value['key']))
    Object.values(value).forEach(visit)
  }
  const select = (node: Tree): void => {
    const from = childOf(node, 'from_table')
    const elements = from === undefined ? [] : tables(from)
    for (const [name, value] of Object.entries(node)) if (name !== 'from_table') visit(value)
    apply(childOf(node, 'where_clause'), elements, elements)
    for (const { view, conditions } of elements) if (view !== undefined) found.push({ view, conditions: conditions ?? [] })
  }
  const tables = (table: Tree): Element[] => {
    const type = textOf(table, 'type')
    if (type === 'JOIN') return join(table)
    if (type !== 'BASE_TABLE') visitBelow(table)
    const given = asciiLower(textOf(table, 'table_name'))
    const view = type === 'BASE_TABLE' ? sqlViews.find((one) => one === given) : undefined
    const alias = asciiLower(textOf(table, 'alias'))
    return [{ view, name: alias === '' ? given : alias, conditions: table['column_name_alias'] === undefined ? [] : undefined }]
  }
  const join = (table: Tree): Element[] => {
    const [left, right] = [childOf(table, 'left'), childOf(table, 'right')].map((side) => (side === undefined ? [] : tables(side)))
    const elements = [...left!, ...right!]
    const condition = childOf(table, 'condition')
    visit(condition)
    const [kind, way] = [textOf(table, 'join_type'), textOf(table, 'ref_type')]
    const plain = (way === 'REGULAR' || way === 'CROSS') && (kind === 'INNER' || kind === 'LEFT') && table['using_columns'] === undefined
    if (plain) apply(condition, elements, kind === 'INNER' ? elements : right!)
    // Others choose among rows (ASOF), show those without a partner, or make one column of two.
    return plain ? elements : elements.map((element) => close(element))
  }
  const close = (element: Element): Element => ({ ...element, conditions: undefined })
  const visitBelow = (table: Tree): void => {
    for (const value of Object.values(table)) visit(value)
  }
  /** `visible`: what names can mean; `reached`: whose rows the condition may leave out. */
  const apply = (condition: Tree | undefined, visible: readonly Element[], reached: readonly Element[]): void => {
    if (condition === undefined) return
    if (condition['type'] === 'CONJUNCTION_AND') {
      for (const one of childrenOf(condition, 'children')) apply(one, visible, reached)
      return
    }
    for (const [element, one] of conditionsIn(condition, visible, parameters)) if (reached.includes(element)) element.conditions?.push(one)
  }

  visit(statement)
  return hidden ? found.map(({ view }) => ({ view, conditions: [] })) : found
}

function conditionsIn(tree: Tree, visible: readonly Element[], parameters: readonly SqlParameter[]): (readonly [Element, Condition])[] {
  if (tree['class'] === 'BETWEEN' && tree['type'] === 'COMPARE_BETWEEN') {
    const column = columnOf(childOf(tree, 'input'), visible)
    if (column?.column !== 'time') return []
    const [lower, upper] = [childOf(tree, 'lower'), childOf(tree, 'upper')]
    return [
      ...(lower === undefined ? [] : [[column.element, { column: 'time', side: 'from', constant: lower }] as const]),
      ...(upper === undefined ? [] : [[column.element, { column: 'time', side: 'to', constant: upper }] as const]),
    ]
  }
  if (tree['class'] === 'COMPARISON') {
    const [left, right] = [childOf(tree, 'left'), childOf(tree, 'right')]
    const type = textOf(tree, 'type')
    return [...compared(left, right, type, false, visible, parameters), ...compared(right, left, type, true, visible, parameters)]
  }
  if (tree['class'] === 'OPERATOR' && tree['type'] === 'COMPARE_IN') {
    const [input, ...values] = childrenOf(tree, 'children')
    const column = columnOf(input, visible)
    if (column === undefined || column.column === 'time') return []
    const texts = values.map((value) => textConstant(value, parameters))
    return texts.every((text) => text !== undefined) ? [[column.element, { column: column.column, texts }]] : []
  }
  return []
}

function compared(
  one: Tree | undefined,
  other: Tree | undefined,
  type: string,
  turn: boolean,
  visible: readonly Element[],
  parameters: readonly SqlParameter[],
): (readonly [Element, Condition])[] {
  const column = columnOf(one, visible)
  if (column === undefined || other === undefined) return []
  const { element } = column
  if (column.column === 'time') {
    const found = Object.hasOwn(sides, type) ? sides[type]! : []
    return found.map((side) => [element, { column: 'time', side: turn ? turned[side] : side, constant: other }])
  }
  const text = textConstant(other, parameters)
  return type === 'COMPARE_EQUAL' && text !== undefined ? [[element, { column: column.column, texts: [text] }]] : []
}

/** The view's column that a name means, if it can mean only that. */
function columnOf(
  tree: Tree | undefined,
  visible: readonly Element[],
): { readonly element: Element; readonly column: 'time' | 'device' | 'metric' } | undefined {
  const names = tree?.['class'] === 'COLUMN_REF' ? tree['column_names'] : undefined
  if (!Array.isArray(names) || names.length > 2) return undefined
  const [table, given] = (names.length === 2 ? names : [undefined, ...(names as unknown[])]).map((name) =>
    name === undefined ? undefined : asciiLower(name),
  )
  if (given === undefined) return undefined
  // Of what stands beside it only `devices` is known to have no such column.
  const others = visible.filter((element) => (table === undefined ? !withoutColumn(element, given) : element.name === table))
  const [element] = others
  if (others.length !== 1 || element?.view === undefined || element.view === 'devices' || element.conditions === undefined) return undefined
  if (given === 'time') return { element, column: 'time' }
  if (given === deviceColumns[element.view]) return { element, column: 'device' }
  return given === 'metric' && element.view !== 'device_telemetry' ? { element, column: 'metric' } : undefined
}

function withoutColumn({ view, conditions }: Element, column: string): boolean {
  return view === 'devices' && conditions !== undefined && (column === 'time' || column === 'device_id' || column === 'metric')
}

/** A text that is compared as it stands. A number would be compared as one: '05' is 5. */
function textConstant(tree: Tree, parameters: readonly SqlParameter[]): string | undefined {
  let text: unknown
  if (tree['class'] === 'PARAMETER') text = parameters[Number(textOf(tree, 'identifier')) - 1]
  else if (tree['class'] === 'CONSTANT') {
    const value = childOf(tree, 'value') ?? {}
    // What is empty is left out of the tree.
    if (childOf(value, 'type')?.['id'] === 'VARCHAR' && value['is_null'] === false) text = value['value'] ?? ''
  }
  return typeof text === 'string' && text.isWellFormed() ? text : undefined
}

/** As the engine folds names. */
export function asciiLower(name: unknown): string {
  return typeof name === 'string' ? name.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase()) : ''
}
