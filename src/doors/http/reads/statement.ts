import type { FastifyReply } from 'fastify'
import { KymoError } from '../../../core/errors.ts'
import type { SqlParameter, SqlValue } from '../../../core/sql.ts'
import type { HttpContext } from '../options.ts'
import { withDeadline } from './deadline.ts'

/** A statement of ours over the views of readings and rollups; parameters are `$1`, `$2`, …. */
export interface Statement {
  readonly tenant: string
  readonly sql: string
  readonly parameters: readonly SqlParameter[]
  /** Rows of the answer. */
  readonly limit: number
}

/** A row by the names of its columns. */
export type StatementRow = Readonly<Record<string, SqlValue>>

/** Runs it like a user's own SQL: read-only, over one tenant. It must not name the view `devices`. */
export async function runStatement(context: HttpContext, statement: Statement, signal: AbortSignal): Promise<StatementRow[]> {
  const rows = await context.store.sql({ ...statement, nowUs: context.env.clock.nowUs() }, signal)
  if (rows === 'needs devices') throw new KymoError('bug', { detail: 'A statement over readings asks for devices.' })
  const { columns, values } = rows
  return Array.from({ length: rows.rows }, (_, row) => Object.fromEntries(columns.map(({ name }, c) => [name, values[c]?.[row] ?? null])))
}

/** The same for one request; see `withDeadline`. */
export function askStatement(context: HttpContext, reply: FastifyReply, statement: Statement): Promise<StatementRow[]> {
  return withDeadline(context, reply, (signal) => runStatement(context, statement, signal))
}

/** A number of a row; null where there is none. Integers beyond 2^53 come as text, to the nearest number. */
export function numberIn(row: StatementRow | undefined, column: string): number | null {
  const value = row?.[column]
  if (typeof value === 'string' && value !== '') return Number(value)
  return typeof value === 'number' ? value : null
}

/** A text of a row, such as a name or a time; empty where there is none. */
export function textIn(row: StatementRow, column: string): string {
  const value = row[column]
  return typeof value === 'string' ? value : ''
}
