import { KymoError } from '../../../core/errors.ts'

/** Errors that come from the statement, and not from the store. */
const ofStatement =
  /^(Parser|Binder|Catalog|Conversion|Invalid Input|Invalid|Out of Range|Not implemented|Constraint|Parameter Not Resolved|Parameter Not Allowed|Expression Evaluation|Mismatch Type|Syntax|Decimal|Divide By Zero|Sequence|Dependency|Invalid Type|Permission) (Error|Exception): /

/** What the parser found, as `sql_invalid`; a statement that is no SELECT, as `sql_refused`. */
export function syntaxFailure(sql: string, found: object): KymoError {
  const message = 'error_message' in found ? String(found.error_message) : 'The statement cannot be parsed.'
  if (message.startsWith('Max expression depth'))
    return new KymoError('sql_refused', { detail: 'The statement is nested more than 1,000 levels deep.' })
  if (message.startsWith('Only SELECT'))
    return new KymoError('sql_refused', { detail: 'Only SELECT can be run: the data can be read here and not changed.' })
  const offset = 'position' in found ? Number(found.position) : Number.NaN
  return invalid(sentence(message), Number.isInteger(offset) ? placeOf(sql, offset) : undefined)
}

/** What the engine says of a statement as `sql_invalid`; undefined when the store is to blame. */
export function sqlFailure(sql: string, thrown: unknown): KymoError | undefined {
  if (!(thrown instanceof Error) || !ofStatement.test(thrown.message)) return undefined
  const [first = '', ...rest] = thrown.message.replace(ofStatement, '').split('\n\n')
  const more = rest.filter((part) => !part.startsWith('LINE ')).join(' ')
  return invalid(sentence(`${first} ${more}`.replaceAll(/\s+/g, ' ').trim()), placeIn(sql, thrown.message))
}

interface Place {
  readonly line: number
  readonly column: number
}

function invalid(detail: string, place: Place | undefined): KymoError {
  return new KymoError('sql_invalid', {
    detail: place === undefined ? detail : `Line ${place.line}, column ${place.column}: ${detail}`,
    ...(place === undefined ? {} : { facts: { line: place.line, column: place.column } }),
  })
}

/** Line and column, both from 1, of a byte offset. */
export function placeOf(sql: string, offset: number): Place {
  const before = Buffer.from(sql).subarray(0, offset).toString().split('\n')
  return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 }
}

/** The engine draws a caret under a part of the line; a long line begins with dots. */
function placeIn(sql: string, message: string): Place | undefined {
  const found = /LINE (\d+): (.*)\n( *)\^/.exec(message)
  if (found === null) return undefined
  const [, line = '', shown = '', indent = ''] = found
  const column = indent.length - `LINE ${line}: `.length
  const text = sql.split('\n')[Number(line) - 1] ?? ''
  if (!shown.startsWith('...')) return { line: Number(line), column: column + 1 }
  const start = text.indexOf(shown.slice(3).replace(/\.\.\.$/, ''))
  return start < 0 ? undefined : { line: Number(line), column: start + column - 3 + 1 }
}

function sentence(text: string): string {
  const upper = `${text.charAt(0).toUpperCase()}${text.slice(1)}`
  return /[.!?]$/.test(upper) ? upper : `${upper}.`
}
