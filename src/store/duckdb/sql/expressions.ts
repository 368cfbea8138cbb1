import type { SqlParameter } from '../../../core/sql.ts'
import { allowedAggregates, allowedScalars } from './functions.ts'
import { childOf, childrenOf, onlyMembers, refused, textOf, type Scope, type Size, type Tree } from './tree.ts'

type Sizes = Pick<Size, 'tables' | 'growth'>

const members = (text: string): ReadonlySet<string> => new Set(text.split(' '))
const common = 'class type alias query_location'
/** Classes of expressions, and the members that each may have. */
const classes: Readonly<Record<string, ReadonlySet<string>>> = {
  CONSTANT: members(`${common} value`),
  COLUMN_REF: members(`${common} column_names`),
  PARAMETER: members(`${common} identifier`),
  POSITIONAL_REFERENCE: members(`${common} index`),
  COMPARISON: members(`${common} left right`),
  CONJUNCTION: members(`${common} children`),
  BETWEEN: members(`${common} input lower upper`),
  CASE: members(`${common} case_checks else_expr`),
  CAST: members(`${common} child cast_type try_cast`),
  OPERATOR: members(`${common} children`),
  SUBQUERY: members(`${common} subquery_type subquery child comparison_type`),
  STAR: members(`${common} exclude_list replace_list relation_name columns expr`),
  FUNCTION: members(`${common} function_name schema children filter order_bys distinct is_operator`),
  WINDOW: members(
    `${common} function_name schema children partitions orders start end start_expr end_expr offset_expr default_expr ignore_nulls filter_expr exclude_clause distinct arg_orders`,
  ),
}
const operators = members(
  'OPERATOR_NOT OPERATOR_IS_NULL OPERATOR_IS_NOT_NULL OPERATOR_COALESCE OPERATOR_NULLIF COMPARE_IN COMPARE_NOT_IN GROUPING_FUNCTION ARRAY_EXTRACT',
)
const castTypes = members(
  'BOOLEAN TINYINT SMALLINT INTEGER BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT FLOAT DOUBLE DECIMAL VARCHAR DATE TIME TIMESTAMP INTERVAL UUID ' +
    'TIMESTAMP_S TIMESTAMP_MS TIMESTAMP_NS',
)
/** TIMESTAMP WITH TIME ZONE, as the parser names it. */
const zonedTypes = /^TIMESTAMP (WITH TIME ZONE|_TZ)$|^TIMESTAMPTZ$|^TIMESTAMP_TZ$/
/** Words without parentheses that ask the session for something. */
const sessionWords = members('current_catalog current_role current_schema current_user session_user')
/** Matching goes back and forth for each of these, which no deadline can end. */
const matching: Readonly<Record<string, RegExp>> = { '~~': /%/g, '!~~': /%/g, '~~*': /%/g, '!~~*': /%/g, '~~~': /\*/g }
const wildcardsMax = 2
const patternCharsMax = 256
const regexes = members('regexp_extract regexp_full_match regexp_matches regexp_replace')
const formatted = members('strftime strptime try_strptime')
const formatCharsMax = 100

/** Checks expressions, and remembers which columns they mention. */
export class Expressions {
  readonly columns = new Set<string>()
  /** A star, or something that means all columns. */
  everything = false
  /** How many stars there were so far: an expression with one stands for as many as there are columns. */
  stars = 0
  /** A row of the answer may depend on more than one row of a table. */
  gathers = false
  readonly #parameters: readonly SqlParameter[]
  readonly #query: (node: Tree, scope: Scope) => Size

  constructor(parameters: readonly SqlParameter[], query: (node: Tree, scope: Scope) => Size) {
    this.#parameters = parameters
    this.#query = query
  }

  size(tree: Tree, scope: Scope): Sizes {
    const name = textOf(tree, 'class')
    const members = Object.hasOwn(classes, name) ? classes[name] : undefined
    if (members === undefined) throw refused(name === '' ? 'an unknown expression' : `the expression ${name}`, tree)
    onlyMembers(tree, members, name.toLowerCase().replaceAll('_', ' '))
    switch (name) {
      case 'CONSTANT':
      case 'PARAMETER':
      case 'POSITIONAL_REFERENCE':
        return { tables: 0, growth: 1 }
      case 'COLUMN_REF':
        return this.#column(tree)
      case 'FUNCTION':
      case 'WINDOW':
        return this.#function(tree, scope)
      case 'CAST':
        this.#type(childOf(tree, 'cast_type'), tree)
        return this.#all(tree, scope, ['child'])
      case 'OPERATOR':
        if (!operators.has(textOf(tree, 'type'))) throw refused(`the operator ${textOf(tree, 'type')}`, tree)
        return this.#all(tree, scope, [], ['children'])
      case 'CASE': {
        const checks = childrenOf(tree, 'case_checks').flatMap((check) => {
          onlyMembers(check, new Set(['when_expr', 'then_expr']), 'CASE')
          return [childOf(check, 'when_expr'), childOf(check, 'then_expr')]
        })
        return this.#most([...checks, childOf(tree, 'else_expr')], scope)
      }
      case 'SUBQUERY': {
        const node = childOf(childOf(tree, 'subquery') ?? {}, 'node')
        if (node === undefined) throw refused('an empty subquery', tree)
        this.gathers = true
        const [inner, child] = [this.#query(node, scope), this.#all(tree, scope, ['child'])]
        return { tables: inner.tables + child.tables, growth: inner.growth * child.growth }
      }
      case 'STAR':
        return this.#star(tree, scope)
      default:
        return this.#all(tree, scope, ['left', 'right', 'input', 'lower', 'upper'], ['children'])
    }
  }

  /** A table function's call, whose name is checked already. */
  call(tree: Tree, scope: Scope): Sizes {
    onlyMembers(tree, classes['FUNCTION']!, 'a function')
    return this.#all(tree, scope, ['filter'], ['children'])
  }

  #column(tree: Tree): Sizes {
    const names = tree['column_names']
    if (!Array.isArray(names) || !names.every((name): name is string => typeof name === 'string')) throw refused('the form of a column', tree)
    if (names.length === 1 && sessionWords.has(names[0]!.toLowerCase())) throw refused(`the word ${names[0]!.toLowerCase()}`, tree)
    for (const name of names) this.columns.add(name.toLowerCase())
    return { tables: 0, growth: 1 }
  }

  #star(tree: Tree, scope: Scope): Sizes {
    this.everything = true
    this.stars++
    const expression = childOf(tree, 'expr')
    if (expression !== undefined && expression['class'] !== 'CONSTANT') throw refused('COLUMNS with anything but a pattern', tree)
    return this.#most(
      childrenOf(tree, 'replace_list').map((entry) => childOf(entry, 'value')),
      scope,
    )
  }

  #function(tree: Tree, scope: Scope): Sizes {
    const name = textOf(tree, 'function_name').toLowerCase()
    if (tree['schema'] !== undefined && tree['schema'] !== 'main') throw refused('the function of a schema', tree)
    if (!allowedScalars.has(name) && !allowedAggregates.has(name)) {
      throw refused(`the function "${name.slice(0, 100)}"`, tree, hints[name] ?? 'docs/reference/sql.md lists the functions.')
    }
    if (tree['class'] === 'WINDOW' || allowedAggregates.has(name)) this.gathers = true
    const children = childrenOf(tree, 'children')
    this.#patterns(name, tree, children)
    const orders = [childOf(tree, 'order_bys'), childOf(tree, 'arg_orders')].flatMap((modifier) =>
      modifier === undefined ? [] : childrenOf(modifier, 'orders'),
    )
    const rest = this.#most(
      [
        ...[...orders, ...childrenOf(tree, 'orders')].map((order) => childOf(order, 'expression')),
        ...childrenOf(tree, 'partitions'),
        ...['filter', 'filter_expr', 'start_expr', 'end_expr', 'offset_expr', 'default_expr'].map((part) => childOf(tree, part)),
      ],
      scope,
    )
    const sizes = children.map((child) => this.size(child, scope))
    const tables = sizes.reduce((sum, one) => sum + one.tables, rest.tables)
    const most = sizes.reduce((max, one) => Math.max(max, one.growth), rest.growth)
    if (name === '||' || name.startsWith('concat'))
      return {
        tables,
        growth: Math.max(
          1,
          sizes.reduce((sum, one) => sum + one.growth, 0),
        ),
      }
    // Each character may become a whole replacement.
    if (name === 'replace' || name === 'regexp_replace')
      return { tables, growth: most * Math.max(1, (this.#constant(children[2])?.length ?? Infinity) + 1) }
    return { tables, growth: most }
  }

  #patterns(name: string, tree: Tree, children: readonly Tree[]): void {
    const wildcard = Object.hasOwn(matching, name) ? matching[name] : undefined
    if (wildcard !== undefined) {
      const pattern = this.#constant(children[1])
      if (pattern === undefined) throw refused('a pattern that is not a constant', tree, 'Write it into the statement, or give it as a parameter.')
      if (pattern.length > patternCharsMax || (pattern.match(wildcard)?.length ?? 0) > wildcardsMax)
        throw refused(`a pattern with more than ${wildcardsMax} wildcards`, tree, 'Use regexp_matches, or several patterns with AND.')
    }
    if (regexes.has(name) && this.#constant(children[1]) === undefined)
      throw refused('a regular expression that is not a constant', tree, 'Write it into the statement, or give it as a parameter.')
    if (formatted.has(name) && (this.#constant(children[1])?.length ?? Infinity) > formatCharsMax)
      throw refused(`a format that is not a constant of at most ${formatCharsMax} characters`, tree)
    if (name === 'list_value' && children.some((child) => child['class'] !== 'CONSTANT')) throw refused('a list of anything but constants', tree)
    if ((name === 'replace' || name === 'regexp_replace') && this.#constant(children[2]) === undefined)
      throw refused('a replacement that is not a constant', tree, 'Write it into the statement, or give it as a parameter.')
  }

  /** The text of a constant or parameter. */
  #constant(tree: Tree | undefined): string | undefined {
    if (tree?.['class'] === 'PARAMETER') {
      const value = this.#parameters[Number(textOf(tree, 'identifier')) - 1]
      return typeof value === 'string' ? value : undefined
    }
    if (tree?.['class'] !== 'CONSTANT') return undefined
    const constant = childOf(tree, 'value')
    const value = constant?.['value']
    // What is empty is left out of the tree.
    if (value === undefined && constant?.['is_null'] === false && childOf(constant, 'type')?.['id'] === 'VARCHAR') return ''
    return typeof value === 'string' ? value : undefined
  }

  #type(type: Tree | undefined, at: Tree): void {
    const id = type === undefined ? '' : textOf(type, 'id')
    if (castTypes.has(id) || zonedTypes.test(id)) return
    const named = id === 'UNBOUND' ? textOf(childOf(type ?? {}, 'type_info') ?? {}, 'name') : id
    if (zonedTypes.test(named.toUpperCase())) return
    throw refused(`the type ${named.slice(0, 50)}`, at)
  }

  #all(tree: Tree, scope: Scope, one: readonly string[], many: readonly string[] = []): Sizes {
    return this.#most([...one.map((name) => childOf(tree, name)), ...many.flatMap((name) => childrenOf(tree, name))], scope)
  }

  #most(trees: readonly (Tree | undefined)[], scope: Scope): Sizes {
    let tables = 0
    let growth = 1
    for (const tree of trees) {
      if (tree === undefined) continue
      const size = this.size(tree, scope)
      tables += size.tables
      growth = Math.max(growth, size.growth)
    }
    return { tables, growth }
  }
}

const hints: Readonly<Record<string, string>> = {
  generate_series: 'Use it in FROM.',
  range: 'Use it in FROM.',
  unnest: 'Use it in FROM.',
}
