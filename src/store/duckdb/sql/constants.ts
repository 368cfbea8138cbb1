import { quotedString, type DuckDBConnection, type DuckDBType, type DuckDBValue } from '@duckdb/node-api'
import type { SqlParameter } from '../../../core/sql.ts'
import { asciiLower } from './conditions.ts'
import { childOf, childrenOf, isTree, textOf, type Tree } from './tree.ts'
import { bound } from './values.ts'

/** Comparing them with a TIMESTAMP is comparing what they are as one. Others are compared as what they are, or not at all. */
const comparable: ReadonlySet<unknown> = new Set(['TIMESTAMP', 'DATE', 'TIMESTAMP WITH TIME ZONE'])
const castTypes: ReadonlySet<string> = new Set(['TIMESTAMP', 'DATE', 'INTERVAL', 'VARCHAR', 'INTEGER', 'BIGINT', 'DOUBLE'])
/** Their results depend on their arguments alone, or are those of `now()`, which is one time for the whole statement. */
const functions: ReadonlySet<string> = new Set(
  (
    '+ - * / now today current_date get_current_timestamp transaction_timestamp date_trunc datetrunc time_bucket make_timestamp make_timestamp_ms ' +
    'make_timestamptz make_date to_timestamp epoch_ms timezone trunc floor date_add strptime last_day to_microseconds to_milliseconds to_seconds ' +
    'to_minutes to_hours to_days to_weeks to_months to_quarters to_years'
  ).split(' '),
)
/** Functions that are written like columns. */
const words: ReadonlySet<string> = new Set(['current_timestamp', 'current_date'])

interface Text {
  readonly sql: string
  readonly values: SqlParameter[]
}

/**
 * The times that constant expressions of a checked statement stand for, in microseconds, as the engine itself works them out on a connection whose
 * `now()` is the statement's. Absent: it is no such constant, or no time.
 */
export async function timesOf(
  connection: DuckDBConnection,
  statement: Tree,
  constants: readonly Tree[],
  parameters: readonly SqlParameter[],
): Promise<ReadonlyMap<Tree, number>> {
  const found = new Map<Tree, number>()
  const known = new Map<string, number | undefined>()
  const taken = namesIn(statement)
  for (const constant of constants) {
    const values: SqlParameter[] = []
    const sql = textOfConstant(constant, parameters, values, taken)
    if (sql === undefined) continue
    const key = JSON.stringify([sql, values])
    if (!known.has(key)) {
      if (known.size === evaluatedMax) break
      known.set(key, await evaluate(connection, { sql, values }, isText(constant)))
    }
    const us = known.get(key)
    if (us !== undefined) found.set(constant, us)
  }
  return found
}

/** Each costs about half a millisecond; of more the rest bounds nothing. */
const evaluatedMax = 32

async function evaluate(connection: DuckDBConnection, { sql, values }: Text, text: boolean): Promise<number | undefined> {
  try {
    const bindings: { readonly values: DuckDBValue[]; readonly types: DuckDBType[] } = bound(values)
    const rows = await (
      await connection.run(`SELECT typeof(${sql}), epoch_us(CAST(${sql} AS TIMESTAMP))::DOUBLE`, bindings.values, bindings.types)
    ).getRows()
    const [type, us] = rows[0] ?? []
    if (!(comparable.has(type) || (text && type === 'VARCHAR'))) return undefined
    return typeof us === 'number' && Number.isSafeInteger(us) ? us : undefined
  } catch {
    return undefined // The statement itself will say so, if it comes to that.
  }
}

/** A text is compared with a time only where it stands as such, or as a parameter. */
function isText(tree: Tree): boolean {
  return tree['class'] === 'CONSTANT' || tree['class'] === 'PARAMETER'
}

/** Undefined: it has a part that is not known to be constant. */
function textOfConstant(tree: Tree, parameters: readonly SqlParameter[], values: SqlParameter[], taken: ReadonlySet<string>): string | undefined {
  const inner = (child: Tree | undefined): string | undefined => (child === undefined ? undefined : textOfConstant(child, parameters, values, taken))
  switch (tree['class']) {
    case 'CONSTANT':
      return literal(childOf(tree, 'value') ?? {})
    case 'PARAMETER': {
      const value = parameters[Number(textOf(tree, 'identifier')) - 1]
      return value === undefined || value === null ? undefined : `$${values.push(value)}`
    }
    case 'COLUMN_REF': {
      const names = tree['column_names']
      const word = Array.isArray(names) && names.length === 1 ? asciiLower(names[0]) : ''
      return words.has(word) && !taken.has(word) ? word : undefined
    }
    case 'CAST': {
      const type = textOf(childOf(tree, 'cast_type') ?? {}, 'id')
      const child = castTypes.has(type) && tree['try_cast'] === undefined ? inner(childOf(tree, 'child')) : undefined
      return child === undefined ? undefined : `CAST(${child} AS ${type})`
    }
    case 'FUNCTION': {
      const name = asciiLower(textOf(tree, 'function_name'))
      if (!functions.has(name) || tree['filter'] !== undefined || tree['distinct'] !== undefined) return undefined
      const children = childrenOf(tree, 'children').map(inner)
      if (!children.every((child) => child !== undefined)) return undefined
      if (/[a-z]/.test(name)) return `${name}(${children.join(', ')})`
      return children.length === 1 ? `(${name} ${children[0]})` : children.length === 2 ? `(${children.join(` ${name} `)})` : undefined
    }
    default:
      return undefined
  }
}

/** Texts stay literals: as parameters they would not become an INTERVAL by themselves. */
function literal(constant: Tree): string | undefined {
  if (constant['is_null'] !== false) return undefined
  const value = constant['value']
  switch (childOf(constant, 'type')?.['id']) {
    case 'VARCHAR':
      return quotedString(typeof value === 'string' ? value : '')
    case 'INTEGER':
    case 'BIGINT':
      return Number.isSafeInteger(value) ? `(${String(value)})` : undefined
    default:
      return undefined
  }
}

/** Names that a statement gives, anywhere: a word may mean one of them. */
function namesIn(tree: Tree): ReadonlySet<string> {
  const found = new Set<string>()
  const visit = (value: unknown, member: string): void => {
    if (typeof value === 'string' && member !== 'column_names') found.add(asciiLower(value))
    else if (Array.isArray(value)) for (const one of value) visit(one, member)
    else if (isTree(value)) for (const [name, one] of Object.entries(value)) visit(one, name)
  }
  visit(tree, '')
  return found
}
