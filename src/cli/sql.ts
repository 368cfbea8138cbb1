import type { Command } from 'commander'
import fs from 'node:fs'
import process from 'node:process'
import { KymoError } from '../core/errors.ts'
import { limits } from '../core/limits.ts'
import { Api } from './api.ts'
import { count, table, value } from './format.ts'
import type { CommonOptions } from './options.ts'
import { collect, examples, integerBetween, oneOf, serverOptions } from './options.ts'
import { csvCell } from './query.ts'
import type { Terminal } from './terminal.ts'

interface SqlOptions extends CommonOptions {
  readonly file?: string
  readonly param?: readonly string[]
  readonly limit: number
  readonly format?: 'table' | 'json' | 'csv' | 'ndjson'
}

type Cell = string | number | boolean | null | readonly unknown[] | Readonly<Record<string, unknown>>

interface SqlAnswer {
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly rows: readonly (readonly Cell[])[]
  readonly row_count: number
  readonly truncated: boolean
  readonly truncated_by?: 'rows' | 'bytes'
}

export function declare(command: Command, terminal: Terminal): void {
  command
    .argument('[statement]', 'one SELECT; absent or "-": read from stdin')
    .option('--file <path>', 'read the statement from a file')
    .option('--param <value>', 'the next of $1, $2, …; JSON for numbers, booleans and null, otherwise text', collect)
    .option('--limit <n>', 'rows at most', integerBetween(1, limits.queryRowsMax), limits.queryRowsDefault)
    .option('--format <format>', 'table, json (one document), csv or ndjson', oneOf(['table', 'json', 'csv', 'ndjson'] as const))
  serverOptions(command)
  examples(command, [
    ['kymo sql "SELECT * FROM device_telemetry ORDER BY time DESC LIMIT 10"', 'the newest messages'],
    [`kymo sql --param dev-1 "SELECT time, value FROM readings WHERE device = $1 AND time > now() - INTERVAL '1 hour'"`, 'one device, by parameter'],
    ['kymo sql --file report.sql --format csv > report.csv', 'a statement from a file'],
  ]).action(async (statement: string | undefined, options: SqlOptions) => sql(statement, options, terminal))
}

async function sql(given: string | undefined, options: SqlOptions, terminal: Terminal): Promise<void> {
  const text = await statementOf(given, options)
  const format = options.format ?? (options.json === true ? 'json' : 'table')
  const answer = await new Api(options).post<SqlAnswer>('/api/v1/sql', {
    sql: text,
    params: (options.param ?? []).map(parameterOf),
    limit: options.limit,
  })
  await terminal.write(render(answer, format, terminal))
  const cut = answer.truncated ? `cut after ${count(answer.row_count)} rows by the limit of ${answer.truncated_by ?? 'rows'}` : undefined
  if (format === 'table') terminal.err(`  ${count(answer.row_count)} rows${cut === undefined ? '' : `; ${cut}; there are more: --limit`}`)
  else if (cut !== undefined) terminal.err(`  ${cut}; there are more: --limit`)
}

async function statementOf(given: string | undefined, options: SqlOptions): Promise<string> {
  if (given !== undefined && options.file !== undefined) throw new KymoError('usage', { detail: 'Give a statement or --file, not both.' })
  if (options.file !== undefined) {
    try {
      return fs.readFileSync(options.file, 'utf8')
    } catch (thrown) {
      throw new KymoError('usage', {
        detail: `${options.file} cannot be read: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
        cause: thrown,
      })
    }
  }
  if (given !== undefined && given !== '-') return given
  if (process.stdin.isTTY) throw new KymoError('usage', { detail: 'No statement: give it as an argument, with --file, or on stdin.' })
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer)
    if (chunks.reduce((sum, one) => sum + one.length, 0) > limits.sqlTextBytesMax)
      throw new KymoError('usage', { detail: `A statement may have ${limits.sqlTextBytesMax} bytes; stdin has more.` })
  }
  return Buffer.concat(chunks).toString('utf8')
}

function parameterOf(text: string): string | number | boolean | null {
  if (!/^(-?\d|true$|false$|null$)/.test(text)) return text
  try {
    const parsed: unknown = JSON.parse(text)
    return typeof parsed === 'number' || typeof parsed === 'boolean' || parsed === null ? parsed : text
  } catch (error) {
    if (error instanceof SyntaxError) return text
    throw error
  }
}

function render(answer: SqlAnswer, format: 'table' | 'json' | 'csv' | 'ndjson', terminal: Terminal): string {
  const names = answer.columns.map(({ name }) => name)
  const plain = (cell: Cell): string => (typeof cell === 'object' && cell !== null ? JSON.stringify(cell) : String(cell))
  switch (format) {
    case 'json':
      return `${JSON.stringify(answer)}\n`
    case 'ndjson':
      return answer.rows.map((row) => `${JSON.stringify(Object.fromEntries(row.map((cell, c) => [names[c], cell])))}\n`).join('')
    case 'csv':
      return [names, ...answer.rows.map((row) => row.map((cell) => (cell === null ? '' : plain(cell))))]
        .map((row) => `${row.map(csvCell).join(',')}\n`)
        .join('')
    case 'table': {
      const numeric = answer.columns.map((_, c) => answer.rows.some((row) => typeof row[c] === 'number'))
      const columns = names.map((title, c) => (numeric[c] === true ? { title, align: 'right' as const } : { title }))
      const cells = answer.rows.map((row) => row.map((cell) => (typeof cell === 'object' && cell !== null ? plain(cell) : value(cell))))
      return `${table(columns, cells, terminal.colors.dim).join('\n')}\n`
    }
  }
}
