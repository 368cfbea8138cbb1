import { KymoError } from '../../../core/errors.ts'
import { limits } from '../../../core/limits.ts'
import { sqlViews, type SqlParameter, type SqlView } from '../../../core/sql.ts'
import { mentionsOf, type Mention } from './conditions.ts'
import { Expressions } from './expressions.ts'
import { allowedTableFunctions } from './functions.ts'
import { childOf, childrenOf, isTree, onlyMembers, refused, textOf, type Scope, type Size, type Tree } from './tree.ts'

/** What a statement that may run makes use of. */
export interface Checked {
  readonly views: ReadonlySet<SqlView>
  /** Does it mention a column of this name, or all columns? */
  mentions(column: string): boolean
  /** Set when the statement asks for so many of the newest rows of one view, which are mostly found in its last minutes. */
  readonly newest: number | undefined
  /** Where it takes rows of views, and what must hold of them. */
  readonly mentioned: readonly Mention[]
  readonly tree: Tree
}

const viewSize: Size = { tables: 1, columns: 13, growth: 1 }
const oneRow: Size = { tables: 1, columns: 0, growth: 1 }
const groupingSetsMax = 64
const plainName = /^(?!duckdb_|pg_|sqlite_|pragma_|kymo_|information_schema|temp$|hot$|main$|system$|memory$)[a-z_][a-z0-9_]{0,62}$/

const members = (text: string): ReadonlySet<string> => new Set(text.split(' '))
const known = {
  statement: members('node named_param_map'),
  select: members('type modifiers cte_map select_list from_table where_clause group_expressions group_sets aggregate_handling having qualify'),
  setOperation: members('type modifiers cte_map setop_type left right setop_all'),
  recursive: members('type modifiers cte_map cte_name union_all left right aliases'),
  with: members('aliases query materialized'),
  table: members('type alias query_location table_name column_name_alias'),
  join: members('type alias query_location left right condition join_type ref_type using_columns'),
  subquery: members('type alias query_location subquery column_name_alias'),
  tableFunction: members('type alias query_location function column_name_alias with_ordinality'),
  list: members('type alias query_location values column_name_alias expected_names'),
  empty: members('type alias query_location'),
  order: members('type orders'),
  orderBy: members('type null_order expression'),
  limit: members('type limit offset'),
  distinct: members('type distinct_on_targets'),
}

/** Walks a statement's tree with allow lists; whatever is not in one is refused. */
class Guard {
  readonly views = new Set<SqlView>()
  readonly #expressions: Expressions
  readonly #aliases = new Set<string>(sqlViews)

  constructor(parameters: readonly SqlParameter[]) {
    this.#expressions = new Expressions(parameters, (node, scope) => this.query(node, scope))
  }

  /** SELECT … FROM a view [WHERE …] ORDER BY time DESC [, …] LIMIT n, each row of it from one row of the view. */
  newest(node: Tree): number | undefined {
    if (node['type'] !== 'SELECT_NODE' || this.#expressions.gathers || node['aggregate_handling'] !== 'STANDARD_HANDLING') return undefined
    if (['cte_map', 'group_expressions', 'group_sets', 'having', 'qualify'].some((name) => node[name] !== undefined)) return undefined
    const from = must(node, 'from_table')
    if (
      from['type'] !== 'BASE_TABLE' ||
      from['column_name_alias'] !== undefined ||
      !(this.views.has('readings') || this.views.has('device_telemetry'))
    )
      return undefined
    const another = childrenOf(node, 'select_list').some(
      (one) =>
        textOf(one, 'alias').toLowerCase() === 'time' ||
        (one['class'] === 'STAR' && (one['replace_list'] ?? one['exclude_list'] ?? one['columns']) !== undefined),
    )
    const [order, limit, ...more] = childrenOf(node, 'modifiers')
    if (another || order?.['type'] !== 'ORDER_MODIFIER' || limit?.['type'] !== 'LIMIT_MODIFIER' || limit['offset'] !== undefined || more.length > 0)
      return undefined
    const [first] = childrenOf(order, 'orders')
    const names = first === undefined ? undefined : childOf(first, 'expression')?.['column_names']
    if (first?.['type'] !== 'DESCENDING' || !Array.isArray(names) || String(names.at(-1)).toLowerCase() !== 'time' || names.length > 2)
      return undefined
    const n = childOf(childOf(limit, 'limit') ?? {}, 'value')?.['value']
    return typeof n === 'number' && Number.isInteger(n) && n > 0 ? n : undefined
  }

  mentions(column: string): boolean {
    const { columns, everything } = this.#expressions
    // The name of a table is all of its columns: SELECT r FROM readings r.
    return everything || columns.has(column) || [...this.#aliases].some((alias) => columns.has(alias))
  }

  query(node: Tree, outer: Scope): Size {
    const scope = this.#with(node, outer)
    const size = this.#body(node, scope)
    for (const modifier of childrenOf(node, 'modifiers')) this.#modifier(modifier, scope, size)
    if (size.tables > limits.sqlTablesMax)
      throw tooLarge(`reads more than ${limits.sqlTablesMax} tables once its common table expressions are written out`)
    if (size.columns > limits.sqlColumnsMax) throw tooLarge(`has more than ${limits.sqlColumnsMax} columns`)
    if (size.growth > limits.sqlTextGrowthMax)
      throw tooLarge(`may build texts more than ${limits.sqlTextGrowthMax} times as long as those it reads; join fewer texts`)
    return size
  }

  #body(node: Tree, scope: Scope): Size {
    const type = textOf(node, 'type')
    if (type === 'SELECT_NODE') return this.#select(node, scope)
    if (type === 'SET_OPERATION_NODE') {
      onlyMembers(node, known.setOperation, 'a set operation')
      const [a, b] = [this.query(must(node, 'left'), scope), this.query(must(node, 'right'), scope)]
      return { tables: a.tables + b.tables, columns: a.columns + b.columns, growth: Math.max(a.growth, b.growth) }
    }
    throw refused(type === 'RECURSIVE_CTE_NODE' ? 'recursion outside of WITH' : `a ${type.toLowerCase().replaceAll('_', ' ')}`, node)
  }

  /** Each common table expression sees those before it. */
  #with(node: Tree, outer: Scope): Scope {
    const map = childOf(node, 'cte_map')
    if (map === undefined) return outer
    onlyMembers(map, new Set(['map']), 'WITH')
    const scope = new Map(outer)
    for (const entry of childrenOf(map, 'map')) {
      const name = textOf(entry, 'key').toLowerCase()
      if (!plainName.test(name))
        throw refused(`the name "${name.slice(0, 100)}" of a common table expression`, undefined, 'Use letters, digits and _.')
      const value = must(entry, 'value')
      onlyMembers(value, known.with, 'WITH')
      const query = must(must(value, 'query'), 'node')
      this.#aliases.add(name)
      scope.set(name, query['type'] === 'RECURSIVE_CTE_NODE' ? this.#recursive(query, name, scope) : this.query(query, scope))
    }
    return scope
  }

  /** Its second part runs again and again: texts must not grow in it. */
  #recursive(node: Tree, name: string, outer: Scope): Size {
    onlyMembers(node, known.recursive, 'a recursive query')
    const scope = this.#with(node, outer)
    const start = this.query(must(node, 'left'), scope)
    const step = this.query(must(node, 'right'), new Map([...scope, [name, { tables: 1, columns: start.columns, growth: 1 }]]))
    if (step.growth > 1) throw refused('joining texts in a recursive query', node, 'Join them outside of the recursion.')
    return { tables: start.tables + step.tables, columns: start.columns, growth: start.growth }
  }

  #select(node: Tree, scope: Scope): Size {
    onlyMembers(node, known.select, 'SELECT')
    const from = this.#from(must(node, 'from_table'), scope)
    let { tables } = from
    let columns = 0
    let growth = 1
    const see = (expression: Tree): void => {
      const size = this.#expressions.size(expression, scope)
      tables += size.tables
      growth = Math.max(growth, size.growth)
    }
    for (const expression of childrenOf(node, 'select_list')) {
      const { stars } = this.#expressions
      see(expression)
      columns += this.#expressions.stars > stars ? from.columns : 1
    }
    for (const name of ['where_clause', 'having', 'qualify']) {
      const expression = childOf(node, name)
      if (expression !== undefined) see(expression)
    }
    childrenOf(node, 'group_expressions').forEach(see)
    const sets = node['group_sets'] ?? []
    if (!Array.isArray(sets) || sets.length > groupingSetsMax) throw tooLarge(`has more than ${groupingSetsMax} grouping sets`)
    return { tables, columns, growth: from.growth * growth }
  }

  #from(table: Tree, scope: Scope): Size {
    const type = textOf(table, 'type')
    const alias = textOf(table, 'alias').toLowerCase()
    if (alias !== '') this.#aliases.add(alias)
    switch (type) {
      case 'EMPTY':
        onlyMembers(table, known.empty, 'SELECT without FROM')
        return oneRow
      case 'BASE_TABLE':
        return this.#table(table, scope)
      case 'SUBQUERY':
        onlyMembers(table, known.subquery, 'a subquery')
        return this.query(must(must(table, 'subquery'), 'node'), scope)
      case 'JOIN':
        return this.#join(table, scope)
      case 'TABLE_FUNCTION':
        return this.#tableFunction(table, scope)
      case 'EXPRESSION_LIST':
        return this.#values(table, scope)
      default:
        throw refused(type === 'SHOW_REF' ? 'DESCRIBE, SHOW or SUMMARIZE' : type, table)
    }
  }

  #table(table: Tree, scope: Scope): Size {
    const given = textOf(table, 'table_name')
    if (table['schema_name'] !== undefined || table['catalog_name'] !== undefined)
      throw refused(`the table "${given.slice(0, 100)}" of a schema`, table, `There are ${sqlViews.join(', ')}.`)
    onlyMembers(table, known.table, 'a table')
    const name = given.toLowerCase()
    const common = scope.get(name)
    if (common !== undefined) return common
    const view = sqlViews.find((one) => one === name)
    if (view === undefined) throw refused(`the table "${given.slice(0, 100)}"`, table, `There are ${sqlViews.join(', ')}.`)
    this.views.add(view)
    return viewSize
  }

  #join(table: Tree, scope: Scope): Size {
    onlyMembers(table, known.join, 'a join')
    const kind = textOf(table, 'ref_type')
    if (!['REGULAR', 'NATURAL', 'CROSS', 'ASOF', ''].includes(kind)) throw refused(`a ${kind.toLowerCase()} join`, table)
    if (kind === 'NATURAL') this.#expressions.everything = true
    const using = table['using_columns']
    if (Array.isArray(using)) for (const column of using) this.#expressions.columns.add(String(column).toLowerCase())
    const [a, b] = [this.#from(must(table, 'left'), scope), this.#from(must(table, 'right'), scope)]
    const condition = childOf(table, 'condition')
    const on = condition === undefined ? { tables: 0, growth: 1 } : this.#expressions.size(condition, scope)
    return { tables: a.tables + b.tables + on.tables, columns: a.columns + b.columns, growth: Math.max(a.growth, b.growth) * on.growth }
  }

  #tableFunction(table: Tree, scope: Scope): Size {
    onlyMembers(table, known.tableFunction, 'a table function')
    const call = must(table, 'function')
    const name = textOf(call, 'function_name').toLowerCase()
    if (!allowedTableFunctions.has(name))
      throw refused(`the table function "${name.slice(0, 100)}"`, table, `There are ${[...allowedTableFunctions].join(', ')}.`)
    const size = this.#expressions.call(call, scope)
    return { tables: 1 + size.tables, columns: 2, growth: size.growth }
  }

  #values(table: Tree, scope: Scope): Size {
    onlyMembers(table, known.list, 'VALUES')
    const rows: unknown = table['values'] ?? []
    if (!Array.isArray(rows)) throw refused('the form of "values"')
    let size: Size = { tables: 1, columns: 0, growth: 1 }
    for (const row of rows as unknown[]) {
      if (!Array.isArray(row)) throw refused('the form of "values"')
      for (const cell of row as unknown[]) {
        if (!isTree(cell)) throw refused('the form of "values"')
        const one = this.#expressions.size(cell, scope)
        size = { tables: size.tables + one.tables, columns: row.length, growth: Math.max(size.growth, one.growth) }
      }
    }
    return size
  }

  #modifier(modifier: Tree, scope: Scope, size: Size): void {
    const see = (expression: Tree | undefined): void => {
      if (expression === undefined) return
      const one = this.#expressions.size(expression, scope)
      if (one.growth * size.growth > limits.sqlTextGrowthMax || one.tables > limits.sqlTablesMax)
        throw tooLarge('has an ORDER BY or LIMIT that is too large')
    }
    switch (textOf(modifier, 'type')) {
      case 'ORDER_MODIFIER':
        onlyMembers(modifier, known.order, 'ORDER BY')
        for (const order of childrenOf(modifier, 'orders')) {
          onlyMembers(order, known.orderBy, 'ORDER BY')
          see(childOf(order, 'expression'))
        }
        return
      case 'LIMIT_MODIFIER':
      case 'LIMIT_PERCENT_MODIFIER':
        onlyMembers(modifier, known.limit, 'LIMIT')
        see(childOf(modifier, 'limit'))
        return see(childOf(modifier, 'offset'))
      case 'DISTINCT_MODIFIER':
        onlyMembers(modifier, known.distinct, 'DISTINCT')
        return childrenOf(modifier, 'distinct_on_targets').forEach(see)
      default:
        throw refused(`the modifier ${textOf(modifier, 'type').slice(0, 50)}`)
    }
  }
}

function must(tree: Tree, name: string): Tree {
  const child = childOf(tree, name)
  if (child === undefined) throw refused(`a statement without "${name}"`)
  return child
}

function tooLarge(what: string): KymoError {
  return new KymoError('sql_refused', { detail: `The statement ${what}.` })
}

/** Refuses (`sql_refused`) all but one SELECT statement that uses nothing outside of the allow lists. `statements`: the parser's tree. */
export function checkStatement(statements: unknown, parameters: readonly SqlParameter[]): Checked {
  if (!Array.isArray(statements) || statements.length !== 1 || !isTree(statements[0])) {
    throw refused('anything but one SELECT statement', undefined, 'Send one SELECT at a time.')
  }
  const statement: Tree = statements[0]
  onlyMembers(statement, known.statement, 'a statement')
  const named = childrenOf(statement, 'named_param_map').map((entry) => textOf(entry, 'key'))
  const numbers = new Set(named.map(Number))
  if (named.some((name) => !/^\d+$/.test(name))) throw refused('a named parameter', undefined, 'Use $1, $2, … or ?.')
  if (numbers.size !== parameters.length || [...numbers].some((n) => n < 1 || n > parameters.length)) {
    throw new KymoError('sql_invalid', {
      detail: `The statement has ${numbers.size} parameters, and ${parameters.length} values were given.`,
      errors: [{ pointer: '/params', detail: `must be an array of ${numbers.size} values` }],
    })
  }
  const guard = new Guard(parameters)
  const node = must(statement, 'node')
  guard.query(node, new Map())
  return {
    views: guard.views,
    newest: guard.newest(node),
    mentions: (column) => guard.mentions(column),
    mentioned: mentionsOf(node, parameters),
    tree: node,
  }
}
